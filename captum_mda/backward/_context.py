"""What all contexts that rewrite the backward pass of a model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from torch import nn

from captum_mda._calls import MadeByCall
from captum_mda._checks import require_type
from captum_mda.vit.execution import eager_execution

Context = TypeVar("Context", bound="BackwardContext")


class BackwardContext(MadeByCall, ABC):
    """Applies rules to the backward pass of a model, from entering it to leaving it."""

    def __init__(self, model: nn.Module) -> None:
        """Check the model; the rules apply from `__enter__` on."""
        require_type("model", model, nn.Module, "a torch.nn.Module")
        self.model = self._subject = model
        self._stacks: list[ExitStack] = []

    @abstractmethod
    def _apply(self, stack: ExitStack) -> None:
        """Enter what applies the rules; the stack leaves it again."""

    def __enter__(self: Context) -> Context:
        """Apply the rules on this thread."""
        with ExitStack() as stack:
            stack.enter_context(eager_execution(self.model))
            self._apply(stack)
            self._stacks.append(stack.pop_all())
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the rules; errors propagate."""
        self._stacks.pop().__exit__(error_type, error, traceback)
