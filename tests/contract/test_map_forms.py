"""Maps in every form that methods return, in every metric and as priors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from vit_methods import (
    CASE,
    every_method,
    explain,
    IMAGES,
    Method,
    small_model,
    TARGETS,
)

from captum_mda import MetricDrivenAttribution, metrics, patch_feature_mask

H, W = IMAGES.shape[-2:]
Metric = Callable[[Any, Tensor | None], Any]


def _of_model(name: str, field: str = "", **options: Any) -> Metric:
    def call(maps: Any, mask: Tensor | None) -> Any:
        found = getattr(metrics, name)(
            small_model(),
            IMAGES,
            maps,
            feature_mask=mask,
            target=TARGETS,
            on_degenerate="nan",
            **options,
        )
        return getattr(found, field) if field else found

    return call


def _of_tokens(name: str) -> Metric:
    def call(maps: Any, mask: Tensor | None) -> Any:
        return getattr(metrics, name)(
            small_model(), IMAGES, maps, target=TARGETS, on_degenerate="nan"
        )

    return call


def _of_masks(name: str) -> Metric:
    def call(maps: Any, mask: Tensor | None) -> Any:
        found = getattr(metrics, name)(maps, object_masks(), on_degenerate="nan")
        return found if isinstance(found, Tensor) else found.average_precision

    return call


def _sparseness(maps: Any, mask: Tensor | None) -> Any:
    return metrics.sparseness(maps, mask, on_degenerate="nan")


def _several(maps: Any, mask: Tensor | None) -> Any:
    found = metrics.perturbation_scores_of_maps(
        small_model(),
        IMAGES,
        {"one": maps},
        feature_mask=mask,
        target=TARGETS,
        n_steps=3,
        on_degenerate="nan",
    )
    return found["one"].mas_deletion


OF_MODEL: dict[str, Metric] = {
    "insertion": _of_model("insertion", n_steps=3),
    "deletion": _of_model("deletion", n_steps=3),
    "mas_insertion": _of_model("mas_insertion", n_steps=3),
    "mas_deletion": _of_model("mas_deletion", n_steps=3),
    "response_curve": _of_model("response_curve", "density", n_steps=3),
    "perturbation_scores": _of_model("perturbation_scores", "insertion", n_steps=3),
    "perturbation_scores_of_maps": _several,
    "aopc": _of_model("aopc", n_steps=3),
    "monotonicity": _of_model("monotonicity", n_steps=3),
    "symmetric_relevance_gain": _of_model("symmetric_relevance_gain", n_steps=3),
    "masked_hits": _of_model("masked_hits", "hits", fractions=(0.25, 0.75)),
    "positive_perturbation": _of_model("positive_perturbation"),
    "negative_perturbation": _of_model("negative_perturbation"),
}
OF_TOKENS = {
    "token_deletion": lambda maps, mask: (
        _of_tokens("token_deletion")(maps, mask).probabilities
    ),
    "mif_deletion": _of_tokens("mif_deletion"),
    "lif_deletion": _of_tokens("lif_deletion"),
}
WITHOUT_MODEL = {
    "segmentation_scores": _of_masks("segmentation_scores"),
    "pointing_game": _of_masks("pointing_game"),
}
ALL = {**OF_MODEL, **OF_TOKENS, **WITHOUT_MODEL, "sparseness": _sparseness}
"""Every metric of attributions but completeness, which sums whatever it is given."""


@cache
def object_masks() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(len(IMAGES), H, W, generator=draw) > 0.7


def patches_of(grid: Tensor) -> Tensor:
    return patch_feature_mask(IMAGES, (H // grid.shape[2], W // grid.shape[3]))


def by_hand(grid: Tensor) -> Tensor:
    """Paint patches one by one."""
    rows, columns = H // grid.shape[2], W // grid.shape[3]
    painted = torch.zeros(len(grid), 1, H, W, dtype=grid.dtype)
    for i in range(grid.shape[2]):
        for j in range(grid.shape[3]):
            box = painted[
                ..., i * rows : (i + 1) * rows, j * columns : (j + 1) * columns
            ]
            box[:] = grid[:, :, i : i + 1, j : j + 1]
    return painted


def same(one: Any, other: Any) -> bool:
    return torch.equal(one.nan_to_num(-9.0), other.nan_to_num(-9.0))


def test_every_metric_is_here() -> None:
    functions = {
        name
        for name in metrics.__all__
        if name[0].islower() and callable(getattr(metrics, name))
    }
    assert functions <= {*ALL, "completeness_error", "evaluate", "metric_names"}


@pytest.mark.filterwarnings("ignore")
@every_method
def test_a_grid_is_scored_like_its_painted_map(method: Method) -> None:
    grid = explain(method.shared())
    painted = by_hand(grid)
    masks = {"patches": patches_of(grid), "pixels": None}
    for name, metric in ALL.items():
        for of, mask in masks.items():
            if name == "sparseness" and mask is None:
                continue  # a map as it is has no other size
            assert same(metric(grid, mask), metric(painted, mask)), (name, of)


class Held:
    """As `MDAExplanation` holds attributions."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps

    def attributions(self) -> Tensor:
        return self.maps


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda grid: (grid,),
    "without channel": lambda grid: grid[:, 0],
    "painted": by_hand,
    "painted, in colours": lambda grid: by_hand(grid).expand(-1, 3, -1, -1) / 3,
    "painted, without channel": lambda grid: by_hand(grid)[:, 0],
    "explanation": lambda grid: Held(by_hand(grid)),
    "features": lambda grid: grid.flatten(1),
}


def a_grid() -> Tensor:
    """Distinct numbers, thirds of which are exact."""
    h, w = explain_shape()
    draw = torch.Generator().manual_seed(2)
    order = torch.stack([torch.randperm(h * w, generator=draw) for _ in IMAGES])
    return 3.0 * (order.view(-1, 1, h, w).float() - 4.0)


@cache
def explain_shape() -> tuple[int, int]:
    from captum_mda.vit import find_adapter

    return find_adapter(small_model()).patch_grid(IMAGES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALL)
def test_every_form_is_taken(name: str, form: str) -> None:
    grid = a_grid()
    maps, mask = FORMS[form](grid), patches_of(grid)
    if name in WITHOUT_MODEL and form == "features":
        with pytest.raises(ValueError, match=r"^attributions: got shape"):
            ALL[name](maps, mask)
        return
    assert same(ALL[name](maps, mask), ALL[name](by_hand(grid), mask))


# --- priors ---------------------------------------------------------------------------


def order_by(prior: Any, mask: Tensor, **options: Any) -> Tensor:
    mda = MetricDrivenAttribution(small_model(), on_degenerate="zero", **options)
    return mda.explain(
        IMAGES, target=TARGETS, feature_mask=mask, seed_attributions=prior
    ).order


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["grid", *FORMS])
def test_every_form_is_a_prior(form: str) -> None:
    grid = a_grid()
    mask = patches_of(grid)
    expected = order_by(by_hand(grid), mask)
    prior = grid if form == "grid" else FORMS[form](grid)
    assert torch.equal(order_by(prior, mask), expected)


@pytest.mark.filterwarnings("ignore")
@every_method
def test_every_method_makes_a_prior(method: Method) -> None:
    from captum_mda.ordering import seed_scores
    from captum_mda.perturbation import Features

    grid = explain(method.shared())
    features = Features.from_mask((IMAGES,), patches_of(grid))
    expected = seed_scores(by_hand(grid), features)
    for prior in (grid, grid[:, 0], grid.flatten(1), (grid,)):
        found = seed_scores(prior, features)
        assert found is not None and expected is not None
        assert torch.equal(found, expected)


def test_the_case_has_patches_of_a_grid_that_is_not_square() -> None:
    assert CASE.name.endswith("not square")
    assert explain_shape()[0] != explain_shape()[1]
