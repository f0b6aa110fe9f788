"""Attribution quality, as Captum-style functions with one value for each example.

What a data set's scores say together is in `captum_mda.metrics.statistics`, and sums
over shards are in `captum_mda.metrics.accumulators`.
"""

from captum_mda.metrics import accumulators, statistics
from captum_mda.metrics.evaluation import evaluate
from captum_mda.metrics.faithfulness import (
    aopc,
    completeness_error,
    monotonicity,
    symmetric_relevance_gain,
)
from captum_mda.metrics.insertion_deletion import (
    deletion,
    insertion,
    mas_deletion,
    mas_insertion,
    response_curve,
)
from captum_mda.metrics.masked_accuracy import (
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
from captum_mda.metrics.segmentation import (
    pointing_game,
    segmentation_scores,
    SegmentationScores,
)
from captum_mda.metrics.sparseness import sparseness
from captum_mda.metrics.table import Metric, METRICS
from captum_mda.metrics.token_deletion import (
    lif_deletion,
    mif_deletion,
    token_deletion,
    TokenDeletion,
)

__all__ = [
    "METRICS",
    "MaskedHits",
    "Metric",
    "PerturbationScores",
    "ResponseCurve",
    "SegmentationScores",
    "TokenDeletion",
    "accumulators",
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
