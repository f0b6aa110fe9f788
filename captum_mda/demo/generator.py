"""Procedural images of one object each, with the object's exact mask.

An image is a cluttered, textured background with one shape drawn over it. The label
determines only the shape's outline: surface, colour, size, angle and place are drawn
from distributions that do not depend on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captum_mda.demo._shapes import Array, CLASS_NAMES, Mask, Predicate, SHAPES
from captum_mda.demo._textures import add_clutter, pixel_grid, random_texture

IMAGE_SIZE = 64
"""Side of an image, in pixels."""

PATCH_SIZE = 8
"""Side of one of the demo model's patches, in pixels."""

# Parts of the seeds, so that labels and images use separate random streams.
_LABEL_STREAM, _IMAGE_STREAM = 1, 2
_SUPERSAMPLING = 4
_RADIUS_RANGE = (12.5, 18.5)
_ANGLE_RANGE = (-np.pi / 8.0, np.pi / 8.0)
_CONTRAST_RANGE = (0.25, 0.45)
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Scene(NamedTuple):
    """One rendered sample and its parts."""

    image: npt.NDArray[np.uint8]
    """The image, of shape (H, W, 3)."""

    background: npt.NDArray[np.uint8]
    """The same image without its object, of shape (H, W, 3)."""

    coverage: Array
    """The share of each pixel that the object covers, of shape (H, W), in [0, 1]."""

    label: int
    """The index of the object's class."""

    def __repr__(self) -> str:
        """Write the size and the label; the arrays are long."""
        height, width = self.coverage.shape
        return f"Scene(label={self.label}, {height} x {width} pixels)"

    @property
    def mask(self) -> Mask:
        """The pixels that the object covers by at least half, of shape (H, W)."""
        return self.coverage >= 0.5


def label_of(seed: int, index: int) -> int:
    """Compute the label of a sample; each block of ten has every class once.

    Args:
        seed: The seed of the set, at least 0.
        index: The sample's place in the set, at least 0.

    Returns:
        A class index.
    """
    block, place = divmod(index, len(CLASS_NAMES))
    rng = np.random.default_rng([seed, _LABEL_STREAM, block])
    return int(rng.permutation(len(CLASS_NAMES))[place])


def render_scene(seed: int, index: int) -> Scene:
    """Draw one sample, which depends only on the two arguments.

    Args:
        seed: The seed of the set, at least 0.
        index: The sample's place in the set, at least 0.

    Returns:
        The rendered scene.

    Example:
        >>> scene = render_scene(seed=0, index=0)
        >>> scene.image.shape, bool(scene.mask.any())
        ((64, 64, 3), True)
    """
    label = label_of(seed, index)
    rng = np.random.default_rng([seed, _IMAGE_STREAM, index])
    background = add_clutter(rng, random_texture(rng, IMAGE_SIZE))
    background = np.clip(background, 0.0, 1.0)

    radius = rng.uniform(*_RADIUS_RANGE)
    centre = rng.uniform(radius + 1.0, IMAGE_SIZE - radius - 1.0, 2)
    angle = rng.uniform(*_ANGLE_RANGE)
    coverage = _coverage(SHAPES[CLASS_NAMES[label]], radius, centre, angle)

    surface = random_texture(rng, IMAGE_SIZE)
    around = _luminance_around(background, centre, radius)
    surface = _set_apart(rng, surface, coverage, around)
    image = background + coverage[..., None] * (surface - background)
    return Scene(
        image=_to_bytes(_upright(image)),
        background=_to_bytes(_upright(background)),
        coverage=_upright(coverage),
        label=label,
    )


def _coverage(
    shape: Predicate, radius: float, centre: npt.NDArray[np.float64], angle: float
) -> Array:
    """Compute the share of each pixel inside a rotated, scaled and shifted shape."""
    side = _SUPERSAMPLING * IMAGE_SIZE
    x, y = (grid / _SUPERSAMPLING for grid in pixel_grid(side))
    # Only the shape's box is evaluated; it is inside the image.
    first = np.floor(_SUPERSAMPLING * (centre - radius)).astype(int)
    last = np.ceil(_SUPERSAMPLING * (centre + radius)).astype(int)
    box = slice(first[1], last[1]), slice(first[0], last[0])
    x, y = (x[box] - centre[0]) / radius, (y[box] - centre[1]) / radius
    cosine, sine = np.cos(angle), np.sin(angle)
    inside = np.zeros((side, side), dtype=np.float32)
    inside[box] = shape(cosine * x + sine * y, cosine * y - sine * x)
    tiles = inside.reshape(IMAGE_SIZE, _SUPERSAMPLING, IMAGE_SIZE, _SUPERSAMPLING)
    return np.asarray(tiles.mean(axis=(1, 3)), dtype=np.float32)


def _luminance_around(
    background: Array, centre: npt.NDArray[np.float64], radius: float
) -> float:
    """Average the background's luminance at and around the place of the object."""
    x, y = pixel_grid(IMAGE_SIZE)
    near = np.hypot(x - centre[0], y - centre[1]) <= 1.3 * radius
    return float((background[near] @ _LUMINANCE).mean())


def _set_apart(
    rng: np.random.Generator, surface: Array, coverage: Array, around: float
) -> Array:
    """Lighten or darken the object's surface to contrast with `around`."""
    contrast = rng.uniform(*_CONTRAST_RANGE) * rng.choice([-1.0, 1.0])
    if not 0.1 <= around + contrast <= 0.9:
        contrast = -contrast
    luminance = float(((surface @ _LUMINANCE) * coverage).sum() / coverage.sum())
    apart = surface + np.float32(around + contrast - luminance)
    return np.asarray(np.clip(apart, 0.0, 1.0), dtype=np.float32)


def _upright(image: Array) -> Array:
    """Flip the y axis, which points up in the shapes' formulas."""
    return np.ascontiguousarray(image[::-1])


def _to_bytes(image: Array) -> npt.NDArray[np.uint8]:
    # Rounding to eight bits removes small differences between machines.
    return np.round(255.0 * image).astype(np.uint8)
