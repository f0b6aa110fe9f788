"""Why a model fails on its arguments, in the caller's words instead of PyTorch's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn, Tensor

_OURS = re.compile(r"[a-z_]+: ")  # names its argument already
_TYPES = re.compile(r"dtype|scalar type|type \(|same type|have type", re.IGNORECASE)
_DEVICES = re.compile(r"same device|device type|is on cpu|is on cuda", re.IGNORECASE)
_SIZES = re.compile(
    r"channel|must match|size mismatch|shapes cannot be multiplied \(|size of tensor"
    r"|doesn't match|dimension|out of bounds|broadcast|invalid for input of size"
    r"|values to unpack",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"positional argument|required argument|unexpected keyword")


def module_of(forward_func: object) -> nn.Module | None:
    """Find the module behind a forward function: itself, a method's, a partial's."""
    while isinstance(forward_func, partial):
        forward_func = forward_func.func
    for candidate in (
        forward_func,
        getattr(forward_func, "__self__", None),
        getattr(forward_func, "model", None),
    ):
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def floating_dtype(module: nn.Module | None) -> torch.dtype | None:
    """Tell the floating-point dtype of all of a module's parameters, if it is one."""
    if module is None:
        return None
    dtypes = {p.dtype for p in module.parameters() if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


@contextmanager
def failures_explained(
    module: nn.Module | None,
    inputs: Sequence[Tensor],
    arguments: Sequence[Any],
    n_examples: int,
    in_bf16: bool = False,
) -> Iterator[None]:
    """Raise a ValueError that names the argument that a model fails on.

    Where no argument is to blame, and where memory runs out, the model's error passes
    as it is.

    Args:
        module (nn.Module, optional): The model, where it is known.
        inputs (sequence of Tensor): The rows it was called with.
        arguments (sequence): What the caller wants passed behind the inputs.
        n_examples (int): How many examples the caller has.
        in_bf16 (bool, optional): Whether autocast was switched on for the forward.
            Default: False
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        _raise_explained(error, module, inputs, arguments, n_examples, in_bf16)
        raise


def _raise_explained(
    error: Exception,
    module: nn.Module | None,
    inputs: Sequence[Tensor],
    arguments: Sequence[Any],
    n_examples: int,
    in_bf16: bool,
) -> None:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    if "memory" in text.lower() or _OURS.match(text):
        return
    if in_bf16 and _TYPES.search(text):
        raise ValueError(
            f"precision: the model does not run in bfloat16 ({text}); pass "
            "precision=None"
        ) from error
    if isinstance(error, TypeError) and _SIGNATURE.search(text):
        raise TypeError(
            f"additional_forward_args: got {len(arguments)} entries, and the model "
            f"does not take as many ({text})"
        ) from error
    reasons = (
        _other_type(text, module, inputs),
        _other_type_behind(text, inputs, arguments),
        _other_device(text, module, inputs),
        _other_length(text, arguments, n_examples),
        _other_shape(text, inputs, arguments),
    )
    for reason in reasons:
        if reason is not None:
            raise ValueError(reason) from error


def _other_type(
    text: str, module: nn.Module | None, inputs: Sequence[Tensor]
) -> str | None:
    if not _TYPES.search(text):
        return None
    if "Long, Int" in text and inputs[0].is_floating_point():
        return (
            f"inputs: got dtype {inputs[0].dtype}, which the model does not take "
            f"({text}); pass whole numbers, as of inputs.long()"
        )
    wanted = floating_dtype(module)
    given = [tensor.dtype for tensor in inputs]
    if wanted is None:
        if all(dtype == torch.float32 for dtype in given):
            return None
        return (
            f"inputs: got dtype {given[0]}, which the model does not take ({text}); "
            "convert them to what it computes in, with .float() as a rule"
        )
    other = next((dtype for dtype in given if dtype != wanted), None)
    if other is None:
        return None
    mend = f"pass inputs.to({wanted})"
    if not other.is_floating_point:
        mend += " / 255, normalised by the model's mean and std, if they are images"
    return (
        f"inputs: got dtype {other}, the model's parameters are {wanted} ({text}); "
        f"{mend}"
    )


def _other_type_behind(
    text: str, inputs: Sequence[Tensor], arguments: Sequence[Any]
) -> str | None:
    if not _TYPES.search(text):
        return None
    given = {tensor.dtype for tensor in inputs}
    for index, argument in enumerate(arguments):
        if not isinstance(argument, Tensor) or not argument.is_floating_point():
            continue
        if argument.dtype not in given:
            return (
                f"additional_forward_args: entry {index} has dtype {argument.dtype}, "
                f"the inputs {inputs[0].dtype}, and the model fails on them ({text}); "
                f"pass it in {inputs[0].dtype}"
            )
    return None


def _other_device(
    text: str, module: nn.Module | None, inputs: Sequence[Tensor]
) -> str | None:
    parameter = None if module is None else next(module.parameters(), None)
    if not _DEVICES.search(text) or parameter is None:
        return None
    if all(tensor.device == parameter.device for tensor in inputs):
        return None
    return (
        f"inputs: they are on {inputs[0].device}, the model is on {parameter.device}; "
        f'pass inputs.to("{parameter.device}")'
    )


def _other_length(text: str, arguments: Sequence[Any], n_examples: int) -> str | None:
    if not _SIZES.search(text):
        return None
    for index, argument in enumerate(arguments):
        if not isinstance(argument, Tensor) or argument.dim() == 0:
            continue
        if len(argument) not in (1, n_examples):
            return (
                f"additional_forward_args: entry {index} holds {len(argument)} along "
                f"dimension 0 for {n_examples} examples, and the model fails on it "
                f"({text}); give one for each example, or what holds for all"
            )
    return None


def _other_shape(
    text: str, inputs: Sequence[Tensor], arguments: Sequence[Any]
) -> str | None:
    if not _SIZES.search(text):
        return None
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
    given = f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {shapes}"
    if any(isinstance(argument, Tensor) for argument in arguments):
        return (
            f"inputs, additional_forward_args: got examples of {given} and "
            f"{len(arguments)} further arguments, which the model does not take "
            f"together ({text})"
        )
    return (
        f"inputs: got examples of {given}, which the model does not take ({text}); "
        f"{_how_to_shape(shapes[0])}"
    )


def _how_to_shape(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "flatten crops or frames into the batch with inputs.flatten(0, 1)"
    return "pass as many channels and pixels as it is made for"
