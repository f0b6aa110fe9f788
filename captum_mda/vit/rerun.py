"""The end of a model that is known by running it: from the last block's tokens on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, Tensor


@dataclass(frozen=True, eq=False)
class RerunTail:
    """What a model makes of the last block's tokens, by running all of it again.

    The model runs on an example; where its last block is done, the tokens take the
    place of what came out. So the code behind the blocks may be any. One example
    serves all rows of tokens, unless that code takes the number of rows from the
    inputs.

    Args:
        run (callable): From inputs (B, ...) to the model's output.
        blocks (tuple[nn.Module, ...]): The model's blocks.
        example (callable): Makes an input (1, ...) of the model's dtype and device.
    """

    run: Callable[[Tensor], Tensor]
    blocks: tuple[nn.Module, ...]
    example: Callable[[], Tensor]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Run the model from the last block's output (R, T, D) on: (R, ...)."""
        example = self.example()
        n_rows = len(tokens)
        try:
            output = self._output(tokens, example)
            if n_rows == 1 or (output.dim() > 0 and len(output) == n_rows):
                return output
        except (RuntimeError, ValueError, IndexError):
            if n_rows == 1:
                raise
        return self._output(tokens, example.expand(n_rows, *example.shape[1:]))

    def _output(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        thread, with_graph = threading.get_ident(), torch.is_grad_enabled()

        def begin(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == thread:
                torch.set_grad_enabled(False)  # what the blocks make is not used

        def end(module: nn.Module, args: Any, output: Any) -> Any:
            if threading.get_ident() != thread:
                return output
            torch.set_grad_enabled(with_graph)
            return (tokens, *output[1:]) if isinstance(output, tuple) else tokens

        with torch.set_grad_enabled(with_graph), ExitStack() as handles:
            first = self.blocks[0].register_forward_pre_hook(begin)
            handles.callback(first.remove)
            # Before the model's own hooks, which may note what the block returned.
            last = self.blocks[-1].register_forward_hook(end, prepend=True)
            handles.callback(last.remove)
            return self.run(inputs)
