"""From a map to foreground and background: the thresholds of segmentation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from captum_mda._checks import require_in_unit_interval

Threshold = Literal["mean", "oracle"]

ORACLE_THRESHOLDS = [step / 20 for step in range(8, 20)]  # 0.40, 0.45, ..., 0.95


def require_threshold(threshold: float | Threshold) -> None:
    """Raise unless ``threshold`` is "mean", "oracle" or a number from 0 to 1."""
    if isinstance(threshold, str):
        if threshold not in ("mean", "oracle"):
            raise ValueError(
                f"threshold: got {threshold!r}, takes 'mean', 'oracle' or a number "
                "from 0 to 1"
            )
    else:
        require_in_unit_interval("threshold", threshold)


def foreground(maps: Tensor, truth: Tensor, threshold: float | Threshold) -> Tensor:
    """Tell which pixels lie strictly above the threshold.

    Args:
        maps (Tensor): float64 (B, H, W).
        truth (Tensor): bool (B, H, W), which only the oracle looks at.
        threshold (str or float): See `segmentation_scores`.

    Returns:
        *Tensor*: bool (B, H, W); what it holds for a constant map means nothing.
    """
    if threshold == "mean":
        return maps > maps.mean(dim=(1, 2), keepdim=True)
    risen = maps - maps.amin(dim=(1, 2), keepdim=True)
    if threshold == "oracle":
        # Scaling to [0, 1] first, as published, cancels in the mean of 0.5.
        scaled = risen / (2 * risen.mean(dim=(1, 2), keepdim=True))
        return _best_foreground(scaled, truth)
    return risen / risen.amax(dim=(1, 2), keepdim=True) > threshold


def _best_foreground(scaled: Tensor, truth: Tensor) -> Tensor:
    """Take of the oracle's thresholds the one with the highest IoU, for each image."""
    best = torch.zeros_like(truth)
    best_iou = torch.full_like(scaled[:, :1, :1], -1.0)
    for threshold in ORACLE_THRESHOLDS:
        found = scaled > threshold
        shared = (found & truth).sum(dim=(1, 2), keepdim=True)
        iou = shared / (found | truth).sum(dim=(1, 2), keepdim=True).double()
        better = iou > best_iou  # strictly, so the first of equals stays
        best = torch.where(better, found, best)
        best_iou = torch.where(better, iou, best_iou)
    return best
