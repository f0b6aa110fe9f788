"""A search for the order of the patches at a fraction of the paper's forwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from captum_mda.ordering.base import DELETION, INSERTION, SearchResult, SearchTask
from captum_mda.ordering.greedy import (
    default_window,
    first_unplaced,
    Found,
    gathered,
    ranked_both_ways,
    reached,
    subsets_with_each,
)
from captum_mda.ordering.lockstep import Query, run_in_lockstep, Search
from captum_mda.ordering.screening import Screened
from captum_mda.perturbation.inputs import (
    require_in_unit_interval,
    require_positive_integer,
    require_positive_number,
)

# What the measurements of benchmarks/ordering.py settled, and nobody need set.
INSERTION_SHARE = 0.45
"""The share of the budget after which insertion asks for as little as it may."""
LEAST_INSERTION_WIDTH = 6
LEAST_DELETION_WIDTH = 9
DELETION_BLOCK = 3
"""How many patches a step of the deletion phase places, of those it asked about."""
QUIET_BLOCK = 16
"""How many patches are placed at once, at most, where the response is quiet."""
QUIET_WIDTH = 6
"""How many candidates a step asks about there once the seed is of no more help."""
NEAR_POINTS = 8
"""How many points of the insertion curve behind the last inserted patch are asked."""
FAR_STRIDE = 8
"""Every how manieth point of it is asked farther on."""


class FastOrdering:
    """Orders patches by both metrics for an eighth of the forwards of `PaperOrdering`.

    It asks where the answer matters:

    - Insertion, as in the paper, goes on until the normalised response reaches tau, but
      a step asks only about those candidates of the window that have not been asked
      about, did most when they were last asked, or were asked longest ago. It begins
      with the whole window and narrows as the budget is spent.
    - Among the candidates with the highest responses to insertion, the one is taken
      whose insertion, less what deleting it leaves, is the highest. The paper looks at
      insertion alone here, and so loses in deletion.
    - Deletion begins with the patches the seed ranks last, in blocks, for as long as
      the response stays quiet: so near the baseline's that no score can change. Then it
      asks as insertion does; what is left of the budget is spread over the steps.
    - Of the insertion curve behind its last inserted patch, whose running maximum
      changes seldom, only some points are asked, and those near a new maximum.

    Points of the curves that are not asked are interpolated between their neighbours.
    Without a seed it makes one, for 2 N forwards: what inserting each feature alone
    adds, and what deleting each alone takes away. With tau = 1, insertion alone is
    asked.

    Args:
        window (int, optional): As for `PaperOrdering`. Default: None
        forwards_per_feature (float, optional): The budget: how many forwards the search
            of an example with N features aims at, divided by N. Insertion that reaches
            tau late may take more. Default: 4.0
        deletion_checks (int, optional): Of how many candidates a step of the insertion
            phase asks what deleting them leaves. Default: 4
        quiet_level (float, optional): The normalised response, in [0, 1], below which
            deletion is quiet. Default: 0.01
        oldest_share (float, optional): The share of a step, in [0, 1], that goes to the
            candidates that were asked about longest ago. Default: 0.3

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> from captum_mda.ordering import FastOrdering
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> model, frugal = demo.load_model(), FastOrdering(forwards_per_feature=2.5)
        >>> mda = MetricDrivenAttribution(model, ordering=frugal)
        >>> found = mda.explain(images, target=labels, feature_mask=mask)
        >>> found.n_forwards < 5 * 64  # 2.5 for each patch, and 2 for the seed
        True
    """

    def __init__(
        self,
        window: int | None = None,
        forwards_per_feature: float = 4.0,
        deletion_checks: int = 4,
        quiet_level: float = 0.01,
        oldest_share: float = 0.3,
    ) -> None:
        """Check the numbers."""
        if window is not None:
            require_positive_integer("window", window)
        require_positive_number("forwards_per_feature", forwards_per_feature)
        require_positive_integer("deletion_checks", deletion_checks)
        require_in_unit_interval("quiet_level", quiet_level)
        require_in_unit_interval("oldest_share", oldest_share)
        self.window = window
        self.forwards_per_feature = forwards_per_feature
        self.deletion_checks = deletion_checks
        self.quiet_level = quiet_level
        self.oldest_share = oldest_share

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        searches = [
            _FastSearch(self, task, int(example)).run() for example in task.examples
        ]
        return gathered(run_in_lockstep(searches, task.examples, task.responses))


class _FastSearch:
    """The search of one example."""

    def __init__(self, options: FastOrdering, task: SearchTask, example: int) -> None:
        self._options, self._task, self._example = options, task, example
        self._screening = task.screenings[example]
        self._n = n = task.responses.n_features
        self._full = float(task.end_points.full[example])
        self._base = float(task.end_points.insertion_baseline[example])
        self._zero = float(task.end_points.deletion_baseline[example])
        self._insertion = np.full(n + 1, np.nan)  # response, first k inserted
        self._deletion = np.full(n + 1, np.nan)  # response, first k deleted
        self._insertion[[0, n]] = self._base, self._full
        self._deletion[[0, n]] = self._full, self._zero
        self._front: list[int] = []  # o_1, ..., o_C
        self._back: list[int] = []  # o_N, o_{N-1}, ..., o_{C+1}
        self._window = options.window or default_window(n)
        self._budget = options.forwards_per_feature * n
        self._spent = 0

    def run(self) -> Search[Found]:
        """Order the patches, and ask for what the curves need."""
        if self._task.seed is None:
            seed = yield from self._own_seed()
        else:
            seed = self._task.seed[self._example].numpy()
        self._best_first, self._worst_first = ranked_both_ways(seed)
        yield from self._insert()
        yield from self._delete_by_seed()
        yield from self._delete()
        order = self._front + self._back[::-1]
        yield from self._follow_insertion(order)
        _interpolate(self._insertion)
        _interpolate(self._deletion)
        return order, len(self._front), self._insertion, self._deletion

    def _own_seed(self) -> Search[NDArray[np.float64]]:
        """Weigh the patches by what each does alone: (N,)."""
        alone = np.eye(self._n, dtype=bool)
        inserted = yield from self._screen(alone, INSERTION, 1)
        deleted = yield from self._screen(~alone, DELETION, -1)
        seed = (inserted.responses - self._base) / abs(self._full - self._base)
        lost = self._full - deleted.responses
        seed = seed + lost / abs(self._full - self._zero)
        self._spent = 0  # the budget is for the search
        return seed

    def _insert(self) -> Search[None]:
        """Find o_1, ..., o_C."""
        front, memory = self._front, _Memory(self._n, self._options.oldest_share)
        tau, allowance = self._task.tau, INSERTION_SHARE * self._budget
        while len(front) < self._n and not reached(
            self._insertion[len(front)], self._base, self._full, tau
        ):
            candidates = first_unplaced(self._best_first, front, self._window)
            width = round(self._window * (1 - self._spent / allowance))
            asked = memory.choose(candidates, max(width, LEAST_INSERTION_WIDTH))
            inserted = yield from self._screen_each(asked, front, INSERTION, 1)
            if tau < 1.0:  # at 1 insertion alone is asked for
                choice = yield from self._best_of_both(asked, inserted)
            else:
                choice = yield from self._screening.best_of(inserted)
            responses = inserted.responses
            memory.note(asked, responses - self._insertion[len(front)])
            front.append(asked[choice])
            self._insertion[len(front)] = responses[choice]
            self._task.progress.update(1)

    def _best_of_both(self, asked: list[int], inserted: Screened) -> Search[int]:
        """Choose by what inserting a patch gives and what deleting it leaves."""
        front = self._front
        n_checks = min(self._options.deletion_checks, ceil(len(asked) / 3))
        if n_checks == 1:  # insertion alone decides
            yield from self._screening.best_of(inserted)
        best = np.argsort(-inserted.responses, kind="stable")[:n_checks]
        deleted = subsets_with_each([asked[index] for index in best], front, self._n)
        checked = inserted.rows(best)
        left = yield from self._screen(~deleted, DELETION, -1)
        # Both as the metrics see them: normalised, clipped and monotone.
        highest = self._insertion[: len(front) + 1].max()
        lowest = self._deletion[: len(front) + 1].min()

        def value(
            given: NDArray[np.float64], left_over: NDArray[np.float64]
        ) -> NDArray[np.float64]:
            given = np.clip(given, highest, self._full) - self._base
            left_over = np.clip(left_over, self._zero, lowest) - self._zero
            return given / abs(self._full - self._base) - left_over / abs(
                self._full - self._zero
            )

        # The first of equal ones: that with the highest response to insertion.
        chosen = yield from self._screening.decide(value, checked, left)
        inserted.responses[best] = checked.responses
        self._deletion[len(front) + 1] = left.responses[chosen]
        return int(best[chosen])

    def _delete_by_seed(self) -> Search[None]:
        """Place the patches that the seed ranks last, while the response is quiet."""
        size = QUIET_BLOCK
        while size and (room := self._n - len(self._front) - len(self._back)):
            block = first_unplaced(
                self._worst_first, self._front + self._back, min(size, room)
            )
            response = yield from self._response_of(self._back + block)
            if not self._is_quiet(response):
                size = len(block) // 2
                continue
            self._place_last(block, response)

    def _delete(self) -> Search[None]:
        """Find the other patches of o_N, ..., o_{C+1}."""
        memory = _Memory(self._n, self._options.oldest_share)
        while (room := self._n - len(self._front) - len(self._back)) > 0:
            place = self._n - len(self._back)
            if np.isnan(self._deletion[place]):  # several were placed at once
                self._deletion[place] = yield from self._response_of(self._back)
            response = self._deletion[place]
            quiet = self._is_quiet(response)
            candidates = first_unplaced(
                self._worst_first, self._front + self._back, self._window
            )
            size, width = (QUIET_WIDTH, QUIET_WIDTH) if quiet else self._pace(room)
            asked = memory.choose(candidates, width, not quiet)
            deleted = yield from self._screen_each(asked, self._back, DELETION, -1)
            if size == 1:  # a block is placed as bfloat16 has it, if it is screened
                yield from self._screening.best_of(deleted)
            responses = deleted.responses
            memory.note(asked, response - responses)
            ranking = np.argsort(responses, kind="stable")
            if quiet:
                size = max(1, int(self._is_quiet(responses).sum()))
            block, lowest = [asked[index] for index in ranking[:size]], ranking[0]
            known = responses[lowest] if deleted.known[lowest] else None
            self._place_last(block[:1], known)
            self._place_last(block[1:])

    def _pace(self, room: int) -> tuple[int, int]:
        """Spread what is left of the budget over the patches that have no place yet.

        Returns:
            *tuple[int, int]*: how many a step places, and how many it asks about.
        """
        curve = self._n // FAR_STRIDE + NEAR_POINTS
        for_each = (self._budget - self._spent - curve) / room
        if 2 * for_each >= self._window:
            return 1, min(int(for_each), self._window)
        width = int(DELETION_BLOCK * for_each) - 1  # one asks where the step stands
        return DELETION_BLOCK, min(max(width, LEAST_DELETION_WIDTH), self._window)

    def _place_last(self, block: list[int], response: float | None = None) -> None:
        """Place patches before those of the back; the response, if known, to all."""
        self._back += block
        if response is not None:
            self._deletion[self._n - len(self._back)] = response
        self._task.progress.update(len(block))

    def _is_quiet(self, response: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        """Tell where a response is so near the deletion baseline's as not to matter."""
        height = (response - self._zero) / abs(self._full - self._zero)
        return np.asarray(height < self._options.quiet_level)

    def _follow_insertion(self, order: list[int]) -> Search[None]:
        """Ask for points behind o_C until the running maximum cannot rise any more."""
        n, first = self._n, len(self._front) + 1
        near = range(first, min(first + NEAR_POINTS, n))
        yield from self._ask_insertion(order, near)
        far = range(first + NEAR_POINTS - 1 + FAR_STRIDE, n, FAR_STRIDE)
        if self._at_full() is None:
            yield from self._ask_insertion(order, far)
        known = np.flatnonzero(~np.isnan(self._insertion))
        end = self._at_full() or n
        top, risen = -np.inf, list[int]()
        for left, right in pairwise(known.tolist()):
            top = max(top, self._insertion[left])
            rise = min(self._insertion[right], self._full) - top
            if left < end and rise > self._options.quiet_level * (
                self._full - self._base
            ):
                risen += range(left + 1, right)
        yield from self._ask_insertion(order, risen)

    def _at_full(self) -> int | None:
        """Find the first known point at which the response is that of the input."""
        with np.errstate(invalid="ignore"):
            points = np.flatnonzero(self._insertion[:-1] >= self._full)
        return int(points[0]) if len(points) else None

    def _ask_insertion(self, order: list[int], points: Sequence[int]) -> Search[None]:
        if len(points) == 0:
            return
        subsets = np.zeros((len(points), self._n), dtype=bool)
        for row, point in enumerate(points):
            subsets[row, order[:point]] = True
        self._insertion[list(points)] = yield from self._ask(subsets, INSERTION)

    def _screen_each(
        self, candidates: list[int], present: list[int], kind: int, sense: int
    ) -> Search[Screened]:
        """Screen the candidates by the response with each added to what is present."""
        subsets = subsets_with_each(candidates, present, self._n)
        return (yield from self._screen(subsets, kind, sense))

    def _response_of(self, present: list[int]) -> Search[float]:
        """Ask for the response where all but these patches are deleted."""
        subset = np.zeros((1, self._n), dtype=bool)
        subset[0, present] = True
        (response,) = yield from self._ask(subset, DELETION)
        return float(response)

    def _screen(
        self, subsets: NDArray[np.bool_], kind: int, sense: int
    ) -> Search[Screened]:
        """Ask what is to be decided; all or none of the subsets are ends, and known."""
        if subsets.all() or not subsets.any():
            responses = yield from self._ask(subsets, kind)
            return Screened(subsets, kind, sense, responses, in_bf16=False)
        self._spent += len(subsets)
        return (yield from self._screening.ask(subsets, kind, sense))

    def _ask(
        self, subsets: NDArray[np.bool_], kind: int
    ) -> Search[NDArray[np.float64]]:
        """Ask, but for the ends, which are known."""
        responses = np.where(subsets.all(axis=1), self._full, self._zero)
        unknown = ~subsets.all(axis=1) & subsets.any(axis=1)
        if unknown.any():
            self._spent += int(unknown.sum())
            responses[unknown] = yield Query(subsets[unknown], kind)
        return responses


class _Memory:
    """What each patch did when it was last asked about, and when that was."""

    def __init__(self, n_features: int, oldest_share: float) -> None:
        self._gains = np.full(n_features, -np.inf)
        self._steps = np.full(n_features, -1)
        self._step = 0
        self._oldest_share = oldest_share

    def choose(
        self, candidates: list[int], width: int, all_new: bool = True
    ) -> list[int]:
        """Choose whom to ask about, by index: new ones, the best, and the oldest.

        Args:
            candidates (list[int]): Ascending.
            width (int): How many to choose.
            all_new (bool, optional): Whether all that were never asked about are
                chosen, whatever the width. Default: True
        """
        new = [index for index in candidates if self._steps[index] < 0]
        known = [index for index in candidates if self._steps[index] >= 0]
        if not known:
            return new if all_new else new[:width]
        room = max(width - len(new), 1) if all_new else width
        n_best = max(room - ceil(self._oldest_share * room), 1)
        by_gain = sorted(known, key=lambda index: (-self._gains[index], index))
        others = by_gain[n_best:] + ([] if all_new else new)
        oldest = sorted(others, key=lambda index: (self._steps[index], index))
        chosen = by_gain[:n_best] + oldest[: room - n_best]
        return sorted(chosen + new) if all_new else sorted(chosen)

    def note(self, asked: list[int], gains: NDArray[np.float64]) -> None:
        """Remember what the patches did."""
        self._gains[asked] = gains
        self._steps[asked] = self._step
        self._step += 1


def _interpolate(curve: NDArray[np.float64]) -> None:
    """Draw straight lines over the points that were not asked."""
    points = np.arange(len(curve))
    known = ~np.isnan(curve)
    curve[~known] = np.interp(points[~known], points[known], curve[known])
