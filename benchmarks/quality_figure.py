"""The figure of quality.py: quality against forwards, and the front of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from captum_mda._files import replacing

MARKERS = "osD^vPX*<>ph8d"
PLACES = [
    (distance * dx, distance * dy)
    for distance, (dx, dy) in product(
        (8, 16, 26, 38, 52, 68, 86, 106),
        ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)),
    )
]
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
    """Draw a row for each set of pictures, and a panel for each metric.

    Returns:
        *list[Bbox]*: where the labels stand; names at one place have one label.
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
        figsize=(7 * n_panels, 5.2 * len(sets)),
        squeeze=False,
        layout="constrained",
    )
    for row, (kind, of) in zip(axes, sets.items(), strict=True):
        for axis, (title, points) in zip(row, of.items(), strict=True):
            _draw_points(axis, points, styles)
            axis.set(title=f"{title}, {kind} (line: Pareto front)", ylabel=title)
            axis.set_xlabel("forwards for a map")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels must not move what they avoid
    boxes = []
    for row, of in zip(axes, sets.values(), strict=True):
        for axis, points in zip(row, of.values(), strict=True):
            boxes += _label(axis, points)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
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
        axis.plot(point.forwards, point.quality, marker, color=colour, markersize=8)
    axis.plot(
        [each.forwards for each in best],
        [each.quality for each in best],
        drawstyle="steps-post",
        color="0.6",
        linewidth=1.5,
        zorder=0,
    )
    axis.grid(alpha=0.25)


def _label(axis: Any, points: Sequence[Point]) -> list[Bbox]:
    """Write names where nothing else stands, those at the same place together."""
    labels: list[Bbox] = []
    renderer = axis.figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    at = {p.name: axis.transData.transform((p.forwards, p.quality)) for p in points}
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in at.values()]
    taken += _steps([at[each.name] for each in front(points)])
    together: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        x, y = at[point.name]
        together.setdefault((round(x / 3), round(y / 3)), []).append(point)
    for group in sorted(together.values(), key=lambda each: -each[0].quality):
        point = group[0]
        text = axis.annotate(
            "\n".join(each.name for each in group),
            (point.forwards, point.quality),
            xytext=PLACES[0],
            textcoords="offset points",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "0.7", "shrinkA": 0, "shrinkB": 4},
        )
        best: tuple[float, tuple[int, int]] | None = None
        for place in PLACES:
            box = _put(text, place, renderer)
            if not (inside.x0 <= box.x0 and box.x1 <= inside.x1):
                continue
            if not (inside.y0 <= box.y0 and box.y1 <= inside.y1):
                continue
            overlap = sum(_area(Bbox.intersection(box, each)) for each in taken)
            if best is None or overlap < best[0]:
                best = overlap, place
            if overlap == 0:
                break
        labels.append(_put(text, best[1] if best else PLACES[0], renderer))
        taken.append(labels[-1])
    return labels


def _put(text: Any, place: tuple[int, int], renderer: Any) -> Bbox:
    """Move a label; tell the room it takes, without its line."""
    x, y = place
    text.set_position(place)
    text.set_ha("left" if x > 0 else "right" if x < 0 else "center")
    text.set_va("bottom" if y > 0 else "top" if y < 0 else "center")
    text.update_positions(renderer)
    return plt.Text.get_window_extent(text, renderer).padded(2)


def _steps(corners: Sequence[Any]) -> list[Bbox]:
    """Tell the room that the front's line takes."""
    boxes = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes.append(Bbox.from_extents(x, y - 1, next_x, y + 1))
        boxes.append(Bbox.from_extents(next_x - 1, y, next_x + 1, next_y))
    return boxes


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else box.width * box.height
