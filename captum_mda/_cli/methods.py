"""What the names of `captum_mda._cli.method_option` stand for.

A method is built once for a model and then maps any number of images: each gets the
image, the class and the baselines of a `Question`. Its own options are the defaults of
its class, which are the papers'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeAlias

import captum.attr
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import attr, LibraGrad
from captum_mda._cli.models import Classifier
from captum_mda._cli.notes import silent
from captum_mda._cli.question import Question
from captum_mda._cli.seeds import make_seeds
from captum_mda.perturbation.chunks import default_rows

_PERMUTATIONS = 5  # of Shapley sampling, with one forward a patch each
_SAMPLES = 1000  # forwards of Kernel SHAP and LIME


MDA = "mda"

Map: TypeAlias = Callable[[Question], Tensor]
"""From a question to a map, (1, 1 or C, h, w)."""


def compute_map(method: str | Map, question: Question) -> Tensor:
    """Compute the map of a method; what is drawn at random is the same each time.

    Args:
        method (str or callable): What `METHODS` builds for the model, or its name.
        question (Question): What is explained.

    Returns:
        *Tensor*: (1, 1 or C, H, W), detached; a map of another size is resized to the
        image's.

    Raises:
        ImportError, RuntimeError, TypeError, ValueError: The method cannot explain this
            model or this image.
    """
    if isinstance(method, str):
        method = METHODS[method](question.classifier)
    device = question.images.device
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.manual_seed(0)
        values = method(question).detach()
    if on_cuda:
        torch.cuda.synchronize(device)  # the time is that of the work, not of asking
    size = question.images.shape[-2:]
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def _inside(
    make: Callable[..., attr.ViTAttribution], libra: bool = False, **options: Any
) -> Callable[[Classifier], Map]:
    """Build a method that looks inside the model."""

    def build(classifier: Classifier) -> Map:
        model: nn.Module = classifier.model
        method = make(model, **options)  # runs the model, to check what it has seen

        def attribute(question: Question) -> Tensor:
            with LibraGrad(model) if libra else nullcontext():
                return method.attribute(
                    question.images,
                    question.target,
                    internal_batch_size=question.batch_size,
                )

        return attribute

    return build


def _perturbing(
    make: Callable[..., Any], **options: Any
) -> Callable[[Classifier], Map]:
    """Build one of Captum's perturbation methods, with patches as features."""

    def build(classifier: Classifier) -> Map:
        method = make(classifier.model)
        return lambda question: _perturb(
            method, question, feature_mask=question.mask, **options
        )

    return build


def _occlusion(classifier: Classifier) -> Map:
    method = captum.attr.Occlusion(classifier.model)

    def attribute(question: Question) -> Tensor:
        window = (question.images.shape[1], *classifier.patch_size)
        return _perturb(method, question, sliding_window_shapes=window, strides=window)

    return attribute


def _perturb(method: Any, question: Question, **options: Any) -> Tensor:
    values: Tensor = method.attribute(
        question.images,
        baselines=question.deleted.expand_as(question.images),
        target=question.target,
        perturbations_per_eval=_rows(question),
        **options,
    )
    return values[:, :1]  # one value for all channels of a patch


def _integrated_gradients(classifier: Classifier) -> Map:
    method: Any = captum.attr.IntegratedGradients(classifier.model)

    def attribute(question: Question) -> Tensor:
        values: Tensor = method.attribute(
            question.images,
            baselines=question.deleted.expand_as(question.images),
            target=question.target,
            internal_batch_size=_rows(question),
        )
        return values.sum(dim=1, keepdim=True)

    return attribute


def _rows(question: Question) -> int:
    """Captum evaluates one perturbed image at a time unless told otherwise."""
    return question.batch_size or default_rows(question.images.device)


class MdaMap:
    """MDA's sparse map, searched as ``captum-mda explain`` does.

    Args:
        classifier (Classifier): The model.
        ordering (str, optional): The search; that of the published tables, unless
            another is asked for. Default: "paper"
    """

    def __init__(self, classifier: Classifier, ordering: str = "paper") -> None:
        self.classifier, self.ordering = classifier, ordering
        (self.seed,) = make_seeds("auto", None, 1, classifier, silent)
        self.provenance: Mapping[str, Any] = {}
        """What the last map was made with."""

    def __call__(self, question: Question) -> Tensor:
        """Search the order, and return the map, (1, 1, H, W)."""
        mda = attr.MetricDrivenAttribution(
            self.classifier.model, score=self.classifier.score, ordering=self.ordering
        )
        explanation = mda.explain(
            question.images,
            baselines=question.deleted,
            target=question.target,
            feature_mask=question.mask,
            insertion_baselines=question.blurred,
            seed_attributions=self.seed.compute(question),
            perturbations_per_eval=question.batch_size,
        )
        self.provenance = {**explanation.provenance, "seed": self.seed.name}
        painted = explanation.attributions()
        assert isinstance(painted, Tensor)  # as the images are
        return painted[:, :1]


def build(name: str, classifier: Classifier, ordering: str) -> Map:
    """Build a method for a model; MDA with an ordering."""
    make = METHODS[name]
    return MdaMap(classifier, ordering) if make is MdaMap else make(classifier)


METHODS: Mapping[str, Callable[[Classifier], Map]] = {
    "raw-attention": _inside(attr.RawAttention),
    "rollout": _inside(attr.AttentionRollout),
    "grad-cam": _inside(attr.AttentionGradCam),
    "attention-ig": _inside(attr.AttentionIntegratedGradients),
    "t-attn": _inside(attr.TransitionAttention),
    "t-attr": _inside(attr.TransformerAttribution),
    "bi-attn": _inside(attr.BidirectionalAttention),
    "bi-attn-token": _inside(attr.BidirectionalAttention, mode="token"),
    "legrad": _inside(attr.LeGrad),
    "libra-fullgrad": _inside(attr.FullGradPlus, libra=True),
    "libra-ixg": _inside(attr.TokenInputXGradient, libra=True),
    "caap": _inside(attr.CausalActivationPatching),
    "vit-cx": _inside(attr.VitCx),
    "ig": _integrated_gradients,
    "occlusion": _occlusion,
    "tis": _inside(attr.TransformerInputSampling),
    "shapley": _perturbing(captum.attr.ShapleyValueSampling, n_samples=_PERMUTATIONS),
    "kernel-shap": _perturbing(captum.attr.KernelShap, n_samples=_SAMPLES),
    "lime": _perturbing(captum.attr.Lime, n_samples=_SAMPLES),
    MDA: MdaMap,
}
"""For each name, what builds the method for a model."""
