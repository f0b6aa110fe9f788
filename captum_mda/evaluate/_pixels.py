"""Pixels of any mode that PIL reads, as 8-bit RGB; those without a range, refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor

_WHITE_16 = 65535
_DARK_16 = 4096  # below it, 12 bits in 16 are likelier than a picture of a coal cellar
_DIM_16 = 16384  # below it, 14 bits

# Formats whose 16 bits go from black to white; those of telescopes and satellites hold
# counts. "" is an image that was made in memory.
_FULL_RANGE = ("", "IM", "JPEG2000", "PNG", "PPM", "TIFF")

# TIFF's tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2

RECIPE = (
    "convert it to 8 bits first, LOW being black and HIGH white: a = numpy.asarray("
    "PIL.Image.open(FILE), dtype=float); PIL.Image.fromarray(((a - LOW) / (HIGH - LOW) "
    "* 255).clip(0, 255).astype('uint8')).save('converted.png')"
)
"""How to make a picture of numbers whose range only its owner knows."""


def background_colour(text: str, argument: str = "background") -> tuple[int, int, int]:
    """Read the colour that lies behind transparent pixels.

    Args:
        text (str): A name such as "white", or "#rrggbb".
        argument (str, optional): What errors call it. Default: "background"

    Raises:
        ValueError: It is no opaque colour.

    Example::

        >>> background_colour("#ff8000")
        (255, 128, 0)
    """
    try:
        colour: tuple[int, ...] = ImageColor.getrgb(text.strip())
    except ValueError:
        colour = ()
    if len(colour) != 3:
        raise ValueError(
            f"{argument}: got {text!r}, takes an opaque colour, such as white, black "
            "or #808080"
        )
    return colour[0], colour[1], colour[2]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How an opened file stores its pixels, read before PIL loads them.

    Args:
        mode (str): PIL's mode.
        format (str): PIL's name of the format; "" where there is none.
        raw_mode (str): What PIL's decoder unpacks, such as "RGB;16B".
        tags (mapping): A TIFF's tags, by number.
        n_frames (int): Pictures in the file.
    """

    mode: str
    format: str
    raw_mode: str
    tags: Mapping[int, Any] = field(default_factory=dict)
    n_frames: int = 1

    @property
    def has_range(self) -> bool:
        """Whether numbers of the mode have a black and a white of their own."""
        if self.mode == "F" or _SIGNED in _numbers(self.tags.get(_SAMPLE_FORMAT)):
            return False
        # Older releases of PIL read 16-bit PNG into 32 bits, and all read PGM so.
        if self.mode == "I":
            return self.format in ("PNG", "PPM")
        return not self.is_16_bit_grey or self.format in _FULL_RANGE

    @property
    def is_16_bit_grey(self) -> bool:
        """Whether the pixels are 16-bit grey, which PIL does not scale."""
        return self.mode.startswith("I")

    @property
    def white(self) -> int:
        """What stands for white in 16-bit grey."""
        bits = _numbers(self.tags.get(_BITS_PER_SAMPLE))
        return 2 ** bits[0] - 1 if len(bits) == 1 and 8 < bits[0] < 16 else _WHITE_16

    @property
    def white_is_zero(self) -> bool:
        """Whether small numbers are bright; PIL turns 8 bits round, and not 16."""
        return self.is_16_bit_grey and self.tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _numbers(value: Any) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return value
    return () if value is None else (int(value),)


def stored(image: Image.Image) -> Stored:
    """Tell how a file stores its pixels.

    Args:
        image (Image): As `PIL.Image.open` returns it, not loaded yet.
    """
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    arguments = tiles[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return Stored(
        mode=image.mode,
        format=image.format or "",
        raw_mode=first if isinstance(first, str) else "",
        tags=getattr(image, "tag_v2", None) or {},
        n_frames=_n_frames(image),
    )


def _n_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a later frame is damaged; the first may be whole
        return 1


def to_rgb(
    image: Image.Image, how: Stored, background: tuple[int, int, int] = (255, 255, 255)
) -> tuple[Image.Image, list[str]]:
    """Turn an image into 8-bit RGB.

    16-bit grey is scaled from its own range, 0 to 65535 or what the file says, and
    transparent pixels are laid over a colour. Of several frames the first is taken.

    Args:
        image (Image): A loaded image of any mode.
        how (Stored): What `stored` says of its file.
        background (tuple[int, int, int], optional): The colour. Default: white

    Returns:
        *tuple*: the image, and what its reader should know, one line each.

    Raises:
        ValueError: The pixels have no defined range: 32-bit integers, floats, signed
            numbers, and 16 bits of which only the lowest 12 are used.

    Example::

        >>> grey = Image.new("I;16", (1, 1), 128 * 257)
        >>> to_rgb(grey, stored(grey))[0].getpixel((0, 0))
        (128, 128, 128)
    """
    if not how.has_range:
        raise ValueError(_without_range(image, how))
    if how.is_16_bit_grey:
        image, brightest = _from_16_bits(image, how)
    else:
        brightest = _brightest(image) if "16" in how.raw_mode else _WHITE_16
    notes = []
    if how.n_frames > 1 and how.format != "MPO":  # a phone's photo with its preview
        notes.append(f"it has {how.n_frames} frames, of which the first is read")
    if 0 < brightest < _DARK_16:
        raise ValueError(
            f"its 16-bit numbers end at {brightest:,} of 65,535, which is nearly "
            f"black; they seem to be of fewer bits; {RECIPE}"
        )
    if 0 < brightest < _DIM_16:
        notes.append(
            f"its 16-bit numbers end at {brightest:,} and are read as dark, with "
            "65,535 as white; convert it to 8 bits if they are of fewer bits"
        )
    return _opaque(image, background), notes


def _without_range(image: Image.Image, how: Stored) -> str:
    values = np.asarray(image.convert("I") if how.is_16_bit_grey else image)
    low, high = values.min(), values.max()
    numbers = "integers of 16 or 32 bits"
    what = {"F": "floating-point numbers", "I": numbers, "I;16": numbers}
    return (
        f"its pixels are {what.get(how.mode, 'signed integers')} from {low:g} to "
        f"{high:g} (mode {how.mode}), which have no defined black and white; {RECIPE}"
    )


def _from_16_bits(image: Image.Image, how: Stored) -> tuple[Image.Image, int]:
    """Scale 16-bit grey to 8 bits, and tell how much of 65535 it reaches."""
    values: npt.NDArray[np.int64] = np.asarray(image.convert("I")).astype(np.int64)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else np.uint8(255) * (values != transparent)
    values = values * _WHITE_16 // how.white
    if how.white_is_zero:
        values = _WHITE_16 - values
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if alpha is not None:
        grey.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return grey, int(values.max(initial=0))


def _brightest(image: Image.Image) -> int:
    """Tell how much of 65535 an image of 16 bits reaches, of which PIL keeps eight."""
    bands: list[Image.Image] = [
        band
        for name, band in zip(image.getbands(), image.split(), strict=True)
        if name not in ("A", "a")
    ]
    if image.mode == "CMYK":  # of ink: none is white
        return _WHITE_16
    highest = max(int(np.asarray(band).max(initial=0)) for band in bands)
    return highest * 257 or 255  # where the upper eight bits are never used


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if not has_alpha and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode == "La":  # premultiplied, for which PIL has one conversion alone
        image = image.convert("LA")
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
