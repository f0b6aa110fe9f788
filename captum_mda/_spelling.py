"""Checks of words, with suggestions for mistyped ones; imports only small modules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_CUTOFF = 0.6  # difflib's own; below it the words share little


def nearest(word: str, choices: Iterable[str], n: int = 1) -> list[str]:
    """List the choices that are similar to a word, the most similar first.

    Args:
        word (str): The typed word; case, hyphens, underscores and spaces are ignored.
        choices (iterable of str): The known words.
        n (int, optional): The largest number of results. Default: 1

    Returns:
        *list[str]*: up to ``n`` of them.

    Example::

        >>> nearest("le-grad", ["legrad", "caap"])
        ['legrad']
        >>> nearest("xyz", ["legrad", "caap"])
        []
    """
    plain: dict[str, str] = {}
    for choice in choices:
        plain.setdefault(_plain(choice), choice)
    close = difflib.get_close_matches(_plain(word), plain, n, _CUTOFF)
    return [plain[text] for text in close]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Write the end of an error message; "" if no choice is similar to the word.

    Example::

        >>> did_you_mean("gradcam", ["grad-cam", "caap"])
        "; did you mean 'grad-cam'?"
    """
    close = nearest(word, choices)
    return f"; did you mean {close[0]!r}?" if close else ""


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless ``value`` is one of the given words."""
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(repr(choice) for choice in choices)
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"{name}: got {value!r}, takes one of {words}{hint}")


def _plain(word: str) -> str:
    return re.sub(r"[-_\s]+", "", word).casefold()
