"""Layer-wise relevance propagation through transformers, as a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import nn, Tensor
from torch.autograd import Function
from torch.nn import functional as F

from captum_mda.backward._functions import safe_divide
from captum_mda.vit.execution import eager_execution
from captum_mda.vit.function_mode import ConstantParameters, Rule, RuleMode
from captum_mda.vit.multihead import attention_probabilities

_IDENTITIES = (
    *(F.gelu, F.silu, F.relu, torch.relu, Tensor.relu, F.hardswish, F.mish),
    *(torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.tanh, Tensor.tanh, F.tanh),
    *(torch.erf, Tensor.erf, F.softmax, torch.softmax, Tensor.softmax),
    *(F.layer_norm, F.group_norm, Tensor.div, torch.div, Tensor.true_divide),
    *(torch.neg, Tensor.neg, Tensor.__neg__),
)
_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
_SUMS = (torch.add, Tensor.add)
_DIFFERENCES = (torch.sub, Tensor.sub)
_PRODUCTS = (torch.mul, torch.multiply, Tensor.mul, Tensor.multiply)
_MEANS = (torch.mean, Tensor.mean)
_CONSTANTS = (torch.rsqrt, Tensor.rsqrt)


class RelevancePropagation:
    """Makes the backward pass of a model carry relevance in place of gradients.

    Inside the ``with``, `torch.autograd.grad(outputs, x, start)` returns the relevance
    of x where ``start`` is that of the outputs, by the rules of Chefer, Gur and Wolf
    (CVPR 2021, Sec. 3.1) with alpha = 1. The forward pass computes what it always does.

    - Linear maps spread relevance by the parts of x w with equal signs; biases get
      none (Eq. 3).
    - Sums of two branches spread it by their values; then each branch's total is set
      to its share of the absolute totals, for each example (Eq. 8 to 10).
    - Products of matrices or branches give a half to each factor.
    - Softmax, activations, norms and scalings pass it on as it is.

    What reaches the first block is then what left the outputs. All parameters are
    constants meanwhile and get no gradient; models on `nn.MultiheadAttention`,
    LayerScale, gated MLPs and attention poolers are covered.

    Args:
        model (nn.Module): The model about to be run.
        dtype (torch.dtype, optional): The precision that it computes in; None: as it
            is. The rules divide by sums near 0, so that float32 may be far from exact.
            Default: torch.float64

    Raises:
        TypeError: ``model`` is no module.
        ValueError: The model is a `torch.jit` graph or recomputes its activations.

    Reference:
        Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention
        Visualization", CVPR 2021.

    Example::

        >>> import torch
        >>> from captum_mda import demo
        >>> from captum_mda.backward import RelevancePropagation
        >>> model = demo.load_model()
        >>> tokens = []
        >>> handle = model.blocks[0].register_forward_hook(
        ...     lambda module, inputs, output: tokens.append(inputs[0])
        ... )
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> with RelevancePropagation(model):
        ...     logits = model(images.requires_grad_())
        ...     start = torch.zeros_like(logits)
        ...     start[0, labels[0]] = 1.0
        ...     (relevance,) = torch.autograd.grad(logits, tokens, start)
        >>> handle.remove()
        >>> round(float(relevance.sum()), 5)
        1.0
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = torch.float64
    ) -> None:
        """Check the model; the rules hold from `__enter__` on."""
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model: got {type(model).__name__}, takes a torch.nn.Module"
            )
        self.model = model
        self.dtype = dtype
        self._stacks: list[ExitStack] = []

    def __enter__(self) -> RelevancePropagation:
        """Let the rules hold on this thread."""
        with ExitStack() as stack:
            stack.enter_context(eager_execution(self.model))
            stack.enter_context(RuleMode(_RULES))
            stack.enter_context(ConstantParameters(self.dtype))
            self._stacks.append(stack.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take everything back; errors pass."""
        self._stacks.pop().__exit__(kind, error, traceback)


def relevance_rules() -> Mapping[Callable[..., Any], Rule]:
    """Collect the rules, for functions as PyTorch passes them to a function mode."""
    rules: dict[Callable[..., Any], Rule] = dict.fromkeys(_IDENTITIES, _identity)
    rules |= {F.linear: _linear, F.scaled_dot_product_attention: _attention}
    rules |= dict.fromkeys(_MATMULS, _matmul)
    rules |= dict.fromkeys(_SUMS, _sum)
    rules |= dict.fromkeys(_DIFFERENCES, _difference)
    rules |= dict.fromkeys(_PRODUCTS, _product)
    rules |= dict.fromkeys(_MEANS, _mean)
    rules |= dict.fromkeys(_CONSTANTS, _constant)
    rules |= {
        Tensor.add_: _in_place(_sum, torch.add),
        Tensor.sub_: _in_place(_difference, torch.sub),
        Tensor.mul_: _in_place(_product, torch.mul),
        Tensor.div_: _in_place(_identity, torch.div),
    }
    if hasattr(F, "rms_norm"):
        rules[F.rms_norm] = _identity
    return rules


def _carries(value: object) -> bool:
    """Tell whether relevance flows through a value."""
    return isinstance(value, Tensor) and value.requires_grad


class _Identity(Function):
    """Relevance passes as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Callable[[Tensor], Tensor]) -> Tensor:
        return func(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance, None


def _identity(
    func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    if not _carries(x):
        return func(x, *args, **kwargs)
    result: Tensor = _Identity.apply(x, lambda x: func(x, *args, **kwargs))
    return result


def _constant(func: Callable[..., Tensor], x: Tensor) -> Tensor:
    return func(x.detach())


class _Linear(Function):
    """Eq. 3 for linear maps: by the parts of x w whose factors have equal signs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        x_positive, x_negative = x.clamp(min=0), x.clamp(max=0)
        w_positive, w_negative = weight.clamp(min=0), weight.clamp(max=0)
        total = F.linear(x_positive, w_positive) + F.linear(x_negative, w_negative)
        share = safe_divide(relevance, total)  # S = R / Z
        spread = x_positive * torch.matmul(share, w_positive)
        return spread + x_negative * torch.matmul(share, w_negative), None, None


def _linear(
    func: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if not _carries(x):
        return func(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


class _Matmul(Function):
    """Each factor gets what its entries contributed, times the given shares."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, shares: tuple[float, float]) -> Tensor:
        product = torch.matmul(a, b)
        ctx.shares = shares
        ctx.save_for_backward(a, b, product)
        return product

    @staticmethod
    def backward(
        ctx: Any, relevance: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, product = ctx.saved_tensors
        share = safe_divide(relevance, product)
        to_a = to_b = None
        if ctx.needs_input_grad[0]:
            spread = torch.matmul(share, b.transpose(-2, -1))
            to_a = a * _to_shape(spread, a.shape) * ctx.shares[0]
        if ctx.needs_input_grad[1]:
            spread = torch.matmul(a.transpose(-2, -1), share)
            to_b = b * _to_shape(spread, b.shape) * ctx.shares[1]
        return to_a, to_b, None


def _matmul(func: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    if _carries(a) and not _carries(b) and b.dim() == 2:
        result: Tensor = _Linear.apply(a, b.transpose(0, 1), None)
    elif _carries(a) or _carries(b):
        result = _Matmul.apply(a, b, _halves(a, b))
    else:
        result = func(a, b)
    return result


def _attention(
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
    """Fused attention, by the rules of its parts."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key = key.repeat_interleave(groups, dim=-3)
        value = value.repeat_interleave(groups, dim=-3)
    with RuleMode(_RULES):
        attention = attention_probabilities(query, key, attn_mask, is_causal, scale)
        if dropout_p:
            attention = F.dropout(attention, dropout_p)
        return torch.matmul(attention, value)


def _halves(a: object, b: object) -> tuple[float, float]:
    """Two factors share relevance evenly; one that carries none leaves it all."""
    both = _carries(a) and _carries(b)
    return (0.5, 0.5) if both else (float(_carries(a)), float(_carries(b)))


class _Sum(Function):
    """Eq. 8 to 10: by value, then by the absolute totals of each example."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        share = safe_divide(relevance, a + b)
        to_a, to_b = a * share, b * share
        total = _totals(relevance)
        size_a, size_b = _totals(to_a).abs(), _totals(to_b).abs()
        wanted_a = safe_divide(size_a, size_a + size_b) * total
        wanted_b = safe_divide(size_b, size_a + size_b) * total
        to_a = to_a * safe_divide(wanted_a, _totals(to_a))
        to_b = to_b * safe_divide(wanted_b, _totals(to_b))
        return _to_shape(to_a, a.shape), _to_shape(to_b, b.shape)


def _totals(relevance: Tensor) -> Tensor:
    """Sum over everything but the examples: (B, 1, ...)."""
    return relevance.sum(dim=tuple(range(1, relevance.dim())), keepdim=True)


def _sum(func: Callable[..., Tensor], a: Any, b: Any, **kwargs: Any) -> Tensor:
    if _carries(a) and _carries(b) and not kwargs:
        result: Tensor = _Sum.apply(a, b)
        return result
    # The other summand is a bias, a mask or a position: it takes nothing.
    return func(a, b, **kwargs)


def _difference(func: Callable[..., Tensor], a: Any, b: Any, **kwargs: Any) -> Tensor:
    if _carries(b) and not kwargs:
        return _sum(torch.add, _identity(torch.neg, b), a)
    return func(a, b, **kwargs)


class _Product(Function):
    """Two branches share relevance evenly; a scale takes nothing."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Any,
        b: Any,
        func: Callable[[Any, Any], Tensor],
        shares: tuple[float, float],
    ) -> Tensor:
        ctx.shapes = [getattr(value, "shape", None) for value in (a, b)]
        ctx.shares = shares
        return func(a, b)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        parts = [
            _to_shape(relevance * share, shape) if share else None
            for shape, share in zip(ctx.shapes, ctx.shares, strict=True)
        ]
        return parts[0], parts[1], None, None


def _product(func: Callable[..., Tensor], a: Any, b: Any) -> Tensor:
    if not (_carries(a) or _carries(b)):
        return func(a, b)
    result: Tensor = _Product.apply(a, b, func, _halves(a, b))
    return result


class _Mean(Function):
    """A mean is a linear map with equal weights: relevance goes by value."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dims: tuple[int, ...], keepdim: bool, dtype: Any
    ) -> Tensor:
        ctx.dims, ctx.keepdim = dims, keepdim
        ctx.save_for_backward(x)
        return torch.mean(x, dims, keepdim, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        total = x.sum(dim=ctx.dims, keepdim=True)
        return x * safe_divide(relevance.reshape(total.shape), total), None, None, None


def _mean(
    func: Callable[..., Tensor],
    x: Tensor,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if not _carries(x):
        return func(x, dim, keepdim, dtype=dtype)
    dims = (dim,) if isinstance(dim, int) else tuple(dim or range(x.dim()))
    result: Tensor = _Mean.apply(x, dims, keepdim, dtype)
    return result


def _in_place(rule: Rule, func: Callable[..., Tensor]) -> Rule:
    """Make the rule of a function that writes its result where its input was."""

    def write(_: Callable[..., Tensor], a: Tensor, *args: Any) -> Tensor:
        return a.copy_(rule(func, a.clone(), *args))

    return write


def _to_shape(value: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the dimensions that were broadcast."""
    return value.sum_to_size(shape) if value.shape != shape else value


_RULES = relevance_rules()
