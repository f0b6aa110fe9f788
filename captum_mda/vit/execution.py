"""Running a model as it is, but eagerly, and saying so where that cannot be."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

_RANDOM_LAYERS = ("Dropout", "DropPath", "StochasticDepth")


@contextmanager
def eager_execution(model: nn.Module) -> Iterator[None]:
    """Let function modes see what the model does.

    A model that went through `torch.compile` runs its uncompiled code with the same
    parameters meanwhile.

    Args:
        model (nn.Module): The model about to run.

    Raises:
        ValueError: The model is a `torch.jit` graph, recomputes its activations in the
            backward pass, or is compiled under a PyTorch that cannot hold that off.
    """
    require_observable(model)
    if not _is_compiled(model):
        yield
        return
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None:
        raise ValueError(
            "model: it is compiled, and this PyTorch cannot run it eagerly meanwhile; "
            "pass the model as it was before torch.compile, or use PyTorch 2.6"
        )
    with _HELD.by(set_stance):
        yield


class _Stance:
    """Holds compilation off until the last of all threads is done.

    The stance belongs to the process: the first thread sets it, the last one resets it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._n_holders = 0

    @contextmanager
    def by(self, set_stance: Callable[[str], Any]) -> Iterator[None]:
        with self._lock:
            if self._n_holders == 0:
                self._stack.enter_context(set_stance("force_eager"))
            self._n_holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_holders -= 1
                if self._n_holders == 0:
                    self._stack.close()


_HELD = _Stance()


def require_observable(model: nn.Module) -> None:
    """Raise a ValueError if what the model does cannot be seen or differentiated."""
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


def _is_compiled(model: nn.Module) -> bool:
    return any(
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def is_random(model: nn.Module) -> bool:
    """Tell whether two forwards of the same inputs may differ."""
    return any(
        module.training and _drops_activations(module) for module in model.modules()
    )


def _drops_activations(module: nn.Module) -> bool:
    names = ["dropout", "attention_dropout"]  # of attention modules, numbers
    if any(layer in type(module).__name__ for layer in _RANDOM_LAYERS):
        names += ["p", "prob", "drop_prob"]
    rates = (getattr(module, name, 0.0) for name in names)
    return any(isinstance(rate, float) and rate > 0.0 for rate in rates)


def warn_if_random(model: nn.Module) -> None:
    """Warn where dropout would make attributions random."""
    if is_random(model):
        warnings.warn(
            "model: it is in training mode and drops activations at random, so that "
            "attributions differ from call to call; call model.eval() first",
            UserWarning,
            stacklevel=4,
        )


def autocast_of_caller(device: torch.device) -> Callable[[], Any]:
    """Note the caller's autocast, to run the model under it and nothing else.

    Args:
        device (torch.device): Where the model runs.

    Returns:
        *callable*: makes a context in which autocast is as it is now.
    """
    kind = device.type
    try:
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        on_cpu = kind == "cpu"
        enabled = (
            torch.is_autocast_cpu_enabled() if on_cpu else torch.is_autocast_enabled()
        )
        dtype = (
            torch.get_autocast_cpu_dtype() if on_cpu else torch.get_autocast_gpu_dtype()
        )
    except RuntimeError:  # a kind of device without autocast
        return contextlib.nullcontext
    return partial(torch.autocast, kind, dtype=dtype, enabled=enabled)


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Record graphs in full precision, whatever the caller's modes are."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield
