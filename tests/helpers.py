"""Small models and recorders that several test modules use."""

from __future__ import annotations

import torch
from torch import nn, Tensor


class Recorder:
    """Wraps a forward function and notes how many rows each call got."""

    def __init__(self, forward_func: object) -> None:
        self.forward_func = forward_func
        self.calls: list[int] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.calls.append(len(inputs[0]))
        return self.forward_func(*inputs)  # type: ignore[operator, no-any-return]

    @property
    def rows(self) -> int:
        """How many rows all calls got together."""
        return sum(self.calls)


class NoisyModel(nn.Module):
    """Images to logits, with everything a forward may leave behind.

    Dropout draws random numbers and batch normalisation moves its buffers. ``fail_at``
    is the number of the call, from 1 on, that raises ``error``.
    """

    def __init__(
        self, fail_at: int | None = None, error: type[BaseException] = RuntimeError
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(16, 2)  # for images of 4 x 4 pixels
        self.fail_at, self.error, self.calls = fail_at, error, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.head(self.dropout(self.norm(images)).flatten(1))
        if self.calls == self.fail_at:
            raise self.error("stopped in the middle")
        return hidden


class Snapshot:
    """What a call must leave as it was: a model, the generators, the grad mode."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = self._state()

    def _state(self) -> list[tuple[str, object]]:
        state: list[tuple[str, object]] = [
            ("torch generator", torch.get_rng_state().tolist()),
            ("grad mode", torch.is_grad_enabled()),
        ]
        for name, tensor in self._model.state_dict().items():
            state.append((name, tensor.tolist()))
        for name, parameter in self._model.named_parameters():
            grad = None if parameter.grad is None else parameter.grad.tolist()
            state.append((f"{name}.grad", grad))
            state.append((f"{name}.requires_grad", parameter.requires_grad))
        for name, module in self._model.named_modules():
            state.append((f"{name}.training", module.training))
        return state

    def assert_unchanged(self) -> None:
        """Compare everything with what it was at construction."""
        for (name, before), (_, after) in zip(self._before, self._state(), strict=True):
            assert before == after, name
