"""Sweeps: the responses while features come or go in the order of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_mda.perturbation.subsets import SubsetResponses, take_rows


@dataclass(frozen=True)
class Ranking:
    """Which features have moved after each step of a sweep.

    Args:
        place (Tensor): int32 (B, N), where in its example's ranking a feature stands.
        counts (Tensor): int64 (n + 1,) on the CPU, how many features have moved after
            0, 1, ..., n steps, from 0 to N.
    """

    place: Tensor
    counts: Tensor

    @classmethod
    def of(cls, order: Tensor, n_steps: int) -> Ranking:
        """Divide an order into steps of as equal a size as can be.

        Args:
            order (Tensor): int64 (B, N), features in the order in which they move.
            n_steps (int): The most steps; never more than one for each feature.
        """
        n_features = order.shape[1]
        n_steps = min(n_steps, n_features)
        counts = torch.arange(n_steps + 1) * n_features // n_steps
        return cls(order.argsort(dim=1).int(), counts)

    @property
    def n_steps(self) -> int:
        """How many steps there are."""
        return len(self.counts) - 1


@dataclass(frozen=True)
class Sweep:
    """All perturbed inputs of one or more sweeps over a ranking, as one flat list.

    An inserting sweep ends, and a deleting one starts, with the full input; it is
    scored once, whatever the number of sweeps.

    Args:
        ranking (Ranking): Which features have moved after each step.
        deletes (sequence of bool): For each sweep, by kind of baseline, whether
            features are deleted from the input instead of inserted into the baseline.
    """

    ranking: Ranking
    deletes: Sequence[bool]

    @property
    def n_rows(self) -> int:
        """How many inputs the model will see."""
        n_examples, points = len(self.ranking.place), self.ranking.n_steps + 1
        return n_examples * (len(self.deletes) * (points - 1) + 1)

    def run(self, responses: SubsetResponses) -> Tensor:
        """Score all inputs.

        Args:
            responses (SubsetResponses): Scores subsets; its kinds of baseline are those
                of the sweeps.

        Returns:
            *Tensor*: float64 (sweeps, B, n + 1) on the CPU, raw scores.
        """
        kinds, examples, steps = self._rows()
        place, moved = self.ranking.place, self.ranking.counts[steps]
        deletes = torch.tensor(list(self.deletes))[kinds]

        def subsets(rows: slice) -> Tensor:
            places = take_rows(place, examples[rows])  # (1 or r, N)
            has_moved = places < moved[rows, None].to(place.device)
            return has_moved ^ deletes[rows, None].to(place.device)

        values = responses(subsets, examples, kinds).cpu().double()
        shape = (len(self.deletes), len(place), self.ranking.n_steps + 1)
        raw = torch.empty(shape, dtype=torch.float64)
        raw[kinds, examples, steps] = values
        full = raw[0, :, self.full_step(0)].clone()
        for kind in range(len(self.deletes)):
            raw[kind, :, self.full_step(kind)] = full
        return raw

    def full_step(self, kind: int) -> int:
        """Find the step of a sweep at which all features are present."""
        return 0 if self.deletes[kind] else self.ranking.n_steps

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """List the kind, the example and the step of every row, each int64 (R,)."""
        parts = []
        for kind in range(len(self.deletes)):
            steps = torch.arange(self.ranking.n_steps + 1)
            if kind > 0:
                steps = steps[steps != self.full_step(kind)]
            examples = torch.arange(len(self.ranking.place))
            parts.append(torch.cartesian_prod(torch.tensor([kind]), examples, steps))
        kinds, examples, steps = torch.cat(parts).unbind(dim=1)
        return kinds, examples, steps
