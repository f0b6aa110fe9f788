"""A model's stream of tokens, which can be entered at any block."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.observation import block_hooks

Edit = Callable[[int, Tensor], Tensor]
"""Takes a block's index and its output (R, T, D); returns what goes on."""


class TokenStream:
    """The tokens of some inputs at chosen places, and runs of the model from there.

    One forward notes the tokens and whatever else the model passes to its blocks, such
    as rotary positions. Then blocks are called by themselves, so that work that many
    runs share is done once.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W).
        *arguments (any): Passed to the model behind the inputs.
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
        """Run the model once and note what is wanted."""
        self.adapter = adapter
        self.tokens: dict[int, Tensor] = {}
        self._extras: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._batch_size = len(inputs)
        wanted = set(places)

        def enter_block(module: nn.Module, args: Any, kwargs: Any) -> None:
            block = len(self._extras)
            tokens, args, kwargs = _split(args, kwargs)
            self.n_tokens = tokens.shape[1]
            if block in wanted:
                self.tokens[block] = tokens
            self._extras.append((args, kwargs))

        def leave_block(module: nn.Module, args: Any, output: Any) -> None:
            if len(self._extras) == adapter.depth and adapter.depth in wanted:
                self.tokens[adapter.depth] = _first(output)

        with torch.no_grad(), block_hooks(adapter, enter_block, leave_block):
            self.outputs = adapter(inputs, *arguments)

    def keep(self, patches: Tensor) -> Tensor:
        """List the tokens that stay where only some patches do.

        Args:
            patches (Tensor): int64 (R, k), ascending, from 0 on.

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
            first_block (int): The block, from 0 on; the depth runs only the tail.
            rows (Tensor, optional): int64 (R,) on the CPU, the input each row stems
                from. None: they are the inputs. Default: None
            edit (callable, optional): Changes the tokens behind each block.
                Default: None
            kept (Tensor, optional): int64 (R, T'), which tokens there are, prefix
                included, where some were dropped; rotary positions follow.
                Default: None

        Returns:
            *Tensor*: (R, ...), the model's outputs.

        Raises:
            ValueError: Tokens were dropped that the model's attention has positions
                for.
        """
        with torch.no_grad():
            for block in range(first_block, self.adapter.depth):
                args, kwargs = self._extras_of(block, rows, kept)
                try:
                    tokens = _first(self.adapter.blocks[block](tokens, *args, **kwargs))
                except RuntimeError as error:
                    if kept is None or "size" not in str(error):
                        raise
                    raise ValueError(
                        "model: its attention has positions of its own, which dropped "
                        "tokens leave without a partner; mask patches instead"
                    ) from error
                if edit is not None:
                    tokens = edit(block, tokens)
            return self.adapter.tail(tokens)

    def _extras_of(
        self, block: int, rows: Tensor | None, kept: Tensor | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let what was passed to a block follow rows and dropped tokens."""
        args, kwargs = self._extras[block]

        def follow(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if kept is not None and value.dim() >= 2:
                return self._rotary_positions(value, kept)
            per_input = value.dim() > 0 and len(value) == self._batch_size > 1
            if rows is not None and per_input:
                return value[rows.to(value.device)]
            return value

        return (
            tuple(follow(value) for value in args),
            {name: follow(value) for name, value in kwargs.items()},
        )

    def _rotary_positions(self, table: Tensor, kept: Tensor) -> Tensor:
        """Take the kept patches' rows of a table (..., P, d): (R, 1, k, d)."""
        n_prefix = self.adapter.n_prefix_tokens
        if table.dim() != 2 or table.shape[0] != self.n_tokens - n_prefix:
            raise ValueError(
                "model: it passes its blocks a tensor of shape "
                f"{tuple(table.shape)}, which cannot follow dropped tokens; mask "
                "patches instead"
            )
        return table[kept[:, n_prefix:].to(table.device) - n_prefix][:, None]


def _split(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """Divide a block's arguments into its tokens and the others."""
    if args:
        return args[0], args[1:], kwargs
    name = next(iter(kwargs))
    return kwargs[name], (), {k: v for k, v in kwargs.items() if k != name}


def _first(output: Any) -> Tensor:
    tokens: Tensor = output[0] if isinstance(output, tuple) else output
    return tokens
