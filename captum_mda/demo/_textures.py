"""Surfaces and clutter: everything in an image except the object.

Every function draws from a given random number generator, independently of the label.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from captum_mda.demo._shapes import Array


@cache
def pixel_grid(size: int) -> tuple[Array, Array]:
    """Compute the x and y coordinates of the pixel centres, in pixels.

    Args:
        size: The image's side in pixels.

    Returns:
        Two read-only float32 arrays of shape (size, size).
    """
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    x.flags.writeable = y.flags.writeable = False
    return x, y


@cache
def _interpolation(size: int, cells: int) -> Array:
    """Make the (size, cells) matrix that interpolates `cells` values linearly."""
    position = np.linspace(0.0, cells - 1.0, size)[:, None]
    distance = abs(position - np.arange(cells)[None, :])
    weights: Array = np.maximum(0.0, 1.0 - distance).astype(np.float32)
    return weights


def noise_field(rng: np.random.Generator, size: int) -> Array:
    """Draw smooth noise of several scales with mean 0 and standard deviation 1.

    Args:
        rng: The random number generator.
        size: The image's side in pixels.

    Returns:
        A float32 array of shape (size, size).
    """
    field = np.zeros((size, size), dtype=np.float32)
    roughness = rng.uniform(0.4, 0.9)
    for octave, cells in enumerate((4, 8, 16, 32)):
        stretch = _interpolation(size, cells)  # (size, cells)
        values = rng.standard_normal((cells, cells), dtype=np.float32)
        field += np.float32(roughness**octave) * (stretch @ values @ stretch.T)
    standardised: Array = (field - field.mean()) / (field.std() + np.float32(1e-6))
    return standardised


def _gradient(rng: np.random.Generator, size: int) -> Array:
    x, y = pixel_grid(size)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    ramp = (x * np.cos(angle) + y * np.sin(angle)) / size
    return np.asarray(3.0 * (ramp - ramp.mean()), dtype=np.float32)


def _stripes(rng: np.random.Generator, size: int) -> Array:
    x, y = pixel_grid(size)
    angle, phase = rng.uniform(0.0, 2.0 * np.pi, 2)
    frequency = 2.0 * np.pi / rng.uniform(5.0, 14.0)
    wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return np.asarray(np.tanh(rng.uniform(0.5, 3.0) * wave), dtype=np.float32)


def _checks(rng: np.random.Generator, size: int) -> Array:
    x, y = pixel_grid(size)
    angle, first, second = rng.uniform(0.0, 2.0 * np.pi, 3)
    frequency = 2.0 * np.pi / rng.uniform(8.0, 18.0)
    along = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + first)
    across = np.sin(frequency * (y * np.cos(angle) - x * np.sin(angle)) + second)
    return np.asarray(np.tanh(4.0 * along * across), dtype=np.float32)


def random_texture(rng: np.random.Generator, size: int) -> Array:
    """Draw a coloured surface: a base colour, a pattern and noise of several scales.

    Backgrounds and objects have such surfaces, so that surfaces do not tell them apart.

    Args:
        rng: The random number generator.
        size: The image's side in pixels.

    Returns:
        A float32 array of shape (size, size, 3), near [0, 1] but not clipped to it.
    """
    base = rng.uniform(0.15, 0.85, 3)
    noise_colour = rng.uniform(-1.0, 1.0, 3) * rng.uniform(0.02, 0.12)
    pattern_colour = rng.uniform(-1.0, 1.0, 3) * rng.uniform(0.05, 0.2)
    pattern = (noise_field, _gradient, _stripes, _checks)[rng.integers(4)]
    texture = (
        base
        + noise_field(rng, size)[..., None] * noise_colour
        + pattern(rng, size)[..., None] * pattern_colour
    )  # (H, W, 3)
    return np.asarray(texture, dtype=np.float32)


def _segment_distance(size: int, start: Array, end: Array) -> Array:
    """Compute each pixel's distance from the segment between two points."""
    x, y = pixel_grid(size)
    step = end - start
    along = ((x - start[0]) * step[0] + (y - start[1]) * step[1]) / (step @ step + 1e-6)
    along = np.clip(along, 0.0, 1.0)
    nearest_x, nearest_y = start[0] + along * step[0], start[1] + along * step[1]
    return np.asarray(np.hypot(x - nearest_x, y - nearest_y), dtype=np.float32)


def _stroke(rng: np.random.Generator, size: int) -> Array:
    start = rng.uniform(0.0, size, 2).astype(np.float32)
    angle, length = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.6) * size
    step = length * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    distance = _segment_distance(size, start, start + step)
    return np.asarray(rng.uniform(0.6, 2.0) - distance, dtype=np.float32)


def _corner(rng: np.random.Generator, size: int) -> Array:
    # Two strokes that meet: a fragment of a polygon, never a closed one.
    tip = rng.uniform(0.0, size, 2).astype(np.float32)
    angles = rng.uniform(0.0, 2.0 * np.pi) + np.array([0.0, rng.uniform(0.8, 2.4)])
    arms = rng.uniform(0.08, 0.22, 2) * size
    ends = tip + (arms * np.array([np.cos(angles), np.sin(angles)])).T
    ends = ends.astype(np.float32)
    distance = np.minimum(
        _segment_distance(size, tip, ends[0]), _segment_distance(size, tip, ends[1])
    )
    return np.asarray(rng.uniform(0.6, 1.8) - distance, dtype=np.float32)


def _arc(rng: np.random.Generator, size: int) -> Array:
    # At most two fifths of a thin circle, so that it is no ring or disc.
    x, y = pixel_grid(size)
    centre = rng.uniform(0.0, size, 2)
    radius, half_width = rng.uniform(0.1, 0.3) * size, rng.uniform(0.6, 1.8)
    x, y = x - centre[0], y - centre[1]
    middle, half_angle = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 0.4 * np.pi)
    angle = abs((np.arctan2(y, x) - middle + np.pi) % (2.0 * np.pi) - np.pi)
    beyond = np.maximum(angle - half_angle, 0.0) * radius
    distance = np.maximum(abs(np.hypot(x, y) - radius), beyond)
    return np.asarray(half_width - distance, dtype=np.float32)


def _blob(rng: np.random.Generator, size: int) -> Array:
    # A small lump whose outline is too uneven for a disc.
    x, y = pixel_grid(size)
    centre = rng.uniform(0.0, size, 2)
    x, y = x - centre[0], y - centre[1]
    angle = np.arctan2(y, x)
    outline = np.full_like(angle, rng.uniform(0.04, 0.09) * size)
    for harmonic in (2, 3, 5):
        phase, depth = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.15, 0.4)
        outline *= 1.0 + depth / np.sqrt(harmonic) * np.sin(harmonic * angle + phase)
    return np.asarray(outline - np.hypot(x, y), dtype=np.float32)


_PIECES = (_stroke, _corner, _arc, _blob)


def add_clutter(rng: np.random.Generator, image: Array) -> Array:
    """Draw strokes, corners, arcs and blobs over an image.

    No piece is a whole object of a class; the pieces are thinner or smaller than the
    objects.

    Args:
        rng: The random number generator.
        image: The surface to draw on, of shape (size, size, 3).

    Returns:
        A new float32 array of shape (size, size, 3).
    """
    size = image.shape[0]
    shading = 0.05 * noise_field(rng, size)[..., None]  # (H, W, 1)
    for _ in range(rng.integers(5, 13)):
        piece = _PIECES[rng.integers(len(_PIECES))]
        # The values are depths in pixels, so that clipping smooths the edge.
        coverage = np.clip(piece(rng, size) + 0.5, 0.0, 1.0)[..., None]
        colour = rng.uniform(0.1, 0.9, 3) + shading
        image = image + coverage * (colour - image)
    return np.asarray(image, dtype=np.float32)
