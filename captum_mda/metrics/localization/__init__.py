"""How well maps find the object that a mask marks."""

from captum_mda.metrics.localization.pointing import pointing_game
from captum_mda.metrics.localization.segmentation import (
    segmentation_scores,
    SegmentationScores,
)

__all__ = ["SegmentationScores", "pointing_game", "segmentation_scores"]
