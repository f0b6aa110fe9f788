"""Keeps a caller's autocast away from arithmetic that is no part of a model."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def no_autocast(device: torch.device) -> Any:
    """Make a context in which nothing is cast, where the device knows autocast."""
    try:
        return torch.autocast(device.type, enabled=False)
    except RuntimeError:
        return contextlib.nullcontext()
