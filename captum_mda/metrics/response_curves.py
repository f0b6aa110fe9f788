"""Response curves: how a model's score changes as the features come or go in order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_mda import curves
from captum_mda._results import BatchResult
from captum_mda._summaries import Columns, examples
from captum_mda.curves import Mode
from captum_mda.metrics._degenerate import CONSTANT_MAP
from captum_mda.metrics._ranked_maps import rank_correlation


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ResponseCurve(BatchResult):
    """The responses of a batch to inserting or deleting its features in their ranking.

    Args:
        raw (Tensor): float64 (B, n + 1), raw scores after 0, 1, ..., n steps.
        response (Tensor): float64 (B, n + 1), the curve whose area is the score: under
            "mas" the normalised monotone response MR in [0, 1], under "rise" ``raw``.
        density (Tensor): float64 (B, n + 1), density response DR in [0, 1].
        penalty (Tensor): float64 (B, n + 1), alignment penalty AP = abs(MR - DR); under
            "rise", NaN for an example that scores no higher than its baseline.
        mas (Tensor): float64 (B, n + 1), magnitude-aligned response in [0, 1]; NaN
            where the penalty is.
        mode (str): "insertion" or "deletion".
        status (tuple[str, ...]): Of each example "ok"; "constant map", which ranks
            nothing: all curves but the raw one are NaN; or "input scores no higher than
            its baseline": the normalised curves are.
    """

    raw: Tensor
    response: Tensor
    density: Tensor
    penalty: Tensor
    mas: Tensor
    mode: Mode
    status: tuple[str, ...] = ()

    @property
    def area(self) -> Tensor:
        """The insertion or deletion score, float64 (B,)."""
        return curves.area(self.response)

    @property
    def mas_area(self) -> Tensor:
        """The magnitude-aligned insertion or deletion score, float64 (B,) in [0, 1]."""
        return curves.area(self.mas)

    @property
    def raw_area(self) -> Tensor:
        """The area under the raw scores, float64 (B,), in the score's unit."""
        return curves.area(self._ranked(self.raw))

    @property
    def aopc(self) -> Tensor:
        """The mean fall of the raw score from the full input, float64 (B,).

        Over all points, the full input included. Higher is better for deletion, most
        important first. (Samek et al. 2017, Eq. 12.)
        """
        full = self.raw[:, 0 if self.mode == "deletion" else -1]
        return self._ranked(full[:, None] - self.raw).mean(dim=1)

    @property
    def monotonicity(self) -> Tensor:
        """Spearman's rank correlation of steps and raw scores, float64 (B,).

        In [-1, 1]; higher is better: insertion should raise the score, deletion lower
        it. NaN where the raw scores are all equal.
        """
        steps = torch.arange(self.raw.shape[1]).double().expand_as(self.raw)
        signed = steps if self.mode == "insertion" else -steps
        return rank_correlation(signed, self._ranked(self.raw))

    def _summary(self) -> tuple[str, Columns]:
        n = len(self.raw)
        title = f"{examples(n)} under {self.mode}, {self.raw.shape[1] - 1} steps"
        return title, {
            "first score": self.raw[:, 0],
            "last score": self.raw[:, -1],
            "area": self.area,
            "MAS area": self.mas_area,
            "status": self.status or ("ok",) * n,
        }

    def _ranked(self, values: Tensor) -> Tensor:
        """Return the values, NaN for examples whose map ranks nothing."""
        constant = torch.tensor([status == CONSTANT_MAP for status in self.status])
        return values.masked_fill(constant.bool()[:, None].to(values.device), torch.nan)
