"""What an explanation was made with: facts of scalars, which its file keeps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Scalar: TypeAlias = str | int | float | bool | None
Provenance: TypeAlias = Mapping[str, Scalar | tuple[Scalar, ...]]
"""By name one value, or a tuple with one for each example."""

_SCALARS = (str, int, float, bool, type(None))


def require_provenance(value: object, n_examples: int) -> None:
    """Raise unless a value is a mapping from names to scalars or tuples of them.

    Raises:
        TypeError: It is no mapping, or holds something else.
        ValueError: A tuple has another length than there are examples.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"provenance: got {type(value).__name__}, takes a mapping")
    for name, fact in value.items():
        entries = fact if isinstance(fact, tuple) else (fact,)
        if not isinstance(name, str) or not all(
            isinstance(entry, _SCALARS) for entry in entries
        ):
            raise TypeError(
                f"provenance: got {name!r} with {type(fact).__name__}, takes names "
                "with a string, a number, a bool or None, or a tuple with one of them "
                "for each example"
            )
        if isinstance(fact, tuple) and len(fact) != n_examples:
            raise ValueError(
                f"provenance: {name} has {len(fact)} entries for {n_examples} examples"
            )


def read_provenance(value: object) -> dict[str, Any]:
    """Read what JSON has made of a provenance; lists become tuples."""
    if not isinstance(value, dict):
        raise ValueError(f"provenance: got {type(value).__name__}, takes an object")
    return {
        name: tuple(fact) if isinstance(fact, list) else fact
        for name, fact in value.items()
    }


def facts_of_call(
    *,
    forward_func: object,
    target: object,
    deletion_baselines: object,
    insertion_baselines: object,
    seed_attributions: object,
) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """Collect what is known of a search without further work.

    Args:
        forward_func (callable): The model, which is named by its class.
        target (any): As `MetricDrivenAttribution.explain` takes it.
        deletion_baselines (any): Alike.
        insertion_baselines (any): Alike.
        seed_attributions (any): Alike.

    Returns:
        *dict*: facts for `MDAExplanation.provenance`.
    """
    deleted = _described(0 if deletion_baselines is None else deletion_baselines)
    return {
        "model": _named(forward_func),
        "target": _target(target),
        "deletion_baseline": deleted,
        "insertion_baseline": (
            deleted if insertion_baselines is None else _described(insertion_baselines)
        ),
        "seed": "none" if seed_attributions is None else "given",
        "captum_mda_version": _version(),
        "torch_version": str(torch.__version__),
    }


def _version() -> str:
    # Of the package itself, which no module within it imports.
    return str(sys.modules["captum_mda"].__version__)


def _target(target: object) -> Scalar | tuple[Scalar, ...]:
    if isinstance(target, Tensor):
        target = target.tolist()
    if isinstance(target, list) and target:
        entries = tuple(as_scalar(entry) for entry in target)
        return entries[0] if len(entries) == 1 else entries
    return as_scalar(target)


def as_scalar(value: object) -> Scalar:
    """Name a callable, and write any other object as a string."""
    if isinstance(value, _SCALARS):
        return value
    return _named(value) if callable(value) else str(value)


def _named(function: object) -> str:
    """Name a function by its name, and an object by its class; no addresses."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__


def _described(baseline: object) -> str:
    """Describe a baseline: a number, or the shape of a tensor."""
    if isinstance(baseline, tuple):
        return ", ".join(map(_described, baseline))
    if isinstance(baseline, Tensor):
        if baseline.numel() == 1:
            return f"{baseline.item():g}"
        return f"tensor of shape {tuple(baseline.shape)}"
    return str(baseline)
