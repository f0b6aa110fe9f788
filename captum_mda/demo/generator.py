"""Procedural pictures of one object each, with the object's exact mask.

A picture is a cluttered, textured background with one shape drawn over it. The shape's
outline is the label's only trace: surface, colour, size, angle and place are drawn from
distributions that the label does not enter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captum_mda.demo._shapes import Array, CLASS_NAMES, Mask, Predicate, SHAPES
from captum_mda.demo._textures import add_clutter, pixel_grid, random_texture

__all__ = ["IMAGE_SIZE", "PATCH_SIZE", "Scene", "label_of", "render_scene"]

IMAGE_SIZE = 64
"""Side of a picture, in pixels."""

PATCH_SIZE = 8
"""Side of one of the demo model's patches, in pixels."""

# First words of the seeds, so that labels and pictures are separate streams.
_LABEL_STREAM, _PICTURE_STREAM = 1, 2
_SUPERSAMPLING = 4
_RADIUS_RANGE = (12.5, 18.5)
_ANGLE_RANGE = (-np.pi / 8.0, np.pi / 8.0)
_CONTRAST_RANGE = (0.25, 0.45)
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Scene(NamedTuple):
    """One rendered sample and the parts it was made of."""

    image: npt.NDArray[np.uint8]
    """The picture, of shape (H, W, 3)."""

    background: npt.NDArray[np.uint8]
    """The same picture without its object, of shape (H, W, 3)."""

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
        """The pixels of which the object covers at least half, of shape (H, W)."""
        return self.coverage >= 0.5


def label_of(seed: int, index: int) -> int:
    """The label of one sample; each block of ten samples holds every class once.

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
    """Draw one sample, which depends on nothing but the two arguments.

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
    rng = np.random.default_rng([seed, _PICTURE_STREAM, index])
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
    """The share of each pixel inside a turned, scaled and shifted shape."""
    side = _SUPERSAMPLING * IMAGE_SIZE
    x, y = (grid / _SUPERSAMPLING for grid in pixel_grid(side))
    # Only the shape's box needs to be evaluated; it is wholly inside the picture.
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
    """Mean luminance of the background where the object will be and close to it."""
    x, y = pixel_grid(IMAGE_SIZE)
    near = np.hypot(x - centre[0], y - centre[1]) <= 1.3 * radius
    return float((background[near] @ _LUMINANCE).mean())


def _set_apart(
    rng: np.random.Generator, surface: Array, coverage: Array, around: float
) -> Array:
    """Lighten or darken the object's surface until it stands out from `around`."""
    contrast = rng.uniform(*_CONTRAST_RANGE) * rng.choice([-1.0, 1.0])
    if not 0.1 <= around + contrast <= 0.9:
        contrast = -contrast
    luminance = float(((surface @ _LUMINANCE) * coverage).sum() / coverage.sum())
    apart = surface + np.float32(around + contrast - luminance)
    return np.asarray(np.clip(apart, 0.0, 1.0), dtype=np.float32)


def _upright(picture: Array) -> Array:
    """Turn the y axis, which points up for the shapes' formulas, to point down."""
    return np.ascontiguousarray(picture[::-1])


def _to_bytes(picture: Array) -> npt.NDArray[np.uint8]:
    # Eight bits swallow the last-digit differences between machines' libraries.
    return np.round(255.0 * picture).astype(np.uint8)
