"""One observed forward pass: its output, attention maps and tokens."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._summaries import Brief
from captum_mda.vit import block_calls
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.biases import BiasCapture
from captum_mda.vit.capture import AttentionCapture, AttentionRecord


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Observation(Brief):
    """The output, tokens and attention maps of one forward pass.

    Args:
        outputs (Tensor): (B, ...), the model's output.
        tokens (list[Tensor], optional): (B, T, D) each: the input of each block, from
            the first observed one on, and the last one's output. The graph begins at
            the first. Default: empty
        attention (list[AttentionRecord], optional): One per observed block; empty if
            attention was not recorded. Default: empty
        pooler (AttentionRecord, optional): The first attention after the blocks.
            Default: None
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
    """Run a model, and record its blocks' tokens and attention maps.

    The model stays unchanged.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W).
        *arguments (any): Passed to the model after the inputs.
        attention (bool, optional): Whether to record attention maps. Default: True
        first_block (int, optional): The first block to observe. The blocks before it
            run fused and without a graph, which saves time and memory. Default: 0
        biases (BiasCapture, optional): Starts to record at the first observed block;
            the caller enters it. Default: None

    Returns:
        *Observation*: with a graph from the input of the first observed block on,
        where gradients are enabled.

    Raises:
        ObservationError: The blocks are not called once each, in order; their
            attention maps are not as many as the blocks, or have no gradient though
            gradients are enabled.
    """
    capture = AttentionCapture(active=False)  # until the first observed block
    with_graph = torch.is_grad_enabled()
    tokens: list[Tensor] = []
    ends: list[int] = []  # the number of records at the end of each block
    called: list[nn.Module] = []

    def enter_block(module: nn.Module, args: Any, kwargs: Any) -> Any:
        called.append(module)
        call = block_calls.BlockCall.of(args, kwargs)
        if len(called) <= first_block:
            # Here and not around the model: a torch.no_grad() inside the model that
            # ends after its blocks would restore this mode for the head.
            torch.set_grad_enabled(False)
            return None
        begins = len(called) == first_block + 1
        if begins:
            torch.set_grad_enabled(with_graph)
            if biases is not None:
                biases.start()
        if begins and with_graph:
            call = call.replaced(call.tokens.detach().requires_grad_())
        tokens.append(call.tokens)
        ends.append(len(capture.records))
        n_batch, n_tokens = call.tokens.shape[:2]
        if attention:
            capture.watch((n_batch, n_tokens) if n_batch and n_tokens else None)
        return call.args, call.kwargs

    def leave_block(module: nn.Module, args: Any, output: Any) -> None:
        if len(called) == adapter.depth:
            tokens.append(block_calls.tokens_of(output))
            ends.append(len(capture.records))
            if attention:
                capture.watch(None)

    with (
        block_calls.block_hooks(adapter, enter_block, leave_block),
        torch.set_grad_enabled(with_graph),
        capture if attention else nullcontext(),
    ):
        outputs = adapter(inputs, *arguments)
    block_calls.require_calls(adapter, called)
    if not attention:
        return Observation(outputs=outputs, tokens=tokens)
    maps, pooler = _sorted_records(adapter, capture, ends, first_block)
    return Observation(outputs=outputs, tokens=tokens, attention=maps, pooler=pooler)


def _sorted_records(
    adapter: ViTAdapter, capture: AttentionCapture, ends: list[int], first_block: int
) -> tuple[list[AttentionRecord], AttentionRecord | None]:
    """Find the attention of each block, and that of the pooler, if there is one."""
    records = capture.records
    per_block = [records[start:end] for start, end in pairwise(ends)]
    if any(len(maps) != 1 for maps in per_block):
        counts = [len(maps) for maps in per_block]
        names = ", ".join(dict.fromkeys(type(each).__name__ for each in adapter.blocks))
        raise block_calls.ObservationError(
            f"model: saw {counts} attention maps in {adapter.depth - first_block} "
            f"blocks ({names}), takes one in each; {_why(per_block, capture.others)}"
        )
    attention = records[ends[0] : ends[-1]]
    if torch.is_grad_enabled() and not all(
        record.probabilities.requires_grad for record in attention
    ):
        raise block_calls.ObservationError(
            "model: its attention maps have no gradient, takes attention that PyTorch "
            "differentiates; a torch.autograd.Function with its own backward pass, "
            "torch.no_grad() or torch.inference_mode() inside the model, or detach() "
            "hide them; take them out of the model's forward, or take a method that "
            "needs no gradient, such as MetricDrivenAttribution"
        )
    behind = records[ends[-1] :]
    return attention, behind[0] if behind else None


def _why(per_block: list[list[AttentionRecord]], others: set[str]) -> str:
    """Explain what blocks with no attention map, or with several, most likely do."""
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
