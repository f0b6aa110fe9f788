"""The search of the MDA paper: greedy within a window of a prior's ranking.

Reference: Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers",
ICLR 2025, section 4.1, and its published code for what the paper leaves open.
"""

from __future__ import annotations

import numpy as np

from captum_mda._checks import require_positive_integer_or_none
from captum_mda._state import warn_caller
from captum_mda.ordering import greedy
from captum_mda.ordering.base import (
    DELETION,
    Described,
    INSERTION,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.lockstep import Search

MANY_FORWARDS = 5000
"""Number of forwards per example from which on the cost is warned of."""


class PaperOrdering(Described):
    """Orders features greedily, first by the insertion, then by the deletion metric.

    Insertion starts from the insertion baseline and inserts one feature per step, the
    one with the highest response, until the normalised response reaches tau. Deletion
    starts from the deletion baseline and inserts the remaining features, each time the
    one with the lowest response; the first of them is the least important of all. The
    candidates of a step are the first W features of the prior's ranking that are not
    placed yet, from its top in insertion and from its bottom in deletion. Without a
    prior, all remaining features are candidates.

    tau = 1 orders every feature by insertion, tau = 0 every feature by deletion. Among
    equal responses and equal scores of the prior the lower index comes first.

    Args:
        window (int, optional): W. None: min(2 * floor(sqrt(N)), 28). Used only with a
            prior. Default: None
    """

    def __init__(self, window: int | None = None) -> None:
        """Check the window."""
        self.window = require_positive_integer_or_none("window", window)

    def expected_forwards(self, n_features: int, has_seed: bool) -> int:
        """Count the forwards that the search of an example takes, in float32."""
        return _forwards(self.window, n_features, has_seed)

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the features of all of a task's examples, side by side."""
        return greedy.order_side_by_side(task, self._search)

    def _search(self, task: SearchTask, example: int) -> Search[greedy.Found]:
        """Search one image's order; the algorithm of the paper."""
        n = task.responses.n_features
        full = float(task.end_points.full[example])
        base = float(task.end_points.insertion_baseline[example])
        insertion = np.full(n + 1, np.nan)  # response with the first k inserted
        deletion = np.full(n + 1, np.nan)  # response with the first k deleted
        insertion[[0, n]] = base, full
        deletion[[0, n]] = full, float(task.end_points.deletion_baseline[example])
        screening = task.screenings[example]
        best_first, worst_first, window = greedy.rank_candidates(
            task, example, self.window
        )

        front: list[int] = []  # o_1, ..., o_C
        while len(front) < n and not greedy.reached(
            insertion[len(front)], base, full, task.tau
        ):
            candidates = greedy.first_unplaced(best_first, front, window)
            highest, response = yield from greedy.best_with_each(
                screening,
                candidates,
                front,
                baseline_index=INSERTION,
                sense=1,
                full=full,
                n=n,
            )
            front.append(highest)
            insertion[len(front)] = response

        back: list[int] = []  # o_N, o_{N-1}, ..., o_{C+1}
        while len(front) + len(back) < n:
            candidates = greedy.first_unplaced(worst_first, front + back, window)
            lowest, response = yield from greedy.best_with_each(
                screening,
                candidates,
                back,
                baseline_index=DELETION,
                sense=-1,
                full=full,
                n=n,
            )
            back.append(lowest)
            # The image with only the last features of the order is the full image
            # without the first ones: a point of the deletion curve.
            deletion[n - len(back)] = response
        return front + back[::-1], len(front), insertion, deletion


def _forwards(window: int | None, n_features: int, has_seed: bool) -> int:
    """Count the candidates of all steps: all that remain, or those of a window."""
    width = (window or greedy.default_window(n_features)) if has_seed else n_features
    return sum(min(width, n_left) for n_left in range(1, n_features + 1))


def forwards_of_paper(ordering: object, n_features: int) -> tuple[int, int]:
    """Count the forwards of the published search for one example.

    Args:
        ordering (object): Any ordering.
        n_features (int): N.

    Returns:
        *tuple[int, int]*: without and with a prior; 0 for any other ordering.
    """
    ordering = getattr(ordering, "ordering", ordering)  # the one that is refined
    if not isinstance(ordering, PaperOrdering):
        return 0, 0
    return (
        ordering.expected_forwards(n_features, has_seed=False),
        ordering.expected_forwards(n_features, has_seed=True),
    )


def warn_of_cost(ordering: object, n_features: int) -> bool:
    """Warn if a search without a prior takes long, and say how to shorten it.

    Args:
        ordering (object): Any ordering; only `PaperOrdering` is warned of.
        n_features (int): N.

    Returns:
        *bool*: whether there was a warning.
    """
    without, with_prior = forwards_of_paper(ordering, n_features)
    if without < MANY_FORWARDS:
        return False
    warn_caller(
        'seed_attributions: None, so that ordering="paper" tries all of the '
        f"{n_features} features that are left at each step, about {without:,} forwards "
        "for each example; pass a map as seed_attributions, for example "
        "BidirectionalAttention(model).attribute(inputs, target), for about "
        f'{with_prior:,}, or take ordering="fast", for about {5 * n_features:,}, or '
        '"auto"'
    )
    return True
