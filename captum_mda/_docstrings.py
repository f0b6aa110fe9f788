"""Descriptions of arguments that several public functions share, written once."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = re.compile(r"^( +)(\w+): \.\.\.$", re.MULTILINE)
_WIDTH = 88


def documented(arguments: Mapping[str, str]) -> Callable[[Function], Function]:
    """Insert shared descriptions of arguments into a function's docstring.

    A line ``name: ...`` of the docstring becomes the description of that name, wrapped
    and indented like the others. ``help()``, Sphinx and doctest see the whole text.

    Args:
        arguments (Mapping): From an argument's name to its description, which begins
            with the type in brackets.

    Raises:
        KeyError: A marked name has no description.

    Example::

        >>> @documented({"inputs": "(Tensor): (B, C, H, W), as the model takes them."})
        ... def explain(inputs):
        ...     '''Explain a model.
        ...
        ...     Args:
        ...         inputs: ...
        ...     '''
        >>> print(explain.__doc__.splitlines()[3].strip())
        inputs (Tensor): (B, C, H, W), as the model takes them.
    """

    def described(mark: re.Match[str]) -> str:
        indent, name = mark.groups()
        return textwrap.fill(
            f"{name} {arguments[name]}",
            width=_WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    def insert(function: Function) -> Function:
        if function.__doc__ is not None:  # python -OO strips it
            function.__doc__ = _MARK.sub(described, function.__doc__)
        return function

    return insert
