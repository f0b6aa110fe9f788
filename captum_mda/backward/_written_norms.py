"""LibraGrad's rules for norms, softmax and activations that are written out.

The denominator of a norm is treated as a constant. Marks on tensors identify it:
squares, their means, and their roots and multiples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda.vit.torch_functions import Function

Mark = Literal["gate", "exp", "square", "scale", "length"]
_ATTRIBUTE = "_captum_mda_mark"


def marked(tensor: Any, mark: Mark) -> Any:
    """Mark a tensor."""
    setattr(tensor, _ATTRIBUTE, mark)
    return tensor


def has_mark(value: object, mark: Mark) -> bool:
    """Tell whether a tensor has a mark."""
    return getattr(value, _ATTRIBUTE, None) == mark


def is_branch(value: object) -> bool:
    """Tell whether a value depends on the input, unlike numbers and parameters."""
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and not isinstance(value, nn.Parameter)
    )


def marking(mark: Mark, func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Call a function and mark its result."""
    result: Tensor = marked(func(x, *args, **kwargs), mark)
    return result


def keeps_scale(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Keep the mark of a scale in its roots and bounds."""
    result = func(x, *args, **kwargs)
    return _like(result, x)


def _like(result: Tensor, x: object) -> Tensor:
    mark: Mark | None = getattr(x, _ATTRIBUTE, None)
    if mark in ("scale", "length", "square"):
        marked(result, mark)
    return result


def shifted(func: Function, a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Keep the marks of gates and scales with a number added, such as 1 + tanh."""
    result = func(a, b, *args, **kwargs)
    for one, other in ((a, b), (b, a)):
        if not isinstance(other, Tensor):
            if has_mark(one, "gate"):
                marked(result, "gate")
            _like(result, one)
    return result


def power(func: Function, x: Any, exponent: Any) -> Tensor:
    """Mark squares and square roots; detach negative powers."""
    if isinstance(exponent, (int, float)) and isinstance(x, Tensor):
        if exponent < 0:
            return func(x.detach(), exponent)
        if exponent == 2:
            return marking("square", func, x, exponent)
        return _like(func(x, exponent), x if exponent == 0.5 else None)
    return func(x, exponent)


def mean(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mark the mean of squares as a scale."""
    result = func(x, *args, **kwargs)
    if has_mark(x, "square"):
        marked(result, "scale")
    return result


def deviation(func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Detach variances and standard deviations, but not a mean beside them."""
    if not is_branch(x):
        return func(x, *args, **kwargs)
    result = func(x.detach(), *args, **kwargs)
    if isinstance(result, tuple):
        dim = kwargs.get("dim", args[0] if args else None)
        centre = torch.mean(x, dim, keepdim=result[0].dim() == x.dim())
        return result[0], centre
    return result


def norm(func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Detach norms of tokens; those of pooled vectors stay, as in published code."""
    if is_branch(x) and x.dim() > 2:
        return func(x.detach(), *args, **kwargs)
    return marked(func(x, *args, **kwargs), "length")


def normalize(
    func: Function,
    x: Tensor,
    p: float = 2.0,
    dim: Any = 1,
    eps: float = 1e-12,
    **kwargs: Any,
) -> Tensor:
    """Compute `F.normalize` of tokens with a constant length."""
    if not is_branch(x) or x.dim() < 3:
        return func(x, p, dim, eps, **kwargs)
    length: Tensor = x.detach().norm(p, dim, keepdim=True).clamp_min(eps)
    return x / length.expand_as(x)


def quotient(
    func: Function,
    a: Any,
    b: Any,
    *,
    attention: bool,
    layer_norm: bool,
    activation: bool,
    **kwargs: Any,
) -> Tensor:
    """Detach denominators; of a softmax written as a quotient, detach both parts."""
    if not is_branch(b):
        result = func(a, b, **kwargs)
        if not isinstance(b, Tensor):
            _like(result, a)
            if has_mark(a, "gate"):
                marked(result, "gate")
        return result
    if has_mark(a, "exp") and a.shape != b.shape:  # exp(x) / exp(x).sum()
        if not attention or a.dim() < 3:
            return func(a, b, **kwargs)
        constant: Tensor = func(a.detach(), b.detach(), **kwargs)
        return constant
    if has_mark(b, "length"):
        return func(a, b, **kwargs)
    is_scale = has_mark(b, "scale")
    freezes = layer_norm if is_scale else activation
    if is_branch(a):
        return func(a, b.detach() if freezes else b, **kwargs)
    if is_scale and freezes:
        return func(a, b.detach(), **kwargs)
    result = func(a, b, **kwargs)  # 1 / (1 + exp(-x)) is a gate
    if activation:
        marked(result, "gate")
    return result


def reversed(quotient: Function, func: Function, b: Any, a: Any) -> Tensor:
    """Compute the reversed ``a / b``."""
    result: Tensor = quotient(torch.div, a, b)
    return result
