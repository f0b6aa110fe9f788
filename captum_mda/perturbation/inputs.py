"""Checks of what every public function takes: inputs, and numbers in a range."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor


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
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"inputs: got {type(tensor).__name__}, takes a tensor or a tuple of "
                "tensors"
            )
        if tensor.is_complex():
            raise TypeError(f"inputs: got dtype {tensor.dtype}, takes real numbers")
        if tensor.is_meta or tensor.layout != torch.strided:
            raise TypeError(
                f"inputs: got a {tensor.layout} tensor on {tensor.device}, takes dense "
                "tensors that hold values; convert it with to_dense() or load it"
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ValueError(
                f"inputs: got shape {tuple(tensor.shape)}, takes at least one example "
                "along dimension 0, and no empty dimension"
            )
        if tensor.shape[0] != tensors[0].shape[0]:
            raise ValueError(
                f"inputs: the tensors hold {tensors[0].shape[0]} and {tensor.shape[0]} "
                "examples along dimension 0; give them the same number"
            )
        require_finite("inputs", tensor)
    return tuple(tensor.detach() for tensor in tensors)


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise a ValueError that names the first example with a NaN or infinite value."""
    finite = torch.isfinite(tensor).reshape(tensor.shape[0] if tensor.dim() else 1, -1)
    bad = (~finite.all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{name}: NaN or infinite values in example {bad[0]}"
            + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
            + "; clean or drop them first"
        )


def broadcasts_to(tensor: Tensor, wanted: Tensor) -> bool:
    """Tell whether a tensor can be expanded to another's shape."""
    return tensor.dim() <= wanted.dim() and all(
        size in (1, target)
        for size, target in zip(
            reversed(tensor.shape), reversed(wanted.shape), strict=False
        )
    )


def require_in_unit_interval(name: str, value: float) -> None:
    """Raise unless ``value`` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: got {value!r}, takes a number from 0 to 1")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: got {value!r}, takes a number from 0 to 1")


def require_positive_integer(name: str, value: int) -> None:
    """Raise unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {value!r}, takes a positive integer")
    if value < 1:
        raise ValueError(f"{name}: got {value!r}, takes a positive integer")


def require_count(name: str, value: int) -> None:
    """Raise unless ``value`` is an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {value!r}, takes an integer of at least 0")
    if value < 0:
        raise ValueError(f"{name}: got {value!r}, takes an integer of at least 0")


def require_positive_number(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: got {value!r}, takes a positive number")
    if not 0.0 < value < inf:
        raise ValueError(f"{name}: got {value!r}, takes a positive number")


def require_index(name: str, value: int, length: int) -> int:
    """Read an index, negative from the end; raise unless there is such an entry."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {value!r}, takes an integer")
    if not -length <= value < length:
        raise ValueError(
            f"{name}: got {value}, takes {-length} to {length - 1}, as there are "
            f"{length}"
        )
    return value % length


def require_generator(generator: object) -> None:
    """Raise unless there is no generator, or one on the CPU."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise TypeError(
            f"generator: got {generator!r}, takes a torch.Generator on the CPU, which "
            "gives the same numbers on all devices"
        )


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless ``value`` is one of the given words."""
    if value not in choices:
        words = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: got {value!r}, takes one of {words}")
