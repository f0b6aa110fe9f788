"""Classifiers: a model with its transform, colours, patches, classes and score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL.Image import Image
from torch import nn, Tensor

from captum_mda._checks import require_choice
from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._class_names import find_class, read_labels
from captum_mda.evaluate._file_names import showable
from captum_mda.evaluate._model_inputs import (
    demo_inputs,
    ModelInputs,
    module_inputs,
    timm_inputs,
)
from captum_mda.evaluate._notes import Note, silent
from captum_mda.evaluate._timm_models import (
    load_timm_model,
    require_classifier,
    TimmOptions,
)
from captum_mda.perturbation.scores import Score, SCORES, to_scores
from captum_mda.vit.outputs import output_tensor

DEMO = "demo"
"""The name of the embedded model."""

DEVICES = ("auto", "cpu", "cuda")

# Its type information leaves out what it exports.
timm_data: Any = timm.data


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model of images, in evaluation mode on its device.

    Args:
        model (nn.Module): Maps images (B, C, H, W) to logits (B, classes).
        transform (callable): Turns an RGB image into the model's input, (C, H, W).
        size (tuple[int, int]): Height and width of the inputs.
        mean (tuple[float, ...]): What the transform subtracts from each channel.
        std (tuple[float, ...]): What it then divides by.
        patch_size (tuple[int, int]): Height and width of a patch.
        n_classes (int): How many logits there are.
        class_names (sequence of str): Empty where they are not known; with synonyms,
            between commas.
        device (torch.device): Where the model is.
        score (str, optional): What is made of the outputs: "softmax" for one class of
            several, "sigmoid" for each by itself, "identity" for outputs as they are.
            Default: "softmax"
        name (str, optional): The model's name, for tables. Default: ""
        weights (str, optional): Where its weights are from: the name of a file,
            "pretrained", "random", or "" where that is not known. Default: ""
    """

    model: nn.Module
    transform: Callable[[Image], Tensor]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch_size: tuple[int, int]
    n_classes: int
    class_names: Sequence[str]
    device: torch.device
    score: Score = "softmax"
    name: str = ""
    weights: str = ""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch_size[0], self.size[1] // self.patch_size[1]

    @property
    def max_confidence(self) -> float:
        """What a blurred image may score: 1 % as in MDA's tables, or about chance."""
        if self.score == "identity":
            return 0.0
        if self.score == "sigmoid" and self.n_classes > 1:
            return 0.01
        return max(0.01, 1.2 / max(self.n_classes, 2))

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Score all classes of images (B, C, H, W): (B, classes)."""
        return to_scores(self.model(images), self.score)

    def find_class(self, text: str) -> int:
        """Find a class by its index or name, or raise a ValueError."""
        return find_class(text, self.class_names, self.n_classes, "{target}")

    def class_name(self, index: int) -> str:
        """Name a class, without its synonyms; without names, the empty string."""
        if index >= len(self.class_names):
            return ""
        name = self.class_names[index]
        short = name.split(",")[0]
        is_one = sum(other.split(",")[0] == short for other in self.class_names) == 1
        return short if is_one else name


class _Logits(nn.Module):
    """A model that returns an object or a mapping, reduced to its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the tensor in what the model returns."""
        return output_tensor(self.model(images))


def load_classifier(
    model: str | nn.Module,
    *,
    weights: Path | None = None,
    weights_key: str | None = None,
    pretrained: bool | None = None,
    num_classes: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    patch_size: int | None = None,
    labels: Path | None = None,
    score: Score = "softmax",
    device: str = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    note: Note = silent,
) -> Classifier:
    """Load a classifier, or describe one that is loaded, and check it.

    Args:
        model (str or nn.Module): "demo", what `timm.create_model` takes, or a
            classifier of timm, transformers or torchvision, in evaluation mode.
        weights (Path, optional): A timm model's weights: safetensors, or a state dict
            or checkpoint of `torch.save`. Default: None
        weights_key (str, optional): Which weights of a file that has several.
            Default: None
        pretrained (bool, optional): Whether timm fetches weights. None: unless
            ``weights`` are given. Default: None
        num_classes (int, optional): The number of classes. None: what the weights say,
            or else the model. Default: None
        model_args (mapping, optional): More arguments of `timm.create_model`.
            Default: None
        patch_size (int, optional): The patches' side. None: the model's own.
            Default: None
        labels (Path, optional): A file of the classes' names. Default: None
        score (str, optional): As for `Classifier`. Default: "softmax"
        device (str, optional): "auto", "cpu" or "cuda"; "auto" for a module, which
            stays where it is. Default: "auto"
        mean (sequence of float, optional): What a module's images have subtracted from
            each channel. None: as the model says; transformers' models do not say.
            Default: None
        std (sequence of float, optional): What they are then divided by. None: as the
            model says. Default: None
        note (callable, optional): Told what was inferred of weights. Default: tells
            nobody

    Returns:
        *Classifier*: the model and what belongs to it.

    Raises:
        ValueError: There is no such model, its weights cannot be had or do not fit, it
            is no classifier, or it has no patches and none are given.

    Example::

        >>> classifier = load_classifier("demo", device="cpu")
        >>> classifier.size, classifier.patch_size, classifier.grid
        ((64, 64), (8, 8), (8, 8))
    """
    require_choice("score", score, SCORES)
    where = _device(model, device)
    name = model if isinstance(model, str) else type(model).__name__
    options = TimmOptions(
        name=name,
        weights=weights,
        weights_key=weights_key,
        pretrained=pretrained,
        num_classes=num_classes,
        model_args=dict(model_args or {}),
    )
    module, inputs = _load(model, options, mean, std, note)
    if module is not model:
        module = module.eval().to(where)
    module, n_classes = _checked(name, module, inputs.shape, where)
    _require_score(score, n_classes)
    names = inputs.class_names
    if labels is not None:
        names = read_labels(labels, n_classes, "{labels}")
    return Classifier(
        model=module,
        transform=_transform(inputs),
        size=inputs.shape[1:],
        mean=tuple(inputs.config["mean"]),
        std=tuple(inputs.config["std"]),
        patch_size=_patch_size(name, inputs, patch_size),
        n_classes=n_classes,
        class_names=names,
        device=where,
        score=score,
        name=name,
        weights=_weights_name(model, options),
    )


def _load(
    model: str | nn.Module,
    options: TimmOptions,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    note: Note,
) -> tuple[nn.Module, ModelInputs]:
    """Make a model by its name, or take the module, with what it takes."""
    if isinstance(model, nn.Module):
        options.require_none("a model that is loaded has its own")
        return model, module_inputs(model, mean, std)
    if mean is not None or std is not None:
        raise ArgumentError(
            "mean, std: are for a model that is passed as an object, and timm knows "
            "those of its models; leave them out"
        )
    if model == DEMO:
        from captum_mda import demo

        options.require_none(
            "the demo model has its own weights; name a timm model with {model}"
        )
        toy = demo.load_model()
        return toy, demo_inputs(toy)
    loaded = load_timm_model(options, note)
    require_classifier(options, loaded)
    return loaded, timm_inputs(options, loaded)


def _weights_name(model: str | nn.Module, options: TimmOptions) -> str:
    if not isinstance(model, str):
        return ""
    if model == DEMO:
        return DEMO
    if options.weights is not None:
        return showable(options.weights.name)
    return "random" if options.pretrained is False else "pretrained"


def _device(model: object, name: str) -> torch.device:
    require_choice("device", name, DEVICES)
    if isinstance(model, nn.Module):
        own = next(model.parameters(), torch.empty(0)).device
        if model.training or name not in ("auto", own.type):
            raise ArgumentError(
                f"{{model}}: got one in training mode or on {own}, takes one in "
                "evaluation mode on its device; call model.eval(), and model.to(device)"
            )
        return own
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            "{device}: got 'cuda', and PyTorch finds no such device here"
        )
    return torch.device(name)


def _transform(inputs: ModelInputs) -> Callable[[Image], Tensor]:
    transform: Callable[[Image], Tensor] = timm_data.create_transform(**inputs.config)
    if inputs.shape[0] == 3:
        return transform
    return lambda image: transform(image.convert("L"))


@torch.no_grad()
def _checked(
    name: str, model: nn.Module, shape: tuple[int, int, int], device: torch.device
) -> tuple[nn.Module, int]:
    """Run the model once: return it, wrapped if need be, and the number of classes."""
    images = torch.zeros(1, *shape, device=device)
    try:
        returned = model(images)
        if not isinstance(returned, Tensor) and hasattr(model, "config"):
            model = _Logits(model)
            returned = model(images)
    # Whatever a model says of inputs that it does not take.
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{{model}}: {name} does not run on an image of {shape} ({error}); pass "
            "its size by {model_args=img_size=PIXELS}"
        ) from error
    if not isinstance(returned, Tensor) or returned.dim() != 2:
        got = (
            tuple(returned.shape)
            if isinstance(returned, Tensor)
            else type(returned).__name__
        )
        raise ArgumentError(
            f"{{model}}: {name} is no classifier: for one image it returns {got}, not "
            "logits (1, classes)"
        )
    return model, returned.shape[1]


def _require_score(score: Score, n_classes: int) -> None:
    """Refuse softmax of a single output, which is always 1."""
    if n_classes == 1 and score == "softmax":
        raise ArgumentError(
            "{score}: got 'softmax', which is 1 for every image where a model has one "
            "output; pass {score=sigmoid}, if it tells two classes apart, or "
            "{score=identity}, if it predicts a number"
        )


def _patch_size(name: str, inputs: ModelInputs, wanted: int | None) -> tuple[int, int]:
    if wanted is None and inputs.patch_size is None:
        raise ArgumentError(
            f"{{model}}: {name} does not say how it cuts images into patches; say it "
            "with {patch_size=PIXELS}"
        )
    sides: Any = inputs.patch_size if wanted is None else wanted
    height, width = (sides, sides) if isinstance(sides, int) else sides
    _, *size = inputs.shape
    if height < 1 or width < 1 or size[0] % height or size[1] % width:
        raise ArgumentError(
            f"{{patch_size}}: got {height} x {width} pixels, takes a size that divides "
            f"the model's input, {size[0]} x {size[1]}"
        )
    return height, width
