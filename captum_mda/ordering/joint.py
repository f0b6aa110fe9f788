"""Repeats the fast search with its own result as the prior, while that pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from captum_mda._checks import (
    require_positive_integer,
    require_positive_number,
)
from captum_mda.ordering.base import (
    Described,
    joint_score,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast import FastOrdering
from captum_mda.ordering.greedy import Found, order_side_by_side
from captum_mda.ordering.lockstep import answered_by, Floats, Search, SubsetQuery


class JointOrdering(Described):
    """Orders features by both metrics in rounds, each with the last order as its prior.

    A greedy search is as good as its candidates, and a prior from another method knows
    little of the metrics. The order that a search has found knows more. So each round
    runs the search of `FastOrdering` with the order of the round before as its prior,
    and the order with the highest insertion less deletion of all rounds is kept.
    Responses of earlier rounds are reused.

    Rounds end when one returns the order of the round before, after ``rounds``, or
    where another round as costly as the last would exceed the budget.

    Args:
        forwards_per_feature (float, optional): The budget of all rounds: how many
            forwards the search of an example with N features aims at, divided by N. At
            least one round runs. Default: 25.0, less than `PaperOrdering` takes for
            196 patches.
        rounds (int, optional): The maximal number of rounds. Default: 4
        searches (sequence of FastOrdering, optional): The search of the first round, of
            the second, and so on; the last of them runs in all further rounds. None:
            ``FastOrdering(deletion_checks=8)`` in each. Default: None

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> from captum_mda.ordering import JointOrdering
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> mda = MetricDrivenAttribution(
        ...     demo.load_model(), ordering=JointOrdering(rounds=2)
        ... )
        >>> mda.explain(images, target=labels, feature_mask=mask).order.shape
        torch.Size([1, 64])
    """

    def __init__(
        self,
        forwards_per_feature: float = 25.0,
        rounds: int = 4,
        searches: Sequence[FastOrdering] | None = None,
    ) -> None:
        """Check the numbers and the searches."""
        self.forwards_per_feature = require_positive_number(
            "forwards_per_feature", forwards_per_feature
        )
        self.rounds = require_positive_integer("rounds", rounds)
        given = (THOROUGH,) if searches is None else searches
        searches = tuple(given) if isinstance(given, Iterable) else ()
        if not searches or not all(isinstance(s, FastOrdering) for s in searches):
            raise TypeError(
                f"searches: got {given!r}, takes a sequence of FastOrdering"
            )
        self.searches = searches

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the features of all of a task's examples, side by side."""
        return order_side_by_side(task, self._search)

    def _search(self, task: SearchTask, example: int) -> Search[Found]:
        """Search the order of one example, round by round."""
        n = task.responses.n_features
        budget = self.forwards_per_feature * n
        cache = ResponseCache()
        prior: Floats | None = None
        best: Found | None = None
        highest, before = -np.inf, 0
        for round_ in range(self.rounds):
            ordering = self.searches[min(round_, len(self.searches) - 1)]
            found = yield from cache.run(ordering.search(task, example, prior))
            score = joint_score(*found[2:], task.end_points, example)
            if score > highest:
                best, highest = found, score
            is_repeated = prior is not None and found[0] == np.argsort(-prior).tolist()
            if is_repeated or 2 * cache.n_evaluated - before > budget:
                break
            before = cache.n_evaluated
            prior = np.empty(n)
            prior[found[0]] = np.arange(n, 0, -1)
        assert best is not None  # there is a first round
        return best


THOROUGH = FastOrdering(deletion_checks=8)
# Not tuned on its own: no figure with another number of checks is on record.
"""The default search of a round."""


class ResponseCache:
    """The responses of one example so far, so that no subset is evaluated twice.

    Attributes:
        n_evaluated (int): The number of responses that were not in the cache.
    """

    def __init__(self) -> None:
        self.n_evaluated = 0
        self._known: dict[tuple[int, bool, bytes], float] = {}

    def run(self, search: Search[Found]) -> Search[Found]:
        """Run a search, and pass on the part of its queries that is not known yet."""
        return (yield from answered_by(self._answer, search))

    def _answer(self, query: SubsetQuery) -> Search[Floats]:
        """Evaluate the unknown rows of a query, and return all of its responses."""
        packed = np.packbits(query.subsets, axis=1)
        keys = [(query.baseline_index, query.in_bf16, row.tobytes()) for row in packed]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = list(new.values())
            values = yield replace(query, subsets=query.subsets[rows])
            self._known.update(zip(new, values.tolist(), strict=True))
            self.n_evaluated += len(rows)
        return np.array([self._known[key] for key in keys])
