"""Autograd functions whose backward pass distributes relevance.

Each keeps the total relevance, up to what `safe_divide` adds to denominators.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from captum_mda.backward._functions import safe_divide

Shares = tuple[float, ...]


class _Audit(threading.local):
    """The relevance that ended where nothing contributes; None if not counted."""

    ended: float | None = None


_AUDIT = _Audit()


@contextmanager
def counted_ends() -> Iterator[Callable[[], float]]:
    """Count the relevance that ends in backward passes on this thread.

    Yields:
        *callable*: Returns the amount so far.
    """
    before, _AUDIT.ended = _AUDIT.ended, 0.0
    try:
        yield lambda: _AUDIT.ended or 0.0
    finally:
        _AUDIT.ended = before


def _share(relevance: Tensor, total: Tensor) -> Tensor:
    """Divide relevance by the sum of contributions; where that is 0, it ends."""
    _count_ended(relevance, total == 0)
    return safe_divide(relevance, total)


def _count_ended(relevance: Tensor, ends: Tensor) -> None:
    if _AUDIT.ended is not None:
        _AUDIT.ended += float(relevance[ends].sum().real)


class Identity(Function):
    """Passes relevance unchanged; broadcast dimensions are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.shape = x.shape
        return func(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return to_shape(relevance, ctx.shape), None


class Linear(Function):
    """Eq. 3 for linear maps: by the products x w whose factors have equal signs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        x_positive, x_negative = x.clamp(min=0), x.clamp(max=0)
        w_positive, w_negative = weight.clamp(min=0), weight.clamp(max=0)
        total = F.linear(x_positive, w_positive) + F.linear(x_negative, w_negative)
        share = _share(relevance, total)  # S = R / Z
        spread = x_positive * torch.matmul(share, w_positive)
        return spread + x_negative * torch.matmul(share, w_negative), None, None


class WeightedMap(Function):
    """Eq. 3 for any map that is linear in x and in its weight, such as a convolution.

    Where no product is positive, as in depthwise convolutions, the negative products
    share relevance instead.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        product: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.product = product
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        weights = (weight.clamp(min=0), weight.clamp(max=0))
        spread, none = _by_parts(ctx.product, x, weights, relevance)
        left = torch.where(none, relevance, torch.zeros_like(relevance))
        if bool((left != 0).any()):
            further, none = _by_parts(ctx.product, x, weights[::-1], left)
            _count_ended(left, none)
            spread = spread + further
        return spread, None, None


def _by_parts(
    product: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    weights: tuple[Tensor, Tensor],
    relevance: Tensor,
) -> tuple[Tensor, Tensor]:
    """Share relevance by the products of a part of x and a weight.

    Args:
        product (callable): The linear map.
        x (Tensor): Its operand.
        weights (tuple[Tensor, Tensor]): The weights of x's positive and negative parts.
        relevance (Tensor): The relevance of the result.

    Returns:
        *Tensor*, *Tensor*: the relevance of x, and where all products are 0, bool.
    """
    with torch._C.DisableTorchFunction(), torch.enable_grad():
        parts = [x.clamp(min=0).requires_grad_(), x.clamp(max=0).requires_grad_()]
        total = product(parts[0], weights[0]) + product(parts[1], weights[1])
        share = safe_divide(relevance, total.detach())
        spread = torch.autograd.grad(total, parts, share)
    spent = sum(a.detach() * b for a, b in zip(parts, spread, strict=True))
    assert isinstance(spent, Tensor)
    return spent, total.detach() == 0


class ByValue(Function):
    """A map that is linear in each operand: by the contribution of each entry."""

    @staticmethod
    def forward(
        ctx: Any,
        product: Callable[..., Tensor],
        shares: Shares,
        *operands: Tensor,
    ) -> Tensor:
        ctx.product, ctx.shares = product, shares
        result = product(*operands)
        ctx.save_for_backward(result, *operands)
        return result

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        result, *operands = ctx.saved_tensors
        share = _share(relevance, result)
        with torch._C.DisableTorchFunction(), torch.enable_grad():
            copies = [
                each.detach().requires_grad_(share_of > 0)
                for each, share_of in zip(operands, ctx.shares, strict=True)
            ]
            wanted = [each for each in copies if each.requires_grad]
            spread = torch.autograd.grad(ctx.product(*copies), wanted, share)
        found = iter(spread)
        parts = [
            each.detach() * next(found) * share_of if share_of else None
            for each, share_of in zip(copies, ctx.shares, strict=True)
        ]
        return None, None, *parts


class Matmul(Function):
    """A matrix product: by the contribution of each entry, times the given shares."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, shares: tuple[float, float]) -> Tensor:
        product = torch.matmul(a, b)
        ctx.shares = shares
        ctx.save_for_backward(a, b, product)
        return product

    @staticmethod
    def backward(
        ctx: Any, relevance: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, product = ctx.saved_tensors
        share = _share(relevance, product)
        to_a = to_b = None
        if ctx.needs_input_grad[0]:
            spread = torch.matmul(share, b.transpose(-2, -1))
            to_a = a * to_shape(spread, a.shape) * ctx.shares[0]
        if ctx.needs_input_grad[1]:
            spread = torch.matmul(a.transpose(-2, -1), share)
            to_b = b * to_shape(spread, b.shape) * ctx.shares[1]
        return to_a, to_b, None


class Sum(Function):
    """Eq. 8 to 10: by value, then by the absolute totals of each example."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, totals: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.totals = totals
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        totals = ctx.totals
        share = safe_divide(relevance, a + b)
        to_a, to_b = a * share, b * share
        total = totals(relevance)
        size_a, size_b = totals(to_a).abs(), totals(to_b).abs()
        _count_ended(total, size_a + size_b == 0)
        wanted_a = safe_divide(size_a, size_a + size_b) * total
        wanted_b = safe_divide(size_b, size_a + size_b) * total
        to_a = to_a * safe_divide(wanted_a, totals(to_a))
        to_b = to_b * safe_divide(wanted_b, totals(to_b))
        return to_shape(to_a, a.shape), to_shape(to_b, b.shape), None


class Product(Function):
    """An elementwise product: equal shares to two branches, none to a scale."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Any,
        b: Any,
        func: Callable[[Any, Any], Tensor],
        shares: tuple[float, float],
    ) -> Tensor:
        ctx.shapes = [getattr(value, "shape", None) for value in (a, b)]
        ctx.shares = shares
        return func(a, b)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        parts = [
            to_shape(relevance * share, shape) if share else None
            for shape, share in zip(ctx.shapes, ctx.shares, strict=True)
        ]
        return parts[0], parts[1], None, None


class Outer(Function):
    """A product of two operands without a sum, such as an outer product."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        product: Callable[[Tensor, Tensor], Tensor],
        shares: tuple[float, float],
    ) -> Tensor:
        ctx.product, ctx.shares = product, shares
        ctx.save_for_backward(a, b)
        return product(a, b)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        parts: list[Tensor | None] = [None, None]
        with torch._C.DisableTorchFunction(), torch.enable_grad():
            for index, share in enumerate(ctx.shares):
                if share:
                    ones = [torch.ones_like(each) for each in ctx.saved_tensors]
                    wanted = ones[index].requires_grad_()
                    (spread,) = torch.autograd.grad(
                        ctx.product(*ones), wanted, relevance
                    )
                    parts[index] = spread * share
        return parts[0], parts[1], None, None


class Total(Function):
    """A mean or sum: by value."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dims: tuple[int, ...],
        func: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.dims = dims
        ctx.save_for_backward(x)
        return func(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        total = x.sum(dim=ctx.dims, keepdim=True)
        return x * _share(relevance.reshape(total.shape), total), None, None


class Spread(Function):
    """A variance or norm: by the squares of its entries."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dims: tuple[int, ...],
        centre: bool,
        func: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.dims, ctx.centre = dims, centre
        ctx.save_for_backward(x)
        return func(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        if ctx.centre:
            x = x - x.mean(dim=ctx.dims, keepdim=True)
        squares = x.square()
        total = squares.sum(dim=ctx.dims, keepdim=True)
        share = _share(relevance.reshape(total.shape), total)
        return squares * share, None, None, None


def to_shape(value: Tensor, shape: torch.Size) -> Tensor:
    """Sum over broadcast dimensions."""
    return value.sum_to_size(shape) if value.shape != shape else value
