"""A search for the order of the patches at a fraction of the paper's forwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from captum_mda._checks import (
    require_count,
    require_in_unit_interval,
    require_positive_integer_or_none,
    require_positive_number,
)
from captum_mda.ordering.base import (
    DELETION,
    Described,
    INSERTION,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.greedy import (
    default_window,
    first_unplaced,
    Found,
    order_side_by_side,
    ranked_both_ways,
    reached,
    subsets_with_each,
)
from captum_mda.ordering.lockstep import answered_by, Query, Search
from captum_mda.ordering.memory import Memory
from captum_mda.ordering.screening import FRUGAL, Screened

# What the measurements of benchmarks/ordering.py settled, and nobody need set.
DEFAULT_BUDGET = 4.5
"""Forwards for each feature."""
LEAST_DEFAULT_BUDGET = 245.0
"""Forwards in all: where features are few and large, each choice weighs more."""
FEW = int(LEAST_DEFAULT_BUDGET / DEFAULT_BUDGET)
"""Up to so many features that budget is the larger one."""
DEFAULT_CHECKS, CHECKS_OF_FEW = 5, 3
"""Of how many candidates a step of insertion asks what deleting them leaves."""
DEFAULT_PATIENCE, PATIENCE_OF_FEW = 4, 2
"""How many patches insertion goes on past tau without promising more."""
INSERTION_SHARE = 0.4
"""The share of the budget after which insertion asks for as little as it may."""
LONGEST_SHARE = 0.53
"""The share after which insertion goes no farther past tau, and in pairs up to it."""
INSERTION_LIMIT = 0.8
"""The share after which insertion ends, be tau reached or not."""
LEAST_INSERTION_WIDTH = 6
SINGLE_DELETION = 4
"""Deletion places one patch a step where as many candidates a patch can be asked."""
DELETION_BLOCKS = 64
"""In how many steps deletion would place all patches where it cannot."""
LEAST_DELETION_WIDTH = 3
"""How many candidates such a step asks about for each patch that it places."""
HANDOVER_SHARE = 0.1
"""Over which share of the patches deletion is taken to fall once it takes over."""
QUIET_BLOCK = 16
"""How many patches are placed at once, at most, where the response is quiet."""
QUIET_WIDTH = 6
"""How many candidates a step asks about there once the seed is of no more help."""
NEAR_POINTS = 8
"""How many points of the insertion curve behind the last inserted patch are asked."""
FAR_STRIDE = 8
"""Every how manieth point of it is asked farther on."""


class FastOrdering(Described):
    """Orders patches by both metrics for a seventh of the forwards of `PaperOrdering`.

    It asks where the answer matters:

    - Insertion, as in the paper, goes on until the normalised response reaches tau, but
      a step asks only about those candidates of the window that have not been asked
      about, did most when they were last asked, or were asked longest ago. It begins
      with the whole window and narrows as the budget is spent.
    - Among the candidates with the highest responses to insertion, the one is taken
      whose insertion, less what deleting it leaves, is the highest. The paper looks at
      insertion alone here, and so loses in deletion.
    - It goes on past tau for as long as both scores gain by it, and hands over where
      they promised most. The paper stops at tau, and where the response then stays
      below the whole image's for long, loses that much of insertion.
    - Deletion begins with the patches the seed ranks last, in blocks, for as long as
      the response stays quiet: so near the baseline's that no score can change. Then it
      asks as insertion does; what is left of the budget is spread over the steps.
    - Of the insertion curve behind its last inserted patch, whose running maximum
      changes seldom, only some points are asked, and those near a new maximum.

    Points of the curves that are not asked are interpolated between their neighbours.
    Where the budget runs short, steps place several patches at once, and insertion ends
    at four fifths of it, be tau reached or not. Without a seed the search makes one,
    for 2 N forwards beyond the budget: what inserting each feature alone adds, and what
    deleting each alone takes away. With tau = 1, insertion alone is asked, and takes
    more.

    Of up to 54 features, which are large, each weighs more. The first step then asks
    what deleting each candidate leaves, and later ones ask it of a few: those that are
    expected to be best if deleting them does what it did when it was last asked. Once
    deleting what is in front leaves a quiet response, deletion is asked for its curve
    alone, and insertion has four fifths of the budget.

    Args:
        window (int, optional): As for `PaperOrdering`. Default: None
        forwards_per_feature (float, optional): The budget: how many forwards the search
            of an example with N features takes at most, divided by N; where responses
            are quiet it takes less. A few more are possible, and more than a few with
            under 3 for a feature where insertion is slow to reach tau. None: 4.5, and
            245 forwards in all where that is more. Default: None
        deletion_checks (int, optional): Of how many candidates a step of the insertion
            phase asks what deleting them leaves; of up to 54 features the first step
            asks it of a whole window, unless this is 1. None: 5; 3 of up to 54
            features. Default: None
        quiet_level (float, optional): The normalised response, in [0, 1], below which
            deletion is quiet. Default: 0.01
        oldest_share (float, optional): The share of a step, in [0, 1], that goes to the
            candidates that were asked about longest ago. Default: 0.3
        patience (int, optional): How many patches insertion goes on past tau without
            promising more; 0 stops at tau, as the paper does. None: 4; 2 of up to 54
            features. Default: None

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
        forwards_per_feature: float | None = None,
        deletion_checks: int | None = None,
        quiet_level: float = 0.01,
        oldest_share: float = 0.3,
        patience: int | None = None,
    ) -> None:
        """Check the numbers."""
        window = require_positive_integer_or_none("window", window)
        if forwards_per_feature is not None:
            forwards_per_feature = require_positive_number(
                "forwards_per_feature", forwards_per_feature
            )
        deletion_checks = require_positive_integer_or_none(
            "deletion_checks", deletion_checks
        )
        quiet_level = require_in_unit_interval("quiet_level", quiet_level)
        oldest_share = require_in_unit_interval("oldest_share", oldest_share)
        if patience is not None:
            patience = require_count("patience", patience)
        self.window = window
        self.forwards_per_feature = forwards_per_feature
        self.deletion_checks = deletion_checks
        self.quiet_level = quiet_level
        self.oldest_share = oldest_share
        self.patience = patience

    def budget(self, n_features: int) -> float:
        """Tell how many forwards the search of so many features may take."""
        if self.forwards_per_feature is None:
            return max(DEFAULT_BUDGET * n_features, LEAST_DEFAULT_BUDGET)
        return self.forwards_per_feature * n_features

    def expected_forwards(self, n_features: int, has_seed: bool) -> int:
        """Tell about how many forwards the search of an example takes."""
        return int(self.budget(n_features)) + (0 if has_seed else 2 * n_features)

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        return order_side_by_side(task, self.search)

    def search(
        self, task: SearchTask, example: int, seed: NDArray[np.float64] | None = None
    ) -> Search[Found]:
        """Search the order of one example, by the task's seed or by another (N,)."""
        return _FastSearch(self, task, example).run(seed)


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
        self._are_few = n <= FEW
        checks, patience = (
            (CHECKS_OF_FEW, PATIENCE_OF_FEW)
            if self._are_few
            else (DEFAULT_CHECKS, DEFAULT_PATIENCE)
        )
        self._checks = options.deletion_checks or checks
        self._patience = patience if options.patience is None else options.patience
        self._budget = options.budget(n)
        self._spent = 0
        self._lost = np.full(n, np.nan)  # by deletion, in front, when last asked

    def run(self, seed: NDArray[np.float64] | None) -> Search[Found]:
        """Order the patches, and count what that asks."""
        return (yield from answered_by(self._counted, self._order(seed)))

    def _counted(self, query: Query) -> Search[NDArray[np.float64]]:
        """Ask, at the budget's expense."""
        self._spent += len(query.subsets)
        return (yield query)

    def _order(self, seed: NDArray[np.float64] | None) -> Search[Found]:
        """Order the patches, and ask for what the curves need."""
        if seed is None and self._task.seed is not None:
            seed = self._task.seed[self._example].numpy()
        if seed is None:
            seed = yield from self._own_seed()
        self._best_first, self._worst_first = ranked_both_ways(seed)
        yield from self._insert()
        yield from self._delete_by_seed()
        yield from self._delete()
        order = self._front + self._back[::-1]
        yield from self._follow_insertion(order)
        curves = _filled(self._insertion), _filled(self._deletion)
        return order, len(self._front), *curves

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
        """Find o_1, ..., o_C: up to tau, and past it for as long as the scores gain."""
        memory, tau = Memory(self._n, self._options.oldest_share), self._task.tau
        patience = self._patience if 0.0 < tau < 1.0 else 0
        past_tau, best_length, best_value = False, 0, -np.inf
        while (length := len(self._front)) < self._n:
            past_tau = past_tau or reached(
                self._insertion[length], self._base, self._full, tau
            )
            if past_tau:
                value, is_over = self._value_of_handing_over()
                if value > best_value:
                    best_length, best_value = length, value
                if is_over or self._is_dear() or length - best_length >= patience:
                    break
            if tau < 1.0 and self._spent > INSERTION_LIMIT * self._budget:
                break
            yield from self._insert_best(memory)
        if past_tau:
            del self._front[best_length:]
            self._insertion[best_length + 1 : self._n] = np.nan
            self._deletion[best_length + 1 : self._n] = np.nan

    def _insert_best(self, memory: Memory) -> Search[None]:
        """Place the best of the candidates next."""
        front, window = self._front, self._window
        candidates = first_unplaced(self._best_first, front, window)
        width = round(window * (1 - self._spent / self._allowance()))
        least = max(LEAST_INSERTION_WIDTH, self._checks)
        asked = memory.choose(candidates, max(width, least))
        inserted = yield from self._screen_each(asked, front, INSERTION, 1)
        if self._task.tau < 1.0:  # at 1 insertion alone is asked for
            best = yield from self._best_of_both(asked, inserted)
        else:
            best = yield from self._screening.best_of(inserted, FRUGAL)
        memory.note(asked, inserted.responses - self._insertion[len(front)])
        front.append(asked[best])
        self._insertion[len(front)] = inserted.responses[best]
        if self._is_dear() and self._task.tau < 1.0 and len(asked) > 1:
            inserted.responses[best] = -np.inf
            yield from self._insert_too(asked[int(inserted.responses.argmax())])

    def _allowance(self) -> float:
        """Tell after how many forwards insertion asks for as little as it may."""
        share = INSERTION_LIMIT if self._is_won() else INSERTION_SHARE
        return share * self._budget

    def _is_dear(self) -> bool:
        """Tell whether insertion has asked for so much that it goes on in pairs."""
        share = INSERTION_LIMIT if self._is_won() else LONGEST_SHARE
        return self._spent > share * self._budget

    def _is_won(self) -> bool:
        """Tell whether deletion is quiet in front: no order can gain there any more.

        Where features are many, this did not pay.
        """
        lowest = self._deletion[: len(self._front) + 1].min()
        return self._are_few and bool(self._is_quiet(lowest))

    def _insert_too(self, feature: int) -> Search[None]:
        """Place the second best of a step next, as steps are dear."""
        self._front.append(feature)
        present, place = np.zeros((1, self._n), dtype=bool), [len(self._front)]
        present[0, self._front] = True
        self._insertion[place] = yield from self._ask(present, INSERTION)
        self._deletion[place] = yield from self._ask(~present, DELETION)

    def _value_of_handing_over(self) -> tuple[float, bool]:
        """Foresee what both curves come to if deletion takes over here.

        Returns:
            *tuple[float, bool]*: the area between the curves times N, where insertion
            stays and deletion falls over `HANDOVER_SHARE`; and whether neither can gain
            any more.
        """
        known = slice(0, len(self._front) + 1)
        rise = (self._insertion[known] - self._base).clip(0.0)
        rise = np.maximum.accumulate((rise / (self._full - self._base)).clip(max=1.0))
        fall = (self._deletion[known] - self._zero).clip(0.0)
        fall = np.minimum.accumulate((fall / (self._full - self._zero)).clip(max=1.0))
        ahead = (self._n - len(self._front)) * rise[-1]
        ahead -= HANDOVER_SHARE * self._n * fall[-1]
        is_over = rise[-1] == 1.0 and fall[-1] < self._options.quiet_level
        return float((rise - fall)[:-1].sum() + ahead), bool(is_over)

    def _best_of_both(self, asked: list[int], inserted: Screened) -> Search[int]:
        """Choose by what inserting a patch gives and what deleting it leaves."""
        front = self._front
        current = self._deletion[len(front)]
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

        n_checks = self._n_checks(len(asked))
        if n_checks == 1:  # insertion alone decides
            yield from self._screening.best_of(inserted, FRUGAL)
            best = np.array([inserted.responses.argmax()])
        else:
            lost = self._expected_losses(asked)
            expected = value(inserted.responses, current - lost)
            # Of equal ones, those with the higher responses to insertion.
            best = np.lexsort((-inserted.responses, -expected))[:n_checks]
        features = [asked[index] for index in best]
        deleted = subsets_with_each(features, front, self._n)
        checked = inserted.rows(best)
        left = yield from self._screen(~deleted, DELETION, -1)
        # The first of equal ones: the one that was expected to be best.
        chosen = yield from self._screening.decide(value, checked, left, care=FRUGAL)
        inserted.responses[best] = checked.responses
        self._lost[features] = current - left.responses
        self._deletion[len(front) + 1] = left.responses[chosen]
        return int(best[chosen])

    def _expected_losses(self, asked: list[int]) -> NDArray[np.float64]:
        """Foresee what deleting each would take, by what it did when last asked: (K,).

        Where features are many, this did not pay.
        """
        lost = self._lost[asked]
        known = ~np.isnan(lost)
        if not (self._are_few and known.any()):
            return np.zeros(len(asked))
        return np.where(known, lost, lost[known].mean())

    def _n_checks(self, n_asked: int) -> int:
        """Tell of how many candidates to ask what deleting them leaves."""
        if self._is_won():
            return 1
        n_checks = min(self._checks, n_asked)
        if self._are_few and n_checks > 1 and not self._front:
            # Of as many as a window holds; later steps choose by what is learnt here.
            return min(default_window(self._n), n_asked)
        if self._spent > self._allowance():
            return min(n_checks, ceil(n_asked / 3))
        return n_checks

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
        memory = Memory(self._n, self._options.oldest_share)
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
                yield from self._screening.best_of(deleted, FRUGAL)
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
        for_each = max(self._budget - self._spent - curve, 1.0) / room
        if for_each >= SINGLE_DELETION:
            return 1, min(int(for_each), self._window)
        size = max(1, round(self._n / DELETION_BLOCKS))
        least = min(LEAST_DELETION_WIDTH * size, self._window)
        # After several at once, one more is asked: where the step stands.
        width = int(size * for_each) - (size > 1)
        if width >= least:
            return size, min(width, self._window)
        # Larger blocks spare what fewer candidates would spoil.
        return min(ceil((least + 1) / for_each), least), least

    def _place_last(self, block: list[int], response: float | None = None) -> None:
        """Place patches before those of the back; the response, if known, to all."""
        self._back += block
        if response is not None:
            self._deletion[self._n - len(self._back)] = response

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
        affordable = max(self._budget - self._spent, n // FAR_STRIDE, 1)
        stride = ceil(len(risen) / affordable) or 1
        yield from self._ask_insertion(order, risen[::stride])

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
        return (yield from self._screening.ask(subsets, kind, sense))

    def _ask(
        self, subsets: NDArray[np.bool_], kind: int
    ) -> Search[NDArray[np.float64]]:
        """Ask, but for the ends, which are known."""
        responses = np.where(subsets.all(axis=1), self._full, self._zero)
        unknown = ~subsets.all(axis=1) & subsets.any(axis=1)
        if unknown.any():
            responses[unknown] = yield Query(subsets[unknown], kind)
        return responses


def _filled(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw straight lines over the points that were not asked."""
    points, known = np.arange(len(curve)), ~np.isnan(curve)
    filled: NDArray[np.float64] = np.interp(points, points[known], curve[known])
    return filled
