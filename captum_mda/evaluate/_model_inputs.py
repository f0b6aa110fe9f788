"""What a classifier takes, read off the model: sizes, colours, patches, class names.

timm's models say it in their configuration, transformers' in theirs, and torchvision's
in attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._timm_models import TimmOptions

# Its type information leaves out what it exports.
timm_data: Any = timm.data

_NO_COLOURS = (
    "{model}: it does not say how its images are normalised; pass mean=(...) and "
    "std=(...), one number for each channel, as its image processor has them"
)


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """What a classifier takes, and the names of its classes.

    Args:
        config (mapping): Arguments of `timm.data.create_transform`; "input_size",
            "mean" and "std" among them.
        patch_size (int or tuple[int, int], optional): The patches' side, or height and
            width. None: the model does not say.
        class_names (sequence of str): Empty where they are not known.
    """

    config: Mapping[str, Any]
    patch_size: int | tuple[int, int] | None
    class_names: Sequence[str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the inputs."""
        channels, height, width = self.config["input_size"]
        return channels, height, width


def demo_inputs(model: nn.Module) -> ModelInputs:
    """Describe the inputs of the demo model."""
    from captum_mda import demo

    config = {
        "input_size": (3, demo.IMAGE_SIZE, demo.IMAGE_SIZE),
        "interpolation": "bicubic",
        "mean": demo.MEAN,
        "std": demo.STD,
        "crop_pct": 1.0,
    }
    return ModelInputs(
        config=config, patch_size=_patch_size(model), class_names=demo.CLASS_NAMES
    )


def timm_inputs(options: TimmOptions, model: nn.Module) -> ModelInputs:
    """Describe the inputs of a timm model.

    Raises:
        ValueError: It takes images of other than one or three channels.
    """
    return ModelInputs(
        config=_data_config(options, model),
        patch_size=_patch_size(model),
        class_names=_class_names(model),
    )


def module_inputs(
    model: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> ModelInputs:
    """Describe the inputs of a model that was passed as an object.

    Args:
        model (nn.Module): timm's, transformers' or torchvision's.
        mean (sequence of float, optional): What is subtracted from each channel. None:
            as the model says, or for torchvision's as for all of its weights.
        std (sequence of float, optional): What channels are divided by. None: likewise.

    Raises:
        ValueError: The model does not say what it takes.
    """
    name = type(model).__name__
    if hasattr(model, "pretrained_cfg"):
        found = timm_inputs(TimmOptions(name=name), model)
        colours = (found.config["mean"], found.config["std"])
    elif hasattr(getattr(model, "config", None), "image_size"):
        found, colours = _transformers_inputs(model), None
    elif hasattr(model, "image_size") and hasattr(model, "patch_size"):
        found = _torchvision_inputs(model)
        colours = (timm_data.IMAGENET_DEFAULT_MEAN, timm_data.IMAGENET_DEFAULT_STD)
    else:
        raise ArgumentError(
            f"{{model}}: got {name}, takes a classifier of timm, transformers or "
            "torchvision, which say what images they take, or the name of a timm model"
        )
    if (mean is None) != (std is None) or (mean is None and colours is None):
        raise ArgumentError(_NO_COLOURS)
    if mean is not None and std is not None:
        colours = (tuple(mean), tuple(std))
    assert colours is not None
    if any(len(each) != found.shape[0] for each in colours):
        raise ArgumentError(
            f"mean, std: got {len(colours[0])} and {len(colours[1])} numbers, takes "
            f"one for each of the {found.shape[0]} channels"
        )
    config = {**found.config, "mean": colours[0], "std": colours[1]}
    return ModelInputs(
        config=config, patch_size=found.patch_size, class_names=found.class_names
    )


def _transformers_inputs(model: nn.Module) -> ModelInputs:
    config: Any = model.config
    size = _pair(config.image_size)
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        names = []  # transformers' own, where nobody has named the classes
    return ModelInputs(
        config={
            "input_size": (getattr(config, "num_channels", 3), *size),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
        },
        patch_size=getattr(config, "patch_size", None),
        class_names=names,
    )


def _torchvision_inputs(model: nn.Module) -> ModelInputs:
    size: Any = model.image_size
    patch_size: Any = model.patch_size
    head = [part for part in model.modules() if isinstance(part, nn.Linear)]
    n_classes = head[-1].out_features if head else 0
    return ModelInputs(
        config={
            "input_size": (3, *_pair(size)),
            "interpolation": "bilinear",
            "crop_pct": 0.875,
        },
        patch_size=patch_size,
        class_names=_imagenet_names() if n_classes == 1000 else (),
    )


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _patch_size(model: nn.Module) -> int | tuple[int, int] | None:
    embed = getattr(model, "patch_embed", None)
    # Of a hybrid, whose patches are cut from a network's features, patch_size counts
    # features, not pixels.
    ratio = getattr(embed, "feat_ratio", None)
    own: Any = ratio(as_scalar=False) if ratio else getattr(embed, "patch_size", None)
    return own  # type: ignore[no-any-return]


def _data_config(options: TimmOptions, model: nn.Module) -> dict[str, Any]:
    """Read how images are prepared, for the size and channels the model now has."""
    config: dict[str, Any] = timm_data.resolve_data_config({}, model=model)
    _, height, width = config["input_size"]
    own_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = own_size or options.model_args.get("img_size") or (height, width)
    height, width = (size, size) if isinstance(size, int) else size
    channels = _channels(options, model)
    if channels not in (1, 3):
        raise ArgumentError(
            f"{{model}}: {options.name} takes images of {channels} channels; takes a "
            "model of images of 3, RGB, or of 1, grey"
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


def _class_names(model: nn.Module) -> Sequence[str]:
    """Read the names of the classes, with their synonyms, from timm."""
    n_classes = getattr(model, "num_classes", None)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    if names is None and n_classes == 1000:
        names = _imagenet_names()
    if names is None or len(names) != n_classes:
        return ()
    return [str(name) for name in names]


def _imagenet_names() -> list[str]:
    info = timm_data.ImageNetInfo("imagenet-1k")
    return [info.index_to_description(index) for index in range(1000)]
