"""Comparing an adapter with its model."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_mda._state import preserved_state
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.execution import eager_execution, is_random
from captum_mda.vit.observation import Observation, observe

# How far rows of attention may be from 1 and outputs from the untouched model's,
# relative to their largest value: a model in half precision rounds as it goes.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 5e-2


def check_adapter(adapter: ViTAdapter) -> Tensor:
    """Compare an adapter with its model on an example input.

    Args:
        adapter (ViTAdapter): What to check.

    Returns:
        *Tensor*: (1, ...), the model's output for the example.

    Raises:
        ValueError: They differ; the message says in what.
    """
    example = adapter.example_input()
    if example.is_meta:
        raise ValueError("model: it is on the meta device, takes one that holds values")
    with (
        eager_execution(adapter.model),
        preserved_state(adapter.model, (example,)),
        torch.no_grad(),
    ):
        untouched = adapter(example)
        try:
            seen = observe(adapter, example)
        except RuntimeError as error:
            raise ValueError(f"{error}") from error
        tail = adapter.tail(seen.tokens[-1])
    tolerance = _TOLERANCES.get(untouched.dtype, _HALF_TOLERANCE)
    _check_maps(adapter, seen, example)
    if not is_random(adapter.model):
        _require_equal("output under observation", seen.outputs, untouched, tolerance)
        _require_equal("adapter's tail", tail, untouched, tolerance)
    return untouched


def _check_maps(adapter: ViTAdapter, seen: Observation, example: Tensor) -> None:
    n_tokens = seen.tokens[-1].shape[1]
    adapter.patch_map(seen.tokens[-1][..., 0], example)
    for index, attention in enumerate(seen.maps):
        if attention.shape[-2:] != (n_tokens, n_tokens):
            raise ValueError(
                f"model: the attention of block {index} is "
                f"{tuple(attention.shape[-2:])} for {n_tokens} tokens; blocks that "
                "attend within windows or merge tokens cannot be read"
            )
        full = attention.to(torch.promote_types(attention.dtype, torch.float32))
        error = float((full.sum(dim=-1) - 1).abs().max())
        if not error <= _TOLERANCES.get(attention.dtype, _HALF_TOLERANCE):
            raise ValueError(
                f"model: the rows of block {index}'s attention sum to 1 only within "
                f"{error:.2g}; what was seen is no softmax over tokens"
            )
    adapter.readout(
        n_tokens, None if seen.pooler is None else seen.pooler.probabilities, example
    )


def _require_equal(what: str, got: Tensor, wanted: Tensor, tolerance: float) -> None:
    if got.shape != wanted.shape:
        raise ValueError(
            f"model: the {what} has shape {tuple(got.shape)}, the model returns "
            f"{tuple(wanted.shape)}; mend the adapter"
        )
    largest = float(wanted.abs().max())
    difference = float((got - wanted).abs().max())
    if difference > tolerance * max(largest, 1e-6):
        raise ValueError(
            f"model: the {what} differs from the model's output by {difference:.2g}, "
            f"of at most {largest:.2g}; its family is known, but this variant ends in "
            "another way; write an adapter with a tail that fits, see docs/adapters.md"
        )
