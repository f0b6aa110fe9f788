"""From attributions to features in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_mda._checks import require_finite
from captum_mda.metrics._arguments import MetricArguments
from captum_mda.metrics._degenerate import require_ranking
from captum_mda.perturbation import Features
from captum_mda.perturbation.maps import AnyMaps, as_tensors, over_inputs


@dataclass(frozen=True, eq=False)
class RankedMap:
    """A map's features in order.

    Args:
        scores (Tensor): float64 (B, N), of each feature, signed.
        order (Tensor): int64 (B, N), most important first.
        status (tuple[str, ...]): Of each example "ok" or "constant map".
    """

    scores: Tensor
    order: Tensor
    status: tuple[str, ...]

    @classmethod
    def of(
        cls,
        attributions: AnyMaps,
        features: Features,
        arguments: MetricArguments,
        name: str,
    ) -> RankedMap:
        """Check a map, and rank its features by the arguments's convention."""
        scores = feature_scores(attributions, features, name)
        if arguments.convention == "mas":
            # As published: ascending and reversed, so ties go to the higher index.
            ranked = scores.abs()
            order = ranked.argsort(dim=1, stable=True).flip(1)
        else:
            ranked = scores
            order = ranked.argsort(dim=1, stable=True, descending=True)
        status = require_ranking(name, ranked, arguments.on_degenerate)
        return cls(scores, order, status)

    @property
    def least_first_order(self) -> Tensor:
        """Rank the negated map: int64 (B, N), ties again at the lower index first."""
        return self.scores.argsort(dim=1, stable=True)


def feature_scores(
    attributions: AnyMaps, features: Features, name: str = "attributions"
) -> Tensor:
    """Sum attributions over each feature's elements, channels included: (B, N)."""
    maps = over_inputs(name, as_tensors(name, attributions), features)
    scores = features.sum(maps)
    require_finite(f"{name}, summed over each feature", scores)
    return scores


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of each row, ties at their mean rank.

    Args:
        first (Tensor): (B, K).
        second (Tensor): (B, K).

    Returns:
        *Tensor*: float64 (B,), in [-1, 1]; NaN where a row holds NaN or is constant.
    """
    # Imported here: it takes longer than all of this package's metrics.
    from scipy.stats import rankdata

    ranks = [
        torch.from_numpy(np.asarray(rankdata(rows.double().cpu().numpy(), axis=1)))
        for rows in (first, second)
    ]
    one, other = (each - each.mean(dim=1, keepdim=True) for each in ranks)
    lengths = one.norm(dim=1) * other.norm(dim=1)
    correlation: Tensor = (one * other).sum(dim=1) / lengths
    return correlation.clamp(-1.0, 1.0)
