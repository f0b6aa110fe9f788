"""Sweeps: the responses while features are inserted or deleted along a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_mda._summaries import Brief
from captum_mda.perturbation.scores import ScoredAs
from captum_mda.perturbation.subsets import SubsetResponses, take_rows


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Brief):
    """The features that have moved after each step of a sweep.

    Args:
        order (Tensor): int64 (B, N), features in the order in which they move.
        counts (Tensor): int64 (n + 1,) on the CPU, the number of features that have
            moved at each point of the sweep, ascending.
    """

    order: Tensor
    counts: Tensor

    @classmethod
    def of(cls, order: Tensor, n_steps: int) -> Ranking:
        """Divide an order into steps of nearly equal size, from none to all.

        Args:
            order (Tensor): int64 (B, N), features in the order in which they move.
            n_steps (int): The largest number of steps; at most one per feature is made.
        """
        n_features = order.shape[1]
        n_steps = min(n_steps, n_features)
        return cls(order, torch.arange(n_steps + 1) * n_features // n_steps)

    @cached_property
    def place(self) -> Tensor:
        """The place of each feature in its example's ranking: int32 (B, N)."""
        return self.order.argsort(dim=1).int()

    @property
    def n_steps(self) -> int:
        """The number of steps between the points."""
        return len(self.counts) - 1


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Path(Brief):
    """One sweep.

    Args:
        ranking (Ranking): The features that have moved at each point.
        deletes (bool): Whether features are deleted from the input instead of inserted
            into the baseline.
        baseline_index (int, optional): The baseline that stands for absent features.
            Default: 0
    """

    ranking: Ranking
    deletes: bool
    baseline_index: int

    def __init__(
        self, ranking: Ranking, deletes: bool, baseline_index: int = 0, kind: int = 0
    ) -> None:
        """Make a path; ``kind`` is ``baseline_index`` by its name of version 0.1."""
        object.__setattr__(self, "ranking", ranking)
        object.__setattr__(self, "deletes", deletes)
        object.__setattr__(self, "baseline_index", baseline_index or kind)

    @property
    def kind(self) -> int:
        """``baseline_index``, by the name that it had in version 0.1."""
        return self.baseline_index

    @property
    def full_point(self) -> int:
        """The end of the path at which all features are present."""
        return 0 if self.deletes else self.ranking.n_steps


class Sweep:
    """All distinct perturbed inputs of one or more paths.

    Paths share equal inputs: the ends, and subsets that two rankings have in common or
    that one inserts and the other leaves.

    Args:
        paths (sequence of Path): All rank the same features of the same examples.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """List the inputs, by example, so that chunks hold few different examples."""
        self._paths = paths
        self._rankings = list(dict.fromkeys(path.ranking for path in paths))
        n_examples = len(paths[0].ranking.order)
        parts = [
            torch.cartesian_prod(
                torch.arange(n_examples),
                torch.tensor([number]),
                torch.arange(path.ranking.n_steps + 1),
            )
            for number, path in enumerate(paths)
        ]
        points = torch.cat(parts)
        points = points[points[:, 0].argsort(stable=True)]
        self._examples, self._path_numbers, self._steps = points.unbind(dim=1)
        self._first, self._copy_of = _distinct(self._identities())

    @property
    def n_rows(self) -> int:
        """The number of inputs that the model will see."""
        return len(self._first)

    def run(self, responses: SubsetResponses) -> list[Tensor]:
        """Score all inputs: the raw scores of `evaluate`."""
        return self.evaluate(responses)[0]

    def evaluate(self, responses: SubsetResponses) -> tuple[list[Tensor], ScoredAs]:
        """Score all inputs, and tell what the scores are made of.

        Args:
            responses (SubsetResponses): Scores subsets, on the baselines that the
                paths name by their index.

        Returns:
            *list[Tensor]*, *str*: per path float64 (B, n + 1) on the CPU, raw scores;
            and what they are made of, see `captum_mda.perturbation.scores.scored_as`.
        """
        examples, numbers = (
            self._examples[self._first],
            self._path_numbers[self._first],
        )
        ranking_of = torch.tensor(
            [self._rankings.index(p.ranking) for p in self._paths]
        )
        deletes = torch.tensor([path.deletes for path in self._paths])[numbers]
        baselines = torch.tensor([path.baseline_index for path in self._paths])[numbers]
        places = torch.cat([ranking.place for ranking in self._rankings])
        place_rows = ranking_of[numbers] * len(self._rankings[0].order) + examples
        moved = self._moved()[self._first]

        def subsets(rows: slice) -> Tensor:
            place = take_rows(places, place_rows[rows])  # (1 or r, N)
            has_moved = place < moved[rows, None].to(place.device)
            return has_moved ^ deletes[rows, None].to(place.device)

        scored = responses.evaluate(subsets, examples, baselines)
        values = scored.values.cpu().double()[self._copy_of]
        raw = []
        for number, path in enumerate(self._paths):
            of_path = values[self._path_numbers == number]
            raw.append(of_path.reshape(-1, path.ranking.n_steps + 1))
        return raw, scored.scored_as

    def _moved(self) -> Tensor:
        """Count the features that have moved at every point: int64 (R,)."""
        moved = torch.empty_like(self._steps)
        for number, path in enumerate(self._paths):
            rows = self._path_numbers == number
            moved[rows] = path.ranking.counts[self._steps[rows]]
        return moved

    def _identities(self) -> Tensor:
        """Identify the input of each point: int64 (R, 3), equal rows for equal inputs.

        A subset is identified by the sum of its features' 64 random bits, which two
        different ones share with a chance of 1 in 10^19. With all features present
        the baseline does not matter.
        """
        n_features = self._rankings[0].order.shape[1]
        generator = torch.Generator().manual_seed(0)
        low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
        bits = torch.randint(low, high, (n_features,), generator=generator)
        total = bits.sum()
        sums, baselines = torch.empty_like(self._steps), torch.empty_like(self._steps)
        for number, path in enumerate(self._paths):
            rows = self._path_numbers == number
            running = bits[path.ranking.order.cpu()].cumsum(dim=1)  # wraps around
            running = torch.cat([torch.zeros_like(running[:, :1]), running], dim=1)
            present = running[:, path.ranking.counts]
            n_present = path.ranking.counts
            if path.deletes:
                present, n_present = total - present, n_features - n_present
            sums[rows] = present.flatten()
            used = torch.where(n_present == n_features, -1, path.baseline_index)
            baselines[rows] = used.repeat(len(present))
        return torch.stack([self._examples, baselines, sums], dim=1)


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first of each set of equal rows, and the set that every row is in.

    Args:
        rows (Tensor): int64 (R, d).

    Returns:
        *Tensor*, *Tensor*: int64 (U,), ascending, and int64 (R,) below U.
    """
    _, groups = rows.unique(dim=0, return_inverse=True)
    n_groups = int(groups.max()) + 1
    everything = torch.arange(len(rows))
    first = torch.full((n_groups,), len(rows)).scatter_reduce(
        0, groups, everything, "amin"
    )
    ascending = first.argsort()
    return first[ascending], ascending.argsort()[groups]
