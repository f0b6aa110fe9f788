"""How well maps find objects at every threshold, from histograms that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_mda._checks import require_count, require_positive_integer
from captum_mda._summaries import Brief
from captum_mda.metrics.degenerate import map_status, OK
from captum_mda.metrics.exact_means import require_same_type, require_state
from captum_mda.metrics.masked_maps import maps_and_masks
from captum_mda.perturbation.maps import AnyMaps


@dataclass(frozen=True, eq=False, repr=False)
class ThresholdCurve(Brief):
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
        bins = require_positive_integer("bins", bins)
        self._n = 0
        self._counts = torch.zeros(2, bins, dtype=torch.int64)

    @property
    def bins(self) -> int:
        """The number of bins."""
        return self._counts.shape[1]

    def update(self, attributions: AnyMaps, masks: Tensor) -> None:
        """Take in maps, (B, C, H, W), their channels summed, or (B, H, W), with masks.

        Args:
            attributions (Tensor): Finite maps, none of them constant; grids of patches
                are painted onto equal cells of the masks.
            masks (Tensor): Where the object is: bool, or integers 0 and 1, (B, H, W) or
                (B, 1, H, W).

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: A shape or a value does not fit, or a map is constant.
        """
        maps, truth = maps_and_masks(attributions, masks)
        status = map_status(maps.flatten(1))
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
        require_same_type(self, other)
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
        require_state(result, state)
        try:
            counts = torch.tensor(state["counts"], dtype=torch.int64)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"state: its counts are no integers (2, bins) ({error})"
            ) from error
        if counts.dim() != 2 or counts.shape[0] != 2 or counts.shape[1] == 0:
            raise ValueError(
                f"state: got counts {tuple(counts.shape)}, takes (2, bins)"
            )
        if int(counts.min()) < 0:
            raise ValueError("state: a count is negative, takes numbers from 0 on")
        result._n, result._counts = require_count("state: n", state["n"]), counts
        return result

    def _thresholds(self) -> Tensor:
        return torch.arange(self.bins, dtype=torch.float64) / self.bins


def _histograms(maps: Tensor, truth: Tensor, thresholds: Tensor) -> Tensor:
    """Count the pixels of background and foreground by bin: int64 (2, bins)."""
    flat, bins = maps.flatten(1), thresholds.numel()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    scaled = (flat - low) / (high - low)
    # Searched, not multiplied: this cannot round a value across its threshold.
    index = torch.bucketize(scaled, thresholds, right=True) - 1
    index += bins * truth.flatten(1)
    return torch.bincount(index.flatten(), minlength=2 * bins).view(2, bins).cpu()
