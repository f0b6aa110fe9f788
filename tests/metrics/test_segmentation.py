"""Segmentation scores and the pointing game: by hand, by formula, by scikit-learn."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    jaccard_score,
)
from torch import Tensor

from captum_mda.metrics.localization._thresholds import ORACLE_THRESHOLDS, Threshold
from captum_mda.metrics.localization.segmentation import (
    MaskConvention,
    segmentation_scores,
    SegmentationScores,
)

CONVENTIONS: tuple[MaskConvention, ...] = ("exact", "mda")
THRESHOLDS: tuple[float | Threshold, ...] = ("mean", "oracle", 0.25)
SCORES = ("iou", "average_precision", "f1", "pixel_accuracy")
COUNTS = ("intersection", "union", "correct", "pixels")


def check(actual: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    wanted = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


def check_equal(first: SegmentationScores, second: SegmentationScores) -> None:
    for name in (*SCORES, *COUNTS):
        check(getattr(first, name), getattr(second, name))


@st.composite
def cases(
    draw: st.DrawFn, shape: tuple[int, int] | None = None, largest: int = 5
) -> tuple[Tensor, Tensor]:
    """One map of small integers, with many ties, and a mask: both (1, H, W)."""
    sides = st.tuples(st.integers(1, 5), st.integers(2, 5))
    height, width = draw(st.just(shape) if shape else sides)
    n = height * width
    values = st.lists(st.integers(-largest, largest), min_size=n, max_size=n)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    found = draw(values.filter(lambda row: len(set(row)) > 1))
    mask = draw(flags.filter(lambda row: len(set(row)) > 1))
    size = (1, height, width)
    return torch.tensor(found).double().view(size), torch.tensor(mask).view(size)


# --- by hand ----------------------------------------------------------------

# The mean is 3.5: above it lie 4 and 9; of the object's three pixels one is found.
MAP = torch.tensor([[[9.0, 0.0, 3.0], [1.0, 4.0, 4.0]]])
MASK = torch.tensor([[[True, False, True], [True, False, False]]])


def test_exact_scores_by_hand() -> None:
    scores = segmentation_scores(MAP, MASK)
    check(scores.intersection, [[1, 1]])  # background: 0; foreground: 9
    check(scores.union, [[5, 5]])
    check(scores.pixels, [[3, 3]])
    check(scores.correct, [[1, 1]])
    check(scores.iou, [1 / 5])
    check(scores.f1, [2 / 6])
    check(scores.pixel_accuracy, [2 / 6])
    # Down the ranking 9 | 4 4 | 3 | 1 | 0: hits at ranks 1, 4 and 5.
    check(scores.average_precision, [(1 / 1 + 2 / 4 + 3 / 5) / 3])
    assert scores.mean_iou == pytest.approx(0.2, abs=1e-15)
    assert scores.status == ("ok",)


def test_mda_scores_by_hand() -> None:
    scores = segmentation_scores(MAP, MASK, convention="mda")
    check(scores.iou, [1 / 5])
    # First row: one hit, no false alarm, one miss. Second row: no hit.
    check(scores.f1, [(2 / 3 + 0) / 2])
    check(scores.pixel_accuracy, [1 / 3])
    check(scores.average_precision, [(2 / 6) ** 2 + (1 - 2 / 6) / 2])


def test_a_number_is_a_threshold_after_scaling_and_strict() -> None:
    found = [segmentation_scores(MAP, MASK, t).f1.item() for t in (0, 1 / 3, 0.5, 1)]
    # Above 0: 9 3 1 4 4, above 3/9: 9 4 4, above 0.5: 9, above 1: none.
    assert found == pytest.approx([2 * 3 / 8, 2 * 1 / 6, 2 * 1 / 4, 0], abs=1e-15)


def test_the_oracle_takes_the_threshold_with_the_highest_iou() -> None:
    maps = torch.tensor([[[5.0, 11.0], [14.0, 20.0]]])  # scaled: 0, 0.4, 0.6, 1
    last = torch.tensor([[[False, False], [False, True]]])
    check(segmentation_scores(maps, last, "oracle").iou, [1])
    check(segmentation_scores(maps, last, "mean").iou, [1 / 2])
    # The lowest threshold is 0.40, and 0.4 is not above it.
    all_but_first = torch.tensor([[[False, True], [True, True]]])
    check(segmentation_scores(maps, all_but_first, "oracle").iou, [2 / 3])


def test_of_equal_thresholds_the_oracle_takes_the_lowest() -> None:
    maps = torch.tensor([[[0.0, 0, 0, 0], [2, 2, 2, 4]]])  # scaled: 0, 0.8 and 1.6
    masks = torch.tensor([[[0, 0, 0, 0], [0, 0, 1, 1]]])
    # Below 0.80 it finds all of the second row, IoU 2 / 4, and then its end, 1 / 2.
    scores = segmentation_scores(maps, masks, "oracle")
    check(scores.iou, [1 / 2])
    check(scores.correct, [[4, 2]])


def test_mean_iou_sums_over_images_before_it_divides() -> None:
    maps = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]])
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 1, 0, 0]]])
    scores = segmentation_scores(maps, masks)
    check(scores.intersection, [[2, 2], [2, 0]])
    check(scores.union, [[2, 2], [4, 2]])
    assert scores.mean_iou == pytest.approx((4 / 6 + 2 / 4) / 2, abs=1e-15)
    # Not the mean of the images' own means, 1 and 1 / 4.
    assert scores.mean_iou != pytest.approx(0.625)


# --- against scikit-learn ---------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(cases(), st.one_of(st.just("mean"), st.integers(0, 8).map(lambda n: n / 8)))
def test_exact_scores_are_scikit_learns(
    case: tuple[Tensor, Tensor], threshold: float | Threshold
) -> None:
    values, truth = (each.flatten().numpy() for each in case)
    scores = segmentation_scores(*case, threshold)
    found = literal_foreground(values, threshold)
    check(scores.average_precision, [average_precision_score(truth, values)])
    check(scores.iou, [jaccard_score(truth, found, zero_division=0)])
    check(scores.f1, [f1_score(truth, found, zero_division=0)])
    check(scores.pixel_accuracy, [accuracy_score(truth, found)])
    background = jaccard_score(~truth, ~found, zero_division=0)
    mean = (background + scores.iou.item()) / 2
    assert scores.mean_iou == pytest.approx(mean, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(cases(largest=1000))
def test_average_precision_of_maps_with_few_ties(case: tuple[Tensor, Tensor]) -> None:
    values, truth = (each.flatten().numpy() for each in case)
    expected = average_precision_score(truth, values)
    check(segmentation_scores(*case).average_precision, [expected])


def literal_foreground(
    values: np.ndarray, threshold: float | Threshold, truth: np.ndarray | None = None
) -> np.ndarray:
    """The thresholds in words; "mean" and "oracle" in exact fractions."""
    exact = [Fraction(value) for value in values.tolist()]
    if threshold == "mean":
        mean = sum(exact) / len(exact)
        return np.array([value > mean for value in exact])
    low, high = min(exact), max(exact)
    if threshold != "oracle":
        return (values - values.min()) / (values.max() - values.min()) > threshold
    assert truth is not None
    scaled = [(value - low) / (high - low) for value in exact]
    factor = Fraction(1, 2) / (sum(scaled) / len(scaled))
    best, best_iou = np.zeros(0), -1.0
    for step in range(12):
        level = Fraction(40 + 5 * step, 100)
        found = np.array([value * factor > level for value in scaled])
        union = int((found | truth).sum())
        iou = int((found & truth).sum()) / union
        if iou > best_iou:
            best, best_iou = found, iou
    return best


def test_there_are_twelve_oracle_thresholds() -> None:
    assert len(ORACLE_THRESHOLDS) == 12
    assert pytest.approx(list(np.arange(0.4, 0.99, 0.05))) == ORACLE_THRESHOLDS


# Sixteen or eight pixels, so that the mean of integers is exact.
@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([(4, 4), (2, 4), (8, 2)]).flatmap(
        lambda shape: cases(shape, largest=10)
    )
)
def test_the_oracle_is_its_literal_loop(case: tuple[Tensor, Tensor]) -> None:
    values, truth = (each.flatten().numpy() for each in case)
    found = literal_foreground(values, "oracle", truth)
    scores = segmentation_scores(*case, "oracle")
    check(scores.iou, [jaccard_score(truth, found, zero_division=0)])
    check(scores.pixel_accuracy, [accuracy_score(truth, found)])
    check(scores.union, [[(~found | ~truth).sum(), (found | truth).sum()]])


# --- the tables' quirks, literally ------------------------------------------


def literal_row_f1(found: np.ndarray, truth: np.ndarray) -> float:
    """Spec 10.3: the mean over image rows of the row's foreground F1."""
    total = 0.0
    for found_row, true_row in zip(found, truth, strict=True):
        hits = misses = false_alarms = 0
        for taken, is_object in zip(found_row, true_row, strict=True):
            hits += bool(taken and is_object)
            misses += bool(is_object and not taken)
            false_alarms += bool(taken and not is_object)
        if hits:
            total += 2 * hits / (2 * hits + misses + false_alarms)
    return total / len(found)


@settings(deadline=None, max_examples=150)
@given(cases(), st.sampled_from(["mean", 0.25, 0.5]))
def test_mda_scores_are_the_tables_quirks(
    case: tuple[Tensor, Tensor], threshold: float | Threshold
) -> None:
    values, truth = case[0][0].numpy(), case[1][0].numpy()
    found = literal_foreground(values.ravel(), threshold).reshape(values.shape)
    scores = segmentation_scores(*case, threshold, convention="mda")
    one_hot = np.stack([~truth, truth]).ravel()
    channels = np.stack([~found, found]).ravel().astype(float)
    check(scores.average_precision, [average_precision_score(one_hot, channels)])
    check(scores.f1, [literal_row_f1(found, truth)])
    check(scores.pixel_accuracy, [found[truth].mean()])
    check(scores.iou, segmentation_scores(*case, threshold).iou)


# --- properties -------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from(THRESHOLDS), st.sampled_from(CONVENTIONS))
def test_scores_lie_between_0_and_1_and_counts_add_up(
    case: tuple[Tensor, Tensor],
    threshold: float | Threshold,
    convention: MaskConvention,
) -> None:
    scores = segmentation_scores(*case, threshold, convention)
    for name in SCORES:
        score = getattr(scores, name)
        assert score.dtype == torch.float64 and score.shape == (1,)
        assert 0 <= score.item() <= 1
    for name in COUNTS:
        assert getattr(scores, name).dtype == torch.int64
        assert getattr(scores, name).shape == (1, 2)
    assert scores.pixels.sum() == case[0].numel()
    wrong = case[0].numel() - scores.correct.sum()
    check(scores.union - scores.correct, [[int(wrong), int(wrong)]])


@settings(deadline=None, max_examples=60)
@given(
    cases(),
    st.lists(st.integers(1, 1000), min_size=11, max_size=11),
    st.integers(-1000, 1000),
)
def test_average_precision_depends_on_the_order_only(
    case: tuple[Tensor, Tensor], rises: list[int], start: int
) -> None:
    maps, masks = case
    table = torch.tensor([start, *rises[1:]]).cumsum(0).double()  # strictly rising
    moved = table[(maps + 5).long()]
    check(
        segmentation_scores(moved, masks).average_precision,
        segmentation_scores(maps, masks).average_precision,
    )


@settings(deadline=None, max_examples=60)
@given(
    cases(), st.integers(1, 40), st.integers(-1000, 1000), st.sampled_from(CONVENTIONS)
)
def test_with_the_mean_as_threshold_scale_and_shift_do_not_matter(
    case: tuple[Tensor, Tensor], eighths: int, shift: int, convention: MaskConvention
) -> None:
    maps, masks = case
    moved = segmentation_scores(
        maps * eighths / 8 + shift, masks, convention=convention
    )
    check_equal(moved, segmentation_scores(maps, masks, convention=convention))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_batch_is_its_single_examples(
    threshold: float | Threshold, convention: MaskConvention
) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 9, (6, 7, 5), generator=generator).double()
    masks = torch.rand(6, 7, 5, generator=generator) > 0.6
    together = segmentation_scores(maps, masks, threshold, convention)
    for i in range(6):
        alone = segmentation_scores(
            maps[i : i + 1], masks[i : i + 1], threshold, convention
        )
        for name in (*SCORES, *COUNTS):
            check(getattr(together, name)[i : i + 1], getattr(alone, name))
    assert len(set(together.iou.tolist())) == 6
