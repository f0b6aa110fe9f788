"""Every method on the parts of a model, one line each, and what contracts share."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
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

from captum_mda import (
    AttentionGradCam,
    AttentionIntegratedGradients,
    AttentionRollout,
    BidirectionalAttention,
    CausalActivationPatching,
    FullGradPlus,
    LeGrad,
    RawAttention,
    TokenInputXGradient,
    TransformerAttribution,
    TransformerInputSampling,
    TransitionAttention,
    VitCx,
)
from captum_mda.attr import ViTAttribution
from captum_mda.vit import ViTAdapter

# Rows and columns of patches differ, so that no test misses one taken for the other.
CASE = BY_NAME["timm ViT not square"]
IMAGES = images(CASE, 3)
TARGETS = [1, 2, 0]


@dataclass(frozen=True, eq=False)
class Method:
    """One way to build a method.

    Args:
        kind (type): Its class.
        options (Mapping): What its constructor gets besides the model.
        follows_target (bool): Whether the map depends on the target.
        differentiates (bool): Whether it takes gradients, and runs the model whole.
        of_pixels (bool): Whether maps have more detail than one value for each patch.
        refuses (tuple[str, ...]): Cases whose models it cannot explain, and says so.
    """

    kind: type[ViTAttribution]
    options: Mapping[str, Any] = field(default_factory=dict)
    follows_target: bool = True
    differentiates: bool = True
    of_pixels: bool = False
    refuses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        options = [f"{name}={value}" for name, value in self.options.items()]
        return " ".join([self.kind.__name__, *options])

    def __call__(self, model: nn.Module | ViTAdapter, **options: Any) -> ViTAttribution:
        return self.kind(model, **(dict(self.options) | options))

    def shared(self, name: str = CASE.name) -> ViTAttribution:
        """Build it on the shared model of a case, once."""
        return _on_shared_model(self, name)


@cache
def _on_shared_model(method: Method, name: str) -> ViTAttribution:
    return method(shared_model(name))


METHODS = [
    Method(RawAttention, follows_target=False),
    Method(AttentionRollout, follows_target=False),
    Method(AttentionGradCam, {"variant": "mda"}),
    Method(AttentionGradCam, {"variant": "chefer"}),
    Method(AttentionIntegratedGradients),
    Method(TransitionAttention, {"variant": "mda"}),
    Method(TransitionAttention, {"variant": "original"}),
    Method(BidirectionalAttention, {"mode": "head"}),
    Method(BidirectionalAttention, {"mode": "token"}),
    Method(TransformerAttribution, {"variant": "mda"}),
    Method(TransformerAttribution, {"variant": "original"}),
    Method(LeGrad),
    Method(FullGradPlus),
    Method(TokenInputXGradient, {"biases": False}),
    Method(TokenInputXGradient, {"biases": True}),
    # Windows end at borders: not so those of one patch.
    Method(CausalActivationPatching, {"support": 0}, differentiates=False),
    # One mask for each channel, whatever is drawn.
    Method(
        TransformerInputSampling,
        {
            "n_masks": 1000,
            "empty_clusters": "avoid",
            "normalize": False,
            "score": "identity",
        },
        differentiates=False,
        refuses=("timm BEiT", "transformers BEiT"),
    ),
    Method(
        VitCx,
        {"noise": 0.0, "score": "identity"},
        differentiates=False,
        of_pixels=True,
    ),
]


def _parametrize(methods: list[Method]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.name)


every_method = _parametrize(METHODS)
every_class_method = _parametrize([m for m in METHODS if m.follows_target])
every_gradient_method = _parametrize(
    [m for m in METHODS if m.follows_target and m.differentiates]
)
every_patch_method = _parametrize([m for m in METHODS if not m.of_pixels])


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
    """Ask for the patch grid of the small model's images."""
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
