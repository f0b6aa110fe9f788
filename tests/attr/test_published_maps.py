"""Maps of published code on a real model: all methods, four photos.

Another four under `-m extended`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient
from torch import nn, Tensor

from captum_mda import (
    AttentionGradCam,
    AttentionIntegratedGradients,
    AttentionRollout,
    BidirectionalAttention,
    FullGradPlus,
    LeGrad,
    LibraGrad,
    RawAttention,
    TokenInputXGradient,
    TransformerAttribution,
    TransitionAttention,
)
from captum_mda.attr import (
    attention_integrated_gradients,
    bidirectional_attention,
    transition_attention,
    ViTAttribution,
)
from captum_mda.attr.vit_batch import ModelBatch

pytestmark = pytest.mark.real_model

PHOTOS = (1, 207, 281, 291, 340, 386, 812, 937)
FIRST, OTHERS = PHOTOS[:4], PHOTOS[4:]
Group = tuple[int, ...]
DEPTH, SIDE, PATCH = 12, 14, 16
EVERY_PHOTO = pytest.mark.parametrize(
    "photo",
    [*FIRST, *(pytest.param(each, marks=pytest.mark.extended) for each in OTHERS)],
)
EVERY_BATCH = pytest.mark.parametrize(
    "batch", [FIRST, pytest.param(OTHERS, marks=pytest.mark.extended)], ids=str
)

PLAIN: dict[str, Callable[[nn.Module], ViTAttribution]] = {
    "raw_attention": RawAttention,
    "rollout_s0": AttentionRollout,
    "rollout_s1": lambda model: AttentionRollout(model, start_layer=1),
    "gc_mda": AttentionGradCam,
    "gc_chefer": lambda model: AttentionGradCam(model, variant="chefer"),
    "ig_mda": AttentionIntegratedGradients,
    "tattn_mda": TransitionAttention,
    "tattn_original": lambda model: TransitionAttention(model, variant="original"),
    "biattn_h": BidirectionalAttention,
    "biattn_t": lambda model: BidirectionalAttention(model, mode="token"),
    "legrad_last2": LeGrad,
    "legrad_all": lambda model: LeGrad(model, layers=0),
}
UNDER_LIBRA: dict[str, Callable[[nn.Module], ViTAttribution]] = {
    "libra_ixg": TokenInputXGradient,
    "libra_ixg_prob": lambda model: TokenInputXGradient(model, score="softmax"),
    "libra_fullgrad": lambda model: TokenInputXGradient(model, biases=True),
    "libra_fullgrad_plus": FullGradPlus,
    "libra_fullgrad_plus_nobias": lambda model: FullGradPlus(model, biases=False),
    "libra_fullgrad_plus_prob": lambda model: FullGradPlus(model, score="softmax"),
}
TRANSFORMER_ATTRIBUTION: dict[str, Callable[[nn.Module], ViTAttribution]] = {
    "tattr_mda_f64": TransformerAttribution,
    "tattr_original_f64": lambda model: TransformerAttribution(
        model, variant="original"
    ),
}
WITH_ZEROS = ("ig_mda", "tattn_mda", "tattn_original", "biattn_h", "biattn_t")


@dataclass
class Photos:
    """The photos in two batches, the stored maps, and ours, each computed once."""

    model: nn.Module
    oracles: Mapping[str, np.ndarray]
    done: dict[tuple[str, Group], Tensor] = field(default_factory=dict)

    def stored(self, photo: int, name: str) -> np.ndarray:
        return self.oracles[f"{photo}/{name}"].astype(np.float64)

    def images(self, batch: Group) -> Tensor:
        return torch.stack([torch.from_numpy(self.oracles[f"{i}/x"]) for i in batch])

    def targets(self, batch: Group) -> list[int]:
        return [int(self.oracles[f"{photo}/target"]) for photo in batch]

    def grids(
        self,
        name: str,
        build: Callable[[nn.Module], ViTAttribution],
        libra: bool,
        batch: Group = FIRST,
    ) -> Tensor:
        """Of the photos of a batch, (4, 14, 14), without resizing."""
        if (name, batch) not in self.done:
            method = build(self.model)
            with (
                LibraGrad(self.model) if libra else nullcontext(),
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", "inputs: examples", UserWarning)
                self.done[name, batch] = method.attribute(
                    self.images(batch),
                    target=self.targets(batch),
                    interpolate_mode=None,
                )[:, 0]
        return self.done[name, batch]

    def named(self, name: str, batch: Group = FIRST) -> Tensor:
        libra = name in UNDER_LIBRA
        build = (PLAIN | UNDER_LIBRA | TRANSFORMER_ATTRIBUTION)[name]
        return self.grids(name, build, libra, batch)

    def of_photo(self, name: str, photo: int) -> Tensor:
        batch = FIRST if photo in FIRST else OTHERS
        return self.named(name, batch)[batch.index(photo)]

    def libra_blocks(self, first: int) -> Tensor:
        """The sum over blocks from one on, without biases; zero behind the last."""
        if first == DEPTH:
            return torch.zeros(len(FIRST), SIDE, SIDE)
        return self.grids(
            f"blocks from {first}",
            lambda model: FullGradPlus(model, biases=False, start_layer=first),
            libra=True,
        )


@pytest.fixture(scope="module")
def photos(
    deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> Iterator[Photos]:
    """The five methods that average the same gradients on a path share the result."""
    whole = attention_integrated_gradients.mean_path_gradient
    results: dict[tuple[float, ...], Tensor] = {}

    def once(batch: ModelBatch, n_steps: int) -> Tensor:
        key = (n_steps, *batch.inputs.double().sum(dim=(1, 2, 3)).tolist())
        if key not in results:
            results[key] = whole(batch, n_steps)
        return results[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (
            attention_integrated_gradients,
            bidirectional_attention,
            transition_attention,
        ):
            patch.setattr(module, "mean_path_gradient", once)
        yield Photos(deit_tiny, oracle_maps)


def assert_close(ours: Tensor, stored: np.ndarray, tolerance: float = 1e-4) -> None:
    """Within a share of the largest stored value."""
    assert ours.shape == stored.shape
    error = np.abs(ours.double().numpy() - stored).max()
    assert error <= tolerance * np.abs(stored).max()


@EVERY_PHOTO
@pytest.mark.parametrize("name", [*PLAIN, *UNDER_LIBRA])
def test_a_map_is_the_published_codes(name: str, photo: int, photos: Photos) -> None:
    ours, stored = photos.of_photo(name, photo), photos.stored(photo, name)
    if name == "gc_chefer" and np.isnan(stored).all():  # it divided 0 by 0
        assert not ours.any()
        return
    assert_close(ours, stored)


def test_the_chefer_variant_warns_where_published_code_gave_nan(
    photos: Photos,
) -> None:
    method = AttentionGradCam(photos.model, variant="chefer")
    stored = [photos.stored(photo, "gc_chefer") for photo in PHOTOS]
    without = [index for index, grid in enumerate(stored) if np.isnan(grid).any()]
    assert without == [FIRST.index(291)]
    with pytest.warns(UserWarning, match=rf"examples \[{without[0]}\] have no pos"):
        method.attribute(photos.images(FIRST), target=photos.targets(FIRST))


@EVERY_PHOTO
@pytest.mark.parametrize("name", TRANSFORMER_ATTRIBUTION)
def test_transformer_attribution_is_the_published_codes_in_float64(
    name: str, photo: int, photos: Photos
) -> None:
    # What a relative change of the input by 1e-7 did to the published code's map.
    effect_of_noise = photos.stored(photo, name.replace("_f64", "_tol"))[4]
    tolerance = 1e-3 if effect_of_noise < 0.01 else 1e-2
    ours = photos.of_photo(name, photo)
    assert_close(ours, photos.stored(photo, name), tolerance)


def test_transformer_attribution_is_stable_on_most_photos(photos: Photos) -> None:
    """Else the tolerances above would all be the wide one."""
    for variant in ("mda", "original"):
        effects = [photos.stored(i, f"tattr_{variant}_tol")[4] for i in PHOTOS]
        assert sum(effect < 0.01 for effect in effects) == 6


@EVERY_PHOTO
@pytest.mark.parametrize("name", WITH_ZEROS)
def test_the_same_patches_are_exactly_zero(
    name: str, photo: int, photos: Photos
) -> None:
    ours, stored = photos.of_photo(name, photo), photos.stored(photo, name)
    assert (stored == 0).any()
    assert ((ours.numpy() == 0) == (stored == 0)).all()


@pytest.mark.parametrize("layer", range(DEPTH))
def test_a_single_layer_of_legrad_is_the_stored_one(layer: int, photos: Photos) -> None:
    ours = photos.grids(
        f"legrad {layer}",
        lambda model: LeGrad(model, layers=[layer]),
        libra=False,
    )
    for row, photo in zip(ours, FIRST, strict=True):
        assert_close(row, photos.stored(photo, "legrad_layers")[layer])


@pytest.mark.parametrize("layer", range(DEPTH))
def test_a_blocks_share_of_full_grad_plus_is_the_stored_one(
    layer: int, photos: Photos
) -> None:
    """Input times gradient at a block: what the sum loses by starting behind it."""
    ours = photos.libra_blocks(layer) - photos.libra_blocks(layer + 1)
    for row, photo in zip(ours, FIRST, strict=True):
        stored = photos.stored(photo, "libra_cat_blocks")[layer, 1:]
        assert_close(row.flatten(), stored)


@EVERY_BATCH
def test_the_biases_share_is_the_stored_one(batch: Group, photos: Photos) -> None:
    without = photos.named("libra_fullgrad_plus_nobias", batch)
    ours = photos.named("libra_fullgrad_plus", batch) - without
    for row, photo in zip(ours, batch, strict=True):
        assert_close(row.flatten(), photos.stored(photo, "libra_bias_tokens")[1:])


@EVERY_BATCH
def test_completeness_is_the_published_codes(batch: Group, photos: Photos) -> None:
    method = TokenInputXGradient(photos.model)
    images, targets = photos.images(batch), photos.targets(batch)
    with LibraGrad(photos.model):
        balanced = method.completeness(images, targets)
    plain = method.completeness(images, targets)
    for index, photo in enumerate(batch):
        stored = photos.stored(photo, "libra_completeness")
        logit, total, plain_total = stored[0], stored[1], stored[6]
        assert float(balanced.score[index]) == pytest.approx(logit, rel=1e-5)
        assert float(balanced.total[index]) == pytest.approx(total, rel=1e-5)
        assert float(balanced.error[index]) < 1e-4
        assert float(plain.total[index]) == pytest.approx(plain_total, abs=2e-3)
        assert float(plain.error[index]) > 1.0


@EVERY_BATCH
def test_captums_input_x_gradient_is_balanced_too(batch: Group, photos: Photos) -> None:
    with LibraGrad(photos.model):
        pixels = InputXGradient(photos.model).attribute(
            photos.images(batch).requires_grad_(), target=photos.targets(batch)
        )
    ours = pixels.detach().sum(dim=1).unflatten(2, (SIDE, PATCH))
    ours = ours.unflatten(1, (SIDE, PATCH)).sum(dim=(2, 4))
    for row, photo in zip(ours, batch, strict=True):
        assert_close(row, photos.stored(photo, "libra_ixg_pixel"))
