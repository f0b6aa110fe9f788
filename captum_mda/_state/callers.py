"""Warnings that point at the caller's own line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FrameType

_INSIDE = ("captum", "captum_mda", "torch", "contextlib", "functools")


def frames_inside() -> Iterator[FrameType]:
    """Yield the calling frames of this package, Captum and PyTorch, innermost first.

    The frames end where the caller's own code begins.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _package(frame) in _INSIDE:
        yield frame
        frame = frame.f_back


def caller_frame() -> FrameType | None:
    """Find the innermost frame outside of this package, and of Captum and PyTorch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _package(frame) in _INSIDE:
        frame = frame.f_back
    return frame


def warn_caller(message: str, frame: FrameType | None = None) -> None:
    """Warn at the line of the caller's own code.

    Args:
        message (str): The warning.
        frame (FrameType, optional): The caller's frame, where a model's frames lie
            in between. None: `caller_frame`. Default: None
    """
    frame = caller_frame() if frame is None else frame
    if frame is None:
        warnings.warn(message, UserWarning, stacklevel=2)
        return
    warnings.warn_explicit(
        message,
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=str(frame.f_globals.get("__name__", "<unknown>")),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
