"""Accumulators: exact, the same bits however the data is split, and against loops."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.metrics.accumulators import (
    HistogramAccumulator,
    MeanAccumulator,
    SegmentationAccumulator,
)
from captum_mda.metrics.segmentation import segmentation_scores

NAN = math.nan
NUMBERS = st.floats(-1e300, 1e300) | st.floats(-1, 1) | st.just(NAN)
VALUES = st.lists(NUMBERS, max_size=30)
Accumulator = MeanAccumulator | HistogramAccumulator | SegmentationAccumulator


def bits(result: Any) -> list[str]:
    """The bits of a result's numbers, in which a NaN equals itself."""
    return [str(v) if isinstance(v, int) else v.hex() for v in asdict(result).values()]


def averaged(values: Any) -> MeanAccumulator:
    accumulator = MeanAccumulator()
    accumulator.update(values)
    return accumulator


def merged(shards: list[Any], order: list[int]) -> Any:
    """Merge accumulators into the first of an order, one after the other."""
    first, *others = [shards[index] for index in order]
    for other in others:
        first.merge(other)
    return first


@st.composite
def orders(draw: st.DrawFn, most: int = 5) -> list[int]:
    return list(draw(st.permutations(range(draw(st.integers(1, most))))))


# --- the mean ---------------------------------------------------------------


@given(VALUES, orders(), st.data())
@settings(deadline=None)
def test_a_mean_has_the_same_bits_for_any_shards_in_any_order(
    values: list[float], order: list[int], data: st.DataObject
) -> None:
    shards = [MeanAccumulator() for _ in order]
    for value in data.draw(st.permutations(values)):
        data.draw(st.sampled_from(shards)).update([value])
    whole, parts = averaged(values), merged(shards, order)
    assert parts.state() == whole.state()
    if not all(map(math.isnan, values)):
        assert bits(parts.compute()) == bits(whole.compute())


@given(VALUES.filter(lambda values: not all(map(math.isnan, values))))
def test_a_mean_is_that_of_fractions(values: list[float]) -> None:
    present = [Fraction(value) for value in values if not math.isnan(value)]
    found = averaged(values).compute()
    assert found.mean == float(sum(present) / len(present))
    assert found.n == len(present)
    assert found.n_missing == len(values) - len(present)
    if len(present) == 1:
        assert math.isnan(found.standard_deviation)
    else:
        # The standard library takes the root of the exact variance in its own way.
        expected = statistics.stdev(present)
        assert found.standard_deviation == pytest.approx(float(expected), rel=1e-15)


def test_a_mean_does_not_cancel_where_floats_do() -> None:
    found = averaged([1e16, 1.0, -1e16, 2.0]).compute()
    assert found.mean == 0.75
    small = averaged([1e8 + 1, 1e8 + 2, 1e8 + 3]).compute()
    assert small.standard_deviation == 1.0


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_deviation_is_right_where_squares_leave_the_range(scale: float) -> None:
    found = averaged([scale * value for value in (2.0, 4.0, 4.0, 4.0, 5.0, 7.0)])
    expected = np.std([2, 4, 4, 4, 5, 7], ddof=1) * scale
    assert found.compute().standard_deviation == pytest.approx(expected, rel=1e-14)


def test_equal_values_deviate_by_nothing() -> None:
    assert averaged([0.1] * 7).compute().standard_deviation == 0.0
    assert averaged([0.1] * 7).compute().mean == 0.1


def test_a_mean_takes_tensors_arrays_and_empty_batches() -> None:
    accumulator = MeanAccumulator()
    accumulator.update(torch.tensor([0.5, NAN], requires_grad=True))
    accumulator.update(np.array([1, 2]))
    accumulator.update([])
    found = accumulator.compute()
    assert (found.n, found.n_missing) == (3, 1)
    assert found.mean == float(Fraction(7, 6))


@given(VALUES)
def test_the_state_of_a_mean_survives_json(values: list[float]) -> None:
    accumulator = averaged(values)
    restored = MeanAccumulator.from_state(json.loads(json.dumps(accumulator.state())))
    assert restored.state() == accumulator.state()
    for each in (restored, accumulator):
        each.update([0.1])
    assert bits(restored.compute()) == bits(accumulator.compute())


def test_without_values_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no values to average; 0 were NaN"):
        MeanAccumulator().compute()
    with pytest.raises(ValueError, match="no values to average; 2 were NaN"):
        averaged([NAN, NAN]).compute()


def test_a_refused_batch_leaves_a_mean_alone() -> None:
    accumulator = averaged([0.5])
    before = accumulator.state()
    refused: list[tuple[Any, type[Exception]]] = [
        ([0.5, math.inf], ValueError),
        ([[0.5]], ValueError),
        ([1j], TypeError),
    ]
    for values, error in refused:
        with pytest.raises(error, match=r"^values: got"):
            accumulator.update(values)
    assert accumulator.state() == before


# --- thresholds -------------------------------------------------------------


def some_maps(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(n, 4, 5, generator=generator)
    return maps, maps + torch.randn(n, 4, 5, generator=generator) > 0.3


def literal_mean_iou(maps: Tensor, masks: Tensor, thresholds: Tensor) -> list[float]:
    curve = []
    for threshold in thresholds.tolist():
        inside, either = [0, 0], [0, 0]
        for each, truth in zip(maps.double(), masks.bool(), strict=True):
            scaled = (each - each.min()) / (each.max() - each.min())
            found = scaled >= threshold
            for side, (ours, theirs) in enumerate(((~found, ~truth), (found, truth))):
                inside[side] += int((ours & theirs).sum())
                either[side] += int((ours | theirs).sum())
        curve.append((inside[0] / either[0] + inside[1] / either[1]) / 2)
    return curve


@pytest.mark.parametrize("bins", [1, 2, 10, 49, 256])
def test_the_curve_is_that_of_a_loop_over_thresholds(bins: int) -> None:
    maps, masks = some_maps(6)
    # Values that lie on thresholds, where rounding could move them across.
    maps[0] = torch.arange(20).view(4, 5) / 19
    maps[1] = (torch.arange(20).view(4, 5) % 11) / 10
    accumulator = HistogramAccumulator(bins)
    accumulator.update(maps, masks)
    found = accumulator.compute()
    assert found.thresholds.tolist() == [k / bins for k in range(bins)]
    expected = literal_mean_iou(maps, masks, found.thresholds)
    torch.testing.assert_close(
        found.mean_iou, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert found.n == 6
    assert found.best[1] == max(found.mean_iou.tolist())


def test_a_value_on_a_threshold_is_foreground() -> None:
    for bins in (3, 7, 10, 49, 100):
        edges = torch.arange(bins + 1, dtype=torch.float64) / bins
        for k in range(1, bins):
            accumulator = HistogramAccumulator(bins)
            accumulator.update(edges[None, None], (edges >= edges[k])[None, None])
            assert accumulator.compute().best == (float(edges[k]), 1.0)


def test_of_equally_good_thresholds_the_lowest_is_best() -> None:
    accumulator = HistogramAccumulator(4)
    accumulator.update(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[False, True]]]))
    assert accumulator.compute().mean_iou.tolist() == [0.25, 1, 1, 1]
    assert accumulator.compute().best == (0.25, 1.0)


def test_maps_and_masks_of_other_shapes_and_types() -> None:
    maps, masks = some_maps(3)
    expected = HistogramAccumulator()
    expected.update(maps, masks)
    found = HistogramAccumulator()
    found.update(maps[:, None].requires_grad_(), masks[:, None].to(torch.uint8))
    assert found.state() == expected.state()


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), orders(5), st.data())
@settings(max_examples=25, deadline=None)
def test_a_histogram_is_the_same_for_any_shards_in_any_order(
    homes: list[int], order: list[int], data: st.DataObject
) -> None:
    maps, masks = some_maps(6)
    whole = HistogramAccumulator(16)
    whole.update(maps, masks)
    shards = [HistogramAccumulator(16) for _ in order]
    for index in data.draw(st.permutations(range(6))):
        shard = shards[homes[index] % len(shards)]
        shard.update(maps[index : index + 1], masks[index : index + 1])
    assert merged(shards, order).state() == whole.state()


def test_the_state_of_a_histogram_survives_json() -> None:
    accumulator = HistogramAccumulator(7)
    accumulator.update(*some_maps(2))
    state = json.loads(json.dumps(accumulator.state()))
    restored = HistogramAccumulator.from_state(state)
    assert restored.bins == 7
    restored.update(*some_maps(1, seed=1))
    accumulator.update(*some_maps(1, seed=1))
    assert restored.state() == accumulator.state()
    found, expected = restored.compute(), accumulator.compute()
    assert found.mean_iou.tolist() == expected.mean_iou.tolist()
    assert found.n == 3


def test_what_a_histogram_refuses_leaves_it_alone() -> None:
    maps, masks = some_maps(3)
    constant = maps.clone()
    constant[1] = 0.25
    accumulator = HistogramAccumulator()
    accumulator.update(maps, masks)
    before = accumulator.state()
    for arguments, error, message in (
        ((constant, masks), ValueError, "attributions: constant map in example 1"),
        ((maps / 0, masks), ValueError, "attributions: NaN or infinite values in exa"),
        ((maps[0, 0], masks), ValueError, r"attributions: got shape \(5,\)"),
        ((maps, masks[:2]), ValueError, r"masks: got shape \(2, 4, 5\)"),
        ((maps, masks[:, :2]), ValueError, r"masks: got shape \(3, 2, 5\)"),
        ((maps, masks.float()), TypeError, "masks: got dtype torch.float32"),
        ((maps.tolist(), masks), TypeError, "attributions: got list"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            accumulator.update(*arguments)
    assert accumulator.state() == before


@pytest.mark.parametrize("foreground", [True, False])
def test_without_pixels_of_both_classes_there_is_no_curve(foreground: bool) -> None:
    accumulator = HistogramAccumulator()
    with pytest.raises(ValueError, match="saw 0 images with 0 background and 0 foreg"):
        accumulator.compute()
    maps, masks = some_maps(2)
    accumulator.update(maps, torch.full_like(masks, foreground))
    with pytest.raises(ValueError, match=r"^masks: saw 2 images with"):
        accumulator.compute()
    accumulator.update(maps, masks)
    assert accumulator.compute().n == 4


@pytest.mark.parametrize(
    ("bins", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bins_are_a_positive_integer(bins: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^bins: got"):
        HistogramAccumulator(bins)


# --- segmentation -----------------------------------------------------------


@dataclass
class Batch:
    """The scores of some images, with numbers that no map needs to have."""

    iou: Tensor
    average_precision: Tensor
    f1: Tensor
    intersection: Tensor
    union: Tensor
    pixels: Tensor

    def __getitem__(self, index: int) -> Batch:
        return Batch(*(value[index : index + 1] for value in vars(self).values()))


def batch() -> Batch:
    def scores(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return Batch(
        iou=scores(0.1, NAN, 0.3, 0.7),
        average_precision=scores(0.2, NAN, 0.9, NAN),
        f1=scores(0.5, NAN, 0.25, 0.6),
        intersection=torch.tensor([[3, 1], [0, 0], [2, 5], [4, 2]]),
        union=torch.tensor([[6, 4], [0, 0], [4, 7], [4, 3]]),
        pixels=torch.tensor([[5, 3], [0, 0], [3, 6], [4, 3]]),
    )


def test_the_segmentation_scores_of_a_data_set_by_hand() -> None:
    accumulator = SegmentationAccumulator()
    accumulator.update(batch())
    found = accumulator.compute()
    assert found.mean_iou == pytest.approx((9 / 14 + 8 / 14) / 2, rel=1e-15)
    assert found.iou == pytest.approx(1.1 / 3)
    assert found.average_precision == pytest.approx(0.55)
    assert found.f1 == pytest.approx(1.35 / 3)
    assert found.pixel_accuracy == 17 / 24
    assert found.foreground_recall == 8 / 12
    assert (found.n, found.n_missing) == (4, 2)


def test_it_sums_the_scores_of_real_maps() -> None:
    maps, masks = some_maps(5)
    scores = segmentation_scores(maps, masks)
    accumulator = SegmentationAccumulator()
    for start, stop in ((0, 2), (2, 5)):
        part = segmentation_scores(maps[start:stop], masks[start:stop])
        accumulator.update(part)
    found = accumulator.compute()
    assert found.mean_iou == pytest.approx(scores.mean_iou)
    for name in ("iou", "average_precision", "f1", "pixel_accuracy"):
        expected = float(getattr(scores, name).mean())
        assert getattr(found, name) == pytest.approx(expected), name
    above_mean = maps > maps.double().mean(dim=(1, 2), keepdim=True)
    recall = int((above_mean & masks).sum()) / int(masks.sum())
    assert found.foreground_recall == recall
    assert (found.n, found.n_missing) == (5, 0)


def test_pixel_accuracy_is_that_of_all_pixels_also_under_the_mda_convention() -> None:
    maps, masks = some_maps(5)
    exact, mda = SegmentationAccumulator(), SegmentationAccumulator()
    exact.update(segmentation_scores(maps, masks))
    mda.update(segmentation_scores(maps, masks, convention="mda"))
    assert mda.compute().pixel_accuracy == exact.compute().pixel_accuracy
    assert mda.compute().f1 != exact.compute().f1


def test_degenerate_images_only() -> None:
    accumulator = SegmentationAccumulator()
    with pytest.raises(ValueError, match="no images to score"):
        accumulator.compute()
    accumulator.update(batch()[1])
    found = accumulator.compute()
    assert (found.n, found.n_missing) == (1, 1)
    scores = [v for v in asdict(found).values() if isinstance(v, float)]
    assert len(scores) == 6 and all(map(math.isnan, scores))


def test_without_one_class_there_is_no_mean_iou() -> None:
    accumulator, scores = SegmentationAccumulator(), batch()
    for counts in (scores.intersection, scores.union, scores.pixels):
        counts[:, 1] = 0
    accumulator.update(scores)
    found = accumulator.compute()
    assert math.isnan(found.mean_iou) and math.isnan(found.foreground_recall)
    assert found.pixel_accuracy == 9 / 12


@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), orders(5), st.data())
@settings(max_examples=25, deadline=None)
def test_segmentation_has_the_same_bits_for_any_shards_in_any_order(
    homes: list[int], order: list[int], data: st.DataObject
) -> None:
    whole = SegmentationAccumulator()
    whole.update(batch())
    shards = [SegmentationAccumulator() for _ in order]
    for index in data.draw(st.permutations(range(4))):
        shards[homes[index] % len(shards)].update(batch()[index])
    parts = merged(shards, order)
    assert parts.state() == whole.state()
    assert bits(parts.compute()) == bits(whole.compute())


def test_the_state_of_segmentation_survives_json() -> None:
    accumulator = SegmentationAccumulator()
    accumulator.update(batch())
    state = json.loads(json.dumps(accumulator.state()))
    restored = SegmentationAccumulator.from_state(state)
    for each in (restored, accumulator):
        each.update(batch()[0])
    assert restored.state() == accumulator.state()
    assert bits(restored.compute()) == bits(accumulator.compute())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"f1": torch.zeros(3)}, ValueError, "scores: the fields hold different num"),
        ({"f1": torch.zeros(4, 1)}, ValueError, r"scores.f1: got shape \(4, 1\)"),
        ({"f1": torch.full((4,), math.inf)}, ValueError, "scores.f1: got an infinity"),
        ({"union": torch.ones(4, 2)}, TypeError, "scores.union: takes an integer ten"),
        (
            {"union": torch.ones(4, dtype=torch.int64)},
            ValueError,
            r"scores.union: got \(4,\), takes \(4, 2\)",
        ),
    ],
)
def test_refused_scores_leave_segmentation_alone(
    changes: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    accumulator = SegmentationAccumulator()
    accumulator.update(batch())
    before = accumulator.state()
    with pytest.raises(error, match=f"^{message}"):
        accumulator.update(SimpleNamespace(**{**vars(batch()), **changes}))
    assert accumulator.state() == before


def test_scores_that_lack_a_field_are_refused() -> None:
    fields = {k: v for k, v in vars(batch()).items() if k != "union"}
    with pytest.raises(TypeError, match=r"^scores: got SimpleNamespace, takes .*union"):
        SegmentationAccumulator().update(SimpleNamespace(**fields))


# --- all of them ------------------------------------------------------------


def filled() -> list[Accumulator]:
    histogram, segmentation = HistogramAccumulator(3), SegmentationAccumulator()
    histogram.update(*some_maps(2))
    segmentation.update(batch())
    return [averaged([0.5, NAN]), histogram, segmentation]


@pytest.mark.parametrize("index", range(3))
def test_merging_leaves_the_other_alone_and_takes_no_other_type(index: int) -> None:
    one: Any = filled()[index]
    two: Any = filled()[index]
    before = one.state()
    assert one.merge(two) is None
    assert two.state() == before != one.state()
    one.merge(two)
    assert two.state() == before
    for stranger in (filled()[index - 1], 3, None):
        with pytest.raises(TypeError, match=f"^other: got .* a {type(one).__name__}"):
            one.merge(stranger)


def test_histograms_of_other_bins_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"^other: got 4 bins, takes 3"):
        HistogramAccumulator(3).merge(HistogramAccumulator(4))


@pytest.mark.parametrize("index", range(3))
def test_a_state_of_something_else_is_refused(index: int) -> None:
    accumulator: Any = filled()[index]
    state = accumulator.state()
    lacking = {key: value for key, value in state.items() if key != "n"}
    for wrong in (filled()[index - 1].state(), lacking, state | {"more": 1}, {}, None):
        with pytest.raises(ValueError, match=r"^state: takes the fields kind, n"):
            type(accumulator).from_state(wrong)
    with pytest.raises(ValueError, match=r"^state: got that of a Median"):
        type(accumulator).from_state(state | {"kind": "Median"})


@pytest.mark.parametrize("counts", [[1, 2], [[1], [2], [3]], [[], []]])
def test_counts_of_another_shape_are_refused(counts: list[Any]) -> None:
    state = filled()[1].state() | {"counts": counts}
    with pytest.raises(ValueError, match=r"^state: got counts"):
        HistogramAccumulator.from_state(state)
