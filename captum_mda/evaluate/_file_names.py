"""Names of files: those that are written, and how any file's name is shown."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

# File systems take 255 bytes; "-compare.png" and a number are appended.
_MAX_BYTES = 230
_DIGEST = 8  # hexadecimal digits that tell shortened names apart


def showable(text: str) -> str:
    r"""Write a text so that any UTF-8 file or terminal takes it, on one line.

    Args:
        text (str): A file's name, or a message that has one in it. Bytes of a name that
            are not UTF-8 are surrogates in it, as `os.fsdecode` makes them.

    Returns:
        *str*: the text, with escapes in place of such bytes and of control characters.

    Example::

        >>> showable("caf\udce9\n.png")
        'caf\\xe9\\n.png'
    """
    decoded = text.encode("utf-8", "surrogateescape" if _escaped(text) else "replace")
    return "".join(
        character.encode("unicode_escape").decode()
        if _is_control(character)
        else character
        for character in decoded.decode("utf-8", "backslashreplace")
    )


def _escaped(text: str) -> bool:
    """Tell whether all surrogates are those that stand for bytes."""
    return all(
        "\udc80" <= character <= "\udcff"
        for character in text
        if "\ud800" <= character <= "\udfff"
    )


def _is_control(character: str) -> bool:
    # Format characters too: some of them turn the direction of what follows.
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def safe_name(path: Path) -> str:
    r"""Name the files that are written for a file, without their endings.

    Args:
        path (Path): The file.

    Returns:
        *str*: its stem. Bytes that are not UTF-8 and control characters become
        underscores; a name of more than 230 bytes is cut, and ends in a digest of it.

    Example::

        >>> safe_name(Path("a/caf\udce9\n.png"))
        'caf__'
        >>> safe_name(Path("x" * 250 + ".png"))[-12:]
        'xxx-086d4a1c'
    """
    stem = path.stem
    name = "".join(
        "_"
        if _is_control(character) or "\ud800" <= character <= "\udfff"
        else character
        for character in stem
    )
    encoded = name.encode()
    if len(encoded) <= _MAX_BYTES:
        return name
    digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    kept = encoded[: _MAX_BYTES - _DIGEST - 1].decode(errors="ignore")
    return f"{kept}-{digest}"


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Name what is written for each file, and number names that are taken.

    Args:
        paths (sequence of Path): Files, perhaps of several folders.

    Returns:
        *list[str]*: names as of `safe_name`, which differ even where capitals do not
        count.

    Example::

        >>> unique_names([Path("a/dog.png"), Path("b/dog.jpg"), Path("dog-2.png")])
        ['dog', 'dog-3', 'dog-2']
    """
    wanted = [safe_name(path) for path in paths]
    reserved = {name.casefold() for name in wanted}
    taken: set[str] = set()
    names = []
    for base in wanted:
        name, number = base, 2
        while name.casefold() in taken or (
            name != base and name.casefold() in reserved
        ):
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names
