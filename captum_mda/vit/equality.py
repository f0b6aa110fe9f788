"""Differences between two runs of a model, and how large they may be."""

from __future__ import annotations

import torch
from torch import Tensor

# Relative to the largest value; half precision rounds in every layer.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
HALF_TOLERANCE = 5e-2
# Smaller outputs may be the rounding errors of larger numbers.
_SMALLEST_SCALE = 1e-2


def tolerance_of(dtype: torch.dtype) -> float:
    """Look up the largest accepted difference, relative to the largest value."""
    return _TOLERANCES.get(dtype, HALF_TOLERANCE)


def differences(got: Tensor, wanted: Tensor) -> Tensor:
    """Compute the largest difference per row (B, ...): float64 (B,), NaN for NaN."""
    both = torch.promote_types(got.dtype, wanted.dtype)
    apart = (got.to(both) - wanted.to(both)).abs()
    apart = torch.where(got == wanted, torch.zeros_like(apart), apart)  # infinities
    return apart.reshape(len(apart), -1).amax(dim=1).double()


def differs(got: Tensor, wanted: Tensor, tolerance: float | None = None) -> Tensor:
    """Tell which rows (B, ...) differ by more than rounding: bool (B,).

    Args:
        got (Tensor): (B, ...).
        wanted (Tensor): (B, ...), of the same shape.
        tolerance (float, optional): The largest accepted difference, relative to each
            row's largest value. None: by the dtype of ``wanted``. Default: None
    """
    if tolerance is None:
        tolerance = tolerance_of(wanted.dtype)
    largest = wanted.abs().reshape(len(wanted), -1).amax(dim=1).double()
    near = differences(got, wanted) <= tolerance * largest.clamp(min=_SMALLEST_SCALE)
    return ~near
