"""The modules behind a forward function, and the state that forwards may change."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn.parameter import UninitializedBuffer

# Wrappers hold a model a few attributes deep; trainers hold very many objects.
_DEEPEST = 6
_MOST_OBJECTS = 5000
_CONTAINERS = (list, tuple, set, frozenset)


def modules_behind(forward_func: object) -> list[nn.Module]:
    """Find modules that a forward function may run, without running it.

    It searches modules, methods, `functools.partial`, the closures and used globals of
    functions, attributes of objects, and containers of all these.

    Args:
        forward_func (object): The forward function.

    Returns:
        *list[nn.Module]*: the outermost modules, each once.
    """
    roots: list[nn.Module] = []
    seen: dict[int, object] = {}  # holds the objects, so that ids stay unique
    waiting = [(forward_func, 0)]
    while waiting and len(seen) < _MOST_OBJECTS:
        value, depth = waiting.pop(0)
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, nn.Module):
            for part in value.modules():
                seen[id(part)] = part
            roots.append(value)
        elif depth < _DEEPEST:
            waiting += [(each, depth + 1) for each in _held_by(value)]
    return roots


def _held_by(value: object) -> Iterator[object]:
    """List the objects that may be called when a value is called."""
    if isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.FunctionType):
        yield from _held_by_function(value)
    elif isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, _CONTAINERS):
        yield from value
    elif not isinstance(value, (type, types.ModuleType, Tensor)):
        yield from list(getattr(value, "__dict__", {}).values())


def _held_by_function(function: types.FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # an empty cell
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()  # a wrapped function
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        for name in code.co_names:
            if name in function.__globals__:
                yield function.__globals__[name]


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module, or any part of it, was compiled by `torch.compile`."""
    return any(
        hasattr(part, "_orig_mod")
        or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


class ModuleState:
    """The state of one module, without submodules, that a forward may change.

    That is the values of its buffers, the tensors that are its buffers and parameters,
    whether these require gradients, and its training mode.

    Args:
        module (nn.Module): The module.
    """

    def __init__(self, module: nn.Module) -> None:
        """Copy the state."""
        self._module = module
        self._training = module.training
        self._is_script = isinstance(module, torch.jit.ScriptModule)
        self._buffers = dict(module._buffers)
        self._parameters = dict(module._parameters)
        self._values = [
            (buffer, buffer.detach().clone())
            for buffer in self._buffers.values()
            if buffer is not None and _holds_values(buffer)
        ]
        self._require_gradients = [
            (parameter, parameter.requires_grad)
            for parameter in self._parameters.values()
            if parameter is not None
        ]

    def restore(self) -> None:
        """Restore what has changed, and write nothing else."""
        module = self._module
        if module.training != self._training:
            module.training = self._training
        if not self._is_script:  # its tensors cannot be replaced
            _put_back(module._buffers, self._buffers)
            _put_back(module._parameters, self._parameters)
        for buffer, value in self._values:
            _set_values(buffer, value)
        for parameter, required in self._require_gradients:
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)


def _holds_values(buffer: Tensor) -> bool:
    return not (buffer.is_meta or isinstance(buffer, UninitializedBuffer))


def _put_back(current: dict[str, Any], before: dict[str, Any]) -> None:
    same = list(current) == list(before) and all(
        current[name] is value for name, value in before.items()
    )
    if not same:
        current |= before
        for name in [name for name in current if name not in before]:
            del current[name]


def _set_values(buffer: Tensor, value: Tensor) -> None:
    """Write values into a buffer if they differ, outside of any graph."""
    if buffer.layout != torch.strided:
        buffer.data = value
    elif buffer.shape != value.shape or buffer.dtype != value.dtype:
        buffer.data = value.clone()
    elif torch.equal(buffer, value):
        return
    elif buffer.is_inference():
        with torch.inference_mode():  # elsewhere it cannot be written
            buffer.data.copy_(value)
    else:
        buffer.data.copy_(value)
