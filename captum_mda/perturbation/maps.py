"""Maps in the forms that attribution methods return, laid out over the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from captum_mda._checks import broadcasts_to, require_tensor
from captum_mda.perturbation.features import Features


class Attributed(Protocol):
    """What holds attributions, such as `MDAExplanation`."""

    def attributions(self) -> Tensor | tuple[Tensor, ...]:
        """Give the attributions of the inputs."""
        ...


AnyMaps = Tensor | tuple[Tensor, ...] | Attributed
"""Attributions as methods return them, or the result that holds them."""


def as_tensors(name: str, maps: AnyMaps) -> tuple[Tensor, ...]:
    """Check attributions, and take them out of what holds them.

    Args:
        name (str): The argument's name.
        maps (Tensor, tuple[Tensor, ...] or MDAExplanation): Attributions.

    Returns:
        *tuple[Tensor, ...]*: finite, without their graphs.

    Raises:
        TypeError: They are no tensors of real numbers.
        ValueError: A value is NaN or infinite, or the tuple is empty.
    """
    if not isinstance(maps, (Tensor, tuple)):
        held = getattr(maps, "attributions", None)
        if callable(held):
            maps = held()
    tensors = maps if isinstance(maps, tuple) else (maps,)
    if not tensors:
        raise ValueError(f"{name}: got an empty tuple, takes at least one tensor")
    return tuple(require_tensor(name, value) for value in tensors)


def of_features(maps: Sequence[Tensor], features: Features) -> Tensor | None:
    """Read one number for each feature: (B or 1, N), or None where maps are not that.

    These are a single tensor (B or 1, N), or a grid (B or 1, 1, h, w) of patches where
    the features of the only input are numbered as its cells are, row by row.
    """
    if len(maps) != 1:
        return None
    (value,) = maps
    if tuple(value.shape) in _shapes_of_features(features):
        return value
    if len(features.shapes) != 1:
        return None
    (shape,), (mask,) = features.shapes, features.masks
    laid = _with_dimensions_of(value, shape)
    if laid is None or not _is_grid(laid, shape):
        return None
    if len(shape) > 3 and laid.shape[1] != 1:
        return None
    grid = laid.shape[_first_axis(shape) :]
    if grid.numel() != features.n_features or _raster(mask, shape, grid) is None:
        return None
    return laid.flatten(1)


def over_inputs(
    name: str, maps: Sequence[Tensor], features: Features, broadcasts: bool = False
) -> tuple[Tensor, ...]:
    """Lay maps out over the inputs.

    By the first of these rules that a map fits:

    1. It has the input's dimensions, each of its size or 1: it is taken as it is.
    2. (B, H, W) of images, or (B, 1, H, W) of inputs without channels: the channel is
       added or taken away.
    3. A grid of patches, (B, 1, h, w) or (B, h, w): where the feature mask is a raster
       of h x w patches, each number is painted onto its patch; else onto equal cells,
       where h and w divide the input's height and width and no feature lies in two
       cells without holding them whole.
    4. (B, N), where N is the number of features: each is painted onto its feature.

    A dimension of 1 in place of the batch stands for all examples.

    Args:
        name (str): The argument's name.
        maps (sequence of Tensor): Attributions, from `as_tensors`.
        features (Features): The features of the inputs.
        broadcasts (bool, optional): Whether leading dimensions may be missing, too, as
            in (H, W) for all examples. Default: False

    Returns:
        *tuple[Tensor, ...]*: one map for each input, with its number of dimensions,
        which broadcasts to it.

    Raises:
        ValueError: Their number does not fit, or a shape none of the rules.
    """
    n_inputs = len(features.shapes)
    if len(maps) == 1 and tuple(maps[0].shape) in _shapes_of_features(features):
        fits_input = n_inputs == 1 and _fits(maps[0], features.shapes[0])
        if not fits_input:
            values = maps[0].expand(features.batch_size, features.n_features)
            return features.paint(values)
    if len(maps) != n_inputs:
        raise ValueError(
            f"{name}: got {len(maps)} tensors for {n_inputs} inputs, takes one for each"
        )
    return tuple(
        _over_input(name, value, index, features, broadcasts)
        for index, value in enumerate(maps)
    )


def over_cells(maps: Tensor, size: Sequence[int]) -> Tensor | None:
    """Paint grids onto equal cells: (..., h, w) to (..., H, W), or None if uneven."""
    grid = maps.shape[maps.dim() - len(size) :]
    if any(side % cells for side, cells in zip(size, grid, strict=True)):
        return None
    for axis, (side, cells) in enumerate(
        zip(size, grid, strict=True), maps.dim() - len(size)
    ):
        maps = maps.repeat_interleave(side // cells, dim=axis)
    return maps


def _over_input(
    name: str, value: Tensor, index: int, features: Features, broadcasts: bool
) -> Tensor:
    shape, mask = features.shapes[index], features.masks[index]
    laid = _with_dimensions_of(value, shape)
    why = ""
    if laid is not None:
        if _fits(laid, shape):
            return laid
        if _is_grid(laid, shape):
            painted = _painted(laid, mask, shape, features.n_features)
            if painted is not None:
                return painted
            why = (
                "; a grid of patches is painted where its rows and columns divide the "
                "input's and no feature of feature_mask lies across its cells, or "
                "where feature_mask is a raster of as many rows and columns, as "
                "patch_feature_mask(inputs, patch_size) is"
            )
    if broadcasts and broadcasts_to(value, _of_shape(shape)):
        return value.reshape((1,) * (len(shape) - value.dim()) + tuple(value.shape))
    found = tuple(value.shape)
    got = f"got shape {found}, which" if broadcasts else f"shape {found}"
    grid = "a grid of patches (B, 1, h, w), " if len(shape) > 2 else ""
    raise ValueError(
        f"{name}: {got} does not broadcast to the input's {tuple(shape)}; give 1 or "
        f"the input's size in each dimension, {grid}or {_numbers_of(features)}{why}"
    )


def _numbers_of(features: Features) -> str:
    """Say which shape has one number for each feature."""
    n = features.n_features
    if n == sum(mask.numel() for mask in features.masks):  # no group of elements
        return (
            "one number for each feature, (B, N), with a feature_mask of groups, such "
            "as patch_feature_mask(inputs, patch_size)"
        )
    shape = (features.batch_size, n)
    return f"one number for each of the {n} features of feature_mask, {shape}"


def _shapes_of_features(features: Features) -> tuple[tuple[int, int], ...]:
    n = features.n_features
    return (features.batch_size, n), (1, n)


def _with_dimensions_of(value: Tensor, shape: torch.Size) -> Tensor | None:
    """Add the channel that images have, or take it away where inputs have none."""
    if value.dim() == len(shape):
        return value
    if len(shape) == 3 and value.dim() == 4 and value.shape[1] == 1:
        return value[:, 0]
    if len(shape) > 3 and value.dim() == len(shape) - 1:
        return value[:, None] if value.shape[0] in (1, shape[0]) else None
    return None


def _of_shape(shape: torch.Size) -> Tensor:
    return torch.empty((), device="meta").expand(shape)


def _fits(value: Tensor, shape: torch.Size) -> bool:
    return value.dim() == len(shape) and broadcasts_to(value, _of_shape(shape))


def _first_axis(shape: torch.Size) -> int:
    """Find the first axis of a place: behind the examples, and channels if any."""
    return 2 if len(shape) > 3 else 1


def _is_grid(laid: Tensor, shape: torch.Size) -> bool:
    """Tell whether a map has the examples and channels of an input, or 1 of them."""
    first = _first_axis(shape)
    return (
        len(shape) > 2
        and laid.numel() > 0
        and all(laid.shape[axis] in (1, shape[axis]) for axis in range(first))
    )


def _painted(
    laid: Tensor, mask: Tensor, shape: torch.Size, n_features: int
) -> Tensor | None:
    """Paint a grid onto the patches of a mask, or onto equal cells."""
    first = _first_axis(shape)
    grid, size = laid.shape[first:], shape[first:]
    cells = _raster(mask, shape, grid)  # (1 or B, H, W)
    if cells is not None:
        values = laid.flatten(first).expand(shape[0], *laid.shape[1:first], -1)
        return torch.stack(
            [
                value.to(cells.device)[..., cells[row if len(cells) > 1 else 0]]
                for row, value in enumerate(values)
            ]
        )
    painted = over_cells(laid, size)
    if painted is None:
        return None
    numbers = torch.arange(grid.numel(), device=mask.device).reshape(grid)
    cells = over_cells(numbers, size)
    assert cells is not None
    own = mask.expand(*mask.shape[:first], *size).reshape(len(mask), -1, *size)
    nested = all(_nested(each, cells, n_features) for each in own)
    return painted if nested else None


def _raster(mask: Tensor, shape: torch.Size, grid: torch.Size) -> Tensor | None:
    """Number the patch of each position, if a mask is a raster of h x w patches.

    Returns:
        *Tensor* or None: int64 (1 or B, H, W), numbers of patches from 0 on; None where
        the mask numbers features otherwise.
    """
    first = _first_axis(shape)
    if len(grid) != 2 or len(shape) != first + 2:
        return None
    height, width = grid
    own = mask.expand(*mask.shape[:first], *shape[first:])
    if first == 2:
        if bool((own != own[:, :1]).any()):
            return None  # channels are features of their own
        own = own[:, 0]
    cells = own - own.flatten(1).amin(dim=1)[:, None, None]
    rows, columns = cells[:, :, :1] // width, cells[:, :1, :] % width
    is_raster = (
        bool((cells == rows * width + columns).all())
        and bool((rows.diff(dim=1) >= 0).all() & (columns.diff(dim=2) >= 0).all())
        and all(len(each.unique()) == height for each in rows)
        and all(len(each.unique()) == width for each in columns)
    )
    return cells if is_raster else None


def _nested(own: Tensor, cells: Tensor, n_features: int) -> bool:
    """Tell whether features and cells do not cut each other, (K, H, W) and (H, W)."""
    cells = cells.expand_as(own).flatten()
    features = own.flatten()
    in_one_cell = _is_constant(cells, features, n_features)
    of_one_feature = _is_constant(features, cells, int(cells.max()) + 1)
    return bool((in_one_cell[features] | of_one_feature[cells]).all())


def _is_constant(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Tell of each group whether all of its values are the same: bool (groups,)."""
    extremes = []
    for reduce in ("amin", "amax"):
        made = torch.zeros(n_groups, dtype=values.dtype, device=values.device)
        made.scatter_reduce_(0, groups, values, reduce, include_self=False)
        extremes.append(made)
    return extremes[0] == extremes[1]
