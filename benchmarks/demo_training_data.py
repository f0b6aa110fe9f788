"""The training data of the demo model: stored scenes, with variations per batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from tqdm import trange

from captum_mda.demo._samples import normalize_bytes
from captum_mda.demo._shapes import CLASS_NAMES
from captum_mda.demo.generator import IMAGE_SIZE, PATCH_SIZE, render_scene

__all__ = ["ScenePool", "TrainingBatch", "batches", "blur", "render_pool"]

# Shares of each batch: images whose object is blanked or blurred, which get uniform
# targets, and images with some patches hidden, which keep their labels.
_BLANK_SHARE, _BLURRED_SHARE, _PARTIAL_SHARE = 1 / 64, 2 / 64, 1 / 8
# The pool has one background without an object per so many samples.
_SAMPLES_PER_BACKGROUND = 20
_NO_CLASS = -1


class ScenePool(NamedTuple):
    """Rendered scenes; those without an object have the label -1."""

    images: npt.NDArray[np.uint8]
    """Of shape (n, H, W, 4): the colours and the object's mask of zeros and ones."""

    labels: npt.NDArray[np.int64]
    """Of shape (n,)."""


class TrainingBatch(NamedTuple):
    """The data of one training step."""

    images: Tensor
    """float32 of shape (B, 3, H, W), in the model's input space."""

    targets: Tensor
    """float32 of shape (B, classes): one-hot, or uniform where no object is seen."""

    masks: Tensor
    """float32 of shape (B, 1, H, W): 1 on the object's visible pixels, else 0."""


def render_pool(samples: int, seed: int, folder: Path) -> ScenePool:
    """Render samples of a seed, and the backgrounds of some, into a mapped file.

    Args:
        samples: The number of samples.
        seed: The seed of the samples.
        folder: The folder of the file.

    Returns:
        The samples, followed by the backgrounds.
    """
    backgrounds = -(-samples // _SAMPLES_PER_BACKGROUND)
    images = np.lib.format.open_memmap(
        folder / "images.npy",
        mode="w+",
        dtype=np.uint8,
        shape=(samples + backgrounds, IMAGE_SIZE, IMAGE_SIZE, 4),
    )  # zeros
    labels = np.full(samples + backgrounds, _NO_CLASS, dtype=np.int64)
    for index in trange(samples, desc="render", mininterval=5.0):
        scene = render_scene(seed, index)
        images[index, ..., :3], images[index, ..., 3] = scene.image, scene.mask
        labels[index] = scene.label
        if index % _SAMPLES_PER_BACKGROUND == 0:
            place = samples + index // _SAMPLES_PER_BACKGROUND
            images[place, ..., :3] = scene.background
    return ScenePool(images, labels)


def batches(
    pool: ScenePool, batch_size: int, rng: np.random.Generator
) -> Iterator[TrainingBatch]:
    """Go through a pool once, in random order, with variations.

    Args:
        pool: The scenes.
        batch_size: The number of images in a batch; an incomplete one is left out.
        rng: The random number generator.

    Yields:
        The batches.
    """
    order = rng.permutation(len(pool.labels))
    for first in range(0, len(order) - batch_size + 1, batch_size):
        chosen = order[first : first + batch_size]
        images = pool.images[chosen]
        if rng.integers(2):
            images = images[:, :, ::-1]
        # Colours are equally likely in any order of the channels.
        colours = np.ascontiguousarray(images[..., rng.permutation(3)])
        masks = np.ascontiguousarray(images[:, None, ..., 3])
        batch = TrainingBatch(
            normalize_bytes(colours),
            _targets(torch.from_numpy(pool.labels[chosen])),
            torch.from_numpy(masks).float(),
        )
        _hide_objects(batch, rng)
        yield batch


def _targets(labels: Tensor) -> Tensor:
    classes = len(CLASS_NAMES)
    known = one_hot(labels.clamp(min=0), classes).float()
    return torch.where(labels[:, None] == _NO_CLASS, 1.0 / classes, known)


def _hide_objects(batch: TrainingBatch, rng: np.random.Generator) -> None:
    """Blank or blur the first images of a batch, and hide patches of the next."""
    images, targets, masks = batch
    blank, blurred, partial = (
        round(share * len(images))
        for share in (_BLANK_SHARE, _BLURRED_SHARE, _PARTIAL_SHARE)
    )
    hidden, touched = blank + blurred, blank + blurred + partial
    padded = bool(rng.integers(2))
    absent = blur(images[:touched], rng.uniform(6.0, 16.0), padded)
    absent[:blank] = torch.from_numpy(rng.uniform(-2.0, 2.0, (blank, 3, 1, 1)))
    if rng.integers(2):
        absent[:1] = absent[hidden:] = 0.0
    kept = torch.cat(
        [torch.zeros_like(masks[:hidden]), _random_patches(partial, rng)]
    )  # (touched, 1, H, W)
    images[:touched] = torch.where(kept > 0.0, images[:touched], absent)
    masks[:touched] *= kept
    targets[:hidden] = 1.0 / targets.shape[1]


def _random_patches(n: int, rng: np.random.Generator) -> Tensor:
    """Draw masks (n, 1, H, W) that keep from few to most of the patches."""
    side = IMAGE_SIZE // PATCH_SIZE
    kept = rng.random((n, 1, side, side)) < rng.uniform(0.1, 0.9, (n, 1, 1, 1))
    pixels = kept.repeat(PATCH_SIZE, axis=2).repeat(PATCH_SIZE, axis=3)
    return torch.from_numpy(pixels).float()


def blur(images: Tensor, sigma: float, padded: bool = False) -> Tensor:
    """Blur images with a Gaussian.

    Args:
        images: Normalised images of shape (n, 3, H, W).
        sigma: The Gaussian's standard deviation, in pixels.
        padded: Whether zeros lie around the images, rather than nothing.

    Returns:
        New images of the same shape.
    """
    position = torch.arange(images.shape[-1], dtype=images.dtype)
    weights = torch.exp(-0.5 * ((position[:, None] - position) / sigma) ** 2)
    middle = weights[len(weights) // 2].sum()
    weights = weights / (middle if padded else weights.sum(1, keepdim=True))
    return weights @ images @ weights.T
