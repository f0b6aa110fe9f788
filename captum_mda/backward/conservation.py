"""Checks that relevance keeps its total, and where it does not."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_mda.backward._relevance_functions import counted_ends

TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3}
"""The largest accepted share of an output's relevance that is missing later."""


def missing_relevance(start: Tensor, found: Tensor) -> Tensor:
    """Compare the total relevance of each example's output with what arrived.

    Args:
        start (Tensor): (B, ...), the relevance of the outputs.
        found (Tensor): (B, ...), the relevance of the tokens.

    Returns:
        *Tensor*: (B,), the difference of the totals relative to the sum of absolute
        values of ``start``; NaN where relevance is NaN.
    """
    begun = start.reshape(len(start), -1)
    total = found.reshape(len(found), -1).sum(dim=1)
    return (total - begun.sum(dim=1)).abs() / begun.abs().sum(dim=1)


def relevance_that_ends(outputs: Tensor, tokens: Tensor, start: Tensor) -> float:
    """Sum the relevance that ends by the rules, as nothing contributes to a result.

    Args:
        outputs (Tensor): (B, ...), with a graph, which is kept.
        tokens (Tensor): Where relevance should arrive.
        start (Tensor): (B, ...), the relevance of the outputs.

    Returns:
        *float*: Its total.
    """
    with counted_ends() as ended:
        torch.autograd.grad(
            outputs, tokens, start, retain_graph=True, allow_unused=True
        )
        return ended()


def largest_loss(outputs: Tensor, tokens: Tensor, start: Tensor) -> str:
    """Name the function in whose backward pass the total changes most.

    Args:
        outputs (Tensor): (B, ...), with a graph.
        tokens (Tensor): Where relevance should arrive.
        start (Tensor): (B, ...), the relevance of the outputs.

    Returns:
        *str*: The function's name.
    """
    losses: dict[str, float] = {}

    def note(node: Any, to_inputs: Any, from_outputs: Any) -> None:
        lost = abs(_total(from_outputs) - _total(to_inputs))
        name = _name(node)
        losses[name] = losses.get(name, 0.0) + (lost if lost == lost else float("inf"))

    handles = [node.register_hook(partial(note, node)) for node in _nodes(outputs)]
    try:
        torch.autograd.grad(
            outputs, tokens, start, retain_graph=True, allow_unused=True
        )
    finally:
        for handle in handles:
            handle.remove()
    return max(losses, key=lambda name: losses[name]) if losses else "the model"


def _total(relevances: Any) -> float:
    return sum(float(each.sum().real) for each in relevances if each is not None)


def _nodes(outputs: Tensor) -> list[Any]:
    """List the nodes of a graph."""
    found: dict[Any, None] = {}
    waiting = [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [following for following, _ in node.next_functions]
    return list(found)


_NAMES = {
    "Linear": "F.linear or a product with a weight",
    "WeightedMap": "a convolution or a product with a weight",
    "Matmul": "a product of matrices",
    "ByValue": "a product or average",
    "Sum": "a sum of two branches",
    "Total": "a mean or sum over tokens or channels",
}


def _name(node: Any) -> str:
    made_by = getattr(node, "_forward_cls", None)
    if made_by is not None:
        name = str(made_by.__name__)
        return _NAMES.get(name, name)
    return str(node.name()).partition("Backward")[0]
