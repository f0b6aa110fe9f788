"""The perturbation engine: which features are present, and what the model says then.

``features`` says what a feature is, ``baselines`` what replaces an absent one,
``response`` how a forward function becomes one score per row, and ``subsets`` puts the
three together.
"""

from captum_mda.perturbation.baselines import (
    blur_baseline,
    confidence_blur_baseline,
    format_baselines,
)
from captum_mda.perturbation.features import Features, patch_feature_mask
from captum_mda.perturbation.inputs import validate_inputs
from captum_mda.perturbation.response import Response
from captum_mda.perturbation.scores import Score
from captum_mda.perturbation.subsets import SubsetResponses
from captum_mda.perturbation.sweep import Path, Ranking, Sweep
from captum_mda.perturbation.targets import Target

__all__ = [
    "Features",
    "Path",
    "Ranking",
    "Response",
    "Score",
    "SubsetResponses",
    "Sweep",
    "Target",
    "blur_baseline",
    "confidence_blur_baseline",
    "format_baselines",
    "patch_feature_mask",
    "validate_inputs",
]
