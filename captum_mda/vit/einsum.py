"""The values that `torch.einsum` multiplies an attention map with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def values_of_einsum(
    equation: Any, operands: Sequence[Any], maps: Tensor
) -> Tensor | None:
    """Find the values (..., keys, d) in a product with maps (..., queries, keys).

    Args:
        equation (str): Such as "bhqk,bhkd->bhqd".
        operands (sequence of Tensor): Two, one of which is ``maps``.
        maps (Tensor): The attention.

    Returns:
        *Tensor*: the other operand, its dimensions in the maps' order; None where the
        dimensions do not correspond.
    """
    if not isinstance(equation, str) or len(operands) != 2:
        return None
    inputs = equation.replace(" ", "").split("->")[0].split(",")
    if len(inputs) != 2:
        return None
    which = 0 if operands[0] is maps else 1
    values = operands[1 - which]
    names = [_letters(subscripts) for subscripts in inputs]
    of_maps = _spelt_out(names[which], maps.dim())
    of_values = _spelt_out(names[1 - which], values.dim())
    if of_maps is None or of_values is None or len(set(of_values)) < len(of_values):
        return None
    *leading, queries, keys = of_maps
    extra = [name for name in of_values if name not in of_maps]
    if len(extra) != 1 or queries in of_values:
        return None
    order = [*leading, keys, *extra]
    if sorted(order) != sorted(of_values):
        return None
    arranged: Tensor = values.permute([of_values.index(name) for name in order])
    return arranged


def _letters(subscripts: str) -> list[str]:
    """Split subscripts into names; "." stands for the ellipsis."""
    return list(subscripts.replace("...", "."))


def _spelt_out(names: list[str], n_dimensions: int) -> list[str] | None:
    """Name the dimensions that an ellipsis stands for, counted from the right."""
    n_hidden = n_dimensions - (len(names) - names.count("."))
    if "." not in names:
        return names if n_hidden == 0 else None
    place = names.index(".")
    hidden = [f".{index}" for index in range(n_hidden, 0, -1)]
    return names[:place] + hidden + names[place + 1 :]
