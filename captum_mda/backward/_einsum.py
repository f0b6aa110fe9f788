"""Relevance through `torch.einsum`, two operands at a time."""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_mda.backward._relevance_functions import ByValue, Outer, WeightedMap
from captum_mda.backward._trace import carries, set_trace
from captum_mda.vit.torch_functions import Function


class _Operand(NamedTuple):
    tensor: Tensor
    names: str  # one letter for each dimension


def einsum(func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """Apply the rule of sums of products: of a branch and weights, or of branches."""
    if "equation" in kwargs:
        args = (kwargs["equation"], *args)
    operands, output = _parsed(args)
    if not any(carries(each.tensor) for each in operands):
        return func(*args)
    while len(operands) > 1:
        first, second = _cheapest(operands, output)
        rest = [each for each in operands if each is not first and each is not second]
        needed = set(output).union(*(each.names for each in rest))
        joined = "".join(dict.fromkeys(first.names + second.names))
        kept = "".join(name for name in joined if name in needed)
        # The last product writes the result in the order of the output.
        kept = kept if rest else output
        operands = [_Operand(_pair(first, second, kept), kept), *rest]
    ((tensor, names),) = operands
    return tensor if names == output else _alone(tensor, names, output)


def _alone(x: Tensor, names: str, output: str) -> Tensor:
    """Apply the rule of sums, diagonals and permutations of one operand."""
    equation = f"{names}->{output}"
    if not carries(x) or sorted(names) == sorted(output):
        return torch.einsum(equation, x)
    result: Tensor = ByValue.apply(lambda x: torch.einsum(equation, x), (1.0,), x)
    return result


def _pair(a: _Operand, b: _Operand, output: str) -> Tensor:
    """Multiply two operands."""
    if not (carries(a.tensor) or carries(b.tensor)):
        return torch.einsum(f"{a.names},{b.names}->{output}", a.tensor, b.tensor)
    # Names that only one of the two sums over are summed first.
    a, b = (_summed(one, set(other.names + output)) for one, other in ((a, b), (b, a)))
    if not carries(a.tensor):
        a, b = b, a
    equation = f"{a.names},{b.names}->{output}"

    def multiply(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum(equation, a, b)

    both = carries(b.tensor)
    shares = (0.5, 0.5) if both else (1.0, 0.0)
    over = [name for name in a.names if name in b.names and name not in output]
    dims = tuple(b.names.index(name) for name in over)
    # A constant per example and head is queries or keys, and no weight.
    n_shared = sum(name in b.names and name in output for name in a.names)
    if not over:
        result = Outer.apply(a.tensor, b.tensor, multiply, shares)
    elif both or n_shared > 1 or is_average(b.tensor, dims):
        result = ByValue.apply(multiply, shares, a.tensor, b.tensor)
    else:
        result = WeightedMap.apply(a.tensor, b.tensor, multiply)
    set_trace(result)
    product: Tensor = result
    return product


def _summed(operand: _Operand, needed: set[str]) -> _Operand:
    names = "".join(dict.fromkeys(n for n in operand.names if n in needed))
    if names == operand.names:
        return operand
    return _Operand(_alone(operand.tensor, operand.names, names), names)


def is_average(constant: Tensor, dims: Sequence[int]) -> bool:
    """Tell whether a constant is the weights of a mean: not negative, with sum 1."""
    if not constant.is_floating_point() or bool((constant < 0).any()):
        return False
    totals = constant.sum(dim=tuple(dims))
    return bool(torch.isclose(totals, torch.ones_like(totals), rtol=1e-5).all())


def _cheapest(operands: list[_Operand], output: str) -> tuple[_Operand, _Operand]:
    """Choose the two operands with the smallest product; the first of equal ones."""

    def size(pair: tuple[_Operand, _Operand]) -> int:
        others = [each for each in operands if each is not pair[0]]
        others = [each for each in others if each is not pair[1]]
        needed = set(output).union(*(each.names for each in others))
        sizes: dict[str, int] = {}
        for tensor, names in pair:
            for name, length in zip(names, tensor.shape, strict=True):
                sizes[name] = max(length, sizes.get(name, 1))
        total = 1
        for name, length in sizes.items():
            total *= length if name in needed else 1
        return total

    return min(combinations(operands, 2), key=size)


def _parsed(args: Sequence[Any]) -> tuple[list[_Operand], str]:
    """Parse an equation with its operands, or operands with lists of numbers."""
    if isinstance(args[0], str):
        equation, *rest = args
        tensors = list(rest[0]) if isinstance(rest[0], (tuple, list)) else rest
        left, arrow, right = equation.replace(" ", "").partition("->")
        sides = left.split(",")
    else:
        tensors = [each for each in args[::2] if isinstance(each, Tensor)]
        lists = [each for each in args[1::2]][: len(tensors)]
        sides = [_letters(each) for each in lists]
        has_output = len(args) > 2 * len(tensors)
        arrow, right = "->" * has_output, _letters(args[-1]) if has_output else ""
    free = [name for name in string.ascii_letters if name not in "".join(sides)]
    dotted = 0  # the number of dimensions that the ellipsis stands for
    for side, tensor in zip(sides, tensors, strict=True):
        if "..." in side:
            dotted = max(dotted, tensor.dim() - len(side.replace("...", "")))
    dots = "".join(free[:dotted])
    operands = []
    for side, tensor in zip(sides, tensors, strict=True):
        n_dots = tensor.dim() - len(side.replace("...", ""))
        names = side.replace("...", dots[dotted - n_dots :]) if "..." in side else side
        operands.append(_Operand(tensor, names))
    if not arrow:
        counted = "".join(side.replace("...", "") for side in sides)
        right = "..." * (dotted > 0)
        right += "".join(sorted(n for n in set(counted) if counted.count(n) == 1))
    return operands, right.replace("...", dots)


def _letters(numbers: Sequence[Any]) -> str:
    """Write a list of numbers as letters; an ellipsis stays one."""
    letters = string.ascii_uppercase + string.ascii_lowercase
    return "".join("..." if number is ... else letters[number] for number in numbers)
