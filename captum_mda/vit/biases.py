"""Recording what a model adds: every constant, and where it entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda.vit.function_mode import RuleMode

_SUMS = (torch.add, Tensor.add, Tensor.add_)


class BiasCapture(RuleMode):
    """Records every constant that is added to something with a graph.

    That are the biases of linear maps and norms, and tensors added to branches, such as
    positions. Use it around `ConstantParameters`, which makes parameters the constants
    that they are here.

    `records` holds pairs (result, constant): a result (B, ...) in the graph, and what
    was added, which broadcasts to it. Nothing is recorded while `active` is off.
    """

    def __init__(self) -> None:
        """Begin without records."""
        rules: dict[Callable[..., Any], Callable[..., Any]] = {
            F.linear: self._linear,
            F.layer_norm: self._layer_norm,
        }
        rules |= dict.fromkeys(_SUMS, self._sum)
        super().__init__(rules)
        self.active = False
        self.records: list[tuple[Tensor, Tensor]] = []

    def _record(self, result: Tensor, constant: Tensor | None) -> Tensor:
        if self.active and constant is not None and result.requires_grad:
            self.records.append((result, constant.detach()))
        return result

    def _linear(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        return self._record(func(x, weight, bias), bias)

    def _layer_norm(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        normalized_shape: list[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        return self._record(func(x, normalized_shape, weight, bias, eps), bias)

    def _sum(
        self, func: Callable[..., Tensor], a: Any, b: Any, **kwargs: Any
    ) -> Tensor:
        constants = [
            value
            for value in (a, b)
            if isinstance(value, Tensor) and not value.requires_grad
        ]
        result = func(a, b, **kwargs)
        # Masks add minus infinity, which is no bias.
        if len(constants) == 1 and self.active and bool(constants[0].isfinite().all()):
            return self._record(result, constants[0])
        return result
