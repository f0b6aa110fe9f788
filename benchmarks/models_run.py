"""The runs of models_table.py: methods on a model, and how exact it is in float64."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn, Tensor

from benchmarks.model_families import Model
from benchmarks.white_box import balanced, build, white_box
from captum_mda import LibraGrad, TokenInputXGradient
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.backward import RelevancePropagation
from captum_mda.evaluate import Method
from captum_mda.vit import resolve

N_IMAGES = 2
LEAST_SPREAD = 0.01  # of a map, in proportion to its mean absolute value
N_STEPS = 2  # both ends of the path: all the code there is
N_TARGETS = 4
TICK = "✓"
HEADS = {
    "raw-attention": "Raw",
    "rollout": "Rollout",
    "grad-cam": "CAM",
    "attention-ig": "IG",
    "t-attn": "T-Attn",
    "bi-attn": "Bi-Attn head",
    "bi-attn-token": "Bi-Attn token",
    "t-attr": "T-Attr",
    "legrad": "LeGrad",
    "libra-fullgrad": "FullGrad+",
    "libra-ixg": "I x G",
}
"""Short heads, in the order of the columns; other methods follow with their titles."""
VARIANTS = {"grad-cam": "chefer", "t-attn": "original", "t-attr": "original"}
"""Further columns, of methods with another ``variant``."""


def columns() -> dict[str, Method]:
    """Return the methods of the table by the heads of their columns."""
    methods, found = white_box(), {}
    for name in dict.fromkeys((*HEADS, *methods)):
        head = HEADS.get(name, methods[name].title)
        found[head] = methods[name]
        if name in VARIANTS:
            options = {"variant": VARIANTS[name]}
            found[f"{head} {VARIANTS[name]}"] = replace(methods[name], options=options)
    return found


@dataclass
class Row:
    """What was found out about a model."""

    model: Model
    pooling: str = ""
    n_prefix_tokens: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)


def built(model: Model) -> nn.Module:
    """Build a model whose every parameter is random, biases and scales included."""
    torch.manual_seed(0)
    network = model.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def cell(
    method: Method, network: nn.Module, inputs: Tensor, target: Tensor, shape: list[int]
) -> str:
    """Run a method and judge its map: a tick, or what is wrong."""
    try:
        attribution = build(method, network)
        along_path = isinstance(attribution, PathAttribution)
        more = {"n_steps": N_STEPS} if along_path else {}
        with balanced(method, network):
            grid = attribution.attribute(inputs, target, interpolate_mode=None, **more)
    except Exception as error:  # the page says which cells fail, and how
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if list(grid.shape) != shape:
        return f"shape {list(grid.shape)}, not {shape}"
    if not bool(torch.isfinite(grid).all()):
        return "not finite"
    return "flat" if is_flat(grid) else TICK


def is_flat(grid: Tensor) -> bool:
    """Tell maps whose patches differ by less than a hundredth of their mean size."""
    values = grid.flatten(1).double()
    spread = values.amax(dim=1) - values.amin(dim=1)
    return bool((spread <= LEAST_SPREAD * values.abs().mean(dim=1)).any())


def measured(model: Model) -> Row:
    """Run all methods on a model, then measure it in float64."""
    row = Row(model)
    network = built(model)
    try:
        adapter = resolve(network)
    except ValueError:  # no Vision Transformer
        return measured_elsewhere(row, network)
    row.pooling, row.n_prefix_tokens = adapter.pooling, str(adapter.n_prefix_tokens)
    inputs = torch.randn(N_IMAGES, *adapter.example_size)
    with torch.no_grad():
        largest = adapter(inputs).topk(N_TARGETS, dim=1).indices.T
    shape = [N_IMAGES, 1, *adapter.patch_grid(inputs)]
    for head, each in columns().items():
        for target in largest:
            row.cells[head] = cell(each, network, inputs, target, shape)
            if row.cells[head] != "flat":
                break
    network, inputs, target = network.double(), inputs[:1].double(), largest[0, :1]
    method = TokenInputXGradient(network)
    for balance in (LibraGrad(network), nullcontext()):
        with balance:
            found = method.completeness(inputs, target)
        row.errors.append(float(found.error / found.score.abs()))
    row.errors.append(lost_relevance(network, adapter, adapter.token_entry, inputs))
    return row


def measured_elsewhere(row: Row, network: nn.Module) -> Row:
    """Measure what holds for models without readable attention, too."""
    network, inputs = network.double(), torch.randn(1, 3, 224, 224).double()
    for balance in (LibraGrad(network), nullcontext()):
        with balance:
            row.errors.append(incompleteness_from_pixels(network, inputs))
    first_block = next(iter(getattr(network, "blocks", None) or network.layers))
    row.errors.append(lost_relevance(network, network, first_block, inputs))
    return row


def incompleteness_from_pixels(network: nn.Module, inputs: Tensor) -> float:
    """Compare pixels and biases times their gradients with the largest output."""
    parts = [inputs.clone().requires_grad_()]
    parts += [each for name, each in network.named_parameters() if "bias" in name[-4:]]
    score = network(parts[0]).max()
    gradients = torch.autograd.grad(score, parts)
    total = sum((a * b).sum() for a, b in zip(parts, gradients, strict=True))
    return float((total - score).abs() / score.abs())


def lost_relevance(
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    first_block: nn.Module,
    inputs: Tensor,
) -> float:
    """Propagate a relevance of 1 back to the first block, and see what is missing."""
    tokens: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        tokens.append((*arguments, *named.values())[0])

    handle = first_block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with RelevancePropagation(network):
            outputs = run(inputs.clone().requires_grad_())
            start = torch.zeros_like(outputs)
            start[0, int(outputs.argmax())] = 1.0
            (relevance,) = torch.autograd.grad(outputs, tokens, start)
    finally:
        handle.remove()
    return abs(float(relevance.sum()) - 1.0)
