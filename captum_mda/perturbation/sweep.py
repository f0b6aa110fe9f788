"""Sweeps: the responses while features come or go in the order of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_mda._summaries import Brief
from captum_mda.perturbation.subsets import SubsetResponses, take_rows


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Brief):
    """Which features have moved after each step of a sweep.

    Args:
        order (Tensor): int64 (B, N), features in the order in which they move.
        counts (Tensor): int64 (n + 1,) on the CPU, how many features have moved at each
            point of the sweep, ascending.
    """

    order: Tensor
    counts: Tensor

    @classmethod
    def of(cls, order: Tensor, n_steps: int) -> Ranking:
        """Divide an order into steps of as equal a size as can be, from none to all.

        Args:
            order (Tensor): int64 (B, N), features in the order in which they move.
            n_steps (int): The most steps; never more than one for each feature.
        """
        n_features = order.shape[1]
        n_steps = min(n_steps, n_features)
        return cls(order, torch.arange(n_steps + 1) * n_features // n_steps)

    @cached_property
    def place(self) -> Tensor:
        """Where in its example's ranking a feature stands: int32 (B, N)."""
        return self.order.argsort(dim=1).int()

    @property
    def n_steps(self) -> int:
        """How many steps there are between the points."""
        return len(self.counts) - 1


@dataclass(frozen=True, eq=False, repr=False)
class Path(Brief):
    """One sweep.

    Args:
        ranking (Ranking): Which features have moved at each point.
        deletes (bool): Whether features are deleted from the input instead of inserted
            into the baseline.
        kind (int, optional): Which kind of baseline. Default: 0
    """

    ranking: Ranking
    deletes: bool
    kind: int = 0

    @property
    def full_point(self) -> int:
        """The point at which all features are present, if the path comes there."""
        return 0 if self.deletes else self.ranking.n_steps


class Sweep:
    """All perturbed inputs of one or more paths, each different one once.

    Paths share what is the same input: the ends, and subsets that two rankings have in
    common or that one inserts and the other leaves.

    Args:
        paths (sequence of Path): They rank the same features of the same examples.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """List the inputs: by example, so that chunks hold few different ones."""
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
        """How many inputs the model will see."""
        return len(self._first)

    def run(self, responses: SubsetResponses) -> list[Tensor]:
        """Score all inputs.

        Args:
            responses (SubsetResponses): Scores subsets; its kinds of baseline are those
                of the paths.

        Returns:
            *list[Tensor]*: of each path float64 (B, n + 1) on the CPU, raw scores.
        """
        examples, numbers = (
            self._examples[self._first],
            self._path_numbers[self._first],
        )
        ranking_of = torch.tensor(
            [self._rankings.index(p.ranking) for p in self._paths]
        )
        deletes = torch.tensor([path.deletes for path in self._paths])[numbers]
        kinds = torch.tensor([path.kind for path in self._paths])[numbers]
        places = torch.cat([ranking.place for ranking in self._rankings])
        place_rows = ranking_of[numbers] * len(self._rankings[0].order) + examples
        moved = self._moved()[self._first]

        def subsets(rows: slice) -> Tensor:
            place = take_rows(places, place_rows[rows])  # (1 or r, N)
            has_moved = place < moved[rows, None].to(place.device)
            return has_moved ^ deletes[rows, None].to(place.device)

        values = responses(subsets, examples, kinds).cpu().double()[self._copy_of]
        raw = []
        for number, path in enumerate(self._paths):
            of_path = values[self._path_numbers == number]
            raw.append(of_path.reshape(-1, path.ranking.n_steps + 1))
        return raw

    def _moved(self) -> Tensor:
        """Count what has moved at every point: int64 (R,)."""
        moved = torch.empty_like(self._steps)
        for number, path in enumerate(self._paths):
            rows = self._path_numbers == number
            moved[rows] = path.ranking.counts[self._steps[rows]]
        return moved

    def _identities(self) -> Tensor:
        """Tell which points are the same input: equal rows of int64 (R, 3).

        A subset is known by the sum of its features' 64 random bits, which two
        different ones share with a chance of 1 in 10^19. With all features present
        the baseline does not matter.
        """
        n_features = self._rankings[0].order.shape[1]
        generator = torch.Generator().manual_seed(0)
        low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
        bits = torch.randint(low, high, (n_features,), generator=generator)
        total = bits.sum()
        sums, kinds = torch.empty_like(self._steps), torch.empty_like(self._steps)
        for number, path in enumerate(self._paths):
            rows = self._path_numbers == number
            running = bits[path.ranking.order.cpu()].cumsum(dim=1)  # wraps around
            running = torch.cat([torch.zeros_like(running[:, :1]), running], dim=1)
            present = running[:, path.ranking.counts]
            n_present = path.ranking.counts
            if path.deletes:
                present, n_present = total - present, n_features - n_present
            sums[rows] = present.flatten()
            kind = torch.where(n_present == n_features, -1, path.kind)
            kinds[rows] = kind.repeat(len(present))
        return torch.stack([self._examples, kinds, sums], dim=1)


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Find each different row where it first occurs, and which one every row equals.

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
