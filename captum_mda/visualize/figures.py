"""The figure of one explanation: its maps and its response curves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captum_mda._checks import (
    is_integer,
    require_in_unit_interval,
    require_positive_number,
    require_type,
)
from captum_mda._files import replacing
from captum_mda.attr import MDAExplanation
from captum_mda.metrics import PerturbationScores
from captum_mda.visualize import _curves, _panels
from captum_mda.visualize._images import as_photo, FloatArray
from captum_mda.visualize._text import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_mda.visualize._images import ImageLike

_GREY = 0.85  # the colour of patches that are left out

_NAMES = {0.0: "Sparse", 0.5: "Half", 1.0: "Dense"}

# The layout, in inches. The panels of both rows have the same outer edges.
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _TOP, _TITLE = 12.0, 0.62, 0.62, 0.52, 0.32, 0.3
_FOOT_LINE, _FOOT_PAD, _FOOT_LETTERS = 0.135, 0.15, 170  # letters of the full width
_GAP, _BAR, _ROW_GAP, _CURVE_HEIGHT, _CURVE_GAP = 0.1, 0.11, 0.85, 2.35, 0.62


def explanation_figure(
    image: ImageLike,
    explanation: MDAExplanation,
    index: int = 0,
    title: str | None = None,
    gammas: Sequence[float] = (0.0, 1.0),
    kappa: float = 0.005,
    scores: PerturbationScores | None = None,
    caption: str | None = None,
    share: float = 0.9,
    insertion_baseline: ImageLike | None = None,
    deletion_baseline: ImageLike | None = None,
) -> Figure:
    r"""Draw a photo, its maps, its sufficient patches, and the response curves.

    Each map is divided by its largest value and drawn in the colours of the bar, under
    the photo's outlines. Beside the maps are the photo with only the smallest
    sufficient patches kept (`MDAExplanation.sufficient_patches`), and the photo with
    them removed. The panels of curves show the response, the density response (dashed;
    the share of the map's total that is present), and the gap between them, which the
    magnitude-aligned score (MAS) penalises. A dotted line marks where the search
    changed from insertion to deletion.

    The figure is independent of `pyplot` and has no window.

    Args:
        image (Tensor, ndarray or PIL.Image.Image): The photo, (3, H, W) or (H, W, 3) in
            [0, 1], as the model saw it; see `denormalize`. Its size may differ from
            the inputs' size.
        explanation (MDAExplanation): The explanation of a batch of images.
        index (int, optional): The index of the example. Default: 0
        title (str, optional): The title of the figure. Default: None
        gammas (sequence of float, optional): The maps to draw, from sparse, 0, to
            dense, 1. Default: (0.0, 1.0)
        kappa (float, optional): See `MDAExplanation.attributions`. Default: 0.005
        scores (PerturbationScores, optional): The metrics of a map of the same batch,
            whose curves are drawn. None: the curves that the search has computed, patch
            by patch, with the density of the first map. Default: None
        caption (str, optional): Small text at the foot, wrapped to the width, for
            example the model, the method, its ordering, the baselines and the crop.
            Dollar signs are drawn literally. Default: None
        share (float, optional): The share of the image's score that sufficient patches
            restore, in [0, 1]. Default: 0.9
        insertion_baseline (Tensor, ndarray or PIL.Image.Image, optional): The image
            that replaces patches that are not kept, in the photo's form and size. None:
            grey, which the model has not seen. Default: None
        deletion_baseline (Tensor, ndarray or PIL.Image.Image, optional): The image that
            replaces removed patches, likewise. Default: None

    Returns:
        *matplotlib.figure.Figure*: the figure, 12 inches wide, its axes in the order of
        the photo, the maps, the kept and the removed patches, the colour bar, and the
        two curves; see `save_figure`.

    Raises:
        IndexError: There is no such example.
        TypeError, ValueError: The image cannot be drawn; the explanation is not of
            images; a baseline has another size than the image; or ``gammas``, ``kappa``
            or ``share`` is out of its range.

    Example::

        >>> import torch
        >>> from captum_mda import MetricDrivenAttribution, patch_feature_mask
        >>> image = torch.ones(1, 3, 8, 8)
        >>> mda = MetricDrivenAttribution(lambda x: x[..., :4].sum((1, 2, 3)))
        >>> explanation = mda.explain(image, feature_mask=patch_feature_mask(image, 4))
        >>> figure = explanation_figure(image[0], explanation, title="A white square")
        >>> [axes.get_title() for axes in figure.axes][:2]
        ['Image', 'Sparse map ($\\gamma$ = 0)']
    """
    from matplotlib.figure import Figure

    photo = as_photo(image)
    _check(explanation, index, gammas, kappa, scores)
    maps = [_relative_map(explanation, index, gamma, kappa) for gamma in gammas]
    curves = (
        _curves.explanation_curves(explanation, index, gammas[0], kappa)
        if scores is None
        else _curves.scored_curves(scores, index)
    )
    panels = _kept_and_removed(
        photo, explanation, index, share, insertion_baseline, deletion_baseline
    )
    foot = "" if caption is None else literal(caption, _FOOT_LETTERS)
    layout = _Layout(
        n_panels=1 + len(maps) + len(panels),
        aspect=photo.shape[0] / photo.shape[1],
        has_title=title is not None,
        n_foot_lines=foot.count("\n") + 1 if foot else 0,
    )
    figure = Figure(figsize=(_WIDTH, layout.height))
    photo_axes, *axes_of_panels = (
        figure.add_axes(layout.panel(place)) for place in range(layout.n_panels)
    )
    _panels.draw_photo(photo_axes, photo)
    for axes, values, gamma in zip(axes_of_panels, maps, gammas, strict=False):
        name = _NAMES.get(gamma, "Blended")
        _panels.draw_map(axes, photo, values, rf"{name} map ($\gamma$ = {gamma:g})")
    for axes, panel in zip(axes_of_panels[len(maps) :], panels, strict=True):
        _panels.draw_photo(axes, panel.colours, panel.title, panel.below)
    _panels.draw_colour_bar(figure.add_axes(layout.colour_bar()))
    for place, curve in enumerate(curves):
        _draw_panel(
            figure.add_axes(layout.curve(place)), curve, explanation, index, share
        )
    _write(figure, layout, title, foot)
    return figure


def _write(figure: Figure, layout: _Layout, title: str | None, foot: str) -> None:
    """Write the title and the foot, where there are any."""
    if title is not None:
        _panels.write_title(figure, title, 0.09 / layout.height)
    if foot:
        _panels.write_foot(
            figure, foot, (_LEFT / _WIDTH, _FOOT_PAD / 2 / layout.height)
        )


def _draw_panel(
    axes: Axes,
    curve: _curves.DrawnCurve,
    explanation: MDAExplanation,
    index: int,
    share: float,
) -> None:
    """Draw the panel of an example's insertion or deletion curve."""
    n_features = explanation.features.n_features
    _curves.draw_curves(axes, curve, int(explanation.n_inserted[index]), n_features)
    if curve.mode == "insertion":
        n_sufficient = int(explanation.sufficient_patches(share)[index])
        _curves.draw_sufficient(axes, n_sufficient, n_features, share)
    _curves.draw_legend(axes)


def save_figure(
    figure: Figure, path: str | os.PathLike[str], dpi: float = 150.0
) -> None:
    """Write a figure; the ending of the name determines the format.

    A temporary file is written and renamed, so that the file is always complete.

    Args:
        figure (matplotlib.figure.Figure): The figure.
        path (str or PathLike): The path, for example ``mda.png`` or ``mda.pdf``; an
            existing file is replaced and keeps its mode, a symbolic link is followed.
        dpi (float, optional): Dots per inch. Default: 150.0

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The ending names no known format, or ``path`` exists and is no
            regular file.

    Example::

        >>> import tempfile
        >>> from matplotlib.figure import Figure
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_figure(Figure(figsize=(1, 1)), f"{folder}/empty.png")
    """
    if not hasattr(figure, "savefig"):
        raise TypeError(
            f"figure: got {type(figure).__name__}, takes a matplotlib figure"
        )
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: got {path!r}, takes the path of a file")
    dpi = require_positive_number("dpi", dpi)
    formats = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise ValueError(
            f"path: got {os.fspath(path)!r}, takes a name that ends in one of "
            f"{', '.join(f'.{name}' for name in sorted(formats))}"
        )
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi)


class _Layout:
    """The places of panels, in fractions of the figure as in `Figure.add_axes`."""

    def __init__(
        self, n_panels: int, aspect: float, has_title: bool, n_foot_lines: int
    ) -> None:
        self.n_panels = n_panels
        self.bottom = _BOTTOM
        if n_foot_lines:
            self.bottom += n_foot_lines * _FOOT_LINE + _FOOT_PAD
        inner = _WIDTH - _LEFT - _RIGHT
        self.panel_width = (inner - _BAR - n_panels * _GAP) / n_panels
        self.panel_height = self.panel_width * min(max(aspect, 0.5), 2.0)
        self.row = self.bottom + _CURVE_HEIGHT + _ROW_GAP  # bottom of the upper row
        self.height = self.row + self.panel_height + _TOP + _TITLE * has_title
        self.curve_width = (inner - _CURVE_GAP) / 2

    def panel(self, place: int) -> tuple[float, float, float, float]:
        left = _LEFT + place * (self.panel_width + _GAP)
        return self._box(left, self.row, self.panel_width, self.panel_height)

    def colour_bar(self) -> tuple[float, float, float, float]:
        return self._box(_WIDTH - _RIGHT - _BAR, self.row, _BAR, self.panel_height)

    def curve(self, place: int) -> tuple[float, float, float, float]:
        left = _LEFT + place * (self.curve_width + _CURVE_GAP)
        return self._box(left, self.bottom, self.curve_width, _CURVE_HEIGHT)

    def _box(
        self, left: float, bottom: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        across, up = 1 / _WIDTH, 1 / self.height
        return left * across, bottom * up, width * across, height * up


def _check(
    explanation: MDAExplanation,
    index: int,
    gammas: Sequence[float],
    kappa: float,
    scores: PerturbationScores | None,
) -> None:
    require_type("explanation", explanation, MDAExplanation, "an MDAExplanation")
    shapes = explanation.features.shapes
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            f"explanation: explains inputs of shapes {[tuple(s) for s in shapes]}, and "
            "figures are drawn of images, one tensor (B, C, H, W)"
        )
    n_examples = len(explanation.order)
    if not is_integer(index):
        raise TypeError(f"index: got {index!r}, takes an integer")
    if not 0 <= index < n_examples:
        raise IndexError(f"index: got {index}, takes 0 to {n_examples - 1}")
    if isinstance(gammas, str) or not isinstance(gammas, Sequence):
        raise TypeError(f"gammas: got {gammas!r}, takes a sequence of numbers")
    if len(gammas) == 0:
        raise ValueError("gammas: got none, takes at least one number from 0 to 1")
    for gamma in gammas:
        require_in_unit_interval("gammas", gamma)
    require_in_unit_interval("kappa", kappa)
    if scores is None:
        return
    require_type("scores", scores, PerturbationScores, "PerturbationScores")
    if len(scores.insertion) != n_examples:
        raise ValueError(
            f"scores: of {len(scores.insertion)} examples, takes those of the "
            f"explanation's {n_examples}"
        )


def _relative_map(
    explanation: MDAExplanation, index: int, gamma: float, kappa: float
) -> FloatArray:
    """Paint one map and divide it by its largest value: (H, W) in [0, 1]."""
    painted = explanation.attributions(gamma, kappa)
    values = painted if isinstance(painted, Tensor) else painted[0]
    channels: FloatArray = values[index].detach().double().cpu().numpy()
    return _panels.relative(channels.mean(axis=0))


@dataclass(frozen=True)
class _Panel:
    """A photo with replaced patches, (H, W, 3), and its text."""

    colours: FloatArray
    title: str
    below: str


def _kept_and_removed(
    photo: FloatArray,
    explanation: MDAExplanation,
    index: int,
    share: float,
    insertion_baseline: ImageLike | None,
    deletion_baseline: ImageLike | None,
) -> tuple[_Panel, _Panel]:
    """Make the photos of the smallest sufficient patches, and of all the others."""
    count = int(explanation.sufficient_patches(share)[index])
    kept = _mask_of(explanation, index, count, (photo.shape[0], photo.shape[1]))
    hidden, rest = _replacement("insertion_baseline", insertion_baseline, photo)
    gone, there = _replacement("deletion_baseline", deletion_baseline, photo)
    n_features = explanation.features.n_features
    return (
        _Panel(
            kept * photo + (1 - kept) * hidden,
            f"Only {count} of {n_features} patches",
            f"restore {100 * share:g} % of the score;\nrest: {rest}",
        ),
        _Panel(
            (1 - kept) * photo + kept * gone,
            f"Without these {count}",
            f"removed patches:\n{there}",
        ),
    )


def _mask_of(
    explanation: MDAExplanation, index: int, count: int, size: tuple[int, int]
) -> FloatArray:
    """Mark the first patches of an order: (H, W, 1) at the photo's size, 1 if kept."""
    marks = torch.zeros(explanation.order.shape)
    marks[index, explanation.order[index, :count]] = 1.0
    (painted,) = explanation.features.paint(
        marks.to(explanation.features.masks[0].device)
    )
    plane = painted[index].double().mean(0).cpu().numpy()
    rows = np.arange(size[0]) * plane.shape[0] // size[0]
    columns = np.arange(size[1]) * plane.shape[1] // size[1]
    marked: FloatArray = plane[rows][:, columns, None]
    return marked


def _replacement(
    name: str, baseline: ImageLike | None, photo: FloatArray
) -> tuple[FloatArray, str]:
    """Convert the image that replaces patches, and name it."""
    if baseline is None:
        return np.full_like(photo, _GREY), "left blank"
    try:
        colours = as_photo(baseline)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {str(error).removeprefix('image: ')}") from error
    if colours.shape != photo.shape:
        raise ValueError(
            f"{name}: got {colours.shape[:2]} pixels, takes as many as the image has, "
            f"{photo.shape[:2]}"
        )
    return colours, name.replace("_", " ")
