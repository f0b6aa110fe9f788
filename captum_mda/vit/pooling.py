"""The tokens that a model pools, found by gradients of its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_mda._state import warn_caller
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.capture import AttentionCapture

NEGLIGIBLE = 1e-6  # gradients below this share of the largest count as 0


def pooling_of(
    tail: Callable[[Tensor], Tensor],
    tokens: Tensor,
    adapter: ViTAdapter,
) -> dict[str, Any]:
    """Find the tokens that a model's output depends on.

    Args:
        tail (callable): From the last block's output to the model's output.
        tokens (Tensor): (1, T, D), the last block's output for an example.
        adapter (ViTAdapter): The adapter of the blocks.

    Returns:
        *dict*: fields of `ViTAdapter`: pooling, class_index, distillation_index,
        pools_prefix; empty where the output has no gradient.
    """
    shares, has_pooler = token_shares(tail, tokens)
    if shares is None:
        return {}
    used = shares > NEGLIGIBLE * shares.max()
    n_prefix = adapter.n_prefix_tokens
    prefix, patches = used[:n_prefix], used[n_prefix:]
    indices = prefix.nonzero().flatten().tolist()
    if has_pooler:
        every = len(indices) == n_prefix > 0
        return {"pooling": "map", "pools_prefix": every}
    if not patches.any() and len(indices) <= 2:
        second = indices[1] if len(indices) == 2 else None
        return {
            "pooling": "cls",
            "class_index": indices[0],
            "distillation_index": second,
            "pools_prefix": False,
        }
    if not (patches.all() and _is_mean(tail, tokens, n_prefix)):
        warn_caller(
            "model: its head weighs patches in a way of its own; methods that read the "
            "row of attention that feeds the head (RawAttention, AttentionRollout, "
            "TransitionAttention, BidirectionalAttention, ...) read the mean over the "
            "patches instead"
        )
    if not indices:
        return {"pooling": "avg", "pools_prefix": False}
    # A class token beside the mean has about the share of all patches together.
    alone = shares[indices[0]] > len(patches) ** 0.5 * shares[n_prefix:].mean()
    if len(indices) == 1 and alone:
        return {"pooling": "cls+avg", "class_index": indices[0], "pools_prefix": False}
    return {"pooling": "avg", "pools_prefix": True}


def token_shares(
    tail: Callable[[Tensor], Tensor], tokens: Tensor
) -> tuple[Tensor | None, bool]:
    """Measure the output's dependence on each token, (T,), and detect a pooler."""
    with torch.inference_mode(False), torch.enable_grad():
        entered = tokens.detach().clone().requires_grad_()
        with AttentionCapture() as capture:
            output = tail(entered * 1).flatten()  # it may work in place
        if not output.requires_grad:
            return None, False
        maps = [record.probabilities for record in capture.records]
        has_pooler = any(_depends(map_, entered) for map_ in maps)
        # Different weights, as outputs that sum to a constant would cancel.
        weights = (torch.arange(len(output), device=output.device) * 0.7 + 1).sin()
        (gradient,) = torch.autograd.grad(
            (output * weights).sum(), entered, allow_unused=True
        )
    if gradient is None or not bool((gradient != 0).any()):
        return None, False
    return gradient[0].float().norm(dim=-1), has_pooler


def _depends(value: Tensor, tokens: Tensor) -> bool:
    if not value.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(
        value.sum(), tokens, retain_graph=True, allow_unused=True
    )
    return gradient is not None


def _is_mean(tail: Callable[[Tensor], Tensor], tokens: Tensor, n_prefix: int) -> bool:
    """Tell whether the output is the same for every order of the patches."""
    rolled = tokens[:, n_prefix:].roll(1, dims=1)
    with torch.no_grad():
        output = tail(tokens)
        other = tail(torch.cat([tokens[:, :n_prefix], rolled], dim=1))
    difference = (output - other).abs().max()
    return bool(difference <= 1e-3 * output.abs().max())
