"""LibraGrad's rules, as tables from groups of functions to the rule they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.backward import _written_norms as written
from captum_mda.backward._functions import frozen_norm, with_slope
from captum_mda.backward._written_norms import has_mark, is_branch, marked, marking
from captum_mda.vit import torch_functions as names
from captum_mda.vit.function_mode import Rule, RuleMode, rules_by_function
from captum_mda.vit.torch_functions import Function


def libra_rules(
    attention: bool = True,
    layer_norm: bool = True,
    activation: bool = True,
    gate: bool = True,
) -> Mapping[Callable[..., Any], Rule]:
    """Collect the rules of the parts that are switched on.

    Args:
        attention (bool, optional): See `LibraGrad`. Default: True
        layer_norm (bool, optional): Default: True
        activation (bool, optional): Default: True
        gate (bool, optional): Default: True

    Returns:
        *Mapping*: From functions, as PyTorch passes them to a function mode.
    """
    quotient = partial(
        written.quotient,
        attention=attention,
        layer_norm=layer_norm,
        activation=activation,
    )
    rules: dict[Callable[..., Any], Rule] = {}
    if attention:
        rules |= rules_by_function(_ATTENTION)
    if layer_norm:
        rules |= rules_by_function(_NORMS)
    if activation:
        rules |= rules_by_function(_ACTIVATIONS)
        rules[F.glu] = partial(_glu, rules)
    rules |= rules_by_function(
        {
            (*names.QUOTIENTS, *names.in_place(names.QUOTIENTS)): quotient,
            names.REVERSED_QUOTIENTS: partial(written.reversed, quotient),
            (*names.SUMS, *names.DIFFERENCES): written.shifted,
        }
    )
    if activation or gate:
        product = partial(_product, freeze_gates=activation, halve=gate)
        rules |= rules_by_function(
            {
                names.GATES: _gate,
                (*names.PRODUCTS, *names.in_place(names.PRODUCTS)): product,
            }
        )
    if activation:
        rules |= rules_by_function({names.TANHS: _tanh})
    return rules


# Attention ----------------------------------------------------------------------------


def _attention(
    func: Function,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    mask = None if attn_mask is None else attn_mask.detach()
    return func(query.detach(), key.detach(), value, mask, *args, **kwargs)


def _softmax(func: Function, scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Detach explicit attention's softmax, but not one over classes (B, classes)."""
    # The input is detached and not the result, which a capture may differentiate.
    return func(scores.detach() if scores.dim() > 2 else scores, *args, **kwargs)


# Norms --------------------------------------------------------------------------------


def _constant(func: Function, x: Tensor, *args: Any) -> Tensor:
    return func(x.detach(), *args)


def _layer_norm(
    func: Function,
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return func(x, normalized_shape, weight, bias, eps, *args)

    return frozen_norm(x, norm, weight, bias, len(normalized_shape), eps, center=True)


def _rms_norm(
    func: Function,
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return func(x, normalized_shape, weight, eps)

    n_dims = len(normalized_shape)
    added = torch.finfo(x.dtype).eps if eps is None else eps
    return frozen_norm(x, norm, weight, None, n_dims, added, center=False)


def _group_norm(
    func: Function,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    groups = x.reshape(len(x), num_groups, -1)
    variance = groups.detach().var(dim=-1, correction=0, keepdim=True)
    normed = (groups - groups.mean(dim=-1, keepdim=True)) * (variance + eps).rsqrt()
    linear = normed.reshape(x.shape)
    channels = (1, -1, *[1] * (x.dim() - 2))
    if weight is not None:
        linear = linear * weight.view(channels)
    if bias is not None:
        linear = linear + bias.view(channels)
    value = func(x, num_groups, weight, bias, eps, *args)
    return linear + (value - linear).detach()


# Activations and gates ----------------------------------------------------------------


def _gelu_slope(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        return 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * (1.0 + torch.tanh(inner))


def _silu_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _hardswish_slope(x: Tensor) -> Tensor:
    return F.relu6(x + 3.0) / 6.0


def _mish_slope(x: Tensor) -> Tensor:
    return torch.tanh(F.softplus(x))


def _activation(slope: Function, func: Function, x: Tensor, **kwargs: Any) -> Tensor:
    """Let the gradient of x g(x) be g(x), the slope."""
    kwargs.pop("inplace", None)
    return with_slope(x, partial(func, **kwargs), partial(slope, **kwargs))


def _gate(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mark a possible g(x) of an activation that is written out as x g(x)."""
    gate: Tensor = marked(func(x, *args, **kwargs), "gate")
    return gate


def _tanh(func: Function, x: Tensor) -> Tensor:
    """Treat tanh as x * (tanh(x) / x), for a tanh alone, as at the end of a pooler."""
    gate: Tensor = marked(_ratio(func, x), "gate")
    return gate


def _ratio(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Let the gradient of a function that is 0 at 0 be f(x) / x."""
    kwargs.pop("inplace", None)

    def apply(x: Tensor) -> Tensor:
        return func(x, *args, **kwargs)

    def slope(x: Tensor) -> Tensor:
        return torch.where(x == 0, torch.ones_like(x), apply(x) / x)

    return with_slope(x, apply, slope)


def _glu(
    rules: Mapping[Callable[..., Any], Rule], func: Function, x: Tensor, dim: int = -1
) -> Tensor:
    """Compute GLU by its parts, under the rules."""
    branch, gate = x.chunk(2, dim)
    with RuleMode(rules):
        return branch * torch.sigmoid(gate)


def _product(
    func: Function, a: Any, b: Any, freeze_gates: bool, halve: bool, **kwargs: Any
) -> Tensor:
    if _is_gate(a) != _is_gate(b):
        other = b if _is_gate(a) else a
        if not is_branch(other):  # a gate times a number is still a gate
            scaled: Tensor = marked(func(a, b, **kwargs), "gate")
            return scaled
        if freeze_gates:
            a, b = (value.detach() if _is_gate(value) else value for value in (a, b))
        return func(a, b, **kwargs)
    halve = halve and _are_branches(a, b)
    product = func(a, b, **kwargs)
    # If the context is entered twice, the outer one has halved the gradient already.
    if halve and product.requires_grad and not hasattr(product, "_is_libra_halved"):
        product._is_libra_halved = True  # type: ignore[attr-defined]
        product.register_hook(lambda gradient: gradient * 0.5)
    return product


def _is_gate(value: object) -> bool:
    return has_mark(value, "gate")


def _are_branches(a: Any, b: Any) -> bool:
    """Tell whether both factors are computed branches, and neither is a mere scale."""
    return all(
        isinstance(factor, Tensor) and factor.grad_fn is not None and factor.dim() > 1
        for factor in (a, b)
    ) and bool(a.shape == b.shape)


# The tables ---------------------------------------------------------------------------

_ATTENTION: dict[names.Names, Rule] = {
    ("scaled_dot_product_attention",): _attention,
    (*names.SOFTMAXES, *names.LOG_SOFTMAXES, "softmin"): _softmax,
    names.EXPONENTIALS: partial(marking, "exp"),
}
_NORMS: dict[names.Names, Rule] = {
    ("layer_norm",): _layer_norm,
    ("rms_norm",): _rms_norm,
    ("group_norm",): _group_norm,
    ("normalize",): written.normalize,
    names.RECIPROCALS: _constant,
    names.SQUARES: partial(marking, "square"),
    names.POWERS: written.power,
    names.DEVIATIONS: written.deviation,
    names.VECTOR_NORMS: written.norm,
    (*names.MEANS, *names.TOTALS): written.mean,
    ("sqrt", "clamp", "clamp_min", "unsqueeze"): written.keeps_scale,
}
_SLOPES = (_gelu_slope, _silu_slope, _hardswish_slope, _mish_slope)
_ACTIVATIONS: dict[names.Names, Rule] = {
    **{
        (name,): partial(_activation, slope)
        for name, slope in zip(names.GATED_ACTIVATIONS, _SLOPES, strict=True)
    },
    names.OTHER_ACTIVATIONS_ZERO_AT_ZERO: _ratio,
}
