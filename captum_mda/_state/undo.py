"""Changes that are undone also where Ctrl-C cuts the undoing short.

Python raises KeyboardInterrupt between any two instructions, so also inside a `finally`
and on the way into an `__exit__`. Here an undo may therefore run more than once: it is
known before its change begins, and is forgotten only when it has run to its end.
"""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode

from captum_mda._state.generators import GeneratorStates

Function = TypeVar("Function", bound=Callable[..., Any])
Undo = Callable[[], None]


class _Pending(threading.local):
    """What the public calls of a thread have still to undo."""

    def __init__(self) -> None:
        self.undos: list[Undo] = []
        self.in_call = False


_PENDING = _Pending()


class undone:
    """A context that calls a function when it ends.

    Where an interrupt cuts that short, the public call around it does it again.

    Args:
        undo (callable): Takes nothing. It may be called twice, and though the change
            that it undoes was never made.
    """

    def __init__(self, undo: Undo) -> None:
        """Keep the function."""
        self._undo = undo

    def __enter__(self) -> None:
        """Let it be known, before anything is changed."""
        if _PENDING.in_call:
            _PENDING.undos.append(self._undo)

    def __exit__(self, *error: object) -> None:
        """Undo, and forget it once that is done."""
        try:
            self._undo()
        except BaseException:
            self._undo()
            raise
        for index in reversed(range(len(_PENDING.undos))):
            if _PENDING.undos[index] is self._undo:
                del _PENDING.undos[index]
                break


def restores_modes(function: Function) -> Function:
    """Make a public function leave PyTorch's modes and all generators as they were.

    Args:
        function (callable): The function. Whatever it left undone is undone behind it.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        modes = _Modes()
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as error:
            # Guards of PyTorch's whose exit was cut short put modes back when they are
            # freed: now, before the modes are restored, and not with the traceback.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            try:
                modes.restore()
            except BaseException:
                modes.restore()
                raise

    return call  # type: ignore[return-value]


class _Modes:
    """The modes and generators of a thread as a call begins."""

    def __init__(self) -> None:
        self._n_undos, self._in_call = len(_PENDING.undos), _PENDING.in_call
        self._generators = GeneratorStates()
        self._grad = torch.is_grad_enabled()
        self._n_function_modes = len(_get_current_function_mode_stack())
        self._autocast = _Autocast()
        _PENDING.in_call = True

    def restore(self) -> None:
        """Do what is left to undo, last change first."""
        while len(_PENDING.undos) > self._n_undos:
            _PENDING.undos[-1]()
            _PENDING.undos.pop()
        _PENDING.in_call = self._in_call
        while len(_get_current_function_mode_stack()) > self._n_function_modes:
            _pop_mode()
        self._autocast.restore()
        if torch.is_grad_enabled() != self._grad:
            torch.set_grad_enabled(self._grad)
        self._generators.restore()


class _Autocast:
    """Autocast as it is: of each kind of device, and how deeply it is nested."""

    def __init__(self) -> None:
        self._kinds = ["cpu"]
        if torch.cuda.is_available():
            self._kinds.append("cuda")
        self._before = self._read()

    def _read(self) -> tuple[list[tuple[bool, torch.dtype]], bool, int]:
        kinds = [autocast_state(kind) for kind in self._kinds]
        # How deep it is can only be read by going deeper and back: in one step, which
        # no interrupt can cut in two.
        steps = (torch.autocast_increment_nesting, torch.autocast_decrement_nesting)
        nesting = tuple(map(type(steps[0]).__call__, steps))[1]
        return kinds, torch.is_autocast_cache_enabled(), nesting

    def restore(self) -> None:
        now = self._read()
        if now == self._before:
            return
        kinds, caches, nesting = self._before
        for _ in range(now[2] - nesting):
            torch.autocast_decrement_nesting()
        if nesting == 0:
            torch.clear_autocast_cache()
        for kind, (enabled, dtype) in zip(self._kinds, kinds, strict=True):
            _set_autocast(kind, enabled, dtype)
        torch.set_autocast_cache_enabled(caches)


def autocast_state(kind: str) -> tuple[bool, torch.dtype]:
    """Read whether autocast is on for a kind of device, and to which dtype it casts.

    Raises:
        RuntimeError: The kind of device has no autocast.
    """
    try:
        return torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if kind == "cpu":
            return torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
        return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()


def _set_autocast(kind: str, enabled: bool, dtype: torch.dtype) -> None:
    try:
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if kind == "cpu":
            torch.set_autocast_cpu_enabled(enabled)
            torch.set_autocast_cpu_dtype(dtype)
        else:
            torch.set_autocast_enabled(enabled)
            torch.set_autocast_gpu_dtype(dtype)
