"""Autograd functions with a backward pass of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _WithSlope(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        func: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(slope(x))
        return func(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


class _FrozenNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        func: Callable[[Tensor], Tensor],
        weight: Tensor | None,
        bias: Tensor | None,
        n_dims: int,
        eps: float,
        center: bool,
    ) -> Tensor:
        ctx.dims = tuple(range(-n_dims, 0))
        ctx.leading = tuple(range(x.dim() - n_dims))
        ctx.center, ctx.eps = center, eps
        ctx.save_for_backward(x, weight)
        return func(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, weight = ctx.saved_tensors
        x = saved.to(gradient.dtype)  # under autocast norms compute in float32
        if ctx.center:
            x = x - x.mean(dim=ctx.dims, keepdim=True)
        scale = (x.square().mean(dim=ctx.dims, keepdim=True) + ctx.eps).rsqrt()
        to_weight = to_bias = None
        if ctx.needs_input_grad[2]:
            to_weight = (gradient * x * scale).sum(dim=ctx.leading).to(weight.dtype)
        if ctx.needs_input_grad[3]:
            to_bias = gradient.sum(dim=ctx.leading)
        to_x = gradient * scale
        if weight is not None:
            to_x = to_x * weight.to(to_x.dtype)
        if ctx.center:
            to_x = to_x - to_x.mean(dim=ctx.dims, keepdim=True)
        return to_x.to(saved.dtype), None, to_weight, to_bias, None, None, None


def with_slope(
    x: Tensor, func: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> Tensor:
    """Compute func(x), with slope(x) as its elementwise gradient."""
    result: Tensor = _WithSlope.apply(x, func, slope)
    return result


def frozen_norm(
    x: Tensor,
    func: Callable[[Tensor], Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    n_dims: int,
    eps: float,
    center: bool,
) -> Tensor:
    """Compute a norm whose denominator has no gradient.

    Args:
        x (Tensor): The input, normalised over its last ``n_dims`` dimensions.
        func (callable): The norm.
        weight (Tensor, optional): The norm's factor.
        bias (Tensor, optional): The norm's shift.
        n_dims (int): The number of normalised dimensions.
        eps (float): The number added to the variance.
        center (bool): Whether the mean is subtracted, as in layer norm.

    Returns:
        *Tensor*: func(x), with gradients to x, weight and bias.
    """
    result: Tensor = _FrozenNorm.apply(x, func, weight, bias, n_dims, eps, center)
    return result


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0 where the denominator is 0, and with 1e-9 added to others."""
    moved = denominator + 1e-9
    moved = torch.where(moved == 0, torch.full_like(moved, 1e-9), moved)
    quotient = numerator / moved
    return torch.where(denominator == 0, torch.zeros_like(quotient), quotient)
