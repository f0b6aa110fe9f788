"""The global random number generators of PyTorch, NumPy and Python."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ACCELERATORS = ("cuda", "xpu", "mps")


class GeneratorStates:
    """The states of all global generators at the time of construction.

    Those of accelerators are read where a program has used the accelerator already.
    """

    def __init__(self) -> None:
        """Read the states."""
        self._python = random.getstate()
        self._numpy: Any = np.random.get_state(legacy=False)
        self._torch = torch_states()

    def torch_moved(self) -> bool:
        """Tell whether anything was drawn from one of PyTorch's generators."""
        now = torch_states()
        return any(
            key in now and not torch.equal(now[key], state)
            for key, state in self._torch.items()
        )

    def restore(self) -> None:
        """Set all generators to the states that were read."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for (kind, index), state in self._torch.items():
            if kind == "cpu":
                torch.set_rng_state(state)
            elif kind == "mps":
                torch.mps.set_rng_state(state)
            else:
                torch.get_device_module(kind).set_rng_state(state, index)


def torch_states() -> dict[tuple[str, int], Tensor]:
    """Read the states of PyTorch's generators, by kind and number of the device."""
    states = {("cpu", 0): torch.get_rng_state()}
    for kind in _ACCELERATORS:
        if not _in_use(kind):
            continue
        if kind == "mps":
            states[kind, 0] = torch.mps.get_rng_state()
            continue
        module = torch.get_device_module(kind)
        for index in range(module.device_count()):
            states[kind, index] = module.get_rng_state(index)
    return states


def _in_use(kind: str) -> bool:
    if kind == "mps":  # it has no generator before its first use, and starts quickly
        return torch.backends.mps.is_available()
    module = getattr(torch, kind, None)
    is_initialized = getattr(module, "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())
