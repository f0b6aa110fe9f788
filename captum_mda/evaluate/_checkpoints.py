"""Files of weights: safetensors, and those of `torch.save`, whose code is not run."""

from __future__ import annotations

import argparse
import pickle
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from captum_mda.evaluate._arguments import ArgumentError

StateDict: TypeAlias = dict[str, Tensor]

_CONVERT = (
    "where you trust the file, convert it once: held = torch.load(FILE, weights_only="
    "False); torch.save(held.state_dict(), 'weights.pth') for a model, held[KEY] in "
    "place of held.state_dict() for a checkpoint"
)
_LFS = b"version https://git-lfs"


def read_state_dicts(path: Path, option: str = "weights") -> dict[str, StateDict]:
    """Read all state dicts of a file.

    Args:
        path (Path): A safetensors file, or one of `torch.save`, whatever its ending. It
            holds a state dict, or dicts that do, such as a training's checkpoint. It is
            read with ``weights_only=True``, which runs no code of the file.
        option (str, optional): What errors call the path. Default: "weights"

    Returns:
        *dict[str, dict[str, Tensor]]*: the state dicts by their keys, with dots between
        those of nested dicts; "" is the key of a file that is itself a state dict.

    Raises:
        ValueError: The file is missing or damaged, needs a pickle to be run, or holds
            no tensors by names.
    """
    if not path.is_file():
        raise ArgumentError(f"{option}: there is no file {path}")
    with open(path, "rb") as file:
        head = file.read(len(_LFS))
    if head == _LFS:
        raise ArgumentError(
            f"{option}: {path} is a pointer of Git LFS, not the weights; fetch them by "
            "git lfs pull"
        )
    if _is_safetensors(path, head):
        return {"": _read_safetensors(path, option)}
    if not head.startswith((b"PK", b"\x80")):  # torch.save's archives and pickles
        raise ArgumentError(_damaged(path, option, "unknown format"))
    found = dict(_state_dicts(_read_pickle(path, option)))
    if not found:
        raise ArgumentError(
            f"{option}: {path} holds no state dict; pass what "
            "torch.save(model.state_dict(), FILE) writes, or safetensors"
        )
    return found


def _is_safetensors(path: Path, head: bytes) -> bool:
    # Its header's length takes eight bytes, and the header is JSON.
    return path.suffix == ".safetensors" or head[8:9] == b"{"


def _read_safetensors(path: Path, option: str) -> StateDict:
    try:
        state: StateDict = load_file(path)
    except SafetensorError as error:
        raise ArgumentError(
            f"{option}: {path} is truncated or not a safetensors file ({error})"
        ) from error
    return state


def _read_pickle(path: Path, option: str) -> Any:
    try:
        with _harmless_globals(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise ArgumentError(
                f"{option}: {path} holds {_blocked(path)} besides tensors, which are "
                f"read by running the file's code; {_CONVERT}"
            ) from error
        raise ArgumentError(_damaged(path, option, _first_line(error))) from error
    # On damaged files the unpickler raises whatever it stumbles over.
    except Exception as error:
        if "TorchScript" in str(error):
            raise ArgumentError(
                f"{option}: {path} is a TorchScript archive; save its weights: torch."
                "save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
            ) from error
        raise ArgumentError(_damaged(path, option, _first_line(error))) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _damaged(path: Path, option: str, why: str) -> str:
    return (
        f"{option}: {path} is truncated, or no file of weights ({why}); pass a "
        "safetensors file, or a state dict written by torch.save"
    )


def _harmless_globals() -> AbstractContextManager[Any]:
    """Allow what training scripts put beside weights, and what runs no code."""
    if not hasattr(torch.serialization, "safe_globals"):  # before PyTorch 2.5
        return nullcontext()
    scalar = np.float64(0.0).__reduce__()[0]  # its module differs among releases
    allowed: list[Any] = [
        argparse.Namespace,
        types.SimpleNamespace,
        PosixPath,
        PurePosixPath,
        scalar,
        np.dtype,
        *{type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "?")},
        # Files of an older NumPy name it so.
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    return torch.serialization.safe_globals(allowed)


def _blocked(path: Path) -> str:
    """Name the classes that a file needs, where PyTorch can tell."""
    tell = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    try:
        names = [] if tell is None else sorted(tell(path))
    except Exception:
        names = []
    return f"objects of {', '.join(names[:3])}" if names else "objects"


def _state_dicts(value: Any, key: str = "", depth: int = 3) -> Iterator[Any]:
    """Find the state dicts in what a file holds, outermost first."""
    if not isinstance(value, Mapping) or not depth:
        return
    tensors = {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if tensors:
        yield key, tensors
    for name, inner in value.items():
        if isinstance(name, str):
            yield from _state_dicts(inner, f"{key}.{name}" if key else name, depth - 1)
