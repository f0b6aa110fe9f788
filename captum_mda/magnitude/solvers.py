"""Solvers of MDA's second step: the concave curve nearest to a mean response curve.

The problem (ICLR 2025, section 4.2): minimise the sum of squares of AD - MR_mean where
AD is concave and increasing from 0 to 1. Increasing need not be asked for: a concave
curve that ends in its maximum never falls, and capping it at 1 never moves it away from
the data.

In the form used here AD is the straight line plus a non-negative combination of tents,

    AD_k = k/n + sum_j w_j (min(k, j)/j - k/n),   w_j >= 0,   0 < j < n,

because every concave curve with these ends bends down at some steps j and nowhere up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

FloatArray = NDArray[np.float64]


class DensitySolver(Protocol):
    """Finds the concave curve nearest to a mean response curve."""

    def __call__(self, mean_curve: FloatArray) -> FloatArray:
        """Solve for one curve.

        Args:
            mean_curve (ndarray): float64 (n + 1,), MR_mean, from 0 to 1.

        Returns:
            *ndarray*: float64 (n + 1,), AD: concave, increasing, from 0 to 1.
        """
        ...


def solve_by_nnls(mean_curve: FloatArray) -> FloatArray:
    """Solve exactly by non-negative least squares over the tents (SciPy).

    Args:
        mean_curve (ndarray): float64 (n + 1,), from 0 to 1.

    Returns:
        *ndarray*: float64 (n + 1,), AD.

    Example::

        >>> solve_by_nnls(np.array([0.0, 0.2, 0.9, 1.0])).round(3)
        array([0. , 0.4, 0.8, 1. ])
    """
    if len(mean_curve) == 2:  # no tents: SciPy corrupts its memory
        return np.array([0.0, 1.0])
    tents, scale, excess = _problem(mean_curve)
    # SciPy's default limit is 3 n iterations; plateaus can need a few more.
    weights, _ = nnls(tents, excess, maxiter=30 * len(mean_curve))
    return _curve(weights * scale)


def solve_by_osqp(mean_curve: FloatArray) -> FloatArray:
    """Solve with OSQP, on ever larger sets of tents until no tent is missing.

    Neighbouring tents are nearly parallel, and a first-order solver that is given all
    of them at once stops far from the optimum (by 0.1 at n = 400, whatever its
    tolerances). So tents are taken up where the gradient asks for them, OSQP decides
    which of them carry weight, and least squares gives the weights themselves: the
    support reduction of Groeneboom, Jongbloed and Wellner (2008).

    Args:
        mean_curve (ndarray): float64 (n + 1,), from 0 to 1.

    Returns:
        *ndarray*: float64 (n + 1,), AD.

    Raises:
        RuntimeError: The optimality conditions are not met at the end.

    Example::

        >>> solve_by_osqp(np.array([0.0, 0.2, 0.9, 1.0])).round(3)
        array([0. , 0.4, 0.8, 1. ])
    """
    tents, scale, excess = _problem(mean_curve)
    size = np.abs(excess).max(initial=0.0) or 1.0  # the tolerances are absolute
    excess = excess / size
    weights = np.zeros(len(excess))
    for _ in range(10 * len(mean_curve)):
        gradient = tents.T @ (tents @ weights - excess)
        wanted = _local_minima_below(gradient, -OPTIMALITY_TOLERANCE)
        candidates = np.flatnonzero((weights > 0) | wanted)
        if not (wanted & (weights == 0)).any():
            return _curve(weights * scale * size)
        weights = np.zeros(len(excess))
        weights[candidates] = _nonnegative_by_osqp(tents[:, candidates], excess)
    raise RuntimeError(
        "solver: OSQP did not reach the optimality conditions to "
        f'{OPTIMALITY_TOLERANCE:g}; use solver="nnls"'
    )


OPTIMALITY_TOLERANCE = 1e-12


SOLVERS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "nnls": solve_by_nnls,
    "osqp": solve_by_osqp,
}


def _problem(mean_curve: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Build the tents of unit length, what scales them back, and the data's excess."""
    n = len(mean_curve) - 1
    inner = np.arange(1, n, dtype=np.float64)
    tents = np.minimum.outer(inner, inner) / inner - inner[:, None] / n  # (n-1, n-1)
    scale = 1.0 / np.linalg.norm(tents, axis=0)
    return tents * scale, scale, mean_curve[1:-1] - inner / n


def _curve(weights: FloatArray) -> FloatArray:
    """Build AD from the tents' weights; its increments never rise, to the last bit."""
    n = len(weights) + 1
    weights = weights / max(1.0, weights.sum())  # no further than rounding above 1
    hinges = np.append(weights, max(0.0, 1.0 - weights.sum())) / np.arange(1, n + 1)
    increments = hinges[::-1].cumsum()[::-1]
    curve = np.concatenate([[0.0], increments.cumsum()])
    curve[-1] = 1.0
    return curve


def _local_minima_below(values: FloatArray, bound: float) -> NDArray[np.bool_]:
    padded = np.pad(values, 1, constant_values=np.inf)
    lowest = (values <= padded[:-2]) & (values < padded[2:])
    return lowest & (values < bound)


def _nonnegative_by_osqp(columns: FloatArray, excess: FloatArray) -> FloatArray:
    """Fit non-negative weights of a few columns."""
    weights = _least_squares(columns, excess)
    if (weights >= 0).all():
        return weights
    positive = _positive_by_osqp(columns, excess)
    while not ((weights := _least_squares(columns[:, positive], excess)) > 0).all():
        positive[np.flatnonzero(positive)[weights.argmin()]] = False
    fitted = np.zeros(columns.shape[1])
    fitted[positive] = weights
    return fitted


def _positive_by_osqp(columns: FloatArray, excess: FloatArray) -> NDArray[np.bool_]:
    """Ask OSQP which columns carry weight in the non-negative least squares fit."""
    import osqp
    from scipy import sparse

    n = columns.shape[1]
    problem = osqp.OSQP()
    problem.setup(
        sparse.csc_matrix(np.triu(columns.T @ columns)),
        -columns.T @ excess,
        sparse.eye(n, format="csc"),
        np.zeros(n),
        np.full(n, np.inf),
        eps_abs=1e-9,
        eps_rel=1e-9,
        max_iter=100_000,
        verbose=False,
    )
    result = problem.solve(raise_error=False)
    if result.info.status_val != osqp.SolverStatus.OSQP_SOLVED:
        raise RuntimeError(f'solver: OSQP stopped with "{result.info.status}"')
    positive: NDArray[np.bool_] = result.x > 1e-9
    return positive


def _least_squares(columns: FloatArray, excess: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(columns, excess, rcond=None)[0], np.float64)
