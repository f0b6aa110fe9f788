"""Function modes: some of PyTorch's functions compute something else in a `with`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_mda.vit.multihead import multi_head_attention
from captum_mda.vit.torch_functions import functions_named, Names, plain_function

Rule = Callable[..., Any]
"""Takes the function that was called and its arguments; returns its result."""

# The names of operands in the order of their positions.
_OPERANDS = (
    *("input", "input1", "x", "mat1", "batch1", "tensor1", "vec1", "mat"),
    *("other", "end", "input2", "mat2", "batch2", "tensor2", "vec2", "vec"),
    *("tensor", "y", "exponent"),
)


def rules_by_function(
    table: Mapping[Names, Rule],
) -> dict[Callable[..., Any], Rule]:
    """Make the rules of functions from a table of names; later entries win."""
    rules: dict[Callable[..., Any], Rule] = {}
    for names, rule in table.items():
        rules |= dict.fromkeys(functions_named(*names), rule)
    return rules


class RuleMode(TorchFunctionMode):
    """Replaces functions by their rules; all other functions run as usual.

    The mode is off while a rule runs: calls inside the rule reach the modes that were
    entered before. `F.multi_head_attention_forward` is first divided into its parts, so
    that rules for linear maps and for scaled dot-product attention apply to them.
    A mode holds on its own thread.

    Args:
        rules (Mapping): From a function, as it arrives at ``__torch_function__``, to
            its rule.
    """

    def __init__(self, rules: Mapping[Callable[..., Any], Rule]) -> None:
        """Keep the table."""
        super().__init__()
        self._rules = dict(rules)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply the function's rule, if it has one."""
        kwargs = kwargs or {}
        rule = self._rules.get(func) or self._rules.get(plain_function(func))
        if rule is not None:
            args, kwargs = _operands_first(args, kwargs)
            return rule(func, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return multi_head_attention(*args, **kwargs)
        return self.without_rule(func, args, kwargs)

    def without_rule(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a function that has no rule."""
        return func(*args, **kwargs)


def _operands_first(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Pass the operands of a function by position, as rules expect them."""
    names = [name for name in _OPERANDS if name in kwargs]
    if not names:
        return args, kwargs
    rest = {name: value for name, value in kwargs.items() if name not in names}
    return (*args, *(kwargs[name] for name in names)), rest


class ConstantParameters(TorchFunctionMode):
    """Treats a model's parameters as constants, and may change the precision.

    With a dtype, the model computes in that dtype and its parameters stay unchanged:
    every floating-point tensor and every floating-point dtype that is passed to a
    function is converted.

    Args:
        dtype (torch.dtype, optional): The precision to compute in. None: the model's
            own. Default: None
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        """Keep the precision."""
        super().__init__()
        self._dtype = dtype
        self._casts = {Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Convert the arguments, then call."""
        if func in self._casts and self._dtype is not None:
            return self._convert(args[0])
        if getattr(func, "__name__", "") in ("__get__", "__set__"):
            # Most reads are of shapes and dtypes, which need no conversion.
            owner = args[0].detach() if isinstance(args[0], nn.Parameter) else args[0]
            value = func(owner, *args[1:], **(kwargs or {}))
            return self._convert(value) if isinstance(value, Tensor) else value
        return func(
            *(self._convert(value) for value in args),
            **{name: self._convert(value) for name, value in (kwargs or {}).items()},
        )

    def _convert(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if isinstance(value, nn.Parameter):
                value = value.detach()
            if self._dtype is not None and value.is_floating_point():
                value = value.to(self._dtype)
            return value
        if isinstance(value, torch.dtype):
            wanted = self._dtype
            return wanted if wanted is not None and value.is_floating_point else value
        if type(value) in (tuple, list):
            return type(value)(self._convert(entry) for entry in value)
        return value
