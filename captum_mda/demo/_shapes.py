"""The object classes: each shape is a predicate on the unit disc."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Predicate = Callable[[Array, Array], Mask]


def _disc(x: Array, y: Array) -> Mask:
    return x**2 + y**2 <= 0.9**2


def _ring(x: Array, y: Array) -> Mask:
    squared_radius = x**2 + y**2
    return (squared_radius <= 1.0) & (squared_radius >= 0.55**2)


def _square(x: Array, y: Array) -> Mask:
    return np.maximum(abs(x), abs(y)) <= 0.7


def _triangle(x: Array, y: Array) -> Mask:
    # The equilateral triangle whose corners lie on the unit circle.
    inside: Mask = (y >= -0.5) & (np.sqrt(3.0) * abs(x) + y <= 1.0)
    return inside


def _star(x: Array, y: Array) -> Mask:
    # Fold the plane into one tenth of the star, whose edge is then one straight line
    # from the point (radius 1, angle 0) to the notch (radius 0.42, angle 36 degrees).
    sector = 2.0 * np.pi / 5.0
    angle = np.arctan2(x, y)
    folded = abs(angle - sector * np.round(angle / sector))
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    notch = 0.42 * np.cos(sector / 2.0), 0.42 * np.sin(sector / 2.0)
    inside: Mask = (1.0 - along) * notch[1] >= across * (1.0 - notch[0])
    return inside


def _cross(x: Array, y: Array) -> Mask:
    shorter, longer = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (shorter <= 0.28) & (longer <= 0.95)


def _heart(x: Array, y: Array) -> Mask:
    # The classical sextic, scaled and moved into the unit disc.
    x, y = 1.34 * x, 1.34 * y + 0.12
    return (x**2 + y**2 - 1.0) ** 3 <= x**2 * y**3


def _crescent(x: Array, y: Array) -> Mask:
    return (x**2 + y**2 <= 1.0) & ((x - 0.5) ** 2 + y**2 >= 0.75**2)


def _arrow(x: Array, y: Array) -> Mask:
    head = (y >= 0.0) & (y + 1.25 * abs(x) <= 1.0)
    shaft = (y >= -0.95) & (y <= 0.0) & (abs(x) <= 0.24)
    return head | shaft


def _hourglass(x: Array, y: Array) -> Mask:
    return (abs(x) <= 0.1 + 0.64 * abs(y)) & (abs(y) <= 0.79)


SHAPES: dict[str, Predicate] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "arrow": _arrow,
    "hourglass": _hourglass,
}
"""Class name to predicate: true where a point of the unit disc is in the shape."""

CLASS_NAMES: tuple[str, ...] = tuple(SHAPES)
