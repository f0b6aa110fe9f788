"""The search of the MDA paper, asking again only where it may change the choice."""

from __future__ import annotations

from math import ceil

import numpy as np

from captum_mda.ordering.base import DELETION, INSERTION, SearchResult, SearchTask
from captum_mda.ordering.greedy import (
    first_unplaced,
    Found,
    gathered,
    rank_candidates,
    reached,
    responses_with_each,
)
from captum_mda.ordering.lockstep import run_in_lockstep, Search
from captum_mda.perturbation.inputs import (
    require_in_unit_interval,
    require_positive_integer,
)


class FastOrdering:
    """Orders patches as `PaperOrdering`, for a fraction of its forwards.

    What adding a patch does to the response changes slowly from step to step. So each
    step asks about some candidates of the window only: those that have not been asked
    about, those that did most when they were last asked about, and, for a share of the
    step, those that have not been asked about for longest, as patches may gain by what
    was placed meanwhile. With widths of at least the window, it is `PaperOrdering`.

    Args:
        window (int, optional): As for `PaperOrdering`. Default: None
        insertion_width (int, optional): How many candidates a step of the insertion
            phase asks about. Default: 14
        deletion_width (int, optional): The same for the deletion phase. Default: 6
        oldest_share (float, optional): The share of a step, in [0, 1], that goes to the
            candidates that were asked about longest ago. Default: 0.25
    """

    def __init__(
        self,
        window: int | None = None,
        insertion_width: int = 14,
        deletion_width: int = 6,
        oldest_share: float = 0.25,
    ) -> None:
        """Check the numbers."""
        if window is not None:
            require_positive_integer("window", window)
        require_positive_integer("insertion_width", insertion_width)
        require_positive_integer("deletion_width", deletion_width)
        require_in_unit_interval("oldest_share", oldest_share)
        self.window = window
        self.insertion_width = insertion_width
        self.deletion_width = deletion_width
        self.oldest_share = oldest_share

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        searches = [self._search(task, int(example)) for example in task.examples]
        return gathered(run_in_lockstep(searches, task.examples, task.responses))

    def _search(self, task: SearchTask, example: int) -> Search[Found]:
        """Search one image's order."""
        n = task.responses.n_features
        full = float(task.end_points.full[example])
        base = float(task.end_points.insertion_baseline[example])
        insertion = np.full(n + 1, np.nan)  # response with the first k inserted
        deletion = np.full(n + 1, np.nan)  # response with the first k deleted
        insertion[[0, n]] = base, full
        deletion[[0, n]] = full, float(task.end_points.deletion_baseline[example])
        best_first, worst_first, window = rank_candidates(task, example, self.window)

        front: list[int] = []  # o_1, ..., o_C
        memory = _Memory(n, self.insertion_width, self.oldest_share)
        while len(front) < n and not reached(
            insertion[len(front)], base, full, task.tau
        ):
            candidates = first_unplaced(best_first, front, window)
            asked = memory.choose(candidates)
            responses = yield from responses_with_each(asked, front, n, INSERTION, full)
            memory.note(asked, responses - insertion[len(front)])
            choice = int(responses.argmax())
            front.append(asked[choice])
            insertion[len(front)] = responses[choice]
            task.progress.update(1)

        back: list[int] = []  # o_N, o_{N-1}, ..., o_{C+1}
        memory = _Memory(n, self.deletion_width, self.oldest_share)
        response = float(deletion[n])
        while len(front) + len(back) < n:
            candidates = first_unplaced(worst_first, front + back, window)
            asked = memory.choose(candidates)
            responses = yield from responses_with_each(asked, back, n, DELETION, full)
            memory.note(asked, response - responses)
            choice = int(responses.argmin())
            back.append(asked[choice])
            # The image that holds only the last patches of the order is the full image
            # without the first ones: a point of the deletion curve.
            response = deletion[n - len(back)] = responses[choice]
            task.progress.update(1)
        return front + back[::-1], len(front), insertion, deletion


class _Memory:
    """What each patch did when it was last asked about, and when that was.

    Args:
        n_features (int): How many patches there are.
        width (int): How many a step asks about.
        oldest_share (float): The share of them that were asked about longest ago.
    """

    def __init__(self, n_features: int, width: int, oldest_share: float) -> None:
        self._gains = np.full(n_features, np.inf)
        self._steps = np.full(n_features, -1)
        self._step = 0
        self._width = width
        self._n_oldest = ceil(oldest_share * width)

    def choose(self, candidates: list[int]) -> list[int]:
        """Choose whom to ask about, by index: new ones, the best, and the oldest."""
        new = [index for index in candidates if self._steps[index] < 0]
        known = [index for index in candidates if self._steps[index] >= 0]
        n_known = max(self._width - len(new), 1)
        n_oldest = min(self._n_oldest, n_known - 1)
        by_gain = sorted(known, key=lambda index: (-self._gains[index], index))
        best = by_gain[: n_known - n_oldest]
        others = by_gain[n_known - n_oldest :]
        oldest = sorted(others, key=lambda index: (self._steps[index], index))
        return sorted([*new, *best, *oldest[:n_oldest]])

    def note(self, asked: list[int], gains: np.ndarray) -> None:
        """Remember what the patches did."""
        self._gains[asked] = gains
        self._steps[asked] = self._step
        self._step += 1
