"""The rest of the curves: points behind the front, and lines over unknown points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np

from captum_mda.ordering.fast.budget import Budget
from captum_mda.ordering.fast.evaluation import Evaluator
from captum_mda.ordering.fast.state import CurveState
from captum_mda.ordering.lockstep import Floats, Search

# No figures are on record for other values of these two: not tuned.
NEAR_POINTS = 8
"""Number of evaluated points of the insertion curve right behind the front."""
FAR_STRIDE = 8
"""Stride of the evaluated points farther on."""


def follow_insertion(
    state: CurveState, budget: Budget, evaluate: Evaluator, quiet_level: float
) -> Search[None]:
    """Evaluate points behind o_C until the running maximum cannot rise any more.

    Args:
        state (CurveState): With all features placed.
        budget (Budget): The count of forwards.
        evaluate (Evaluator): Evaluates subsets.
        quiet_level (float): Normalised rise of the maximum that is left between points.
    """
    n, first = state.n, len(state.front) + 1
    near = range(first, min(first + NEAR_POINTS, n))
    yield from _evaluate_points(state, evaluate, near)
    far = range(first + NEAR_POINTS - 1 + FAR_STRIDE, n, FAR_STRIDE)
    if _first_at_full(state) is None:
        yield from _evaluate_points(state, evaluate, far)
    known = np.flatnonzero(~np.isnan(state.insertion))
    end = _first_at_full(state) or n
    top, risen = -np.inf, list[int]()
    for left, right in pairwise(known.tolist()):
        top = max(top, state.insertion[left])
        rise = min(state.insertion[right], state.full) - top
        if left < end and rise > quiet_level * (state.full - state.base):
            risen += range(left + 1, right)
    affordable = max(budget.left, n // FAR_STRIDE, 1)
    stride = ceil(len(risen) / affordable) or 1
    yield from _evaluate_points(state, evaluate, risen[::stride])


def interpolated(curve: Floats) -> Floats:
    """Draw straight lines over the unknown points of a curve."""
    points, known = np.arange(len(curve)), ~np.isnan(curve)
    filled: Floats = np.interp(points, points[known], curve[known])
    return filled


def _first_at_full(state: CurveState) -> int | None:
    """Find the first known point at which the response is that of the input."""
    with np.errstate(invalid="ignore"):
        points = np.flatnonzero(state.insertion[:-1] >= state.full)
    return int(points[0]) if len(points) else None


def _evaluate_points(
    state: CurveState, evaluate: Evaluator, points: Sequence[int]
) -> Search[None]:
    if len(points):
        state.insertion[list(points)] = yield from evaluate.prefixes(
            state.order, points
        )
