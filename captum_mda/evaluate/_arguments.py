"""Errors about arguments, whose names each caller writes in its own way.

Messages name arguments in braces: ``{weights}``, or with a value ``{weights=FILE}``. In
Python they read ``weights`` and ``weights=FILE``; the command line writes ``--weights``
and ``--weights FILE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Spelling: TypeAlias = Callable[[str, str | None], str]
"""Writes the name of an argument, with a value where there is one."""

_ARGUMENTS = (
    "background|batch_size|deletion_baseline|device|images|labels|methods|model_args|"
    "model|num_classes|out|overwrite|patch_size|pretrained|score|seed_map|seed_method|"
    "target|weights_key|weights"
)
_NAMED = re.compile(r"\{(" + _ARGUMENTS + r")(?:=([^{}]*))?\}")


class ArgumentError(ValueError):
    """An argument does not fit.

    Args:
        template (str): The message, with the names of arguments in braces.

    Example::

        >>> str(ArgumentError("{weights}: there is no file a; pass {weights=FILE}"))
        'weights: there is no file a; pass weights=FILE'
    """

    def __init__(self, template: str) -> None:
        """Keep the template beside the message."""
        super().__init__(spelled(template))
        self.template = template


def spelled(template: str, spelling: Spelling | None = None) -> str:
    """Write the names of arguments in a message.

    Args:
        template (str): The message.
        spelling (callable, optional): Writes a name. None: as in Python. Default: None

    Example::

        >>> spelled("pass {pretrained=False}", lambda name, value: f"--no-{name}")
        'pass --no-pretrained'
    """
    write = in_python if spelling is None else spelling
    return _NAMED.sub(lambda found: write(found[1], found[2]), template)


def template_of(error: Exception) -> str:
    """Return the message of any error, with names of arguments in braces if it can."""
    return error.template if isinstance(error, ArgumentError) else str(error)


def message_of(error: Exception, spelling: Spelling | None = None) -> str:
    """Write the message of any error; names of arguments as the caller writes them."""
    return spelled(template_of(error), spelling)


def in_python(name: str, value: str | None) -> str:
    """Write an argument as a call in Python has it."""
    if value is None:
        return name
    if name == "model_args":
        key, _, number = value.partition("=")
        return f'{name}={{"{key}": {number}}}'
    is_word = re.fullmatch("[a-z][a-z-]*", value) is not None
    return f'{name}="{value}"' if is_word else f"{name}={value}"


def require_file(argument: str, path: Path) -> None:
    """Raise unless a path exists; a pipe, as a shell's ``<(…)``, does.

    Args:
        argument (str): The name of the argument, without braces.
        path (Path): The file.
    """
    if not path.exists():
        raise ArgumentError(f"{{{argument}}}: there is no file {path}")
