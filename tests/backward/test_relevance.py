"""Relevance: each rule against its formula, and nothing lost in whole models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import literal_lrp as literal
import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import BY_NAME

from captum_mda.backward import RelevancePropagation

NOTHING = nn.Identity()  # the rules hold for all that is computed inside
VIT = BY_NAME["timm ViT"]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def relevances(
    func: Callable[..., Tensor], *tensors: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """What the outputs were given, and what of it arrives at each tensor."""
    untouched = func(*tensors).detach()
    with RelevancePropagation(NOTHING):
        outputs = func(*tensors)
    torch.testing.assert_close(outputs, untouched, rtol=1e-13, atol=1e-13)
    start = numbers(*outputs.shape, seed=9).detach().abs()
    found = torch.autograd.grad(outputs, tensors, start, allow_unused=True)
    return start, list(found)


def in_each(func: Callable[..., Any], *batches: Tensor) -> list[Tensor]:
    """A literal rule for each example."""
    results = [func(*(t.detach() for t in row)) for row in zip(*batches, strict=True)]
    if isinstance(results[0], Tensor):
        return [torch.stack(results)]
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


@pytest.mark.parametrize(
    "apply",
    [
        lambda x, w: F.linear(x, w),
        lambda x, w: F.linear(x, w, torch.ones(5).double()),  # biases take nothing
        lambda x, w: x @ w.T,
        lambda x, w: torch.matmul(x, w.T),
    ],
)
def test_linear(apply: Callable[..., Tensor]) -> None:
    x, weight = numbers(2, 3, 4), numbers(5, 4, seed=1).detach()
    start, (found,) = relevances(lambda x: apply(x, weight), x)
    (wanted,) = in_each(lambda x, start: literal.linear(x, weight, start), x, start)
    torch.testing.assert_close(found, wanted)
    given = start * (x[:, :, None] * weight > 0).any(dim=3)
    torch.testing.assert_close(found.sum(dim=2), given.sum(dim=2), rtol=1e-6, atol=0)


def test_linear_without_any_part_of_equal_signs() -> None:
    """There is nothing to give relevance to: it ends, as in the published code."""
    _, (found,) = relevances(lambda x: F.linear(x, -x.detach()), numbers(1, 4))
    assert not found.any()


@pytest.mark.parametrize(
    "product", [torch.matmul, torch.bmm, lambda a, b: a @ b, lambda a, b: a.matmul(b)]
)
def test_matmul(product: Callable[..., Tensor]) -> None:
    a, b = numbers(2, 3, 4), numbers(2, 4, 5, seed=1)
    start, found = relevances(product, a, b)
    torch.testing.assert_close(found, in_each(literal.matmul, a, b, start))
    total = sum(part.sum(dim=(1, 2)) for part in found)
    torch.testing.assert_close(total, start.sum(dim=(1, 2)), rtol=1e-6, atol=0)


def test_matmul_with_a_constant() -> None:
    """Which takes nothing, so that the other factor gets both halves."""
    a, b = numbers(2, 3, 4), numbers(2, 4, 5, seed=1).detach()
    start, (found,) = relevances(lambda a: a @ b, a)
    wanted, _ = in_each(literal.matmul, a, b, start)
    torch.testing.assert_close(found, 2 * wanted)


@pytest.mark.parametrize(
    "add",
    [
        torch.add,
        lambda a, b: a + b,
        lambda a, b: (1.0 * a).add_(b),
        lambda a, b: a - (-b),
        lambda a, b: (1.0 * a).sub_(-b),
        lambda a, b: (a + b) * 2.0 / 3.0,
    ],
)
def test_sum(add: Callable[..., Tensor]) -> None:
    """For each example by itself: totals of the batch must not mix."""
    a, b = numbers(3, 2, 4), numbers(3, 2, 4, seed=1)
    with torch.no_grad():
        b[0, 0, 0] = -a[0, 0, 0]  # where nothing is left, nothing is given
    start, found = relevances(add, a, b)
    torch.testing.assert_close(found, in_each(literal.add, a, b, start))
    total = sum(part.sum(dim=(1, 2)) for part in found)
    torch.testing.assert_close(total, start.sum(dim=(1, 2)), rtol=1e-6, atol=0)
    assert found[0][0, 0, 0] == 0


def test_sum_of_branches_that_broadcast() -> None:
    a, b = numbers(2, 3, 4), numbers(2, 1, 4, seed=1)
    start, found = relevances(torch.add, a, b)
    wanted = in_each(literal.add, a, b.expand(2, 3, 4), start)
    torch.testing.assert_close(found, [wanted[0], wanted[1].sum(dim=1, keepdim=True)])


@pytest.mark.parametrize(
    "func",
    [
        *(F.gelu, F.silu, F.relu, torch.tanh, torch.sigmoid, F.hardswish),
        lambda x: torch.softmax(x, dim=-1),
        lambda x: F.layer_norm(x, (4,), torch.full((4,), 2.0).double()),
        lambda x: F.group_norm(x, 1),
        lambda x: x * torch.full((4,), 3.0).double(),
        lambda x: 0.5 * x / 7.0 + 1.0,
        lambda x: x + torch.ones(4).double(),
        lambda x: -x,
        lambda x: (1.0 * x).mul_(3.0).div_(2.0).add_(1.0).sub_(4.0),
        lambda x: x * x.square().mean(-1, True).rsqrt(),
        lambda x: F.relu(1.0 * x, inplace=True),
    ],
)
def test_what_passes_relevance_on(func: Callable[[Tensor], Tensor]) -> None:
    """Activations, norms, scales and constants change nothing."""
    start, (found,) = relevances(func, numbers(2, 3, 4))
    torch.testing.assert_close(found, start)


def test_products_share_evenly() -> None:
    a, b = numbers(2, 3, 4), numbers(2, 3, 1, seed=1)
    start, found = relevances(torch.mul, a, b)
    wanted = [start / 2, start.sum(dim=2, keepdim=True) / 2]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dim", [1, (1, 2), None])
def test_mean(dim: int | tuple[int, ...] | None) -> None:
    """A linear map: by value."""
    x = numbers(2, 3, 4)
    start, (found,) = relevances(lambda x: x.mean(dim), x)
    total = x.sum(dim if dim else (0, 1, 2), keepdim=True)
    wanted = x * start.reshape(total.shape) / total
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-8)
    constant = torch.ones(2, 3)
    with RelevancePropagation(NOTHING):
        assert torch.equal(constant.mean(), torch.tensor(1.0).double())
        assert constant.mean(1, keepdim=True).shape == (2, 1)


def test_attention_is_the_sum_of_its_parts() -> None:
    """Fused and written out; half to the values, a quarter to queries and keys."""

    def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.matmul(q, k.transpose(-2, -1)) * (1 / math.sqrt(4))
        return torch.matmul(torch.softmax(scores, dim=-1), v)

    tensors = [numbers(2, 3, 5, 4, seed=seed) for seed in range(3)]
    start, found = relevances(F.scaled_dot_product_attention, *tensors)
    torch.testing.assert_close(found, relevances(written_out, *tensors)[1])
    shares = [float(part.sum() / start.sum()) for part in found]
    assert shares == pytest.approx([0.25, 0.25, 0.5], rel=1e-6)
    fewer = [tensors[0], *(tensor[:, :1] for tensor in tensors[1:])]
    _, (grouped, *_) = relevances(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), *fewer
    )
    spread = [tensors[0], *(tensor[:, :1].expand(2, 3, 5, 4) for tensor in tensors[1:])]
    _, (alike, *_) = relevances(F.scaled_dot_product_attention, *spread)
    torch.testing.assert_close(grouped, alike)


def test_dropout_of_attention_is_honoured() -> None:
    q = numbers(1, 1, 3, 2)
    with RelevancePropagation(NOTHING):
        assert not F.scaled_dot_product_attention(q, q, q, dropout_p=1.0).any()
        assert F.scaled_dot_product_attention(q, q, q).any()


@pytest.mark.parametrize(
    "func",
    [
        lambda x: F.linear(input=x, weight=x.detach()),
        lambda x: torch.matmul(input=x, other=x.detach()),
        lambda x: torch.add(input=x, other=x),
        lambda x: torch.mean(input=x),
        lambda x: F.gelu(input=x),
    ],
)
def test_arguments_by_name(func: Callable[[Tensor], Tensor]) -> None:
    x = numbers(4, 4)
    with RelevancePropagation(NOTHING):
        value = func(x)
    torch.testing.assert_close(value, func(x))


def _written(x: Tensor, weight: Tensor) -> Tensor:
    hidden = (F.linear(x, weight) + x) * 3.0
    return (F.linear(F.gelu(hidden), weight) - hidden) / 5.0


def _in_place(x: Tensor, weight: Tensor) -> Tensor:
    hidden = F.linear(x, weight)
    hidden += x
    hidden *= 3.0
    outputs = F.linear(F.gelu(hidden), weight)
    outputs -= hidden
    outputs /= 5.0
    return outputs


def test_arithmetic_in_place() -> None:
    x, weight = numbers(2, 3, 4), numbers(4, 4, seed=1).detach()
    wanted = relevances(lambda x: _written(x, weight), x)
    found = relevances(lambda x: _in_place(x, weight), x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert found[1][0].any()
