"""The calls of blocks: their tokens among other arguments, and hooks around them."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn, Tensor

from captum_mda._state import remove_hooks, undone
from captum_mda.vit.adapter import ViTAdapter

_NAMES = ("hidden_states", "x", "tokens", "src", "input", "inputs")


class ObservationError(RuntimeError, ValueError):
    """The model does not run its blocks, or their attention, as its adapter says."""


@contextmanager
def block_hooks(
    adapter: ViTAdapter,
    enter: Callable[[nn.Module, Any, Any], Any],
    leave: Callable[[nn.Module, Any, Any], None],
) -> Iterator[None]:
    """Call functions before and after each block, on this thread, until the exit.

    ``enter`` runs before the caller's own hooks on a block's input, and ``leave`` after
    those on its output, so that both see the tokens as they are between blocks.
    """
    thread = threading.get_ident()

    # Another thread's forward may still call a hook that was removed meanwhile, and
    # then passes no keywords.
    def before(module: nn.Module, args: Any, kwargs: Any = None) -> Any:
        if threading.get_ident() == thread:
            return enter(module, args, kwargs)
        return None

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            leave(module, args, output)

    blocks = list(dict.fromkeys(adapter.blocks))  # a block may run repeatedly
    with undone(partial(remove_hooks, blocks, before, after)):
        for block in blocks:
            block.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
            block.register_forward_hook(after)
        yield


def token_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | str:
    """Find the tokens among a block's arguments: their position, or their name.

    Raises:
        ObservationError: None of them is a sequence of floating-point tokens.
    """
    named: list[tuple[int | str, Any]] = [*enumerate(args)]
    names = sorted(kwargs, key=lambda name: name not in _NAMES)
    named += [(name, kwargs[name]) for name in names]
    tensors = [
        (key, value)
        for key, value in named
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2
    ]
    for key, value in tensors:
        if value.dim() == 3:
            return key
    if tensors:
        return tensors[0][0]
    raise ObservationError(
        "model: a block of its adapter is called without a tensor of tokens (B, T, D); "
        f"it gets {', '.join(type(value).__name__ for _, value in named) or 'nothing'}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class BlockCall:
    """The arguments of a block's call.

    Args:
        args (tuple): Arguments by position.
        kwargs (dict): Arguments by name.
        key (int or str): The position or name of the tokens.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: int | str

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockCall:
        """Find the tokens among a block's arguments."""
        return cls(args, dict(kwargs), token_argument(args, kwargs))

    @property
    def tokens(self) -> Tensor:
        """The tokens (B, T, D)."""
        key = self.key
        found: Tensor = self.args[key] if isinstance(key, int) else self.kwargs[key]
        return found

    def replaced(self, tokens: Tensor | None) -> BlockCall:
        """Replace the tokens."""
        key = self.key
        if isinstance(key, int):
            args = (*self.args[:key], tokens, *self.args[key + 1 :])
            return BlockCall(args, self.kwargs, key)
        return BlockCall(self.args, {**self.kwargs, key: tokens}, key)

    def mapped(self, change: Callable[[Any], Any]) -> BlockCall:
        """Change every tensor among the arguments, also inside containers."""
        return BlockCall(
            _mapped(self.args, change), _mapped(self.kwargs, change), self.key
        )

    def tensors(self) -> list[Tensor]:
        """List the tensors among the arguments."""
        found: list[Tensor] = []
        self.mapped(found.append)
        return found


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(entry, change) for entry in value)
    if type(value) is dict:
        return {name: _mapped(entry, change) for name, entry in value.items()}
    return value


def tokens_of(output: Any) -> Tensor:
    """Find the tokens in a block's return value: itself, or its first entry.

    Raises:
        ObservationError: There is no tensor.
    """
    found = output
    if isinstance(found, Mapping):  # as are the outputs of transformers
        found = next(iter(found.values()), None)
    elif isinstance(found, (tuple, list)):
        found = found[0] if len(found) else None
    elif dataclasses.is_dataclass(found) and not isinstance(found, type):
        found = getattr(found, dataclasses.fields(found)[0].name)
    if not isinstance(found, Tensor):
        raise ObservationError(
            f"model: a block of its adapter returned {type(output).__name__}, takes "
            "tokens (B, T, D), or a tuple, list, mapping or dataclass that begins with "
            "them"
        )
    return found


def require_calls(adapter: ViTAdapter, called: Sequence[nn.Module]) -> None:
    """Raise unless the model ran the adapter's blocks, each once and in order.

    Args:
        adapter (ViTAdapter): The model that ran.
        called (sequence of Module): Its blocks, in the order of their calls.

    Raises:
        ObservationError: They did not; the message says what ran instead.
    """
    if len(called) == adapter.depth and all(
        block is wanted for block, wanted in zip(called, adapter.blocks, strict=True)
    ):
        return
    counts, wanted = Counter(map(id, called)), Counter(map(id, adapter.blocks))
    never = [
        f"blocks[{index}] ({type(block).__name__})"
        for index, block in enumerate(adapter.blocks)
        if not counts[id(block)]
    ]
    if never:
        lists = any(
            isinstance(block, (nn.ModuleList, nn.ModuleDict))
            for block in adapter.blocks
            if not counts[id(block)]
        )
        hint = (
            "; a ModuleList or ModuleDict is never called itself: where no module is a "
            "whole block, make one that runs its parts"
            if lists
            else ""
        )
        ran = [counts[id(block)] for block in dict.fromkeys(called)]
        raise ObservationError(
            f"model: saw {ran} calls of {adapter.depth} blocks: {_some(never)} of its "
            "adapter never run when the model is called, or run in other threads, "
            "where they cannot be observed; takes modules that are called as "
            f"block(tokens), each a whole residual block{hint}"
        )
    often = [
        f"blocks[{index}] ran {counts[id(block)]} times"
        for index, block in enumerate(adapter.blocks)
        if counts[id(block)] != wanted[id(block)]
    ]
    if often:
        raise ObservationError(
            f"model: {_some(often)} in one forward, takes blocks that run once each; "
            "where the model runs its transformer several times, on crops or flipped "
            "images, make the adapter of the transformer itself; a block that really "
            "repeats stands in blocks as often as it runs"
        )
    raise ObservationError(
        "model: its blocks run in another order than they have in the adapter's "
        "blocks, takes them in the order in which they run"
    )


def _some(texts: Sequence[str]) -> str:
    """Join the first three texts."""
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
