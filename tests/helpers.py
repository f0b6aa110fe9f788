"""Recorders, a noisy model, and the curves' formulas: what several test modules use."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn, Tensor

from captum_mda.curves import Mode


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


def literal_monotone(
    raw: list[float], base: float, full: float, mode: Mode
) -> list[float]:
    """Spec 6.1, one response after the other."""
    best = 0.0 if mode == "insertion" else 1.0
    curve = []
    for response in raw:
        q = min(max((response - base) / abs(full - base), 0.0), 1.0)
        best = max(best, q) if mode == "insertion" else min(best, q)
        curve.append(best)
    return curve


def literal_density(mass: list[float], mode: Mode) -> list[float]:
    """Spec 10.1, DR: from 0 up or from 1 down by each step's share."""
    density = [0.0 if mode == "insertion" else 1.0]
    for share in mass:
        change = share / sum(mass)
        density.append(density[-1] + (change if mode == "insertion" else -change))
    return density


def literal_mas(response: list[float], density: list[float], mode: Mode) -> np.ndarray:
    """Spec 10.1: MR -+ AP, clipped, stretched; a straight line where that is 0/0."""
    penalty = np.abs(np.array(response) - np.array(density))
    curve = response - penalty if mode == "insertion" else response + penalty
    curve = np.clip(curve, 0, 1)
    if curve.max() == curve.min():
        line = np.linspace(0, 1, len(curve))
        return line if mode == "insertion" else line[::-1]
    return (curve - curve.min()) / (curve.max() - curve.min())


def literal_area(curve: np.ndarray) -> float:
    """Spec 10.1, AUC."""
    return float((curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1))
