"""`NoiseTunnel(mda)` with what MDA is given for each input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from torch import Tensor

from captum_mda import MDAExplanation, MetricDrivenAttribution, patch_feature_mask

IMAGES = torch.linspace(0.5, 2.0, 2 * 3 * 4 * 6).view(2, 3, 4, 6)
MASK = patch_feature_mask(IMAGES, 2)  # 2 x 3 patches
PRIOR = torch.tensor([[3.0, 1, 2, 0, 5, 4], [0.0, 5, 1, 4, 2, 3]]).view(2, 1, 2, 3)
WEIGHTS = torch.tensor([5.0, 1, 3, 2, 4, 6])


def model(images: Tensor) -> Tensor:
    patches = images.unfold(2, 2, 2).unfold(3, 2, 2).mean((1, 4, 5)).flatten(1)
    both = patches[:, 0] * patches[:, 4] + (patches * WEIGHTS).sum(1)
    other = patches[:, 1] * patches[:, 5] + (patches * WEIGHTS.flip(0)).sum(1)
    return torch.stack([both, other], dim=1)


def narrow() -> MetricDrivenAttribution:
    """A search that depends on its prior: two candidates at each step."""
    from captum_mda.ordering import PaperOrdering

    return MetricDrivenAttribution(
        model, ordering=PaperOrdering(window=2), score="identity"
    )


def given(**options: Any) -> dict[str, Any]:
    return {
        "target": torch.tensor([0, 1]),
        "feature_mask": MASK,
        "baselines": -0.5 * IMAGES,
        "insertion_baselines": -2.0 * IMAGES,
        "seed_attributions": PRIOR,
    } | options


def copies(n: int, stdev: float) -> Tensor:
    """The noisy copies that NoiseTunnel makes next."""
    torch.manual_seed(0)
    spread = torch.tensor(stdev).repeat(len(IMAGES) * n, *IMAGES.shape[1:])
    return IMAGES.repeat_interleave(n, dim=0) + torch.normal(0, spread)


def one_by_one(n: int, stdev: float, arguments: dict[str, Any]) -> Tensor:
    """Explain each copy in a call of its own: (B, n, C, H, W)."""
    found = []
    for row, image in enumerate(copies(n, stdev)):
        example = row // n
        own = {
            name: value[example : example + 1]
            if isinstance(value, Tensor) and len(value) == 2
            else value
            for name, value in arguments.items()
        }
        found.append(narrow().attribute(image[None], **own))
    return torch.cat(found).unflatten(0, (len(IMAGES), n))


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_a_tunnel_is_the_loop_over_its_copies(nt_type: str) -> None:
    maps = one_by_one(5, 0.2, given())
    assert not torch.equal(maps[:, 0], maps[:, 1]), "the noise must matter"
    mean, square = maps.mean(1), maps.square().mean(1)
    expected = {
        "smoothgrad": mean,
        "smoothgrad_sq": square,
        "vargrad": square - mean.square(),
    }[nt_type]
    torch.manual_seed(0)
    ours = NoiseTunnel(narrow()).attribute(
        IMAGES, nt_type=nt_type, nt_samples=5, stdevs=0.2, **given()
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_of_the_copies_are_repeated_by_their_number(size: int) -> None:
    """Without noise all copies are the same: 5 in parts of 1, of 2 and 1, ..."""
    tunnel = NoiseTunnel(narrow())
    ours = tunnel.attribute(
        IMAGES, nt_samples=5, nt_samples_batch_size=size, stdevs=0.0, **given()
    )
    torch.testing.assert_close(ours, narrow().attribute(IMAGES, **given()))


def _explained() -> MDAExplanation:
    return MetricDrivenAttribution(model, score="identity").explain(
        IMAGES, target=0, feature_mask=MASK
    )


@pytest.mark.parametrize(
    "prior",
    [
        PRIOR.flatten(1),
        PRIOR[:, 0],
        PRIOR[:1],
        (PRIOR,),
        PRIOR.repeat_interleave(2, 2).repeat_interleave(2, 3),
        None,
        _explained(),
    ],
    ids=["features", "no channel", "one", "tuple", "painted", "none", "explanation"],
)
def test_every_form_of_prior_is_repeated(prior: Any) -> None:
    arguments = given(seed_attributions=prior)
    ours = NoiseTunnel(narrow()).attribute(
        IMAGES, nt_samples=3, stdevs=0.0, **arguments
    )
    torch.testing.assert_close(ours, narrow().attribute(IMAGES, **arguments))


def test_masks_and_baselines_of_each_example() -> None:
    by_columns = torch.tensor([0, 2, 4, 1, 3, 5])[MASK]
    arguments = given(
        feature_mask=torch.cat([MASK, by_columns]), insertion_baselines=(-2.0 * IMAGES,)
    )
    ours = NoiseTunnel(narrow()).attribute(
        IMAGES, nt_samples=3, stdevs=0.0, **arguments
    )
    torch.testing.assert_close(ours, narrow().attribute(IMAGES, **arguments))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    "name", ["seed_attributions", "insertion_baselines", "deletion_baselines"]
)
def test_another_number_of_rows_is_refused(name: str, n_rows: int) -> None:
    """Also 3 and 6 of them, which divide the 6 copies, and 2 outside of a tunnel."""
    values = PRIOR if name == "seed_attributions" else -2.0 * IMAGES
    rows = values[torch.arange(n_rows) % 2]
    arguments = given(**{name: rows})
    if name == "deletion_baselines":
        arguments["baselines"] = None
    if n_rows > 2:
        with pytest.raises(ValueError, match=f"^{name}: "):
            NoiseTunnel(narrow()).attribute(
                IMAGES, nt_samples=3, stdevs=0.1, **arguments
            )
        with pytest.raises(ValueError, match=f"^{name}: "):
            narrow().attribute(IMAGES, **arguments)
    four = torch.cat([IMAGES, IMAGES])
    arguments |= {"target": 0, "baselines": None}
    if name == "seed_attributions":
        arguments["insertion_baselines"] = None
    if n_rows not in (1, 4):
        with pytest.raises(ValueError, match=f"^{name}: "):
            narrow().attribute(four, **arguments)


def test_deletion_baselines_are_repeated_as_baselines_are() -> None:
    by_name = given(baselines=None, deletion_baselines=-0.5 * IMAGES)
    found = []
    for arguments in (given(), by_name):
        torch.manual_seed(0)
        found.append(
            NoiseTunnel(narrow()).attribute(
                IMAGES, nt_samples=3, stdevs=0.1, **arguments
            )
        )
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="got both deletion_baselines and baselines"):
        NoiseTunnel(narrow()).attribute(
            IMAGES, nt_samples=3, **{**by_name, "baselines": -0.5 * IMAGES}
        )


def test_rows_for_the_copies_of_one_input_are_refused() -> None:
    arguments = given(target=0, baselines=None, insertion_baselines=None)
    arguments["seed_attributions"] = PRIOR[[0, 1, 0]]
    with pytest.raises(ValueError, match="3 entries for 1 inputs and their noisy"):
        NoiseTunnel(narrow()).attribute(
            IMAGES[:1], nt_samples=3, stdevs=0.1, **arguments
        )


def test_one_number_for_each_feature_is_averaged_too() -> None:
    arguments = given(return_input_shape=False)
    ours = NoiseTunnel(narrow()).attribute(
        IMAGES, nt_samples=2, stdevs=0.0, **arguments
    )
    torch.testing.assert_close(ours, narrow().attribute(IMAGES, **arguments))


def test_sensitivity_repeats_them_like_a_loop() -> None:
    def shifted(inputs: Tensor, radius: float) -> Tensor:
        return inputs + radius * torch.arange(len(inputs)).view(-1, 1, 1, 1)

    found = sensitivity_max(
        narrow().attribute,
        IMAGES,
        perturb_func=shifted,
        perturb_radius=0.05,
        n_perturb_samples=3,
        **given(),
    )
    plain = narrow().attribute(IMAGES, **given())
    copies = shifted(IMAGES.repeat_interleave(3, dim=0), 0.05)
    repeated = {
        name: value.repeat_interleave(3, dim=0)
        if isinstance(value, Tensor) and len(value) == 2
        else value
        for name, value in given().items()
    }
    moved = narrow().attribute(copies, **repeated).unflatten(0, (2, 3))
    distance = (moved - plain[:, None]).flatten(2).norm(dim=2).amax(dim=1)
    expected = distance / plain.flatten(1).norm(dim=1)
    torch.testing.assert_close(found, expected)
    assert bool((found > 0).all())
