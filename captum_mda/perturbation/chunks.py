"""Works through many rows, as many at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from captum_mda._memory import MEMORY_ERRORS, ran_out_of_memory

# Sizes at the start where none is given. A CPU is fastest while the activations of a
# chunk stay in its caches; an accelerator takes as many rows as fit.
CPU_ROWS = 16
ACCELERATOR_ROWS = 512

Result = TypeVar("Result")


@dataclass(frozen=True)
class ChunkSize:
    """The number of rows in a chunk.

    Args:
        rows (int): The largest number of rows.
        may_shrink (bool): Whether to halve it where memory runs out; else the error
            passes.
    """

    rows: int
    may_shrink: bool

    @classmethod
    def of(cls, rows: int | None, device: torch.device, at_least: int = 1) -> ChunkSize:
        """Take the caller's size, or as many rows as fit.

        Args:
            rows (int, optional): The caller's size. None: `default_rows`, which may
                shrink.
            device (torch.device): The device of the rows.
            at_least (int, optional): The least size to start with where the caller has
                none. Default: 1
        """
        if rows is not None:
            return cls(rows, may_shrink=False)
        return cls(max(default_rows(device), at_least), may_shrink=True)


def default_rows(device: torch.device) -> int:
    """Choose the number of rows of the first forward."""
    return CPU_ROWS if device.type == "cpu" else ACCELERATOR_ROWS


def in_chunks(
    work: Callable[[slice, int], Result],
    n_rows: int,
    size: ChunkSize,
    fills_forwards: bool = False,
) -> tuple[list[Result], ChunkSize]:
    """Work on chunks of rows; where memory runs out, on half as many at a time.

    Args:
        work (callable): Takes a slice of the rows and the number of rows of a chunk.
        n_rows (int): The number of rows.
        size (ChunkSize): The size of the first chunk.
        fills_forwards (bool, optional): Whether the work on one row fills forwards of
            the chunks' size, so that smaller chunks help with a single row, too.
            Default: False

    Returns:
        *list*, *ChunkSize*: the result of each chunk, and the size at the end.
    """
    results = list[Result]()
    start = 0
    while start < n_rows:
        rows = slice(start, start + size.rows)
        try:
            result = work(rows, size.rows)
        except MEMORY_ERRORS as error:
            largest = size.rows if fills_forwards else min(size.rows, n_rows - start)
            if not (size.may_shrink and largest > 1 and ran_out_of_memory(error)):
                raise
            size = replace(size, rows=largest // 2)
            continue
        results.append(result)
        start += size.rows
    return results, size


def scored_in_chunks(
    score: Callable[[slice], tuple[Tensor, ...]],
    examples: Tensor,
    size: ChunkSize,
    count: Callable[[Tensor], None],
) -> tuple[tuple[Tensor, ...], ChunkSize]:
    """Score chunk by chunk, with smaller ones where memory runs out, and count.

    Args:
        score (callable): Takes a slice of the rows, and returns tensors (r, ...).
        examples (Tensor): int64 (R,), the example of each row.
        size (ChunkSize): The size of the first chunk.
        count (callable): Takes the examples of a chunk that is done.

    Returns:
        *tuple[Tensor, ...]*, *ChunkSize*: the tensors of all rows, (R, ...), and the
        size at the end.
    """
    # Into tensors that are made once: thousands of small ones, made between large ones
    # that are freed again, would hold on to gigabytes.
    found: tuple[Tensor, ...] = ()

    def work(rows: slice, size: int) -> None:
        nonlocal found
        found = _put(score(rows), rows, found, len(examples))
        count(examples[rows])

    _, fits = in_chunks(work, len(examples), size)
    return found, fits


def _put(
    scores: tuple[Tensor, ...], rows: slice, found: tuple[Tensor, ...], n_rows: int
) -> tuple[Tensor, ...]:
    """Copy some rows' scores into the tensors of all, which the first chunk makes."""
    scores = tuple(each.detach() for each in scores)
    if not found:
        found = tuple(each.new_empty(n_rows, *each.shape[1:]) for each in scores)
    dtypes = [
        torch.promote_types(of_all.dtype, each.dtype)
        for of_all, each in zip(found, scores, strict=True)
    ]
    found = tuple(of_all.to(dtype) for of_all, dtype in zip(found, dtypes, strict=True))
    for of_all, each in zip(found, scores, strict=True):
        of_all[rows] = each
    return found
