"""Eager execution of a model, the caller's autocast, and models that are refused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from captum_mda._state import draws_at_random, undone
from captum_mda._state.modules import is_compiled
from captum_mda._state.undo import autocast_state


@contextmanager
def eager_execution(model: nn.Module) -> Iterator[None]:
    """Run a model eagerly, so that function modes see its functions.

    A model compiled by `torch.compile` runs its uncompiled code, with the same
    parameters.

    Args:
        model (nn.Module): The model about to run.

    Raises:
        ValueError: The model is a `torch.jit` graph, recomputes its activations in the
            backward pass, or is compiled under a PyTorch that cannot suspend that.
    """
    require_observable(model)
    if not is_compiled(model):
        yield
        return
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None:
        raise ValueError(
            "model: it is compiled, and this PyTorch cannot run it eagerly meanwhile; "
            "pass the model as it was before torch.compile, or use PyTorch 2.6"
        )
    holder = object()
    with undone(partial(_STANCE.release, holder)):
        _STANCE.hold(holder, set_stance)
        yield


class _Stance:
    """Suspends compilation until the last of several threads is done.

    The stance is global: the first thread sets it, the last one resets it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._eager: AbstractContextManager[Any] | None = None
        self._holders: set[object] = set()

    def hold(self, holder: object, set_stance: Callable[[str], Any]) -> None:
        with self._lock:
            self._holders.add(holder)
            if self._eager is None:
                # The stance is set at once, and reset by leaving it as a context.
                self._eager = set_stance("force_eager")

    def release(self, holder: object) -> None:
        with self._lock:
            self._holders.discard(holder)
            if not self._holders and self._eager is not None:
                self._eager.__exit__(None, None, None)
                self._eager = None


_STANCE = _Stance()


def require_observable(model: nn.Module) -> None:
    """Raise a ValueError if the model cannot be observed or differentiated."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"model: {name or type(module).__name__} is a torch.jit graph, which "
                "hides its attention; pass the model it was scripted or traced from"
            )
        if isinstance(module, nn.DataParallel):
            raise ValueError(
                "model: nn.DataParallel runs in threads of its own, which cannot be "
                "observed; pass its .module"
            )
        if _is_checkpointed(module):
            raise ValueError(
                f"model: {name or type(module).__name__} recomputes activations in the "
                "backward pass (gradient checkpointing), where they cannot be "
                "observed; switch it off, set_grad_checkpointing(False) in timm and "
                "open_clip, gradient_checkpointing_disable() in transformers"
            )


def _is_checkpointed(module: nn.Module) -> bool:
    if getattr(module, "grad_checkpointing", False) is True:  # timm and open_clip
        return True
    in_transformers = getattr(module, "gradient_checkpointing", False) is True
    return in_transformers and module.training


def is_random(model: nn.Module) -> bool:
    """Tell whether two forwards of the same inputs may differ."""
    return any(map(draws_at_random, model.modules()))


def autocast_of_caller(device: torch.device) -> Callable[[], Any]:
    """Read the caller's autocast, to run the model under it.

    Args:
        device (torch.device): The device of the model.

    Returns:
        *callable*: makes a context in which autocast is as it is now.
    """
    try:
        enabled, dtype = autocast_state(device.type)
    except RuntimeError:  # the device has no autocast
        return contextlib.nullcontext
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled)


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Record graphs, also under the caller's `no_grad` or `inference_mode`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield
