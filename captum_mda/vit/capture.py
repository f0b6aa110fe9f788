"""Reads attention maps off a running model, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda._summaries import Brief
from captum_mda.vit import torch_functions as names
from captum_mda.vit.einsum import values_of_einsum
from captum_mda.vit.function_mode import Rule, RuleMode, rules_by_function
from captum_mda.vit.heads import Heads, heads_of
from captum_mda.vit.multihead import attention_probabilities, repeated_groups
from captum_mda.vit.torch_functions import Function

if TYPE_CHECKING:
    from jaxtyping import Float

_SCALINGS = (
    *names.QUOTIENTS,
    *names.in_place(names.QUOTIENTS),
    *names.PRODUCTS,
    *names.in_place(names.PRODUCTS),
    *("__truediv__", "__mul__", "normalize"),
)
_EXPONENTIALS = (*names.EXPONENTIALS, *names.EXPONENTIALS_OF_TWO)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AttentionRecord(Brief):
    """One attention, as the model computed it.

    Args:
        probabilities (Tensor): (B, H, queries, keys), in the graph that leads to the
            model's output; rows sum to 1.
        values (Tensor, optional): (B, H, keys, d), what the rows average.
            Default: None
        folded (bool, optional): Whether the model has batch and heads in one dimension.
            Default: False
        by_exponential (bool, optional): Whether the model divides an exponential by its
            sum. Default: False
    """

    probabilities: Float[Tensor, "B H queries keys"]
    values: Float[Tensor, "B H keys d"] | None = None
    folded: bool = False
    by_exponential: bool = False


class AttentionCapture(RuleMode):
    """Records every attention that is computed on this thread, in `records`.

    Fused attention is computed in its three steps instead. Outputs stay the same to
    float precision, and every map can be differentiated, also where all parameters are
    frozen.

    It records `F.scaled_dot_product_attention`, `nn.MultiheadAttention` and explicit
    attention of four dimensions: a softmax, the exponential of a log-softmax, or an
    exponential divided by its sum. After `watch` has told how many images and tokens
    there are, it also records maps of other shapes, such as (B * H, T, T). It cannot
    see the kernels of other libraries and models in graphs of their own (`torch.jit`).
    While `active` is off, every function runs as usual.
    """

    def __init__(self, active: bool = True) -> None:
        """Begin without records."""
        table: dict[names.Names, Rule] = {
            ("scaled_dot_product_attention",): self._fused,
            ("einsum",): partial(self._record_values, _factor_of_einsum),
            names.SOFTMAXES: partial(self._record_softmax, False),
            names.LOG_SOFTMAXES: partial(self._record_softmax, True),
            (*_EXPONENTIALS, *names.in_place(_EXPONENTIALS)): self._note_exponential,
            _SCALINGS: self._follow_exponential,
            names.MATRIX_PRODUCTS: partial(self._record_values, _second_factor),
            (*names.DROPOUTS, *names.CASTS_AND_COPIES): self._follow_copy,
            names.SIGMOIDS: partial(self._note_other, "sigmoid"),
            names.RECTIFIERS: partial(self._note_other, "relu"),
        }
        super().__init__(rules_by_function(table))
        self.active = active
        self.sequence: tuple[int, int] | None = None  # (B, T), where known
        self.records: list[AttentionRecord] = []
        self.others: set[str] = set()  # what else made maps of tokens by tokens
        self._with_graph = torch.is_grad_enabled()
        # The latest results that attention may follow from, or be applied with.
        self._last_probabilities: Tensor | None = None
        self._last_heads: Heads | None = None
        self._last_logarithm: Tensor | None = None
        self._last_exponential: Tensor | None = None

    def watch(self, sequence: tuple[int, int] | None) -> None:
        """Record from here on.

        Args:
            sequence (tuple[int, int], optional): The number of images and of tokens,
                (B, T). None: only maps of four dimensions are recorded.
        """
        self.active, self.sequence = True, sequence

    def record(self, probabilities: Tensor, values: Tensor | None = None) -> None:
        """Record a map, and make it part of a graph if it is in none."""
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()
        self.records.append(AttentionRecord(probabilities=probabilities, values=values))

    def _heads(self, maps: Tensor) -> Heads | None:
        """Find how a tensor is read as maps (B, H, T, T), while active."""
        if not self.active or not isinstance(maps, Tensor):
            return None
        return heads_of(maps.shape, self.sequence)

    def _explicit(
        self, probabilities: Tensor, heads: Heads, by_exponential: bool = False
    ) -> Tensor:
        """Record a map that the model made; returns what the model goes on with."""
        opened = heads.open(probabilities)
        self.record(opened)
        self.records[-1] = replace(
            self.records[-1], folded=heads.folded, by_exponential=by_exponential
        )
        closed = heads.close(opened)
        self._last_probabilities, self._last_heads = closed, heads
        self._last_exponential = self._last_logarithm = None
        return closed

    def _fused(
        self,
        func: Function,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Compute fused attention in steps, and record its map and values."""
        shape = (*query.shape[:-1], key.shape[-2])
        heads = heads_of(shape, self.sequence) if self.active else None
        if heads is None:
            extra = {"enable_gqa": True} if enable_gqa else {}
            return func(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **extra
            )
        if enable_gqa:
            key, value = repeated_groups(query, key, value)
        probabilities = attention_probabilities(query, key, attn_mask, is_causal, scale)
        opened = heads.open(probabilities)
        self.record(opened, heads.open(value))
        self.records[-1] = replace(self.records[-1], folded=heads.folded)
        probabilities = heads.close(opened)
        dropped = F.dropout(probabilities, dropout_p) if dropout_p else probabilities
        return torch.matmul(dropped, value)

    def _record_softmax(
        self, is_logarithm: bool, func: Function, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Record a softmax; of a log-softmax, remember it for its exponential."""
        result = func(*args, **kwargs)
        heads = self._heads(result)
        if heads is not None and not is_logarithm:
            return self._explicit(result, heads)
        if heads is not None:
            self._last_logarithm = result
        elif self.active and result.dim() == 2 and _has_shape(result, self.sequence):
            self.others.add("one head")
        return result

    def _note_exponential(self, func: Function, *args: Any, **kwargs: Any) -> Tensor:
        of_logarithm = bool(args) and args[0] is self._last_logarithm
        result = func(*args, **kwargs)
        heads = self._heads(result)
        if heads is None:
            return result
        if of_logarithm:
            return self._explicit(result, heads)
        # Tensors inside an autograd.Function are in no graph, and are not followed.
        if torch.is_grad_enabled() or not self._with_graph:
            self._last_exponential = result
        return result

    def _follow_exponential(self, func: Function, *args: Any, **kwargs: Any) -> Tensor:
        """Record an exponential over its sum; a mask may be applied in between."""
        last = self._last_exponential
        follows = last is not None and any(value is last for value in args)
        result = func(*args, **kwargs)
        if not follows or last is None or result.shape != last.shape:
            return result
        heads = self._heads(result)
        sums = result.detach().float().sum(dim=-1)
        if heads is not None and bool(((sums - 1).abs() < 1e-2).all()):
            return self._explicit(result, heads, by_exponential=True)
        self._last_exponential = result
        return result

    def _note_other(
        self, name: str, func: Function, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Remember maps of tokens by tokens that are no softmax."""
        result = func(*args, **kwargs)
        if self.active and _has_shape(result, self.sequence):
            self.others.add(name)
        return result

    def _record_values(
        self,
        factor: Callable[[Sequence[Any], Tensor], Tensor | None],
        func: Function,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Record the values that explicit attention multiplies its map with."""
        maps, heads = self._last_probabilities, self._last_heads
        values = None if maps is None else factor(args, maps)
        if values is not None and heads is not None:
            self.records[-1] = replace(self.records[-1], values=heads.open(values))
            self._last_probabilities = None
        return func(*args, **kwargs)

    def _follow_copy(self, func: Function, *args: Any, **kwargs: Any) -> Tensor:
        result = func(*args, **kwargs)
        if args and args[0] is self._last_probabilities:
            self._last_probabilities = result
        if args and args[0] is self._last_exponential:
            self._last_exponential = result
        return result


def _has_shape(maps: Tensor, sequence: tuple[int, int] | None) -> bool:
    """Tell whether the last two dimensions are the tokens."""
    return sequence is not None and tuple(maps.shape[-2:]) == (sequence[1],) * 2


def _second_factor(factors: Sequence[Any], maps: Tensor) -> Tensor | None:
    """Find what a matrix product multiplies maps with."""
    return factors[1] if len(factors) > 1 and factors[0] is maps else None


def _factor_of_einsum(arguments: Sequence[Any], maps: Tensor) -> Tensor | None:
    """Find what `torch.einsum` multiplies maps with, in the maps' dimensions."""
    equation, *operands = arguments
    tensors = operands[0] if len(operands) == 1 else operands
    if not any(operand is maps for operand in tensors):
        return None
    return values_of_einsum(equation, tensors, maps)
