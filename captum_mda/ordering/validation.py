"""Checks of what an ordering returns, whoever wrote it."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_mda._checks import type_of
from captum_mda.ordering.base import SearchResult, SearchTask


def validated_result(result: object, task: SearchTask) -> SearchResult:
    """Check the result of an ordering.

    Args:
        result (object): What the ordering returned.
        task (SearchTask): The task it was called with.

    Returns:
        *SearchResult*: the same, int64 and float64 on the CPU.

    Raises:
        TypeError: It is no `SearchResult`, or a field is no tensor of its dtype.
        ValueError: A shape does not fit, a row of the order is no permutation, a count
            is out of range, or a response is infinite.
    """
    if not isinstance(result, SearchResult):
        raise TypeError(
            f"ordering: returned {type_of(result)}, must return a SearchResult"
        )
    n_examples, n = len(task.examples), task.responses.n_features
    order = _integers("order", result.order, (n_examples, n))
    n_inserted = _integers("n_inserted", result.n_inserted, (n_examples,))
    if not torch.equal(order.sort(dim=1).values, torch.arange(n).expand_as(order)):
        raise ValueError(
            f"ordering: returned an order that does not rank each of {n} features "
            "once; every row must be a permutation of 0, 1, ..., N - 1"
        )
    if len(n_inserted) and not 0 <= int(n_inserted.min()) <= int(n_inserted.max()) <= n:
        raise ValueError(
            f"ordering: returned n_inserted from {int(n_inserted.min())} to "
            f"{int(n_inserted.max())}, must be 0 to {n}"
        )
    return SearchResult(
        order=order,
        n_inserted=n_inserted,
        insertion=_responses("insertion", result.insertion, (n_examples, n + 1)),
        deletion=_responses("deletion", result.deletion, (n_examples, n + 1)),
    )


def _integers(name: str, values: object, shape: tuple[int, ...]) -> Tensor:
    tensor = _shaped(name, values, shape)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"ordering: returned {name} of {tensor.dtype}, must be int64")
    return tensor.detach().to("cpu", torch.int64)


def _responses(name: str, values: object, shape: tuple[int, ...]) -> Tensor:
    tensor = _shaped(name, values, shape)
    if not tensor.is_floating_point():
        raise TypeError(f"ordering: returned {name} of {tensor.dtype}, must be float64")
    if bool(torch.isinf(tensor).any()):
        raise ValueError(
            f"ordering: returned infinite values in {name}; must be raw responses, NaN "
            "where one is not known"
        )
    return tensor.detach().to("cpu", torch.float64)


def _shaped(name: str, values: object, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(values, Tensor) or values.is_meta:
        what = "a tensor on meta" if isinstance(values, Tensor) else type_of(values)
        raise TypeError(f"ordering: returned {what} as {name}, must be a tensor")
    if values.layout != torch.strided or tuple(values.shape) != shape:
        raise ValueError(
            f"ordering: returned {name} of shape {tuple(values.shape)}, must be a "
            f"dense tensor of shape {shape}"
        )
    return values
