"""The state of one search: the features placed so far, and both response curves."""

from __future__ import annotations

import numpy as np

from captum_mda.ordering.base import SearchTask
from captum_mda.ordering.lockstep import Bools, Floats

HANDOVER_SHARE = 0.1
# Came with patience, whose gain is +.0074 to +.0196; no figure on record for other
# values: not tuned.
"""Share of the features over which deletion is assumed to fall after a handover."""


class CurveState:
    """The order under construction, from both ends, and the curves known so far.

    Args:
        task (SearchTask): The task.
        example (int): The example that is searched.
        quiet_level (float): Normalised response below which deletion is quiet.

    Attributes:
        n (int): N.
        full, base, zero (float): Responses to the input, and to the insertion and the
            deletion baseline.
        insertion (NDArray): float64 (N + 1,), raw response with the first k features
            inserted; NaN where it is not known.
        deletion (NDArray): float64 (N + 1,), with the first k deleted, alike.
        front (list[int]): o_1, ..., o_C.
        back (list[int]): o_N, o_{N-1}, ..., o_{C+1}.
    """

    def __init__(self, task: SearchTask, example: int, quiet_level: float) -> None:
        self.n = n = task.responses.n_features
        self.full = float(task.end_points.full[example])
        self.base = float(task.end_points.insertion_baseline[example])
        self.zero = float(task.end_points.deletion_baseline[example])
        self.insertion = np.full(n + 1, np.nan)
        self.deletion = np.full(n + 1, np.nan)
        self.insertion[[0, n]] = self.base, self.full
        self.deletion[[0, n]] = self.full, self.zero
        self.front: list[int] = []
        self.back: list[int] = []
        self._quiet_level = quiet_level

    @property
    def n_unplaced(self) -> int:
        """The number of features without a place."""
        return self.n - len(self.front) - len(self.back)

    @property
    def order(self) -> list[int]:
        """The order, once all features are placed."""
        return self.front + self.back[::-1]

    def is_quiet(self, response: Floats | float) -> Bools:
        """Tell where a response is too near the deletion baseline's to matter."""
        height = (response - self.zero) / abs(self.full - self.zero)
        return np.asarray(height < self._quiet_level)

    def front_is_quiet(self) -> bool:
        """Tell whether deletion is quiet in front, where no order can gain then."""
        return bool(self.is_quiet(self.deletion[: len(self.front) + 1].min()))

    def place_last(self, block: list[int], response: float | None = None) -> None:
        """Place features before those of the back.

        Args:
            block (list[int]): The features.
            response (float, optional): The response with all but the back deleted.
                None: not known. Default: None
        """
        self.back += block
        if response is not None:
            self.deletion[self.n - len(self.back)] = response

    def cut_front(self, length: int) -> None:
        """Take the features behind the first ones off the front."""
        del self.front[length:]
        self.insertion[length + 1 : self.n] = np.nan
        self.deletion[length + 1 : self.n] = np.nan

    def outlook(self) -> tuple[float, bool]:
        """Estimate the outcome if deletion takes over at the current front.

        Returns:
            *tuple[float, bool]*: the area between the curves times N, where insertion
            stays and deletion falls over `HANDOVER_SHARE`; and whether neither curve
            can gain any more.
        """
        known = slice(0, len(self.front) + 1)
        rise = (self.insertion[known] - self.base).clip(0.0)
        rise = np.maximum.accumulate((rise / (self.full - self.base)).clip(max=1.0))
        fall = (self.deletion[known] - self.zero).clip(0.0)
        fall = np.minimum.accumulate((fall / (self.full - self.zero)).clip(max=1.0))
        ahead = (self.n - len(self.front)) * rise[-1]
        ahead -= HANDOVER_SHARE * self.n * fall[-1]
        is_over = rise[-1] == 1.0 and fall[-1] < self._quiet_level
        return float((rise - fall)[:-1].sum() + ahead), bool(is_over)
