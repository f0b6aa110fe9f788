"""The deletion phase: features o_N, ..., o_{C+1}, from the least important one on."""

from __future__ import annotations

from math import ceil

import numpy as np

from captum_mda.ordering.fast.budget import Budget
from captum_mda.ordering.fast.completion import FAR_STRIDE, NEAR_POINTS
from captum_mda.ordering.fast.evaluation import Evaluator
from captum_mda.ordering.fast.settings import FastSettings
from captum_mda.ordering.fast.state import CurveState
from captum_mda.ordering.greedy import default_window, first_unplaced
from captum_mda.ordering.lockstep import Search
from captum_mda.ordering.memory import Memory

# No figures are on record for other values of these five: not tuned one by one.
SINGLE_DELETION = 4
"""Affordable candidates per feature from which on a step places one feature."""
DELETION_BLOCKS = 64
"""Number of steps that would place all features where a step places several."""
LEAST_DELETION_WIDTH = 3
"""Least number of candidates of such a step, per feature that it places."""
QUIET_BLOCK = 16
"""Largest number of features placed at once where the response is quiet."""
QUIET_WIDTH = 6
"""Candidates of a step there, once blocks of the prior's ranking are not quiet."""


class DeletionPhase:
    """Finds the back of the order.

    Args:
        settings (FastSettings): The settings.
        state (CurveState): The state, whose back and deletion curve grow.
        budget (Budget): The count of forwards.
        evaluate (Evaluator): Evaluates subsets.
        worst_first (list[int]): The features, ranked by the prior from its bottom.
    """

    def __init__(
        self,
        *,
        settings: FastSettings,
        state: CurveState,
        budget: Budget,
        evaluate: Evaluator,
        worst_first: list[int],
    ) -> None:
        self._state, self._budget = state, budget
        self._evaluate, self._worst_first = evaluate, worst_first
        self._window = settings.window or default_window(state.n)
        self._memory = Memory(state.n, settings.oldest_share)

    def run(self) -> Search[None]:
        """Place all features that the front does not hold."""
        yield from self._place_quiet_blocks()
        while self._state.n_unplaced > 0:
            yield from self._place_lowest()

    def _place_quiet_blocks(self) -> Search[None]:
        """Place the features that the prior ranks last, while the response is quiet."""
        state, size = self._state, QUIET_BLOCK
        while size and (room := state.n_unplaced):
            block = self._candidates(min(size, room))
            response = yield from self._evaluate.remaining(state.back + block)
            if not state.is_quiet(response):
                size = len(block) // 2
                continue
            state.place_last(block, response)

    def _place_lowest(self) -> Search[None]:
        """Place the candidates with the lowest responses."""
        state = self._state
        place = state.n - len(state.back)
        if np.isnan(state.deletion[place]):  # several were placed at once
            state.deletion[place] = yield from self._evaluate.remaining(state.back)
        response = state.deletion[place]
        quiet = state.is_quiet(response)
        candidates = self._candidates(self._window)
        size, width = (QUIET_WIDTH, QUIET_WIDTH) if quiet else self._pace()
        chosen = self._memory.choose(candidates, width, not quiet)
        screened = yield from self._evaluate.screen_back_insertions(chosen)
        if size == 1:  # a block is placed by bfloat16's responses, if screened
            yield from self._evaluate.best_of(screened)
        responses = screened.responses
        self._memory.note(chosen, response - responses)
        ranking = np.argsort(responses, kind="stable")
        if quiet:
            size = max(1, int(state.is_quiet(responses).sum()))
        block, lowest = [chosen[index] for index in ranking[:size]], ranking[0]
        known = responses[lowest] if screened.known[lowest] else None
        state.place_last(block[:1], known)
        state.place_last(block[1:])

    def _candidates(self, n: int) -> list[int]:
        """List the next features of the prior's ranking, from its bottom."""
        placed = self._state.front + self._state.back
        return first_unplaced(self._worst_first, placed, n)

    def _pace(self) -> tuple[int, int]:
        """Spread the rest of the budget over the features without a place.

        Returns:
            *tuple[int, int]*: the number of features that a step places, and that of
            its candidates.
        """
        n = self._state.n
        curve = n // FAR_STRIDE + NEAR_POINTS
        per_feature = max(self._budget.left - curve, 1.0) / self._state.n_unplaced
        if per_feature >= SINGLE_DELETION:
            return 1, min(int(per_feature), self._window)
        size = max(1, round(n / DELETION_BLOCKS))
        least = min(LEAST_DELETION_WIDTH * size, self._window)
        # A step after several at once evaluates one row more: its starting point.
        width = int(size * per_feature) - (size > 1)
        if width >= least:
            return size, min(width, self._window)
        # Larger blocks lose less than fewer candidates would.
        return min(ceil((least + 1) / per_feature), least), least
