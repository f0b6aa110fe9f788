"""Marks that the relevance rules put on tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ATTRIBUTE = "_captum_mda_trace"


@dataclass(frozen=True, eq=False)
class Trace:
    """The origin of a tensor, as far as rules depend on it.

    Args:
        is_scale (bool, optional): Whether it is a scale, such as the deviation in a
            norm, which gets no relevance in products with a branch. Default: False
        is_magnitude (bool, optional): Whether its entries are squares or absolute
            values, whose mean or sum is a scale. Default: False
        shift_of (Tensor, optional): The tensor that it is a mean or maximum of, whose
            difference with it is a shift. Default: None
    """

    is_scale: bool = False
    is_magnitude: bool = False
    shift_of: Tensor | None = None


_PLAIN = Trace()
_SCALE = Trace(is_scale=True)


def carries(value: object) -> bool:
    """Tell whether relevance flows through a value."""
    return isinstance(value, Tensor) and value.requires_grad


def is_traced(tensor: Tensor) -> bool:
    """Tell whether a function seen by the mode returned the tensor."""
    return hasattr(tensor, _ATTRIBUTE)


def trace_of(value: object) -> Trace:
    """Read a tensor's trace; empty for tensors without one."""
    trace: Trace = getattr(value, _ATTRIBUTE, _PLAIN)
    return trace


def set_trace(value: Any, trace: Trace = _PLAIN) -> None:
    """Write the trace of the tensors in a result."""
    for tensor in tensors_in(value):
        if tensor.requires_grad:
            setattr(tensor, _ATTRIBUTE, trace)


def scale_like(result: Tensor, *operands: object) -> Tensor:
    """Mark a result as a scale if all its operands with relevance are scales."""
    carrying = [value for value in operands if carries(value)]
    if carrying and all(trace_of(value).is_scale for value in carrying):
        set_trace(result, _SCALE)
    return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Find the tensors in arguments or results, also in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors_in(entry)


def refuse_relevance(tensor: Tensor, name: str) -> None:
    """Raise in the backward pass if relevance arrives at a function without a rule.

    Args:
        tensor (Tensor): A result, in the graph.
        name (str): The function that returned it.
    """

    def refuse(relevance: Tensor | None) -> None:
        if relevance is not None and bool((relevance != 0).any()):
            raise ValueError(no_rule_message(name))

    tensor.register_hook(refuse)


def no_rule_message(name: str) -> str:
    """Write the error for a function without a rule, and how to avoid it."""
    return (
        f"model: relevance arrives at {name}, which has no relevance rule, so that its "
        "total would not be kept; write this step with functions that have one "
        "(F.linear, matmul, einsum, convolutions, sums, products, softmax, activations "
        "and norms: see captum_mda.backward.RelevancePropagation), or use a method "
        "without relevance, such as LeGrad"
    )


class _Batch(threading.local):
    """The number of examples that the model was called with, on this thread."""

    size: int | None = None


_BATCH = _Batch()


def batch_size() -> int | None:
    """Return the number of examples in the model's call; None outside of a call."""
    return _BATCH.size


def set_batch_size(size: int | None) -> None:
    """Set the number of examples in the model's call."""
    _BATCH.size = size


def graph_position() -> int:
    """Return the latest number of an autograd node on this thread."""
    with torch._C.DisableTorchFunction(), torch.enable_grad():
        node = (torch.zeros((), requires_grad=True) * 1).grad_fn
    return position_of(node)


def position_of(node: Any) -> int:
    """Read a node's number."""
    number: Callable[[], int] | None = getattr(node, "_sequence_nr", None)
    return -1 if number is None else number()
