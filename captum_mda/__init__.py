"""Metric-driven attributions for Vision Transformers, in Captum's call shapes."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TYPE_CHECKING

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
_HOMES = {
    "AttentionGradCam": "captum_mda.attr",
    "AttentionIntegratedGradients": "captum_mda.attr",
    "AttentionRollout": "captum_mda.attr",
    "BidirectionalAttention": "captum_mda.attr",
    "CausalActivationPatching": "captum_mda.attr",
    "FullGradPlus": "captum_mda.attr",
    "LeGrad": "captum_mda.attr",
    "MDAExplanation": "captum_mda.attr",
    "MetricDrivenAttribution": "captum_mda.attr",
    "RawAttention": "captum_mda.attr",
    "TokenInputXGradient": "captum_mda.attr",
    "TransformerAttribution": "captum_mda.attr",
    "TransformerInputSampling": "captum_mda.attr",
    "TransitionAttention": "captum_mda.attr",
    "VitCx": "captum_mda.attr",
    "LibraGrad": "captum_mda.backward",
    "blur_baseline": "captum_mda.perturbation",
    "confidence_blur_baseline": "captum_mda.perturbation",
    "patch_feature_mask": "captum_mda.perturbation",
}
_MODULES = frozenset(
    {
        "attr",
        "backward",
        "curves",
        "demo",
        "evaluate",
        "magnitude",
        "metrics",
        "ordering",
        "perturbation",
        "statistics",
        "visualize",
        "vit",
    }
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first read (PEP 562)."""
    if name in _MODULES:
        return import_module(f"captum_mda.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what the module has, imported or not."""
    return sorted({*globals(), *_HOMES, *_MODULES})
