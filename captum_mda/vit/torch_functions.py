"""PyTorch's functions by name: one name may be spelled in many places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import resolve_name

Functions = tuple[Callable[..., Any], ...]

_PLACES = (torch, Tensor, F, torch.special, torch.linalg, torch._C._nn)


def functions_named(*names: str) -> Functions:
    """Collect the functions of these names, as they arrive at a function mode.

    Args:
        *names (str): Such as "add", which is `torch.add` and `torch.Tensor.add`.

    Returns:
        *tuple*: Each function once; names that this PyTorch does not have are skipped.
    """
    found: dict[Callable[..., Any], None] = {}
    for name in names:
        for place in _PLACES:
            function = getattr(place, name, None)
            if callable(function):
                found[function] = None
    return tuple(found)


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Find the public function that an operator of `torch.ops.aten` computes.

    Args:
        function (callable): Any function.

    Returns:
        *callable*: The public one, or the function itself.
    """
    if type(function).__module__ != "torch._ops":
        return function
    schema = getattr(function, "_schema", None)  # of one overload
    name = getattr(function, "_qualified_op_name", None)  # of all of them
    name = str(getattr(schema, "name", name))
    if not name.startswith("aten::"):
        return function
    found = functions_named(name.removeprefix("aten::"))
    return found[0] if found else function


def function_name(function: Callable[..., Any]) -> str:
    """Name a function as its callers write it."""
    name = resolve_name(function) if callable(function) else None
    return str(name or getattr(function, "__qualname__", None) or function)
