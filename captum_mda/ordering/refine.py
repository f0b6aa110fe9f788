"""Local moves on a finished order, made only where the metrics themselves gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from captum_mda._checks import require_positive_integer
from captum_mda.ordering.base import (
    complete,
    DELETION,
    Described,
    INSERTION,
    joint_score,
    Ordering,
    require_ordering,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.lockstep import (
    Bools,
    Floats,
    run_in_lockstep,
    Search,
    SubsetQuery,
)
from captum_mda.ordering.validation import validated_result

LENGTHS = (1, 2, 4, 8)
"""Lengths of the runs that change places, pass by pass; not tuned."""
CLOSED = 0.005
"""Distance of a normalised response from its end, below which pairs are left as they
are; not tuned."""


class RefinedOrdering(Described):
    """Improves the order of another search by exchanging neighbours.

    A pass cuts the order into pairs of neighbouring runs of features and evaluates, in
    one sweep, the responses after each pair's runs change places. The exchanges that
    raise insertion less deletion are made. Both curves, clipped and monotone, are known
    exactly after each exchange, as pairs do not overlap. Passes use runs of 1, 2, 4 and
    8 features in turn, then the same shifted by half a pair. Pairs where both curves
    have reached their ends are skipped.

    The score of the order never falls. Evaluating the whole curves of the first order
    costs up to 2 (N - 1) forwards; a pass costs less than two per feature in the pairs
    that it evaluates.

    Args:
        ordering (Ordering): Finds the first order.
        passes (int): The number of passes. Default: 8

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> from captum_mda.ordering import FastOrdering, RefinedOrdering
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> refined = RefinedOrdering(FastOrdering(), passes=2)
        >>> mda = MetricDrivenAttribution(demo.load_model(), ordering=refined)
        >>> mda.explain(images, target=labels, feature_mask=mask).order.shape
        torch.Size([1, 64])
    """

    def __init__(self, ordering: Ordering, passes: int = 8) -> None:
        """Check the number of passes."""
        require_ordering(ordering)
        self.passes = require_positive_integer("passes", passes)
        self.ordering = ordering

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the features of all of a task's examples, and improve the orders."""
        found = validated_result(self.ordering(task), task)
        return refined(task, found, self.passes)


def refined(task: SearchTask, found: SearchResult, passes: int) -> SearchResult:
    """Improve the orders of all of a task's examples, side by side.

    Args:
        task (SearchTask): What was ordered.
        found (SearchResult): The orders; their curves are evaluated again.
        passes (int): The number of passes.

    Returns:
        *SearchResult*: orders with no less insertion less deletion, and their curves.
    """
    unknown = torch.full_like(found.insertion, torch.nan)
    insertion, deletion = unknown.clone(), unknown.clone()
    insertion[:, [0, -1]], deletion[:, [0, -1]] = (
        found.insertion[:, [0, -1]],
        found.deletion[:, [0, -1]],
    )
    found = complete(task, replace(found, insertion=insertion, deletion=deletion))
    chains = [
        _Chain(
            task=task,
            example=int(example),
            order=found.order[row].numpy().copy(),
            insertion=found.insertion[row].numpy().copy(),
            deletion=found.deletion[row].numpy().copy(),
        )
        for row, example in enumerate(task.examples)
    ]
    run_in_lockstep(
        [chain.improve(passes) for chain in chains], task.examples, task.responses
    )
    return SearchResult(
        order=torch.from_numpy(np.stack([chain.order for chain in chains])),
        n_inserted=found.n_inserted,
        insertion=torch.from_numpy(np.stack([chain.insertion for chain in chains])),
        deletion=torch.from_numpy(np.stack([chain.deletion for chain in chains])),
    )


# Not frozen: passes replace its order and curves.
@dataclass(kw_only=True)
class _Chain:
    """One example's order (N,) and both raw curves (N + 1,), every point known."""

    task: SearchTask
    example: int
    order: NDArray[np.int64]
    insertion: Floats
    deletion: Floats

    def improve(self, passes: int) -> Search[None]:
        """Run the passes."""
        for pass_ in range(passes):
            length = LENGTHS[pass_ % len(LENGTHS)]
            offset = pass_ // len(LENGTHS) % 2 * length
            yield from self._exchange(length, offset)

    def _exchange(self, length: int, offset: int) -> Search[None]:
        """Exchange the runs of the pairs where that raises the score."""
        starts = self._open_pairs(length, offset)
        if not starts:
            return
        prefixes = self._prefixes(starts, length)
        inserted = yield SubsetQuery(prefixes, INSERTION)
        deleted = yield SubsetQuery(~prefixes, DELETION)
        moves = zip(
            starts,
            inserted.reshape(len(starts), -1),
            deleted.reshape(len(starts), -1),
            strict=True,
        )
        score = self._score(self.insertion, self.deletion)
        for start, rise, fall in moves:
            inner = slice(start + 1, start + 2 * length)  # the points that change
            insertion, deletion = self.insertion.copy(), self.deletion.copy()
            insertion[inner], deletion[inner] = rise, fall
            changed = self._score(insertion, deletion)
            if changed > score:
                score, self.insertion, self.deletion = changed, insertion, deletion
                self.order = self._exchanged(start, length)

    def _open_pairs(self, length: int, offset: int) -> list[int]:
        """Find the pairs along which either curve has not reached its end."""
        base, full = self.insertion[[0, -1]]
        zero = self.deletion[-1]
        rise = np.maximum.accumulate((self.insertion - base) / (full - base))
        fall = np.minimum.accumulate((self.deletion - zero) / (full - zero))
        is_open = (rise < 1.0 - CLOSED) | (fall > CLOSED)
        last = len(self.order) - 2 * length
        return [
            start
            for start in range(offset, last + 1, 2 * length)
            if is_open[start : start + 2 * length].any()
        ]

    def _exchanged(self, start: int, length: int) -> NDArray[np.int64]:
        """Return the order after one exchange."""
        order: NDArray[np.int64] = self.order.copy()
        pair = slice(start, start + 2 * length)
        order[pair] = np.roll(self.order[pair], length)
        return order

    def _prefixes(self, starts: list[int], length: int) -> Bools:
        """List the first features at the points that each exchange changes: (R, N)."""
        prefixes = np.zeros((len(starts), 2 * length - 1, len(self.order)), dtype=bool)
        for row, start in enumerate(starts):
            order = self._exchanged(start, length)
            for step in range(2 * length - 1):
                prefixes[row, step, order[: start + 1 + step]] = True
        return prefixes.reshape(-1, len(self.order))

    def _score(self, insertion: Floats, deletion: Floats) -> float:
        return joint_score(insertion, deletion, self.task.end_points, self.example)
