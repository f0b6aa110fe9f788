"""What a search remembers of its candidates."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray


class Memory:
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
