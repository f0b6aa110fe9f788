"""ViT-CX: its masks, its formula written out, and the published maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import BY_NAME, images, shared_model

from captum_mda import VitCx
from captum_mda.attr.vit_cx import feature_masks
from captum_mda.vit import resolve

VIT = BY_NAME["timm ViT not square"]


def literal_masks(
    features: Tensor, size: tuple[int, int], limit: float
) -> list[Tensor]:
    """Steps 1 to 3 of the spec, all maps resized and compared in pixels."""
    maps = F.interpolate(features[None], size, mode="bilinear", align_corners=False)[0]
    maps = torch.stack([(m - m.min()) / (m.max() - m.min()) for m in maps]).double()
    flat = maps.flatten(1)
    cosines = F.cosine_similarity(flat[:, None], flat[None], dim=-1)
    upper = torch.triu_indices(len(maps), len(maps), 1)
    distances = (1 - cosines)[upper[0], upper[1]].clamp(min=0).numpy()
    labels = fcluster(linkage(distances, "complete"), limit, "distance")
    sums = [maps[torch.from_numpy(labels == label)].sum(0) for label in set(labels)]
    return [(m - m.min()) / (m.max() - m.min()) for m in sums]


def literal_map(
    model: nn.Module, x: Tensor, target: int, masks: Tensor, noise: Tensor
) -> Tensor:
    """Steps 4 to 6: one mask after the other."""

    def p(image: Tensor) -> Tensor:
        return model(image[None]).softmax(1)[0, target]

    total = torch.zeros_like(masks[0])
    for mask, epsilon in zip(masks, noise, strict=True):
        added = 0.1 * epsilon * (1 - mask)
        score = p(x * mask + added) - p(x + added) + p(x)
        total += score * mask / masks.sum(0)
    return total / len(masks)


@pytest.mark.parametrize("limit", [0.02, 0.1, 0.3])
def test_masks_are_those_compared_in_pixels(limit: float) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    features[6:] = features[:6] * 2 + 0.3 * torch.randn(6, 3, 4, generator=generator)
    ours = feature_masks(features, (24, 32), limit)
    wanted = torch.stack(literal_masks(features, (24, 32), limit)).float()
    assert ours.shape == wanted.shape
    # The order of clusters is the library's.
    order = [int((wanted - mask).flatten(1).abs().amax(1).argmin()) for mask in ours]
    assert sorted(order) == list(range(len(wanted)))
    torch.testing.assert_close(ours, wanted[order], rtol=0, atol=1e-5)


def test_it_is_the_formula_written_out() -> None:
    model, x = shared_model(VIT.name), images(VIT, n=1)
    vit_cx = VitCx(model)
    grid = vit_cx.attribute(x, target=1, generator=torch.Generator().manual_seed(3))
    seen: list[Tensor] = []
    handle = model.blocks[-1].norm1.register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    with torch.no_grad():
        model(x)
        handle.remove()
        features = seen[0][0, 1:].T.unflatten(1, VIT.grid)
        masks = feature_masks(features, VIT.size, 0.1)
        noise = torch.randn(
            len(masks), 3, *VIT.size, generator=torch.Generator().manual_seed(3)
        )
        wanted = literal_map(model, x[0], 1, masks, noise)
    torch.testing.assert_close(grid[0, 0], wanted, rtol=0, atol=1e-6)
    patches = vit_cx.attribute(
        x, target=1, generator=torch.Generator().manual_seed(3), interpolate_mode=None
    )
    torch.testing.assert_close(patches, F.avg_pool2d(grid, 8), rtol=0, atol=1e-6)


def test_features_that_are_the_same_everywhere_make_no_mask() -> None:
    features = torch.zeros(3, 2, 2)
    assert feature_masks(features, (4, 4), 0.1).shape == (0, 4, 4)
    features[1, 0, 0] = 1.0
    masks = feature_masks(features, (4, 4), 0.1)
    assert masks.shape == (1, 4, 4)
    assert torch.isfinite(masks).all()


def test_a_constant_model_gives_the_share_of_its_score() -> None:
    """s_i = p for every mask, so the map is p / N wherever a mask is."""
    model = shared_model(VIT.name)
    x = images(VIT, n=2)
    vit_cx = VitCx(model, score=lambda outputs: torch.full_like(outputs, 0.25))
    maps = vit_cx.attribute(x, target=1)
    for image in maps:
        values = image[image > 0].unique()
        assert float(values.max() - values.min()) < 1e-6
        assert float(0.25 / values.mean()) == pytest.approx(
            round(float(0.25 / values.mean())), abs=1e-3
        )


def test_a_generator_decides_the_noise() -> None:
    vit_cx, x = VitCx(shared_model(VIT.name)), images(VIT)
    first, again = vit_cx.attribute(x, 1), vit_cx.attribute(x, 1)
    assert torch.equal(first, again)
    other = vit_cx.attribute(x, 1, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(first, other)
    split = vit_cx.attribute(x, 1, internal_batch_size=1)
    torch.testing.assert_close(split, first, rtol=0, atol=1e-5)
    with pytest.raises(TypeError, match="generator"):
        vit_cx.attribute(x, 1, generator=3)  # type: ignore[arg-type]


class ShortOfMemory(nn.Module):
    """Runs out of memory once, on the forward with that number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.model, self.at, self.calls = shared_model(VIT.name), at, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("CUDA out of memory: not really")
        outputs: Tensor = self.model(inputs)
        return outputs


@pytest.mark.parametrize("at", [2, 3, 4])
def test_noise_is_the_same_after_running_out_of_memory(at: int) -> None:
    x, generators = images(VIT, n=3), [torch.Generator() for _ in range(2)]
    adapter = resolve(shared_model(VIT.name))
    wanted = VitCx(adapter).attribute(x, 1, generator=generators[0].manual_seed(5))
    model = ShortOfMemory(at + 2)  # the check of the adapter takes two forwards
    found = VitCx(replace(adapter, model=model)).attribute(
        x, 1, generator=generators[1].manual_seed(5)
    )
    assert model.calls > at + 2
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    states = [generator.get_state() for generator in generators]
    assert torch.equal(*states)


@pytest.mark.real_model
@pytest.mark.parametrize(
    "photo",
    [
        "1",
        *(pytest.param(p, marks=pytest.mark.extended) for p in ("207", "291", "812")),
    ],
)
def test_the_published_map(
    photo: str, deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    """With the reference's seed the noise is the reference's, and so is the map."""
    x = torch.from_numpy(oracle_maps[f"{photo}/x"])[None]
    target = int(oracle_maps[f"{photo}/target"])
    pixels = VitCx(deit_tiny).attribute(
        x, target, generator=torch.Generator().manual_seed(0)
    )
    wanted = oracle_maps[f"{photo}/vit_cx_s0_px"]
    assert np.abs(pixels[0, 0].numpy() - wanted).max() <= 1e-4 * wanted.max()
