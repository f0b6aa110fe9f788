"""timm's models by name, with fine-tuned weights and what these were made with."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from captum_mda._spelling import nearest
from captum_mda.evaluate import _fitting
from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._checkpoints import read_state_dicts, StateDict
from captum_mda.evaluate._hub import hub_within_reach
from captum_mda.evaluate._notes import Note

# What timm's trunks of image-text models return is an embedding, by its length.
_IMAGE_TEXT = ("clip", "vit_pe_core")

# Arguments of `timm.create_model` that have options of their own.
_OPTIONS = {
    "num_classes": "{num_classes}",
    "pretrained": "{pretrained}",
    "checkpoint_path": "{weights}",
    "model_name": "{model}",
}
_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, kw_only=True)
class TimmOptions:
    """What a timm model is made of.

    Args:
        name (str): What `timm.create_model` takes.
        weights (Path, optional): A file of weights.
        weights_key (str, optional): Which of the file's.
        pretrained (bool, optional): Whether timm fetches weights. None: unless
            ``weights`` are given.
        num_classes (int, optional): None: what the weights say, or else the model.
        model_args (mapping): More arguments of `timm.create_model`.
    """

    name: str
    weights: Path | None = None
    weights_key: str | None = None
    pretrained: bool | None = None
    num_classes: int | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def require_none(self, why: str) -> None:
        """Raise a ValueError if there are options for making a timm model."""
        given = (self.weights, self.weights_key, self.pretrained, self.num_classes)
        if any(value is not None for value in given) or self.model_args:
            raise ArgumentError(
                "{weights}, {weights_key}, {pretrained}, {num_classes} and "
                f"{{model_args}} are for timm models made by their name, and {why}"
            )


def parse_model_args(
    words: Sequence[str], option: str = "{model_args}"
) -> dict[str, Any]:
    """Read arguments of a model from words such as ``img_size=64``.

    Args:
        words (sequence of str): Each a name, an equals sign and a value: a number,
            True, False, None, a tuple, list or dict as Python writes it, or a string.
        option (str, optional): What errors call them. Default: "--model-arg"

    Raises:
        ValueError: A word is of another form, or names an argument again.

    Example::

        >>> parse_model_args(["img_size=64", "global_pool=avg", "class_token=false"])
        {'img_size': 64, 'global_pool': 'avg', 'class_token': False}
    """
    parsed: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name.isidentifier():
            raise ArgumentError(
                f"{option}: got {word!r}, takes KEY=VALUE, such as img_size=384"
            )
        if name in parsed:
            raise ArgumentError(f"{option}: {name} is given twice")
        if name in _OPTIONS:
            raise ArgumentError(f"{option}: {name} has an option, {_OPTIONS[name]}")
        parsed[name] = _value(value.strip())
    return parsed


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def load_timm_model(options: TimmOptions, note: Note) -> nn.Module:
    """Make a timm model, with the weights of a file or of timm.

    What the weights were made with is read off their shapes where it is not given: the
    number of classes and of channels, and the images' side.

    Args:
        options (TimmOptions): What it is made of.
        note (callable): Told what was inferred, stripped and left out.

    Returns:
        *nn.Module*: the model.

    Raises:
        ValueError: There is no such model, it cannot be made so, or its weights cannot
            be had or do not fit.
    """
    _require_known(options.name)
    weights = options.weights
    # A missing file shall not be found out after a model of some gigabytes is built.
    dicts = None if weights is None else read_state_dicts(weights, "{weights}")
    pretrained = weights is None if options.pretrained is None else options.pretrained
    given = dict(options.model_args)
    if options.num_classes is not None:
        given["num_classes"] = options.num_classes
    model = _create(options.name, pretrained, given)
    if dicts is None:
        _require_trained_classifier(options, model, pretrained)
        return model
    found = _found(options, model, dicts)
    for text in found.told():
        note(f"note: {weights}: {text}")
    shapes = _fitting.inferred_options(model, found.state)
    inferred = {name: value for name, value in shapes.items() if name not in given}
    if inferred:
        made = ", ".join(f"{name}={value}" for name, value in inferred.items())
        note(f"note: {weights}: made with {made}, by its tensors' shapes")
        model = _create(options.name, False, given | inferred)
    hint = _hint(model, found, {name: shapes[name] for name in shapes if name in given})
    file = f"{{weights}}: {weights}"
    state = _fitting.fitted(found.state, model.state_dict(), file, options.name, hint)
    model.load_state_dict(state)
    return model


def _hint(model: nn.Module, found: _fitting.Found, refused: Mapping[str, int]) -> str:
    """Say what keeps weights from fitting, if their names or shapes tell."""
    heads = [f"{name}.weight" for name in _classifiers(model)]
    expected = model.state_dict()
    if any(name in expected and name not in found.state for name in heads):
        return "it has no weights of the classifier; pass those of the whole model"
    return f"by its tensors it was made with {_told(refused)}" if refused else ""


def _found(
    options: TimmOptions, model: nn.Module, dicts: Mapping[str, StateDict]
) -> _fitting.Found:
    """Choose the weights of a file, with a classifier that lies beside the backbone."""
    path, key = cast(Path, options.weights), options.weights_key
    found = _fitting.find_weights(dicts, _names(model), key, path, "{weights}")
    heads = _classifiers(model)
    if len(heads) != 1:
        return found
    weight = model.state_dict().get(f"{heads[0]}.weight")
    n_features = (
        getattr(model, "num_features", 0) if weight is None else weight.shape[1]
    )
    return _fitting.with_head(found, heads[0], int(n_features))


def _require_known(name: str) -> None:
    if "/" in name or ":" in name or timm.is_model(name):
        return  # a hub's or a folder's, or with the tag of its weights
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    holding = timm.list_models(f"*{plain}*")
    close = holding[:3] or nearest(plain, timm.list_models(), 3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    raise ArgumentError(
        f"{{model}}: timm has no model {name!r}{hint} timm.list_models() lists them"
    )


def _create(name: str, pretrained: bool, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        with hub_within_reach() if pretrained else nullcontext():
            model: nn.Module = timm.create_model(
                name, pretrained=pretrained, **arguments
            )
    # What a constructor says of arguments that it does not know, or cannot combine.
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{{model_args}}: timm cannot make {name!r} with {_told(arguments)} "
            f"({type(error).__name__}: {error})"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        with_arguments = f" and {_told(arguments)}" if arguments else ""
        raise ArgumentError(
            f"{{model}}: timm cannot make {name!r} with pretrained={pretrained}"
            f"{with_arguments} ({error}); pass {{weights=FILE}} with weights that "
            "are on this machine, where the hub cannot be reached (HF_HUB_OFFLINE=1 "
            "keeps to what it once downloaded), or {pretrained=False} for random "
            "weights"
        ) from error
    return model


def _told(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "()"


def _names(model: nn.Module) -> list[str]:
    """Name the tensors of a model that any number of classes has."""
    heads = tuple(f"{name}." for name in _classifiers(model))
    names = [name for name in model.state_dict() if not name.startswith(heads)]
    return names or list(model.state_dict())


def _classifiers(model: nn.Module) -> list[str]:
    name = _config(model).get("classifier")
    return list(name) if isinstance(name, (tuple, list)) else [name] if name else []


def _config(model: nn.Module) -> Mapping[str, Any]:
    return getattr(model, "pretrained_cfg", None) or {}


def _require_trained_classifier(
    options: TimmOptions, model: nn.Module, pretrained: bool
) -> None:
    """Refuse a classifier of another size than the weights that timm fetched have."""
    trained = _config(model).get("num_classes")
    wanted = options.num_classes
    if pretrained and wanted is not None and trained not in (None, wanted):
        raise ArgumentError(
            f"{{num_classes}}: got {wanted}, and the weights that timm has for "
            f"{options.name} are for {trained}: the classifier would be random; pass "
            "{weights=FILE} with yours, or {pretrained=False} for random weights"
        )


def require_classifier(options: TimmOptions, model: nn.Module) -> None:
    """Refuse models whose outputs are features or embeddings, which are no classes.

    Args:
        options (TimmOptions): What it was made of.
        model (nn.Module): As `load_timm_model` returns it.

    Raises:
        ValueError: It has no classifier.
    """
    get_classifier = getattr(model, "get_classifier", None)
    headless = getattr(model, "num_classes", None) == 0 or (
        get_classifier is not None and isinstance(get_classifier(), nn.Identity)
    )
    n_outputs = getattr(model, "num_features", "many") if headless else None
    if headless:
        what = (
            f"has no classifier (num_classes=0): its {n_outputs} outputs are features"
        )
    elif _is_embedding(options, model):
        n_outputs = _config(model)["num_classes"]
        what = (
            f"is the image part of an image-text model: its {n_outputs} outputs are an "
            "embedding"
        )
    else:
        return
    raise ArgumentError(
        f"{{model}}: {options.name} {what}, not classes; pass {{weights=FILE}} with a "
        "classifier that was trained on it (and {num_classes=N}, where the file does "
        "not tell), or name a model that has one"
    )


def _is_embedding(options: TimmOptions, model: nn.Module) -> bool:
    config = _config(model)
    tag = str(config.get("tag") or "")
    full = f"{config.get('architecture')}.{tag}"
    return (
        options.num_classes is None
        and "_ft_in" not in tag  # fine-tuned on ImageNet
        and any(word in full for word in _IMAGE_TEXT)
        and getattr(model, "num_classes", None) == config.get("num_classes")
    )
