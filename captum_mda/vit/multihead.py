"""`torch.nn.functional.multi_head_attention_forward`, divided into its parts.

A function mode sees the original as a single call. This version computes the same
result by linear maps and scaled dot-product attention, which rules can replace.
"""

from __future__ import annotations

import inspect
import math
from types import SimpleNamespace
from typing import Any, TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def attention_probabilities(
    query: Float[Tensor, "*batch Tq d"],
    key: Float[Tensor, "*batch Tk d"],
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*batch Tq Tk"]:
    """Compute softmax(Q K^T) of `F.scaled_dot_product_attention`: (B, H, Tq, Tk)."""
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query, key.transpose(-2, -1)) * scale
    if is_causal:
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(~causal.tril(), -math.inf)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    if scores.dtype in (torch.float16, torch.bfloat16):
        # The fused kernels also compute the softmax in single precision.
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
    return torch.softmax(scores, dim=-1)


def repeated_groups(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat the keys and values of grouped queries for each head (``enable_gqa``)."""
    groups = query.shape[-3] // key.shape[-3]
    key = key.repeat_interleave(groups, dim=-3)
    return key, value.repeat_interleave(groups, dim=-3)


def multi_head_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Compute `F.multi_head_attention_forward` in functions that a mode sees.

    Args and returns are those of PyTorch's function. Sequences are (T, B, D), as its
    module passes them.

    Args:
        *args (any): As of PyTorch's function.
        **kwargs (any): As of PyTorch's function.

    Raises:
        NotImplementedError: It uses an option that Vision Transformers do not: extra
            keys, static keys, or a mask of padding.
    """
    call = _SIGNATURE.bind(*args, **kwargs)
    call.apply_defaults()
    given = SimpleNamespace(**call.arguments)
    absent = ("bias_k", "bias_v", "static_k", "static_v", "key_padding_mask")
    if any(call.arguments[name] is not None for name in absent) or (
        given.add_zero_attn or given.query.dim() != 3
    ):
        raise NotImplementedError(
            "model: its nn.MultiheadAttention adds keys (bias_k, add_zero_attn, "
            "static_k), pads, or takes unbatched sequences, which is not supported"
        )
    dimensions, n_heads = given.query.shape[-1], given.num_heads
    weights = (given.q_proj_weight, given.k_proj_weight, given.v_proj_weight)
    if not given.use_separate_proj_weight:
        weights = given.in_proj_weight.split(dimensions)
    biases = (None, None, None)
    if given.in_proj_bias is not None:
        biases = given.in_proj_bias.split(dimensions)
    sequences = (given.query, given.key, given.value)
    q, k, v = (
        # Batch first: (T, B, D) to (B, T, D).
        _heads(F.linear(sequence.transpose(0, 1), weight, bias), n_heads)
        for sequence, weight, bias in zip(sequences, weights, biases, strict=True)
    )
    dropout = given.dropout_p if given.training else 0.0
    is_causal, mask = given.is_causal, given.attn_mask
    if mask is not None:
        is_causal = False  # PyTorch's function takes it as a hint about the mask
        mask = _visible(mask, n_heads)
    attention: Tensor | None = None
    if given.need_weights:
        attention = attention_probabilities(q, k, mask, is_causal)
        mixed = torch.matmul(F.dropout(attention, dropout, given.training), v)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
    merged = mixed.transpose(1, 2).flatten(2)  # (B, Tq, D)
    output = F.linear(merged, given.out_proj_weight, given.out_proj_bias)
    if attention is not None and given.average_attn_weights:
        attention = attention.mean(dim=1)
    return output.transpose(0, 1), attention


def _visible(mask: Tensor, n_heads: int) -> Tensor:
    """Convert a mask of PyTorch's module to one of scaled dot-product attention.

    The module's masks are True where keys are hidden, and stack heads: (B H, Tq, Tk).
    """
    if mask.dtype == torch.bool:
        mask = ~mask
    return mask.unflatten(0, (-1, n_heads)) if mask.dim() == 3 else mask


def _heads(sequence: Tensor, n_heads: int) -> Tensor:
    """Split channels into heads: (B, T, D) to (B, H, T, d)."""
    heads: Tensor = sequence.unflatten(-1, (n_heads, -1))
    return heads.transpose(1, 2)
