"""The places of patches in a model's input that is resized, cropped or padded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._state import preserved_state, remove_hooks, undone
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.execution import eager_execution
from captum_mda.vit.layout import PatchLayout

_FAINT = 0.25  # gradients below this share of the largest come from normalisation
_SLACK = 1.5  # the error of a resized border, in pixels


@dataclass(frozen=True)
class _Axis:
    """One side of an image: pixel x' after preprocessing reads offset + scale x'."""

    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class _Read:
    """The images that reach the known part, for inputs of one size.

    Args:
        images (Tensor): A meta tensor of their shape.
        rows (_Axis): The rows of the input that theirs come from.
        columns (_Axis): The columns, likewise.
    """

    images: Tensor
    rows: _Axis
    columns: _Axis

    @property
    def is_untouched(self) -> bool:
        """Whether all pixels keep their places."""
        return self.rows == self.columns == _Axis(1.0)


class Preprocessing:
    """The preprocessing of images between a model and a known part inside it.

    It follows resizing, cropping and padding back, and gives the places of patches in
    the images that the model is called with.

    Args:
        whole (ViTAdapter): The model that is called.
        inner (ViTAdapter): The part that divides images into patches.
    """

    def __init__(self, whole: ViTAdapter, inner: ViTAdapter) -> None:
        """Keep both; the model runs once per size of images, when needed."""
        self._whole, self._inner = whole, inner
        self._known: dict[tuple[int, ...], _Read] = {}

    def patch_grid(self, inputs: Tensor) -> tuple[int, int]:
        """Count the rows and columns of patches of inputs (B, C, H, W)."""
        return self._inner.patch_grid(self._read(inputs).images)

    def patch_layout(self, inputs: Tensor) -> PatchLayout:
        """Find the places of the patches in inputs (B, C, H, W)."""
        read = self._read(inputs)
        layout = self._inner.layout(read.images)
        if layout is None:
            sides = zip(
                read.images.shape[-2:], self._inner.patch_grid(read.images), strict=True
            )
            height, width = (side / n for side, n in sides)
            layout = PatchLayout((height, width))
        if read.is_untouched:
            return layout
        axes, size = (read.rows, read.columns), layout.size or layout.stride
        stride = tuple(a.scale * s for a, s in zip(axes, layout.stride, strict=True))
        sizes = tuple(a.scale * s for a, s in zip(axes, size, strict=True))
        offset = tuple(
            a.offset + a.scale * start
            for a, start in zip(axes, layout.offset, strict=True)
        )
        return PatchLayout(stride, sizes, offset)  # type: ignore[arg-type]

    def _read(self, inputs: Tensor) -> _Read:
        shape = tuple(inputs.shape[1:])
        if shape not in self._known:
            example = torch.zeros_like(inputs[:1])
            self._known[shape] = self._followed(example)
        return self._known[shape]

    def _followed(self, example: Tensor) -> _Read:
        """Run the model, and trace the pixels that the known part reads back."""
        with torch.inference_mode(False), torch.enable_grad():
            example = example.clone().requires_grad_()
            arrived = self._arrived(example)
            before, after = example.shape[-2:], arrived.shape[-2:]
            axes = [_Axis(b / a) for b, a in zip(before, after, strict=True)]
            if arrived.dim() == 4 and arrived.requires_grad and min(after) >= 4:
                axes = [_traced(arrived, example, dim) or axes[dim] for dim in (0, 1)]
        return _Read(torch.empty(arrived.shape, device="meta"), *axes)

    def _arrived(self, example: Tensor) -> Tensor:
        """Run the model, and record the first images that the known part reads."""
        model = self._whole.model
        with (
            eager_execution(model),
            preserved_state(model, "model", warns=False),
            arrivals(model, self._inner.model) as arrived,
        ):
            model(example)
        return arrived[0]


@contextmanager
def arrivals(model: nn.Module, inner: nn.Module) -> Iterator[list[Tensor]]:
    """Record the first images that a part of a model is called with.

    Args:
        model (nn.Module): The model.
        inner (nn.Module): The part; if it is the model itself, its submodules.

    Yields:
        *list*: of one tensor, after the model has run on this thread.
    """
    thread = threading.get_ident()
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        if threading.get_ident() != thread or seen:
            return
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.dim() >= 3:
                seen.append(value)
                torch.set_grad_enabled(False)  # what follows needs no graph
                return

    parts = [part for part in inner.modules() if part is not model]
    with (
        torch.set_grad_enabled(torch.is_grad_enabled()),
        undone(partial(remove_hooks, parts, note)),
    ):
        for part in parts:
            part.register_forward_pre_hook(note, with_kwargs=True)
        yield seen


def _traced(arrived: Tensor, example: Tensor, dim: int) -> _Axis | None:
    """Trace the rows (dim 0) or columns (1) of arrived images back to the input.

    Returns:
        *_Axis*, optional: None where pixels cannot be followed.

    Raises:
        ValueError: They are rotated, mirrored or transposed.
    """
    side, before = arrived.shape[-2:][dim], example.shape[-2:][dim]
    lines = (side // 4, side - 1 - side // 4)
    centres = [_centre(arrived.select(dim + 2, line), example, dim) for line in lines]
    if None in centres:
        return None
    first, last = centres
    scale = (last - first) / (lines[1] - lines[0])  # type: ignore[operator]
    if not scale > 0:
        raise ValueError(
            "model: it mirrors, turns or transposes its images before its transformer "
            "reads them, so that patches cannot be placed; do that beforehand, and "
            "pass a model without it"
        )
    offset = first + 0.5 - scale * (lines[0] + 0.5)  # type: ignore[operator]
    slack = _SLACK * max(1.0, scale)
    if abs(offset) <= slack and abs(offset + scale * side - before) <= slack:
        return _Axis(before / side)  # it covers the image
    return _Axis(scale, offset)


def _centre(line: Tensor, example: Tensor, dim: int) -> float | None:
    """Find the row (dim 0) or column (1) of the example that a line comes from."""
    (gradient,) = torch.autograd.grad(
        line.sum(), example, retain_graph=True, allow_unused=True
    )
    if gradient is None:
        return None
    profile = gradient[0].abs().sum(dim=0).sum(dim=1 - dim).double()
    if not bool(profile.max() > 0):
        return None
    profile = torch.where(profile >= _FAINT * profile.max(), profile, 0.0)
    places = torch.arange(len(profile), dtype=profile.dtype, device=profile.device)
    return float((profile * places).sum() / profile.sum())
