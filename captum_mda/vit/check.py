"""Comparison of an adapter with its model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._state import preserved_state, restores_modes
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.block_calls import block_hooks, BlockCall, tokens_of
from captum_mda.vit.equality import differences, differs, tolerance_of
from captum_mda.vit.execution import eager_execution, is_random
from captum_mda.vit.observation import Observation, observe
from captum_mda.vit.pooling import NEGLIGIBLE, token_shares


@restores_modes
def check_adapter(adapter: ViTAdapter, attention: bool = True) -> Tensor:
    """Compare an adapter with its model on an example input.

    Args:
        adapter (ViTAdapter): The adapter.
        attention (bool, optional): Whether attention maps are checked, too.
            Default: True

    Returns:
        *Tensor*: (1, ...), the model's output for the example.

    Raises:
        ValueError: They differ, or outputs are NaN; the message says where.
        RuntimeError: The model's own errors, such as memory that ran out.
    """
    example = adapter.example_input()
    if example.is_meta:
        raise ValueError("model: it is on the meta device, takes one that holds values")
    with (
        eager_execution(adapter.model),
        preserved_state(adapter.model, "model", warns=False),
        torch.no_grad(),
    ):
        # Copies: the model may change its input in place, and reuse output memory.
        untouched = adapter(example.clone()).clone()
        _require_finite(untouched, example)
        try:
            seen = observe(adapter, example.clone(), attention=attention)
        except NotImplementedError as error:
            raise ValueError(f"{error}") from error
        _check_tokens(adapter, seen, example)
        if attention:
            _check_maps(adapter, seen, example)
        tail = adapter.finish(seen.tokens[-1], example)
        if not is_random(adapter.model):
            _check_outputs(adapter, seen, tail, untouched, example)
            if adapter.pooling != "map":
                _check_pooling(adapter, seen, example)
    return untouched


def _require_finite(outputs: Tensor, example: Tensor) -> None:
    if bool(outputs.isnan().any()):
        raise ValueError(
            "model: its output for an example input of shape "
            f"{tuple(example.shape)}, with values from -2 to 2, is NaN, so that its "
            "adapter cannot be checked; run the model in float32, or mend its weights"
        )


def _check_tokens(adapter: ViTAdapter, seen: Observation, example: Tensor) -> None:
    shape = tuple(seen.tokens[-1].shape)
    if len(shape) != 3:
        raise ValueError(
            f"model: its blocks return a tensor of shape {shape} for one image, takes "
            "tokens (1, T, D)"
        )
    if shape[0] != 1 and shape[1] == 1:
        raise ValueError(
            f"model: its blocks return tokens {shape} for one image: the batch comes "
            "second (batch_first=False), takes tokens (B, T, D); build "
            "nn.TransformerEncoderLayer or nn.MultiheadAttention with "
            "batch_first=True, whose weights are the same, and leave the transposes out"
        )
    if shape[0] != 1:
        raise ValueError(
            f"model: its blocks return tokens {shape} for one image, takes one "
            "sequence (1, T, D) for each; models that cut images into windows or "
            "crops cannot be read"
        )
    adapter.patch_map(seen.tokens[-1][..., 0], example)


def _check_maps(adapter: ViTAdapter, seen: Observation, example: Tensor) -> None:
    n_tokens = seen.tokens[-1].shape[1]
    for index, attention in enumerate(seen.maps):
        if attention.shape[-2:] != (n_tokens, n_tokens):
            raise ValueError(
                f"model: the attention of block {index} is "
                f"{tuple(attention.shape[-2:])} for {n_tokens} tokens; blocks that "
                "attend within windows or merge tokens cannot be read"
            )
        if attention.shape[0] != 1:
            raise ValueError(
                f"model: the attention of block {index} has shape "
                f"{tuple(attention.shape)} for one image, takes (1, heads, T, T); put "
                "the batch before the heads"
            )
        full = attention.to(torch.promote_types(attention.dtype, torch.float32))
        error = float((full.sum(dim=-1) - 1).abs().max())
        if not error <= tolerance_of(attention.dtype):
            raise ValueError(
                f"model: the rows of block {index}'s attention sum to 1 only within "
                f"{error:.2g}; what was seen is no softmax over tokens, or one over "
                "another dimension than the keys', which come last"
            )
    if any(record.folded for record in seen.attention):
        _check_folded(adapter, seen, example)
    if any(record.by_exponential for record in seen.attention):
        with torch.enable_grad():  # it may be inside an autograd.Function
            observe(adapter, example)
    adapter.readout(
        n_tokens, None if seen.pooler is None else seen.pooler.probabilities, example
    )


def _check_folded(adapter: ViTAdapter, seen: Observation, example: Tensor) -> None:
    """Refuse (heads * B, T, T): the maps of a pair tell it from (B * heads, T, T)."""
    pair = torch.cat([example.flip(-1), example])
    both = observe(adapter, pair)
    for index, (alone, record) in enumerate(
        zip(seen.maps, both.attention, strict=True)
    ):
        second = record.probabilities[1:]
        if record.folded and bool(differs(second, alone).any()):
            raise ValueError(
                f"model: the attention of block {index} has the shape (heads * B, T, "
                "T), heads before the batch, which cannot be told apart from (B * "
                "heads, T, T); fold the batch first, or compute attention as (B, "
                "heads, T, T)"
            )


def _check_outputs(
    adapter: ViTAdapter,
    seen: Observation,
    tail: Tensor,
    untouched: Tensor,
    example: Tensor,
) -> None:
    by = _difference(seen.outputs, untouched, "output under observation")
    if by:
        raise ValueError(
            f"model: the output under observation differs from the model's output by "
            f"{by}; it is not deterministic, or computes attention in a way of its own"
        )
    by = _difference(tail, untouched, "adapter's tail")
    if by:
        raise ValueError(
            f"model: the adapter's tail differs from the model's output by {by}; "
            + _why(adapter, example)
        )


def _check_pooling(adapter: ViTAdapter, seen: Observation, example: Tensor) -> None:
    """Compare the tokens that the adapter pools with those that the tail reads."""
    tokens = seen.tokens[-1]
    shares, _ = token_shares(lambda entered: adapter.finish(entered, example), tokens)
    if shares is None:
        return
    reads = (shares > NEGLIGIBLE * shares.max()).cpu()
    says = adapter.readout(tokens.shape[1], None, example)[0].cpu() > 0
    if bool((reads & ~says).any()) or not bool((reads & says).any()):
        raise ValueError(
            f"model: its output depends on {_named(reads)}, but its adapter says "
            f"pooling={adapter.pooling!r}, class_index={adapter.class_index}, "
            f"pools_prefix={adapter.pools_prefix}, which is {_named(says)}; mend these "
            "fields: 'cls' for a class token, 'avg' for the mean over patches, "
            "'cls+avg' for both, pools_prefix=True where prefix tokens are averaged too"
        )


def _named(tokens: Tensor) -> str:
    """List the selected tokens, bool (T,), by number; at most three."""
    indices = tokens.nonzero().flatten().tolist()
    if len(indices) <= 3:
        return f"token{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"
    return f"{len(indices)} tokens ({', '.join(map(str, indices[:3]))}, ...)"


def _difference(got: Tensor, wanted: Tensor, what: str) -> str:
    """Describe by how much outputs differ; "" where they are equal."""
    if not isinstance(got, Tensor) or got.shape != wanted.shape:
        is_tensor = isinstance(got, Tensor)
        shape = tuple(got.shape) if is_tensor else type(got).__name__
        raise ValueError(
            f"model: the {what} has shape {shape}, the model returns "
            f"{tuple(wanted.shape)}; mend the adapter"
        )
    if not bool(differs(got, wanted).any()):
        return ""
    largest = float(wanted.abs().max())
    return f"{float(differences(got, wanted).max()):.2g}, of at most {largest:.2g}"


def _why(adapter: ViTAdapter, example: Tensor) -> str:
    """Explain a tail that does not fit: by wrong blocks, or by the tail itself."""
    outputs: list[Tensor] = []
    inputs: list[Tensor] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        inputs.append(BlockCall.of(args, kwargs).tokens)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        outputs.append(tokens_of(output))

    with block_hooks(adapter, enter, leave):
        adapter(example)
    following = zip(outputs[:-1], inputs[1:], strict=True)
    for index, (given, taken) in enumerate(following):
        if given.shape != taken.shape or bool(differs(given, taken).any()):
            names = [
                type(block).__name__ for block in adapter.blocks[index : index + 2]
            ]
            return (
                f"what blocks[{index}] ({names[0]}) returns is not what "
                f"blocks[{index + 1}] ({names[1]}) takes, so that they are parts of "
                "residual blocks, such as attention modules, or not all of the blocks; "
                "takes the whole residual blocks, all of them, in order; see "
                "docs/adapters.md"
            )
    return (
        "the tail must repeat all that the model does behind its last block: norm, "
        "pooling, head and whatever hooks add; write an adapter with a tail that fits, "
        "see docs/adapters.md"
    )
