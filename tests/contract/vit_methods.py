"""Every method of the package's table on the parts of a model; what contracts share."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack
from vit_models import BY_NAME, images, shared_model

from captum_mda.attr import ViTAttribution
from captum_mda.evaluate import methods
from captum_mda.vit import ViTAdapter

# Rows and columns of patches differ, so that no test misses one taken for the other.
CASE = BY_NAME["timm ViT not square"]
IMAGES = images(CASE, 3)
TARGETS = [1, 2, 0]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What contracts must know of a method, besides its line in the package's table.

    Args:
        options (tuple[dict, ...]): Arguments of the constructor besides the model, one
            set for each way in which the method is tested.
        follows_target (bool): Whether the map depends on the target.
        differentiates (bool): Whether it takes gradients, and runs the model whole.
        of_pixels (bool): Whether maps have more detail than one value for each patch.
        refuses (tuple[str, ...]): Cases whose models it cannot explain, and says so.
    """

    options: tuple[Mapping[str, Any], ...] = ({},)
    follows_target: bool = True
    differentiates: bool = True
    of_pixels: bool = False
    refuses: tuple[str, ...] = ()


FACTS = {
    "raw-attention": Facts(follows_target=False),
    "rollout": Facts(follows_target=False),
    "grad-cam": Facts(options=({"variant": "mda"}, {"variant": "chefer"})),
    "t-attn": Facts(options=({"variant": "mda"}, {"variant": "original"})),
    "t-attr": Facts(options=({"variant": "mda"}, {"variant": "original"})),
    "bi-attn": Facts(options=({"mode": "head"},)),
    "libra-ixg": Facts(options=({"biases": False}, {"biases": True})),
    # Windows end at borders: not so those of one patch.
    "caap": Facts(options=({"support": 0},), differentiates=False),
    # One mask for each channel, whatever is drawn.
    "tis": Facts(
        options=(
            {
                "n_masks": 1000,
                "empty_clusters": "avoid",
                "normalize": False,
                "score": "identity",
            },
        ),
        differentiates=False,
        refuses=("timm BEiT", "transformers BEiT"),
    ),
    "vit-cx": Facts(
        options=({"noise": 0.0, "score": "identity"},),
        differentiates=False,
        of_pixels=True,
    ),
}
"""By name in `captum_mda.evaluate.METHODS`; a method without facts has the defaults."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Method:
    """One way to build a method.

    Args:
        constructor (type): Its class.
        options (Mapping): What its constructor gets besides the model.
        facts (Facts): What contracts must know of it.
    """

    constructor: type[ViTAttribution]
    options: Mapping[str, Any]
    facts: Facts

    @property
    def name(self) -> str:
        options = [f"{name}={value}" for name, value in self.options.items()]
        return " ".join([self.constructor.__name__, *options])

    def __call__(self, model: nn.Module | ViTAdapter, **options: Any) -> ViTAttribution:
        return self.constructor(model, **(dict(self.options) | options))

    def shared(self, name: str = CASE.name) -> ViTAttribution:
        """Build it on the shared model of a case, once."""
        return _on_shared_model(self, name)


@cache
def _on_shared_model(method: Method, name: str) -> ViTAttribution:
    return method(shared_model(name))


def constructor_of(entry: methods.Method) -> type[ViTAttribution]:
    """Import the class of a method of the package's table."""
    if not isinstance(entry.constructor, str):
        found: Any = entry.constructor
    else:
        module, _, name = entry.constructor.rpartition(".")
        found = getattr(import_module(module), name)
    return found


def ways(entry: methods.Method) -> list[Method]:
    """List the ways in which a method of the package's table is tested."""
    facts = FACTS.get(entry.name, Facts())
    return [
        Method(
            constructor=constructor_of(entry),
            options=dict(entry.options) | dict(options),
            facts=facts,
        )
        for options in facts.options
    ]


WHITE_BOX = [entry for entry in methods.METHODS.values() if entry.needs == "vit"]
METHODS = [way for entry in WHITE_BOX for way in ways(entry)]


def _parametrize(methods: list[Method]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.name)


every_method = _parametrize(METHODS)
every_class_method = _parametrize([m for m in METHODS if m.facts.follows_target])
every_gradient_method = _parametrize(
    [m for m in METHODS if m.facts.follows_target and m.facts.differentiates]
)
every_patch_method = _parametrize([m for m in METHODS if not m.facts.of_pixels])


def small_model() -> nn.Module:
    """The model of most tests; do not change it."""
    return shared_model(CASE.name)


def few_steps(attribution: ViTAttribution) -> dict[str, Any]:
    """Keep methods that follow a path quick."""
    takes_steps = "n_steps" in inspect.signature(attribution.attribute).parameters
    return {"n_steps": 3} if takes_steps else {}


def explain(
    attribution: ViTAttribution,
    inputs: Tensor = IMAGES,
    target: Any = TARGETS,
    interpolate_mode: str | None = None,
    **options: Any,
) -> Tensor:
    """Compute the patch grid of the small model's images."""
    options = few_steps(attribution) | options
    return attribution.attribute(
        inputs, target=target, interpolate_mode=interpolate_mode, **options
    )


def assert_same_maps(ours: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Compare maps, relative to the largest value there is; not all may be zero."""
    assert ours.shape == expected.shape
    largest = float(expected.abs().max())
    assert largest > 0, "a map of zeros shows nothing"
    difference = float((ours.double() - expected.double()).abs().max())
    assert difference <= tolerance * largest, f"{difference} of {largest}"


@contextmanager
def counted_rows(model: nn.Module) -> Iterator[list[int]]:
    """Note how many rows each forward of a model gets."""
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, arguments: rows.append(len(arguments[0]))
    )
    try:
        yield rows
    finally:
        hook.remove()


class Surroundings:
    """What a call must leave as it was: the model, and PyTorch's modes."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._snapshot = Snapshot(model)
        self._before = self._state()

    def _state(self) -> dict[str, object]:
        state: dict[str, object] = {
            "function modes": list(_get_current_function_mode_stack()),
            "inference mode": torch.is_inference_mode_enabled(),
            "autocast": torch.is_autocast_enabled("cpu"),
            "default dtype": torch.get_default_dtype(),
            "attention": F.scaled_dot_product_attention,
            "python generator": random.getstate(),
            "numpy generator": str(np.random.get_state()),
        }
        for name, value in vars(torch_module).items():
            if name.startswith("_global_") and hasattr(value, "__len__"):
                state[name] = len(value)
        for path, module in self._model.named_modules():
            # Also finds a forward that was replaced on the instance.
            state[f"{path}: attributes"] = sorted(vars(module))
            for name, value in vars(module).items():
                if "_hooks" in name and hasattr(value, "__len__"):
                    state[f"{path}.{name}"] = len(value)
        for path, parameter in self._model.named_parameters():
            state[f"{path}: hooks"] = len(parameter._backward_hooks or ())
            state[f"{path}: version"] = parameter._version
        return state

    def assert_unchanged(self) -> None:
        """Compare everything with what it was at construction."""
        self._snapshot.assert_unchanged()
        after = self._state()
        for name, before in self._before.items():
            assert before == after[name], name
