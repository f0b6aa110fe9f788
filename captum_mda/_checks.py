"""Checks of arguments: every message begins with the argument's name.

A check raises a TypeError for a wrong type, or a ValueError for a wrong value. The
message says what was given and what is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_mda._spelling import require_choice as require_choice

FLOATING_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The floating-point dtypes that all functions of PyTorch support."""


# --- tensors ----------------------------------------------------------------


def require_tensor(name: str, value: object, floating: bool = False) -> Tensor:
    """Check that a value is a dense, finite tensor of real numbers, and detach it.

    Args:
        name (str): The argument's name.
        value (object): What was given.
        floating (bool, optional): Whether integers and booleans are refused.
            Default: False

    Raises:
        TypeError: It is no tensor; complex, quantized, of a floating-point dtype not in
            `FLOATING_DTYPES`, or, with ``floating``, of integers; sparse, nested, or on
            the meta device.
        ValueError: A value is NaN or infinite; the message names the first example.
    """
    require_real(name, value)
    assert isinstance(value, Tensor)
    if floating and not value.is_floating_point():
        raise TypeError(
            f"{name}: got dtype {value.dtype}, takes floating-point numbers; convert "
            "it with .float()"
        )
    require_finite(name, value)
    return value.detach()


def require_real(
    name: str, value: object, got: str = "got", takes: str = "takes"
) -> None:
    """Raise unless ``value`` is a dense tensor of real numbers on a real device.

    Args:
        name (str): The name of the argument, or of the function that returned it.
        value (object): What was given.
        got (str, optional): "returned" for return values. Default: "got"
        takes (str, optional): "must return" for return values. Default: "takes"
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: {got} {type_of(value)}, {takes} a tensor{_remedy(value)}"
        )
    if value.is_complex():
        raise TypeError(
            f"{name}: {got} dtype {value.dtype}, {takes} real numbers; take .abs() or "
            ".real"
        )
    if value.is_quantized:
        raise TypeError(
            f"{name}: {got} dtype {value.dtype}, {takes} numbers that are not "
            "quantized; convert them with .dequantize()"
        )
    if value.is_floating_point() and value.dtype not in FLOATING_DTYPES:
        raise TypeError(
            f"{name}: {got} dtype {value.dtype}, {takes} float16, bfloat16, float32 or "
            "float64; convert it with .float()"
        )
    if value.is_meta:
        raise TypeError(
            f"{name}: {got} a tensor on meta, {takes} one on a device with values"
        )
    if value.is_nested:
        raise TypeError(
            f"{name}: {got} a nested tensor, {takes} a dense one; convert it with "
            "to_padded_tensor(0.0)"
        )
    if value.layout != torch.strided:
        raise TypeError(
            f"{name}: {got} a {value.layout} tensor, {takes} a dense one; convert it "
            "with to_dense()"
        )


def require_integers(name: str, value: object) -> Tensor:
    """Check that a value is a dense tensor of integers, and detach it."""
    require_real(name, value)
    assert isinstance(value, Tensor)
    if value.is_floating_point() or value.dtype == torch.bool:
        raise TypeError(
            f"{name}: got dtype {value.dtype}, takes integers; convert it with "
            f"{name.rpartition('_')[2]}.long()"
        )
    return value.detach()


def require_examples(name: str, value: Tensor) -> None:
    """Raise if a tensor has no example, or an empty dimension."""
    if value.dim() == 0 or value.numel() == 0:
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}, takes at least one example along "
            "dimension 0, and no empty dimension"
        )


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise a ValueError if a value is not finite; it names the first example."""
    bad = non_finite_rows(tensor if tensor.dim() else tensor[None])
    if bad:
        raise ValueError(
            f"{name}: NaN or infinite values in example {bad[0]}"
            + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
            + "; clean or drop them first"
        )


def non_finite_rows(values: Tensor) -> list[int]:
    """List the rows of a tensor (R, ...) that hold a NaN or infinite value."""
    if not values.is_floating_point() or values.numel() == 0:
        return []
    finite = torch.isfinite(values.detach()).reshape(len(values), -1).all(dim=1)
    rows: list[int] = (~finite).nonzero().flatten().tolist()
    return rows


def require_finite_rows(
    values: Tensor, message: str, examples: Tensor | None = None
) -> None:
    """Raise a ValueError if a row (R, ...) holds a NaN or infinite value.

    Args:
        values (Tensor): (R, ...).
        message (str): The message, with ``{example}`` for the first such row's example.
        examples (Tensor, optional): int64 (R,), the example of each row. None: rows are
            examples. Default: None
    """
    bad = non_finite_rows(values)
    if bad:
        example = bad[0] if examples is None else int(examples[bad[0]])
        raise ValueError(message.format(example=example))


def broadcasts_to(tensor: Tensor, wanted: Tensor) -> bool:
    """Tell whether a tensor can be expanded to another's shape."""
    return tensor.dim() <= wanted.dim() and all(
        size in (1, target)
        for size, target in zip(
            reversed(tensor.shape), reversed(wanted.shape), strict=False
        )
    )


def require_type(
    name: str, value: object, types: type | tuple[type, ...], takes: str
) -> None:
    """Raise unless a value is of one of some types; ``takes`` says what is accepted."""
    if not isinstance(value, types):
        raise TypeError(f"{name}: got {type_of(value)}, takes {takes}")


def type_of(value: object) -> str:
    """Name the type of a value."""
    return type(value).__name__


def _remedy(value: object) -> str:
    if isinstance(value, np.ndarray):
        return "; convert it with torch.from_numpy"
    return ""


# --- numbers ----------------------------------------------------------------


def is_integer(value: object) -> bool:
    """Tell whether a value is an integer, NumPy's included, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Tell whether a value is a real number, NumPy's included, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def require_in_unit_interval(name: str, value: Any) -> float:
    """Return a number from 0 to 1, or raise."""
    takes = "a number from 0 to 1"
    return float(_required(name, value, is_number, lambda v: 0 <= v <= 1, takes))


def require_positive_number(name: str, value: Any) -> float:
    """Return a finite number above 0, or raise."""
    takes = "a positive number"
    return float(_required(name, value, is_number, lambda v: 0 < v < inf, takes))


def require_positive_integer(name: str, value: Any) -> int:
    """Return an integer of at least 1, or raise."""
    takes = "a positive integer"
    return int(_required(name, value, is_integer, lambda v: v >= 1, takes))


def require_positive_integer_or_none(name: str, value: Any) -> int | None:
    """Return an integer of at least 1, or None, or raise."""
    return None if value is None else require_positive_integer(name, value)


def require_count(name: str, value: Any) -> int:
    """Return an integer of at least 0, or raise."""
    takes = "an integer of at least 0"
    return int(_required(name, value, is_integer, lambda v: v >= 0, takes))


def _required(
    name: str,
    value: Any,
    is_type: Callable[[Any], bool],
    fits: Callable[[Any], bool],
    takes: str,
) -> Any:
    if not is_type(value):
        raise TypeError(f"{name}: got {value!r}, takes {takes}")
    if not fits(value):
        raise ValueError(f"{name}: got {value!r}, takes {takes}")
    return value


def require_index(name: str, value: Any, length: int) -> int:
    """Return an index from 0 on, of one that may be negative; raise out of range."""
    if not is_integer(value):
        raise TypeError(f"{name}: got {value!r}, takes an integer")
    if not -length <= value < length:
        raise ValueError(
            f"{name}: got {value}, takes {-length} to {length - 1}, as there are "
            f"{length}"
        )
    return int(value) % length


# --- others -----------------------------------------------------------------


def require_flag(name: str, value: object) -> bool:
    """Return True or False, or raise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r}, takes True or False")
    return bool(value)


def require_generator(generator: object) -> None:
    """Raise unless a generator is None or on the CPU."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise TypeError(
            f"generator: got {generator!r}, takes a torch.Generator on the CPU, which "
            "gives the same numbers on all devices"
        )
