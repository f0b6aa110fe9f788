"""One observed forward pass: the output, attention maps, tokens."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._summaries import Brief
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.biases import BiasCapture
from captum_mda.vit.block_calls import (
    block_hooks,
    BlockCall,
    ObservationError,
    require_calls,
    tokens_of,
)
from captum_mda.vit.capture import AttentionCapture, AttentionRecord


@dataclass(eq=False, repr=False)
class Observation(Brief):
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
        ObservationError: The blocks are not called once each, in order; their
            attention maps are not as many as the blocks, or have no gradient though
            gradients are enabled.
    """
    seen = Observation(torch.empty(0))
    capture = AttentionCapture()
    capture.active = False  # until the first block that is asked for
    with_graph = torch.is_grad_enabled()
    ends: list[int] = []  # how many records there were when each block was done
    called: list[nn.Module] = []

    def enter_block(module: nn.Module, args: Any, kwargs: Any) -> Any:
        called.append(module)
        call = BlockCall.of(args, kwargs)
        if len(called) <= first_block:
            # Not before: a torch.no_grad() of the model's own that ends behind its
            # blocks would bring this mode back for its head.
            torch.set_grad_enabled(False)
            return None
        begins = len(called) == first_block + 1
        if begins:
            torch.set_grad_enabled(with_graph)
            capture.active = attention
            if biases is not None:
                biases.active = True
        if begins and with_graph:
            call = call.replaced(call.tokens.detach().requires_grad_())
        seen.tokens.append(call.tokens)
        ends.append(len(capture.records))
        n_batch, n_tokens = call.tokens.shape[:2]
        capture.sequence = (n_batch, n_tokens) if n_batch and n_tokens else None
        return call.args, call.kwargs

    def leave_block(module: nn.Module, args: Any, output: Any) -> None:
        if len(called) == adapter.depth:
            seen.tokens.append(tokens_of(output))
            ends.append(len(capture.records))
            capture.sequence = None

    with (
        block_hooks(adapter, enter_block, leave_block),
        torch.set_grad_enabled(with_graph),
        capture if attention else nullcontext(),
    ):
        seen.outputs = adapter(inputs, *arguments)
    require_calls(adapter, called)
    if attention:
        _sort_records(adapter, seen, capture, ends, first_block)
    return seen


def _sort_records(
    adapter: ViTAdapter,
    seen: Observation,
    capture: AttentionCapture,
    ends: list[int],
    first_block: int,
) -> None:
    """Give each block its attention, and the pooler its own."""
    records = capture.records
    per_block = [records[start:end] for start, end in pairwise(ends)]
    if any(len(maps) != 1 for maps in per_block):
        counts = [len(maps) for maps in per_block]
        names = ", ".join(dict.fromkeys(type(each).__name__ for each in adapter.blocks))
        raise ObservationError(
            f"model: saw {counts} attention maps in {adapter.depth - first_block} "
            f"blocks ({names}), takes one in each; {_why(per_block, capture.others)}"
        )
    seen.attention = records[ends[0] : ends[-1]]
    if torch.is_grad_enabled() and not all(map_.requires_grad for map_ in seen.maps):
        raise ObservationError(
            "model: its attention maps have no gradient, takes attention that PyTorch "
            "differentiates; a torch.autograd.Function with its own backward pass, "
            "torch.no_grad() or torch.inference_mode() inside the model, or detach() "
            "hide them; take them out of the model's forward, or take a method that "
            "needs no gradient, such as MetricDrivenAttribution"
        )
    behind = records[ends[-1] :]
    seen.pooler = behind[0] if behind else None


def _why(per_block: list[list[AttentionRecord]], others: set[str]) -> str:
    """Say what blocks with no attention map, or with several, most likely do."""
    several = [maps for maps in per_block if len(maps) > 1]
    by_head = any(
        all(record.probabilities.shape[1] == 1 for record in maps) for maps in several
    )
    if by_head or "one head" in others:
        return (
            "attention is computed one head at a time; compute all heads together, as "
            "(B, heads, T, T) or (B * heads, T, T)"
        )
    if several:
        return (
            "blocks with several attentions, such as parallel branches or cross "
            "attention, cannot be read; take a method that reads no attention, such as "
            "CausalActivationPatching or FullGradPlus, or MetricDrivenAttribution"
        )
    for name in ("sigmoid", "relu"):
        if name in others:
            return (
                f"attention weights are made by a {name}, whose rows do not sum to 1; "
                "methods that read attention maps take a softmax over tokens"
            )
    return (
        "attention by another library's kernels (flash-attn, xformers, "
        "flex_attention), without a softmax (linear attention), in other threads or "
        "inside an operator of its own cannot be read; load the model with PyTorch's "
        "scaled dot-product attention or explicit attention"
    )
