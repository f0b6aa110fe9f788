"""Colours of normalised images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import numpy as np
from torch import Tensor

from captum_mda._checks import is_number, require_tensor


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Convert normalised images to colours.

    Args:
        images (Tensor): Floating point (..., C, H, W), normalised.
        mean (sequence of float): The mean that was subtracted from each channel, the
            "mean" of `timm.data.resolve_data_config`.
        std (sequence of float): The standard deviation that each channel was divided
            by, the "std" there.

    Returns:
        *Tensor*: the colours, of the images' shape and dtype, clipped to [0, 1].

    Raises:
        TypeError: The images are no floating point tensor.
        ValueError: The number of channels differs.

    Example::

        >>> import torch
        >>> denormalize(torch.zeros(3, 1, 1), (0.5, 0.4, 0.3), (1, 1, 1)).flatten()
        tensor([0.5000, 0.4000, 0.3000])
    """
    return colours_of("images", images, mean, std)


def colours_of(
    name: str, images: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """As `denormalize`; ``name`` is the argument that the images came in."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: got {got}, takes a floating point tensor")
    require_tensor(name, images)
    mean, std = (_as_list(numbers) for numbers in (mean, std))
    for argument, numbers in (("mean", mean), ("std", std)):
        if not isinstance(numbers, Iterable) or not all(map(is_number, numbers)):
            raise TypeError(
                f"{argument}: got {numbers!r}, takes a number for each channel"
            )
    if not all(0 < number < inf for number in std):
        raise ValueError(f"std: got {std!r}, takes positive numbers")
    if not all(-inf < number < inf for number in mean):
        raise ValueError(f"mean: got {mean!r}, takes finite numbers")
    if images.dim() < 3 or not images.shape[-3] == len(mean) == len(std):
        raise ValueError(
            f"{name}: got shape {tuple(images.shape)} with {len(mean)} means and "
            f"{len(std)} standard deviations, takes (..., C, H, W) and C of each"
        )
    shape = (len(mean), 1, 1)
    images = images.detach()
    centre = images.new_tensor(mean).view(shape)
    scale = images.new_tensor(std).view(shape)
    return (images * scale + centre).clamp(0.0, 1.0)


def _as_list(numbers: Any) -> Any:
    return numbers.tolist() if isinstance(numbers, (Tensor, np.ndarray)) else numbers
