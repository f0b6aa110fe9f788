"""Metric-driven attributions for Vision Transformers, in Captum's call shapes."""

from captum_mda import metrics
from captum_mda.attr import (
    AttentionGradCam,
    AttentionIntegratedGradients,
    AttentionRollout,
    BidirectionalAttention,
    CausalActivationPatching,
    FullGradPlus,
    LeGrad,
    MDAExplanation,
    MetricDrivenAttribution,
    RawAttention,
    TokenInputXGradient,
    TransformerAttribution,
    TransformerInputSampling,
    TransitionAttention,
    VitCx,
)
from captum_mda.backward import LibraGrad
from captum_mda.perturbation import (
    blur_baseline,
    confidence_blur_baseline,
    patch_feature_mask,
)

__version__ = "0.1.0"

__all__ = [
    "AttentionGradCam",
    "AttentionIntegratedGradients",
    "AttentionRollout",
    "BidirectionalAttention",
    "CausalActivationPatching",
    "FullGradPlus",
    "LeGrad",
    "LibraGrad",
    "MDAExplanation",
    "MetricDrivenAttribution",
    "RawAttention",
    "TokenInputXGradient",
    "TransformerAttribution",
    "TransformerInputSampling",
    "TransitionAttention",
    "VitCx",
    "blur_baseline",
    "confidence_blur_baseline",
    "metrics",
    "patch_feature_mask",
]
