"""Reading attention maps off a running model, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda._summaries import Brief
from captum_mda.vit.einsum import values_of_einsum
from captum_mda.vit.function_mode import RuleMode
from captum_mda.vit.heads import Heads, heads_of
from captum_mda.vit.multihead import attention_probabilities

_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
_DROPOUTS = (
    F.dropout,
    torch.dropout,
    Tensor.to,
    Tensor.type_as,
    Tensor.float,
    Tensor.contiguous,
    Tensor.clone,
)
_SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax)
_LOG_SOFTMAXES = (
    F.log_softmax,
    torch.log_softmax,
    Tensor.log_softmax,
    torch.special.log_softmax,
)
_EXPONENTIALS = (
    torch.exp,
    torch.exp_,
    Tensor.exp,
    Tensor.exp_,
    torch.exp2,
    Tensor.exp2,
    Tensor.exp2_,
    torch.special.exp2,
)
_SCALINGS = (
    torch.div,
    torch.true_divide,
    Tensor.div,
    Tensor.div_,
    Tensor.true_divide,
    Tensor.__truediv__,
    torch.mul,
    torch.multiply,
    Tensor.mul,
    Tensor.mul_,
    Tensor.multiply,
    Tensor.__mul__,
    F.normalize,
)
_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit)
_RELUS = (F.relu, torch.relu, Tensor.relu, F.relu6, F.softplus)


@dataclass(eq=False, repr=False)
class AttentionRecord(Brief):
    """One attention, as it was computed.

    Args:
        probabilities (Tensor): (B, H, queries, keys), in the graph that leads to the
            model's output; rows sum to 1.
        values (Tensor, optional): (B, H, keys, d), what the rows average.
            Default: None
        folded (bool, optional): Whether the model has batch and heads in one dimension.
            Default: False
        by_exponential (bool, optional): Whether it was written as an exponential over
            its sum. Default: False
    """

    probabilities: Tensor
    values: Tensor | None = None
    folded: bool = False
    by_exponential: bool = False


class AttentionCapture(RuleMode):
    """Records every attention that is computed on this thread, in `records`.

    Fused attention is answered by the same arithmetic in three steps. The outputs stay
    what they were to float precision, and every map can be differentiated, also where
    all parameters are frozen.

    Seen are `F.scaled_dot_product_attention`, `nn.MultiheadAttention` and explicit
    attention: a softmax, the exponential of a log-softmax, or an exponential that is
    divided by its sum, of four dimensions. Where `sequence` says how many images and
    tokens there are, maps of other shapes (B * H, T, T) are seen too. Kernels of other
    libraries and models in graphs of their own (`torch.jit`) pass by; whoever needs all
    maps counts them. While `active` is off, everything runs as it always does.
    """

    def __init__(self) -> None:
        """Begin without records."""
        rules: dict[Callable[..., Any], Callable[..., Any]] = {
            F.scaled_dot_product_attention: self._answer_attention,
            torch.einsum: self._record_einsum,
        }
        rules |= dict.fromkeys(_SOFTMAXES, self._record_softmax)
        rules |= dict.fromkeys(_LOG_SOFTMAXES, self._note_logarithm)
        rules |= dict.fromkeys(_EXPONENTIALS, self._note_exponential)
        rules |= dict.fromkeys(_SCALINGS, self._follow_exponential)
        rules |= dict.fromkeys(_MATMULS, self._record_values)
        rules |= dict.fromkeys(_DROPOUTS, self._follow_dropout)
        rules |= dict.fromkeys((*_SIGMOIDS, *_RELUS), self._note_other)
        super().__init__(rules)
        self.active = True
        self.with_graph = torch.is_grad_enabled()
        self.sequence: tuple[int, int] | None = None  # (B, T), where known
        self.records: list[AttentionRecord] = []
        self.others: set[str] = set()  # what else made a map of tokens by tokens
        self._last_probabilities: Tensor | None = None
        self._last_heads: Heads | None = None
        self._last_logarithm: Tensor | None = None
        self._last_exponential: Tensor | None = None

    def record(self, probabilities: Tensor, values: Tensor | None = None) -> None:
        """Keep a map, and make it part of a graph where none leads to it."""
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()
        self.records.append(AttentionRecord(probabilities, values))

    def _heads(self, maps: Tensor) -> Heads | None:
        """Say how a tensor is read as maps (B, H, T, T), while active."""
        if not self.active or not isinstance(maps, Tensor):
            return None
        return heads_of(maps.shape, self.sequence)

    def _explicit(self, probabilities: Tensor, heads: Heads) -> Tensor:
        """Record a map that the model made; returns what it goes on with."""
        opened = heads.open(probabilities)
        self.record(opened)
        self.records[-1].folded = heads.folded
        closed = heads.close(opened)
        self._last_probabilities, self._last_heads = closed, heads
        self._last_exponential = self._last_logarithm = None
        return closed

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
        shape = (*query.shape[:-1], key.shape[-2])
        heads = heads_of(shape, self.sequence) if self.active else None
        if heads is None:
            extra = {"enable_gqa": True} if enable_gqa else {}
            return func(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **extra
            )
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key = key.repeat_interleave(groups, dim=-3)
            value = value.repeat_interleave(groups, dim=-3)
        probabilities = attention_probabilities(query, key, attn_mask, is_causal, scale)
        opened = heads.open(probabilities)
        self.record(opened, heads.open(value))
        self.records[-1].folded = heads.folded
        probabilities = heads.close(opened)
        dropped = F.dropout(probabilities, dropout_p) if dropout_p else probabilities
        return torch.matmul(dropped, value)

    def _record_softmax(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        probabilities = func(*args, **kwargs)
        heads = self._heads(probabilities)
        if heads is None:
            self._note_single(probabilities)
            return probabilities
        return self._explicit(probabilities, heads)

    def _note_single(self, maps: Tensor) -> None:
        """Remember maps (T, T) of one head of one image, which are not read."""
        n_tokens = self.sequence[1] if self.sequence else None
        if self.active and tuple(maps.shape) == (n_tokens, n_tokens):
            self.others.add("one head")

    def _note_logarithm(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        result = func(*args, **kwargs)
        if self._heads(result) is not None:
            self._last_logarithm = result
        return result

    def _note_exponential(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        of_logarithm = bool(args) and args[0] is self._last_logarithm
        result = func(*args, **kwargs)
        heads = self._heads(result)
        if heads is None:
            return result
        if of_logarithm:
            return self._explicit(result, heads)
        # Not inside of an autograd.Function, whose insides are in no graph.
        if torch.is_grad_enabled() or not self.with_graph:
            self._last_exponential = result
        return result

    def _follow_exponential(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """An exponential over its sum is a softmax; a mask may come in between."""
        last = self._last_exponential
        follows = last is not None and any(value is last for value in args)
        result = func(*args, **kwargs)
        if not follows or last is None or result.shape != last.shape:
            return result
        heads = self._heads(result)
        sums = result.detach().float().sum(dim=-1)
        if heads is not None and bool(((sums - 1).abs() < 1e-2).all()):
            result = self._explicit(result, heads)
            self.records[-1].by_exponential = True
            return result
        self._last_exponential = result
        return result

    def _note_other(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        result = func(*args, **kwargs)
        n_tokens = self.sequence[1] if self.sequence else None
        if self.active and tuple(result.shape[-2:]) == (n_tokens, n_tokens):
            self.others.add("sigmoid" if func in _SIGMOIDS else "relu")
        return result

    def _record_values(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Explicit attention multiplies its map with the values next."""
        if len(args) > 1 and args[0] is self._last_probabilities:
            self._keep_values(args[1])
        return func(*args, **kwargs)

    def _record_einsum(
        self, func: Callable[..., Tensor], equation: Any, *operands: Any
    ) -> Tensor:
        """Values may also be averaged by `torch.einsum`, in any order of dimensions."""
        maps = self._last_probabilities
        tensors = operands[0] if len(operands) == 1 else operands
        if maps is not None and any(operand is maps for operand in tensors):
            values = values_of_einsum(equation, tensors, maps)
            if values is not None:
                self._keep_values(values)
        return func(equation, *operands)

    def _keep_values(self, values: Tensor) -> None:
        if self._last_heads is not None:
            values = self._last_heads.open(values)
        self.records[-1].values = values
        self._last_probabilities = None

    def _follow_dropout(
        self, func: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        result = func(*args, **kwargs)
        if args and args[0] is self._last_probabilities:
            self._last_probabilities = result
        if args and args[0] is self._last_exponential:
            self._last_exponential = result
        return result
