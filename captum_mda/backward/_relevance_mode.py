"""The function mode that applies relevance rules, and refuses other functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.backward._elementwise_rules import (
    ELEMENTWISE,
    in_place_rules,
    product,
)
from captum_mda.backward._linear_rules import attention_rule, LINEAR
from captum_mda.backward._trace import (
    carries,
    graph_position,
    is_traced,
    position_of,
    refuse_relevance,
    set_trace,
    tensors_in,
    Trace,
    trace_of,
)
from captum_mda.vit import torch_functions as names
from captum_mda.vit.function_mode import Rule, RuleMode, rules_by_function
from captum_mda.vit.torch_functions import (
    Function,
    function_name,
    functions_named,
    plain_function,
)

# Autograd's own backward pass keeps the totals of entries that are moved.
_MOVES = functions_named(*names.MOVES)
# It also keeps them where only one of the summands carries relevance.
_SCATTERED_SUMS = functions_named(*names.SCATTERED_SUMS)


class _AtWork(threading.local):
    """The number of the mode whose rule runs on this thread."""

    number = -1


_AT_WORK = _AtWork()
_NUMBERS = count()


class RelevanceMode(RuleMode):
    """Applies the rules of relevance, and refuses functions without one.

    The result of a function without a rule gets a hook: if relevance arrives there, the
    hook raises a ValueError that names the function. The results of functions that the
    mode does not see, such as a `torch.autograd.Function`, get the same hook.
    """

    def __init__(self) -> None:
        """Use the table of all rules."""
        super().__init__(RULES)
        self._begin = graph_position()
        self._number = next(_NUMBERS)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply the function's rule, and follow what carries relevance."""
        kwargs = kwargs or {}
        if self._number < _AT_WORK.number:  # called by a rule of a later mode
            return func(*args, **kwargs)
        before, _AT_WORK.number = _AT_WORK.number, self._number
        try:
            return self._followed(func, types, args, kwargs)
        finally:
            _AT_WORK.number = before

    def _followed(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        carrying = [each for each in tensors_in([args, dict(kwargs)]) if carries(each)]
        for tensor in carrying:
            self.require_seen(tensor)
        result = super().__torch_function__(func, types, args, kwargs)
        written = args[0] if args and isinstance(args[0], Tensor) else None
        for tensor in tensors_in([result, written]):
            if carries(tensor) and not is_traced(tensor):
                set_trace(tensor)
        return result

    def without_rule(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a function that has no rule."""
        result = func(*args, **kwargs)
        operands = [each for each in tensors_in([args, dict(kwargs)]) if carries(each)]
        if not operands:
            return result
        plain = plain_function(func)
        moves = plain in _MOVES or getattr(func, "__name__", "") == "__get__"
        moves = moves or (plain in _SCATTERED_SUMS and len(operands) == 1)
        for tensor in tensors_in(result):
            if not carries(tensor) or tensor.grad_fn is None:
                continue
            if moves:
                if tensor is not operands[0]:
                    set_trace(tensor, _moved(operands))
            else:
                refuse_relevance(tensor, function_name(func))
        return result

    def require_seen(self, tensor: Tensor) -> None:
        """Hook a tensor that no function seen by this mode has returned."""
        node = tensor.grad_fn
        if node is None or is_traced(tensor):
            return
        if position_of(node) >= self._begin:  # later than the context began
            made_by = getattr(node, "_forward_cls", None)
            name = node.name() if made_by is None else made_by.__name__
            refuse_relevance(tensor, name)
        set_trace(tensor)


def _moved(operands: list[Tensor]) -> Trace:
    """Keep the marks of one tensor whose entries were moved."""
    return trace_of(operands[0]) if len(operands) == 1 else Trace()


def _gated(func: Function, x: Tensor, dim: int = -1) -> Tensor:
    """Apply the rules of the parts of GLU."""
    with RelevanceMode():
        a, b = x.chunk(2, dim)
        return product(torch.mul, a, torch.sigmoid(b))


def relevance_rules() -> Mapping[Callable[..., Any], Rule]:
    """Collect the rules, for functions as PyTorch passes them to a function mode."""
    rules = rules_by_function(ELEMENTWISE | LINEAR) | in_place_rules(ELEMENTWISE)
    rules[F.scaled_dot_product_attention] = attention_rule(RelevanceMode)
    rules[F.glu] = _gated
    return rules


RULES = relevance_rules()
