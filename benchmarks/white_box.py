"""The methods that look inside a model, as the package's table has them."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from captum_mda import LibraGrad
from captum_mda.evaluate import Method, METHODS

PERTURBING = ("tis", "vit-cx", "caap")
"""They run the model some fifty times and more, and have a script of their own."""


def white_box() -> dict[str, Method]:
    """Return the methods of a few passes, in the order of the table."""
    return {
        name: method
        for name, method in METHODS.items()
        if method.interface == "vit" and name not in PERTURBING
    }


def class_of(method: Method) -> Callable[..., Any]:
    """Import a method's class."""
    found: Any = method.constructor
    return pkgutil.resolve_name(found) if isinstance(found, str) else found


def build(method: Method, model: nn.Module) -> Any:
    """Build a method for a model, with the options that the table has."""
    return class_of(method)(model, **method.options)


def balanced(method: Method, model: nn.Module) -> AbstractContextManager[Any]:
    """Return the context that a method runs in."""
    return LibraGrad(model) if method.libra else nullcontext()
