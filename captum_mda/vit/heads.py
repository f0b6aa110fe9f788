"""The layouts of attention maps in models, and their conversion to (B, H, T, T)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Heads:
    """A layout of attention maps; values (..., T, d) have the same one.

    Args:
        open (callable): Converts to (B, H, ..., ...).
        close (callable): Converts back.
        folded (bool): Whether batch and heads share a dimension.
    """

    open: Callable[[Tensor], Tensor] = _same
    close: Callable[[Tensor], Tensor] = _same
    folded: bool = False


def heads_of(shape: Sequence[int], sequence: tuple[int, int] | None) -> Heads | None:
    """Find the layout of attention maps by their shape; None if they are no maps.

    Args:
        shape (sequence of int): (B, H, T, T), or, where the sequence is known,
            (B, T, H, T), (B * H, T, T) or (B, groups, H, T, T).
        sequence (tuple[int, int], optional): The number of images and tokens, (B, T).
    """
    if len(shape) == 4:
        if sequence is not None and (shape[0], shape[1], shape[3]) == (
            *sequence,
            sequence[1],
        ):
            return Heads() if shape[2] == sequence[1] else Heads(_swap, _swap)
        return Heads()
    if sequence is None or len(shape) not in (3, 5):
        return None
    n_batch, n_tokens = sequence
    if tuple(shape[-2:]) != (n_tokens, n_tokens):
        return None
    if len(shape) == 3 and shape[0] % n_batch == 0:
        return Heads(
            lambda maps: maps.unflatten(0, (n_batch, -1)),
            lambda maps: maps.flatten(0, 1),
            folded=True,
        )
    if len(shape) == 5 and shape[0] == n_batch:
        groups = tuple(shape[1:3])
        return Heads(
            lambda maps: maps.flatten(1, 2), lambda maps: maps.unflatten(1, groups)
        )
    return None


def _swap(maps: Tensor) -> Tensor:
    return maps.transpose(1, 2)
