"""Attribution quality, as Captum-style functions with one value for each example."""

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
from captum_mda.metrics.token_deletion import (
    lif_deletion,
    mif_deletion,
    token_deletion,
    TokenDeletion,
)

__all__ = [
    "MaskedHits",
    "PerturbationScores",
    "ResponseCurve",
    "TokenDeletion",
    "aopc",
    "completeness_error",
    "deletion",
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
    "positive_perturbation",
    "response_curve",
    "symmetric_relevance_gain",
    "token_deletion",
]
