"""From the two response curves to MR_mean, and from that to the wanted density AD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captum_mda.magnitude.solvers import DensitySolver, FloatArray, SOLVERS

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Solver = str | DensitySolver
"""A solver's name, or a callable of `DensitySolver`'s signature."""

# What a solver may be off by and still be taken at its word.
SOLVER_TOLERANCE = 1e-6


def mean_response(
    insertion_curve: Float[Tensor, "B points"],
    deletion_curve: Float[Tensor, "B points"],
) -> Float64[Tensor, "B points"]:
    """Average both monotone responses of one order: MR_mean, Eq. 7.

    Args:
        insertion_curve (Tensor): (B, N + 1), from 0 to 1.
        deletion_curve (Tensor): (B, N + 1), from 1 to 0.

    Returns:
        *Tensor*: float64 (B, N + 1), from 0 to 1.
    """
    return (insertion_curve.double() + 1.0 - deletion_curve.double()) / 2.0


def resampled(
    curve: Float64[Tensor, "B points"], n_features: int
) -> Float64[Tensor, "B {n_features}+1"]:
    """Read a curve of any number of steps at N + 1 equally spaced points.

    Args:
        curve (Tensor): float64 (B, n + 1).
        n_features (int): N.

    Returns:
        *Tensor*: float64 (B, N + 1), linearly interpolated.
    """
    old = np.linspace(0.0, 1.0, curve.shape[1])
    new = np.linspace(0.0, 1.0, n_features + 1)
    rows = [np.interp(new, old, row) for row in curve.numpy()]
    return torch.from_numpy(np.stack(rows))


def fit_density(
    mean_curve: Float64[Tensor, "B points"], solver: Solver
) -> Float64[Tensor, "B points"]:
    """Find the concave curve AD nearest to each mean response curve (Eq. 8 and 9).

    Args:
        mean_curve (Tensor): float64 (B, N + 1), from 0 to 1.
        solver (str or callable): "nnls", "osqp", or a callable of `DensitySolver`'s
            signature.

    Returns:
        *Tensor*: float64 (B, N + 1), concave, increasing, from 0 to 1.

    Raises:
        ValueError: A callable returns no such curve.
    """
    solve = SOLVERS[solver] if isinstance(solver, str) else solver
    curves = [_checked(solve(curve), len(curve)) for curve in mean_curve.cpu().numpy()]
    return torch.from_numpy(np.stack(curves))


def _checked(curve: FloatArray, n_points: int) -> FloatArray:
    """Check a solution against its constraints."""
    given = np.asarray(curve)
    if given.dtype.kind not in "fiu":
        raise TypeError(
            f"solver: returned {type(curve).__name__} of {given.dtype}, must return an "
            "array of real numbers"
        )
    curve = given.astype(np.float64)
    if curve.shape != (n_points,):
        raise ValueError(
            f"solver: returned shape {curve.shape}, must return shape {(n_points,)}"
        )
    if not np.isfinite(curve).all():
        raise ValueError("solver: returned NaN or infinite values")
    increments = np.diff(curve)
    off = max(
        abs(curve[0]),
        abs(curve[-1] - 1.0),
        -increments.min(),
        np.diff(increments).max(initial=0.0),
    )
    if off > SOLVER_TOLERANCE:
        raise ValueError(
            "solver: must return a concave, increasing curve from 0 to 1; the one it "
            f"returned is off by {off:.2g}"
        )
    return curve
