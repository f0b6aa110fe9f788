"""Attribution methods, each a class with Captum's call shape."""

from captum_mda.attr.activation_patching import CausalActivationPatching
from captum_mda.attr.attention_grad_cam import AttentionGradCam
from captum_mda.attr.attention_integrated_gradients import (
    AttentionIntegratedGradients,
)
from captum_mda.attr.attention_rollout import AttentionRollout
from captum_mda.attr.bidirectional_attention import BidirectionalAttention
from captum_mda.attr.explanation import MDAExplanation
from captum_mda.attr.full_grad_plus import (
    Completeness,
    FullGradPlus,
    TokenInputXGradient,
)
from captum_mda.attr.legrad import LeGrad
from captum_mda.attr.metric_driven import MetricDrivenAttribution
from captum_mda.attr.raw_attention import RawAttention
from captum_mda.attr.transformer_attribution import TransformerAttribution
from captum_mda.attr.transformer_input_sampling import TransformerInputSampling
from captum_mda.attr.transition_attention import TransitionAttention
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_cx import VitCx

__all__ = [
    "AttentionGradCam",
    "AttentionIntegratedGradients",
    "AttentionRollout",
    "BidirectionalAttention",
    "CausalActivationPatching",
    "Completeness",
    "FullGradPlus",
    "LeGrad",
    "MDAExplanation",
    "MetricDrivenAttribution",
    "RawAttention",
    "TokenInputXGradient",
    "TransformerAttribution",
    "TransformerInputSampling",
    "TransitionAttention",
    "ViTAttribution",
    "VitCx",
]
