"""Names of classes: read from a file, and found by what a user types."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_mda.evaluate._arguments import ArgumentError

_NUMBERED = re.compile(r"(\d+)\s*[,:;\s]\s*(\S.*)")
_MAX_LISTED = 5

_FORMS = (
    "a text file with a name on each line, or JSON: a list of names, or an object from "
    "indices to names or from names to indices"
)


def read_labels(path: Path, n_classes: int, option: str = "labels") -> list[str]:
    """Read the names of a model's classes.

    Args:
        path (Path): A text file with one name a line, in the classes' order or with
            their indices in front; or JSON, a list, or an object from indices to names
            or the reverse. Those that transformers and timm write as config.json too.
        n_classes (int): How many there are.
        option (str, optional): What errors call the path. Default: "labels"

    Returns:
        *list[str]*: the names by index; synonyms are joined by commas.

    Raises:
        ValueError: The file is missing, of another form, or of another number of
            classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{option}: {path} cannot be read ({error})") from error
    try:
        names = _from_json(json.loads(text)) if _is_json(text) else _from_lines(text)
    except ValueError as error:
        raise ArgumentError(
            f"{option}: {path} does not name classes ({error}); pass {_FORMS}"
        ) from error
    if len(names) != n_classes:
        raise ArgumentError(
            f"{option}: {path} has {len(names)} names, and the model {n_classes} "
            "classes"
        )
    return [" ".join(name.split()) for name in names]


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("[", "{")


def _from_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    indices = [int(match[1]) for match in numbered if match]
    if sorted(indices) == list(range(len(lines))):
        return _in_order([(int(match[1]), match[2]) for match in numbered if match])
    return lines


def _from_json(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        for key in ("id2label", "label_names"):  # of transformers' and timm's configs
            if key in value:
                return _from_json(value[key])
        if all(isinstance(index, int) for index in value.values()):
            return _in_order([(index, name) for name, index in value.items()])
        if not all(key.isdecimal() for key in value):
            raise ArgumentError("its keys are no indices")
        return _in_order([(int(key), _name(name)) for key, name in value.items()])
    if isinstance(value, list):
        return [_name(name) for name in value]
    raise ArgumentError("it is neither a list nor an object")


def _name(value: Any) -> str:
    if isinstance(value, list):  # ImageNet's: an identifier, and the name
        return ", ".join(map(str, value[::-1]))
    return str(value)


def _in_order(numbered: Sequence[tuple[int, str]]) -> list[str]:
    if sorted(index for index, _ in numbered) != list(range(len(numbered))):
        raise ArgumentError(f"its indices are not 0 to {len(numbered) - 1}")
    return [name for _, name in sorted(numbered)]


def find_class(
    text: str, names: Sequence[str], n_classes: int, option: str = "target"
) -> int:
    """Find a class by its index or its name.

    Args:
        text (str): A whole number, or a name, without regard to capitals, underscores
            and hyphens; one of several synonyms between commas will do, and so will
            whole words that a single name has.
        names (sequence of str): The classes' names, or none.
        n_classes (int): How many classes there are.
        option (str, optional): What errors call the text. Default: "target"

    Returns:
        *int*: the index.

    Raises:
        ValueError: No class has it, or several do.

    Example::

        >>> find_class("golden_retriever", ["tabby, cat", "golden retriever"], 2)
        1
        >>> find_class("Cat", ["tabby, cat", "golden retriever"], 2)
        0
    """
    range_of = f"a class from 0 to {n_classes - 1}"
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        index = int(text)
        if 0 <= index < n_classes:
            return index
        raise ArgumentError(f"{option}: got {index}, takes {range_of}")
    if not names:
        raise ArgumentError(
            f"{option}: got {text!r}, and the model's classes have no names here; pass "
            f"{range_of}, or {{labels=FILE}} with their names"
        )
    for spellings in (lambda name: [name], lambda name: name.split(",")):
        found = [
            index
            for index, name in enumerate(names)
            if _plain(text) in map(_plain, spellings(name))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise ArgumentError(
                f"{option}: {text!r} is the name of several classes, "
                f"{_listed(found, names)}; pass an index"
            )
    parts = [index for index, name in enumerate(names) if _has_words(name, text)]
    if len(parts) == 1:
        return parts[0]
    close = _listed(_close(text, names), names)
    hint = f"; close to it: {close}" if close else ""
    raise ArgumentError(
        f"{option}: no class is called {text!r}{hint}; or pass {range_of}"
    )


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[-_\s]+", " ", name).casefold().split())


def _has_words(name: str, text: str) -> bool:
    """Tell whether whole words of a name, one after the other, are the text."""
    wanted = _plain(text)
    return bool(wanted) and f" {wanted} " in f" {_plain(name.replace(',', ' '))} "


def _close(text: str, names: Sequence[str]) -> list[int]:
    """Find names that hold the text, or else look like it."""
    wanted = _plain(text)
    plain = [_plain(name) for name in names]
    holding = [index for index, name in enumerate(plain) if wanted and wanted in name]
    spellings = [
        (part.strip(), index)
        for index, name in enumerate(plain)
        for part in (name, *name.split(","))
    ]
    near = difflib.get_close_matches(
        wanted, [part for part, _ in spellings], n=_MAX_LISTED
    )
    found = (index for word in near for part, index in spellings if part == word)
    return holding or list(dict.fromkeys(found))


def _listed(indices: Sequence[int], names: Sequence[str]) -> str:
    return ", ".join(f"{index} ({names[index]})" for index in indices[:_MAX_LISTED])
