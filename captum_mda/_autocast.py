"""Switches a caller's autocast off for arithmetic outside of the model."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def no_autocast(device: torch.device) -> Any:
    """Make a context without autocast, if the device has autocast."""
    try:
        return torch.autocast(device.type, enabled=False)
    except RuntimeError:
        return contextlib.nullcontext()
