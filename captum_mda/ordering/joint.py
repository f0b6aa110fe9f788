"""A search by both metrics that goes on from its own result, for as long as it pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from captum_mda.ordering.base import (
    Described,
    joint_score,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast import FastOrdering
from captum_mda.ordering.greedy import Found, order_side_by_side
from captum_mda.ordering.lockstep import answered_by, Query, Search
from captum_mda.perturbation.inputs import (
    require_positive_integer,
    require_positive_number,
)


class JointOrdering(Described):
    """Orders patches by both metrics, round by round, each by the order found last.

    A greedy search is as good as its candidates, and those come from a seed that knows
    little of the metrics. An order that a search has found knows more. So the search of
    `FastOrdering`, which asks both metrics, is run again with its own order for a seed,
    and the order with the highest insertion less deletion of all rounds is kept. What
    was asked in an earlier round is not asked again.

    Rounds end when one finds the order of the one before, after ``rounds``, or where
    another as costly as the last would exceed the budget.

    Args:
        forwards_per_feature (float, optional): The budget of all rounds: how many
            forwards the search of an example with N features aims at, divided by N; at
            least one round is run. Default: 25.0, less than `PaperOrdering` takes for
            196 patches.
        rounds (int, optional): The most rounds. Default: 4
        searches (sequence of FastOrdering, optional): The search of the first round, of
            the second, and so on; the last of them is that of all further rounds. None:
            those that were measured to be best. Default: None

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
        forwards_per_feature = require_positive_number(
            "forwards_per_feature", forwards_per_feature
        )
        rounds = require_positive_integer("rounds", rounds)
        given = (THOROUGH,) if searches is None else searches
        searches = tuple(given) if isinstance(given, Iterable) else ()
        if not searches or not all(isinstance(s, FastOrdering) for s in searches):
            raise TypeError(
                f"searches: got {given!r}, takes a sequence of FastOrdering"
            )
        self.forwards_per_feature = forwards_per_feature
        self.rounds = rounds
        self.searches = searches

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples, side by side."""
        return order_side_by_side(task, self._search)

    def _search(self, task: SearchTask, example: int) -> Search[Found]:
        """Search the order of one example, round by round."""
        n = task.responses.n_features
        budget = self.forwards_per_feature * n
        answers = Answers()
        seed: NDArray[np.float64] | None = None
        best: Found | None = None
        highest, before = -np.inf, 0
        for round_ in range(self.rounds):
            ordering = self.searches[min(round_, len(self.searches) - 1)]
            found = yield from answers.remembered(ordering.search(task, example, seed))
            score = joint_score(*found[2:], task.end_points, example)
            if score > highest:
                best, highest = found, score
            order_is_seed = seed is not None and found[0] == np.argsort(-seed).tolist()
            if order_is_seed or 2 * answers.n_asked - before > budget:
                break
            before = answers.n_asked
            seed = np.empty(n)
            seed[found[0]] = np.arange(n, 0, -1)
        assert best is not None  # there is a first round
        return best


THOROUGH = FastOrdering(deletion_checks=8)
"""The search of a round, unless other ones are given."""


class Answers:
    """What was asked of one example and answered, so that nothing is asked twice."""

    def __init__(self) -> None:
        self.n_asked = 0
        self._known: dict[tuple[int, bool, bytes], float] = {}

    def remembered(self, search: Search[Found]) -> Search[Found]:
        """Run a search, and pass on what is not known yet of what it asks."""
        return (yield from answered_by(self._answer, search))

    def _answer(self, query: Query) -> Search[NDArray[np.float64]]:
        """Ask for what is not known yet of a query."""
        packed = np.packbits(query.subsets, axis=1)
        keys = [(query.kind, query.in_bf16, row.tobytes()) for row in packed]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = list(new.values())
            values = yield replace(query, subsets=query.subsets[rows])
            self._known.update(zip(new, values.tolist(), strict=True))
            self.n_asked += len(rows)
        return np.array([self._known[key] for key in keys])
