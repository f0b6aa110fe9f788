"""Models by name, with what belongs to them: transform, colours, patches, classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn, Tensor

DEMO = "demo"

# Its type information leaves out what it exports.
timm_data: Any = timm.data


@dataclass(frozen=True)
class Classifier:
    """A model of images, in evaluation mode on its device.

    Args:
        model (nn.Module): Maps images (B, 3, H, W) to logits (B, classes).
        transform (callable): Turns a PIL image into the model's input, (3, H, W).
        size (tuple[int, int]): Height and width of the inputs.
        mean (tuple[float, ...]): What the transform subtracts from each channel.
        std (tuple[float, ...]): What it then divides by.
        patch_size (tuple[int, int]): Height and width of a patch.
        n_classes (int): How many logits there are.
        class_names (sequence of str): Empty where they are not known.
        device (torch.device): Where the model is.
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

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch_size[0], self.size[1] // self.patch_size[1]

    @property
    def max_confidence(self) -> float:
        """What a blurred image may score: 1 % as in MDA's tables, or about chance."""
        return max(0.01, 1.2 / self.n_classes)

    def require_class(self, index: int | None) -> None:
        """Raise a ValueError if a wanted class does not exist."""
        if index is not None and not 0 <= index < self.n_classes:
            raise ValueError(
                f"--target: got {index}, takes a class from 0 to {self.n_classes - 1}"
            )

    def class_name(self, index: int) -> str:
        """Name a class; without names, the empty string."""
        return self.class_names[index] if index < len(self.class_names) else ""


def load_classifier(
    name: str,
    weights: Path | None,
    pretrained: bool | None,
    patch_size: int | None,
    device: str,
) -> Classifier:
    """Load a model by its name.

    Args:
        name (str): "demo", or what `timm.create_model` takes.
        weights (Path, optional): A timm model's weights, safetensors.
        pretrained (bool, optional): Whether timm fetches weights. None: unless
            ``weights`` are given.
        patch_size (int, optional): The patches' side. None: the model's own.
        device (str): "auto", "cpu" or "cuda".

    Returns:
        *Classifier*: the model and what belongs to it.

    Raises:
        ValueError: There is no such model, its weights cannot be had or do not fit, or
            it has no patches and none are given.
    """
    where = _device(device)
    if name == DEMO:
        model, config, class_names = _load_demo(weights, pretrained)
    else:
        model = _load_timm(name, weights, pretrained)
        config = timm_data.resolve_data_config({}, model=model)
        class_names = _class_names(model)
    height, width = config["input_size"][-2:]
    model = model.eval().to(where)
    with torch.no_grad():
        logits = model(torch.zeros(1, *config["input_size"], device=where))
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"--model: {name} is no classifier, it returns no logits")
    return Classifier(
        model=model,
        transform=timm_data.create_transform(**config),
        size=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        patch_size=_patch_size(name, model, patch_size, (height, width)),
        n_classes=logits.shape[1],
        class_names=class_names,
        device=where,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: got 'cuda', and PyTorch finds no such device here")
    return torch.device(name)


def _load_demo(
    weights: Path | None, pretrained: bool | None
) -> tuple[nn.Module, dict[str, Any], Sequence[str]]:
    from captum_mda import demo

    if weights is not None or pretrained is not None:
        raise ValueError(
            "--weights and --pretrained are for timm models, and the demo model has "
            "its own weights; name a timm model with --model"
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


def _load_timm(name: str, weights: Path | None, pretrained: bool | None) -> nn.Module:
    if "/" not in name and not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:3]
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"--model: timm has no model {name!r}{hint} timm.list_models() lists them"
        )
    # A missing file shall not be found out after a model of some gigabytes is built.
    state = None if weights is None else _read_weights(weights)
    if pretrained is None:
        pretrained = weights is None
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"--model: timm cannot make {name!r} with pretrained={pretrained} "
            f"({error}); pass --weights FILE, or --no-pretrained for random weights"
        ) from error
    if state is not None:
        _require_fit(weights, name, state, model.state_dict())
        model.load_state_dict(state)
    return model


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"--weights: there is no file {path}")
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"--weights: {path} is truncated or not a safetensors file ({error})"
        ) from error
    return state


def _require_fit(
    path: Path | None,
    name: str,
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> None:
    """Say in one line what a strict `load_state_dict` would say in hundreds."""
    shared = state.keys() & expected.keys()
    faults = {
        "missing": expected.keys() - shared,
        "unknown": state.keys() - shared,
        "of another shape": {k for k in shared if state[k].shape != expected[k].shape},
    }
    told = [
        f"{len(keys)} tensors {what}, such as {min(keys)!r}"
        for what, keys in faults.items()
        if keys
    ]
    if told:
        raise ValueError(
            f"--weights: {path} does not fit {name}: {'; '.join(told)}; pass the "
            "weights of that model, with timm's names"
        )


def _class_names(model: nn.Module) -> Sequence[str]:
    """Ask timm for the names of the classes, each without its synonyms."""
    n_classes = getattr(model, "num_classes", None)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    if names is None and n_classes == 1000:
        info = timm_data.ImageNetInfo("imagenet-1k")
        names = [info.index_to_description(index) for index in range(n_classes)]
    if names is None or len(names) != n_classes:
        return ()
    return [str(name).split(",")[0] for name in names]


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
