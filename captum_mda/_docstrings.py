"""Descriptions of arguments that several public functions share, written once."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = re.compile(r"^( +)(\w+): \.\.\.$", re.MULTILINE)
_SECTION = re.compile(r"^Args:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_ARGUMENT = re.compile(r"^ {4}(\w+) (\(.*?)(?=^ {0,4}\S|\Z)", re.MULTILINE | re.DOTALL)
_WIDTH = 88


def documented(*sources: object) -> Callable[[Function], Function]:
    """Take descriptions of arguments over from the docstrings of other functions.

    A line ``name: ...`` of the docstring becomes the description of that argument,
    wrapped and indented like the others. ``help()``, Sphinx and doctest see the whole
    text.

    Args:
        *sources (object): Functions, classes or modules whose docstrings have a section
            ``Args:``. The first one that describes an argument is taken.

    Raises:
        KeyError: No source describes an argument.

    Example::

        >>> def score(inputs):
        ...     '''Score a model.
        ...
        ...     Args:
        ...         inputs (Tensor): (B, C, H, W), as the model takes them.
        ...     '''
        >>> @documented(score)
        ... def explain(inputs):
        ...     '''Explain a model.
        ...
        ...     Args:
        ...         inputs: ...
        ...     '''
        >>> print(explain.__doc__.splitlines()[3].strip())
        inputs (Tensor): (B, C, H, W), as the model takes them.
    """

    def insert(function: Function) -> Function:
        if function.__doc__ is not None:  # python -OO strips it
            arguments = {
                name: description
                for source in reversed(sources)
                for name, description in _described(source).items()
            }
            function.__doc__ = _MARK.sub(
                lambda mark: _wrapped(arguments, *mark.groups()), function.__doc__
            )
        return function

    return insert


def _described(source: object) -> dict[str, str]:
    """Read the descriptions of arguments out of a docstring, each on one line."""
    section = _SECTION.search(inspect.cleandoc(source.__doc__ or ""))
    found = _ARGUMENT.findall(section.group(1)) if section else []
    return {name: " ".join(description.split()) for name, description in found}


def _wrapped(arguments: dict[str, str], indent: str, name: str) -> str:
    return textwrap.fill(
        f"{name} {arguments[name]}",
        width=_WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
