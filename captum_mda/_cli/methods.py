"""Attribution methods by name, for ``captum-mda compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import captum.attr
from torch import nn, Tensor

from captum_mda import attr, LibraGrad
from captum_mda._cli.models import Classifier
from captum_mda.perturbation import patch_feature_mask

# Captum evaluates one perturbed image at a time unless told otherwise.
_ROWS = 16


@dataclass(frozen=True)
class Question:
    """One image and what is asked about it.

    Args:
        classifier (Classifier): The model.
        images (Tensor): (1, C, H, W), as the model takes them.
        target (int): The class.
        deleted (Tensor): What stands where a patch is deleted, (1, C, 1, 1).
        blurred (Tensor): The blurred image, (1, C, H, W).
    """

    classifier: Classifier
    images: Tensor
    target: int
    deleted: Tensor
    blurred: Tensor

    @property
    def mask(self) -> Tensor:
        """The patches, as Captum's feature mask."""
        return patch_feature_mask(self.images, self.classifier.patch_size)


@dataclass(frozen=True)
class Method:
    """A method as the command line offers it.

    Args:
        title (str): Its name in figures.
        attribute (callable): From a question to a map, (1, 1 or C, H, W).
    """

    title: str
    attribute: Callable[[Question], Tensor]


def _inside(
    make: Callable[..., attr.ViTAttribution], libra: bool = False, **options: Any
) -> Callable[[Question], Tensor]:
    """Ask a method that looks inside the model."""

    def attribute(question: Question) -> Tensor:
        model: nn.Module = question.classifier.model
        method = make(model, **options)
        if not libra:
            return method.attribute(question.images, question.target)
        with LibraGrad(model):
            return method.attribute(question.images, question.target)

    return attribute


def _on_patches(
    make: Callable[..., Any], **options: Any
) -> Callable[[Question], Tensor]:
    """Ask one of Captum's perturbation methods, with patches as features."""

    def attribute(question: Question) -> Tensor:
        baseline = question.deleted.expand_as(question.images)
        values: Tensor = make(question.classifier.model).attribute(
            question.images,
            baselines=baseline,
            target=question.target,
            feature_mask=question.mask,
            perturbations_per_eval=_ROWS,
            **options,
        )
        return values[:, :1]  # one value for all channels of a patch

    return attribute


def _occlusion(question: Question) -> Tensor:
    height, width = question.classifier.patch_size
    window = (question.images.shape[1], height, width)
    values: Tensor = captum.attr.Occlusion(question.classifier.model).attribute(
        question.images,
        sliding_window_shapes=window,
        strides=window,
        baselines=question.deleted.expand_as(question.images),
        target=question.target,
        perturbations_per_eval=_ROWS,
    )
    return values[:, :1]


def _integrated_gradients(question: Question) -> Tensor:
    method = captum.attr.IntegratedGradients(question.classifier.model)
    values: Tensor = method.attribute(
        question.images,
        baselines=question.deleted.expand_as(question.images),
        target=question.target,
        internal_batch_size=_ROWS,
    )
    return values.sum(dim=1, keepdim=True).detach()


def _mda(question: Question) -> Tensor:
    model = question.classifier.model
    seed = attr.BidirectionalAttention(model).attribute(
        question.images, question.target
    )
    values: Tensor = attr.MetricDrivenAttribution(
        model, on_degenerate="zero"
    ).attribute(
        question.images,
        baselines=question.deleted,
        target=question.target,
        feature_mask=question.mask,
        insertion_baselines=question.blurred,
        seed_attributions=seed,
    )
    return values[:, :1]


METHODS: Mapping[str, Method] = {
    "mda": Method("MDA", _mda),
    "raw-attention": Method("Raw attention", _inside(attr.RawAttention)),
    "rollout": Method("Rollout", _inside(attr.AttentionRollout)),
    "grad-cam": Method("Attention Grad-CAM", _inside(attr.AttentionGradCam)),
    "attention-ig": Method("Attention IG", _inside(attr.AttentionIntegratedGradients)),
    "t-attn": Method("T-Attn", _inside(attr.TransitionAttention)),
    "t-attr": Method("T-Attr", _inside(attr.TransformerAttribution)),
    "bi-attn": Method("Bi-Attn", _inside(attr.BidirectionalAttention)),
    "bi-attn-token": Method(
        "Bi-Attn, token-wise", _inside(attr.BidirectionalAttention, mode="token")
    ),
    "legrad": Method("LeGrad", _inside(attr.LeGrad)),
    "libra-fullgrad": Method("Libra FullGrad+", _inside(attr.FullGradPlus, libra=True)),
    "libra-ixg": Method(
        "Libra input x gradient", _inside(attr.TokenInputXGradient, libra=True)
    ),
    "caap": Method("CAAP", _inside(attr.CausalActivationPatching)),
    "vit-cx": Method("ViT-CX", _inside(attr.VitCx)),
    "tis": Method("TIS", _inside(attr.TransformerInputSampling)),
    "ig": Method("Integrated gradients", _integrated_gradients),
    "occlusion": Method("Occlusion", _occlusion),
    "ablation": Method("Feature ablation", _on_patches(captum.attr.FeatureAblation)),
    "shapley": Method(
        "Shapley values, 5 permutations",
        _on_patches(captum.attr.ShapleyValueSampling, n_samples=5),
    ),
    "kernel-shap": Method(
        "Kernel SHAP, 1,000 samples",
        _on_patches(captum.attr.KernelShap, n_samples=1000),
    ),
    "lime": Method(
        "LIME, 1,000 samples", _on_patches(captum.attr.Lime, n_samples=1000)
    ),
}
"""By the names that ``--methods`` takes."""

DEFAULT_METHODS = ("raw-attention", "rollout", "bi-attn", "legrad", "libra-fullgrad")
"""Those that take seconds on a laptop."""
