"""Recognition of out-of-memory errors on all devices."""

from __future__ import annotations

import torch

MEMORY_ERRORS = (RuntimeError, MemoryError)
"""The errors raised when memory runs out, and also for other reasons."""

# CUDA, MPS and XPU; the CPU's allocator on Linux, macOS and Windows; cuBLAS and cuDNN.
_MESSAGES = (
    "out of memory",
    "can't allocate",
    "cannot allocate",
    "not enough memory",
    "alloc_cpu.cpp",
    "alloc_failed",
    "invalid buffer size",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out; if so, empty the cache."""
    message = str(error).lower()
    of_memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in message for each in _MESSAGES)
    )
    if of_memory and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return of_memory
