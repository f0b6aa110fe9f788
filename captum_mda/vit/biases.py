"""Recording what a model adds: every constant, and where it entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.vit.function_mode import Rule, RuleMode
from captum_mda.vit.torch_functions import functions_named

_CONVOLUTIONS = functions_named(
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)


class BiasCapture(RuleMode):
    """Records every constant that is added to something with a graph.

    That are the biases of linear maps, convolutions and norms, however they are added,
    and numbers and tensors added to branches, such as positions. Use it around
    `ConstantParameters`, which makes parameters the constants that they are here.

    `records` holds pairs (result, constant): a result (B, ...) in the graph, and what
    was added, which broadcasts to it. `gradients` holds the gradient of each result,
    once a backward pass has been there, as it may be changed in place later. Nothing is
    recorded while `active` is off.
    """

    def __init__(self) -> None:
        """Begin without records."""
        rules: dict[Callable[..., Any], Rule] = {
            F.linear: self._linear,
            F.layer_norm: self._layer_norm,
            torch.layer_norm: self._layer_norm,
        }
        for names, rule in (
            (("add", "add_", "__radd__"), self._sum),
            (("sub", "sub_", "subtract", "subtract_"), self._difference),
            (("rsub", "__rsub__"), self._reversed_difference),
            (("addmm", "addmv", "addbmm", "baddbmm", "addr"), self._added_product),
            (("addmm_", "addmv_", "addbmm_", "baddbmm_", "addr_"), self._added_product),
            (("addcmul", "addcdiv"), self._added_entries),
            (("group_norm",), self._group_norm),
            (("batch_norm",), self._batch_norm),
            (("bilinear",), self._bilinear),
            (("cat", "concat", "concatenate"), self._joined),
            (("where",), self._where),
            (("masked_fill",), self._masked),
        ):
            rules |= dict.fromkeys(functions_named(*names), rule)
        rules |= dict.fromkeys(_CONVOLUTIONS, self._convolution)
        super().__init__(rules)
        self.active = False
        self.records: list[tuple[Tensor, Tensor]] = []
        self.gradients: dict[int, Tensor] = {}

    def _record(self, result: Tensor, constant: Tensor | None) -> Tensor:
        if self.active and constant is not None and result.requires_grad:
            number, shape, gradients = len(self.records), result.shape, self.gradients
            self.records.append((result, constant.detach()))

            def note(gradient: Tensor | None) -> None:
                if gradient is not None:
                    gradients.setdefault(number, gradient.reshape(shape))

            result.register_hook(note)
            owner = _owner(result)  # is reached later, or alone
            if owner is not result:
                owner.register_hook(note)
        return result

    def _record_finite(self, result: Tensor, constant: Any) -> Tensor:
        """Masks add minus infinity, which is no bias."""
        if not self.active or not isinstance(result, Tensor):
            return result
        if not isinstance(constant, Tensor):
            constant = torch.as_tensor(constant).to(result)
        if constant.dtype == torch.bool or not bool(constant.isfinite().all()):
            return result
        return self._record(result, constant)

    def _linear(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        return self._record(func(x, weight, bias), _constant(bias))

    def _layer_norm(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        normalized_shape: list[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *args: Any,
    ) -> Tensor:
        result = func(x, normalized_shape, weight, bias, eps, *args)
        return self._record(result, _constant(bias))

    def _group_norm(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        result = func(x, num_groups, weight, bias, *args, **kwargs)
        return self._record(result, _of_channels(bias, x.dim()))

    def _batch_norm(
        self, func: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """In evaluation mode an affine map: what it makes of zeros is its constant."""
        result = func(x, *args, **kwargs)
        trained = args[4] if len(args) > 4 else kwargs.get("training", False)
        if not self.active or not result.requires_grad or trained:
            return result
        with torch.no_grad():
            zeros = torch.zeros_like(x[:1])
            constant = func(zeros, *args, **kwargs)
        for dim in range(2, x.dim()):
            constant = constant.narrow(dim, 0, 1)
        return self._record(result, constant)

    def _convolution(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        result = func(x, weight, bias, *args, **kwargs)
        return self._record(result, _of_channels(bias, weight.dim()))

    def _bilinear(
        self,
        func: Callable[..., Tensor],
        a: Tensor,
        b: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        return self._record(func(a, b, weight, bias), _constant(bias))

    def _added_product(
        self, func: Callable[..., Tensor], added: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """``beta * added + alpha * (a @ b)``."""
        constant = _constant(added)
        beta = kwargs.get("beta", 1)
        if constant is not None and beta != 1:
            constant = constant * beta
        result = func(added, *args, **kwargs)
        return result if beta == 0 else self._record(result, constant)

    def _added_entries(
        self, func: Callable[..., Tensor], a: Any, b: Any, c: Any, *, value: Any = 1
    ) -> Tensor:
        """``a + value * b * c``, or with a quotient."""
        result = func(a, b, c, value=value)
        if not result.requires_grad:
            return result
        if _constant(a) is not None:
            return self._record_finite(result, a)
        if _constant(b) is not None and _constant(c) is not None:
            return self._record_finite(
                result, func(torch.zeros_like(a.detach()), b, c, value=value)
            )
        return result

    def _sum(
        self,
        func: Callable[..., Tensor],
        a: Any,
        b: Any,
        alpha: Any = 1,
        **kwargs: Any,
    ) -> Tensor:
        return self._added(func, a, b, alpha, (1, 1), kwargs)

    def _difference(
        self,
        func: Callable[..., Tensor],
        a: Any,
        b: Any,
        alpha: Any = 1,
        **kwargs: Any,
    ) -> Tensor:
        return self._added(func, a, b, alpha, (1, -1), kwargs)

    def _reversed_difference(
        self, func: Callable[..., Tensor], a: Any, b: Any, alpha: Any = 1
    ) -> Tensor:
        return self._added(func, a, b, alpha, (-1, 1), {})

    def _added(
        self,
        func: Callable[..., Tensor],
        a: Any,
        b: Any,
        alpha: Any,
        signs: tuple[int, int],
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Record the one of two summands that is constant, with its factor."""
        is_constant = [not _carries(value) for value in (a, b)]
        extra = kwargs if alpha == 1 else kwargs | {"alpha": alpha}
        # ``b - a``, as it arrives from the right, takes alpha with its first operand.
        scaled = 0 if signs == (-1, 1) else 1
        result = func(a, b, **extra)
        if sum(is_constant) != 1 or not self.active:
            return result
        index = is_constant.index(True)
        constant, factor = (a, b)[index], signs[index]
        if index == scaled and alpha != 1:
            factor = factor * alpha
        return self._record_finite(
            result, constant if factor == 1 else constant * factor
        )

    def _joined(
        self, func: Callable[..., Tensor], tensors: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Tokens that are put beside others, as prompts are."""
        result = func(tensors, *args, **kwargs)
        if (
            self.active
            and any(map(_carries, tensors))
            and not all(map(_carries, tensors))
        ):
            with torch.no_grad():
                parts = [torch.zeros_like(t) if _carries(t) else t for t in tensors]
                return self._record_finite(result, func(parts, *args, **kwargs))
        return result

    def _where(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if len(args) == 3 and _carries(args[1]) != _carries(args[2]):
            with torch.no_grad():
                kept = [0.0 if _carries(value) else value for value in args[1:]]
                kept = [torch.as_tensor(value).to(result) for value in kept]
                return self._record_finite(result, torch.where(args[0], *kept))
        return result

    def _masked(
        self, func: Callable[..., Tensor], x: Tensor, mask: Tensor, value: Any
    ) -> Tensor:
        result = func(x, mask, value)
        if not self.active or not _carries(x):
            return result
        with torch.no_grad():
            return self._record_finite(result, torch.where(mask, value, 0.0))


def _owner(result: Tensor) -> Tensor:
    """Find what a result only reshapes, whose hook outlives changes in place."""
    base = result._base
    if base is None or base.numel() != result.numel() or not base.requires_grad:
        return result
    return base if base.is_contiguous() and result.is_contiguous() else result


def _carries(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _constant(value: Any) -> Tensor | None:
    """Take what is added for a constant, unless it has a graph of its own."""
    return None if _carries(value) or not isinstance(value, Tensor) else value


def _of_channels(bias: Tensor | None, n_dims: int) -> Tensor | None:
    """Lay a bias out along dimension 1."""
    bias = _constant(bias)
    return None if bias is None else bias.reshape(-1, *[1] * (n_dims - 2))
