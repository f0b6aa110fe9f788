"""Parts of figures in one style: the photo, a map over it, colour bars, titles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum_mda.visualize._images import FloatArray
from captum_mda.visualize._text import drawable, is_formula

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR_MAP = "magma"
"""Perceptually uniform, and dark where a patch does not matter."""

SIGNED_COLOUR_MAP = "RdBu_r"
"""White at 0, red for and blue against, distinguishable for colour-blind readers."""

_LEAST_SIDE = 48  # pixels
_NO_LINE, _LEAST_CHANGE = 0.92, 0.04  # share of the photo without lines; of white

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 10, 9, 8  # points


def relative(values: FloatArray) -> FloatArray:
    """Divide a map by its largest absolute value; all zeros stay as they are."""
    largest = np.abs(values).max()
    return values / largest if largest > 0 else values


def is_signed(values: FloatArray) -> bool:
    """Tell whether a map has negative values."""
    return bool(values.min() < 0)


def draw_photo(
    axes: Axes, photo: FloatArray, title: str = "Image", below: str = ""
) -> None:
    """Draw the photo (H, W, 3)."""
    axes.imshow(photo, interpolation="antialiased", extent=_extent(photo))
    _frame(axes, title)
    if below:
        axes.set_xlabel(below, size=TICK_SIZE, labelpad=3)


def draw_map(axes: Axes, photo: FloatArray, values: FloatArray, title: str) -> None:
    """Draw a map in the colours of its bar, under the photo's outlines.

    Args:
        axes (Axes): The axes to draw on.
        photo (ndarray): (H, W, 3) in [0, 1].
        values (ndarray): (h, w), relative to the largest; a map with negative values
            gets the signed colours.
        title (str): The title of the panel.
    """
    extent = _extent(photo)
    axes.imshow(
        _outlines(photo), interpolation="antialiased", extent=extent, zorder=1.0
    )
    signed = is_signed(values)
    axes.imshow(
        values,
        cmap=SIGNED_COLOUR_MAP if signed else COLOUR_MAP,
        vmin=-1.0 if signed else 0.0,
        vmax=1.0,
        interpolation="nearest",
        extent=extent,
        zorder=0.0,
    )
    _frame(axes, title)


def _outlines(photo: FloatArray) -> FloatArray:
    """Draw grey lines where the photo's brightness changes most: RGBA (H, W, 4)."""
    grey = photo @ np.array([0.299, 0.587, 0.114])
    padded = np.pad(grey, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    change = np.hypot(across, down)
    is_line = (change > np.quantile(change, _NO_LINE)) & (change > _LEAST_CHANGE)
    if min(grey.shape) < _LEAST_SIDE:  # lines would be as wide as patches
        is_line[:] = False
    return np.dstack([np.full((*grey.shape, 3), 0.55), 0.6 * is_line])


def draw_colour_bar(axes: Axes, signed: bool = False, horizontal: bool = False) -> None:
    """Draw the colour bar of signed or unsigned maps, relative to their largest."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(-1.0, 1.0), SIGNED_COLOUR_MAP)
        if signed
        else ScalarMappable(Normalize(0.0, 1.0), COLOUR_MAP),
        cax=axes,
        ticks=[-1.0, 0.0, 1.0] if signed else [0.0, 0.5, 1.0],
        orientation="horizontal" if horizontal else "vertical",
    )
    if signed:
        bar.set_ticklabels(["\N{MINUS SIGN}1, against", "0", "1, for"])
    if horizontal:  # keep the outer labels within the bar
        first, *_, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    largest = "largest |attribution|" if signed else "largest"
    bar.set_label(f"attribution / {largest}", size=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    bar.outline.set_linewidth(0.6)


def _extent(photo: FloatArray) -> tuple[float, float, float, float]:
    """Compute the extent that makes a map of any size cover the photo."""
    height, width = photo.shape[:2]
    return 0.0, float(width), float(height), 0.0


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, size=TITLE_SIZE, pad=5, parse_math=is_formula(title))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)


def write_title(figure: Figure, title: str, below_top: float) -> None:
    """Write the title of a figure, at a distance from the top as a share of it."""
    head = drawable(title)
    figure.suptitle(
        head,
        x=0.5,
        y=1.0 - below_top,
        va="top",
        size=12,
        parse_math=is_formula(head),
    )


def write_foot(figure: Figure, text: str, place: tuple[float, float]) -> None:
    """Write small literal text from a place (left, bottom) of a figure on."""
    left, bottom = place
    figure.text(left, bottom, text, va="bottom", size=TICK_SIZE, parse_math=False)
