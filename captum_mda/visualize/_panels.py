"""One panel of a figure: the photo, or a map laid over it, in the same style always."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum_mda.visualize._images import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOUR_MAP = "magma"
"""Perceptually uniform, and dark where a patch does not matter."""

SIGNED_COLOUR_MAP = "RdBu_r"
"""White at 0, red for and blue against, which colour-blind readers tell apart."""

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 10, 9, 8  # points


def relative(values: FloatArray) -> FloatArray:
    """Divide a map by its largest absolute value; all zeros stay as they are."""
    largest = np.abs(values).max()
    return values / largest if largest > 0 else values


def is_signed(values: FloatArray) -> bool:
    """Tell whether a map also says what speaks against."""
    return bool(values.min() < 0)


def draw_photo(axes: Axes, photo: FloatArray) -> None:
    """Draw the photo (H, W, 3) as it is."""
    axes.imshow(photo, interpolation="antialiased", extent=_extent(photo))
    _frame(axes, "Image")


def draw_map(axes: Axes, photo: FloatArray, values: FloatArray, title: str) -> None:
    """Colour the grey photo by a map, the stronger the more a place matters.

    Args:
        axes (Axes): Where to.
        photo (ndarray): (H, W, 3) in [0, 1].
        values (ndarray): (h, w), relative to the largest; with negative values it gets
            the signed colours.
        title (str): What stands above.
    """
    grey = photo @ np.array([0.299, 0.587, 0.114])
    extent = _extent(photo)
    axes.imshow(
        0.3 + 0.7 * grey,  # lifted, so that colours stay readable on shadows
        cmap="gray",
        vmin=0.0,
        vmax=1.0,
        interpolation="antialiased",
        extent=extent,
    )
    signed = is_signed(values)
    axes.imshow(
        values,
        cmap=SIGNED_COLOUR_MAP if signed else COLOUR_MAP,
        vmin=-1.0 if signed else 0.0,
        vmax=1.0,
        # What does not matter shows the photo.
        alpha=0.45 + 0.35 * np.abs(values) if signed else 0.42 + 0.2 * values,
        interpolation="nearest",
        extent=extent,
    )
    _frame(axes, title)


def draw_colour_bar(axes: Axes, signed: bool = False, horizontal: bool = False) -> None:
    """Draw the legend of a kind of maps, which are all relative to their largest."""
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
    if horizontal:  # a legend is as wide as its bar
        first, *_, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    largest = "largest |attribution|" if signed else "largest"
    bar.set_label(f"attribution / {largest}", size=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    bar.outline.set_linewidth(0.6)


def _extent(photo: FloatArray) -> tuple[float, float, float, float]:
    """Let maps and photo cover one another, whatever their numbers of pixels."""
    height, width = photo.shape[:2]
    return 0.0, float(width), float(height), 0.0


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, size=TITLE_SIZE, pad=5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
