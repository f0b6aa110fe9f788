"""One observed forward pass: the output, attention maps, tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.biases import BiasCapture
from captum_mda.vit.capture import AttentionCapture, AttentionRecord


@dataclass(eq=False)
class Observation:
    """What a forward pass did.

    Args:
        outputs (Tensor): (B, ...), what the model returned.
        tokens (list[Tensor]): (B, T, D) each: the input of each block, from the first
            observed one on, and the last one's output. The first begins the graph.
        attention (list[AttentionRecord]): One for each of these blocks; empty if not
            asked for.
        pooler (AttentionRecord, optional): The first attention behind the blocks.
    """

    outputs: Tensor
    tokens: list[Tensor] = field(default_factory=list)
    attention: list[AttentionRecord] = field(default_factory=list)
    pooler: AttentionRecord | None = None

    @property
    def maps(self) -> list[Tensor]:
        """The attention maps of the blocks, (B, H, T, T) each, in the graph."""
        return [record.probabilities for record in self.attention]


def observe(
    adapter: ViTAdapter,
    inputs: Tensor,
    *arguments: object,
    attention: bool = True,
    first_block: int = 0,
    biases: BiasCapture | None = None,
) -> Observation:
    """Run a model and note what its blocks do; nothing of it is changed.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W).
        *arguments (any): Passed to the model behind the inputs.
        attention (bool, optional): Whether to record attention maps. Default: True
        first_block (int, optional): The block to begin at. Those before it run as they
            always do, fused and without a graph, which saves time and memory.
            Default: 0
        biases (BiasCapture, optional): Switched on at the first block; the caller has
            entered it. Default: None

    Returns:
        *Observation*: with a graph from the input of the first block on, where
        gradients are enabled.

    Raises:
        RuntimeError: The blocks' attention maps are not as many as the blocks, or have
            no gradient though gradients are enabled.
    """
    seen = Observation(torch.empty(0))
    capture = AttentionCapture()
    capture.active = False  # until the first block that is asked for
    with_graph = torch.is_grad_enabled()
    ends: list[int] = []  # how many records there were when each block was done
    n_entered = 0

    def enter_block(module: nn.Module, args: Any, kwargs: Any) -> Any:
        nonlocal n_entered
        n_entered += 1
        if n_entered <= first_block:
            return None
        begins = n_entered == first_block + 1
        if begins:
            torch.set_grad_enabled(with_graph)
            capture.active = attention
            if biases is not None:
                biases.active = True
        tokens, args, kwargs = _entered(args, kwargs, begins and with_graph)
        seen.tokens.append(tokens)
        ends.append(len(capture.records))
        return args, kwargs

    def leave_block(module: nn.Module, args: Any, output: Any) -> None:
        if n_entered == adapter.depth:
            seen.tokens.append(output[0] if isinstance(output, tuple) else output)
            ends.append(len(capture.records))

    with (
        block_hooks(adapter, enter_block, leave_block),
        torch.set_grad_enabled(with_graph and first_block == 0),
        capture if attention else nullcontext(),
    ):
        seen.outputs = adapter(inputs, *arguments)
    if attention:
        _sort_records(adapter, seen, capture.records, ends, first_block)
    return seen


def _sort_records(
    adapter: ViTAdapter,
    seen: Observation,
    records: list[AttentionRecord],
    ends: list[int],
    first_block: int,
) -> None:
    """Give each block its attention, and the pooler its own."""
    per_block = [end - start for start, end in pairwise(ends)]
    n_blocks = adapter.depth - first_block
    if per_block != [1] * n_blocks:
        raise RuntimeError(
            f"model: saw {per_block} attention maps in {n_blocks} blocks, takes "
            "one in each; attention by another library's kernels (flash-attn, "
            "xformers), models run in other threads, and blocks with several "
            "attentions cannot be read; load the model with PyTorch's scaled "
            "dot-product attention or explicit attention"
        )
    seen.attention = records[ends[0] : ends[-1]]
    if torch.is_grad_enabled() and not all(map_.requires_grad for map_ in seen.maps):
        raise RuntimeError(
            "model: its attention maps have no gradient, takes attention that PyTorch "
            "differentiates; a torch.autograd.Function with its own backward pass, "
            "or torch.no_grad inside the model, hides them"
        )
    behind = records[ends[-1] :]
    seen.pooler = behind[0] if behind else None


def _entered(
    args: tuple[Any, ...], kwargs: dict[str, Any], begins_graph: bool
) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """Find a block's tokens, and let a graph begin at them where one should."""
    name = None if args else next(iter(kwargs))
    tokens: Tensor = args[0] if name is None else kwargs[name]
    if begins_graph:
        tokens = tokens.detach().requires_grad_()
        if name is None:
            args = (tokens, *args[1:])
        else:
            kwargs = kwargs | {name: tokens}
    return tokens, args, kwargs


@contextmanager
def block_hooks(
    adapter: ViTAdapter,
    enter: Callable[[nn.Module, Any, Any], Any],
    leave: Callable[[nn.Module, Any, Any], None],
) -> Iterator[None]:
    """Call functions before and after each block, on this thread, until the exit."""
    thread = threading.get_ident()

    # Another thread's forward that has listed the hooks calls them though they were
    # removed meanwhile, and then knows no more that this one takes the keywords.
    def before(module: nn.Module, args: Any, kwargs: Any = None) -> Any:
        if threading.get_ident() == thread:
            return enter(module, args, kwargs)
        return None

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            leave(module, args, output)

    handles = []
    try:
        for block in adapter.blocks:
            handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(block.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()
