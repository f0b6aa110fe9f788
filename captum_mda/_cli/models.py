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

from captum_mda._cli.class_names import find_class, read_labels
from captum_mda._cli.notes import Note, silent
from captum_mda._cli.timm_models import (
    load_timm_model,
    require_classifier,
    TimmOptions,
)
from captum_mda.perturbation.scores import Score, to_scores

DEMO = "demo"

# Its type information leaves out what it exports.
timm_data: Any = timm.data


@dataclass(frozen=True)
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
        """Score all classes of images, (B, classes)."""
        return to_scores(self.model(images), self.score)

    def find_class(self, text: str) -> int:
        """Find a class by its index or name, or raise a ValueError."""
        return find_class(text, self.class_names, self.n_classes, "--target")

    def class_name(self, index: int) -> str:
        """Name a class, without its synonyms; without names, the empty string."""
        if index >= len(self.class_names):
            return ""
        name = self.class_names[index]
        short = name.split(",")[0]
        is_one = sum(other.split(",")[0] == short for other in self.class_names) == 1
        return short if is_one else name


def load_classifier(
    name: str,
    weights: Path | None = None,
    pretrained: bool | None = None,
    patch_size: int | None = None,
    device: str = "auto",
    *,
    weights_key: str | None = None,
    num_classes: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    labels: Path | None = None,
    score: Score = "softmax",
    note: Note = silent,
) -> Classifier:
    """Load a model by its name.

    Args:
        name (str): "demo", or what `timm.create_model` takes.
        weights (Path, optional): A timm model's weights: safetensors, or a state dict
            or checkpoint of `torch.save`. Default: None
        pretrained (bool, optional): Whether timm fetches weights. None: unless
            ``weights`` are given. Default: None
        patch_size (int, optional): The patches' side. None: the model's own.
            Default: None
        device (str, optional): "auto", "cpu" or "cuda". Default: "auto"
        weights_key (str, optional): Which weights of a file that has several.
            Default: None
        num_classes (int, optional): The number of classes. None: what the weights say,
            or else the model. Default: None
        model_args (mapping, optional): More arguments of `timm.create_model`.
            Default: None
        labels (Path, optional): A file of the classes' names. Default: None
        score (str, optional): As for `Classifier`. Default: "softmax"
        note (callable, optional): Told what was inferred of weights. Default: tells
            nobody

    Returns:
        *Classifier*: the model and what belongs to it.

    Raises:
        ValueError: There is no such model, its weights cannot be had or do not fit, it
            is no classifier, or it has no patches and none are given.
    """
    where = _device(device)
    options = TimmOptions(
        name, weights, weights_key, pretrained, num_classes, dict(model_args or {})
    )
    if name == DEMO:
        model, config, class_names = _load_demo(options)
    else:
        model = load_timm_model(options, note)
        require_classifier(options, model)
        config = _data_config(options, model)
        class_names = _class_names(model)
    channels, height, width = config["input_size"]
    model = model.eval().to(where)
    n_classes = _n_classes(name, model, config["input_size"], where)
    _require_score(score, n_classes)
    return Classifier(
        model=model,
        transform=_transform(config, channels),
        size=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        patch_size=_patch_size(name, model, patch_size, (height, width)),
        n_classes=n_classes,
        class_names=(
            class_names
            if labels is None
            else read_labels(labels, n_classes, "--labels")
        ),
        device=where,
        score=score,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: got 'cuda', and PyTorch finds no such device here")
    return torch.device(name)


def _load_demo(
    options: TimmOptions,
) -> tuple[nn.Module, dict[str, Any], Sequence[str]]:
    from captum_mda import demo

    given = (options.weights, options.weights_key, options.pretrained)
    if any(value is not None for value in (*given, options.num_classes)) or (
        options.model_args
    ):
        raise ValueError(
            "--weights, --weights-key, --pretrained, --num-classes and --model-arg are "
            "for timm models, and the demo model has its own weights; name a timm "
            "model with --model"
        )
    model = demo.load_model()
    config = {
        "input_size": (3, demo.IMAGE_SIZE, demo.IMAGE_SIZE),
        "interpolation": "bicubic",
        "mean": demo.MEAN,
        "std": demo.STD,
        "crop_pct": 1.0,
    }
    return model, config, demo.CLASS_NAMES


def _data_config(options: TimmOptions, model: nn.Module) -> dict[str, Any]:
    """Ask timm how images are prepared, for the size and channels the model now has."""
    config: dict[str, Any] = timm_data.resolve_data_config({}, model=model)
    _, height, width = config["input_size"]
    own_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = own_size or options.model_args.get("img_size") or (height, width)
    height, width = (size, size) if isinstance(size, int) else size
    channels = _channels(options, model)
    if channels not in (1, 3):
        raise ValueError(
            f"--model: {options.name} takes images of {channels} channels; the command "
            "line reads those of 3, RGB, or of 1, grey"
        )
    config["input_size"] = (channels, height, width)
    for name in ("mean", "std"):  # of one channel, that of the three
        values = config[name]
        if len(values) != channels:
            config[name] = (sum(values) / len(values),) * channels
    return config


def _channels(options: TimmOptions, model: nn.Module) -> int:
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    weight = model.state_dict().get(f"{first}.weight")
    if weight is not None and weight.dim() == 4:
        return int(weight.shape[1])
    return int(options.model_args.get("in_chans", 3))


def _transform(config: Mapping[str, Any], channels: int) -> Callable[[Image], Tensor]:
    transform: Callable[[Image], Tensor] = timm_data.create_transform(**config)
    return transform if channels == 3 else lambda image: transform(image.convert("L"))


@torch.no_grad()
def _n_classes(
    name: str, model: nn.Module, input_size: tuple[int, ...], device: torch.device
) -> int:
    images = torch.zeros(1, *input_size, device=device)
    try:
        logits = model(images)
    # Whatever a model says of inputs that it does not take.
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"--model: {name} does not run on an image of {input_size} ({error}); pass "
            "its size by --model-arg img_size=PIXELS"
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        got = (
            tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        )
        raise ValueError(
            f"--model: {name} is no classifier: for one image it returns {got}, not "
            "logits (1, classes)"
        )
    return logits.shape[1]


def _require_score(score: Score, n_classes: int) -> None:
    """Refuse softmax of a single output, which is always 1."""
    if n_classes == 1 and score == "softmax":
        raise ValueError(
            "--score: got 'softmax', which is 1 for every image where a model has one "
            "output; pass --score sigmoid, if it tells two classes apart, or --score "
            "identity, if it predicts a number"
        )


def _class_names(model: nn.Module) -> Sequence[str]:
    """Ask timm for the names of the classes, with their synonyms."""
    n_classes = getattr(model, "num_classes", None)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    if names is None and n_classes == 1000:
        info = timm_data.ImageNetInfo("imagenet-1k")
        names = [info.index_to_description(index) for index in range(n_classes)]
    if names is None or len(names) != n_classes:
        return ()
    return [str(name) for name in names]


def _patch_size(
    name: str, model: nn.Module, wanted: int | None, size: tuple[int, int]
) -> tuple[int, int]:
    embed = getattr(model, "patch_embed", None)
    # Of a hybrid, whose patches are cut from a network's features, patch_size counts
    # features, not pixels.
    ratio = getattr(embed, "feat_ratio", None)
    own = ratio(as_scalar=False) if ratio else getattr(embed, "patch_size", None)
    if wanted is None and own is None:
        raise ValueError(
            f"--model: {name} does not say how it cuts images into patches; say it "
            "with --patch-size PIXELS"
        )
    sides: Any = own if wanted is None else wanted
    height, width = (sides, sides) if isinstance(sides, int) else sides
    if height < 1 or width < 1 or size[0] % height or size[1] % width:
        raise ValueError(
            f"--patch-size: got {height} x {width} pixels, takes a size that divides "
            f"the model's input, {size[0]} x {size[1]}"
        )
    return height, width
