"""The search of the MDA paper: greedy within a window of a seed attribution.

Reference: Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers",
ICLR 2025, section 4.1, and its published code for what the paper leaves open.
"""

from __future__ import annotations

import numpy as np

from captum_mda._checks import require_positive_integer_or_none
from captum_mda.ordering.base import (
    DELETION,
    Described,
    INSERTION,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.greedy import (
    best_with_each,
    default_window,
    first_unplaced,
    Found,
    order_side_by_side,
    rank_candidates,
    reached,
)
from captum_mda.ordering.lockstep import Search


class PaperOrdering(Described):
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
        self.window = require_positive_integer_or_none("window", window)

    def expected_forwards(self, n_features: int, has_seed: bool) -> int:
        """Tell how many forwards the search of an example takes, in float32."""
        return _forwards(self.window, n_features, has_seed)

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        return order_side_by_side(task, self._search)

    def _search(self, task: SearchTask, example: int) -> Search[Found]:
        """Search one image's order; the algorithm of the paper."""
        n = task.responses.n_features
        full = float(task.end_points.full[example])
        base = float(task.end_points.insertion_baseline[example])
        insertion = np.full(n + 1, np.nan)  # response with the first k inserted
        deletion = np.full(n + 1, np.nan)  # response with the first k deleted
        insertion[[0, n]] = base, full
        deletion[[0, n]] = full, float(task.end_points.deletion_baseline[example])
        screening = task.screenings[example]
        best_first, worst_first, window = rank_candidates(task, example, self.window)

        front: list[int] = []  # o_1, ..., o_C
        while len(front) < n and not reached(
            insertion[len(front)], base, full, task.tau
        ):
            candidates = first_unplaced(best_first, front, window)
            highest, response = yield from best_with_each(
                screening, candidates, front, (INSERTION, 1), full, n
            )
            front.append(highest)
            insertion[len(front)] = response

        back: list[int] = []  # o_N, o_{N-1}, ..., o_{C+1}
        while len(front) + len(back) < n:
            candidates = first_unplaced(worst_first, front + back, window)
            lowest, response = yield from best_with_each(
                screening, candidates, back, (DELETION, -1), full, n
            )
            back.append(lowest)
            # The image that holds only the last patches of the order is the full image
            # without the first ones: a point of the deletion curve.
            deletion[n - len(back)] = response
        return front + back[::-1], len(front), insertion, deletion


def _forwards(window: int | None, n_features: int, has_seed: bool) -> int:
    """Count the candidates of all steps: all that are left, or those of a window."""
    width = (window or default_window(n_features)) if has_seed else n_features
    return sum(min(width, n_left) for n_left in range(1, n_features + 1))


def forwards_of_paper(ordering: object, n_features: int) -> tuple[int, int]:
    """Count the forwards of the published search for one example.

    Args:
        ordering (object): Any ordering.
        n_features (int): N.

    Returns:
        *tuple[int, int]*: without and with a seed; 0 where the ordering is another.
    """
    ordering = getattr(ordering, "ordering", ordering)  # the one that is refined
    if not isinstance(ordering, PaperOrdering):
        return 0, 0
    return (
        ordering.expected_forwards(n_features, has_seed=False),
        ordering.expected_forwards(n_features, has_seed=True),
    )
