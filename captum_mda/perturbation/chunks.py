"""Working through many rows, as many at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from captum_mda._memory import MEMORY_ERRORS, ran_out_of_memory

# Chunk sizes to begin with when none is given. A CPU is fastest while the activations
# of a chunk stay in its caches; an accelerator wants as many rows as fit.
CPU_ROWS = 16
ACCELERATOR_ROWS = 512

Result = TypeVar("Result")


def default_rows(device: torch.device) -> int:
    """Say how many rows to begin with in one forward."""
    return CPU_ROWS if device.type == "cpu" else ACCELERATOR_ROWS


def in_chunks(
    work: Callable[[slice, int], Result],
    n_rows: int,
    size: int,
    may_shrink: bool,
    fills_forwards: bool = False,
) -> tuple[list[Result], int]:
    """Work on chunks of rows; when memory runs out, on half as many at a time.

    Args:
        work (callable): Takes a slice of the rows and the size of chunks.
        n_rows (int): How many rows there are.
        size (int): The most rows at a time, to begin with.
        may_shrink (bool): Whether chunks may be halved; else the error passes.
        fills_forwards (bool, optional): Whether the work on a row fills forwards of
            the chunks' size, so that smaller chunks help with a single row, too.
            Default: False

    Returns:
        *list*, *int*: what the work returned for each chunk, and the size at the end.
    """
    results = list[Result]()
    start = 0
    while start < n_rows:
        rows = slice(start, start + size)
        try:
            result = work(rows, size)
        except MEMORY_ERRORS as error:
            largest = size if fills_forwards else min(size, n_rows - start)
            if not (may_shrink and largest > 1 and ran_out_of_memory(error)):
                raise
            size = largest // 2
            continue
        results.append(result)
        start += size
    return results, size
