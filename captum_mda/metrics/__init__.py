"""Attribution quality, as Captum-style functions with one value for each example.

What a data set's scores say together is in `captum_mda.statistics`, which is also
`captum_mda.metrics.statistics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_mda._lazy import lazy_names
from captum_mda.metrics.faithfulness import (
    aopc,
    completeness_error,
    monotonicity,
    symmetric_relevance_gain,
)
from captum_mda.metrics.insertion_deletion import (
    deletion,
    insertion,
    response_curve,
)
from captum_mda.metrics.localization import (
    pointing_game,
    segmentation_scores,
    SegmentationScores,
)
from captum_mda.metrics.magnitude_alignment import mas_deletion, mas_insertion
from captum_mda.metrics.perturbation_accuracy import (
    masked_hits,
    MaskedHits,
    negative_perturbation,
    positive_perturbation,
)
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.metrics.scores import (
    perturbation_scores,
    perturbation_scores_of_maps,
    PerturbationScores,
)
from captum_mda.metrics.sparseness import sparseness
from captum_mda.metrics.tokens import (
    lif_deletion,
    mif_deletion,
    token_deletion,
    TokenDeletion,
)

if TYPE_CHECKING:
    from captum_mda.evaluate.metrics import Metric, METRICS
    from captum_mda.evaluate.scoring import evaluate
    from captum_mda.metrics import statistics

__all__ = [
    "METRICS",
    "MaskedHits",
    "Metric",
    "PerturbationScores",
    "ResponseCurve",
    "SegmentationScores",
    "TokenDeletion",
    "aopc",
    "completeness_error",
    "deletion",
    "evaluate",
    "insertion",
    "lif_deletion",
    "mas_deletion",
    "mas_insertion",
    "masked_hits",
    "mif_deletion",
    "monotonicity",
    "negative_perturbation",
    "perturbation_scores",
    "perturbation_scores_of_maps",
    "pointing_game",
    "positive_perturbation",
    "response_curve",
    "segmentation_scores",
    "sparseness",
    "statistics",
    "symmetric_relevance_gain",
    "token_deletion",
]

# Their rooms stand on the metrics, so they are imported when they are first read.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "captum_mda.evaluate.metrics": ["METRICS", "Metric"],
        "captum_mda.evaluate.scoring": ["evaluate"],
    },
    ["statistics"],
)
