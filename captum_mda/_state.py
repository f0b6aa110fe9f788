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
                for part, name, buffer, value in buffers:
                    part._buffers[name] = buffer.copy_(value)


def _buffers_in_training(
    module: nn.Module,
) -> list[tuple[nn.Module, str, Tensor, Tensor]]:
    """List each buffer with its owner, its name and a copy of its value."""
    return [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        if part.training
        for name, buffer in part.named_buffers(recurse=False)
    ]
