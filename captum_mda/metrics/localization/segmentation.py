"""Segmentation scores of a map against the mask of an object.

Two conventions are in use, and their numbers must not be mixed:

``convention="exact"`` is what the names say: the average precision is that of the
continuous map, F1 and pixel accuracy are taken over all pixels of an image.

``convention="mda"`` is that of the MDA tables, inherited from Chefer et al. in part.
The average precision is that of the binarised map, F1 is averaged over image rows, and
pixel accuracy is the share of the foreground that was found.

References: Guillaumin, Küttel, Ferrari, "ImageNet Auto-Annotation with Segmentation
Propagation", IJCV 2014 (the data); Chefer, Gur, Wolf, "Transformer Interpretability
Beyond Attention Visualization", CVPR 2021; Walker, Jha, Ewetz, "Metric-Driven
Attributions for Vision Transformers", ICLR 2025, and its published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args, Literal

import torch
from torch import Tensor

from captum_mda._captum import log_usage
from captum_mda._checks import require_choice
from captum_mda._results import BatchResult
from captum_mda._summaries import Columns, examples
from captum_mda.metrics._degenerate import map_status, OnDegenerate, report_degenerate
from captum_mda.metrics.localization import _masked_maps
from captum_mda.metrics.localization._thresholds import (
    foreground,
    require_threshold,
    Threshold,
)
from captum_mda.perturbation.maps import AnyMaps

MaskConvention = Literal["exact", "mda"]

_NO_MASK = "there is nothing to tell apart; drop such examples"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SegmentationScores(BatchResult):
    """The segmentation scores of a batch of maps; all are better when higher.

    Scores are float64 (B,) on the CPU, in [0, 1], and NaN for a degenerate example.
    Counts are int64 (B, 2) on the CPU, of background and foreground, and 0 for a
    degenerate example; sum them over the batches of a data set.

    Args:
        iou (Tensor): Intersection over union of the foreground.
        average_precision (Tensor): Area under the precision-recall curve.
        f1 (Tensor): Harmonic mean of the foreground's precision and recall.
        pixel_accuracy (Tensor): Share of the pixels that are right; under "mda" of the
            foreground's pixels.
        intersection (Tensor): Pixels that map and mask both take for the class.
        union (Tensor): Pixels that map or mask take for the class.
        pixels (Tensor): Pixels of the class in the mask.
        status (tuple[str, ...]): Of each example "ok", "constant map", "empty mask" or
            "full mask".
    """

    iou: Tensor
    average_precision: Tensor
    f1: Tensor
    pixel_accuracy: Tensor
    intersection: Tensor
    union: Tensor
    pixels: Tensor
    status: tuple[str, ...]

    @property
    def correct(self) -> Tensor:
        """Pixels of each class that are right, int64 (B, 2): the intersection."""
        return self.intersection

    @property
    def mean_iou(self) -> float:
        """Mean over both classes of intersection over union, each summed over images.

        NaN where no example could be scored.
        """
        return float((self.intersection.sum(0) / self.union.sum(0).double()).mean())

    def _summary(self) -> tuple[str, Columns]:
        return f"{examples(len(self.iou))}, mean IoU {self.mean_iou:.4f}", {
            "IoU": self.iou,
            "average precision": self.average_precision,
            "F1": self.f1,
            "pixel accuracy": self.pixel_accuracy,
            "status": self.status,
        }


@log_usage(part_of_slo=True)
def segmentation_scores(
    attributions: AnyMaps,
    masks: Tensor,
    threshold: float | Threshold = "mean",
    convention: MaskConvention = "exact",
    on_degenerate: OnDegenerate = "raise",
) -> SegmentationScores:
    """Segmentation scores; higher is better, in [0, 1] (Chefer et al. 2021).

    Args:
        attributions (Tensor): Maps (B, C, H, W), whose channels are summed, or
            (B, H, W), of the masks' height and width; or grids of patches, which are
            painted onto equal cells of the masks.
        masks (Tensor): Where the object is: bool, or integers 0 and 1, (B, H, W) or
            (B, 1, H, W).
        threshold (str or float, optional): Above what a pixel is foreground, always
            strictly. "mean": the map's mean. A number in [0, 1]: that, after the map
            was scaled to [0, 1]. "oracle": the map is scaled to start at 0 and have
            the mean 0.5, and of 0.40, 0.45, ..., 0.95 the threshold with the highest
            foreground IoU is taken, the lowest at ties. The oracle is how the MDA
            tables score MDA, but no other method: **it peeks at the ground truth** of
            each image and flatters the map, so compare it only with itself.
            Default: "mean"
        convention (str, optional): "exact" or "mda", see the module.
            Default: "exact"
        on_degenerate (str, optional): What becomes of a constant map, or a mask without
            foreground or without background: "raise", or "nan" to score it NaN, leave
            it out of the counts, and warn. Default: "raise"

    Returns:
        *SegmentationScores*: four scores, each float64 (B,) in [0, 1], the pixel counts
        and the status of each example. Average precision depends on the threshold under
        "mda" only.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or a value does not fit, or under "raise" an example is
            degenerate.

    Reference:
        Chefer, Gur, Wolf, CVPR 2021, section 4; Walker, Jha, Ewetz, ICLR 2025, and its
        published code.

    Example::

        >>> import torch
        >>> from captum_mda.metrics import segmentation_scores
        >>> masks = torch.tensor([[[1, 1], [0, 0]]])
        >>> maps = torch.tensor([[[0.9, 0.2], [0.3, 0.0]]])
        >>> scores = segmentation_scores(maps, masks)
        >>> scores.iou, scores.pixel_accuracy
        (tensor([0.5000], dtype=torch.float64), tensor([0.7500], dtype=torch.float64))
        >>> round(scores.mean_iou, 4)
        0.5833
    """
    require_choice("convention", convention, get_args(MaskConvention))
    require_choice("on_degenerate", on_degenerate, get_args(OnDegenerate))
    require_threshold(threshold)
    maps, truth = _masked_maps.maps_and_masks(attributions, masks)
    of_maps, of_masks = map_status(maps.flatten(1)), _masked_maps.mask_status(truth)
    report_degenerate("attributions", of_maps, on_degenerate, _masked_maps.NO_MAP)
    report_degenerate("masks", of_masks, on_degenerate, _NO_MASK)
    found = foreground(maps, truth, threshold)
    return _scores(
        maps, truth, found, convention, _masked_maps.joined_status(of_maps, of_masks)
    )


def _scores(
    maps: Tensor,
    truth: Tensor,
    found: Tensor,
    convention: MaskConvention,
    status: tuple[str, ...],
) -> SegmentationScores:
    """Score maps, and the foreground found in them, against the truth."""
    intersection, union, pixels = _counts(truth, found)
    hits, either = intersection[:, 1].double(), union[:, 1].double()  # TP, TP + FP + FN
    right = intersection.sum(dim=1).double() / truth[0].numel()
    if convention == "exact":
        average_precision = _average_precision(maps.flatten(1), truth.flatten(1))
        f1, pixel_accuracy = 2 * hits / (hits + either), right
    else:
        # Flat scores of both channels, n pixels: above the one threshold lie n scores,
        # right * n of them of the n positives, so precision = recall = right. Below it
        # recall gains 1 - right, at the precision of all scores, n / 2n.
        average_precision = right**2 + (1 - right) / 2
        f1, pixel_accuracy = _row_f1(found, truth), hits / pixels[:, 1]
    degenerate = _masked_maps.not_scored(status)
    iou, average_precision, f1, pixel_accuracy = (
        score.cpu().masked_fill(degenerate, torch.nan)
        for score in (hits / either, average_precision, f1, pixel_accuracy)
    )
    intersection, union, pixels = (
        count.cpu().masked_fill(degenerate[:, None], 0)
        for count in (intersection, union, pixels)
    )
    return SegmentationScores(
        iou=iou,
        average_precision=average_precision,
        f1=f1,
        pixel_accuracy=pixel_accuracy,
        intersection=intersection,
        union=union,
        pixels=pixels,
        status=status,
    )


def _counts(truth: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count intersection, union and true pixels of both classes: each int64 (B, 2)."""
    true, taken = (
        torch.stack([~mask, mask], dim=1).flatten(2) for mask in (truth, found)
    )  # (B, 2, H * W)
    return (true & taken).sum(dim=2), (true | taken).sum(dim=2), true.sum(dim=2)


def _row_f1(found: Tensor, truth: Tensor) -> Tensor:
    """Average over image rows the foreground's F1 within the row: (B, H, W) to (B,)."""
    hits = (found & truth).sum(dim=2)
    both = found.sum(dim=2) + truth.sum(dim=2)  # 2 TP + FP + FN
    return (2 * hits / both.clamp(min=1).double()).mean(dim=1)  # 0 where there are none


def _average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    """Sum precision times gain in recall over the distinct scores: (B, N) to (B,)."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    hits = relevant.gather(1, order)
    rank = torch.arange(scores.shape[1], device=scores.device)
    ends_tie = torch.ones_like(hits)
    ends_tie[:, :-1] = scores[:, :-1] != scores[:, 1:]
    # Equal scores pass the threshold together: each takes the precision at their end.
    end = torch.where(ends_tie, rank, len(rank)).flip(1).cummin(dim=1).values.flip(1)
    precision = hits.cumsum(dim=1).gather(1, end).double() / (end + 1)
    return (precision * hits).sum(dim=1) / hits.sum(dim=1)
