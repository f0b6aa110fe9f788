"""LibraGrad: a balanced backward pass under an untouched forward pass."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda._calls import MadeByCall
from captum_mda._checks import require_flag
from captum_mda._state import remove_hooks, undone
from captum_mda.backward import _written_norms as written
from captum_mda.backward._functions import frozen_norm, with_slope
from captum_mda.backward._written_norms import has_mark, is_branch, marked, marking
from captum_mda.vit.execution import eager_execution
from captum_mda.vit.function_mode import Rule, RuleMode
from captum_mda.vit.torch_functions import functions_named

_Functions = tuple[Callable[..., Any], ...]


def _gelu_slope(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        return 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * (1.0 + torch.tanh(inner))


def _silu_slope(x: Tensor, inplace: bool = False) -> Tensor:
    return torch.sigmoid(x)


def _hardswish_slope(x: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(x + 3.0) / 6.0


def _mish_slope(x: Tensor, inplace: bool = False) -> Tensor:
    return torch.tanh(F.softplus(x))


# x * g(x): what remains of the gradient is g(x).
_GATED_ACTIVATIONS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.gelu: _gelu_slope,
    F.silu: _silu_slope,
    F.hardswish: _hardswish_slope,
    F.mish: _mish_slope,
}
# Zero at zero, but no multiple of a gate: x * (f(x) / x).
_RATIOS: _Functions = functions_named(
    *("elu", "selu", "celu", "relu6", "hardtanh", "softsign", "tanhshrink"),
)
# Where an activation is written out, its g(x) ends in one of these.
_TANHS: _Functions = functions_named("tanh")
_GATES: _Functions = functions_named("sigmoid", "expit", "erf", "tanh", "hardsigmoid")
_SUMS: _Functions = functions_named("add", "sub", "subtract")
_QUOTIENTS: _Functions = functions_named("div", "divide", "true_divide", "div_")
_REVERSED_QUOTIENTS: _Functions = functions_named("__rdiv__", "__rtruediv__")
_SOFTMAXES: _Functions = functions_named("softmax", "log_softmax", "softmin")
_RSQRTS: _Functions = functions_named("rsqrt", "reciprocal")
_SQUARES: _Functions = functions_named("square")
_POWERS: _Functions = functions_named("pow", "__pow__", "float_power")
_DEVIATIONS: _Functions = functions_named("var", "std", "var_mean", "std_mean")
_NORMS: _Functions = functions_named("norm", "vector_norm")
_MEANS: _Functions = functions_named("mean", "sum")
_EXPONENTIALS: _Functions = functions_named("exp")
_SCALES_KEPT: _Functions = functions_named("sqrt", "clamp", "clamp_min", "unsqueeze")
_PRODUCTS: _Functions = functions_named("mul", "multiply", "mul_")


class LibraGrad(MadeByCall):
    r"""Balances the backward pass of a model, so that gradients add up to its output.

    Inside the ``with`` every gradient method, Captum's included, sees rewritten
    gradients; the forward pass computes what it always does. The rules (Mehri et al.,
    CVPR 2025, Sec. 3.4 and Thm. 4 and 5) treat as constant what only says how much:

    ====================  =========================  ===================================
    part                  computes                   gradient that remains
    ====================  =========================  ===================================
    attention             softmax(QK) V              through V only
    activation            x g(x): GELU, SiLU, ...    g(x)
    layer norm            (x - mean) / deviation     as if the deviation were constant
    gate                  f(x) h(x), e.g. SwiGLU     a half of each branch's
    ====================  =========================  ===================================

    The model is then complete (Cor. 3): at any input,
    :math:`f(x) = J_x x + \sum_b J_b b` over all biases b, where plain gradients miss
    by any amount. Linear layers, residual sums, convolutions, batch norm in evaluation
    mode, LayerScale and rotary positions need no rule. Rules also hold where a norm, a
    softmax or an activation is written out, as ``(x - mean) / sqrt(var + eps)`` is;
    where a model has parts that no rule knows, `FullGradPlus` says so.

    The rules hold for all that is computed inside the ``with`` on the entering thread;
    nothing of the model is changed, and nothing remains after the exit, also after an
    error. Fused attention stays fused.

    Args:
        model (nn.Module): The model whose backward pass is rewritten.
        attention (bool, optional): Whether attention is. Default: True
        layer_norm (bool, optional): Whether layer norm and RMS norm are.
            Default: True
        activation (bool, optional): Whether gated activations are. Default: True
        gate (bool, optional): Whether products of two branches are. Default: True

    Raises:
        TypeError: ``model`` is no module, or an option no bool.
        ValueError: The model is a `torch.jit` graph or recomputes its activations.
        RuntimeError: It is run on another thread than the one that entered.

    Reference:
        Mehri et al., "LibraGrad: Balancing Gradient Flow for Universally Better Vision
        Transformer Attributions", CVPR 2025.

    Example::

        >>> from captum.attr import InputXGradient
        >>> from captum_mda import demo, LibraGrad
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> with LibraGrad(model):
        ...     attributions = InputXGradient(model).attribute(images, target=labels)
        >>> attributions.shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module,
        attention: bool = True,
        layer_norm: bool = True,
        activation: bool = True,
        gate: bool = True,
    ) -> None:
        """Check the options; the rules hold from `__enter__` on."""
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model: got {type(model).__name__}, takes a torch.nn.Module"
            )
        options = {
            "attention": attention,
            "layer_norm": layer_norm,
            "activation": activation,
            "gate": gate,
        }
        options = {name: require_flag(name, value) for name, value in options.items()}
        self.model = self._subject = model
        self._options = options
        self._stacks: list[ExitStack] = []

    def _call_settings(self) -> dict[str, Any]:
        return dict(self._options)

    def __enter__(self) -> LibraGrad:
        """Let the rules hold on this thread."""
        with ExitStack() as stack:
            stack.enter_context(eager_execution(self.model))
            refuse = _refuse_other_threads(threading.get_ident())
            stack.enter_context(undone(partial(remove_hooks, [self.model], refuse)))
            self.model.register_forward_pre_hook(refuse)
            stack.enter_context(RuleMode(libra_rules(**self._options)))
            stack.enter_context(_ACTIVE.with_options(self._options))
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


class _Active(threading.local):
    """The options of the contexts that hold on this thread."""

    def __init__(self) -> None:
        self.options: list[Mapping[str, bool]] = []

    @contextmanager
    def with_options(self, options: Mapping[str, bool]) -> Iterator[None]:
        self.options.append(options)
        try:
            yield
        finally:
            self.options.remove(options)


_ACTIVE = _Active()


def all_rules_hold() -> bool:
    """Tell whether a `LibraGrad` with all of its rules holds on this thread."""
    return any(all(options.values()) for options in _ACTIVE.options)


def libra_rules(
    attention: bool = True,
    layer_norm: bool = True,
    activation: bool = True,
    gate: bool = True,
) -> Mapping[Callable[..., Any], Rule]:
    """Collect the rules, for functions as PyTorch passes them to a function mode."""
    rules: dict[Callable[..., Any], Rule] = {}
    if attention:
        rules[F.scaled_dot_product_attention] = _attention
        rules |= dict.fromkeys(_SOFTMAXES, _softmax)
        rules |= dict.fromkeys(_EXPONENTIALS, partial(marking, "exp"))
    if layer_norm:
        rules |= {F.layer_norm: _layer_norm, torch.layer_norm: _layer_norm}
        rules |= {F.group_norm: _group_norm, F.normalize: written.normalize}
        rules |= dict.fromkeys(_RSQRTS, _constant)
        rules |= dict.fromkeys(_SQUARES, partial(marking, "square"))
        rules |= dict.fromkeys(_POWERS, written.power)
        rules |= dict.fromkeys(_DEVIATIONS, written.deviation)
        rules |= dict.fromkeys(_NORMS, written.norm)
        rules |= dict.fromkeys(_MEANS, written.mean)
        rules |= dict.fromkeys(_SCALES_KEPT, written.keeps_scale)
        if hasattr(F, "rms_norm"):
            rules[F.rms_norm] = _rms_norm
    if activation:
        rules |= dict.fromkeys(_GATED_ACTIVATIONS, _activation)
        rules |= dict.fromkeys(_RATIOS, _ratio)
        rules[F.glu] = partial(_glu, rules)
    quotient = partial(
        written.quotient,
        attention=attention,
        layer_norm=layer_norm,
        activation=activation,
    )
    rules |= dict.fromkeys(_QUOTIENTS, quotient)
    rules |= dict.fromkeys(_REVERSED_QUOTIENTS, partial(written.reversed, quotient))
    rules |= dict.fromkeys(_SUMS, written.shifted)
    if activation or gate:
        rules |= dict.fromkeys(_GATES, _gate)
        product = partial(_product, freeze_gates=activation, halve=gate)
        rules |= dict.fromkeys(_PRODUCTS, product)
    if activation:
        rules |= dict.fromkeys(_TANHS, _tanh)
    return rules


def _attention(
    func: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    mask = None if attn_mask is None else attn_mask.detach()
    return func(query.detach(), key.detach(), value, mask, *args, **kwargs)


def _softmax(
    func: Callable[..., Tensor], scores: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Explicit attention's softmax; one over classes has fewer dimensions."""
    # What goes in is detached, not what comes out: a capture may mark the result.
    return func(scores.detach() if scores.dim() > 2 else scores, *args, **kwargs)


def _constant(func: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
    return func(x.detach(), *args)


def _activation(func: Callable[..., Tensor], x: Tensor, **kwargs: Any) -> Tensor:
    kwargs.pop("inplace", None)
    slope = partial(_GATED_ACTIVATIONS[func], **kwargs)
    return with_slope(x, partial(func, **kwargs), slope)


def _gate(func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mark what may turn out to be the g(x) of an activation that is written out."""
    gate: Tensor = marked(func(x, *args, **kwargs), "gate")
    return gate


def _tanh(func: Callable[..., Tensor], x: Tensor) -> Tensor:
    """On its own, as at the end of a pooler, tanh is x * (tanh(x) / x)."""
    gate: Tensor = marked(_ratio(func, x), "gate")
    return gate


def _ratio(func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Of a function that is 0 at 0, the gradient that remains is f(x) / x."""
    kwargs.pop("inplace", None)

    def apply(x: Tensor) -> Tensor:
        return func(x, *args, **kwargs)

    def slope(x: Tensor) -> Tensor:
        return torch.where(x == 0, torch.ones_like(x), apply(x) / x)

    return with_slope(x, apply, slope)


def _glu(
    rules: Mapping[Callable[..., Any], Rule],
    func: Callable[..., Tensor],
    x: Tensor,
    dim: int = -1,
) -> Tensor:
    """GLU by its parts."""
    branch, gate = x.chunk(2, dim)
    with RuleMode(rules):
        return branch * torch.sigmoid(gate)


def _product(
    func: Callable[..., Tensor],
    a: Any,
    b: Any,
    freeze_gates: bool,
    halve: bool,
    **kwargs: Any,
) -> Tensor:
    if _is_gate(a) != _is_gate(b):
        other = b if _is_gate(a) else a
        if not is_branch(other):  # a gate times a number is still one
            scaled: Tensor = marked(func(a, b, **kwargs), "gate")
            return scaled
        if freeze_gates:
            a, b = (value.detach() if _is_gate(value) else value for value in (a, b))
        return func(a, b, **kwargs)
    halve = halve and _are_branches(a, b)
    product = func(a, b, **kwargs)
    # Where the context is entered twice, the outer one has halved it already.
    if halve and product.requires_grad and not hasattr(product, "_is_libra_halved"):
        product._is_libra_halved = True  # type: ignore[attr-defined]
        product.register_hook(lambda gradient: gradient * 0.5)
    return product


def _is_gate(value: object) -> bool:
    return has_mark(value, "gate")


def _are_branches(a: Any, b: Any) -> bool:
    """Tell two computed branches from a branch and its scale, such as LayerScale's."""
    return all(
        isinstance(factor, Tensor) and factor.grad_fn is not None and factor.dim() > 1
        for factor in (a, b)
    ) and bool(a.shape == b.shape)


def _layer_norm(
    func: Callable[..., Tensor],
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return func(x, normalized_shape, weight, bias, eps)

    return frozen_norm(x, norm, weight, bias, len(normalized_shape), eps, center=True)


def _rms_norm(
    func: Callable[..., Tensor],
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return func(x, normalized_shape, weight, eps)

    n_dims = len(normalized_shape)
    added = torch.finfo(x.dtype).eps if eps is None else eps
    return frozen_norm(x, norm, weight, None, n_dims, added, center=False)


def _group_norm(
    func: Callable[..., Tensor],
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    groups = x.reshape(len(x), num_groups, -1)
    variance = groups.detach().var(dim=-1, correction=0, keepdim=True)
    normed = (groups - groups.mean(dim=-1, keepdim=True)) * (variance + eps).rsqrt()
    linear = normed.reshape(x.shape)
    channels = (1, -1, *[1] * (x.dim() - 2))
    if weight is not None:
        linear = linear * weight.view(channels)
    if bias is not None:
        linear = linear + bias.view(channels)
    value = func(x, num_groups, weight, bias, eps)
    return linear + (value - linear).detach()


def _refuse_other_threads(thread: int) -> Callable[[nn.Module, Any], None]:
    def refuse(module: nn.Module, args: Any) -> None:
        if threading.get_ident() != thread:
            raise RuntimeError(
                "model: it runs on another thread than the one that entered the "
                "context, where the rules do not hold; enter it on the thread that "
                "runs the model, and pass nn.DataParallel's .module"
            )

    return refuse
