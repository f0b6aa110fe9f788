"""LibraGrad on a network in every spelling: its output is what gradients add up to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spelt_network import (
    ACTIVATIONS,
    ATTENTIONS,
    C,
    D,
    LINEARS,
    Network,
    NORMS,
    Parts,
    POOLS,
    RESIDUALS,
    rows,
    tokens,
)
from torch import Tensor
from torch.nn import functional as F

from captum_mda.backward import LibraGrad
from captum_mda.vit import BiasCapture, ConstantParameters

# Of these there is no g(x) with f(x) = x g(x), or none that a rule knows.
UNBALANCED = {"softplus", "exp_", "square", "torch.pow"}
LOCALLY_CONSTANT = {"clamp"}  # beyond its bounds, which the example does not reach
NO_SOFTMAX = {"logsumexp"}
PARTS: dict[str, Parts] = {
    f"{part}: {name}": {part: spelt}
    for part, table in {
        "linear": LINEARS,
        "norm": NORMS,
        "attention": ATTENTIONS,
        "activation": ACTIVATIONS,
        "residual": RESIDUALS,
        "pool": POOLS,
    }.items()
    for name, spelt in table.items()
    if name not in UNBALANCED | NO_SOFTMAX
}


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = torch.linspace(-1, 1, D).to(x), torch.linspace(0.5, 2, D).to(x)
    return F.batch_norm(x.mT, mean, variance, weight, bias).mT


PARTS |= {
    "batch norm": {"norm": batch_norm},
    "shifted branch": {"residual": lambda x, y: 1.5 - (x - y - 0.25)},
    "scaled sum": {"linear": lambda x, w, b: torch.add(x @ w.T, b, alpha=2)},
    "relu in place": {"activation": lambda x: F.relu(x, inplace=True)},
    "GLU": {"activation": lambda x: F.glu(torch.cat([x, 2 * x], -1))},
    "prompts": {
        "residual": lambda x, y: torch.cat(
            [torch.ones_like(x[:, :1].detach()), x + y], 1
        )
    },
    "masked": {"residual": lambda x, y: torch.where(x > 0, x + y, 0.5)},
    "mask filled": {"residual": lambda x, y: (x + y).masked_fill(x > 1, 0.5)},
    "norm of length": {"norm": lambda x, w, b: F.normalize(x, dim=-1) * w + b},
    "x / norm": {"norm": lambda x, w, b: x / x.norm(dim=-1, keepdim=True) * w + b},
    "RMS, sqrt": {
        "norm": lambda x, w, b: x / (x.pow(2).mean(-1, True) + 1e-6).sqrt() * w + b
    },
    "biases of rows": {
        "linear": lambda x, w, b: (rows(x) @ w.T + b).unflatten(0, x.shape[:2])
    },
}


def error(parts: Parts, balanced: bool = True) -> float:
    """How far tokens and biases times gradients are from the largest outputs."""
    network, x, capture = Network(parts), tokens(), BiasCapture()
    libra = LibraGrad(network, *[balanced] * 4)
    with libra, capture, ConstantParameters():
        capture.active = True
        outputs = network(x)
    torch.testing.assert_close(outputs, network(x))
    score = (outputs * F.one_hot(outputs.argmax(dim=1), C)).sum()
    (gradient,) = torch.autograd.grad(score, x)
    total = (gradient * x).sum()
    for index, (_, constant) in enumerate(capture.records):
        found: Any = capture.gradients.get(index)
        total = total if found is None else total + (found * constant).sum()
    return float((total - score).abs() / score.abs())


@pytest.mark.parametrize("name", PARTS)
def test_gradients_and_biases_add_up(name: str) -> None:
    assert error(PARTS[name]) < 1e-10


@pytest.mark.parametrize("part", ["norm", "attention", "activation"])
def test_without_rules_they_do_not(part: str) -> None:
    assert error({}, balanced=False) > 1e-2


@pytest.mark.parametrize("name", sorted(UNBALANCED))
def test_what_has_no_rule_shows(name: str) -> None:
    assert error({"activation": ACTIVATIONS[name]}) > 1e-3
