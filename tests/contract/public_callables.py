"""Every public callable, one line each: how to call it on a small, untidy model."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor

import captum_mda
from captum_mda import backward, demo, metrics, visualize, vit
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.evaluate.methods import METHODS
from captum_mda.metrics import statistics

PACKAGES = (
    captum_mda,
    metrics,
    statistics,
    visualize,
    demo,
    backward,
    vit,
)
"""Packages whose public names are in the table."""

# What calls return, what types look like, constants and packages.
NO_CALLS = {
    *("MDAExplanation", "metrics", "statistics", "visualize"),
    *("MaskedHits", "PerturbationScores", "ResponseCurve", "SegmentationScores"),
    *(
        "METRICS",
        "Metric",
        "TokenDeletion",
        "Comparison",
        "MeanInterval",
    ),
    *("CLASS_NAMES", "IMAGE_SIZE", "MEAN", "PATCH_SIZE", "STD", "DemoSamples"),
    *("AttentionRecord", "Observation", "Pooling", "ViTAdapter", "PatchLayout"),
    *("ObservationError", "CannotDropError"),
}

SIZE, PATCH = 16, 4


class Untidy(nn.Module):
    """Leaves everything behind in each forward that a forward may leave behind."""

    mean: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("calls", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * random.random()  # another tensor
        self.calls += np.random.rand()  # in evaluation mode, too
        self.register_buffer(f"of_{len(tokens)}", torch.zeros(1))
        self.train(not self.training)
        self.scale.requires_grad_(not self.scale.requires_grad)
        return tokens


class StoppedError(Exception):
    """An error of the model's own."""


class Stop:
    """Raises an error in the forward of a given number, from 1 on; 0 for never."""

    def __init__(self) -> None:
        self.set(0, StoppedError)

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stopped in the middle")

    def set(self, at: int, error: Any) -> None:
        self.at, self.error, self.calls = at, error, 0


def untidy_vit() -> nn.Module:
    """Make a Vision Transformer in training mode that works on its inputs in place."""
    from timm.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_classes=4,
        proj_drop_rate=0.1,
        drop_path_rate=0.1,
    )
    model.pos_drop = nn.Sequential(nn.BatchNorm1d(17), Untidy())
    model.register_forward_pre_hook(write_on_inputs)
    return model.train()


def write_on_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Work in place on everything that a model is given."""
    for value in inputs:
        if isinstance(value, Tensor) and not value.requires_grad:
            value.mul_(1.5)


class World:
    """Everything that is passed to a call, and must stay as it is."""

    def __init__(self) -> None:
        self.model = untidy_vit()
        self.stop = Stop()
        self.layer = self.model.blocks[-1].norm1
        self.layer.register_forward_pre_hook(self.stop)
        draw = torch.Generator().manual_seed(3)
        self.images = torch.randn(2, 3, SIZE, SIZE, generator=draw)
        self.labels = torch.tensor([1, 2])
        self.photo = torch.rand(3, SIZE, SIZE, generator=draw)
        self.map = torch.rand(2, 1, SIZE, SIZE, generator=draw)
        self.grid = torch.rand(2, 1, SIZE // PATCH, SIZE // PATCH, generator=draw)
        self.blurred = captum_mda.blur_baseline(self.images, 3)
        self.feature_mask = captum_mda.patch_feature_mask(self.images, PATCH)
        self.masks = self.map > 0.5
        self.factor = torch.ones(3)  # not one for each example
        self.forward = self._hidden_forward()
        self.bright = self._hidden_forward(of_model=0.0)
        self.explanation = self._explanation()

    def _hidden_forward(self, of_model: float = 1.0) -> Callable[..., Tensor]:
        """Make a client of the model, which is not seen from outside.

        Without a share of the model all outputs are the images' brightness.
        """
        models = {"of mine": [self.model]}

        class Client:
            __slots__ = ()

            def __call__(self, images: Tensor, factor: Tensor) -> Tensor:
                brightness = images.flatten(1).mean(dim=1, keepdim=True)
                if not images.requires_grad:
                    images += 1.0
                    factor += 1.0
                outputs: Tensor = models["of mine"][0](images - 1.0)
                return of_model * outputs + (1 - of_model) * brightness

        return Client()

    def _explanation(self) -> captum_mda.MDAExplanation:
        def bright(images: Tensor) -> Tensor:
            return (images - images.amin() + 1).flatten(1).mean(dim=1)

        mda = captum_mda.MetricDrivenAttribution(bright, score="identity")
        images = torch.rand(
            1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)
        )
        return mda.explain(images + 1, feature_mask=self.feature_mask[:1])

    def tensors(self) -> list[Tensor]:
        """List the tensors that calls are given."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


Call = Callable[[World], object]


def _white_box(name: str, **options: Any) -> Call:
    def call(w: World) -> object:
        method = getattr(captum_mda, name)(w.model, **options)
        steps = {"n_steps": 3} if isinstance(method, PathAttribution) else {}
        found = method.attribute(w.images, target=w.labels, **steps)
        if hasattr(method, "completeness"):
            method.completeness(w.images, target=w.labels)
        if hasattr(method, "patched_scores"):
            method.patched_scores(w.images, torch.ones(2, 17).bool(), target=w.labels)
        return found

    return call


def _mda(w: World) -> object:
    for ordering, precision in (("fast", None), ("paper", "bf16"), ("relaxed", None)):
        mda = captum_mda.MetricDrivenAttribution(
            w.bright,
            solver="osqp",
            ordering=ordering,
            score="identity",
            on_degenerate="zero",
            precision=precision,
        )
        if ordering == "relaxed":
            from captum_mda.ordering import RelaxedOrdering

            mda.ordering = RelaxedOrdering(steps=2)
        mda.attribute(
            w.photo[None].expand(2, -1, -1, -1),
            target=w.labels,
            additional_forward_args=w.factor,
            feature_mask=w.feature_mask,
            seed_attributions=w.map,
        )
    return None


def _metric(name: str, **options: Any) -> Call:
    def call(w: World) -> object:
        return getattr(metrics, name)(
            w.forward,
            w.images,
            w.map,
            feature_mask=w.feature_mask,
            additional_forward_args=w.factor,
            target=w.labels,
            **options,
        )

    return call


def _token_metric(name: str, **options: Any) -> Call:
    def call(w: World) -> object:
        return getattr(metrics, name)(
            w.model, w.images, w.grid, target=w.labels, **options
        )

    return call


def _token_deletion(w: World) -> object:
    for removal in ("tokens", "mask"):
        found = _token_metric("token_deletion", removal=removal)(w)
    return found


def _completeness_error(w: World) -> object:
    return metrics.completeness_error(
        w.forward, w.images, w.grid, w.blurred, w.factor, w.labels
    )


def _maps_scores(w: World) -> object:
    maps = {"one": w.map, "two": w.map.flip(2)}
    return metrics.perturbation_scores_of_maps(
        w.forward,
        w.images,
        maps,
        w.blurred,
        feature_mask=w.feature_mask,
        additional_forward_args=w.factor,
        target=w.labels,
        convention="rise",
    )


def _evaluate(w: World) -> object:
    return metrics.evaluate(
        w.model,
        w.images,
        {"map": w.map, "grid": w.grid},
        w.labels,
        feature_mask=w.feature_mask,
        masks=w.masks,
        convention="rise",
        n_resamples=9,
    )


def _confidence_blur(w: World) -> object:
    return captum_mda.confidence_blur_baseline(
        w.forward,
        w.images,
        w.labels,
        w.factor,
        kernel_sizes=[1, 3],
        max_confidence=0.0,
        on_failure="lowest",
    )


def _in_context(context: Callable[[nn.Module], Any]) -> Call:
    def call(w: World) -> object:
        with context(w.model):
            images = w.images.clone()
            return w.model(images)

    return call


def _capture(w: World) -> object:
    with vit.AttentionCapture() as capture:
        w.model(w.images.clone())
    return capture.records


def _run_in(context: Callable[[], Any]) -> Call:
    def call(w: World) -> object:
        with context():
            return w.images * 2

    return call


def _patch_numbers(w: World) -> object:
    from captum_mda.vit.layout import PatchLayout

    n = SIZE // PATCH
    return vit.patch_numbers((n, n), (SIZE, SIZE), PatchLayout((PATCH, PATCH)))


def _save_figure(w: World) -> object:
    figure = visualize.explanation_figure(w.photo, w.explanation)
    with tempfile.TemporaryDirectory() as folder:
        visualize.save_figure(figure, Path(folder) / "figure.png")
    return None


SCORES = {"one": [0.1, 0.2, 0.4, 0.3], "two": [0.2, 0.3, 0.3, 0.6]}

# Of the names, as importing the classes is a part of what is tested.
WHITE_BOX = dict.fromkeys(
    str(getattr(entry.constructor, "__name__", entry.constructor)).rpartition(".")[2]
    for entry in METHODS.values()
    if entry.needs == "vit"
)
FEW = {"TransformerInputSampling": {"n_masks": 8}}

CALLS: dict[str, Call] = {
    "MetricDrivenAttribution": _mda,
    **{name: _white_box(name, **FEW.get(name, {})) for name in WHITE_BOX},
    "LibraGrad": lambda w: _in_context(captum_mda.LibraGrad)(w),
    "RelevancePropagation": lambda w: _in_context(backward.RelevancePropagation)(w),
    "blur_baseline": lambda w: captum_mda.blur_baseline(w.images, 3),
    "confidence_blur_baseline": _confidence_blur,
    "patch_feature_mask": lambda w: captum_mda.patch_feature_mask(w.images, PATCH),
    "insertion": _metric("insertion", convention="rise"),
    "deletion": _metric("deletion", convention="rise"),
    "mas_insertion": _metric("mas_insertion", on_degenerate="nan"),
    "mas_deletion": _metric("mas_deletion", on_degenerate="nan"),
    "response_curve": _metric("response_curve", convention="rise"),
    "perturbation_scores": _metric("perturbation_scores", convention="rise"),
    "perturbation_scores_of_maps": _maps_scores,
    "aopc": _metric("aopc"),
    "monotonicity": _metric("monotonicity"),
    "symmetric_relevance_gain": _metric("symmetric_relevance_gain"),
    "completeness_error": _completeness_error,
    "masked_hits": _metric("masked_hits"),
    "positive_perturbation": _metric("positive_perturbation"),
    "negative_perturbation": _metric("negative_perturbation"),
    "token_deletion": _token_deletion,
    "mif_deletion": _token_metric("mif_deletion"),
    "lif_deletion": _token_metric("lif_deletion"),
    "evaluate": _evaluate,
    "segmentation_scores": lambda w: metrics.segmentation_scores(w.map, w.masks),
    "pointing_game": lambda w: metrics.pointing_game(w.map, w.masks),
    "sparseness": lambda w: metrics.sparseness(w.map),
    "compare": lambda w: statistics.compare(SCORES, metric="deletion"),
    "comparison_table": lambda w: statistics.comparison_table(SCORES, metric="aopc"),
    "mean_interval": lambda w: statistics.mean_interval(SCORES["one"]),
    "holm": lambda w: statistics.holm([0.1, 0.02]),
    "explanation_figure": lambda w: visualize.explanation_figure(
        w.photo, w.explanation
    ),
    "maps_figure": lambda w: visualize.maps_figure(w.photo, {"one": w.map[0]}),
    "save_figure": _save_figure,
    "scores_figure": lambda w: visualize.scores_figure(
        metrics.segmentation_scores(w.map, w.masks)
    ),
    "denormalize": lambda w: demo.denormalize(w.images),
    "load_model": lambda w: demo.load_model(),
    "make_samples": lambda w: demo.make_samples(n=1, seed=0),
    "to_pil": lambda w: demo.to_pil(w.images[0]),
    "resolve": lambda w: vit.resolve(w.model),
    "find_adapter": lambda w: vit.find_adapter(w.model),
    "check_adapter": lambda w: vit.check_adapter(vit.find_adapter(w.model)),
    "AttentionCapture": _capture,
    "BiasCapture": _run_in(vit.BiasCapture),
    "ConstantParameters": _run_in(vit.ConstantParameters),
    "eager_execution": _in_context(vit.eager_execution),
    "paint": lambda w: vit.paint(w.grid, (SIZE, SIZE), "nearest"),
    "patch_numbers": _patch_numbers,
    "gradients_enabled": _run_in(vit.gradients_enabled),
    "observe": lambda w: vit.observe(vit.find_adapter(w.model), w.images.clone()),
    "TokenStream": lambda w: vit.TokenStream(vit.find_adapter(w.model), w.images),
}

RUN_BY_THE_CALLER = {
    *("LibraGrad", "RelevancePropagation", "AttentionCapture", "eager_execution"),
    *("observe", "TokenStream"),
}
"""What leaves alone what the model does to itself: the caller runs it, or its parts."""
