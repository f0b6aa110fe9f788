"""The option ``--methods`` of ``captum-mda compare``: its names and its words.

What the names stand for is in `captum_mda._cli.methods`, which takes longer to import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from typer.core import TyperCommand

from captum_mda._spelling import did_you_mean

SECONDS: Mapping[str, str] = {
    "raw-attention": "Raw attention",
    "rollout": "Rollout",
    "grad-cam": "Attention Grad-CAM",
    "attention-ig": "Attention IG",
    "t-attn": "T-Attn",
    "t-attr": "T-Attr",
    "bi-attn": "Bi-Attn",
    "bi-attn-token": "Bi-Attn, token-wise",
    "legrad": "LeGrad",
    "libra-fullgrad": "Libra FullGrad+",
    "libra-ixg": "Libra input x gradient",
    "caap": "CAAP",
    "vit-cx": "ViT-CX",
    "ig": "Integrated gradients",
    "occlusion": "Occlusion",
}
"""The methods of up to some 200 forwards an image, and their titles in figures."""

MINUTES: Mapping[str, str] = {
    "tis": "TIS",
    "shapley": "Shapley sampling",
    "kernel-shap": "Kernel SHAP",
    "lime": "LIME",
    "mda": "MDA",
}
"""Those of a thousand forwards and more."""

TITLES: Mapping[str, str] = {**SECONDS, **MINUTES}
"""All methods, by the names that ``--methods`` takes."""

DEFAULT_METHODS = ("raw-attention", "rollout", "bi-attn", "legrad", "libra-fullgrad")

ALL = "all"

_OPTION = "--methods"
_WIDTH = 60  # of the lists of names in the help


def methods_help() -> str:
    """Write what stands below the command's options: the names by their cost."""
    names = {
        "seconds": " ".join(SECONDS),
        "minutes": " ".join(MINUTES),
        "default": " ".join(DEFAULT_METHODS),
        ALL: "every one of them",
    }
    lines = [
        f"{heading if first else '':9}{line}"
        for heading, words in names.items()
        for first, line in _wrapped(words)
    ]
    # click leaves the lines of a paragraph that begins so as they are.
    return "\n".join(
        ["\b", "Methods, by what a map costs on a laptop:", *(f"  {x}" for x in lines)]
    )


def _wrapped(words: str) -> list[tuple[bool, str]]:
    """Break a list of names, whose hyphens are no places to break at."""
    lines = wrap(words, _WIDTH, break_on_hyphens=False)
    return [(place == 0, line) for place, line in enumerate(lines)]


def chosen_methods(values: Sequence[str]) -> tuple[str, ...]:
    """Read the values of the option.

    Args:
        values (sequence of str): One for each time it was given, names with commas
            between; none for the default.

    Returns:
        *tuple[str, ...]*: each method once, in the order given.

    Raises:
        ValueError: A name is of no method, or there is none.

    Example::

        >>> chosen_methods(["legrad,caap", "LeGrad"])
        ('legrad', 'caap')
    """
    if not values:
        return DEFAULT_METHODS
    words = [word.strip().lower() for value in values for word in value.split(",")]
    names = [
        name for word in words if word for name in (TITLES if word == ALL else [word])
    ]
    unknown = [name for name in names if name not in TITLES]
    if unknown or not names:
        got = repr(unknown[0]) if unknown else "none"
        hint = did_you_mean(unknown[0], TITLES) if unknown else ""
        raise ValueError(
            f"{_OPTION}: got {got}, takes {', '.join(TITLES)}, or {ALL} for all of "
            f"them{hint}"
        )
    return tuple(dict.fromkeys(names))


def completed_methods(incomplete: str) -> list[str]:
    """List the names that a word begins, for completion in a shell."""
    return [name for name in (*TITLES, ALL) if name.startswith(incomplete)]


def join_methods(arguments: Sequence[str]) -> list[str]:
    """Make one word of the names behind each ``--methods``, as options take one.

    The names end at the next option, and at a word that looks like a file's: one with a
    dot or a slash, which no method's name has, or a file's or folder's own name.

    Args:
        arguments (sequence of str): The words behind the command's name.

    Returns:
        *list[str]*: all words in their order, ``--methods=a,b`` for ``--methods a b``.

    Example::

        >>> join_methods(["--methods", "mda", "legrad", "dog.png", "--out", "maps"])
        ['--methods=mda,legrad', 'dog.png', '--out', 'maps']
    """
    joined: list[str] = []
    names: list[str] | None = None  # of the option that is being read
    for place, word in enumerate(arguments):
        option, sign, value = word.partition("=")
        if word == "--":  # all that follows are files
            return joined + list(arguments[place:])
        if option == _OPTION:
            names = [value] if sign else []
            joined.append(f"{_OPTION}={value}")
        elif names is not None and not word.startswith("-") and not _is_path(word):
            names.append(word)
            joined[-1] = f"{_OPTION}={','.join(names)}"
        else:
            names = None
            joined.append(word)
    return joined


def _is_path(word: str) -> bool:
    if "." in word or "/" in word or os.sep in word:
        return True
    return word.lower() not in (*TITLES, ALL) and os.path.exists(word)


class MethodsCommand(TyperCommand):
    """A command whose option ``--methods`` takes several words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words before they are read as options."""
        return super().parse_args(ctx, join_methods(args))
