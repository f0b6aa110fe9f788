"""The record of candidates' gains, by which a step chooses which to evaluate."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray


class Memory:
    """Each feature's most recent gain, and the step at which it was measured."""

    def __init__(self, n_features: int, oldest_share: float) -> None:
        self._gains = np.full(n_features, -np.inf)
        self._steps = np.full(n_features, -1)
        self._step = 0
        self._oldest_share = oldest_share

    def choose(
        self, candidates: list[int], width: int, all_new: bool = True
    ) -> list[int]:
        """Choose candidates to evaluate: new ones, the best, and the oldest.

        Args:
            candidates (list[int]): Ascending.
            width (int): The number of candidates to choose.
            all_new (bool, optional): Whether to choose all that were never evaluated,
                even if they are more than ``width``. Default: True

        Returns:
            *list[int]*: ascending.
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

    def note(self, evaluated: list[int], gains: NDArray[np.float64]) -> None:
        """Record the gains of the features that a step has evaluated."""
        self._gains[evaluated] = gains
        self._steps[evaluated] = self._step
        self._step += 1
