"""Attribution quality, as Captum-style functions with one value for each example."""

from captum_mda.metrics.insertion_deletion import (
    deletion,
    insertion,
    mas_deletion,
    mas_insertion,
    response_curve,
)
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.metrics.scores import (
    perturbation_scores,
    PerturbationScores,
)

__all__ = [
    "PerturbationScores",
    "ResponseCurve",
    "deletion",
    "insertion",
    "mas_deletion",
    "mas_insertion",
    "perturbation_scores",
    "response_curve",
]
