"""The file of an explanation: what its header says, and what it may ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from captum_mda._checks import is_integer
from captum_mda.attr.explanation_checks import CURVES
from captum_mda.attr.provenance import read_provenance
from captum_mda.perturbation import Features

FORMAT = "captum_mda.MDAExplanation"
FORMAT_VERSION = 1

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_SINCE_SCREENING = ("forwards_bf16", "margin")  # older files have none
_PASS_ANOTHER = "pass a file that MDAExplanation.save has written"

# Maps have an element for each of the inputs'. Where masks broadcast, these are more
# than the file's, by the channels as a rule; a damaged shape may claim anything.
_MOST_ELEMENTS_PER_BYTE = 1024


def read_fields(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the fields of an explanation, none of which is trusted.

    Args:
        path (str or PathLike): The file.

    Returns:
        *dict[str, Any]*: by the names of `MDAExplanation`'s fields.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no explanation; the message names the path and the field.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: got {path!r}, takes the path of a file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(FORMAT)
            names = [] if header is None else list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except OSError:
        raise
    except Exception as error:  # safetensors raises its own errors, and PyTorch's
        raise ValueError(
            f"path: {path} is truncated or not a safetensors file ({error}); "
            f"{_PASS_ANOTHER}"
        ) from error
    if header is None:
        raise ValueError(
            f"path: {path} holds something else than an explanation; {_PASS_ANOTHER}"
        )
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"path: {path} is no consistent explanation: its header is no JSON "
            f"({error})"
        ) from error
    with path_named(path):
        return _fields(content, tensors, Path(path).stat().st_size)


@contextmanager
def path_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what is wrong with a field into a ValueError that names the path, too."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"path: {path} is no consistent explanation: {error}"
        ) from error


def _fields(header: object, tensors: dict[str, Tensor], n_bytes: int) -> dict[str, Any]:
    if not isinstance(header, dict):
        raise ValueError(f"its header is a {type(header).__name__}, not an object")
    version = _entry(header, "version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(
            f"version: format version {version!r}, this release reads {FORMAT_VERSION}"
        )
    dtype = _entry(header, "dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"dtype: unknown dtype {dtype!r}")
    for name in ("magnitude", "precision"):
        if not isinstance(header.get(name, ""), (str, type(None))):
            raise ValueError(f"{name}: got {header[name]!r}, takes a string")
    n_features = _entry(header, "n_features")
    if not is_integer(n_features) or not 1 <= n_features <= n_bytes:
        raise ValueError(f"n_features: got {n_features!r}, of a file of {n_bytes} B")
    shapes = _shapes(_entry(header, "input_shapes"), n_bytes)
    masks = tuple(_mask(tensors, index) for index in range(len(shapes)))
    names = (*CURVES, "order", "n_inserted", "forwards", "degenerate")
    further = [name for name in _SINCE_SCREENING if name in tensors]
    fields: dict[str, Any] = {
        name: _entry(tensors, name) for name in (*names, *further)
    }
    return fields | {
        "features": Features(masks, n_features, shapes),
        "magnitude": _entry(header, "magnitude"),
        "dtype": _DTYPES[dtype],
        "is_tuple": _entry(header, "is_tuple"),
        "precision": header.get("precision"),  # older files have none
        "provenance": read_provenance(header.get("provenance", {})),  # alike
    }


def _entry(entries: dict[str, Any], name: str) -> Any:
    if name not in entries:
        raise ValueError(f"{name} is missing")
    return entries[name]


def _shapes(value: object, n_bytes: int) -> tuple[torch.Size, ...]:
    """Read the inputs' shapes; maps of them must be in proportion to the file."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"input_shapes: got {_shown(value)}, takes one or more shapes")
    for shape in value:
        n_elements = 1
        if not isinstance(shape, list) or not shape or not all(map(is_integer, shape)):
            raise ValueError(f"input_shapes: got {_shown(shape)}, takes integers")
        for size in shape:
            n_elements *= size
            if size < 1 or n_elements > _MOST_ELEMENTS_PER_BYTE * n_bytes:
                raise ValueError(
                    f"input_shapes: got {_shown(shape)}, takes sizes from 1 on that a "
                    f"file of {n_bytes} B can describe"
                )
    return tuple(torch.Size(shape) for shape in value)


def _mask(tensors: dict[str, Tensor], index: int) -> Tensor:
    name = f"feature_mask.{index}"
    mask: Tensor = _entry(tensors, name)
    if mask.dtype not in (torch.int32, torch.int64) or mask.numel() == 0:
        raise ValueError(
            f"{name} is {mask.dtype} {tuple(mask.shape)}, takes integers, int32"
        )
    return mask.long()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
