"""Calls every public callable, each in a fresh process, and tells what it changed.

Run as a program, with what to do and the names of callables. It imports what the
package itself and the model of the calls import, and forks: a process for each callable
has met nothing that is imported when that is first called. Prints one line of JSON for
each.
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import public_callables as table
import torch
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack

# Where PyTorch and Python leave contexts on the package's behalf.
_CONTEXTS = ("contextlib.py", "grad_mode.py", "hooks.py", "overrides.py")


def fingerprint(w: table.World, of_model: bool = True) -> dict[str, Any]:
    """Describe everything that a call must leave as it is.

    Args:
        w (World): The model, and what else calls are given.
        of_model (bool): Whether to describe what forwards change of the model, too.
    """
    state: dict[str, Any] = {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "autocast dtype": str(torch.get_autocast_dtype("cpu")),
        "autocast nesting": torch.autocast_increment_nesting(),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "function modes": len(_get_current_function_mode_stack()),
        "default dtype": str(torch.get_default_dtype()),
        "attention": id(F.scaled_dot_product_attention),
        "inputs": [tensor.tolist() for tensor in w.tensors()],
        "versions of inputs": [tensor._version for tensor in w.tensors()],
    }
    torch.autocast_decrement_nesting()
    for name, value in vars(torch_module).items():
        if name.startswith("_global_") and hasattr(value, "__len__"):
            state[name] = len(value)
    for path, part in w.model.named_modules():
        for name, value in vars(part).items():
            if "_hooks" in name and hasattr(value, "__len__"):
                state[f"{path}.{name}"] = len(value)
    for path, parameter in w.model.named_parameters():
        state[f"{path}: value"] = parameter.tolist()
        state[f"{path}: version"] = parameter._version
        state[f"{path}: hooks"] = len(parameter._backward_hooks or ())
        state[f"{path}: gradient"] = parameter.grad is None or parameter.grad.tolist()
    if of_model:
        state["torch generator"] = torch.get_rng_state().tolist()
        state["numpy generator"] = str(np.random.get_state())
        state["python generator"] = hash(random.getstate())
        state["attributes"] = {p: sorted(vars(m)) for p, m in w.model.named_modules()}
        state["training"] = {p: m.training for p, m in w.model.named_modules()}
        for path, parameter in w.model.named_parameters():
            state[f"{path}: requires gradients"] = parameter.requires_grad
        for path, buffer in w.model.named_buffers():
            state[f"{path}: buffer"] = id(buffer), buffer.tolist()
    return state


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """List what is not as it was."""
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def after_calls(name: str) -> dict[str, Any]:
    """Call it, and have it fail in several forwards; list what is left of each."""
    w = table.World()
    of_model = name not in table.RUN_BY_THE_CALLER
    found: dict[str, Any] = {}

    def run(what: str, at: int, error: type[BaseException] | None) -> None:
        w.stop.set(at, error)
        before = fingerprint(w, of_model)
        try:
            table.CALLS[name](w)
            ended = None
        except BaseException as caught:
            if error is None or type(caught) is not error:
                raise
            ended = error
        changed = differences(before, fingerprint(w, of_model))
        if ended is not error:
            changed.append("the error did not pass")
        if changed:
            found[what] = changed

    run("success", 0, None)
    n_forwards = found["forwards"] = w.stop.calls
    for at in sorted({1, 2, n_forwards // 2, n_forwards} - {0}):
        for error in (table.StoppedError, KeyboardInterrupt):
            if at <= n_forwards:
                run(f"{error.__name__} in forward {at}", at, error)
    return found


@contextmanager
def interrupted(at: int) -> Iterator[list[tuple[str, int]]]:
    """Raise KeyboardInterrupt at a line of the package, counted from 1; 0 for never.

    Gives the lines that were run, as files and numbers.
    """
    lines: list[tuple[str, int]] = []

    def at_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) == at:
                raise KeyboardInterrupt
        return at_line

    def at_call(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if "captum_mda" in file or (
            file.endswith(_CONTEXTS) and _called_by_package(frame)
        ):
            return at_line
        return None

    sys.settrace(at_call)
    try:
        yield lines
    finally:
        sys.settrace(None)


def _called_by_package(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename.endswith(_CONTEXTS):
        frame = frame.f_back
    return frame is not None and "captum_mda" in frame.f_code.co_filename


def after_interrupts(name: str, n_samples: int) -> dict[str, Any]:
    """Interrupt it at lines all over its run; list what is left of each."""
    w = table.World()
    found: dict[str, Any] = {}
    table.CALLS[name](w)  # what is imported at first use
    with interrupted(0) as lines:
        table.CALLS[name](w)
    found["lines"] = len(lines)
    # Each line of the code where it runs first and last: most of a run is a few loops.
    last = {line: at for at, line in enumerate(lines, 1)}
    first: dict[tuple[str, int], int] = {}
    for at, line in enumerate(lines, 1):
        first.setdefault(line, at)
    chosen = sorted({*last.values(), *first.values()})
    chosen = chosen[:: max(1, -(-len(chosen) // n_samples))]
    found["interrupts"] = 0
    for at in chosen:
        before = fingerprint(w)
        stopped_at = None
        try:
            with interrupted(at) as lines:
                table.CALLS[name](w)
        except KeyboardInterrupt:
            found["interrupts"] += 1
            stopped_at = lines[at - 1]
        changed = differences(before, fingerprint(w))
        if changed:
            found[f"{stopped_at}"] = changed
            return found  # what comes next would begin where this ended
    return found


def in_fresh_process(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Fork, work, and return what came out, an error as its message."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            result = work()
        except BaseException as error:
            import traceback

            result = {"error": traceback.format_exc() + repr(error)}
        with os.fdopen(writing, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"error": "the process died"}


if __name__ == "__main__":
    what, samples, *names = sys.argv[1:]
    torch.set_num_threads(1)
    table.World()  # every process makes one: what that imports is imported once
    for name in names or table.CALLS:
        if what == "calls":
            result = in_fresh_process(lambda name=name: after_calls(name))
        else:
            result = in_fresh_process(
                lambda name=name: after_interrupts(name, int(samples))
            )
        print(json.dumps({"name": name} | result), flush=True)
