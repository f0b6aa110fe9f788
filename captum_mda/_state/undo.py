"""Changes that are undone even if Ctrl-C interrupts the undoing.

Python may raise KeyboardInterrupt between any two instructions, also inside a `finally`
and on the way into an `__exit__`. An undo may therefore run more than once: it is
registered before its change begins, and removed only after it has run to its end.
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
    """The undos that the public calls of a thread have registered."""

    def __init__(self) -> None:
        self.undos: list[Undo] = []
        self.in_call = False


_PENDING = _Pending()


class undone:
    """A context that calls a function when it ends.

    If an interrupt stops that function, the public call around it runs it again.

    Args:
        undo (callable): A function without arguments. It must work if it is called
            twice, and if the change that it undoes was never made.
    """

    def __init__(self, undo: Undo) -> None:
        """Keep the function."""
        self._undo = undo

    def __enter__(self) -> None:
        """Register the function, before anything is changed."""
        if _PENDING.in_call:
            _PENDING.undos.append(self._undo)

    def __exit__(self, *error: object) -> None:
        """Undo, then remove the registration."""
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
    """Make a public function restore PyTorch's modes and all generators.

    Args:
        function (callable): The function. Undos that it left registered run after it.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        modes = _Modes()
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt as error:
            # Guards of PyTorch whose exit was interrupted restore modes when they are
            # freed. Free them here, before the modes are restored below.
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
    """The modes and generators of a thread at the begin of a call."""

    def __init__(self) -> None:
        self._n_undos, self._in_call = len(_PENDING.undos), _PENDING.in_call
        self._generators = GeneratorStates()
        self._grad = torch.is_grad_enabled()
        self._n_function_modes = len(_get_current_function_mode_stack())
        self._autocast = _Autocast()
        _PENDING.in_call = True

    def restore(self) -> None:
        """Run the remaining undos, the last change first."""
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
    """The state of autocast per device type, and its depth of nesting."""

    def __init__(self) -> None:
        self._devices = ["cpu"]
        if torch.cuda.is_available():
            self._devices.append("cuda")
        self._before = self._read()

    def _read(self) -> tuple[list[tuple[bool, torch.dtype]], bool, int]:
        states = [autocast_state(device) for device in self._devices]
        # The depth can only be read by an increment and a decrement: in one step, which
        # no interrupt can divide.
        steps = (torch.autocast_increment_nesting, torch.autocast_decrement_nesting)
        nesting = tuple(map(type(steps[0]).__call__, steps))[1]
        return states, torch.is_autocast_cache_enabled(), nesting

    def restore(self) -> None:
        now = self._read()
        if now == self._before:
            return
        states, caches, nesting = self._before
        for _ in range(now[2] - nesting):
            torch.autocast_decrement_nesting()
        if nesting == 0:
            torch.clear_autocast_cache()
        for device, (enabled, dtype) in zip(self._devices, states, strict=True):
            _set_autocast(device, enabled, dtype)
        torch.set_autocast_cache_enabled(caches)


def autocast_state(device: str) -> tuple[bool, torch.dtype]:
    """Read whether autocast is on for a device type, and its dtype.

    Raises:
        RuntimeError: The device has no autocast.
    """
    try:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if device == "cpu":
            return torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
        return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()


def _set_autocast(device: str, enabled: bool, dtype: torch.dtype) -> None:
    try:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if device == "cpu":
            torch.set_autocast_cpu_enabled(enabled)
            torch.set_autocast_cpu_dtype(dtype)
        else:
            torch.set_autocast_enabled(enabled)
            torch.set_autocast_gpu_dtype(dtype)
