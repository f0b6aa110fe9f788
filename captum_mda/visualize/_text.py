"""Text that the fonts of a figure can show."""

from __future__ import annotations

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
