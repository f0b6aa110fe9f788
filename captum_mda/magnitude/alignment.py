"""The magnitudes that magnitude-aligned insertion and deletion (MAS) reward most.

Under a fixed order both metrics compare a map's density response D, which inserting and
deleting share (as D and 1 - D), with one rising response each: R = MR_ins and
R = 1 - MR_del. Both run from 0 to 1, so that stretching the curves as published changes
nothing, and clipping them leaves

    MAS Ins-Del = sum over both R of area(max(0, R - abs(R - D))) - 1
                = constant - sum over both R of area(min(abs(R - D), R)).

The alignment penalty is that area without the minimum. Least penalty is a linear
programme, but not what MAS rewards: a point beyond D = 2 R has lost all it can, and it
pays to give such points up for others. A sum of minima is not convex. So penalty is
held where the fitted rules have it, and MAS is raised by a sequence of linear
programmes: points that are given up at the current D count as lost, all others by their
distance. That sum is nowhere below the true loss, and at the current D equal to it, so
that a programme never loses MAS; the sequence ends when one gains none.

Where several densities do equally well, that of the fitted rule stays, or HiGHS
decides, which is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from captum_mda import curves
from captum_mda.magnitude.rules import (
    FITTED_RULES,
    ORDER_TERM,
    relative_sizes,
    sparse_magnitudes,
)
from captum_mda.magnitude.solvers import FloatArray

# Less than the least step of the fitted rules, so that their maps can be chosen, too.
ORDER_STEP = ORDER_TERM / 10

# What a sum of a few hundred terms may be off by.
ROUNDING = 1e-12

# Three are the most that photos were seen to take.
MOST_PROGRAMMES = 20

# Presolving takes ten times as long as solving.
_OPTIONS = {
    "presolve": False,
    "primal_feasibility_tolerance": 1e-10,
    "dual_feasibility_tolerance": 1e-10,
}


def mean_penalty(
    insertion_curve: Tensor, deletion_curve: Tensor, density: Tensor
) -> Tensor:
    """Compute the mean area of the alignment penalty of insertion and of deletion.

    Args:
        insertion_curve (Tensor): float64 (..., n + 1), MR_ins.
        deletion_curve (Tensor): float64 (..., n + 1), MR_del.
        density (Tensor): float64 (..., n + 1), DR of inserting; deleting's is 1 - DR.

    Returns:
        *Tensor*: float64 (...), in [0, 1].
    """
    inserting = curves.alignment_penalty(insertion_curve, density)
    deleting = curves.alignment_penalty(deletion_curve, 1.0 - density)
    return (curves.area(inserting) + curves.area(deleting)) / 2.0


def aligned_difference(
    insertion_curve: Tensor, deletion_curve: Tensor, density: Tensor
) -> Tensor:
    """Compute MAS Ins-Del: the areas of both magnitude-aligned curves, subtracted.

    Args:
        insertion_curve (Tensor): float64 (..., n + 1), MR_ins.
        deletion_curve (Tensor): float64 (..., n + 1), MR_del.
        density (Tensor): float64 (..., n + 1), DR of inserting; deleting's is 1 - DR.

    Returns:
        *Tensor*: float64 (...), in [-1, 1].
    """
    inserting = curves.alignment_penalty(insertion_curve, density)
    deleting = curves.alignment_penalty(deletion_curve, 1.0 - density)
    inserted = curves.mas_curve(insertion_curve, inserting, "insertion")
    deleted = curves.mas_curve(deletion_curve, deleting, "deletion")
    return curves.area(inserted) - curves.area(deleted)


def density_of(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    """Compute the density response of a map at the borders of its patches.

    Args:
        magnitudes (Tensor): float64 (..., N), along the order.
        sizes (Tensor): float64 (..., N), how many elements each patch covers.

    Returns:
        *Tensor*: float64 (..., N + 1), from 0 to 1.
    """
    moved = (magnitudes * sizes).cumsum(dim=-1)
    moved = torch.cat([torch.zeros_like(moved[..., :1]), moved], dim=-1)
    return moved / moved[..., -1:]


def align_density(
    fitted_density: Tensor,
    sizes: Tensor,
    insertion_curve: Tensor,
    deletion_curve: Tensor,
    points: Tensor | None = None,
) -> Tensor:
    """Find the density that MAS rewards most, at no more penalty than the fitted rules.

    Args:
        fitted_density (Tensor): float64 (B, N + 1), AD, see `fit_density`.
        sizes (Tensor): float64 (B, N), how many elements each patch of the order
            covers.
        insertion_curve (Tensor): float64 (B, n + 1), MR_ins, from 0 to 1.
        deletion_curve (Tensor): float64 (B, n + 1), MR_del, from 1 to 0.
        points (Tensor, optional): float64 (n + 1,), the share of all elements that have
            moved at each point of the curves, from 0 to 1. None: the points follow one
            patch each (n = N). Default: None

    Returns:
        *Tensor*: float64 (B, N + 1), the density response of a map that falls strictly
        along the order, from 0 to 1, at the borders of its patches. Its alignment
        penalty is at most that of "reference", "paper" and "increment", and its MAS at
        least that of the one with the least penalty.

    Example::

        >>> rise = torch.tensor([[0.0, 0.1, 0.9, 1.0]], dtype=torch.float64)
        >>> fall = torch.tensor([[1.0, 0.3, 0.1, 0.0]], dtype=torch.float64)
        >>> sizes = torch.ones(1, 3, dtype=torch.float64)
        >>> fitted = torch.tensor([[0.0, 0.45, 0.9, 1.0]], dtype=torch.float64)
        >>> align_density(fitted, sizes, rise, fall).round(decimals=3)
        tensor([[0.0000, 0.7000, 0.9000, 1.0000]], dtype=torch.float64)
    """
    rows = zip(fitted_density, sizes, insertion_curve, deletion_curve, strict=True)
    return torch.stack(
        [
            _Alignment(
                fitted_density=density,
                sizes=of_features,
                insertion_curve=rise,
                deletion_curve=fall,
                points=points,
            ).best()
            for density, of_features, rise, fall in rows
        ]
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Alignment:
    """One example: AD (N + 1,), sizes (N,), MR_ins, MR_del and points (n + 1,)."""

    fitted_density: Tensor
    sizes: Tensor
    insertion_curve: Tensor
    deletion_curve: Tensor
    points: Tensor | None

    def best(self) -> Tensor:
        """Start from the fitted rule of least penalty; from the higher curve, too."""
        maps = self._fitted_maps()
        penalties = [self._penalty(density) for density in maps]
        most = min(penalties)
        best = max(
            (
                density
                for density, penalty in zip(maps, penalties, strict=True)
                if penalty <= most + ROUNDING
            ),
            key=self._mas,
        )
        if len(self.sizes) == 1:
            return best
        for read in (self._reading @ best.numpy(), np.maximum(*self._rises)):
            best = self._raised(read, best, most)
        return best

    def _raised(self, read: FloatArray, best: Tensor, most: float) -> Tensor:
        """Step from a density, read at the curves' points, while MAS gains."""
        for _ in range(MOST_PROGRAMMES):
            found = self._step(read, most)
            if found is None or self._penalty(found) > most + ROUNDING:
                break
            if self._mas(found) <= self._mas(best) + ROUNDING:
                break
            best, read = found, self._reading @ found.numpy()
        return best

    @cached_property
    def _rises(self) -> tuple[FloatArray, FloatArray]:
        """Both responses R, each (n + 1,)."""
        return self.insertion_curve.numpy(), 1.0 - self.deletion_curve.numpy()

    def _fitted_maps(self) -> list[Tensor]:
        """Compute the densities of the other rules' maps, order term and all."""
        maps = [
            sparse_magnitudes(self.fitted_density[None], self.sizes[None], rule)[0]
            for rule in FITTED_RULES
        ]
        return [density_of(magnitudes, self.sizes) for magnitudes in maps]

    def _penalty(self, density: Tensor) -> float:
        read = torch.from_numpy(self._reading @ density.numpy())
        return float(mean_penalty(self.insertion_curve, self.deletion_curve, read))

    def _mas(self, density: Tensor) -> float:
        read = torch.from_numpy(self._reading @ density.numpy())
        return float(
            aligned_difference(self.insertion_curve, self.deletion_curve, read)
        )

    def _step(self, read: FloatArray, most: float) -> Tensor | None:
        """Maximise the bound of MAS that touches it at a density, by HiGHS.

        The variables are D (N + 1), abs(R_ins - D) and abs(R_del - D) (n + 1 each).

        Args:
            read (ndarray): float64 (n + 1,), that density at the curves' points.
            most (float): The most alignment penalty.

        Returns:
            *Tensor* or *None*: float64 (N + 1,), D, if there is one.
        """
        n_points, n = len(read), len(self.sizes)
        counts = np.concatenate([read <= 2.0 * rise for rise in self._rises])
        once = np.ones(n_points)  # the trapezoid rule
        once[[0, -1]] = 0.5
        weights = np.tile(once, 2)
        distances = sparse.eye_array(2 * n_points)
        reading = sparse.vstack([self._reading] * 2)
        response = np.concatenate(self._rises)
        step = np.full(n - 1, ORDER_STEP / n)
        found = linprog(
            np.concatenate([np.zeros(n + 1), counts * weights]),
            A_ub=sparse.block_array(
                [
                    [reading, -distances],
                    [-reading, -distances],
                    [self._falls, None],
                    [None, sparse.csr_array(weights[None])],
                ],
                format="csr",
            ),
            b_ub=np.concatenate(
                [response, -response, -step, [most * 2 * (n_points - 1)]]
            ),
            bounds=[(0, 0), *[(0, 1)] * (n - 1), (1, 1), *[(0, None)] * (2 * n_points)],
            method="highs-ds",
            options=_OPTIONS,
        )
        return self._strict(found.x[: n + 1]) if found.status == 0 else None

    @cached_property
    def _falls(self) -> sparse.csr_array:
        """The matrix of A_{i+1} - A_i, of the magnitudes that a density has."""
        n = len(self.sizes)
        each = sparse.diags_array(1.0 / relative_sizes(self.sizes).numpy())
        up = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n, n + 1))
        over = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
        return sparse.csr_array(over @ each @ up)

    @cached_property
    def _reading(self) -> sparse.csr_array:
        """The matrix that interpolates from the patches' borders to the points."""
        n = len(self.sizes)
        if self.points is None:
            return sparse.eye_array(n + 1, format="csr")
        borders = np.concatenate([[0.0], self.sizes.numpy().cumsum()])
        at = self.points.numpy() * borders[-1]
        patch = np.searchsorted(borders, at, side="right").clip(max=n) - 1
        share = (at - borders[patch]) / np.diff(borders)[patch]
        entries = np.concatenate([1.0 - share, share])
        rows = np.tile(np.arange(len(at)), 2)
        columns = np.concatenate([patch, patch + 1])
        return sparse.csr_array((entries, (rows, columns)), shape=(len(at), n + 1))

    def _strict(self, density: FloatArray) -> Tensor:
        """Restore what the solver's tolerance may have cost: the strict order."""
        relative = relative_sizes(self.sizes).numpy()
        magnitudes = np.diff(density) / relative
        rest = np.arange(len(magnitudes))[::-1] * (ORDER_STEP / len(magnitudes))
        behind = np.maximum(magnitudes - rest, 0.0)[::-1]
        magnitudes = np.maximum.accumulate(behind)[::-1] + rest
        return density_of(torch.from_numpy(magnitudes), self.sizes)
