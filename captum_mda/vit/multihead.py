"""`torch.nn.functional.multi_head_attention_forward`, divided into its parts.

A function mode sees the original as a single call. This version computes the same
result by linear maps and scaled dot-product attention, which rules can replace.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def attention_probabilities(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
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


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute `F.multi_head_attention_forward` in functions that a mode sees.

    Args and returns are those of PyTorch's function. Sequences are (T, B, D), as its
    module passes them.

    Raises:
        NotImplementedError: It uses an option that Vision Transformers do not: extra
            keys, static keys, or a mask of padding.
    """
    if any(
        option is not None
        for option in (bias_k, bias_v, static_k, static_v, key_padding_mask)
    ) or (add_zero_attn or query.dim() != 3):
        raise NotImplementedError(
            "model: its nn.MultiheadAttention adds keys (bias_k, add_zero_attn, "
            "static_k), pads, or takes unbatched sequences, which is not supported"
        )
    weights: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight:
        assert in_proj_weight is not None
        weights = in_proj_weight.split(query.shape[-1])
    biases: tuple[Tensor | None, ...] = (None, None, None)
    if in_proj_bias is not None:
        biases = in_proj_bias.split(query.shape[-1])
    q, k, v = (
        # Batch first: (T, B, D) to (B, T, D).
        _heads(F.linear(part.transpose(0, 1), weight, bias), num_heads)  # type: ignore[arg-type]
        for part, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    dropout = dropout_p if training else 0.0
    if attn_mask is not None:
        is_causal = False  # PyTorch's function takes it as a hint about the mask
        attn_mask = _visible(attn_mask, num_heads)
    attention: Tensor | None = None
    if need_weights:
        attention = attention_probabilities(q, k, attn_mask, is_causal)
        mixed = torch.matmul(F.dropout(attention, dropout, training), v)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask, dropout, is_causal)
    merged = mixed.transpose(1, 2).flatten(2)  # (B, Tq, D)
    output = F.linear(merged, out_proj_weight, out_proj_bias).transpose(0, 1)
    if attention is not None and average_attn_weights:
        attention = attention.mean(dim=1)
    return output, attention


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
