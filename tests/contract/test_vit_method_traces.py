"""What every white-box method leaves as it was: model, inputs, generators, modes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from vit_methods import (
    CASE,
    every_class_method,
    every_gradient_method,
    every_method,
    explain,
    IMAGES,
    Method,
    small_model,
    Surroundings,
)
from vit_models import build_model, BY_NAME, images, shared_model

from captum_mda.vit import resolve

pytestmark = pytest.mark.filterwarnings("ignore:inputs. examples:UserWarning")
MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@every_method
def test_nothing_remains(method: Method) -> None:
    model = small_model()
    for parameter in model.parameters():
        assert parameter.grad is None
    before = Surroundings(model)
    explain(method(model))
    before.assert_unchanged()


@pytest.mark.parametrize("mode", list(MODES))
@every_method
def test_the_modes_of_the_caller_remain(method: Method, mode: str) -> None:
    with MODES[mode]():
        before = Surroundings(small_model())
        explain(method(small_model()))
        before.assert_unchanged()


@every_method
def test_gradients_that_were_there_remain(method: Method) -> None:
    model = deepcopy(small_model())
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.5)
        parameter.requires_grad_(index % 2 == 0)
    before = Surroundings(model)
    explain(method(model))
    before.assert_unchanged()


@every_method
def test_inputs_remain(method: Method) -> None:
    attribution = method.shared()
    expected = explain(attribution)
    for requires_grad in (False, True):
        leaf = IMAGES.clone().requires_grad_(requires_grad)
        inner = leaf * 1.0  # part of a graph of the caller's
        for inputs in (leaf, inner):
            version = inputs._version
            assert torch.equal(explain(attribution, inputs), expected)
            assert inputs.requires_grad == requires_grad
            assert inputs._version == version
            assert torch.equal(inputs, IMAGES)
            assert not inputs._backward_hooks
        assert leaf.grad is None


# --- after an accident --------------------------------------------------------


@contextmanager
def accident(
    module: nn.Module, at: int, error: type[BaseException]
) -> Iterator[list[int]]:
    """Stop in the middle of the forward that comes to a module as number ``at``."""
    calls: list[int] = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == at:
            raise error("stopped in the middle")

    handle = module.register_forward_pre_hook(stop)
    try:
        yield calls
    finally:
        handle.remove()


# Attention as one function, inside `nn.MultiheadAttention`, and step by step.
@pytest.mark.parametrize(
    ("name", "error"),
    [
        (CASE.name, RuntimeError),
        ("torchvision ViT", KeyboardInterrupt),
        ("transformers ViT eager", KeyboardInterrupt),
    ],
)
@every_method
def test_nothing_remains_after_an_accident(
    method: Method, name: str, error: type[BaseException]
) -> None:
    model = shared_model(name)
    attribution = method.shared(name)
    inside = attribution.adapter.feature_layer  # a part of the last block
    inputs = images(BY_NAME[name], 1)

    def run() -> None:
        explain(attribution, inputs, 1, internal_batch_size=1)

    before = Surroundings(model)
    with accident(inside, 0, error) as calls:  # none: it counts the forwards
        run()
    before.assert_unchanged()
    assert calls
    for at in (1, len(calls)):  # in the first forward and in the last
        with (
            accident(inside, at, error),
            pytest.raises(error, match="stopped in the middle"),
        ):
            run()
        before.assert_unchanged()


@every_gradient_method
def test_nothing_remains_after_an_accident_in_the_backward_pass(
    method: Method,
) -> None:
    model = small_model()
    attribution = method(model)
    last_block = attribution.adapter.blocks[-1]

    def interrupt(gradient: Tensor) -> Tensor:
        raise KeyboardInterrupt

    def arm(module: nn.Module, arguments: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(interrupt)

    before = Surroundings(model)
    handle = last_block.register_forward_hook(arm)
    try:
        with pytest.raises(KeyboardInterrupt):
            explain(attribution)
    finally:
        handle.remove()
    before.assert_unchanged()


@every_class_method
def test_nothing_remains_after_an_accident_in_the_target(method: Method) -> None:
    def fail(outputs: Tensor) -> Tensor:
        raise ZeroDivisionError("no score")

    attribution = method.shared()
    before = Surroundings(small_model())
    with pytest.raises(ZeroDivisionError, match="no score"):
        explain(attribution, target=fail)
    before.assert_unchanged()


@every_method
def test_nothing_remains_after_the_check_of_a_model_fails(method: Method) -> None:
    model = build_model(CASE)
    inside = resolve(model).feature_layer
    before = Surroundings(model)
    with (
        accident(inside, 2, KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        method(model)
    before.assert_unchanged()


# --- training mode ------------------------------------------------------------


class CallCounter(nn.Module):
    """Keeps something in a buffer, as batch normalisation does."""

    n_calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training:
            self.n_calls += 1
        return tokens


def training_model(dropout: float) -> nn.Module:
    model = build_model(CASE)
    model.pos_drop = nn.Sequential(nn.Dropout(dropout), CallCounter())
    return model.train()


@every_method
def test_a_model_in_training_mode_stays_as_it_was(method: Method) -> None:
    model = training_model(dropout=0.2)
    before = Surroundings(model)
    attribution = method(model)
    before.assert_unchanged()
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval\(\)"):
        grid = explain(attribution)
    assert torch.isfinite(grid).all()
    before.assert_unchanged()


@every_method
def test_training_mode_without_dropout_is_no_reason_to_warn(method: Method) -> None:
    model = training_model(dropout=0.0)
    before = Surroundings(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "inputs: examples")
        grid = explain(method(model))
    assert torch.equal(grid, explain(method(model.eval())))
    model.train()
    before.assert_unchanged()
