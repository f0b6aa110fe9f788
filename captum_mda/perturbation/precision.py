"""Forwards in bfloat16 that leave no trace in the caller's autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["bf16"] | None
"""What candidates are screened in; None: nothing is screened."""

PRECISIONS = ("bf16",)


@contextmanager
def bfloat16_on(device: torch.device) -> Iterator[None]:
    """Run in bfloat16 what autocast has run in it; weights are cast once.

    Args:
        device (torch.device): Where the forwards run.
    """
    # Autocast keeps the weights it has cast, whatever it has cast them to, until the
    # outermost context ends. Those of a caller's context may be of another dtype, and
    # ours, made without gradient, would keep it from the caller's weights.
    torch.clear_autocast_cache()
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
    finally:
        torch.clear_autocast_cache()
