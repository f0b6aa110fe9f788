"""Tokens between the blocks of a model, and runs of the model from there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._memory import ran_out_of_memory
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.block_calls import (
    block_hooks,
    BlockCall,
    require_calls,
    tokens_of,
)
from captum_mda.vit.equality import differences, differs, HALF_TOLERANCE
from captum_mda.vit.execution import is_random
from captum_mda.vit.rerun import NeedsAllTokensError, RerunTail

Edit = Callable[[int, Tensor], Tensor]
"""From a block's index and output (R, T, D) to the next block's input."""


class CannotDropError(ValueError):
    """The model's attention needs every token."""


class TokenStream:
    """The tokens of some inputs at chosen blocks, and runs of the model from there.

    One forward records the tokens and everything else that the model passes to its
    blocks, such as rotary positions. Later runs call only the remaining blocks, so that
    the work that many runs share is done once.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W).
        *arguments (any): Passed to the model after the inputs.
        places (collection of int): Where tokens are kept: 0 is the input of the first
            block, l the output of the l-th, counted from 1.

    Example::

        >>> import torch
        >>> from captum_mda import demo
        >>> from captum_mda.vit import resolve, TokenStream
        >>> model = demo.load_model()
        >>> images = demo.make_samples(n=2, seed=2).images
        >>> stream = TokenStream(resolve(model), images, places=[2])
        >>> again = stream.run(stream.tokens[2], first_block=2)
        >>> torch.allclose(again, model(images), atol=1e-5)
        True
    """

    def __init__(
        self,
        adapter: ViTAdapter,
        inputs: Tensor,
        *arguments: object,
        places: Collection[int] = (),
    ) -> None:
        """Run the model once, and record its tokens."""
        self.adapter = adapter
        self.tokens: dict[int, Tensor] = {}
        self._calls: list[BlockCall] = []
        self._inputs, self._arguments = inputs, arguments
        self._batch_size = len(inputs)
        self._follows_rows = True
        wanted = set(places)
        called: list[nn.Module] = []

        def enter_block(module: nn.Module, args: Any, kwargs: Any) -> None:
            block = len(called)
            called.append(module)
            call = BlockCall.of(args, kwargs)
            self.n_tokens = call.tokens.shape[1]
            if block in wanted:
                # A copy, as below: blocks may change tokens in place.
                self.tokens[block] = call.tokens.clone()
            self._calls.append(call.replaced(None))

        def leave_block(module: nn.Module, args: Any, output: Any) -> None:
            if len(called) == adapter.depth and adapter.depth in wanted:
                self.tokens[adapter.depth] = tokens_of(output).clone()

        with torch.no_grad(), block_hooks(adapter, enter_block, leave_block):
            # Copies: the model may change its input, or reuse its output's memory.
            self.outputs = adapter(inputs.clone(), *arguments).clone()
        require_calls(adapter, called)

    def require_own_outputs(
        self,
        place: int,
        examples: Tensor | None = None,
        like: TokenStream | None = None,
        dropping: bool = False,
    ) -> None:
        """Raise if an unchanged run does not give the model's own outputs.

        Random models in training mode are not compared.

        Args:
            place (int): The block to run from, whose tokens were kept.
            examples (Tensor, optional): int64 (B,), the numbers of the inputs in the
                message. Default: None
            like (TokenStream, optional): The stream whose tokens are run, with the
                other arguments of this stream. None: this stream. Default: None
            dropping (bool, optional): Whether runs that drop tokens follow.
                Default: False

        Raises:
            ValueError: Outputs differ; the message names the first example.
            CannotDropError: As `run`.
        """
        if is_random(self.adapter.model):
            return
        source = self if like is None else like
        rows = torch.arange(self._batch_size).flip(0)
        tokens, wanted = source.tokens[place].flip(0), source.outputs.flip(0)
        n_patches = self.n_tokens - self.adapter.n_prefix_tokens
        patches = torch.arange(n_patches, device=tokens.device)
        kept = self.keep(patches.expand(len(rows), -1)) if dropping else None
        outputs = self.run(tokens, place, rows, kept=kept)
        if self._follows_rows and self._is_off(outputs, wanted):
            # A table shared by all inputs may have one row per input by chance.
            self._follows_rows = False
            outputs = self.run(tokens, place, rows, kept=kept)
        if not self._is_off(outputs, wanted):
            return
        difference = "their shape"
        row = 0
        if outputs.shape == wanted.shape:
            bad = differs(outputs, wanted).cpu()
            row = int(bad.nonzero()[0])
            largest = float(wanted[row].abs().max())
            by = float(differences(outputs, wanted)[row])
            difference = f"{by:.2g}, of at most {largest:.2g}"
        example = int(rows[row] if examples is None else examples[rows[row]])
        raise ValueError(
            f"model: its blocks from {place} on and the adapter's tail, run by "
            f"themselves with nothing removed, differ from its own output for example "
            f"{example} by {difference}; takes a model that does nothing but its "
            "blocks between them, and a tail that repeats all that follows, hooks "
            "included; see docs/adapters.md"
        )

    @staticmethod
    def _is_off(outputs: Tensor, wanted: Tensor) -> bool:
        if outputs.shape != wanted.shape:
            return True
        tolerance = None
        if outputs.dtype != wanted.dtype or _casts(wanted.device):
            tolerance = HALF_TOLERANCE
        return bool(differs(outputs, wanted, tolerance).any())

    def shares_arguments_with(self, other: TokenStream) -> bool:
        """Tell whether blocks got the same arguments besides their tokens."""
        return all(
            len(ours.tensors()) == len(theirs.tensors())
            and all(map(_same, ours.tensors(), theirs.tensors()))
            for ours, theirs in zip(self._calls, other._calls, strict=True)
        )

    def keep(self, patches: Tensor) -> Tensor:
        """List the tokens that are kept with some of the patches.

        Args:
            patches (Tensor): int64 (R, k), ascending, counted from 0.

        Returns:
            *Tensor*: int64 (R, prefix + k), all prefix tokens and these patches'.
        """
        n_prefix = self.adapter.n_prefix_tokens
        prefix = torch.arange(n_prefix, device=patches.device)
        return torch.cat([prefix.expand(len(patches), -1), patches + n_prefix], dim=1)

    def run(
        self,
        tokens: Tensor,
        first_block: int,
        rows: Tensor | None = None,
        edit: Edit | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Run the model from a block on.

        Args:
            tokens (Tensor): (R, T', D), the block's input.
            first_block (int): The block, counted from 0; the depth runs only the tail.
            rows (Tensor, optional): int64 (R,) on the CPU, the input that each row
                stems from. None: row i from input i. Default: None
            edit (callable, optional): Changes the tokens after each block.
                Default: None
            kept (Tensor, optional): int64 (R, T'), the tokens that were kept, prefix
                included; rotary positions are selected accordingly. None: all.
                Default: None

        Returns:
            *Tensor*: (R, ...), the model's outputs.

        Raises:
            CannotDropError: Tokens were dropped, but the model's attention has
                positions of all tokens.
        """
        with torch.no_grad():
            for index in range(first_block, self.adapter.depth):
                call = self._following(index, rows, kept).replaced(tokens)
                block = self.adapter.blocks[index]
                try:
                    tokens = tokens_of(block(*call.args, **call.kwargs))
                except RuntimeError as error:
                    if ran_out_of_memory(error):
                        raise
                    if kept is None or "size" not in str(error):
                        raise
                    raise CannotDropError(
                        "model: its attention has positions of its own, which dropped "
                        "tokens leave without a partner; mask patches instead"
                    ) from error
                if edit is not None:
                    tokens = edit(index, tokens)
            return self._finished(tokens, rows)

    def _finished(self, tokens: Tensor, rows: Tensor | None) -> Tensor:
        """Run the tail, with the inputs of the rows where it takes them."""
        if not isinstance(self.adapter.tail, RerunTail):
            return self.adapter.tail(tokens)

        def of_rows(value: Any) -> Any:
            if rows is None or not isinstance(value, Tensor) or value.dim() == 0:
                return value
            per_input = len(value) == self._batch_size
            return value[rows.to(value.device)] if per_input else value

        arguments = [of_rows(value) for value in (self._inputs, *self._arguments)]
        try:
            return self.adapter.finish(tokens, *arguments)
        except NeedsAllTokensError as error:
            raise CannotDropError(f"{error}") from error

    def _following(
        self, block: int, rows: Tensor | None, kept: Tensor | None
    ) -> BlockCall:
        """Select the rows and kept tokens of a block's other arguments."""

        def follow(value: Tensor) -> Tensor:
            if kept is not None and value.dim() >= 2:
                return self._rotary_positions(value, kept)
            if rows is not None and self._follows_rows and self._is_per_input(value):
                return value[rows.to(value.device)]
            return value

        return self._calls[block].mapped(follow)

    def _is_per_input(self, value: Tensor) -> bool:
        return value.dim() > 0 and len(value) == self._batch_size > 1

    def _rotary_positions(self, table: Tensor, kept: Tensor) -> Tensor:
        """Select the kept rows of a table (..., P or T, d): (R, 1 or H, k, d)."""
        n_prefix = self.adapter.n_prefix_tokens
        # For all heads, or per head: (P, d), (1, 1, P, d), (H, P, d).
        flat = table.squeeze() if table.dim() > 3 else table
        n_rows = flat.shape[-2]
        is_mask = n_rows == flat.shape[-1] == self.n_tokens
        if flat.dim() in (2, 3) and not is_mask:
            heads = flat if flat.dim() == 3 else flat[None]  # (1 or H, ..., d)
            if n_rows == self.n_tokens - n_prefix:
                places = kept[:, n_prefix:].to(table.device) - n_prefix
                return heads[:, places].transpose(0, 1)
            if n_rows == self.n_tokens:
                return heads[:, kept.to(table.device)].transpose(0, 1)
        raise CannotDropError(
            "model: it passes its blocks a tensor of shape "
            f"{tuple(table.shape)}, which cannot follow dropped tokens; mask "
            "patches instead"
        )


def _same(first: Tensor, second: Tensor) -> bool:
    return first is second or (
        first.shape == second.shape and bool(torch.equal(first, second))
    )


def _casts(device: torch.device) -> bool:
    """Tell whether the caller's autocast is on."""
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()
    except RuntimeError:  # the device has no autocast
        return False
