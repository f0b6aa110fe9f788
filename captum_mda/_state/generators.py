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

    The generators of accelerators are read if the program has used the accelerator.
    """

    def __init__(self) -> None:
        """Read the states."""
        self._python = random.getstate()
        self._numpy: Any = np.random.get_state(legacy=False)
        self._torch = torch_states()

    def torch_moved(self) -> bool:
        """Tell whether numbers were drawn from one of PyTorch's generators."""
        now = torch_states()
        return any(
            key in now and not torch.equal(now[key], state)
            for key, state in self._torch.items()
        )

    def restore(self) -> None:
        """Set all generators to the states that were read."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        for (device, index), state in self._torch.items():
            if device == "cpu":
                torch.set_rng_state(state)
            elif device == "mps":
                torch.mps.set_rng_state(state)
            else:
                torch.get_device_module(device).set_rng_state(state, index)


def torch_states() -> dict[tuple[str, int], Tensor]:
    """Read the states of PyTorch's generators, by type and index of the device."""
    states = {("cpu", 0): torch.get_rng_state()}
    for device in _ACCELERATORS:
        if not _in_use(device):
            continue
        if device == "mps":
            states[device, 0] = torch.mps.get_rng_state()
            continue
        module = torch.get_device_module(device)
        for index in range(module.device_count()):
            states[device, index] = module.get_rng_state(index)
    return states


def _in_use(device: str) -> bool:
    if device == "mps":  # it cannot tell, and starts quickly
        return torch.backends.mps.is_available()
    module = getattr(torch, device, None)
    is_initialized = getattr(module, "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())
