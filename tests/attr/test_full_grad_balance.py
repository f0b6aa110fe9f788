"""FullGrad under LibraGrad: it warns where a model is not balanced, once."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS

from captum_mda import FullGradPlus, LibraGrad, TokenInputXGradient
from captum_mda.attr.full_grad_plus import with_examples_first

VIT = BY_NAME["timm ViT"]


class Activation(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.function(x)
        return activated


def unbalanced() -> Any:
    model: Any = build_model(VIT)
    for block in model.blocks:
        block.mlp.act = Activation(lambda x: x**3)  # three times its value
    return model


@pytest.mark.parametrize("options", [{}, {"biases": False}, {"score": "softmax"}])
def test_a_model_that_is_not_balanced_is_told_of_once(options: dict[str, Any]) -> None:
    model, x = unbalanced(), images(VIT)
    with LibraGrad(model):
        with pytest.warns(UserWarning, match=r"^model: under LibraGrad, .* miss the"):
            FullGradPlus(model, **options).attribute(x, target=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            FullGradPlus(model, **options).attribute(x, target=1)
            TokenInputXGradient(model).completeness(x, target=1)


def test_the_figure_is_that_of_completeness() -> None:
    model, x = unbalanced(), images(VIT, 1)
    with LibraGrad(model):
        error = float(TokenInputXGradient(model).completeness(x, target=1).error)
        with pytest.warns(UserWarning, match=f"example 0 by {error:.3g}, "):
            FullGradPlus(model).attribute(x, target=1)


@pytest.mark.parametrize("case", PARAMETERS)
def test_stock_models_are_balanced(case: Case) -> None:
    model, x = build_model(case), images(case)
    with warnings.catch_warnings(), LibraGrad(model):
        warnings.simplefilter("error")
        FullGradPlus(model).attribute(x, target=1)


def test_plain_gradients_and_single_rules_promise_nothing() -> None:
    model, x = unbalanced(), images(VIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FullGradPlus(model).attribute(x, target=1)
        with LibraGrad(model, attention=False):
            FullGradPlus(model).attribute(x, target=1)


class Convolution(nn.Module):
    """A linear layer as a convolution, or as a product of rows."""

    def __init__(self, layer: nn.Linear, spelling: str) -> None:
        super().__init__()
        self.weight, self.bias, self.spelling = layer.weight, layer.bias, spelling

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "conv1d":
            return F.conv1d(x.mT, self.weight[..., None], self.bias).mT
        if self.spelling == "conv2d":
            grid = x.mT[..., None]
            return F.conv2d(grid, self.weight[..., None, None], self.bias)[..., 0].mT
        if self.spelling == "addmm":
            found = torch.addmm(self.bias, x.flatten(0, 1), self.weight.T)
            return found.unflatten(0, x.shape[:2])
        if self.spelling == "tokens first":
            found = F.linear(x.transpose(0, 1), self.weight, self.bias)
            return found.transpose(0, 1)
        if self.spelling == "channel by channel":
            pairs = zip(self.weight, self.bias, strict=True)
            return torch.stack([x @ row + number for row, number in pairs], dim=-1)
        weight = self.weight.T.expand(len(x), -1, -1)
        return torch.baddbmm(self.bias[None, None], x, weight)


@pytest.mark.parametrize(
    "spelling",
    ["conv1d", "conv2d", "addmm", "baddbmm", "tokens first", "channel by channel"],
)
def test_biases_belong_to_their_tokens_in_every_spelling(spelling: str) -> None:
    plain: Any = build_model(VIT, torch.float64)
    spelt: Any = build_model(VIT, torch.float64)
    for block in spelt.blocks:
        block.mlp.fc1 = Convolution(block.mlp.fc1, spelling)
        block.mlp.fc2 = Convolution(block.mlp.fc2, spelling)
    x = images(VIT).double()
    found = []
    for model in (plain, spelt):
        with LibraGrad(model):
            method = TokenInputXGradient(model, biases=True)
            found.append(method.attribute(x, target=1, interpolate_mode=None))
            assert (method.completeness(x, target=1).error < 1e-10).all()
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_layouts() -> None:
    """(B, n, d) of all that models keep tokens in."""
    x = torch.arange(2 * 6 * 4.0).view(2, 6, 4)
    for given, channels_first in (
        (x, False),
        (x.unflatten(2, (2, 2)).transpose(1, 2), False),  # heads
        (x.unflatten(2, (2, 2)).transpose(1, 2).flatten(0, 1), False),
        (x.mT, True),
        (x.mT.unflatten(2, (2, 3)), True),
        (x.unflatten(1, (2, 3)), False),
        (x.transpose(0, 1), False),
        (x.flatten(0, 1), False),
    ):
        found = with_examples_first(given, 2, (6, 5), channels_first)
        torch.testing.assert_close(found, x, rtol=0, atol=0)
