"""Metric-driven attributions for Vision Transformers, in Captum's call shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_mda._lazy import lazy_names

if TYPE_CHECKING:
    from captum_mda import (
        attr as attr,
        backward as backward,
        curves as curves,
        demo as demo,
        evaluate as evaluate,
        magnitude as magnitude,
        metrics,
        ordering as ordering,
        perturbation as perturbation,
        statistics as statistics,
        visualize,
        vit as vit,
    )
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
    "visualize",
]

# Public names are imported when they are first read: PyTorch takes seconds, which the
# command line's --help and --version, and the checks of its options, do without.
_ELSEWHERE = {
    "captum_mda.backward": ["LibraGrad"],
    "captum_mda.perturbation": [
        "blur_baseline",
        "confidence_blur_baseline",
        "patch_feature_mask",
    ],
}
_MODULES = (
    "attr backward curves demo evaluate magnitude metrics ordering perturbation "
    "statistics visualize vit"
).split()
_OF_ATTR = set(__all__).difference(_MODULES, *_ELSEWHERE.values())
__getattr__, __dir__ = lazy_names(
    __name__, {"captum_mda.attr": sorted(_OF_ATTR), **_ELSEWHERE}, _MODULES
)
