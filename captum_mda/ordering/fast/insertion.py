"""The insertion phase: features o_1, ..., o_C, chosen by both metrics."""

from __future__ import annotations

from math import ceil

import numpy as np

from captum_mda.ordering.base import DELETION, INSERTION
from captum_mda.ordering.fast.budget import Budget
from captum_mda.ordering.fast.evaluation import Evaluator
from captum_mda.ordering.fast.settings import FastSettings
from captum_mda.ordering.fast.state import CurveState
from captum_mda.ordering.greedy import default_window, first_unplaced, reached
from captum_mda.ordering.lockstep import Floats, Search
from captum_mda.ordering.memory import Memory
from captum_mda.ordering.screening import Screened

# Chosen so that the budget holds where tau is far, at 196 patches of equal weight
# (tests/ordering/test_fast.py). No score is on record for other shares: not tuned.
INSERTION_SHARE = 0.4
"""Share of the budget after which steps are as narrow as they may be."""
LONGEST_SHARE = 0.53
"""Share after which insertion places pairs up to tau, and stops past it."""
INSERTION_LIMIT = 0.8
"""Share after which insertion ends, whether tau is reached or not."""
LEAST_INSERTION_WIDTH = 6
"""Least number of candidates of a step; no figure on record: not tuned."""


class InsertionPhase:
    """Finds the front of the order.

    Args:
        settings (FastSettings): The settings.
        state (CurveState): The state, whose front and curves grow.
        budget (Budget): The count of forwards.
        evaluate (Evaluator): Evaluates subsets.
        best_first (list[int]): The features, ranked by the prior.
        tau (float): As for `SearchTask`.
    """

    def __init__(
        self,
        *,
        settings: FastSettings,
        state: CurveState,
        budget: Budget,
        evaluate: Evaluator,
        best_first: list[int],
        tau: float,
    ) -> None:
        self._settings, self._state, self._budget = settings, state, budget
        self._evaluate, self._best_first, self._tau = evaluate, best_first, tau
        self._window = settings.window or default_window(state.n)
        self._memory = Memory(state.n, settings.oldest_share)
        self._losses = np.full(state.n, np.nan)  # by deletion, at the last check

    def run(self) -> Search[None]:
        """Insert up to tau, and past it while both scores gain."""
        state, tau = self._state, self._tau
        patience = self._settings.patience if 0.0 < tau < 1.0 else 0
        past_tau, best_length, best_value = False, 0, -np.inf
        while (length := len(state.front)) < state.n:
            past_tau = past_tau or reached(
                state.insertion[length], state.base, state.full, tau
            )
            if past_tau:
                value, is_over = state.outlook()
                if value > best_value:
                    best_length, best_value = length, value
                in_pairs = self._budget.exceeds(self._share(LONGEST_SHARE))
                if is_over or in_pairs or length - best_length >= patience:
                    break
            if tau < 1.0 and self._budget.exceeds(INSERTION_LIMIT):
                break
            yield from self._insert_best()
        if past_tau:
            state.cut_front(best_length)

    def _share(self, usual: float) -> float:
        """Choose a share of the budget: a larger one where deletion needs no more."""
        return INSERTION_LIMIT if self._deletion_is_settled() else usual

    def _deletion_is_settled(self) -> bool:
        """Tell whether no order can gain in deletion any more.

        With many features, to use this lost score; no figure is on record.
        """
        return self._settings.learns_losses and self._state.front_is_quiet()

    def _insert_best(self) -> Search[None]:
        """Insert a step's best candidate, or its best two where the budget is short."""
        state = self._state
        candidates = first_unplaced(self._best_first, state.front, self._window)
        fraction = self._budget.fraction_left(self._share(INSERTION_SHARE))
        least = max(LEAST_INSERTION_WIDTH, self._settings.deletion_checks)
        chosen = self._memory.choose(
            candidates, max(round(self._window * fraction), least)
        )
        inserted = yield from self._evaluate.screen_insertions(chosen)
        if self._tau < 1.0:
            best = yield from self._best_by_both(chosen, inserted)
        else:  # the order is by insertion alone
            best = yield from self._evaluate.best_of(inserted)
        self._memory.note(
            chosen, inserted.responses - state.insertion[len(state.front)]
        )
        state.front.append(chosen[best])
        state.insertion[len(state.front)] = inserted.responses[best]
        in_pairs = self._budget.exceeds(self._share(LONGEST_SHARE))
        if in_pairs and self._tau < 1.0 and len(chosen) > 1:
            inserted.responses[best] = -np.inf
            yield from self._insert_second(chosen[int(inserted.responses.argmax())])

    def _insert_second(self, feature: int) -> Search[None]:
        """Insert the second best candidate, and evaluate both curves there."""
        state = self._state
        state.front.append(feature)
        present, place = np.zeros((1, state.n), dtype=bool), [len(state.front)]
        present[0, state.front] = True
        state.insertion[place] = yield from self._evaluate.responses(present, INSERTION)
        state.deletion[place] = yield from self._evaluate.responses(~present, DELETION)

    def _best_by_both(self, chosen: list[int], inserted: Screened) -> Search[int]:
        """Choose by the gain of inserting a feature plus the loss of deleting it."""
        state, place = self._state, len(self._state.front)
        current = state.deletion[place]
        # Both as the metrics see them: normalised, clipped and monotone.
        highest = state.insertion[: place + 1].max()
        lowest = state.deletion[: place + 1].min()

        def value(rise: Floats, fall: Floats) -> Floats:
            rise = np.clip(rise, highest, state.full) - state.base
            fall = np.clip(fall, state.zero, lowest) - state.zero
            return rise / abs(state.full - state.base) - fall / abs(
                state.full - state.zero
            )

        n_checks = self._n_checks(len(chosen))
        if n_checks == 1:  # insertion alone decides
            yield from self._evaluate.best_of(inserted)
            best = np.array([inserted.responses.argmax()])
        else:
            losses = self._expected_losses(chosen)
            expected = value(inserted.responses, current - losses)
            # Of equal ones, those with the higher responses to insertion.
            best = np.lexsort((-inserted.responses, -expected))[:n_checks]
        features = [chosen[index] for index in best]
        checked = inserted.rows(best)
        deleted = yield from self._evaluate.screen_front_deletions(features)
        # Of equal values the first, which was expected to be the best, is taken.
        row = yield from self._evaluate.decide(value, checked, deleted)
        inserted.responses[best] = checked.responses
        self._losses[features] = current - deleted.responses
        state.deletion[place + 1] = deleted.responses[row]
        return int(best[row])

    def _expected_losses(self, chosen: list[int]) -> Floats:
        """Predict the loss of deleting each candidate by its last one: (K,)."""
        losses = self._losses[chosen]
        known = ~np.isnan(losses)
        if not (self._settings.learns_losses and known.any()):
            return np.zeros(len(chosen))
        return np.where(known, losses, losses[known].mean())

    def _n_checks(self, n_chosen: int) -> int:
        """Choose the number of candidates whose deletion is evaluated."""
        if self._deletion_is_settled():
            return 1
        n_checks = min(self._settings.deletion_checks, n_chosen)
        if self._settings.learns_losses and n_checks > 1 and not self._state.front:
            # Those of a whole window; later steps choose by these losses.
            return min(default_window(self._state.n), n_chosen)
        if self._budget.exceeds(self._share(INSERTION_SHARE)):
            return min(n_checks, ceil(n_chosen / 3))
        return n_checks
