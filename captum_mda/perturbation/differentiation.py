"""Scores without a gradient: what they look like, and what to do about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn, Tensor

from captum_mda._state import remove_hooks, undone

WITHOUT_GRADIENTS = (
    "take a method that needs no gradient, such as MetricDrivenAttribution or "
    "CausalActivationPatching"
)
_QUANTIZED = ("quantized", "int8", "int4", "8bit", "4bit")
FLAT_MODEL = (
    "model: the gradient of all its outputs is 0 at its blocks, as behind rounding, a "
    "threshold or an operation whose backward pass gives zeros, or with weights that "
    f"are all 0; take that out of the model's forward, or {WITHOUT_GRADIENTS}"
)
# Slopes are looked for at the outputs, near 0 and on its other side.
_PLACES = (1.0, 1e-3, -1e-3)


def callable_without_gradient(name: str) -> str:
    """Say that a callable target, or score, has no gradient: an error's message."""
    return (
        f"{name}: the callable's result has no gradient with respect to the outputs, "
        "as after detach(), argmax, a comparison, item(), NumPy or torch.no_grad(); "
        "compute it of the outputs by differentiable operations, as in "
        f"lambda outputs: outputs[:, 1], or {WITHOUT_GRADIENTS}"
    )


def flat_callable(name: str) -> str:
    """Say that a callable target, or score, is constant piece by piece."""
    return (
        f"{name}: the callable's result has slope 0 at the outputs of all examples, as "
        "after rounding, a sign or a threshold; compute it of the outputs by "
        "operations that have slopes, as in lambda outputs: outputs[:, 1], or "
        f"{WITHOUT_GRADIENTS}"
    )


def model_without_gradient(
    model: object, outputs: Tensor, where: str | None = None
) -> str:
    """Say what a model looks like whose output has no gradient: an error's message.

    Args:
        model (any): The model, or a function.
        outputs (Tensor): What it returned.
        where (str, optional): Where the gradient ends, if that is known.
            Default: None
    """
    quantized = quantized_layer(model)
    if quantized is not None:
        cause = (
            f"its layer {quantized} is quantized, which PyTorch does not "
            "differentiate; pass the model as it was before quantization"
        )
    elif not outputs.is_floating_point():
        cause = (
            f"its outputs are {outputs.dtype}, as after argmax or rounding; pass a "
            "model that returns logits"
        )
    else:
        place = "" if where is None else f"it ends {where}, "
        cause = (
            f"{place}as under torch.no_grad() or torch.inference_mode(), after "
            "detach(), or in a torch.autograd.Function that returns none; take that "
            "out of the model's forward"
        )
    return (
        "model: no gradient leads from its output back through its blocks: "
        f"{cause}, or {WITHOUT_GRADIENTS}"
    )


def require_unquantized(model: nn.Module) -> None:
    """Raise a ValueError if the model has a layer without a backward pass.

    Around such a layer the residual stream still has a gradient, which misses it.
    """
    if quantized_layer(model, surely=True) is not None:
        raise ValueError(model_without_gradient(model, torch.empty(0)))


def quantized_layer(model: object, surely: bool = False) -> str | None:
    """Find a layer that computes with integers: its name and class, or None.

    Args:
        model (any): The model, or a function.
        surely (bool, optional): Whether to look for PyTorch's quantized layers alone,
            which have no backward pass; those of other libraries may have one.
            Default: False
    """
    if not isinstance(model, nn.Module):
        return None
    for name, module in model.named_modules():
        kind = type(module)
        path = f"{kind.__module__}.{kind.__qualname__}".lower()
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if (
            (path.startswith("torch.") and ".quantized." in path)
            or any(tensor.is_quantized for tensor in tensors)
            or (not surely and any(word in path for word in _QUANTIZED))
        ):
            return f"{name} ({kind.__name__})" if name else kind.__name__
    return None


def lacks_gradient(score: Callable[[Tensor], Tensor], outputs: Tensor) -> bool:
    """Tell whether scores have no gradient with respect to outputs (R, ...)."""
    return _slopes(score, outputs.detach()) is None


def is_flat(score: Callable[[Tensor], Tensor], outputs: Tensor) -> bool:
    """Tell whether scores have slope 0 at outputs (R, ...), and wherever else we look.

    A probability that is saturated at the outputs has slopes elsewhere.
    """
    for place in _PLACES:
        slopes = _slopes(score, outputs.detach() * place)
        if slopes is not None and bool(slopes.any()):
            return False
    return True


def _slopes(score: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor | None:
    leaf = outputs.requires_grad_()
    scores = score(leaf)
    if not scores.requires_grad:
        return None
    (slopes,) = torch.autograd.grad(scores.sum(), leaf, allow_unused=True)
    return slopes


def gradient_end(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Find where a model loses its graph: words for the place, or None.

    Args:
        model (nn.Module): The model.
        run (callable): Runs it with a graph from its first block on and its parameters
            as constants.
    """
    names = {module: name for name, module in model.named_modules()}
    last: list[str] = []
    ends: list[str] = []

    def leave(module: nn.Module, args: object, kwargs: object, output: object) -> None:
        name = f"{names[module] or 'the model'} ({type(module).__name__})"
        if _has_graph(output):
            last[:] = [name]
            ends.clear()
        elif (_has_graph(args) or _has_graph(kwargs)) and not ends:
            ends.append(name)

    with undone(partial(remove_hooks, list(names), leave)):
        for module in names:
            module.register_forward_hook(leave, with_kwargs=True)
        try:
            run()
        except Exception:
            return None  # the reason alone will do
    if ends:
        return f"in {ends[0]}"
    return f"behind {last[0]}" if last else None


def _has_graph(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, dict):
        return any(map(_has_graph, value.values()))
    return isinstance(value, (tuple, list)) and any(map(_has_graph, value))
