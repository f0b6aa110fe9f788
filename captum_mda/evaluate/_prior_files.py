"""Priors that are read from files: NumPy arrays, and safetensors."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from captum_mda.evaluate._arguments import ArgumentError

FloatArray = npt.NDArray[np.float64]


def read_prior_map(path: Path) -> FloatArray:
    """Read the numbers of a prior.

    Args:
        path (Path): A ``.npy`` array, or ``.safetensors`` with a single tensor.

    Returns:
        *ndarray*: float64, of the file's shape, finite.

    Raises:
        ValueError: The file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise ArgumentError(f"{{seed_map}}: there is no file {path}")
    try:
        values = _read_array(path)
    # For damaged files NumPy raises ValueError, TypeError, tokenize.TokenError ...
    # safetensors an error of its own.
    except Exception as error:
        raise ArgumentError(
            f"{{seed_map}}: {path} cannot be read ({error}); pass a .npy array of "
            "numbers, or a .safetensors file with a single tensor"
        ) from error
    if not np.isfinite(values).all():
        raise ArgumentError(f"{{seed_map}}: {path} has NaN or infinite values")
    return values


def _read_array(path: Path) -> FloatArray:
    if path.suffix == ".npy":
        _require_whole_array(path)
        array = np.load(path, allow_pickle=False)
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise ArgumentError(f"it holds {len(names)} tensors: {names[:5]}")
            tensor = file.get_tensor(names[0])
        if tensor.is_complex():
            raise ArgumentError(f"it holds numbers of {tensor.dtype}")
        array = tensor.double().numpy()
    else:
        raise ArgumentError(f"its name ends in {path.suffix!r}")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ArgumentError("it holds no real numbers")
    return array.astype(np.float64)


def _require_whole_array(path: Path) -> None:
    """Raise unless a .npy file is as long as its header claims, before memory is taken.

    NumPy allocates what the header says, and then reads.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ArgumentError(f"its format is .npy {version[0]}.{version[1]}")
        present = path.stat().st_size - file.tell()
    if dtype.kind not in "fiub":
        raise ArgumentError(f"it holds {dtype}, no real numbers")
    claimed = prod(int(size) for size in shape) * dtype.itemsize
    if any(size < 0 for size in shape) or claimed > present:
        raise ArgumentError(
            f"its header claims {shape} of {dtype}, {claimed} B, and {present} B follow"
        )


def maps_of_images(
    values: FloatArray, n_images: int, grid: tuple[int, int], size: tuple[int, int]
) -> list[FloatArray]:
    """Divide what a file holds among the images.

    Args:
        values (ndarray): One map, or for several images one each along dimension 0. A
            map has one number for each patch, (N,) or the grid's (h, w), or for each
            pixel, (H, W).
        n_images (int): How many images there are.
        grid (tuple[int, int]): Rows and columns of patches, (h, w).
        size (tuple[int, int]): The model's input, (H, W).

    Returns:
        *list[ndarray]*: for each image (1, N) or (1, 1, H, W), which is what
        `MetricDrivenAttribution` takes.

    Raises:
        ValueError: The shape is another.

    Example::

        >>> maps = maps_of_images(np.ones((2, 4)), 1, (2, 4), (8, 16))
        >>> [each.shape for each in maps]
        [(1, 8)]
    """
    n_patches = grid[0] * grid[1]
    shapes = [(n_patches,), grid, size]
    if n_images == 1 and values.shape in shapes:
        values = values[None]
    if values.shape[:1] != (n_images,) or values.shape[1:] not in shapes:
        leading = "" if n_images == 1 else f"{n_images}, "
        raise ArgumentError(
            f"{{seed_map}}: got shape {values.shape}, takes one number for each patch, "
            f"({leading}{n_patches}) or ({leading}{grid[0]}, {grid[1]}), or for each "
            f"pixel, ({leading}{size[0]}, {size[1]})"
        )
    if values.shape[1:] == size:
        return [value[None, None] for value in values]
    return [value.reshape(1, n_patches) for value in values]
