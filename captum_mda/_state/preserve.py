"""Restores a model and all random number generators after a call."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from captum_mda._state.callers import caller_frame, warn_caller
from captum_mda._state.generators import GeneratorStates
from captum_mda._state.modules import is_compiled, modules_behind, ModuleState
from captum_mda._state.training import training_message
from captum_mda._state.undo import undone

DRAWS = (
    "its forwards draw random numbers; where outputs depend on them, results depend on "
    "the state of the random number generators (equal states give equal results); call "
    "model.eval() first where a layer is in training mode"
)


def preserved_state(
    forward_func: object, argument: str = "forward_func", warns: bool = True
) -> AbstractContextManager[None]:
    """Undo the changes of forwards: random number generators, buffers and flags.

    Dropout draws random numbers, and batch normalisation in training mode updates its
    statistics. On exit, also after an error or an interrupt, these are restored: the
    global generators of PyTorch, NumPy and Python; the buffers of all modules that ran;
    the modules' training modes; and which parameters require gradients.

    Modules are found behind the forward function. Hidden modules are found as they run,
    by a global forward pre-hook. Compiled modules are not hooked, as global hooks would
    cause recompilation.

    Args:
        forward_func (object): The function that computes the responses.
        argument (str, optional): The name of its argument, for the warning.
            Default: "forward_func"
        warns (bool, optional): Whether to warn, once, about modules in training mode
            whose forward is random or depends on the batch. Default: True
    """
    return _PreservedState(forward_func, argument, warns)


class _Warned(threading.local):
    """Whether an outer call has warned already."""

    def __init__(self) -> None:
        self.in_block = False


_WARNED = _Warned()


class _PreservedState(AbstractContextManager[None]):
    """See `preserved_state`."""

    def __init__(self, forward_func: object, argument: str, warns: bool) -> None:
        self._forward_func = forward_func
        self._argument = argument
        self._warns = warns and not _WARNED.in_block
        self._states: dict[int, ModuleState] = {}
        self._roots: dict[int, nn.Module] = {}  # of parts that may run, by their ids
        self._met: set[int] = set()  # modules that run, or belong to what runs
        self._thread = threading.get_ident()
        self._undone = undone(self._restore)

    def __enter__(self) -> None:
        """Copy the state of all modules that are found, and hook hidden ones."""
        self._frame = caller_frame() if self._warns else None
        self._generators = GeneratorStates()
        self._was_in_block = _WARNED.in_block
        self._undone.__enter__()
        try:
            _WARNED.in_block = True
            roots = modules_behind(self._forward_func)
            hides_modules = not any(map(is_compiled, roots))
            own = getattr(self._forward_func, "__self__", self._forward_func)
            for root in roots:
                # Other modules that a function refers to may never run.
                self._meet(root, runs=root is own or not hides_modules)
            if hides_modules:
                torch_module.register_module_forward_pre_hook(self._before_forward)
        except BaseException:
            self._undone.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        """Restore everything."""
        drew = self._warns and error[0] is None and self._generators.torch_moved()
        frame, self._frame = self._frame, None
        self._undone.__exit__(*error)
        if drew:
            warn_caller(f"{self._argument}: {DRAWS}", frame)

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        if id(module) not in self._met and threading.get_ident() == self._thread:
            # If a part of a known model runs, the whole model runs.
            self._meet(self._roots.get(id(module), module), runs=True)

    def _meet(self, root: nn.Module, runs: bool) -> None:
        """Copy the state of a module and its submodules."""
        parts = list(root.named_modules())
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for _, part in parts:
                if id(part) not in self._states:
                    self._states[id(part)] = ModuleState(part)
        if not runs:
            self._roots |= {id(part): root for _, part in parts}
            return
        self._met.update(id(part) for _, part in parts)
        if self._warns:
            message = training_message(self._argument, parts)
            if message is not None:
                self._warns = False
                warn_caller(message, self._frame)

    def _restore(self) -> None:
        hooks = torch_module._global_forward_pre_hooks
        # By value: an interrupt may have come before the handle was stored.
        for key in [key for key, hook in hooks.items() if hook == self._before_forward]:
            hooks.pop(key, None)
        _WARNED.in_block = self._was_in_block
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for state in self._states.values():
                state.restore()
        self._generators.restore()
