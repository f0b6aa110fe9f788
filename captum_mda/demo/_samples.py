"""Samples in the demo model's input space, and their conversion to images."""

from __future__ import annotations

from typing import NamedTuple, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_mda._checks import require_count
from captum_mda._colours import colours_of
from captum_mda._summaries import as_html, as_text, Columns, examples
from captum_mda.demo._shapes import CLASS_NAMES
from captum_mda.demo.generator import IMAGE_SIZE, render_scene

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN = (0.5, 0.5, 0.5)
"""The mean subtracted from each channel of an image in [0, 1]; 0 is mid-grey."""

STD = (0.25, 0.25, 0.25)
"""The standard deviation that each channel is then divided by."""


class DemoSamples(NamedTuple):
    """Images of one object each, their labels and the objects' masks."""

    images: Tensor
    """float32 of shape (n, 3, H, W), normalised for the model."""

    labels: Tensor
    """int64 of shape (n,), indices into `CLASS_NAMES`."""

    masks: Tensor
    """bool of shape (n, 1, H, W), true on the object's pixels."""

    def __repr__(self) -> str:
        """Write one line per sample, of the first samples."""
        return as_text(*self._summary())

    def _repr_html_(self) -> str:
        """Write the same as a table, for notebooks."""
        return as_html(*self._summary())

    def _summary(self) -> tuple[str, Columns]:
        labels = self.labels.tolist()
        size = " x ".join(map(str, self.images.shape[-2:]))
        return f"DemoSamples of {examples(len(labels))}, {size} pixels", {
            "label": labels,
            "class": [CLASS_NAMES[label] for label in labels],
            "object's pixels": self.masks.flatten(1).sum(dim=1),
        }


def make_samples(n: int, seed: int) -> DemoSamples:
    """Draw images of one object each on cluttered, textured backgrounds.

    The same seed gives the same samples, and sample `i` of a seed does not depend on
    `n`. Samples 0 to 9, 10 to 19 and so on contain each of the ten classes once. The
    global random number generators are neither read nor changed.

    Args:
        n (int): The number of samples, at least 0.
        seed (int): The seed of the samples, at least 0. The model was trained on the
            seeds 0 and 1.

    Returns:
        *DemoSamples* of:

        - images (*Tensor*): float32 of shape (n, 3, H, W), in the model's input space,
          within [-2, 2].
        - labels (*Tensor*): int64 of shape (n,), within [0, 10).
        - masks (*Tensor*): bool of shape (n, 1, H, W), the pixels of which the object
          covers at least half.

    Raises:
        TypeError: If `n` or `seed` is not an integer.
        ValueError: If `n` or `seed` is negative.

    Example:
        >>> images, labels, masks = make_samples(n=2, seed=1)
        >>> images.shape, labels.shape, masks.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2]), torch.Size([2, 1, 64, 64]))
    """
    n, seed = require_count("n", n), require_count("seed", seed)
    pixels = np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    masks = np.empty((n, 1, IMAGE_SIZE, IMAGE_SIZE), dtype=np.bool_)
    labels = np.empty(n, dtype=np.int64)
    for index in range(n):
        scene = render_scene(seed, index)
        pixels[index], masks[index, 0] = scene.image, scene.mask
        labels[index] = scene.label
    return DemoSamples(
        normalize_bytes(pixels), torch.from_numpy(labels), torch.from_numpy(masks)
    )


def normalize_bytes(images: npt.NDArray[np.uint8]) -> Tensor:
    """Normalise images of bytes for the model.

    Args:
        images (ndarray): uint8 of shape (n, H, W, 3).

    Returns:
        *Tensor*: float32 of shape (n, 3, H, W), within [-2, 2].
    """
    colours = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255.0
    mean, std = (colours.new_tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    return (colours - mean) / std


def denormalize(images: Tensor) -> Tensor:
    """Convert normalised images to colours.

    Args:
        images (Tensor): Floating point of shape (..., 3, H, W), normalised.

    Returns:
        *Tensor*: the colours, of the images' shape, dtype and device, clipped to
        [0, 1].

    Raises:
        TypeError: If `images` is not a floating point tensor.
        ValueError: If its shape is another.

    Example:
        >>> denormalize(torch.zeros(3, 1, 1)).flatten()
        tensor([0.5000, 0.5000, 0.5000])
    """
    return colours_of("images", images, MEAN, STD)


def to_pil(image: Tensor) -> Image:
    """Convert one normalised image to a PIL image.

    Args:
        image (Tensor): Floating point of shape (3, H, W), normalised.

    Returns:
        *PIL.Image.Image*: RGB with eight bits per channel.

    Raises:
        TypeError: If `image` is not a floating point tensor.
        ValueError: If its shape is another.

    Example:
        >>> to_pil(make_samples(n=1, seed=1).images[0]).size
        (64, 64)
    """
    from PIL import Image

    if isinstance(image, Tensor) and not image.is_nested and image.ndim != 3:
        raise ValueError(f"image: got shape {tuple(image.shape)}, takes (3, H, W)")
    colours = colours_of("image", image, MEAN, STD)
    pixels = (255.0 * colours).round().to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
    return Image.fromarray(pixels.cpu().numpy())
