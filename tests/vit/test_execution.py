"""Models that hide what they do: refused, or run eagerly meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, images

from captum_mda.vit import eager_execution, observe, resolve
from captum_mda.vit.execution import is_random

CASE = BY_NAME["timm ViT"]
needs_stance = pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="PyTorch 2.6 can hold compilation"
)


def _traced() -> nn.Module:
    return torch.jit.trace(build_model(CASE), images(CASE, 1))


def _traced_block() -> nn.Module:
    model = build_model(CASE)
    model.blocks[1] = torch.jit.trace(model.blocks[1], torch.randn(1, 17, 24))
    return model


def _checkpointed(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = build_model(BY_NAME[name])
        if hasattr(model, "set_grad_checkpointing"):
            model.set_grad_checkpointing(True)
        else:
            model.gradient_checkpointing_enable()
            model.train()
        return model

    return build


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (_traced, "is a torch.jit graph, which hides its attention"),
        (_traced_block, "blocks.1 is a torch.jit graph"),
        (lambda: nn.DataParallel(build_model(CASE)), r"pass its \.module"),
        (_checkpointed("timm ViT"), r"gradient checkpointing.*set_grad_checkpointing"),
        (_checkpointed("open_clip QuickGELU"), "gradient checkpointing"),
        (_checkpointed("open_clip SigLIP"), "trunk recomputes activations"),
        (_checkpointed("transformers ViT"), "gradient_checkpointing_disable"),
        (_checkpointed("transformers CLIP"), "gradient checkpointing"),
    ],
)
def test_models_that_hide_what_they_do(
    build: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(ValueError, match="^model: .*" + message):
        resolve(build())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_transformers_recompute_only_in_training() -> None:
    model = _checkpointed("transformers ViT")().eval()
    assert resolve(model).depth == 3


def maps_of(model: nn.Module) -> list[Tensor]:
    adapter = resolve(model)
    with eager_execution(adapter.model):
        return observe(adapter, images(CASE)).maps


def _compiled_whole(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def _compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def _compiled_blocks(model: nn.Module) -> nn.Module:
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend="eager")
    return model


@pytest.mark.parametrize(
    ("layer", "random"),
    [
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.Dropout2d(0.1), True),
        (nn.MultiheadAttention(2, 1, dropout=0.1), True),
        (nn.MultiheadAttention(2, 1), False),
        (nn.Linear(2, 2), False),
    ],
)
def test_models_that_are_random_in_training(layer: nn.Module, random: bool) -> None:
    model = nn.Sequential(layer)
    assert not is_random(model.eval())
    assert is_random(model.train()) is random


@needs_stance
@pytest.mark.parametrize(
    "compiled", [_compiled_whole, _compiled_in_place, _compiled_blocks]
)
def test_compiled_models_run_eagerly_meanwhile(
    compiled: Callable[[nn.Module], nn.Module],
) -> None:
    model = build_model(CASE)
    wanted = maps_of(model)
    model = compiled(model)
    outputs = model(images(CASE))  # compiled by now
    for attention, expected in zip(maps_of(model), wanted, strict=True):
        assert torch.equal(attention, expected)
    # And compiled it stays: a backend that counts would be asked again otherwise.
    assert torch.equal(model(images(CASE)), outputs)


@needs_stance
def test_compilation_is_held_off_inside_only() -> None:
    """Seen by the number of graphs that a backend is asked to compile."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model = nn.Linear(2, 2)
    model.compile(backend=backend)
    with eager_execution(model):
        model(torch.zeros(1, 2))
    assert graphs == []
    with pytest.raises(KeyError), eager_execution(model):
        raise KeyError("stopped")
    model(torch.zeros(1, 2))
    assert len(graphs) == 1


@needs_stance
def test_compilation_resumes_when_two_threads_leave_in_any_order() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model = nn.Linear(2, 2)
    model.compile(backend=backend)
    both_in, first_out = threading.Barrier(2, timeout=20), threading.Event()

    def first() -> None:
        with eager_execution(model):
            both_in.wait()
        first_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    try:
        while_other_left = []
        # The first entered before, or after: either way it leaves before this one.
        with eager_execution(model):
            both_in.wait()
            assert first_out.wait(20)
            model(torch.zeros(1, 2))
            while_other_left += graphs
        model(torch.zeros(1, 2))
    finally:
        thread.join()
        torch.compiler.set_stance("default")
    assert while_other_left == []
    assert len(graphs) == 1
