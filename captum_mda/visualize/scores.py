"""The figure of one example's scores: the curves that they are read off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TYPE_CHECKING

import numpy as np
import torch

from captum_mda._checks import require_index, type_of
from captum_mda.metrics import (
    MaskedHits,
    PerturbationScores,
    ResponseCurve,
    SegmentationScores,
    TokenDeletion,
)
from captum_mda.visualize._curves import (
    DENSITY_COLOUR,
    draw_curves,
    draw_legend,
    frame_curves,
    RESPONSE_COLOUR,
    scored_curve,
)
from captum_mda.visualize._images import FloatArray
from captum_mda.visualize._text import drawable, is_formula

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.0, 3.2  # of a panel, in inches


def scores_figure(scores: Any, index: int = 0, title: str | None = None) -> Figure:
    """Draw what the scores of one example are read off.

    Of `PerturbationScores` and a `ResponseCurve` these are the response and the density
    response, and between them the alignment penalty; of `MaskedHits` and
    `TokenDeletion` what the model says with growing shares of the features gone; of
    `SegmentationScores` the scores themselves. ``scores.plot(index)`` is the same.

    Args:
        scores (PerturbationScores, ResponseCurve, MaskedHits, ...): The scores of a
            batch.
        index (int, optional): Which example of it; negative from the end. Default: 0
        title (str, optional): Written over the figure. Default: None

    Returns:
        *matplotlib.figure.Figure*: of one panel, 5 inches wide, or of two; see
        `save_figure`.

    Raises:
        TypeError: ``scores`` is none of these, or the index no integer.
        IndexError: There is no such example.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> scores = metrics.perturbation_scores(lambda x: x.sum(dim=1), x, x)
        >>> figure = scores_figure(scores)
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['fraction of features inserted', 'fraction of features deleted']
    """
    draw = next((d for each, d in _PANELS.items() if isinstance(scores, each)), None)
    if draw is None:
        names = ", ".join(each.__name__ for each in _PANELS)
        raise TypeError(f"scores: got {type_of(scores)}, takes one of {names}")
    try:
        row = require_index("index", index, len(scores))
    except ValueError as error:
        raise IndexError(str(error)) from None
    from matplotlib.figure import Figure

    panels = draw(scores, row)
    figure = Figure(figsize=(_WIDTH * len(panels), _HEIGHT), layout="constrained")
    for place, panel in enumerate(panels, 1):
        panel(figure.add_subplot(1, len(panels), place))
    if title is not None:
        head = drawable(title)
        figure.suptitle(head, size=12, parse_math=is_formula(head))
    return figure


Panels = list[Callable[["Axes"], None]]


def _of_scores(scores: PerturbationScores, row: int) -> Panels:
    both = (scores.insertion_curve, scores.deletion_curve)
    return [panel for curve in both for panel in _of_curve(curve, row)]


def _of_curve(curve: ResponseCurve, row: int) -> Panels:
    drawn = scored_curve(curve, row, "features")
    raw = "raw " * bool(torch.equal(curve.raw[row], curve.response[row]))

    def draw(axes: Axes) -> None:
        draw_curves(axes, drawn)
        axes.set_ylabel(f"{raw}response", size=9)
        axes.set_ylim(*_limits(drawn.response, drawn.density))
        draw_legend(axes)

    return [draw]


def _limits(*lines: FloatArray) -> tuple[float, float]:
    """Leave room for raw scores outside of [0, 1]."""
    values = np.concatenate([line[np.isfinite(line)] for line in lines])
    low, high = float(values.min(initial=0.0)), float(values.max(initial=1.0))
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _of_hits(scores: MaskedHits, row: int) -> Panels:
    def draw(axes: Axes) -> None:
        label = f"target is the first class, area {float(scores.area[row]):.3f}"
        _draw_shares(axes, scores, row, [(scores.hits, label, RESPONSE_COLOUR)])
        frame_curves(axes, "Masked features", "fraction of features masked", "hit")
        draw_legend(axes)

    return [draw]


def _of_tokens(scores: TokenDeletion, row: int) -> Panels:
    what = "tokens dropped" if scores.removal == "tokens" else "patches masked"
    hits = f"target is the first class, accuracy {float(scores.accuracy[row]):.3f}"
    lines = [
        (scores.probabilities, "probability of the target", RESPONSE_COLOUR),
        (scores.hits, hits, DENSITY_COLOUR),
    ]

    def draw(axes: Axes) -> None:
        _draw_shares(axes, scores, row, lines)
        name = what.capitalize()
        frame_curves(axes, name, f"fraction of {what}", "probability, hit")
        draw_legend(axes)

    return [draw]


def _draw_shares(axes: Axes, scores: Any, row: int, lines: list[Any]) -> None:
    shares = scores.fractions.cpu().numpy()
    for values, label, colour in lines:
        points = values[row].cpu().numpy()
        axes.plot(shares, points, color=colour, marker="o", markersize=4, label=label)


def _of_segmentation(scores: SegmentationScores, row: int) -> Panels:
    columns = {
        "IoU": scores.iou,
        "average precision": scores.average_precision,
        "F1": scores.f1,
        "pixel accuracy": scores.pixel_accuracy,
    }

    def draw(axes: Axes) -> None:
        values = [float(column[row]) for column in columns.values()]
        bars = axes.barh(list(columns), values, color=RESPONSE_COLOUR, height=0.6)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
        axes.invert_yaxis()
        frame_curves(axes, "Segmentation scores", "score; higher is better", "")
        axes.set_ylim(3.6, -0.6)
        axes.set_xlim(0.0, 1.12)

    return [draw]


_PANELS: dict[type, Callable[[Any, int], Panels]] = {
    PerturbationScores: _of_scores,
    ResponseCurve: _of_curve,
    MaskedHits: _of_hits,
    TokenDeletion: _of_tokens,
    SegmentationScores: _of_segmentation,
}
