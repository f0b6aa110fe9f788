"""The figure of quality.py: quality against forwards, and the front of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from captum_mda._files import replacing

MARKERS = "osD^vPX*<>ph8d"
PLACES = ((9, 0), (-9, 0), (0, 9), (0, -9), (9, 9), (-9, 9), (9, -9), (-9, -9))
"""Where a label may stand, in points from its marker, the best first."""


@dataclass(frozen=True)
class Point:
    """An explainer: the forwards that a map costs, and how good it is."""

    name: str
    forwards: float
    quality: float


def front(points: Sequence[Point]) -> list[Point]:
    """Choose the points that no other one beats: as cheap or cheaper, and better."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.forwards, -each.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def draw(sets: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> list[Bbox]:
    """Draw a row for each set of images, and a panel for each metric.

    Returns:
        *list[Bbox]*: where the labels stand; what is in a crowd has none.
    """
    if not sets:
        return []
    styles = _styles(
        [p.name for of in sets.values() for each in of.values() for p in each]
    )
    n_panels = max(map(len, sets.values()))
    figure, axes = plt.subplots(
        len(sets),
        n_panels,
        figsize=(6.4 * n_panels + 2, 5.2 * len(sets)),
        squeeze=False,
        layout="constrained",
    )
    for row, (kind, of) in zip(axes, sets.items(), strict=True):
        for axis, (title, points) in zip(row, of.items(), strict=True):
            _draw_points(axis, points, styles)
            axis.set(title=f"{title}, {kind}", ylabel=title)
            axis.set_xlabel("forwards per map")
    shown: dict[str, Any] = {}
    for axis in axes.flat:
        handles, names = axis.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside right center", fontsize=9)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels must not move what they avoid
    boxes = []
    for row, of in zip(axes, sets.values(), strict=True):
        for axis, points in zip(row, of.values(), strict=True):
            boxes += _label(axis, points)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=95, format="png")
    plt.close(figure)
    return boxes


def _styles(names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    colours = plt.get_cmap("tab20").colors[::2] + plt.get_cmap("Dark2").colors
    different = list(dict.fromkeys(names))
    return {
        name: (MARKERS[place % len(MARKERS)], colours[place % len(colours)])
        for place, name in enumerate(different)
    }


def _draw_points(
    axis: Any, points: Sequence[Point], styles: Mapping[str, tuple[str, Any]]
) -> None:
    best = front(points)
    axis.set_xscale("log")
    axis.margins(0.16, 0.12)
    for point in points:
        marker, colour = styles[point.name]
        axis.plot(
            point.forwards,
            point.quality,
            marker,
            color=colour,
            label=point.name,
            fillstyle="none",  # of explainers at the same place both are seen
            markeredgewidth=2,
            markersize=9,
        )
    axis.plot(
        [each.forwards for each in best],
        [each.quality for each in best],
        drawstyle="steps-post",
        color="0.6",
        linewidth=1.5,
        zorder=0,
        label="Pareto front",
    )
    low, high = axis.get_xlim()
    if high < 100 * low:  # powers of ten alone would be too few
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25)


def _label(axis: Any, points: Sequence[Point]) -> list[Bbox]:
    """Write names beside their markers, where that covers nothing.

    The legend has them all: in a crowd it is easier to read than lines to far labels.
    """
    labels: list[Bbox] = []
    renderer = axis.figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    at = {p.name: axis.transData.transform((p.forwards, p.quality)) for p in points}
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in at.values()]
    taken += _steps([at[each.name] for each in front(points)])
    for point in points:
        near = [name for name in at if abs(at[name] - at[point.name]).max() < 12]
        text = axis.annotate(
            point.name,
            (point.forwards, point.quality),
            xytext=PLACES[0],
            textcoords="offset points",
            fontsize=9,
        )
        for place in PLACES if len(near) == 1 else ():
            box = _put(text, place, renderer)
            covers = any(box.overlaps(each) for each in taken)
            if inside.containsx(box.x0) and inside.containsx(box.x1) and not covers:
                labels.append(box)
                taken.append(box)
                break
        else:
            text.remove()
    return labels


def _put(text: Any, place: tuple[int, int], renderer: Any) -> Bbox:
    """Move a label; tell the room it takes, without its line."""
    x, y = place
    text.set_position(place)
    text.set_ha("left" if x > 0 else "right" if x < 0 else "center")
    text.set_va("bottom" if y > 0 else "top" if y < 0 else "center")
    text.update_positions(renderer)
    box: Bbox = text.get_window_extent(renderer).padded(2)
    return box


def _steps(corners: Sequence[Any]) -> list[Bbox]:
    """Tell the room that the front's line takes."""
    boxes = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes.append(Bbox.from_extents(x, y - 1, next_x, y + 1))
        boxes.append(Bbox.from_extents(next_x - 1, y, next_x + 1, next_y))
    return boxes
