"""A ViT block in every spelling that PyTorch offers: totals are kept, or it raises.

Each spelling replaces one part of the same small network, which is otherwise written
with `F.linear`, `F.layer_norm` and fused attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from spelt_network import (
    ACTIVATIONS,
    attention,
    ATTENTIONS,
    C,
    D,
    LINEARS,
    Network,
    NORMS,
    Parts,
    POOLS,
    RESIDUALS,
    rotated,
    rows,
    scores,
    tokens,
)
from torch import Tensor
from torch.nn import functional as F

from captum_mda.backward import RelevancePropagation


@dataclass
class Spelling:
    """One part written in another way."""

    parts: Parts
    same: bool = True  # relevance of each token as in the default spelling, too
    needs: tuple[Any, str] | None = field(default=None)


class Doubled(torch.autograd.Function):
    """A function of the model's own, as kernels of other libraries are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


OTHERS: dict[str, Spelling] = {
    "complex rotary": Spelling(
        {"attention": lambda q, k, v: attention(rotated(q), rotated(k), v)}, False
    ),
    "scores as logits": Spelling(
        {"attention": lambda q, k, v: torch.softmax(scores(q, k), -1) @ v}
    ),
    "gated": Spelling({"activation": lambda x: x * torch.tanh(x.roll(1, -1))}, False),
    "RMS norm": Spelling(
        {"norm": lambda x, w, b: x / x.pow(2).mean(-1, True).add(1e-6).sqrt() * w},
        False,
    ),
    "F.normalize": Spelling(
        {"norm": lambda x, w, b: F.normalize(x, dim=-1) * w}, False
    ),
    "x / norm": Spelling(
        {"norm": lambda x, w, b: x / x.norm(dim=-1, keepdim=True) * w}, False
    ),
    "batch norm": Spelling(
        {
            "norm": lambda x, w, b: (
                F.batch_norm(x.mT, torch.zeros(D).to(x), torch.ones(D).to(x), w, b).mT
            )
        },
        False,
    ),
    "highest token": Spelling({"pool": lambda x: x.amax(dim=1)}, False),
    "first token": Spelling({"pool": lambda x: x[:, 0]}, False),
    "stacked mean": Spelling(
        {"residual": lambda x, y: torch.stack([x, y]).mean(0) * 2}, False
    ),
    "residual in addmm": Spelling(
        {
            "linear": lambda x, w, b: torch.addmm(
                rows(x) if len(w) == x.shape[-1] else b, rows(x), w.T
            ).view(*x.shape[:2], -1)
        },
        False,
    ),
    "convolution along tokens": Spelling(
        {
            "activation": lambda x: (
                F.conv1d(
                    x.mT,
                    torch.ones(1).to(x).expand(x.shape[-1], 1, 3) * 0.3,
                    padding=1,
                    groups=x.shape[-1],
                ).mT
            )
        },
        False,
    ),
    "cumulative sum": Spelling({"activation": lambda x: x.abs().cumsum(1)}, False),
    "std beside the mean": Spelling({"pool": lambda x: x.mean(1) + x.std(1)}, False),
    "GLU": Spelling({"activation": lambda x: F.glu(torch.cat([x, x], -1))}, False),
    "tokens first": Spelling(
        {
            "linear": lambda x, w, b: F.linear(x.transpose(0, 1), w, b).transpose(0, 1),
            "residual": lambda x, y: (x.transpose(0, 1) + y.transpose(0, 1)).transpose(
                0, 1
            ),
        }
    ),
    "tokens in one row": Spelling(
        {"residual": lambda x, y: (rows(x) + rows(y)).view_as(x)}
    ),
}
TABLES: dict[str, dict[str, Callable[..., Any]]] = {
    "linear": LINEARS,
    "attention": ATTENTIONS,
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "residual": RESIDUALS,
    "pool": POOLS,
}
# Another function than the default's: only the total must be kept.
ELSE = {"std", "group_norm"}
SPELLINGS: dict[str, Spelling] = OTHERS | {
    f"{part}: {name}": Spelling(
        {part: spelt}, part != "activation" and name not in ELSE
    )
    for part, table in TABLES.items()
    for name, spelt in table.items()
}
SPELLINGS["activation: written GELU"].same = True
REFUSED: dict[str, tuple[Callable[..., Any], str, str]] = {
    "own function": (Doubled.apply, "activation", "Doubled"),
    "cumprod": (lambda x: x.cumprod(dim=-1), "activation", "cumprod"),
    "fft": (lambda x: torch.fft.fft(x, dim=1).real, "activation", "fft"),
    "zero_": (lambda x: (x * 1.0).zero_() + 1.0, "activation", "zero_"),
    "cosine": (
        lambda x, y: x + y * F.cosine_similarity(x, y, -1)[..., None],
        "residual",
        "cosine_similarity",
    ),
}


def relevance(parts: Parts) -> tuple[Tensor, Tensor]:
    """The relevance of tokens whose output's is 1 at the largest, and the outputs."""
    network, x = Network(parts), tokens()
    with RelevancePropagation(network):
        outputs = network(x)
    start = F.one_hot(outputs.argmax(dim=1), C).double()
    (found,) = torch.autograd.grad(outputs, x, start)
    return found, outputs.detach()


@pytest.fixture(scope="module")
def default() -> tuple[Tensor, Tensor]:
    return relevance({})


def test_there_are_many() -> None:
    assert len(SPELLINGS) > 80


@pytest.mark.parametrize("name", SPELLINGS)
def test_all_relevance_arrives(name: str, default: tuple[Tensor, Tensor]) -> None:
    spelling = SPELLINGS[name]
    found, outputs = relevance(spelling.parts)
    torch.testing.assert_close(outputs, Network(spelling.parts)(tokens()).detach())
    assert found.sum(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-5)
    if spelling.same:
        torch.testing.assert_close(outputs, default[1])
        torch.testing.assert_close(found, default[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    spelt, part, function = REFUSED[name]
    network, x = Network({part: spelt}), tokens()
    with RelevancePropagation(network):
        outputs = network(x)  # nothing has gone wrong yet
    with pytest.raises(ValueError, match=f"relevance arrives at .*{function}"):
        torch.autograd.grad(outputs[:, 1].sum(), x)


def test_what_does_not_lead_to_the_outputs_needs_no_rule() -> None:
    """Shapes, comparisons, statistics for a log, and branches that are cut off."""

    def noted(x: Tensor) -> Tensor:
        x.cumprod(dim=-1).sum().item()
        Doubled.apply(x)
        return F.gelu(x) + x.fft if hasattr(x, "fft") else F.gelu(x)

    found, _ = relevance({"activation": noted})
    torch.testing.assert_close(found, relevance({})[0], rtol=0, atol=0)
