"""The check of the inputs."""

from __future__ import annotations

from torch import Tensor

from captum_mda._checks import (
    require_examples,
    require_tensor,
    require_type,
)


def validate_inputs(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Check the inputs of a call and return them as a tuple of detached tensors.

    Args:
        inputs (Tensor or tuple[Tensor, ...]): Examples along dimension 0 of each
            tensor.

    Raises:
        TypeError: An input is no tensor, or complex.
        ValueError: There is no example, the batch sizes differ, or a value is NaN or
            infinite.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise ValueError("inputs: got an empty tuple, takes at least one tensor")
    for tensor in tensors:
        require_type("inputs", tensor, Tensor, "a tensor or a tuple of tensors")
        require_tensor("inputs", tensor)
        require_examples("inputs", tensor)
        if tensor.shape[0] != tensors[0].shape[0]:
            raise ValueError(
                f"inputs: the tensors hold {tensors[0].shape[0]} and {tensor.shape[0]} "
                "examples along dimension 0; give them the same number"
            )
    return tuple(tensor.detach() for tensor in tensors)


def require_images(images: Tensor) -> None:
    """Raise unless a tensor holds images (B, C, H, W) of floating-point numbers."""
    shape = tuple(images.shape)
    if not images.is_floating_point():
        raise ValueError(
            f"inputs: got shape {shape} of {images.dtype}, takes images of floating-"
            "point numbers as the model takes them; convert values from 0 to 255 with "
            "images.float() / 255, then normalise them by the model's mean and std"
        )
    if images.dim() != 4:
        mends = {
            2: "add a batch and a channel dimension with images[None, None]",
            3: "add a batch dimension with images[None]",
            5: "flatten crops or frames into the batch with images.flatten(0, 1)",
        }
        raise ValueError(
            f"inputs: got shape {shape}, takes images (B, C, H, W)"
            + (f"; {mends[len(shape)]}" if len(shape) in mends else "")
        )
