"""The queries of one search: subsets in, responses out; end points cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from captum_mda.ordering.base import DELETION, INSERTION
from captum_mda.ordering.fast.state import CurveState
from captum_mda.ordering.greedy import subsets_with_each
from captum_mda.ordering.lockstep import Bools, Floats, Search, SubsetQuery
from captum_mda.ordering.screening import FRUGAL, Screened, Screening


class Evaluator:
    """Evaluates subsets of one example, and decides between candidates frugally.

    Args:
        state (CurveState): Knows the responses to all features and to none.
        screening (Screening): The example's.
    """

    def __init__(self, state: CurveState, screening: Screening) -> None:
        self._state, self._screening = state, screening

    def responses(self, subsets: Bools, baseline_index: int) -> Search[Floats]:
        """Evaluate subsets (R, N) in float32: (R,)."""
        full, none = subsets.all(axis=1), self._state.zero
        responses = np.where(full, self._state.full, none)
        unknown = ~full & subsets.any(axis=1)
        if unknown.any():
            responses[unknown] = yield SubsetQuery(subsets[unknown], baseline_index)
        return responses

    def remaining(self, present: list[int]) -> Search[float]:
        """Evaluate the input with all but these features deleted."""
        subset = np.zeros((1, self._state.n), dtype=bool)
        subset[0, present] = True
        (response,) = yield from self.responses(subset, DELETION)
        return float(response)

    def prefixes(self, order: list[int], counts: Sequence[int]) -> Search[Floats]:
        """Evaluate the first features of an order, inserted: one per count."""
        subsets = np.zeros((len(counts), self._state.n), dtype=bool)
        for row, count in enumerate(counts):
            subsets[row, order[:count]] = True
        return (yield from self.responses(subsets, INSERTION))

    def screen(
        self, subsets: Bools, baseline_index: int, sense: int
    ) -> Search[Screened]:
        """Screen subsets (R, N); all of them, or none, may be end points.

        Args:
            subsets (NDArray): bool (R, N).
            baseline_index (int): The baseline that stands for the absent features.
            sense (int): 1 where a higher response is better, -1 where a lower one is.
        """
        if subsets.all() or not subsets.any():
            responses = yield from self.responses(subsets, baseline_index)
            return Screened(
                subsets,
                baseline_index=baseline_index,
                sense=sense,
                responses=responses,
                in_bf16=False,
            )
        return (yield from self._screening.screen(subsets, baseline_index, sense))

    def screen_insertions(self, candidates: list[int]) -> Search[Screened]:
        """Screen each candidate inserted behind the front."""
        subsets = subsets_with_each(candidates, self._state.front, self._state.n)
        return (yield from self.screen(subsets, INSERTION, 1))

    def screen_front_deletions(self, candidates: list[int]) -> Search[Screened]:
        """Screen each candidate deleted together with the front."""
        deleted = subsets_with_each(candidates, self._state.front, self._state.n)
        return (yield from self.screen(~deleted, DELETION, -1))

    def screen_back_insertions(self, candidates: list[int]) -> Search[Screened]:
        """Screen each candidate present together with the back, all else deleted."""
        subsets = subsets_with_each(candidates, self._state.back, self._state.n)
        return (yield from self.screen(subsets, DELETION, -1))

    def best_of(self, screened: Screened) -> Search[int]:
        """Find the row with the best response; see `Screening.best_of`."""
        return (yield from self._screening.best_of(screened, FRUGAL))

    def decide(self, value: Callable[..., Floats], *screened: Screened) -> Search[int]:
        """Find the row of the highest value; see `Screening.decide`."""
        return (yield from self._screening.decide(value, *screened, rule=FRUGAL))
