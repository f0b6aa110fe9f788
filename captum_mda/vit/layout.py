"""The places of patches in an image, and maps of patches resized to the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn, Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

_CUBIC = -0.75  # the constant of PyTorch's bicubic interpolation


@dataclass(frozen=True)
class PatchLayout:
    """The places of a grid of patches in an image; all numbers are pixels.

    Patch (i, j) reads the rows from ``offset[0] + i * stride[0]`` and the columns from
    ``offset[1] + j * stride[1]`` on, ``size`` of each. Patches may overlap, extend into
    padding, and leave pixels uncovered.

    Args:
        stride (tuple[float, float]): The distance between patches, down and right.
        size (tuple[float, float], optional): Height and width of a patch. None: the
            stride, so that patches touch. Default: None
        offset (tuple[float, float], optional): Top and left of the first patch,
            negative where the model pads. Default: (0, 0)

    Example::

        >>> from captum_mda.vit import PatchLayout
        >>> PatchLayout(stride=(16, 16)).nearest((1, 2), (16, 40))[1].tolist()[14:18]
        [0, 0, 1, 1]
    """

    stride: tuple[float, float]
    size: tuple[float, float] | None = None
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("stride", "size", "offset"):
            value = getattr(self, name)
            if value is None and name == "size":
                continue
            if not (
                isinstance(value, (tuple, list))
                and len(value) == 2
                and all(isinstance(each, (int, float)) for each in value)
                and all(math.isfinite(each) for each in value)
                and (name == "offset" or min(value) > 0)
            ):
                takes = "numbers" if name == "offset" else "numbers above 0"
                raise ValueError(
                    f"{name}: got {value!r}, takes two {takes}, of rows and of columns"
                )

    def tiles(self, grid: Sequence[int], size: Sequence[int]) -> bool:
        """Tell whether a grid of these patches (h, w) tiles an image (H, W) exactly."""
        return all(
            axis.offset == 0
            and axis.stride == axis.size
            and axis.n * axis.stride == side
            for axis, side in zip(self._axes(grid), size, strict=True)
        )

    def nearest(
        self, grid: Sequence[int], size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Find the patch with the nearest centre per pixel; the lower of equal ones.

        Args:
            grid (tuple[int, int]): Rows and columns of patches (h, w).
            size (tuple[int, int]): Height and width of the image (H, W).

        Returns:
            *Tensor*, *Tensor*: int64 (H,) and (W,), the patch's row and column.
        """
        rows, columns = self._axes(grid)
        return rows.nearest(size[0]), columns.nearest(size[1])

    def _axes(self, grid: Sequence[int]) -> tuple[_Axis, _Axis]:
        sizes = self.size or self.stride
        rows, columns = (
            _Axis(
                offset=self.offset[axis],
                stride=self.stride[axis],
                size=sizes[axis],
                n=grid[axis],
            )
            for axis in (0, 1)
        )
        return rows, columns


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Patches along one side of an image."""

    offset: float
    stride: float
    size: float
    n: int

    def nearest(self, side: int) -> Tensor:
        """Find the patch whose centre is nearest to each pixel: int64 (side,)."""
        middle = self.offset + (self.size + self.stride) / 2
        pixels = torch.arange(side, dtype=torch.float64) + 0.5
        return ((pixels - middle) / self.stride).ceil().clamp(0, self.n - 1).long()

    def covered(self, side: int) -> Tensor:
        """Tell which pixels lie in or between patches: bool (side,)."""
        pixels = torch.arange(side)
        end = self.offset + (self.n - 1) * self.stride + self.size
        return (pixels + 1 > self.offset) & (pixels < end)

    def taps(self, side: int, mode: str) -> tuple[Tensor, Tensor]:
        """Find the patches that a pixel interpolates, int64 (K, side), and weights."""
        if mode.startswith("nearest"):
            nearest = self.nearest(side)[None]
            return nearest, torch.ones_like(nearest, dtype=torch.float64)
        pixels = torch.arange(side, dtype=torch.float64)
        covered = pixels[self.covered(side)]
        if len(covered):  # pixels outside all patches get the value at the edge
            pixels = pixels.clamp(covered[0], covered[-1])
        # The unit is a patch; 0 is the centre of the first.
        places = (pixels + 0.5 - self.offset - self.size / 2) / self.stride
        if mode == "bilinear":
            places = places.clamp(0, self.n - 1)
        first = places.floor()
        share = places - first
        if mode == "bilinear":
            weights = torch.stack([1 - share, share])
            steps = torch.arange(2)
        else:
            weights = torch.stack(
                [_cubic(share + 1), _cubic(share), _cubic(1 - share), _cubic(2 - share)]
            )
            steps = torch.arange(-1, 3)
        return (first.long() + steps[:, None]).clamp(0, self.n - 1), weights

    def means(self, side: int) -> Tensor:
        """Make the weights that average a patch's pixels: float64 (n, side)."""
        owned = F.one_hot(self.nearest(side), self.n).T.double()
        owned = owned * self.covered(side)
        empty = owned.sum(dim=1) == 0
        centres = self.offset + self.size / 2 + self.stride * torch.arange(self.n)
        closest = centres.floor().clamp(0, side - 1).long()
        owned[empty] = F.one_hot(closest, side).double()[empty]
        return owned / owned.sum(dim=1, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """Compute the weight at a distance in [0, 2] of PyTorch's bicubic mode."""
    x, a = distance, _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, far)


def paint(
    grids: Float[Tensor, "B C h w"],
    size: Sequence[int],
    mode: str,
    layout: PatchLayout | None = None,
) -> Float[Tensor, "B C H W"]:
    """Resize maps of patches to an image, with each patch at its place.

    Args:
        grids (Tensor): (B, C, h, w).
        size (tuple[int, int]): Height and width of the image (H, W).
        mode (str): "nearest", "nearest-exact", "bilinear" or "bicubic".
        layout (PatchLayout, optional): The places of the patches. None: they tile the
            image. Default: None

    Returns:
        *Tensor*: (B, C, H, W). Where patches tile the image, the result of
        `F.interpolate`. Otherwise "nearest" gives a pixel the value of the patch with
        the nearest centre, and other modes interpolate between centres; pixels outside
        all patches get the value at the map's edge.
    """
    if layout is None or layout.tiles(grids.shape[-2:], size):
        align = None if mode.startswith("nearest") else False
        return F.interpolate(grids, tuple(size), mode=mode, align_corners=align)
    rows, columns = layout._axes(grids.shape[-2:])
    grids = _resampled(grids.transpose(-2, -1), *rows.taps(size[0], mode))
    return _resampled(grids.transpose(-2, -1), *columns.taps(size[1], mode))


def _resampled(lines: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Interpolate the last dimension: (..., n) to (..., side)."""
    indices, weights = indices.to(lines.device), weights.to(lines)
    mixed = lines[..., indices[0]] * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        mixed = mixed + lines[..., index] * weight
    return mixed


def patch_means(
    maps: Float[Tensor, "B C H W"],
    grid: Sequence[int],
    layout: PatchLayout | None = None,
) -> Float[Tensor, "B C h w"]:
    """Average maps over the pixels of each patch.

    Args:
        maps (Tensor): (B, C, H, W).
        grid (tuple[int, int]): Rows and columns of patches (h, w).
        layout (PatchLayout, optional): The places of the patches; the pixels of a patch
            are those nearest to its centre. None: they tile the image. Default: None

    Returns:
        *Tensor*: (B, C, h, w); pixels outside all patches are left out.
    """
    size = maps.shape[-2:]
    if layout is None or layout.tiles(grid, size):
        return F.adaptive_avg_pool2d(maps, (grid[0], grid[1]))
    rows, columns = layout._axes(grid)
    down, across = rows.means(size[0]).to(maps), columns.means(size[1]).to(maps)
    return down @ maps @ across.T


def patch_numbers(
    grid: Sequence[int], size: Sequence[int], layout: PatchLayout
) -> Int64[Tensor, "1 1 H W"]:
    """Number the pixels by their nearest patch: int64 (1, 1, H, W)."""
    rows, columns = layout.nearest(grid, size)
    return (rows[:, None] * grid[1] + columns)[None, None]


def layout_by_growth(
    patch_grid: Callable[[Tensor], tuple[int, int]],
    example_size: Sequence[int],
    inputs: Tensor,
) -> PatchLayout | None:
    """Find the places of patches from their number in images of other sizes.

    If an image of twice the size has twice as many rows and columns, patches have a
    fixed size, which follows from an image that they tile. They begin at the top left;
    the last ones may extend over the border, or leave pixels uncovered.

    Args:
        patch_grid (callable): From images (B, C, H, W) to rows and columns of patches.
        example_size (sequence of int): (C, H, W) of an image that patches tile.
        inputs (Tensor): (B, C, H, W).

    Returns:
        *PatchLayout*: None where patches have no fixed size.
    """
    if len(example_size) != 3 or inputs.dim() != 4:
        return None
    channels, *sides = example_size

    def grid_of(factor: int) -> tuple[int, int]:
        size = [factor * side for side in sides]
        return patch_grid(inputs.new_zeros(1).expand(1, channels, *size))

    try:
        once, twice = grid_of(1), grid_of(2)
    except Exception:  # an adapter's patch_grid may refuse other sizes
        return None
    if tuple(twice) != (2 * once[0], 2 * once[1]):
        return None
    strides = (sides[0] / once[0], sides[1] / once[1])
    grid, size = patch_grid(inputs), inputs.shape[-2:]
    for n, side, stride in zip(grid, size, strides, strict=True):
        if not stride.is_integer() or n not in (side // stride, -(-side // stride)):
            return None
    return PatchLayout(strides)


def conv_grid(convolution: nn.Conv2d, inputs: Tensor) -> tuple[int, int]:
    """Count the rows and columns of patches that a convolution makes of inputs."""
    if convolution.padding == "same":
        return int(inputs.shape[-2]), int(inputs.shape[-1])
    layout = conv_layout(convolution, inputs)
    sizes = layout.size or layout.stride
    height, width = (
        int((side - 2 * offset - size) // stride) + 1
        for side, offset, size, stride in zip(
            inputs.shape[-2:], layout.offset, sizes, layout.stride, strict=True
        )
    )
    return height, width


def conv_layout(convolution: nn.Conv2d, inputs: Tensor) -> PatchLayout:
    """Find the places of the patches that a convolution makes of inputs."""
    sides = [
        dilation * (kernel - 1) + 1
        for dilation, kernel in zip(
            convolution.dilation, convolution.kernel_size, strict=True
        )
    ]
    padding = convolution.padding
    if padding == "same":  # PyTorch pads the odd pixel at the end
        padding = ((sides[0] - 1) // 2, (sides[1] - 1) // 2)
    elif isinstance(padding, str):
        padding = (0, 0)
    down, right = convolution.stride
    return PatchLayout(
        (down, right), (sides[0], sides[1]), (-float(padding[0]), -float(padding[1]))
    )
