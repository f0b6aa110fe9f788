"""Which weights of a file are a model's: by state dict, by prefix and by shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn, Tensor

from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._checkpoints import StateDict

# What other tools leave in state dicts, and what models compute for themselves.
_IDLE = (
    "total_ops",
    "total_params",
    "relative_position_index",
    "relative_coords_table",
    "attn_mask",
)
_NEARLY_ALL = 0.8  # of a model's tensors; the rest are said to be missing


@dataclass(frozen=True, kw_only=True)
class Found:
    """Weights of a file that have a model's names.

    Args:
        state (dict[str, Tensor]): The weights, by the model's names.
        key (str): Where they lie in the file; "" for the whole of it.
        prefix (str): What stood before the names, such as "module.".
        others (dict[str, Tensor]): Tensors without the prefix, left out.
        head (str): Which of those left out was taken for the classifier.
    """

    state: StateDict
    key: str = ""
    prefix: str = ""
    others: StateDict = field(default_factory=dict)
    head: str = ""

    @property
    def place(self) -> str:
        """What ``--weights-key`` takes to choose them."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)

    def is_at(self, key: str) -> bool:
        """Tell whether a key is of their place, or of a part of it."""
        return f".{key.strip('.')}." in f".{self.place}."

    def told(self) -> list[str]:
        """Say what was stripped and left out, one line each."""
        lines = []
        if self.prefix:
            lines.append(
                f"the prefix {self.prefix!r} of the weights' names is stripped"
            )
        if self.head:
            lines.append(
                f"{self.head!r} is taken for the classifier, right behind the model's "
                "features"
            )
        if self.others:
            lines.append(
                f"{len(self.others)} tensors without the prefix {self.prefix!r} are "
                f"left out, such as {min(self.others)!r}"
            )
        return lines


def find_weights(
    dicts: Mapping[str, StateDict],
    expected: Collection[str],
    key: str | None,
    path: Path,
    option: str = "weights",
) -> Found:
    """Choose the weights that are a model's by the names of its tensors.

    Args:
        dicts (mapping): The state dicts of a file, as of `read_state_dicts`.
        expected (collection of str): Names of the model's tensors.
        key (str, optional): The state dict to take, or the prefix of its names. None:
            the only one that fits.
        path (Path): The file, for errors.
        option (str, optional): What errors call it. Default: "weights"

    Returns:
        *Found*: the weights.

    Raises:
        ValueError: Several fit, or the key is of none.
    """
    found = [
        choice
        for name, state in dicts.items()
        for choice in _by_prefix(name, state, expected)
    ]
    if key is not None:
        if not any(choice.is_at(key) for choice in found):
            # Without names that fit, a key still chooses, so that the fault is told.
            found += [Found(state=state, key=name) for name, state in dicts.items()]
        if not any(choice.place for choice in found):
            raise ArgumentError(
                f"{{weights_key}}: got {key!r}, and {path} is one state dict, without "
                "keys"
            )
        chosen = [choice for choice in found if choice.is_at(key)]
        if not chosen:
            raise ArgumentError(
                f"{{weights_key}}: got {key!r}, and {path} has {_listed(found)}"
            )
        found = [choice for choice in chosen if choice.place == key] or chosen
    if len({choice.place for choice in found}) > 1:
        raise ArgumentError(
            f"{option}: {path} holds the weights of several models; choose one by "
            f"{{weights_key}}: {_listed(found)}"
        )
    largest = max(dicts.items(), key=lambda item: len(item[1]))
    return found[0] if found else Found(state=largest[1], key=largest[0])


def _listed(found: Collection[Found]) -> str:
    return " or ".join(dict.fromkeys(choice.place for choice in found if choice.place))


def _by_prefix(key: str, state: StateDict, expected: Collection[str]) -> list[Found]:
    """Find under which prefixes a state dict has a model's names."""
    names = frozenset(expected)
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for place in range(len(parts)):
            if ".".join(parts[place:]) in names:
                counts["".join(f"{part}." for part in parts[:place])] += 1
    prefixes = [p for p, count in counts.items() if count >= _NEARLY_ALL * len(names)]
    return [_stripped(key, state, prefix) for prefix in sorted(prefixes)]


def _stripped(key: str, state: StateDict, prefix: str) -> Found:
    """Take the tensors whose names have a prefix; without one, all."""
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    others = {n: tensor for n, tensor in state.items() if not n.startswith(prefix)}
    return Found(state=own, key=key, prefix=prefix, others=others)


def with_head(found: Found, classifier: str, n_features: int) -> Found:
    """Take the linear layer beside a backbone for its classifier.

    Args:
        found (Found): Weights that may lack a classifier's.
        classifier (str): The name that the model has for it.
        n_features (int): The length of what it gets.

    Returns:
        *Found*: with the classifier, if the file has one linear layer of that length
        outside of the weights' prefix and no other; else as it was.
    """
    own = f"{classifier}.weight"
    layers = [name for name, tensor in found.others.items() if tensor.dim() > 1]
    if own in found.state or len(layers) != 1 or not layers[0].endswith(".weight"):
        return found
    weight, bias = layers[0], f"{layers[0].removesuffix('weight')}bias"
    if found.others[weight].shape[1:] != (n_features,) or bias not in found.others:
        return found
    others = {n: t for n, t in found.others.items() if n not in (weight, bias)}
    state = found.state | {
        own: found.others[weight],
        f"{classifier}.bias": found.others[bias],
    }
    return replace(
        found, state=state, others=others, head=weight.removesuffix(".weight")
    )


def inferred_options(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Tell by the shapes of weights what they were made with, where the model differs.

    Args:
        model (nn.Module): A timm model with its ``pretrained_cfg``.
        state (mapping): The weights, by the model's names.

    Returns:
        *dict[str, int]*: those of ``num_classes``, ``in_chans`` and ``img_size`` that
        `timm.create_model` needs for the weights to fit.
    """
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    own = model.state_dict()
    options: dict[str, int] = {}
    for option, name, dim in (
        ("num_classes", config.get("classifier"), 0),
        ("in_chans", config.get("first_conv"), 1),
    ):
        wanted = _size(state, name, dim)
        if wanted is not None and wanted != _size(own, name, dim):
            options[option] = wanted
    side = _image_side(model, own, state)
    return options if side is None else options | {"img_size": side}


def _size(state: Mapping[str, Tensor], name: Any, dim: int) -> int | None:
    first = name[0] if isinstance(name, (tuple, list)) and name else name
    tensor = state.get(f"{first}.weight")
    return None if tensor is None or tensor.dim() <= dim else tensor.shape[dim]


def _image_side(
    model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> int | None:
    """Tell the images' side from the number of position embeddings, of square grids."""
    embed: Any = getattr(model, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    ours, theirs = own.get("pos_embed"), state.get("pos_embed")
    if not grid or not patch or ours is None or theirs is None:
        return None
    if ours.dim() != 3 or theirs.dim() != 3 or ours.shape[1] == theirs.shape[1]:
        return None
    n_patches = theirs.shape[1] - (ours.shape[1] - math.prod(grid))
    side = math.isqrt(max(n_patches, 0))
    return side * int(patch[0]) if side > 0 and side * side == n_patches else None


def fitted(
    state: StateDict,
    expected: Mapping[str, Tensor],
    file: str,
    model: str,
    hint: str = "",
) -> StateDict:
    """Check that weights fit, in one line where `load_state_dict` has hundreds.

    Args:
        state (dict): The weights.
        expected (mapping): The model's own.
        file (str): What errors call the file, with the option before it.
        model (str): The model's name.
        hint (str, optional): What would make them fit. Default: nothing known

    Returns:
        *dict[str, Tensor]*: the weights, without what no model needs.

    Raises:
        ValueError: Tensors are missing, unknown, or of another shape.
    """
    idle = {
        name
        for name in state.keys() - expected.keys()
        if name.rpartition(".")[2] in _IDLE
    }
    kept = {name: tensor for name, tensor in state.items() if name not in idle}
    shared = kept.keys() & expected.keys()
    faults = {
        "missing": expected.keys() - shared,
        "unknown": kept.keys() - shared,
        "of another shape": {k for k in shared if kept[k].shape != expected[k].shape},
    }
    told = [
        f"{len(keys)} tensors {what}, such as {_told(min(keys), kept, expected)}"
        for what, keys in faults.items()
        if keys
    ]
    if told:
        raise ArgumentError(
            f"{file} does not fit {model}: {'; '.join(told)}; "
            + (
                hint
                or "pass the weights of that model, with timm's names, and its "
                "arguments by {model_args=KEY=VALUE}"
            )
        )
    return kept


def _told(
    name: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> str:
    if name not in state or name not in expected:
        return repr(name)
    return f"{name!r}, {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
