"""CAAP: identities, a literal loop, the cost, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda import CausalActivationPatching, demo, metrics
from captum_mda.attr.activation_patching import patch_windows
from captum_mda.vit import resolve

VIT = BY_NAME["timm ViT"]


def n_tokens(case: Case) -> int:
    return case.n_prefix_tokens + case.grid[0] * case.grid[1]


@pytest.mark.parametrize("case", PARAMETERS)
def test_no_token_gives_the_blank_and_all_tokens_the_image(case: Case) -> None:
    model = shared_model(case.name)
    adapter, x = resolve(model), images(case)
    selections = torch.zeros(2, n_tokens(case), dtype=torch.bool)
    selections[1] = True
    with torch.no_grad():
        wanted = [adapter(torch.zeros_like(x))[:, 1], adapter(x)[:, 1]]
    for layers in [(0, 1), (1, 3), (2, 3)]:
        caap = CausalActivationPatching(model, layers=layers)
        scores = caap.patched_scores(x, selections, target=1)
        torch.testing.assert_close(scores, torch.stack(wanted, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", PARAMETERS[::5])
def test_an_image_as_its_own_blank_gives_a_constant_map(case: Case) -> None:
    x = images(case)
    caap = CausalActivationPatching(
        shared_model(case.name), blank=x, subtract_blank=False
    )
    grid = caap.attribute(x, target=1, interpolate_mode=None)
    torch.testing.assert_close(grid, grid[:, :, :1, :1].expand_as(grid))
    assert not torch.equal(grid[0], grid[1])


def literal_caap(model: nn.Module, x: Tensor, layers: tuple[int, int]) -> Tensor:
    """One patch after the other, with hooks that overwrite: the scores of class 1."""
    source: dict[int, Tensor] = {}
    handles = [
        block.register_forward_hook(
            lambda m, a, out, index=index: source.__setitem__(index, out)
        )
        for index, block in enumerate(model.blocks)
    ]
    model(x)
    for handle in handles:
        handle.remove()
    scores = []
    for patch in range(16):

        def overwrite(index: int, output: Tensor, patch: int = patch) -> Tensor:
            output = output.clone()
            output[:, 1 + patch] = source[index][:, 1 + patch]
            return output

        handles = [
            model.blocks[index].register_forward_hook(
                lambda m, a, out, index=index: overwrite(index, out)
            )
            for index in range(*layers)
        ]
        scores.append(model(torch.zeros_like(x))[:, 1])
        for handle in handles:
            handle.remove()
    return torch.stack(scores, dim=1).detach()


@pytest.mark.parametrize("layers", [(0, 3), (1, 2), (2, 3)])
def test_it_is_the_literal_loop(layers: tuple[int, int]) -> None:
    model, x = build_model(VIT, torch.float64), images(VIT).double()
    caap = CausalActivationPatching(model, layers=layers, support=0)
    grid = caap.attribute(x, target=1, interpolate_mode=None)
    with torch.no_grad():
        blank = model(torch.zeros_like(x))[:, 1:2]
    wanted = (literal_caap(model, x, layers) - blank).reshape(2, 1, 4, 4)
    torch.testing.assert_close(grid, wanted, rtol=0, atol=1e-12)


def test_chunks_do_not_matter() -> None:
    caap = CausalActivationPatching(shared_model(VIT.name))
    x = images(VIT, n=3)
    whole = caap.attribute(x, target=[0, 1, 2])
    for size in (1, 2, 7):
        part = caap.attribute(x, target=[0, 1, 2], internal_batch_size=size)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_a_callable_target_gets_all_examples_in_order() -> None:
    caap = CausalActivationPatching(shared_model(VIT.name))
    x, classes = images(VIT, n=3), torch.tensor([4, 0, 2])
    called = caap.attribute(x, target=lambda out: out[torch.arange(3), classes])
    torch.testing.assert_close(called, caap.attribute(x, target=classes))


@pytest.mark.parametrize("case", PARAMETERS)
def test_blocks_below_the_range_run_once(case: Case) -> None:
    """Counted in rows of block executions: at most (L - lo) / L * P + 3 forwards."""
    model, x = build_model(case), images(case, n=1)
    rows = 0

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal rows
        rows += len(args[0])

    caap = CausalActivationPatching(model, layers=(1, 2))
    for block in caap.adapter.blocks:
        block.register_forward_pre_hook(count)
    caap.attribute(x, target=1)
    n_patches = case.grid[0] * case.grid[1]
    assert 2 / 3 * n_patches < rows / 3 <= 2 / 3 * n_patches + 3


def test_the_blank_subtracted_moves_all_patches_alike() -> None:
    model, x = shared_model(VIT.name), images(VIT)
    plain = CausalActivationPatching(model, subtract_blank=False).attribute(x, 1)
    moved = CausalActivationPatching(model).attribute(x, 1)
    with torch.no_grad():
        blank = model(torch.zeros_like(x))[:, 1]
    torch.testing.assert_close(plain - moved, blank.view(-1, 1, 1, 1).expand_as(plain))


def test_a_constant_added_to_the_logits_changes_no_map() -> None:
    """Nor any score of a metric that ranks by absolute value."""
    model = build_model(VIT, torch.float64)
    lower = copy.deepcopy(model)
    lower.head.bias.data -= 20
    x = images(VIT).double()
    maps = [CausalActivationPatching(each).attribute(x, 1) for each in (model, lower)]
    torch.testing.assert_close(*maps, rtol=0, atol=1e-10)


def test_a_constant_added_to_the_logits_changes_no_score() -> None:
    """Though the default metrics rank by absolute value, and logits are below 0."""
    model, low = demo.load_model(), demo.load_model()
    low.head.bias.data -= 20
    x, labels, _ = demo.make_samples(n=2, seed=3)

    def score(explained: nn.Module, **options: bool) -> Tensor:
        caap = CausalActivationPatching(explained, **options)
        grid = caap.attribute(x, target=labels)
        return metrics.insertion(model, x, grid, target=labels, n_steps=16)

    torch.testing.assert_close(score(low), score(model), rtol=0, atol=1e-3)
    assert (score(low, subtract_blank=False) < score(low) - 0.3).all()


def test_windows_are_cut_off_at_borders() -> None:
    windows = patch_windows(2, 3, torch.ones(3, 3, dtype=torch.bool))
    assert windows[0].tolist() == [True, True, False, True, True, False]
    assert windows[4].all()
    single = patch_windows(4, 5, torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(single, torch.eye(20, dtype=torch.bool))
    weights = torch.tensor([[0.1, 0.2, 0.3], [0.4, 1.0, 0.5], [0.6, 0.7, 0.8]])
    assert patch_windows(1, 3, weights).flatten().tolist() == pytest.approx(
        [1.0, 0.5, 0.0, 0.4, 1.0, 0.5, 0.0, 0.4, 1.0]
    )
    first = patch_windows(2, 2, weights)[0].tolist()
    assert first == pytest.approx([1.0, 0.5, 0.7, 0.8])


def test_a_support_of_weights() -> None:
    """The image's share of each neighbour; what is left stays the blank's."""
    model, x = build_model(VIT, torch.float64), images(VIT).double()
    maps = [
        CausalActivationPatching(model, (2, 3), support).attribute(
            x, target=1, interpolate_mode=None
        )
        for support in (1, torch.ones(3, 3))
    ]
    torch.testing.assert_close(*maps, rtol=0, atol=1e-12)
    # By hand: a quarter of the way from the blank's activations to the image's.
    caap = CausalActivationPatching(model, layers=(1, 2))
    shares = torch.zeros(1, n_tokens(VIT), dtype=torch.float64)
    shares[:, 5] = 0.25
    tokens: list[Tensor] = []
    keep = model.blocks[1].register_forward_hook(lambda m, a, out: tokens.append(out))
    model(x)
    keep.remove()

    def blend(module: nn.Module, args: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 5] = 0.25 * tokens[0][:, 5] + 0.75 * output[:, 5]
        return output

    handle = model.blocks[1].register_forward_hook(blend)
    wanted = model(torch.zeros_like(x))[:, 1:2].detach()
    handle.remove()
    scores = caap.patched_scores(x, shares, target=1)
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-12)


def test_blanks_by_name() -> None:
    model, x = demo.load_model(), demo.make_samples(2, 2).images
    maps = {
        blank: CausalActivationPatching(model, blank=blank).attribute(x, target=1)
        for blank in ("zeros", "mean", "blur")
    }
    torch.testing.assert_close(
        maps["mean"],
        CausalActivationPatching(model, blank=x.mean((2, 3), keepdim=True)).attribute(
            x, target=1
        ),
    )
    assert not torch.equal(maps["zeros"], maps["blur"])


def test_black_and_white_need_the_model_to_know_its_colours() -> None:
    model, x = build_model(VIT), images(VIT)
    with pytest.raises(ValueError, match="blank: the model does not say"):
        CausalActivationPatching(model, blank="black").attribute(x, target=1)
    model.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    white = torch.tensor([2.5, 3.0, 3.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        CausalActivationPatching(model, blank="white").attribute(x, target=1),
        CausalActivationPatching(model, blank=white).attribute(x, target=1),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (2, 2)}, "layers: got"),
        ({"layers": (0, 4)}, "layers: got"),
        ({"layers": (-1, 2)}, "layers: got"),
        ({"support": -1}, "support: got"),
        ({"support": torch.ones(2, 3)}, r"support: got shape \(2, 3\), takes .* odd"),
        ({"support": torch.tensor([[1.5]])}, "support: got values from 1.5 to 1.5"),
        ({"blank": "grey"}, "blank: got 'grey'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalActivationPatching(shared_model(VIT.name), **options)


def test_bad_blanks_and_selections() -> None:
    model, x = shared_model(VIT.name), images(VIT)
    with pytest.raises(ValueError, match=r"blank: got shape \(3, 9\)"):
        CausalActivationPatching(model, blank=torch.ones(3, 9)).attribute(x, 1)
    caap = CausalActivationPatching(model)
    with pytest.raises(TypeError, match="selections"):
        caap.patched_scores(x, torch.ones(1, 17, dtype=torch.int64), target=1)
    with pytest.raises(ValueError, match="selections"):
        caap.patched_scores(x, torch.ones(17, dtype=torch.bool), target=1)
    with pytest.raises(ValueError, match="selections"):
        caap.patched_scores(x, torch.ones(1, 16, dtype=torch.bool), target=1)
    with pytest.raises(TypeError, match="layers"):
        CausalActivationPatching(model, layers=3)  # type: ignore[arg-type]
