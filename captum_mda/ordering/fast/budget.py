"""The count of a search's forwards against its budget."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captum_mda.ordering.lockstep import answered_by, Outcome, Search, SubsetQuery


class Budget:
    """Counts the forwards of one search.

    Args:
        forwards (float): The number of forwards it may take.

    Attributes:
        spent (int): The number of forwards so far.
    """

    def __init__(self, forwards: float) -> None:
        self.forwards = forwards
        self.spent = 0

    @property
    def left(self) -> float:
        """The number of forwards that remain, negative beyond the budget."""
        return self.forwards - self.spent

    def exceeds(self, share: float) -> bool:
        """Tell whether more than a share of the budget is spent."""
        return self.spent > share * self.forwards

    def fraction_left(self, share: float) -> float:
        """Compute the unspent fraction of a share of the budget, 1 at first."""
        return 1 - self.spent / (share * self.forwards)

    def reset(self) -> None:
        """Start the count again."""
        self.spent = 0

    def count(self, search: Search[Outcome]) -> Search[Outcome]:
        """Run a search, and count the rows of its queries."""
        return (yield from answered_by(self._counted, search))

    def _counted(self, query: SubsetQuery) -> Search[NDArray[np.float64]]:
        self.spent += len(query.subsets)
        return (yield query)
