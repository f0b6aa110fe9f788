"""The figure of one explanation: its maps, and the curves that they answer to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from captum_mda._checks import (
    is_integer,
    require_in_unit_interval,
    require_positive_number,
)
from captum_mda._files import replacing
from captum_mda.attr import MDAExplanation
from captum_mda.metrics import PerturbationScores
from captum_mda.visualize._curves import draw_curves, explanation_curves, scored_curves
from captum_mda.visualize._images import as_photo, denormalize, FloatArray
from captum_mda.visualize._panels import (
    draw_colour_bar,
    draw_map,
    draw_photo,
    relative,
)
from captum_mda.visualize._text import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_mda.visualize._images import Picture

__all__ = ["denormalize", "explanation_figure", "save_figure"]

_NAMES = {0.0: "Sparse", 0.5: "Half", 1.0: "Dense"}

# The layout, in inches. Everything is placed by hand: the panels of both rows share
# their outer edges, whatever the labels are.
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _TOP, _TITLE = 10.0, 0.62, 0.62, 0.52, 0.32, 0.3
_GAP, _BAR, _ROW_GAP, _CURVE_HEIGHT, _CURVE_GAP = 0.1, 0.11, 0.5, 2.35, 0.62


def explanation_figure(
    image: Picture,
    explanation: MDAExplanation,
    index: int = 0,
    title: str | None = None,
    gammas: Sequence[float] = (0.0, 0.5, 1.0),
    kappa: float = 0.005,
    scores: PerturbationScores | None = None,
) -> Figure:
    r"""Draw a photo, its attribution maps, and the response and density curves.

    Each map is divided by its largest value and laid over the grey photo. A curve shows
    the response, dashed the density response (the share of the attribution that is
    present), and between them the alignment penalty. A dotted line marks where the
    search went over from insertion to deletion.

    The figure belongs to no window and to no `pyplot` state; it is freed like any
    object.

    Args:
        image (Tensor, ndarray or PIL.Image.Image): The photo, (3, H, W) or (H, W, 3) in
            [0, 1], as the model saw it; see `denormalize`. Its size may be another than
            the inputs'.
        explanation (MDAExplanation): What was found out about a batch of images.
        index (int, optional): Which example of the batch. Default: 0
        title (str, optional): Written over the figure. Default: None
        gammas (sequence of float, optional): The maps to draw, from sparse, 0, to
            dense, 1. Default: (0.0, 0.5, 1.0)
        kappa (float, optional): As for `MDAExplanation.attributions`. Default: 0.005
        scores (PerturbationScores, optional): The metrics of a map of the same batch,
            whose curves are drawn. None: the curves that the search has met, patch by
            patch, with the density of the first map. Default: None

    Returns:
        *matplotlib.figure.Figure*: the figure, 10 inches wide; see `save_figure`.

    Raises:
        IndexError: There is no such example.
        TypeError, ValueError: The image, or the explanation of something else than
            images, cannot be drawn; or ``gammas`` or ``kappa`` is out of its range.

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
        explanation_curves(explanation, index, gammas[0], kappa)
        if scores is None
        else scored_curves(scores, index)
    )
    layout = _Layout(
        n_panels=1 + len(maps),
        aspect=photo.shape[0] / photo.shape[1],
        has_title=title is not None,
    )
    figure = Figure(figsize=(_WIDTH, layout.height))
    photo_axes, *map_axes = (
        figure.add_axes(layout.panel(place)) for place in range(1 + len(maps))
    )
    draw_photo(photo_axes, photo)
    for axes, values, gamma in zip(map_axes, maps, gammas, strict=True):
        name = _NAMES.get(gamma, "Blended")
        draw_map(axes, photo, values, rf"{name} map ($\gamma$ = {gamma:g})")
    draw_colour_bar(figure.add_axes(layout.colour_bar()))
    n_features = explanation.features.n_features
    n_inserted = int(explanation.n_inserted[index])
    for place, curve in enumerate(curves):
        axes = figure.add_axes(layout.curve(place))
        draw_curves(axes, curve, n_inserted, n_features)
    if title is not None:
        top = 1.0 - 0.2 / layout.height
        figure.suptitle(drawable(title), x=0.5, y=top, va="center", size=12)
    return figure


def save_figure(
    figure: Figure, path: str | os.PathLike[str], dpi: float = 150.0
) -> None:
    """Write a figure; the format follows from the name's ending.

    The file is written beside ``path`` and renamed: it is whole, or not there.

    Args:
        figure (matplotlib.figure.Figure): The figure.
        path (str or PathLike): Where to, for example ``mda.png`` or ``mda.pdf``; an
            existing file is replaced and keeps its mode, a symbolic link is followed.
        dpi (float, optional): Dots per inch. Default: 150.0

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: No figure is written in a format of that name, or there is
            something else than a file.

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
    """Where things stand, in fractions of the figure as `Figure.add_axes` wants."""

    def __init__(self, n_panels: int, aspect: float, has_title: bool) -> None:
        inner = _WIDTH - _LEFT - _RIGHT
        self.panel_width = (inner - _BAR - n_panels * _GAP) / n_panels
        self.panel_height = self.panel_width * min(max(aspect, 0.5), 2.0)
        self.row = _BOTTOM + _CURVE_HEIGHT + _ROW_GAP  # bottom of the upper row
        self.height = self.row + self.panel_height + _TOP + _TITLE * has_title
        self.curve_width = (inner - _CURVE_GAP) / 2

    def panel(self, place: int) -> tuple[float, float, float, float]:
        left = _LEFT + place * (self.panel_width + _GAP)
        return self._box(left, self.row, self.panel_width, self.panel_height)

    def colour_bar(self) -> tuple[float, float, float, float]:
        return self._box(_WIDTH - _RIGHT - _BAR, self.row, _BAR, self.panel_height)

    def curve(self, place: int) -> tuple[float, float, float, float]:
        left = _LEFT + place * (self.curve_width + _CURVE_GAP)
        return self._box(left, _BOTTOM, self.curve_width, _CURVE_HEIGHT)

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
    if not isinstance(explanation, MDAExplanation):
        raise TypeError(
            f"explanation: got {type(explanation).__name__}, takes an MDAExplanation"
        )
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
    if scores is not None and not isinstance(scores, PerturbationScores):
        raise TypeError(
            f"scores: got {type(scores).__name__}, takes PerturbationScores"
        )
    if scores is not None and len(scores.insertion) != n_examples:
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
    return relative(channels.mean(axis=0))
