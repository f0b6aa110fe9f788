"""Segmentation scores of a data set, from counts and exact means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from captum_mda._checks import require_count, require_integers
from captum_mda.metrics.exact_means import (
    example_values,
    MeanAccumulator,
    require_same_type,
    require_state,
)

_MEANS = ("iou", "average_precision", "f1")
# The right pixels of a class are its intersection.
_COUNTS = ("intersection", "union", "pixels")


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
        require_same_type(self, other)
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
        require_state(result, state)
        for part, names in (("means", _MEANS), ("counts", _COUNTS)):
            if not isinstance(state[part], Mapping) or set(names) - set(state[part]):
                raise ValueError(f"state: {part} takes the fields {', '.join(names)}")
        result._means = {
            name: MeanAccumulator.from_state(state["means"][name]) for name in _MEANS
        }
        counts = {name: _pair(state["counts"], name) for name in _COUNTS}
        n = require_count("state: n", state["n"])
        n_missing = require_count("state: n_missing", state["n_missing"])
        result._add(n, n_missing, counts)
        return result

    def _add(self, n: int, n_missing: int, counts: Mapping[str, Sequence[int]]) -> None:
        self._n += n
        self._n_missing += n_missing
        for name, pair in self._counts.items():
            self._counts[name] = [
                mine + more for mine, more in zip(pair, counts[name], strict=True)
            ]


def _summed_counts(name: str, counts: Tensor, n: int) -> list[int]:
    """Sum counts of background and foreground, integers (B, 2), over the images."""
    if not isinstance(counts, Tensor) or counts.is_floating_point():
        raise TypeError(f"scores.{name}: takes an integer tensor (B, 2)")
    require_integers(f"scores.{name}", counts)
    if counts.shape != (n, 2):
        raise ValueError(f"scores.{name}: got {tuple(counts.shape)}, takes {(n, 2)}")
    if counts.numel() and int(counts.min()) < 0:
        raise ValueError(
            f"scores.{name}: got {int(counts.min())} pixels, takes numbers from 0 on"
        )
    return [int(total) for total in counts.sum(dim=0).tolist()]


def _pair(counts: Mapping[str, Any], name: str) -> list[int]:
    pair = counts[name]
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise ValueError(f"state: {name} takes two counts")
    return [require_count(f"state: {name}", count) for count in pair]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean_or_nan(accumulator: MeanAccumulator) -> float:
    """Compute a mean, NaN where every value is missing."""
    return accumulator.compute().mean if accumulator._n else math.nan
