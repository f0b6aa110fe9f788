"""The search of the MDA paper: greedy within a window of a seed attribution.

Reference: Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers",
ICLR 2025, section 4.1, and its published code for what the paper leaves open.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray

from captum_mda.ordering.base import DELETION, INSERTION, SearchResult, SearchTask
from captum_mda.ordering.lockstep import Query, run_in_lockstep, Search
from captum_mda.perturbation.inputs import require_positive_integer

LARGEST_DEFAULT_WINDOW = 28

_Found = tuple[list[int], int, NDArray[np.float64], NDArray[np.float64]]


class PaperOrdering:
    """Orders patches by asking the insertion metric first and then the deletion metric.

    From the insertion baseline, patches are inserted one by one, each time the one with
    the highest response, until the normalised response reaches tau. From the deletion
    baseline, the other patches are inserted, each time the one with the lowest
    response; the first of them is the least important of all. At each step the
    candidates are the first W patches of the seed's ranking that have no place yet,
    from its top for insertion and from its bottom for deletion. Without a seed, all are
    candidates.

    tau = 1 orders every patch by insertion, tau = 0 every patch by deletion. Among
    equal responses and equal seeds the lower index comes first.

    Args:
        window (int, optional): W. None: min(2 * floor(sqrt(N)), 28). It matters only
            with a seed. Default: None
    """

    def __init__(self, window: int | None = None) -> None:
        """Check the window."""
        if window is not None:
            require_positive_integer("window", window)
        self.window = window

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        searches = [self._search(task, int(example)) for example in task.examples]
        found = run_in_lockstep(searches, task.examples, task.responses)
        orders, n_inserted, insertion, deletion = zip(*found, strict=True)
        return SearchResult(
            torch.tensor(orders),
            torch.tensor(n_inserted),
            torch.from_numpy(np.stack(insertion)),
            torch.from_numpy(np.stack(deletion)),
        )

    def _search(self, task: SearchTask, example: int) -> Search[_Found]:
        """Search one image's order; the algorithm of the paper."""
        n = task.responses.n_features
        full = float(task.end_points.full[example])
        base = float(task.end_points.insertion_baseline[example])
        insertion = np.full(n + 1, np.nan)  # response with the first k inserted
        deletion = np.full(n + 1, np.nan)  # response with the first k deleted
        insertion[[0, n]] = base, full
        deletion[[0, n]] = full, float(task.end_points.deletion_baseline[example])
        best_first, worst_first, window = self._candidates(task, example)

        front: list[int] = []  # o_1, ..., o_C
        while len(front) < n and not _reached(
            insertion[len(front)], base, full, task.tau
        ):
            candidates = _first_unplaced(best_first, front, window)
            responses = yield from _responses(candidates, front, n, INSERTION, full)
            choice = int(responses.argmax())
            front.append(candidates[choice])
            insertion[len(front)] = responses[choice]
            task.progress.update(1)

        back: list[int] = []  # o_N, o_{N-1}, ..., o_{C+1}
        while len(front) + len(back) < n:
            candidates = _first_unplaced(worst_first, front + back, window)
            responses = yield from _responses(candidates, back, n, DELETION, full)
            choice = int(responses.argmin())
            back.append(candidates[choice])
            # The image that holds only the last patches of the order is the full image
            # without the first ones: a point of the deletion curve.
            deletion[n - len(back)] = responses[choice]
            task.progress.update(1)
        return front + back[::-1], len(front), insertion, deletion

    def _candidates(
        self, task: SearchTask, example: int
    ) -> tuple[list[int], list[int], int]:
        """Rank the patches by the seed, best and worst first, and size the window."""
        n = task.responses.n_features
        if task.seed is None:
            return list(range(n)), list(range(n)), n
        seed = task.seed[example].numpy()
        best_first = np.argsort(-seed, kind="stable").tolist()
        worst_first = np.argsort(seed, kind="stable").tolist()
        window = self.window or min(2 * isqrt(n), LARGEST_DEFAULT_WINDOW)
        return best_first, worst_first, window


def _reached(response: float, base: float, full: float, tau: float) -> bool:
    """Tell whether insertion ends here; with tau = 1 it never does before the last."""
    return tau < 1.0 and (response - base) / abs(full - base) >= tau


def _first_unplaced(ranking: list[int], placed: list[int], window: int) -> list[int]:
    """List the candidates of a step by index, so that ties go to the lowest."""
    taken = set(placed)
    unplaced = (feature for feature in ranking if feature not in taken)
    return sorted(feature for feature, _ in zip(unplaced, range(window), strict=False))


def _responses(
    candidates: list[int], present: list[int], n: int, kind: int, full: float
) -> Search[NDArray[np.float64]]:
    """Ask for the response with each candidate added to what is present."""
    if len(present) == n - 1:
        return np.array([full])  # the last patch completes the image, which is known
    subsets = np.zeros((len(candidates), n), dtype=bool)
    subsets[:, present] = True
    subsets[np.arange(len(candidates)), candidates] = True
    return (yield Query(subsets, kind))
