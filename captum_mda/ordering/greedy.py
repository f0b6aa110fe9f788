"""Parts that the greedy searches share: candidates, and subsets with each added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt

import numpy as np
import torch

from captum_mda.ordering.base import SearchResult, SearchTask
from captum_mda.ordering.lockstep import Bools, Floats, run_in_lockstep, Search
from captum_mda.ordering.screening import Screening

LARGEST_DEFAULT_WINDOW = 28

Found = tuple[list[int], int, Floats, Floats]
"""An order, its number of inserted features, and both curves, NaN where unknown."""


def order_side_by_side(
    task: SearchTask, search: Callable[[SearchTask, int], Search[Found]]
) -> SearchResult:
    """Run the searches of all of a task's examples in lockstep."""
    searches = [search(task, int(example)) for example in task.examples]
    found = run_in_lockstep(searches, task.examples, task.responses)
    orders, n_inserted, insertion, deletion = zip(*found, strict=True)
    return SearchResult(
        order=torch.tensor(orders),
        n_inserted=torch.tensor(n_inserted),
        insertion=torch.from_numpy(np.stack(insertion)),
        deletion=torch.from_numpy(np.stack(deletion)),
    )


def rank_candidates(
    task: SearchTask, example: int, window: int | None
) -> tuple[list[int], list[int], int]:
    """Rank the features by the prior, best and worst first, and size the window."""
    n = task.responses.n_features
    if task.prior is None:
        return list(range(n)), list(range(n)), n
    best_first, worst_first = ranked_both_ways(task.prior[example].numpy())
    return best_first, worst_first, window or default_window(n)


def ranked_both_ways(prior: Floats) -> tuple[list[int], list[int]]:
    """Rank the features by a prior (N,), best and worst first; ties by index."""
    best_first = np.argsort(-prior, kind="stable").tolist()
    worst_first = np.argsort(prior, kind="stable").tolist()
    return best_first, worst_first


def default_window(n_features: int) -> int:
    """Size the window as the paper does."""
    return min(2 * isqrt(n_features), LARGEST_DEFAULT_WINDOW)


def reached(response: float, base: float, full: float, tau: float) -> bool:
    """Tell whether insertion ends here; with tau = 1 it ends at the last feature."""
    return tau < 1.0 and (response - base) / abs(full - base) >= tau


def first_unplaced(ranking: list[int], placed: list[int], window: int) -> list[int]:
    """List the candidates of a step by index, so that ties go to the lowest."""
    taken = set(placed)
    unplaced = (feature for feature in ranking if feature not in taken)
    return sorted(feature for feature, _ in zip(unplaced, range(window), strict=False))


def best_with_each(
    screening: Screening,
    candidates: list[int],
    present: list[int],
    *,
    baseline_index: int,
    sense: int,
    full: float,
    n: int,
) -> Search[tuple[int, float]]:
    """Find the candidate with the best response when it is added to what is present.

    Args:
        screening (Screening): Decides.
        candidates (list[int]): Of equal ones the first is found.
        present (list[int]): The features that are present already.
        baseline_index (int): The baseline that stands for the absent features.
        sense (int): 1 where a higher response is better, -1 where a lower one is.
        full (float): The response to the whole image.
        n (int): The number of features.

    Returns:
        *tuple[int, float]*: the candidate and its response.
    """
    if len(present) == n - 1:
        return candidates[0], full  # the last feature completes the image
    subsets = subsets_with_each(candidates, present, n)
    screened = yield from screening.screen(subsets, baseline_index, sense)
    best = yield from screening.best_of(screened)
    return candidates[best], float(screened.responses[best])


def subsets_with_each(
    candidates: Sequence[int], present: Sequence[int], n: int
) -> Bools:
    """Add each candidate to what is present: bool (K, N)."""
    subsets = np.zeros((len(candidates), n), dtype=bool)
    subsets[:, list(present)] = True
    subsets[np.arange(len(candidates)), list(candidates)] = True
    return subsets
