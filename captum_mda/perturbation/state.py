"""Leaves the caller's model and random number generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn, Tensor


@contextmanager
def preserved_state(forward_func: object, inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Undo what forwards may change: random number generators and buffers.

    Dropout draws random numbers, and batch normalisation in training mode updates its
    statistics. Both are as before afterwards, also after an error or an interrupt.

    Args:
        forward_func (callable): Whatever computes the responses; where it is a module
            in training mode, or a method of one, its buffers are restored.
        inputs (tuple[Tensor, ...]): The inputs, for the devices whose generators are in
            use.
    """
    cuda = {t.device.index or 0 for t in inputs if t.device.type == "cuda"}
    module = getattr(forward_func, "__self__", forward_func)
    buffers = _buffers_in_training(module) if isinstance(module, nn.Module) else []
    with torch.random.fork_rng(devices=sorted(cuda)):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def _buffers_in_training(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [
        (buffer, buffer.clone())
        for part in module.modules()
        if part.training
        for buffer in part.buffers(recurse=False)
    ]
