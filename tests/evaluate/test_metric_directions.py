"""METRICS: it holds every public metric, and its directions are true."""

from __future__ import annotations

import dataclasses
import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captum_mda import demo, metrics, patch_feature_mask
from captum_mda.evaluate._runners import Evaluation, Found, run_tokens, RUNNERS
from captum_mda.metrics import Metric, METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
FIELDS = {
    "perturbation_scores": metrics.PerturbationScores,
    "perturbation_scores_of_maps": metrics.PerturbationScores,
    "segmentation_scores": metrics.SegmentationScores,
}
"""Functions whose results hold several scores, which are in the table one by one."""
NO_METRICS = {
    *("response_curve", "masked_hits", "token_deletion"),  # what metrics are read off
    "evaluate",
}
NO_SCORES = {"intersection", "union", "pixels", "correct"}
"""Counts, of which data sets' scores are made."""


def functions() -> set[str]:
    return {
        name
        for name in metrics.__all__
        if inspect.isfunction(getattr(metrics, name)) and name not in NO_METRICS
    }


def scores_of(kind: type) -> set[str]:
    """Name the fields and properties of a result that are tensors."""
    held = {each.name: each.type for each in dataclasses.fields(kind)}
    for name, value in vars(kind).items():
        if isinstance(value, property) and value.fget is not None:
            held[name] = value.fget.__annotations__.get("return")
    return {name for name, of in held.items() if of in ("Tensor", Tensor)} - NO_SCORES


def test_every_public_metric_is_in_the_table() -> None:
    assert functions() - set(FIELDS) <= set(METRICS)
    for function, kind in FIELDS.items():
        assert function in functions()
        held = scores_of(kind)
        assert held >= {"insertion"} or held >= {"iou"}
        assert held == {each.name for each in METRICS.values() if each.result is kind}


def test_every_row_is_a_public_metric() -> None:
    held = {name for kind in FIELDS.values() for name in scores_of(kind)}
    # The difference of two functions' scores.
    assert set(METRICS) == functions() - set(FIELDS) | held | {"token_relevance_gain"}


def test_a_row_says_what_it_is() -> None:
    assert list(METRICS) == [each.name for each in METRICS.values()]
    heads = [each.head for each in METRICS.values()]
    assert len(set(heads)) == len(heads)
    for each in METRICS.values():
        assert each.head.endswith("\N{UPWARDS ARROW}" if each.higher_is_better else "↓")
        assert each.direction == ("higher" if each.higher_is_better else "lower")
        assert each.range[0] < each.range[1]
        assert each.meaning and "\n" not in each.meaning
        assert each.run in RUNNERS
        assert each.run.__doc__


def test_docstrings_of_functions_agree_with_the_table() -> None:
    for name in functions() & set(METRICS):
        first = inspect.getdoc(getattr(metrics, name)) or ""
        assert f"{METRICS[name].direction} is better" in first.splitlines()[0], name


def test_the_page_agrees_with_the_table() -> None:
    rows = re.findall(r"^\| (`.*`) \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {}
    for names, directions in rows:
        words = [word.split()[0] for word in directions.split(", ")]
        listed = re.findall(r"`(\w+)`", names)
        told.update(zip(listed, words * (len(listed) // len(words)), strict=True))
    assert len(told) >= 12
    for name, word in told.items():
        if name in METRICS:
            assert word == METRICS[name].direction, name
        else:
            assert name == "segmentation_scores" and word == "higher"


# --- directions -------------------------------------------------------------

WEIGHTS = (0.5 ** torch.arange(16.0)).view(1, 1, 4, 4)
"""What each pixel of an image of ones adds to the first class."""


def logits(images: Tensor) -> Tensor:
    total = (images * WEIGHTS.to(images)).flatten(1).sum(dim=1)
    return torch.stack([4 * total, torch.full_like(total, 5.0)], dim=1)


def distracted(images: Tensor) -> Tensor:
    """Score the upper half, and less for a lower half that stands alone.

    Where pixels only add up, every ranking is as monotone as its reverse.
    """
    upper, lower = images[:, 0].unflatten(1, (2, 2)).mean(dim=(2, 3)).unbind(1)
    total = 4 * upper - 2 * lower * (1 - upper)
    return torch.stack([total, torch.zeros_like(total)], dim=1)


@cache
def of_pixels(name: str) -> Found:
    """Score the true map of an image, and the same with its ranks reversed."""
    images = torch.ones(2, 1, 4, 4)
    true = 4 * WEIGHTS.expand(2, 1, 4, 4)
    maps = {"true": true, "reversed": true.amax() + true.amin() - true}
    model = distracted if name == "monotonicity" else logits
    evaluation = Evaluation(
        forward_func=model,
        inputs=images,
        maps=maps,
        target=0,
        masks=true[:, 0] > true.mean(),
    )
    return METRICS[name].run(evaluation, [name])


@cache
def of_tokens() -> Found:
    model = demo.load_model()
    images, labels, masks = demo.make_samples(n=6, seed=2)
    model_mask = patch_feature_mask(images, demo.PATCH_SIZE)
    noise = torch.rand(images[:, :1].shape, generator=torch.Generator().manual_seed(0))
    on_object = masks.view(6, 1, *images.shape[2:]).double() + noise / 100
    maps = {"true": on_object, "reversed": 2 - on_object}
    evaluation = Evaluation(
        forward_func=model,
        inputs=images,
        maps=maps,
        target=labels,
        feature_mask=model_mask,
    )
    names = [each.name for each in METRICS.values() if each.run is run_tokens]
    return run_tokens(evaluation, names)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda each: each.name)
def test_a_true_map_scores_better_than_the_reversed_one(metric: Metric) -> None:
    found = of_tokens() if metric.needs == "tokens" else of_pixels(metric.name)
    good, bad = (found[metric.name][name].values for name in ("true", "reversed"))
    assert good.dtype == torch.float64 and good.shape == bad.shape
    assert not bool(good.isnan().any()) and not bool(bad.isnan().any())
    low, high = metric.range
    assert bool((good >= low).all()) and bool((good <= high).all())
    assert (good.mean() > bad.mean()) == metric.higher_is_better
    assert good.mean() != bad.mean()
