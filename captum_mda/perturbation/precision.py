"""Forwards in bfloat16 that leave no trace in the caller's autocast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from captum_mda._state import undone
from captum_mda.perturbation.failures import module_of

Precision = Literal["bf16"] | None
"""What candidates are screened in; None: nothing is screened."""

PRECISIONS = ("bf16",)


def require_bfloat16(forward_func: object, inputs: Sequence[Tensor]) -> None:
    """Raise where autocast to bfloat16 would end in an error within the model.

    Args:
        forward_func (callable): The model, or what calls it.
        inputs (sequence of Tensor): The inputs.

    Raises:
        ValueError: Inputs or parameters are float16, or the model is quantized.
    """
    module = module_of(forward_func)
    parts = [] if module is None else list(module.modules())
    halves = [
        part
        for part in parts
        if any(p.dtype == torch.float16 for p in part.parameters(recurse=False))
    ]
    if halves or any(tensor.dtype == torch.float16 for tensor in inputs):
        what = "the model's parameters" if halves else "the inputs"
        raise ValueError(
            f"precision: got 'bf16', but {what} are float16, which autocast does not "
            "cast to bfloat16; pass precision=None, or model and inputs in float32"
        )
    if any("quantized" in type(part).__module__ for part in parts):
        raise ValueError(
            "precision: got 'bf16', but the model is quantized, and its layers take "
            "float32 alone; pass precision=None"
        )


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
    with (
        undone(torch.clear_autocast_cache),
        torch.autocast(device.type, dtype=torch.bfloat16),
    ):
        yield
