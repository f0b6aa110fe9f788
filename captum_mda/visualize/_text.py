"""Text that the fonts of a figure can show."""

from __future__ import annotations

from textwrap import wrap

_MISSING = "\N{WHITE SQUARE}"


def drawable(text: str) -> str:
    r"""Put a square in place of each character that no font in use has.

    matplotlib warns of each such character and draws a square of its own; a photo's
    name, or a class's, is no reason for warnings.

    Args:
        text (str): What is to be drawn in the default font and its fallbacks.

    Returns:
        *str*: the text, its lines as they were, with spaces in place of tabs.

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
    r"""Wrap text that holds no formulas, to be drawn with ``parse_math=False``.

    Args:
        text (str): What is to be drawn; its line breaks stay, ``\$`` is a dollar.
        n_letters (int): The most letters on a line; longer words are broken.

    Returns:
        *str*: the text in lines that every font can show.

    Example::

        >>> literal("a cat for $5, and a dog for $6", 16)
        'a cat for $5,\nand a dog for $6'
    """
    lines = drawable(text.replace(r"\$", "$")).split("\n")
    return "\n".join("\n".join(wrap(line, max(n_letters, 1))) for line in lines)


def is_formula(text: str) -> bool:
    """Tell whether matplotlib can read all formulas between the text's dollars."""
    from matplotlib.mathtext import MathTextParser

    if "$" not in text:
        return False
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return True
