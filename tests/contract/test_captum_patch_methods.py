"""Captum's own perturbation methods on patches line up with ours: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import captum.attr
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from vit_models import BY_NAME, images, shared_model

from captum_mda import CausalActivationPatching, metrics, patch_feature_mask

CASE = BY_NAME["timm ViT not square"]
PATCH = 8
IMAGES = images(CASE, 3)
TARGETS = torch.tensor([1, 2, 0])
MASK = patch_feature_mask(IMAGES, PATCH)
N_PATCHES = CASE.grid[0] * CASE.grid[1]


@dataclass(frozen=True)
class CaptumMethod:
    """One of Captum's methods.

    Args:
        kind (type): Its class.
        options (dict): What `attribute` gets besides the question.
        tolerance (float): How far an additive model's effects may be missed, of the
            largest: sampled ones are.
    """

    kind: type[Any]
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5

    def __call__(
        self, forward: Callable[..., Tensor], inputs: Tensor = IMAGES, **options: Any
    ) -> Tensor:
        torch.manual_seed(0)
        attributions: Tensor = self.kind(forward).attribute(
            inputs, **(self.options | options)
        )
        return attributions


WINDOW = {"sliding_window_shapes": (3, PATCH, PATCH), "strides": (3, PATCH, PATCH)}
METHODS = [
    CaptumMethod(captum.attr.Occlusion, WINDOW),
    CaptumMethod(captum.attr.FeatureAblation, {"feature_mask": MASK}),
    CaptumMethod(
        captum.attr.ShapleyValueSampling, {"feature_mask": MASK, "n_samples": 2}
    ),
    CaptumMethod(
        captum.attr.KernelShap, {"feature_mask": MASK, "n_samples": 200}, 0.02
    ),
    # Its proximity decides how much each sample counts, and L1 shrinks what it finds.
    CaptumMethod(captum.attr.Lime, {"feature_mask": MASK, "n_samples": 200}, 0.1),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind.__name__)


def as_grid(attributions: Tensor) -> Tensor:
    """One value for each patch: (B, 1, h, w)."""
    return F.avg_pool2d(attributions[:, :1], PATCH)


@every_method
def test_maps_have_one_value_for_each_patch(method: CaptumMethod) -> None:
    attributions = method(shared_model(CASE.name), target=TARGETS)
    assert attributions.shape == IMAGES.shape
    one_map = attributions[:, :1]
    ours = CausalActivationPatching(shared_model(CASE.name)).attribute(IMAGES, TARGETS)
    assert one_map.shape == ours.shape
    grid = as_grid(attributions)
    assert grid.shape == (3, 1, *CASE.grid)
    painted = grid.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    torch.testing.assert_close(attributions, painted.expand_as(attributions))
    assert float(grid.std(dim=(2, 3)).min()) > 0


@every_method
def test_an_additive_model_is_explained_exactly(method: CaptumMethod) -> None:
    """Each patch's effect is its own share of the score, in raster order."""
    # Large, as LIME's lasso takes 0.01 off every effect.
    weights = torch.linspace(-100, 100, N_PATCHES).reshape(1, 1, *CASE.grid)

    def forward(inputs: Tensor) -> Tensor:
        effects = F.avg_pool2d(inputs.mean(1, keepdim=True), PATCH) * weights
        total = effects.sum(dim=(1, 2, 3))
        return torch.stack([total, -total], dim=1)

    expected = F.avg_pool2d(IMAGES.mean(1, keepdim=True), PATCH) * weights
    grid = as_grid(method(forward, target=0))
    worst = float((grid - expected).abs().max() / expected.abs().max())
    assert worst <= method.tolerance


@every_method
def test_each_example_has_its_own_target(method: CaptumMethod) -> None:
    if method.kind in (captum.attr.KernelShap, captum.attr.Lime):
        pytest.skip("what it draws depends on the batch")
    model = shared_model(CASE.name)
    together = method(model, target=TARGETS, perturbations_per_eval=4)
    for row in range(3):
        alone = method(model, IMAGES[row : row + 1], target=int(TARGETS[row]))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@every_method
def test_the_metrics_take_them_as_they_are(method: CaptumMethod) -> None:
    model = shared_model(CASE.name)
    attributions = method(model, target=TARGETS)
    scores = metrics.perturbation_scores(
        model,
        IMAGES,
        attributions,
        insertion_baselines=torch.zeros_like(IMAGES),
        target=TARGETS,
        feature_mask=MASK,
        n_steps=N_PATCHES,
        convention="rise",  # random outputs: some blank scores above its image
    )
    assert scores.insertion.shape == (3,)
    assert bool(scores.insertion_deletion.isfinite().all())
