"""Relevance through linear maps and products of matrices, in all spellings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.backward._einsum import einsum, is_average
from captum_mda.backward._elementwise_rules import add, halves, identity, product
from captum_mda.backward._relevance_functions import (
    ByValue,
    Linear,
    Matmul,
    WeightedMap,
)
from captum_mda.backward._trace import carries
from captum_mda.vit import torch_functions as names
from captum_mda.vit.function_mode import Rule
from captum_mda.vit.multihead import attention_probabilities, repeated_groups
from captum_mda.vit.torch_functions import Function


def linear(
    func: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Share relevance of linear maps; a weight that carries relevance is a branch."""
    if carries(weight) or carries(bias):
        result = matmul(torch.matmul, x, weight.transpose(-2, -1))
        return result if bias is None else add(torch.add, result, bias)
    if not carries(x):
        return func(x, weight, bias)
    mapped: Tensor = Linear.apply(x, weight, bias)
    return mapped


def matmul(func: Function, a: Tensor, b: Tensor) -> Tensor:
    """Share relevance of products of two branches, or of a branch and a constant."""
    if not (carries(a) or carries(b)):
        return func(a, b)
    if a.dim() == 1 or b.dim() == 1:
        return _vector_product(a, b)
    if not carries(b) and b.dim() == 2 and not is_average(b, (-2,)):
        result: Tensor = Linear.apply(a, b.transpose(0, 1), None)
    elif not carries(b) and _is_weight(b, a) and not is_average(b, (-2,)):
        result = WeightedMap.apply(a, b, torch.matmul)
    elif not carries(a) and _is_weight(a, b) and not is_average(a, (-1,)):
        result = WeightedMap.apply(b, a, lambda b, a: torch.matmul(a, b))
    else:
        result = Matmul.apply(a, b, halves(a, b))
    return result


def _is_weight(constant: Tensor, branch: Tensor) -> bool:
    """Tell weights, which all examples share, from one matrix per example.

    The factors of attention with constant queries or keys, of four dimensions, are no
    weights.
    """
    if constant.dim() == 2:
        return True
    if constant.dim() != 3 or branch.dim() > 4:
        return False
    if constant.shape[0] == 1 or constant.stride(0) == 0:
        return True
    return branch.dim() == 4 or bool((constant == constant[:1]).all())


def _vector_product(a: Tensor, b: Tensor) -> Tensor:
    """Share relevance of products with a vector, as in `torch.matmul`."""
    if a.dim() == b.dim() == 1:
        return einsum(torch.einsum, "i,i->", a, b)
    if b.dim() == 1:
        return einsum(torch.einsum, "...ij,j->...i", a, b)
    return einsum(torch.einsum, "i,...ij->...j", a, b)


def matmul_from(func: Function, b: Tensor, a: Tensor) -> Tensor:
    """Compute the reversed ``a @ b``."""
    return matmul(torch.matmul, a, b)


def outer(func: Function, a: Tensor, b: Tensor) -> Tensor:
    """Share relevance of outer products."""
    return einsum(torch.einsum, "i,j->ij", a, b)


def inner(func: Function, a: Tensor, b: Tensor) -> Tensor:
    """Share relevance of products over the last dimensions."""
    if a.dim() == 0 or b.dim() == 0:
        return product(torch.mul, a, b)
    return tensordot(torch.tensordot, a, b, dims=([-1], [-1]))


def vecdot(func: Function, a: Tensor, b: Tensor, *, dim: int = -1) -> Tensor:
    """Share relevance of inner products along one dimension."""
    a, b = a.movedim(dim, -1), b.movedim(dim, -1)
    return einsum(torch.einsum, "...i,...i->...", a, b)


def tensordot(
    func: Function, a: Tensor, b: Tensor, dims: Any = 2, **kwargs: Any
) -> Tensor:
    """Share relevance of products over pairs of dimensions."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = (range(a.dim() - dims, a.dim()), range(dims))
    over_a, over_b = (
        [dim % each.dim() for dim in ([given] if isinstance(given, int) else given)]
        for each, given in zip((a, b), dims, strict=True)
    )
    names_a = list(range(a.dim()))
    names_b = list(range(a.dim(), a.dim() + b.dim()))
    for one, other in zip(over_a, over_b, strict=True):
        names_b[other] = names_a[one]
    rest = [name for name in names_a if name not in names_b]
    rest += [name for name in names_b if name not in names_a]
    return einsum(torch.einsum, a, names_a, b, names_b, rest)


def bilinear(
    func: Function, a: Tensor, b: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Share relevance of bilinear maps."""
    result = einsum(torch.einsum, "...i,oij,...j->...o", a, weight, b)
    return add(torch.add, result, bias) if bias is not None else result


def chain(func: Function, *matrices: Any, **kwargs: Any) -> Tensor:
    """Share relevance of products of several matrices."""
    if len(matrices) == 1:
        matrices = tuple(matrices[0])
    multiplied: Tensor = reduce(partial(matmul, torch.matmul), matrices)
    return multiplied


def added_product(multiply: Callable[[Any, Any], Tensor]) -> Rule:
    """Make the rule of ``beta * input + alpha * (a @ b)``."""

    def rule(
        func: Function,
        input: Any,
        a: Tensor,
        b: Tensor,
        *,
        beta: Any = 1,
        alpha: Any = 1,
    ) -> Tensor:
        if not any(map(carries, (input, a, b))):
            return func(input, a, b, beta=beta, alpha=alpha)
        result = multiply(a, b)
        if alpha != 1:
            result = product(torch.mul, result, alpha)
        if beta == 0:
            return result
        if beta != 1:
            input = product(torch.mul, input, beta)
        return add(torch.add, result, input)

    return rule


def convolution(
    func: Function,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Share relevance of convolutions, transposed ones included."""
    if not any(map(carries, (x, weight, bias))):
        return func(x, weight, bias, *args, **kwargs)

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return func(x, weight, None, *args, **kwargs)

    if carries(weight):
        result: Tensor = ByValue.apply(convolve, halves(x, weight), x, weight)
    elif carries(x):
        result = WeightedMap.apply(x, weight, convolve)
    else:
        result = convolve(x, weight)
    if bias is None:
        return result
    channels = (-1, *[1] * (weight.dim() - 2))
    return add(torch.add, result, bias.reshape(channels))


def by_value(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Share relevance by value: poolings, cumulative sums, other fixed linear maps."""
    if not carries(x):
        return identity(func, x, *args, **kwargs)
    result: Tensor = ByValue.apply(lambda x: func(x, *args, **kwargs), (1.0,), x)
    return result


def resized(
    func: Function,
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Share relevance of interpolation: by value, unless it copies the nearest."""
    if mode.startswith("nearest"):
        return func(x, size, scale_factor, mode, *args, **kwargs)
    return by_value(func, x, size, scale_factor, mode, *args, **kwargs)


def attention_rule(parts: Callable[[], Any]) -> Rule:
    """Make the rule of fused attention from the rules of its parts."""

    def rule(
        func: Function,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key, value = repeated_groups(query, key, value)
        with parts():
            attention = attention_probabilities(query, key, attn_mask, is_causal, scale)
            if dropout_p:
                attention = F.dropout(attention, dropout_p)
            return torch.matmul(attention, value)

    return rule


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    return einsum(torch.einsum, "bij,bjk->ik", a, b)


_matmul: Callable[[Any, Any], Tensor] = partial(matmul, torch.matmul)
LINEAR: dict[names.Names, Rule] = {
    ("linear",): linear,
    names.MATRIX_PRODUCTS: matmul,
    ("__rmatmul__",): matmul_from,
    ("einsum",): einsum,
    ("tensordot",): tensordot,
    ("inner",): inner,
    ("vecdot",): vecdot,
    ("outer", "ger"): outer,
    ("bilinear",): bilinear,
    ("multi_dot", "chain_matmul"): chain,
    names.SUMS_WITH_MATRIX_PRODUCTS: added_product(_matmul),
    ("addbmm",): added_product(_sum_of_products),
    ("addr",): added_product(partial(outer, torch.outer)),
    names.CONVOLUTIONS: convolution,
    names.AVERAGES_OF_NEIGHBOURS: by_value,
    ("interpolate",): resized,
}
"""From names of functions to their rule."""
