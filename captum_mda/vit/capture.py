"""Reading attention maps off a running model, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.vit.function_mode import RuleMode
from captum_mda.vit.multihead import attention_probabilities

_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
_DROPOUTS = (F.dropout, torch.dropout, Tensor.to, Tensor.type_as, Tensor.float)
_SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)


@dataclass(eq=False)
class AttentionRecord:
    """One attention, as it was computed.

    Args:
        probabilities (Tensor): (B, H, queries, keys), in the graph that leads to the
            model's output; rows sum to 1.
        values (Tensor, optional): (B, H, keys, d), what the rows average.
            Default: None
    """

    probabilities: Tensor
    values: Tensor | None = None


class AttentionCapture(RuleMode):
    """Records every attention that is computed on this thread, in `records`.

    Fused attention is answered by the same arithmetic in three steps. The outputs stay
    what they were to float precision, and every map can be differentiated, also where
    all parameters are frozen.

    Seen are `F.scaled_dot_product_attention`, `nn.MultiheadAttention` and explicit
    attention with a softmax of four dimensions. Kernels of other libraries and models
    in graphs of their own (`torch.jit`) pass by; whoever needs all maps counts them.
    While `active` is off, everything runs as it always does.
    """

    def __init__(self) -> None:
        """Begin without records."""
        rules: dict[Callable[..., Any], Callable[..., Any]] = {
            F.scaled_dot_product_attention: self._answer_attention
        }
        rules |= dict.fromkeys(_SOFTMAXES, self._record_softmax)
        rules |= dict.fromkeys(_MATMULS, self._record_values)
        rules |= dict.fromkeys(_DROPOUTS, self._follow_dropout)
        super().__init__(rules)
        self.active = True
        self.records: list[AttentionRecord] = []
        self._last_probabilities: Tensor | None = None

    def record(self, probabilities: Tensor, values: Tensor | None = None) -> None:
        """Keep a map, and make it part of a graph where none leads to it."""
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()
        self.records.append(AttentionRecord(probabilities, values))

    def _answer_attention(
        self,
        func: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if query.dim() != 4 or not self.active:
            extra = {"enable_gqa": True} if enable_gqa else {}
            return func(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **extra
            )
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key = key.repeat_interleave(groups, dim=-3)
            value = value.repeat_interleave(groups, dim=-3)
        probabilities = attention_probabilities(query, key, attn_mask, is_causal, scale)
        self.record(probabilities, value)
        dropped = F.dropout(probabilities, dropout_p) if dropout_p else probabilities
        return torch.matmul(dropped, value)

    def _record_softmax(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        probabilities = func(*args, **kwargs)
        if probabilities.dim() == 4 and self.active:
            self.record(probabilities)
            self._last_probabilities = probabilities
        return probabilities

    def _record_values(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Explicit attention multiplies its map with the values next."""
        if len(args) > 1 and args[0] is self._last_probabilities:
            self.records[-1].values = args[1]
            self._last_probabilities = None
        return func(*args, **kwargs)

    def _follow_dropout(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        result = func(*args, **kwargs)
        if args and args[0] is self._last_probabilities:
            self._last_probabilities = result
        return result
