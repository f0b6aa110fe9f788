"""Records the constants that a model adds, and where it adds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_mda.vit import torch_functions as names
from captum_mda.vit.function_mode import Rule, RuleMode, rules_by_function
from captum_mda.vit.torch_functions import Function

_SUMS_WITH_MATRIX_PRODUCTS = (*names.SUMS_WITH_MATRIX_PRODUCTS, "addbmm", "addr")


class BiasCapture(RuleMode):
    """Records every constant that is added to a tensor with a graph.

    Constants are the biases of linear maps, convolutions and norms, however they are
    added, and numbers and tensors added to branches, such as positions. Use it around
    `ConstantParameters`, which turns parameters into constants.

    `records` holds pairs (result, constant): a result (B, ...) in the graph, and what
    was added, which broadcasts to it. `gradients` holds the gradient of each result
    after a backward pass, also of results that were changed in place later. Nothing is
    recorded while `active` is off.
    """

    def __init__(self) -> None:
        """Begin without records."""
        table: dict[names.Names, Rule] = {
            ("linear",): partial(self._biased, 2, None),
            ("layer_norm", "bilinear"): partial(self._biased, 3, None),
            ("group_norm",): partial(self._biased, 3, 0),
            names.CONVOLUTIONS: partial(self._biased, 2, 1),
            ("batch_norm",): self._batch_norm,
            (*names.SUMS, *names.in_place(names.SUMS), "__radd__"): partial(
                self._added, (1, 1)
            ),
            (*names.DIFFERENCES, *names.in_place(names.DIFFERENCES)): partial(
                self._added, (1, -1)
            ),
            names.REVERSED_DIFFERENCES: partial(self._added, (-1, 1)),
            _SUMS_WITH_MATRIX_PRODUCTS: self._added_product,
            names.in_place(_SUMS_WITH_MATRIX_PRODUCTS): self._added_product,
            names.SUMS_WITH_PRODUCTS: self._added_entries,
            names.CONCATENATIONS: self._joined,
            ("where",): self._where,
            ("masked_fill",): self._masked,
        }
        super().__init__(rules_by_function(table))
        self.active = False
        self.records: list[tuple[Tensor, Tensor]] = []
        self.gradients: dict[int, Tensor] = {}

    def start(self) -> None:
        """Record from here on."""
        self.active = True

    def _record(self, result: Tensor, constant: Tensor | None) -> Tensor:
        if self.active and constant is not None and result.requires_grad:
            number, shape, gradients = len(self.records), result.shape, self.gradients
            self.records.append((result, constant.detach()))

            def note(gradient: Tensor | None) -> None:
                if gradient is not None:
                    gradients.setdefault(number, gradient.reshape(shape))

            result.register_hook(note)
            owner = _owner(result)  # its gradient may come later, or alone
            if owner is not result:
                owner.register_hook(note)
        return result

    def _record_finite(self, result: Tensor, constant: Any) -> Tensor:
        """Record finite constants; the minus infinity of masks is no bias."""
        if not self.active or not isinstance(result, Tensor):
            return result
        if not isinstance(constant, Tensor):
            constant = torch.as_tensor(constant).to(result)
        if constant.dtype == torch.bool or not bool(constant.isfinite().all()):
            return result
        return self._record(result, constant)

    def _biased(
        self,
        place: int,
        of_channels: int | None,
        func: Function,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Record the argument ``bias`` of a function.

        Args:
            place (int): Its position.
            of_channels (int, optional): Where the bias lies along dimension 1: the
                position of the argument with the result's number of dimensions, the
                input, 0, or the ``weight``, 1. None: it lies along the last dimension.
            func (callable): The function.
            *args (any): Its arguments.
            **kwargs (any): Its arguments.
        """
        result = func(*args, **kwargs)
        bias = _constant(_argument(args, kwargs, place, "bias"))
        if bias is not None and of_channels is not None:
            like = _argument(args, kwargs, of_channels, "weight")
            bias = bias.reshape(-1, *[1] * (like.dim() - 2))
        return self._record(result, bias)

    def _batch_norm(
        self, func: Function, x: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Record the constant of the affine map that it is in evaluation mode."""
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

    def _added_product(
        self, func: Function, added: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Record of ``beta * added + alpha * (a @ b)`` what is added."""
        constant = _constant(added)
        beta = kwargs.get("beta", 1)
        if constant is not None and beta != 1:
            constant = constant * beta
        result = func(added, *args, **kwargs)
        return result if beta == 0 else self._record(result, constant)

    def _added_entries(
        self, func: Function, a: Any, b: Any, c: Any, *, value: Any = 1
    ) -> Tensor:
        """Record of ``a + value * b * c``, or ``b / c``, the constant term."""
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

    def _added(
        self,
        signs: tuple[int, int],
        func: Function,
        a: Any,
        b: Any,
        alpha: Any = 1,
        **kwargs: Any,
    ) -> Tensor:
        """Record the one of two summands that is constant, with its factor."""
        is_constant = [not _carries(value) for value in (a, b)]
        extra = kwargs if alpha == 1 else kwargs | {"alpha": alpha}
        # A reversed difference, ``b - alpha * a``, scales its first operand.
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
        self, func: Function, tensors: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Record constant tokens that are joined to others, such as prompts."""
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

    def _masked(self, func: Function, x: Tensor, mask: Tensor, value: Any) -> Tensor:
        result = func(x, mask, value)
        if not self.active or not _carries(x):
            return result
        with torch.no_grad():
            return self._record_finite(result, torch.where(mask, value, 0.0))


def _owner(result: Tensor) -> Tensor:
    """Find the tensor that a result is a view of; its hook survives in-place writes."""
    base = result._base
    if base is None or base.numel() != result.numel() or not base.requires_grad:
        return result
    return base if base.is_contiguous() and result.is_contiguous() else result


def _carries(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _constant(value: Any) -> Tensor | None:
    """Return a tensor that has no graph; None for anything else."""
    return None if _carries(value) or not isinstance(value, Tensor) else value


def _argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str
) -> Any:
    """Find an argument that may be passed by position or by name; None without it."""
    return args[place] if len(args) > place else kwargs.get(name)
