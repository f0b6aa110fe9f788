"""Sums over a data set, batch by batch, that merge across shards to the same bits.

Each accumulator is updated with batches, merged with those of other shards, and
computed at the end. All sums are exact, in integers and fractions, so neither the order
nor the batches nor the shards change a result. A state is of strings and integers, and
goes through JSON unharmed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_mda.metrics.degenerate import OK
from captum_mda.metrics.masked_maps import as_maps, as_masks, map_status
from captum_mda.perturbation.inputs import require_positive_integer

Values: TypeAlias = Tensor | Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class MeanAndDeviation:
    """What a `MeanAccumulator` has seen.

    Args:
        mean (float): The mean, correctly rounded.
        standard_deviation (float): That of the sample, with ``n - 1``,
            rounded from the exact variance; NaN for one value.
        n (int): How many values the mean is of.
        n_missing (int): How many were NaN and left out.
    """

    mean: float
    standard_deviation: float
    n: int
    n_missing: int


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """The mean IoU of all images at each threshold.

    Args:
        thresholds (Tensor): float64 (bins,), in [0, 1); a pixel is foreground where its
            map, scaled to [0, 1], is at least the threshold.
        mean_iou (Tensor): float64 (bins,), in [0, 1].
        n (int): The number of images.
    """

    thresholds: Tensor
    mean_iou: Tensor
    n: int

    @property
    def best(self) -> tuple[float, float]:
        """The best threshold, the lowest at ties, and its mean IoU.

        An oracle: it **peeks at the masks** that it is scored with, and flatters the
        map. To report a score, choose the threshold on other images.
        """
        curve = self.mean_iou.tolist()
        index = curve.index(max(curve))
        return float(self.thresholds[index]), float(curve[index])


@dataclass(frozen=True)
class SegmentationSummary:
    """The segmentation scores of a data set, in [0, 1], NaN where nothing defines one.

    Args:
        mean_iou (float): Mean over both classes of summed intersection over summed
            union.
        iou (float): Mean over images of the foreground's IoU.
        average_precision (float): Mean over images.
        f1 (float): Mean over images.
        pixel_accuracy (float): All right pixels over all pixels, whatever the
            convention of the scores.
        foreground_recall (float): All right foreground pixels over all foreground
            pixels.
        n (int): The number of images.
        n_missing (int): Those with a NaN among the scores that a mean is taken of; it
            is left out of that mean.
    """

    mean_iou: float
    iou: float
    average_precision: float
    f1: float
    pixel_accuracy: float
    foreground_recall: float
    n: int
    n_missing: int


@runtime_checkable
class BatchOfSegmentationScores(Protocol):
    """What `SegmentationAccumulator` takes, such as `SegmentationScores`.

    Scores are float (B,), counts are integers (B, 2), of background and foreground.
    """

    @property
    def iou(self) -> Tensor: ...  # noqa: D102
    @property
    def average_precision(self) -> Tensor: ...  # noqa: D102
    @property
    def f1(self) -> Tensor: ...  # noqa: D102
    @property
    def intersection(self) -> Tensor: ...  # noqa: D102
    @property
    def union(self) -> Tensor: ...  # noqa: D102
    @property
    def pixels(self) -> Tensor: ...  # noqa: D102


class MeanAccumulator:
    """Computes mean and standard deviation of values that come in batches, exactly.

    Example::

        >>> from captum_mda.metrics.accumulators import MeanAccumulator
        >>> first, second = MeanAccumulator(), MeanAccumulator()
        >>> first.update([0.5, 1.0])
        >>> second.update([1.5, float("nan")])
        >>> first.merge(second)
        >>> first.compute()
        MeanAndDeviation(mean=1.0, standard_deviation=0.5, n=3, n_missing=1)
    """

    def __init__(self) -> None:
        self._n = self._n_missing = 0
        self._total = self._total_of_squares = Fraction(0)

    def update(self, values: Values) -> None:
        """Take in values, (B,), which may be none; NaN is counted and left out.

        Raises:
            TypeError: The values are no real numbers.
            ValueError: They are not of shape (B,), or one is infinite.
        """
        read = example_values("values", values)
        present = read[~np.isnan(read)].tolist()
        total, total_of_squares = _exact_totals(present)
        self._n += len(present)
        self._n_missing += read.size - len(present)
        self._total += total
        self._total_of_squares += total_of_squares

    def merge(self, other: MeanAccumulator) -> None:
        """Take in all that another accumulator has seen; that one is left alone.

        Raises:
            TypeError: ``other`` is no such accumulator.
        """
        _require_same_type(self, other)
        self._n += other._n
        self._n_missing += other._n_missing
        self._total += other._total
        self._total_of_squares += other._total_of_squares

    def compute(self) -> MeanAndDeviation:
        """Compute mean and standard deviation of all values so far.

        Raises:
            ValueError: There is no value that is not NaN.
        """
        if self._n == 0:
            raise ValueError(f"no values to average; {self._n_missing} were NaN")
        mean, deviation = self._total / self._n, math.nan
        if self._n > 1:
            squares = self._total_of_squares - self._total * mean
            deviation = _square_root(squares / (self._n - 1))
        return MeanAndDeviation(float(mean), deviation, self._n, self._n_missing)

    def state(self) -> dict[str, Any]:
        """Return all that was seen, as strings and integers, for JSON."""
        return {
            "kind": type(self).__name__,
            "n": self._n,
            "n_missing": self._n_missing,
            "total": str(self._total),
            "total_of_squares": str(self._total_of_squares),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MeanAccumulator:
        """Make the accumulator whose `state` this is.

        Raises:
            ValueError: It is not the state of such an accumulator.
        """
        result = cls()
        _require_state(result, state)
        result._n, result._n_missing = int(state["n"]), int(state["n_missing"])
        result._total = Fraction(state["total"])
        result._total_of_squares = Fraction(state["total_of_squares"])
        return result


class HistogramAccumulator:
    """Computes the mean IoU of maps at all thresholds at once, from two histograms.

    Each map is scaled to [0, 1] by its own smallest and largest value, and its
    background and foreground pixels are counted into bins of equal width. Intersections
    and unions are summed over images; the mean IoU is that of both classes.

    Args:
        bins (int, optional): The number of bins and thresholds. Default: 256

    Example::

        >>> import torch
        >>> from captum_mda.metrics.accumulators import HistogramAccumulator
        >>> accumulator = HistogramAccumulator(bins=4)
        >>> masks = torch.tensor([[[True, True], [False, False]]])
        >>> accumulator.update(torch.tensor([[[1.0, 0.75], [0.5, 0.0]]]), masks)
        >>> accumulator.compute().mean_iou
        tensor([0.2500, 0.5833, 0.5833, 1.0000], dtype=torch.float64)
        >>> accumulator.compute().best
        (0.75, 1.0)
    """

    def __init__(self, bins: int = 256) -> None:
        require_positive_integer("bins", bins)
        self._n = 0
        self._counts = torch.zeros(2, bins, dtype=torch.int64)

    @property
    def bins(self) -> int:
        """The number of bins."""
        return self._counts.shape[1]

    def update(self, attributions: Tensor, masks: Tensor) -> None:
        """Take in maps, (B, C, H, W), their channels summed, or (B, H, W), with masks.

        Args:
            attributions (Tensor): Finite maps, none of them constant.
            masks (Tensor): Where the object is: bool, or integers 0 and 1, (B, H, W) or
                (B, 1, H, W).

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: A shape or a value does not fit, or a map is constant.
        """
        maps = as_maps(attributions)
        truth = as_masks(masks, maps)
        status = map_status(maps)
        if status != [OK] * len(status):
            example = next(i for i, word in enumerate(status) if word != OK)
            raise ValueError(
                f"attributions: {status[example]} in example {example}; it cannot be "
                "scaled to [0, 1], drop such examples"
            )
        self._counts += _histograms(maps, truth, self._thresholds().to(maps.device))
        self._n += len(status)

    def merge(self, other: HistogramAccumulator) -> None:
        """Take in all that another accumulator has seen; that one is left alone.

        Raises:
            TypeError: ``other`` is no such accumulator.
            ValueError: It has another number of bins.
        """
        _require_same_type(self, other)
        if other.bins != self.bins:
            raise ValueError(f"other: got {other.bins} bins, takes {self.bins}")
        self._counts = self._counts + other._counts
        self._n += other._n

    def compute(self) -> ThresholdCurve:
        """Compute the mean IoU of all images so far at each threshold.

        Raises:
            ValueError: There was no image, or no pixel of one of the classes.
        """
        of_class = self._counts.sum(dim=1)
        if not of_class.all():
            background, foreground = of_class.tolist()
            raise ValueError(
                f"masks: saw {self._n} images with {background} background and "
                f"{foreground} foreground pixels, takes some of each"
            )
        # Pixels of each class at or above each threshold.
        false_positive, hit = self._counts.flip(1).cumsum(1).flip(1)
        rejected = of_class[0] - false_positive
        # An intersection's union is it and all that is wrong.
        wrong = false_positive + of_class[1] - hit
        iou = [right / (right + wrong).double() for right in (rejected, hit)]
        return ThresholdCurve(self._thresholds(), (iou[0] + iou[1]) / 2, self._n)

    def state(self) -> dict[str, Any]:
        """Return all that was seen, as strings and integers, for JSON."""
        return {
            "kind": type(self).__name__,
            "n": self._n,
            "counts": self._counts.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> HistogramAccumulator:
        """Make the accumulator whose `state` this is.

        Raises:
            ValueError: It is not the state of such an accumulator.
        """
        result = cls()
        _require_state(result, state)
        counts = torch.tensor(state["counts"], dtype=torch.int64)
        if counts.dim() != 2 or counts.shape[0] != 2 or counts.shape[1] == 0:
            raise ValueError(
                f"state: got counts {tuple(counts.shape)}, takes (2, bins)"
            )
        result._n, result._counts = int(state["n"]), counts
        return result

    def _thresholds(self) -> Tensor:
        return torch.arange(self.bins, dtype=torch.float64) / self.bins


_MEANS = ("iou", "average_precision", "f1")
# The right pixels of a class are its intersection.
_COUNTS = ("intersection", "union", "pixels")


class SegmentationAccumulator:
    """Computes the segmentation scores of a data set from those of its batches.

    Example::

        >>> import torch
        >>> from captum_mda.metrics.accumulators import SegmentationAccumulator
        >>> from captum_mda.metrics.segmentation import segmentation_scores
        >>> maps = torch.tensor([[[0.9, 0.2], [0.3, 0.0]]])
        >>> masks = torch.tensor([[[True, True], [False, False]]])
        >>> accumulator = SegmentationAccumulator()
        >>> accumulator.update(segmentation_scores(maps, masks))
        >>> summary = accumulator.compute()
        >>> summary.iou, summary.pixel_accuracy, summary.foreground_recall
        (0.5, 0.75, 0.5)
    """

    def __init__(self) -> None:
        self._n = self._n_missing = 0
        self._means = {name: MeanAccumulator() for name in _MEANS}
        self._counts = {name: [0, 0] for name in _COUNTS}

    def update(self, scores: BatchOfSegmentationScores) -> None:
        """Take in the scores of a batch; NaN scores are counted and left out.

        Raises:
            TypeError: ``scores`` lacks a field, or a count is no integer tensor.
            ValueError: A field is not of shape (B,) or (B, 2), or infinite.
        """
        if not isinstance(scores, BatchOfSegmentationScores):
            raise TypeError(
                f"scores: got {type(scores).__name__}, takes an object with "
                f"{', '.join(_MEANS + _COUNTS)}, such as SegmentationScores"
            )
        values = {
            name: example_values(f"scores.{name}", getattr(scores, name))
            for name in _MEANS
        }
        n = values["iou"].size
        if any(array.size != n for array in values.values()):
            raise ValueError("scores: the fields hold different numbers of images")
        counts = {
            name: _summed_counts(name, getattr(scores, name), n) for name in _COUNTS
        }
        for name, array in values.items():
            self._means[name].update(array)
        self._add(n, int(np.isnan(list(values.values())).any(axis=0).sum()), counts)

    def merge(self, other: SegmentationAccumulator) -> None:
        """Take in all that another accumulator has seen; that one is left alone.

        Raises:
            TypeError: ``other`` is no such accumulator.
        """
        _require_same_type(self, other)
        for name, mean in self._means.items():
            mean.merge(other._means[name])
        self._add(other._n, other._n_missing, other._counts)

    def compute(self) -> SegmentationSummary:
        """Compute the scores of all images so far.

        Raises:
            ValueError: There was no image.
        """
        if self._n == 0:
            raise ValueError("no images to score; call update first")
        counts = self._counts
        unions = zip(counts["intersection"], counts["union"], strict=True)
        ious = [Fraction(inside, either) for inside, either in unions if either]
        # A mean without the missing class would be another, incomparable number.
        mean_iou = float(sum(ious) / 2) if len(ious) == 2 else math.nan
        return SegmentationSummary(
            mean_iou=mean_iou,
            pixel_accuracy=_ratio(sum(counts["intersection"]), sum(counts["pixels"])),
            foreground_recall=_ratio(counts["intersection"][1], counts["pixels"][1]),
            n=self._n,
            n_missing=self._n_missing,
            **{name: _mean_or_nan(mean) for name, mean in self._means.items()},
        )

    def state(self) -> dict[str, Any]:
        """Return all that was seen, as strings and integers, for JSON."""
        return {
            "kind": type(self).__name__,
            "n": self._n,
            "n_missing": self._n_missing,
            "means": {name: mean.state() for name, mean in self._means.items()},
            "counts": {name: list(pair) for name, pair in self._counts.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SegmentationAccumulator:
        """Make the accumulator whose `state` this is.

        Raises:
            ValueError: It is not the state of such an accumulator.
        """
        result = cls()
        _require_state(result, state)
        result._means = {
            name: MeanAccumulator.from_state(state["means"][name]) for name in _MEANS
        }
        counts = {name: list(map(int, state["counts"][name])) for name in _COUNTS}
        result._add(int(state["n"]), int(state["n_missing"]), counts)
        return result

    def _add(self, n: int, n_missing: int, counts: Mapping[str, Sequence[int]]) -> None:
        self._n += n
        self._n_missing += n_missing
        for name, pair in self._counts.items():
            self._counts[name] = [
                mine + more for mine, more in zip(pair, counts[name], strict=True)
            ]


def example_values(name: str, values: Values) -> NDArray[np.float64]:
    """Read one score for each example as float64 (B,); NaN may be among them.

    Raises:
        TypeError: They are no real numbers.
        ValueError: They are not of shape (B,), or one is infinite.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy knows no bfloat16.
        values = (values.double() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: got {array.dtype} values, takes real numbers")
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}, takes one for each example")
    if np.isinf(array).any():
        index = int(np.isinf(array).argmax())
        raise ValueError(
            f"{name}: got an infinity in example {index}, takes finite ones"
        )
    return array.astype(np.float64)


def _exact_totals(values: Sequence[float]) -> tuple[Fraction, Fraction]:
    """Sum values, and their squares, without rounding."""
    # Adding integers over the same denominator is far faster than adding fractions.
    totals: dict[int, int] = {}
    squares: dict[int, int] = {}
    for value in values:
        numerator, denominator = value.as_integer_ratio()
        totals[denominator] = totals.get(denominator, 0) + numerator
        squares[denominator] = squares.get(denominator, 0) + numerator**2
    return (
        sum((Fraction(total, d) for d, total in totals.items()), Fraction(0)),
        sum((Fraction(total, d**2) for d, total in squares.items()), Fraction(0)),
    )


def _square_root(square: Fraction) -> float:
    """Take the root of a fraction that may be beyond the range of floats."""
    if square == 0:
        return 0.0
    # Scaled by a power of four to over 200 bits, so that the integer root has over 100.
    shift = 100 - (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    root = math.isqrt(math.floor(square * Fraction(4) ** shift))
    return float(Fraction(root) / Fraction(2) ** shift)


def _histograms(maps: Tensor, truth: Tensor, thresholds: Tensor) -> Tensor:
    """Count the pixels of background and foreground by bin: int64 (2, bins)."""
    flat, bins = maps.flatten(1), thresholds.numel()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    scaled = (flat - low) / (high - low)
    # Searched, not multiplied: this cannot round a value across its threshold.
    index = torch.bucketize(scaled, thresholds, right=True) - 1
    index += bins * truth.flatten(1)
    return torch.bincount(index.flatten(), minlength=2 * bins).view(2, bins).cpu()


def _summed_counts(name: str, counts: Tensor, n: int) -> list[int]:
    """Sum counts of background and foreground, integers (B, 2), over the images."""
    if not isinstance(counts, Tensor) or counts.is_floating_point():
        raise TypeError(f"scores.{name}: takes an integer tensor (B, 2)")
    if counts.shape != (n, 2):
        raise ValueError(f"scores.{name}: got {tuple(counts.shape)}, takes {(n, 2)}")
    return [int(total) for total in counts.sum(dim=0).tolist()]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean_or_nan(accumulator: MeanAccumulator) -> float:
    """Compute a mean, NaN where every value is missing."""
    return accumulator.compute().mean if accumulator._n else math.nan


def _require_same_type(accumulator: object, other: object) -> None:
    if type(other) is not type(accumulator):
        raise TypeError(
            f"other: got {type(other).__name__}, takes a {type(accumulator).__name__}"
        )


def _require_state(
    accumulator: MeanAccumulator | HistogramAccumulator | SegmentationAccumulator,
    state: Mapping[str, Any],
) -> None:
    """Raise unless a state has the kind and the fields of this accumulator's own."""
    own = accumulator.state()
    if not isinstance(state, Mapping) or state.keys() != own.keys():
        raise ValueError(f"state: takes the fields {', '.join(own)}")
    if state["kind"] != own["kind"]:
        raise ValueError(f"state: got that of a {state['kind']}, takes {own['kind']}")
