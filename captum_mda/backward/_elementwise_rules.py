"""Relevance through sums, products, quotients, activations, norms and means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_mda.backward._relevance_functions import (
    Identity,
    Product,
    Spread,
    Sum,
    Total,
)
from captum_mda.backward._trace import (
    batch_size,
    carries,
    refuse_relevance,
    scale_like,
    set_trace,
    Trace,
    trace_of,
)
from captum_mda.vit import torch_functions as names
from captum_mda.vit.function_mode import Rule
from captum_mda.vit.torch_functions import Function, function_name, functions_named

_SCALE = Trace(is_scale=True)
_MEANS = functions_named(*names.MEANS)


def identity(func: Function, x: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Pass relevance unchanged: activations, softmax, norms, dropout."""
    further = [value for value in (*args, *kwargs.values()) if carries(value)]
    if not carries(x) or further:
        return _without_rule(func, x, *args, **kwargs)
    result: Tensor = Identity.apply(x, lambda x: func(x, *args, **kwargs))
    return scale_like(result, x)


def _without_rule(func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """Call a function whose rule does not fit, and refuse relevance there."""
    result = func(*args, **kwargs)
    if carries(result):
        refuse_relevance(result, function_name(func))
    return result


def magnitude(func: Function, x: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Mark squares and absolute values, whose mean is the scale of a norm."""
    result = identity(func, x, *args, **kwargs)
    set_trace(result, Trace(trace_of(x).is_scale, is_magnitude=True))
    return result


def inverse(func: Function, x: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Mark 1 / x and 1 / sqrt(x) as scales, which get no relevance."""
    result = identity(func, x, *args, **kwargs)
    set_trace(result, _SCALE)
    return result


def power(func: Function, x: Any, exponent: Any) -> Tensor:
    """Apply the rule of powers; a number to the power of a branch is an activation."""
    if carries(exponent) and not carries(x):
        return identity(lambda exponent: func(x, exponent), exponent)
    if isinstance(exponent, (int, float)) and exponent < 0:
        return inverse(func, x, exponent)
    if isinstance(exponent, (int, float)) and exponent % 2 == 0:
        return magnitude(func, x, exponent)
    return identity(func, x, exponent)


def power_of_number(func: Function, x: Any, base: Any) -> Tensor:
    """Compute the reversed ``base ** x``."""
    return power(torch.pow, base, x)


# Sums ---------------------------------------------------------------------------------


def add(func: Function, a: Any, b: Any, alpha: Any = 1, **kwargs: Any) -> Tensor:
    """Share relevance between two branches; biases, masks and positions get none."""
    if carries(a) and carries(b):
        b = b if alpha == 1 else product(torch.mul, b, alpha)
        result: Tensor = Sum.apply(a, b, totals_of_examples())
        return scale_like(result, a, b)
    extra = kwargs if alpha == 1 else kwargs | {"alpha": alpha}
    result = func(a, b, **extra)
    return _constant_added(result, a, b)


def _constant_added(result: Tensor, a: Any, b: Any) -> Tensor:
    """Keep the marks of scales and magnitudes, to which a constant was added."""
    trace = trace_of(a if carries(a) else b)
    set_trace(result, Trace(trace.is_scale, trace.is_magnitude))
    return result


def subtract(func: Function, a: Any, b: Any, alpha: Any = 1, **kwargs: Any) -> Tensor:
    """Share relevance of differences; a subtracted mean of ``a`` gets none."""
    if carries(a) and trace_of(b).shift_of is a and alpha == 1:
        shift = b.detach()
        result: Tensor = Identity.apply(a, lambda a: func(a, shift))
        return result
    if carries(b):
        return add(torch.add, a, identity(torch.neg, b), alpha)
    extra = kwargs if alpha == 1 else kwargs | {"alpha": alpha}
    return _constant_added(func(a, b, **extra), a, b)


def subtract_from(func: Function, b: Any, a: Any, alpha: Any = 1) -> Tensor:
    """Compute the reversed ``a - b``."""
    return subtract(torch.sub, a, b, alpha)


def lerp(func: Function, a: Any, b: Any, weight: Any) -> Tensor:
    """Share relevance of ``(1 - weight) a + weight b``."""
    rest = subtract(torch.sub, torch.ones(()).to(a), weight)
    return add(torch.add, product(torch.mul, a, rest), product(torch.mul, b, weight))


def add_product(func: Function, a: Any, b: Any, c: Any, *, value: Any = 1) -> Tensor:
    """Share relevance of ``a + value * b * c``, or ``b / c``."""
    if "div" in function_name(func):
        changed = divide(torch.div, b, c)
    else:
        changed = product(torch.mul, b, c)
    return add(torch.add, a, product(torch.mul, changed, value))


def totals_of_examples() -> Callable[[Tensor], Tensor]:
    """Make the function that sums relevance per example, in a shape that broadcasts."""
    n_examples = batch_size()

    def totals(relevance: Tensor) -> Tensor:
        shape = relevance.shape
        if len(shape) < 2:
            return relevance
        if n_examples not in (None, shape[0]):
            if len(shape) > 2 and shape[1] == n_examples:  # tokens first
                others = (0, *range(2, len(shape)))
                return relevance.sum(dim=others, keepdim=True)
            if len(shape) == 2 and shape[0] % n_examples == 0:  # tokens in one row
                rows = relevance.reshape(n_examples, -1).sum(dim=1)
                return rows.repeat_interleave(shape[0] // n_examples)[:, None]
        return relevance.sum(dim=tuple(range(1, len(shape))), keepdim=True)

    return totals


# Products and quotients ---------------------------------------------------------------


def halves(a: object, b: object) -> tuple[float, float]:
    """Give two factors equal shares; a factor without relevance gets none."""
    both = carries(a) and carries(b)
    return (0.5, 0.5) if both else (float(carries(a)), float(carries(b)))


def product(func: Function, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """Share relevance of elementwise products; a scale gets none."""
    if not (carries(a) or carries(b)):
        return func(a, b, **kwargs)
    if a is b:
        return magnitude(lambda a: func(a, a, **kwargs), a)
    scales = trace_of(a).is_scale, trace_of(b).is_scale
    if carries(a) and carries(b) and scales[0] != scales[1]:
        a, b = (a.detach(), b) if scales[0] else (a, b.detach())
    result: Tensor = Product.apply(
        a, b, lambda a, b: func(a, b, **kwargs), halves(a, b)
    )
    if not (carries(a) and carries(b)):
        _constant_added(result, a, b)
    return scale_like(result, a, b)


def divide(func: Function, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """Give all relevance of a quotient to the numerator."""
    if carries(a):
        denominator = b.detach() if isinstance(b, Tensor) else b
        result: Tensor = Identity.apply(a, lambda a: func(a, denominator, **kwargs))
        return _constant_added(result, a, b)
    if carries(b):
        return inverse(lambda b: func(a, b, **kwargs), b)
    return func(a, b, **kwargs)


def divide_number(func: Function, b: Any, a: Any) -> Tensor:
    """Compute the reversed ``a / b``."""
    return divide(torch.div, a, b)


# Means, totals and deviations ---------------------------------------------------------


def reduced_dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    """List the dimensions that a reduction over ``dim`` removes."""
    if isinstance(dim, int):
        return (dim,)
    return tuple(dim or range(x.dim()))


def mean(func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Share relevance of means and sums by value."""
    if not carries(x):
        return func(x, *args, **kwargs)
    dim = kwargs.get("dim", kwargs.get("axis", args[0] if args else None))
    dims = reduced_dims(x, dim)
    result: Tensor = Total.apply(x, dims, lambda x: func(x, *args, **kwargs))
    trace = trace_of(x)
    shift_of = x if func in _MEANS else None
    set_trace(result, Trace(trace.is_scale or trace.is_magnitude, shift_of=shift_of))
    return result


def largest(func: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """Give relevance of a maximum to the chosen entries, and mark it as a shift."""
    result = func(x, *args, **kwargs)
    trace = trace_of(x)
    shift_of = x if carries(x) and not any(map(carries, args)) else None
    set_trace(result, Trace(trace.is_scale or trace.is_magnitude, shift_of=shift_of))
    return result


def deviation(func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Share relevance of variances and deviations (and of the mean beside them)."""
    given = args[0] if args and not isinstance(args[0], bool) else None
    dim = kwargs.get("dim", kwargs.get("axis", given))
    return _spread(func, x, reduced_dims(x, dim), True, *args, **kwargs)


def norm(func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Share relevance of norms of vectors by squares."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return _spread(func, x, reduced_dims(x, dim), False, *args, **kwargs)


def _spread(
    func: Callable[..., Any],
    x: Tensor,
    dims: tuple[int, ...],
    centre: bool,
    *args: Any,
    **kwargs: Any,
) -> Any:
    value = func(x, *args, **kwargs)
    if not carries(x):
        return value
    if isinstance(value, tuple):  # the mean is second
        keepdim = value[0].dim() == x.dim()
        spread = Spread.apply(x, dims, centre, lambda x: func(x, *args, **kwargs)[0])
        set_trace(spread, _SCALE)
        return spread, mean(torch.mean, x, dims, keepdim=keepdim)
    result: Tensor = Spread.apply(x, dims, centre, lambda x: func(x, *args, **kwargs))
    set_trace(result, _SCALE)
    return result


def in_place(rule: Rule, func: Function) -> Rule:
    """Make the rule of an in-place function."""

    def write(_: Function, a: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = rule(func, a.clone(), *args, **kwargs)
        trace = trace_of(result)
        a.copy_(result)
        set_trace(a, trace)
        return a

    return write


ELEMENTWISE: dict[names.Names, Rule] = {
    names.ELEMENTWISE: identity,
    (*names.SQUARES, "abs", "absolute"): magnitude,
    names.RECIPROCALS: inverse,
    names.POWERS: power,
    ("__rpow__",): power_of_number,
    names.SUMS: add,
    names.DIFFERENCES: subtract,
    names.REVERSED_DIFFERENCES: subtract_from,
    ("lerp",): lerp,
    names.SUMS_WITH_PRODUCTS: add_product,
    names.PRODUCTS: product,
    names.QUOTIENTS: divide,
    names.REVERSED_QUOTIENTS: divide_number,
    (*names.MEANS, *names.TOTALS): mean,
    names.MAXIMA: largest,
    names.DEVIATIONS: deviation,
    names.VECTOR_NORMS: norm,
}
"""From names of functions to their rule."""


def in_place_rules(table: dict[names.Names, Rule]) -> dict[Any, Rule]:
    """Make the rules of the in-place functions ``add_``, ``mul_`` and so on."""
    found: dict[Any, Rule] = {}
    for group, rule in table.items():
        for name in group:
            plain = functions_named(name)
            if plain and not name.startswith("_"):
                written = functions_named(f"{name}_")
                found |= dict.fromkeys(written, in_place(rule, plain[0]))
    return found
