"""The tail of any model: a rerun of the model with the last block's tokens set."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._memory import ran_out_of_memory
from captum_mda._state import remove_hooks, undone


class NeedsAllTokensError(ValueError):
    """The code after the blocks does not accept fewer tokens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RerunTail:
    """A tail that runs the whole model and replaces the last block's output.

    The code after the blocks may be any. The model runs on one example for all rows of
    tokens, unless that code reads the number of rows from the inputs. If the output
    also depends on the inputs in other ways than through the blocks, or the model takes
    further arguments, it runs on the inputs and these arguments.

    Args:
        run (callable): From inputs (B, ...) and further arguments to the model's
            output.
        blocks (tuple[nn.Module, ...]): The model's blocks.
        example (callable): Makes an input (1, ...) of the model's dtype and device.
        needs_inputs (bool, optional): Whether the output depends on the inputs in
            other ways than through the blocks. Default: False
    """

    run: Callable[..., Tensor]
    blocks: tuple[nn.Module, ...]
    example: Callable[[], Tensor]
    needs_inputs: bool = False

    def __call__(
        self, tokens: Tensor, inputs: Tensor | None = None, *arguments: Any
    ) -> Tensor:
        """Run the model from the last block's output (R, T, D) on: (R, ...).

        Args:
            tokens (Tensor): (R, T, D).
            inputs (Tensor, optional): (R, ...), the inputs that the tokens stem from.
                None: not known. Default: None
            *arguments (any): Passed to the model after the inputs.

        Raises:
            ValueError: The output depends on the inputs, which are not known.
            NeedsAllTokensError: The code after the blocks needs the dropped tokens.
        """
        if inputs is not None and (self.needs_inputs or arguments):
            return self._output(tokens, inputs, *arguments)
        if self.needs_inputs:
            raise ValueError(
                "model: its output depends on the inputs in other ways than through "
                "the blocks of its adapter, and they are not known here"
            )
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

    def _output(self, tokens: Tensor, inputs: Tensor, *arguments: Any) -> Tensor:
        thread, with_graph = threading.get_ident(), torch.is_grad_enabled()
        counts: list[int] = []  # the number of the example's own tokens

        def begin(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == thread:
                torch.set_grad_enabled(False)  # the blocks' output is replaced

        def end(module: nn.Module, args: Any, output: Any) -> Any:
            if threading.get_ident() != thread:
                return output
            torch.set_grad_enabled(with_graph)
            returned, n_tokens = _with_tokens(output, tokens)
            counts.append(n_tokens)
            return returned

        ends = (self.blocks[0], self.blocks[-1])
        with (
            torch.set_grad_enabled(with_graph),
            undone(partial(remove_hooks, ends, begin, end)),
        ):
            self.blocks[0].register_forward_pre_hook(begin)
            # Before the model's own hooks, which may record the block's output, and
            # after them, as hooks that change it have changed the tokens before.
            for before in (True, False):
                self.blocks[-1].register_forward_hook(end, prepend=before)
            try:
                return self.run(inputs.clone(), *arguments)
            except RuntimeError as error:
                is_complete = not counts or counts[0] == tokens.shape[1]
                if is_complete or ran_out_of_memory(error):
                    raise
                raise NeedsAllTokensError(
                    f"model: the code behind its blocks needs all {counts[0]} tokens, "
                    f"got {tokens.shape[1]} with the others dropped; mask patches "
                    f"instead ({error})"
                ) from error


def _with_tokens(output: Any, tokens: Tensor) -> tuple[Any, int]:
    """Replace the tokens that a block returned, and count the replaced ones."""
    if isinstance(output, Tensor):
        return tokens, output.shape[1]
    if isinstance(output, (tuple, list)):
        return type(output)((tokens, *output[1:])), output[0].shape[1]
    changed = copy.copy(output)  # a mapping that begins with them
    first = next(iter(changed))
    changed[first] = tokens
    return changed, output[first].shape[1]
