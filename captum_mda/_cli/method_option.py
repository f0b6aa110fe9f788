"""The option ``--methods`` of ``captum-mda compare``: its names, and its help."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from captum_mda._spelling import did_you_mean
from captum_mda.evaluate.methods import DEFAULT_METHODS, list_methods, METHODS

ALL = "all"

_OPTION = "--methods"
_WIDTH = 60  # of the lists of names in the help


def methods_help() -> str:
    """Write what stands below the command's options: the names by their cost."""
    names = {
        "seconds": " ".join(list_methods("seconds")),
        "minutes": " ".join(list_methods("minutes")),
        "default": " ".join(DEFAULT_METHODS),
        ALL: "every one of them",
    }
    lines = [
        f"{'' if place else heading:9}{line}"
        for heading, words in names.items()
        # Hyphens of a name are no places to break at.
        for place, line in enumerate(wrap(words, _WIDTH, break_on_hyphens=False))
    ]
    # click leaves the lines of a paragraph that begins so as they are.
    return "\n".join(
        ["\b", "Methods, by what a map costs on a laptop:", *(f"  {x}" for x in lines)]
    )


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
        name for word in words if word for name in (METHODS if word == ALL else [word])
    ]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        got = repr(unknown[0]) if unknown else "none"
        hint = did_you_mean(unknown[0], METHODS) if unknown else ""
        raise ValueError(
            f"{_OPTION}: got {got}, takes {', '.join(METHODS)}, or {ALL} for all of "
            f"them, with commas between{hint}"
        )
    return tuple(dict.fromkeys(names))


def completed_methods(incomplete: str) -> list[str]:
    """List the names that complete a word, behind the commas that it may have."""
    given, comma, last = incomplete.rpartition(",")
    return [
        f"{given}{comma}{name}"
        for name in (*METHODS, ALL)
        if name.startswith(last) and name not in given.split(",")
    ]


def require_no_method(images: Sequence[str]) -> None:
    """Raise a ValueError if an image is a method's name, behind a space.

    Args:
        images (sequence of str): Paths of images that do not exist.
    """
    for image in images:
        if image.lower().rstrip(",") in (*METHODS, ALL):
            raise ValueError(
                f"IMAGE: there is no file {image}; separate the names of methods by "
                f"commas, without spaces, or repeat the option: {_OPTION} "
                f"{DEFAULT_METHODS[0]},{image.rstrip(',')}"
            )
