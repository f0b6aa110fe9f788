"""What a response curve is: pure functions that MDA and the metrics share.

A curve has n + 1 points: the response after 0, 1, ..., n steps. Steps run along the
last dimension; everything before it is a batch. Computations are in float64.

Reference: Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers",
ICLR 2025 (Eq. 1 to 7), and its published code where the paper is silent.
"""

from __future__ import annotations

from typing import Literal, TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Mode = Literal["insertion", "deletion"]


def normalized(
    raw: Float[Tensor, "*batch K"],
    baseline: Float[Tensor, "*batch"],
    full: Float[Tensor, "*batch"],
) -> Float64[Tensor, "*batch K"]:
    """Rescale responses so that the baseline's is 0 and the full input's is 1.

    Args:
        raw (Tensor): (..., K) raw responses.
        baseline (Tensor): (...) response of the baseline.
        full (Tensor): (...) response of the full input; above the baseline's.

    Returns:
        *Tensor*: (..., K) float64, not clipped.
    """
    raw, baseline, full = raw.double(), baseline.double(), full.double()
    return (raw - baseline[..., None]) / (full - baseline).abs()[..., None]


def monotone_response(
    raw: Float[Tensor, "*batch points"],
    baseline: Float[Tensor, "*batch"],
    full: Float[Tensor, "*batch"],
    mode: Mode,
) -> Float64[Tensor, "*batch points"]:
    """Compute the monotone response MR: normalised, clipped, running extremum.

    Args:
        raw (Tensor): (..., n + 1) raw responses.
        baseline (Tensor): (...) response of the baseline.
        full (Tensor): (...) response of the full input; above the baseline's.
        mode (str): "insertion" takes the running maximum, "deletion" the running
            minimum.

    Returns:
        *Tensor*: (..., n + 1) float64 in [0, 1], non-decreasing under insertion,
        non-increasing under deletion.
    """
    clipped = normalized(raw, baseline, full).clamp(0.0, 1.0)
    if mode == "insertion":
        return clipped.cummax(dim=-1).values
    return clipped.cummin(dim=-1).values


def density_response(
    mass: Float[Tensor, "*batch n"], mode: Mode
) -> Float64[Tensor, "*batch n+1"]:
    """Compute the density response DR: the share of attribution present at each step.

    Args:
        mass (Tensor): (..., n) attribution added or removed in each step, not negative,
            with a positive sum.
        mode (str): "insertion" rises from 0 to 1, "deletion" falls from 1 to 0.

    Returns:
        *Tensor*: (..., n + 1) float64 in [0, 1].
    """
    mass = mass.double()
    zero = torch.zeros_like(mass[..., :1])
    total = mass.sum(dim=-1, keepdim=True)
    moved = torch.cat([zero, mass.cumsum(dim=-1) / total], dim=-1).clamp(max=1.0)
    return moved if mode == "insertion" else 1.0 - moved


def alignment_penalty(
    response: Float[Tensor, "*batch points"], density: Float[Tensor, "*batch points"]
) -> Float[Tensor, "*batch points"]:
    """Compute the alignment penalty AP = abs(MR - DR), (..., n + 1)."""
    return (response - density).abs()


def mas_curve(
    response: Float[Tensor, "*batch points"],
    penalty: Float[Tensor, "*batch points"],
    mode: Mode,
) -> Float[Tensor, "*batch points"]:
    """Compute the magnitude-aligned response, as published: clipped and stretched.

    Args:
        response (Tensor): (..., n + 1) monotone response MR.
        penalty (Tensor): (..., n + 1) alignment penalty AP.
        mode (str): "insertion" subtracts the penalty, "deletion" adds it.

    Returns:
        *Tensor*: (..., n + 1) float64; clipped to [0, 1], then stretched so that its
        extremes are 0 and 1. A curve that the clipping leaves constant is replaced by
        the straight line, whose area is 0.5.
    """
    curve = response - penalty if mode == "insertion" else response + penalty
    curve = curve.clamp(0.0, 1.0)
    low, high = curve.amin(-1, keepdim=True), curve.amax(-1, keepdim=True)
    ends = (0.0, 1.0) if mode == "insertion" else (1.0, 0.0)
    line = torch.linspace(
        *ends, curve.shape[-1], dtype=curve.dtype, device=curve.device
    )
    stretched = (curve - low) / (high - low)
    return torch.where(high == low, line, stretched)


def area(curve: Float[Tensor, "*batch points"]) -> Float64[Tensor, "*batch"]:
    """Integrate a curve by the trapezoid rule over [0, 1]: (..., n + 1) to (...)."""
    return torch.trapezoid(curve.double(), dim=-1) / (curve.shape[-1] - 1)
