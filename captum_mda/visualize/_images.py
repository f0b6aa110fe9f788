"""Conversion of images to arrays (H, W, 3) in [0, 1], as matplotlib draws them."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_mda._checks import require_real, require_type

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = Tensor | npt.NDArray[Any] | Image

FloatArray = npt.NDArray[np.float64]

# Colours may be this far outside of [0, 1] by rounding in a model's transform.
_COLOUR_TOLERANCE = 1e-3


def as_photo(image: ImageLike) -> FloatArray:
    """Convert an image in any of the accepted forms.

    Args:
        image (Tensor, ndarray or PIL.Image.Image): (3, H, W) or (H, W, 3), floating
            point in [0, 1]; or a PIL image.

    Returns:
        *ndarray*: float64 (H, W, 3) in [0, 1].

    Raises:
        TypeError: ``image`` has another type, or no floating point numbers.
        ValueError: Its shape or its range does not fit.
    """
    if hasattr(image, "convert"):  # a PIL image, recognised without an import of PIL
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255.0
    require_type(
        "image", image, (Tensor, np.ndarray), "a tensor, an array or a PIL image"
    )
    if isinstance(image, np.ndarray) and image.dtype.kind not in "fiub":
        raise TypeError(
            f"image: got dtype {image.dtype}, takes floating point numbers in [0, 1]"
        )
    require_real("image", pixels := torch.as_tensor(image))
    pixels = pixels.detach().cpu()
    if not pixels.is_floating_point():
        raise TypeError(
            f"image: got dtype {image.dtype}, takes floating point numbers in [0, 1]; "
            "divide bytes by 255"
        )
    if pixels.dim() == 3 and pixels.shape[0] == 3:
        pixels = pixels.permute(1, 2, 0)
    if pixels.dim() != 3 or pixels.shape[2] != 3 or pixels.numel() == 0:
        raise ValueError(
            f"image: got shape {tuple(image.shape)}, takes one image, (3, H, W) or "
            "(H, W, 3)"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not -_COLOUR_TOLERANCE <= low <= high <= 1.0 + _COLOUR_TOLERANCE:
        raise ValueError(
            f"image: got values from {low:.3g} to {high:.3g}, takes [0, 1]; undo the "
            "model's normalisation with captum_mda.visualize.denormalize"
        )
    colours: FloatArray = pixels.double().clamp(0.0, 1.0).numpy()
    return colours
