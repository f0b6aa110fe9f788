"""Results: length, indexing by example, moving and drawing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from captum_mda import (
    demo,
    LeGrad,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda._results import BatchResult
from captum_mda.visualize import scores_figure

N = 3


@cache
def samples() -> demo.DemoSamples:
    return demo.make_samples(n=N, seed=2)


@cache
def maps() -> torch.Tensor:
    return LeGrad(demo.load_model()).attribute(samples().images, samples().labels)


def _scores(**options: Any) -> metrics.PerturbationScores:
    images, labels, _ = samples()
    return metrics.perturbation_scores(
        demo.load_model(), images, maps(), target=labels, n_steps=N, **options
    )


def _explanation() -> Any:
    images, labels, _ = samples()
    half = patch_feature_mask(images, 32)
    other = torch.tensor([3, 1, 2, 0])[half]
    mda = MetricDrivenAttribution(demo.load_model())
    masks = torch.cat([half, half, other])
    return mda.explain(images, target=labels, feature_mask=masks)


def _hits() -> Any:
    images, labels, _ = samples()
    shares = (0.1, 0.4, 0.8)  # as many as there are examples
    return metrics.masked_hits(
        demo.load_model(), images, maps(), target=labels, fractions=shares
    )


def _tokens() -> Any:
    images, labels, _ = samples()
    shares = (0.1, 0.4, 0.8)
    return metrics.token_deletion(
        demo.load_model(), images, maps(), target=labels, fractions=shares
    )


MAKE: dict[str, Callable[[], Any]] = {
    "MDAExplanation": _explanation,
    "PerturbationScores": lambda: _scores(least_first=True),
    "PerturbationScores, two curves": _scores,
    "ResponseCurve": lambda: _scores().deletion_curve,
    "MaskedHits": _hits,
    "TokenDeletion": _tokens,
    "SegmentationScores": lambda: metrics.segmentation_scores(maps(), samples().masks),
}


@cache
def result(name: str) -> Any:
    return MAKE[name]()


every_result = pytest.mark.parametrize("name", MAKE)


def fields(value: Any) -> dict[str, Any]:
    """All fields, those of curves in dots."""
    found: dict[str, Any] = {}
    for name, each in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(each, BatchResult):
            found |= {f"{name}.{key}": field for key, field in fields(each).items()}
        else:
            found[name] = each
    return found


def assert_rows(found: Any, whole: Any, rows: list[int]) -> None:
    """Check each field by hand; what is of the batch is the same."""
    assert type(found) is type(whole) and len(found) == len(rows)
    expected = fields(whole)
    for name, value in fields(found).items():
        own = expected[name]
        if name.endswith("fractions"):
            assert torch.equal(value, own)
        elif isinstance(own, torch.Tensor):
            assert torch.equal(value.nan_to_num(-9), own[rows].nan_to_num(-9)), name
        elif isinstance(own, tuple):
            assert value == tuple(own[row] for row in rows), name
        elif name == "features":
            assert torch.equal(value.masks[0], own.masks[0][rows])
            assert [len(shape) for shape in value.shapes] == [4]
        elif name == "provenance":
            assert set(value) == set(own)
            tuples = {k: v for k, v in own.items() if isinstance(v, tuple)}
            assert all(value[k] == tuple(v[r] for r in rows) for k, v in tuples.items())
        else:
            assert value == own, name


@every_result
def test_indices_take_examples(name: str) -> None:
    whole = result(name)
    assert len(whole) == N
    cases: list[tuple[Any, list[int]]] = [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (torch.tensor(1), [1]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        ([2, 0, -2], [2, 0, 1]),
        ([True, False, True], [0, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (np.array([1, 1]), [1, 1]),
        (torch.tensor([2]), [2]),
        (range(2), [0, 1]),
    ]
    for index, rows in cases:
        assert_rows(whole[index], whole, rows)
    ones = list(whole)
    assert len(ones) == N
    for row, one in enumerate(ones):
        assert_rows(one, whole, [row])
    assert repr(whole[1:]).splitlines()[0].startswith(type(whole).__name__ + " of 2")


@every_result
def test_bad_indices(name: str) -> None:
    whole = result(name)
    for index in (N, -N - 1, [0, N], [True], torch.tensor([True])):
        with pytest.raises(IndexError, match=r"index: got"):
            whole[index]
    for index in ("0", 0.5, None, (0, 1), True, [0.5], [True, 1, 0]):
        with pytest.raises(TypeError, match="index: "):
            whole[index]
    if name == "MDAExplanation":
        with pytest.raises(IndexError, match="at least one"):
            whole[3:]
    else:
        assert len(whole[3:]) == 0 and bool(whole[3:])


def test_maps_of_taken_examples_are_those_of_all() -> None:
    whole = result("MDAExplanation")
    for row in range(N):
        one = whole[row].attributions(gamma=0.5)
        assert torch.equal(one, whole.attributions(gamma=0.5)[row : row + 1])
    taken = whole[[2, 0]]
    again = taken.feature_attributions()
    assert torch.equal(again, whole.feature_attributions()[[2, 0]])
    assert taken.n_forwards == int(whole.forwards[[2, 0]].sum())


def test_scores_of_taken_examples_are_those_of_all() -> None:
    whole = result("PerturbationScores")
    one = whole[1]
    for name in ("insertion", "aopc", "monotonicity", "symmetric_relevance_gain"):
        expected = getattr(whole, name)[1:2]
        assert torch.equal(getattr(one, name), expected), name
    assert one.status == whole.status[1:2]


@every_result
def test_to_converts_numbers_and_nothing_else(name: str) -> None:
    whole = result(name)
    for moved in (whole.to(torch.float32), whole.to("cpu", dtype=torch.float32)):
        assert type(moved) is type(whole)
        if name == "MDAExplanation":
            assert moved.dtype == torch.float32
            assert moved.order.dtype == torch.int64
            assert moved.insertion_curve.dtype == torch.float64
            continue
        for key, value in fields(moved).items():
            own = fields(whole)[key]
            if isinstance(own, torch.Tensor):
                same = own.float() if own.is_floating_point() else own
                assert torch.equal(value.nan_to_num(-9), same.nan_to_num(-9))
                assert value.dtype == same.dtype
    for wrong in (torch.int64, [1], 0.5):
        with pytest.raises(TypeError, match=r"^d(type|evice): got"):
            whole.to(wrong)
    with pytest.raises(TypeError, match="copy"):
        whole.to("cpu", copy=True)


def test_an_explanation_returns_maps_in_its_dtype() -> None:
    whole = result("MDAExplanation")
    assert whole.to(torch.float64).attributions().dtype == torch.float64
    with pytest.raises(ValueError, match="dtype"):
        whole.to(torch.float16)


@every_result
def test_every_result_draws_itself(name: str) -> None:
    figure = result(name).plot(index=-1, title="50 % of $5")
    FigureCanvasAgg(figure).draw()
    assert figure.get_suptitle().startswith("50 %")
    assert figure.axes
    with pytest.raises(IndexError, match="index: got 3"):
        result(name).plot(index=3)
    with pytest.raises(TypeError, match="index: got"):
        result(name).plot(index="0")


def test_an_explanation_is_drawn_over_its_image() -> None:
    whole = result("MDAExplanation")
    photo = demo.denormalize(samples().images)[1]
    figure = whole.plot(photo, index=1, gammas=(0.0,))
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(drawn, photo.permute(1, 2, 0), atol=1e-6)


def test_the_lines_are_those_of_the_example() -> None:
    scores = result("PerturbationScores")
    figure = scores.plot(1)
    for axes, curve in zip(
        figure.axes, (scores.insertion_curve, scores.deletion_curve), strict=True
    ):
        response, density = axes.lines
        np.testing.assert_array_equal(response.get_ydata(), curve.response[1])
        np.testing.assert_array_equal(density.get_ydata(), curve.density[1])
        assert f"{float(curve.area[1]):.3f}" in response.get_label()
    (probability, hit) = result("TokenDeletion").plot(2).axes[0].lines
    np.testing.assert_array_equal(hit.get_ydata(), result("TokenDeletion").hits[2])
    assert list(probability.get_xdata()) == [0.1, 0.4, 0.8]
    bars = result("SegmentationScores").plot(0).axes[0].patches
    expected = result("SegmentationScores").iou[0]
    assert bars[0].get_width() == pytest.approx(float(expected))


def test_raw_scores_have_room() -> None:
    x = torch.tensor([[3.0, 1.0, -8.0]])
    curve = metrics.response_curve(lambda x: x.sum(1), x, x, convention="rise")
    axes = curve.plot().axes[0]
    low, high = axes.get_ylim()
    assert low < float(curve.raw.min()) and high > float(curve.raw.max())
    assert axes.get_ylabel() == "raw response"


def test_examples_that_cannot_be_scored_are_drawn_without_lines() -> None:
    x = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    with pytest.warns(UserWarning, match="constant map"):
        scores = metrics.perturbation_scores(
            lambda x: x.sum(1), x, x, on_degenerate="nan"
        )
    FigureCanvasAgg(scores.plot(1)).draw()


def test_other_things_are_not_drawn() -> None:
    with pytest.raises(TypeError, match="scores: got dict, takes one of Pert"):
        scores_figure({})
