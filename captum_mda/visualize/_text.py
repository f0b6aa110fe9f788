"""Text that the fonts of a figure can draw."""

from __future__ import annotations

from textwrap import wrap

_MISSING = "\N{WHITE SQUARE}"


def drawable(text: str) -> str:
    r"""Replace each character that no font in use has by a square.

    matplotlib warns about such characters; names of photos and classes should not cause
    warnings.

    Args:
        text (str): Text for the default font and its fallbacks.

    Returns:
        *str*: the text in the same lines, with spaces instead of tabs.

    Example::

        >>> drawable("a cat, café\t1")
        'a cat, café 1'
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import findfont, FontProperties, get_font

    families = rcParams["font.family"]
    paths = {findfont(FontProperties(family=[family])) for family in families}
    fonts = [get_font(path) for path in sorted(paths)]
    return "".join(
        character
        if character == "\n"
        else " "
        if character.isspace()
        else character
        if any(font.get_char_index(ord(character)) for font in fonts)
        else _MISSING
        for character in text
    )


def literal(text: str, n_letters: int) -> str:
    r"""Wrap text without formulas, for drawing with ``parse_math=False``.

    Args:
        text (str): The text; its line breaks are kept, ``\$`` is a dollar sign.
        n_letters (int): The largest number of letters per line; longer words are
            broken.

    Returns:
        *str*: the text in lines, without characters that the fonts lack.

    Example::

        >>> literal("a cat for $5, and a dog for $6", 16)
        'a cat for $5,\nand a dog for $6'
    """
    lines = drawable(text.replace(r"\$", "$")).split("\n")
    return "\n".join("\n".join(wrap(line, max(n_letters, 1))) for line in lines)


def is_formula(text: str) -> bool:
    """Tell whether matplotlib can parse the formulas between dollar signs."""
    from matplotlib.mathtext import MathTextParser

    if "$" not in text:
        return False
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return True
