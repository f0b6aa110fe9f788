"""What is explained: Captum's forms of ``target``, or a callable."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_mda._captum import TargetType
from captum_mda._checks import is_integer, require_real
from captum_mda.perturbation.scores import OTHER_SIDE

Target = TargetType | Callable[[Tensor], Tensor]
"""Captum's forms, or a callable that maps outputs to one score for each row."""

FORMS = (
    "an int, a tuple of ints, an integer tensor, a list with one of them for each "
    "example, or a callable that maps outputs to one score for each row"
)


def read_target(
    target: Target, n_examples: int
) -> Tensor | Callable[[Tensor], Tensor] | None:
    """Read a target before the first forward: a callable, or `target_indices`."""
    return target if callable(target) else target_indices(target, n_examples)


def require_classes(target: object) -> None:
    """Raise unless a target can be compared with the model's first class."""
    if callable(target):
        raise TypeError(
            "target: got a callable, takes class indices, as this metric asks whether "
            "the target is the model's first class; score callable targets with "
            "perturbation_scores"
        )


def target_indices(target: TargetType, n_examples: int) -> Tensor | None:
    """Read a target before the first forward.

    Args:
        target (int, tuple, Tensor, list, or None): Captum's forms: one int for all
            examples; a tuple of ints for outputs with more than two dimensions; an
            integer tensor with one element or one for each example; a list with an int
            or a tuple for each example; None where the forward function returns one
            value for each example.
        n_examples (int): The number of examples.

    Returns:
        *Tensor* or None: int64 (1 or B, d) on the CPU: where in the d dimensions of its
        output that follow the first an example's score stands.

    Raises:
        TypeError: The target is none of these.
        ValueError: It has another number of entries, or a negative one.
    """
    if target is None:
        return None
    if isinstance(target, Tensor):
        indices = _from_tensor(target)
    elif isinstance(target, list):
        indices = _from_list(target)
    else:
        indices = torch.tensor([_as_index_tuple(target)], dtype=torch.int64)
    if len(indices) not in (1, n_examples) or (
        isinstance(target, list) and len(indices) != n_examples
    ):
        raise ValueError(
            f"target: got {len(indices)} entries for {n_examples} examples; give one "
            "for all or one for each"
        )
    if int(indices.min()) < 0:
        raise ValueError(f"target: got {int(indices.min())}, takes classes from 0 on")
    return indices


def select_target(values: Tensor, indices: Tensor | None) -> Tensor:
    """Pick every row's score out of its output.

    Args:
        values (Tensor): (R, ...), one score for each entry of the output.
        indices (Tensor or None): int64 (1 or R, d), from `target_indices`.

    Returns:
        *Tensor*: (R,).

    Raises:
        ValueError: The target is missing, does not fit the output, or is out of range.
    """
    shape = tuple(values.shape)
    if indices is None:
        if values.numel() == len(values):
            return values.flatten()
        raise ValueError(
            f"target: None, but forward_func returned {shape}; pass the class to "
            "explain, or a forward_func that returns one value for each example"
        )
    if values.dim() == 1:
        raise ValueError(
            f"target: given, but forward_func returned one value for each example, "
            f"{shape}; pass target=None; {OTHER_SIDE}"
        )
    if indices.shape[1] != values.dim() - 1:
        raise ValueError(
            f"target: has {indices.shape[1]} entries for each example, but an output "
            f"of shape {shape} takes {values.dim() - 1}"
        )
    largest = indices.amax(dim=0).tolist()
    for index, size in zip(largest, shape[1:], strict=True):
        if index >= size:
            raise ValueError(
                f"target: {index} is out of range for an output of shape {shape}; "
                f"takes 0 to {size - 1}"
                + (f"; {OTHER_SIDE}" if values.numel() == len(values) else "")
            )
    columns = indices.to(values.device).expand(len(values), -1).unbind(dim=1)
    rows = torch.arange(len(values), device=values.device)
    index = (rows, *columns)
    return values[index]


def _from_tensor(target: Tensor) -> Tensor:
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(
            f"target: got dtype {target.dtype}, takes integers; convert class "
            "indices with target.long(), one-hot rows with target.int().argmax(1), and "
            "pass a callable for anything else, such as lambda outputs: (outputs * "
            "labels).sum(1) or torch.cosine_similarity(outputs, embedding)"
        )
    require_real("target", target)
    if target.dim() > 1 and target.numel() > 1:
        raise ValueError(
            f"target: got a tensor of shape {tuple(target.shape)}, takes one integer "
            "for each example, shape (B,); flatten a column with target.flatten(), "
            "turn one-hot rows into indices with target.argmax(1), and explain several "
            "labels with target=lambda outputs: (outputs * labels).sum(1)"
        )
    return target.detach().reshape(-1, 1).to("cpu", torch.int64)


def _from_list(target: list[int] | list[tuple[int, ...]]) -> Tensor:
    rows = [_as_index_tuple(entry) for entry in target]
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError(
            f"target: got {target!r}, takes a list with one int, or tuples of one "
            "length, for each example"
        )
    return torch.tensor(rows, dtype=torch.int64)


def _as_index_tuple(entry: object) -> tuple[int, ...]:
    indices = entry if isinstance(entry, tuple) else (entry,)
    for index in indices:
        if not is_integer(index):
            raise TypeError(f"target: got {_shown(entry)}, takes {FORMS}")
    if not indices:
        raise ValueError("target: got an empty tuple, takes at least one index")
    return tuple(map(int, indices))


def _shown(entry: object) -> str:
    """Show an entry, or name what it is where it is long."""
    shown = repr(entry)
    return shown if len(shown) <= 60 else f"an object of {type(entry).__name__}"
