"""The settings of the fast search, and its presets for many and for few features."""

from __future__ import annotations

from dataclasses import dataclass

# Figures here and in the other modules are means over eight photos of 196 patches,
# from benchmarks/ordering.json, in Ins-Del against the published search: the default
# takes 750 forwards and gains .0196.

BUDGET = 4.5
# 2.5 takes 492 forwards and loses .0269.
"""Forwards per feature."""
LEAST_BUDGET = 245.0
# With 49 patches: 197 forwards and -.001, where the published search takes 645
# (docs/attribution.md). Few features are large, and each choice weighs more.
"""Forwards in all, where ``BUDGET`` gives less."""
FEW_FEATURES = int(LEAST_BUDGET / BUDGET)
"""Number of features up to which ``LEAST_BUDGET`` is the larger budget: 54."""


@dataclass(frozen=True, kw_only=True)
class FastSettings:
    """Settings of the fast search; the defaults are those for many features.

    Args:
        window (int, optional): Number of candidates a step chooses from. None: as the
            paper, by the number of features. Default: None
        forwards_per_feature (float, optional): The budget, divided by N. Default: 4.5
        least_forwards (float, optional): The budget where that is less. Default: 245.0
        deletion_checks (int, optional): Number of insertion candidates whose deletion
            response is also evaluated per step. Default: 5
        quiet_level (float, optional): Normalised response below which deletion is
            quiet. Default: 0.01
        oldest_share (float, optional): Share of a step for the candidates whose last
            evaluation is longest ago. Default: 0.3
        patience (int, optional): Number of features that insertion goes on past tau
            without a better outlook. Default: 4
        learns_losses (bool, optional): Whether the first step checks the deletion of a
            whole window, later steps choose by these losses whom to check, and
            insertion uses the forwards that deletion does not need once it is quiet.
            Default: False
    """

    window: int | None = None
    forwards_per_feature: float = BUDGET
    least_forwards: float = LEAST_BUDGET
    # 1 check, insertion alone: 741 forwards, -.0023.
    deletion_checks: int = 5
    # No figure on record for other levels, nor for other shares: not tuned.
    quiet_level: float = 0.01
    oldest_share: float = 0.3
    # 0, no farther than tau: 739 forwards, +.0074.
    patience: int = 4
    learns_losses: bool = False

    def budget(self, n_features: int) -> float:
        """Compute the number of forwards that a search may take."""
        return max(self.forwards_per_feature * n_features, self.least_forwards)


MANY = FastSettings()
"""For more than `FEW_FEATURES` features."""

# With 49 patches of 32 pixels, these take 197 forwards and lose .001 in Ins-Del on the
# published search; with 2 checks and without learned losses 194 forwards, and .005.
FEW = FastSettings(deletion_checks=3, patience=2, learns_losses=True)
"""For up to `FEW_FEATURES` features, which are large."""
