"""MDA as the paper tells it: one image, one forward at a time, in float64.

Slow and obvious on purpose; shares no code with the package. A model here is a function
of a set of patches on one of two baselines: ``score(present, kind)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

Scorer = Callable[[frozenset[int], str], float]


def literal_order(
    score: Scorer, n: int, tau: float, seed: list[float] | None, window: int
) -> tuple[list[int], int]:
    """Find the order of n patches and how many of them were inserted."""
    everything = frozenset(range(n))
    full, base = score(everything, "insertion"), score(frozenset(), "insertion")
    ranks = seed if seed is not None else [0.0] * n
    best = sorted(range(n), key=lambda j: (-ranks[j], j))
    worst = sorted(range(n), key=lambda j: (ranks[j], j))
    front: list[int] = []
    response = base
    while len(front) < n and (tau == 1 or (response - base) / (full - base) < tau):
        candidates = sorted([j for j in best if j not in front][:window])
        responses = [score(frozenset([*front, j]), "insertion") for j in candidates]
        response = max(responses)
        front.append(candidates[responses.index(response)])
    back: list[int] = []
    while len(front) + len(back) < n:
        left = [j for j in worst if j not in front and j not in back]
        candidates = sorted(left[:window])
        responses = [score(frozenset([*back, j]), "deletion") for j in candidates]
        back.append(candidates[responses.index(min(responses))])
    return front + back[::-1], len(front)


def literal_curves(
    score: Scorer, order: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the monotone responses of an order, and MR_mean."""
    n = len(order)
    full = score(frozenset(order), "insertion")
    base = score(frozenset(), "insertion")
    zero = score(frozenset(), "deletion")
    insertion, deletion = [0.0], [1.0]
    for k in range(1, n + 1):
        raw = score(frozenset(order[:k]), "insertion")
        insertion.append(
            max(insertion[-1], min(1.0, max(0.0, (raw - base) / (full - base))))
        )
        raw = score(frozenset(order[k:]), "deletion")
        deletion.append(
            min(deletion[-1], min(1.0, max(0.0, (raw - zero) / (full - zero))))
        )
    rising, falling = np.array(insertion), np.array(deletion)
    return rising, falling, (rising + 1 - falling) / 2


def literal_density(mean_curve: np.ndarray) -> np.ndarray:
    """Fit AD by general-purpose minimisation over non-increasing increments."""
    n = len(mean_curve) - 1
    result = minimize(
        lambda d: ((np.concatenate([[0], d.cumsum()]) - mean_curve) ** 2).sum(),
        np.full(n, 1 / n),
        method="SLSQP",
        bounds=[(0, 1)] * n,
        constraints=[
            {"type": "eq", "fun": lambda d: d.sum() - 1},
            {"type": "ineq", "fun": lambda d: d[:-1] - d[1:]},
        ],
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    return np.concatenate([[0], result.x.cumsum()])


def literal_magnitudes(
    density: np.ndarray, sizes: list[float], rule: str, gamma: float, kappa: float
) -> np.ndarray:
    """Compute the magnitudes along the order: Eq. 10 to 12, published rescale."""
    n = len(density) - 1
    sparse = []
    for i in range(1, n + 1):
        increment, factor = density[i] - density[i - 1], (n - i) / n
        first = {
            "reference": increment / sizes[i - 1],
            "paper": increment,
            "increment": increment,
        }[rule]
        second = 0.0 if rule == "increment" else increment * factor
        sparse.append(first + second + 1e-6 * factor)
    dense = [(n - i) / n if a >= kappa else a for i, a in enumerate(sparse, start=1)]
    scale = max(sparse) / max(dense)
    return np.array(
        [
            (1 - gamma) * a + gamma * d * scale
            for a, d in zip(sparse, dense, strict=True)
        ]
    )
