"""One observed forward: all maps, tokens and outputs, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda import AttentionRollout
from captum_mda.backward import LibraGrad
from captum_mda.vit import (
    AttentionCapture,
    BiasCapture,
    ConstantParameters,
    find_adapter,
    observe,
    resolve,
    ViTAdapter,
)
from captum_mda.vit.function_mode import RuleMode

VIT = BY_NAME["timm ViT"]


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.modules()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", PARAMETERS)
def test_every_family(case: Case, dtype: torch.dtype) -> None:
    model = build_model(case, dtype)
    adapter = find_adapter(model)
    x = images(case).to(dtype)
    with torch.no_grad():
        untouched = adapter(x)
    before = Snapshot(model)
    seen = observe(adapter, x)
    before.assert_unchanged()
    assert hooks_of(model) == 0
    # transformers' eager attention takes the softmax in float32 whatever the model is.
    single = dtype == torch.float32 or seen.maps[0].dtype == torch.float32
    tolerance = 2e-5 if single else 1e-13
    near = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(seen.outputs, untouched, **near)
    torch.testing.assert_close(adapter.tail(seen.tokens[-1]), untouched, **near)
    n_tokens = case.n_prefix_tokens + case.grid[0] * case.grid[1]
    assert len(seen.maps) == adapter.depth
    assert len(seen.tokens) == adapter.depth + 1
    for attention in seen.maps:
        assert attention.shape[0] == 2
        assert attention.shape[2:] == (n_tokens, n_tokens)
        torch.testing.assert_close(
            attention.sum(dim=-1), torch.ones_like(attention[..., 0])
        )
    # transformers' SigLIP classifier runs its pooler and drops what it says.
    has_pooler = case.pooling == "map" or case.name == "transformers SigLIP classifier"
    assert (seen.pooler is not None) == has_pooler
    if seen.pooler is not None:
        rows = seen.pooler.probabilities.sum(dim=-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


class Nudged(AttentionCapture):
    """Changes one of the maps as soon as it is there."""

    def __init__(self, index: int, change: Tensor) -> None:
        super().__init__()
        self.index, self.change = index, change

    def record(self, probabilities: Tensor, values: Tensor | None = None) -> None:
        if len(self.records) == self.index:
            probabilities.add_(self.change)
        super().record(probabilities, values)


@pytest.mark.parametrize("case", PARAMETERS)
def test_gradients_are_differences_of_outputs(case: Case) -> None:
    """Central differences in float64, in a direction that no symmetry favours."""
    adapter = find_adapter(shared_model(case.name))
    generator = torch.Generator().manual_seed(1)
    x = images(case, 1)
    with ConstantParameters(torch.float64):
        seen = observe(adapter, x)
        gradients = torch.autograd.grad(seen.outputs.square().sum(), seen.maps)
        for index in (0, adapter.depth - 1):
            shape = gradients[index].shape
            direction = torch.randn(shape, generator=generator, dtype=torch.float64)
            scores = []
            for step in (1e-5, -1e-5):
                with torch.no_grad(), Nudged(index, step * direction):
                    scores.append(float(adapter(x).square().sum()))
            slope = (scores[0] - scores[1]) / 2e-5
            wanted = float((gradients[index] * direction).sum())
            assert abs(wanted) > 1e-4
            assert slope == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("case", PARAMETERS)
def test_frozen_parameters(case: Case) -> None:
    """Gradients of all maps are there, and what they are in any case."""
    model = build_model(case)
    adapter = find_adapter(model)
    found = []
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        seen = observe(adapter, images(case, 1))
        found.append(torch.autograd.grad(seen.outputs.sum(), seen.maps))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert len(found[1]) == adapter.depth


@pytest.mark.parametrize("name", ["timm ViT", "torchvision ViT", "timm EVA-02"])
def test_from_a_later_block_on(name: str) -> None:
    """What is seen there is what the whole observation sees."""
    adapter = find_adapter(shared_model(name))
    x = images(BY_NAME[name])
    whole = observe(adapter, x)
    part = observe(adapter, x, first_block=1)
    assert len(part.maps) == 2
    assert len(part.tokens) == 3
    assert part.tokens[0].is_leaf
    torch.testing.assert_close(part.outputs, whole.outputs)
    torch.testing.assert_close(part.maps, whole.maps[1:])
    torch.testing.assert_close(
        torch.autograd.grad(part.outputs.sum(), [*part.maps, *part.tokens]),
        torch.autograd.grad(whole.outputs.sum(), [*whole.maps[1:], *whole.tokens[1:]]),
    )


def test_blocks_before_the_first_observed_one() -> None:
    """They run fused and without a graph."""
    model, fused = build_model(VIT), []
    graphs: list[bool] = []
    for block in model.blocks:
        block.register_forward_hook(
            lambda module, args, output: graphs.append(output.requires_grad)
        )

    def count(func: Any, *args: Any, **kwargs: Any) -> Tensor:
        fused.append(func)
        return func(*args, **kwargs)

    # Attention that is recorded does not reach the modes outside.
    with RuleMode({F.scaled_dot_product_attention: count}):
        observe(find_adapter(model), images(VIT), first_block=2)
    assert graphs == [False, False, True]
    assert len(fused) == 2


def test_without_attention() -> None:
    """Tokens only, by the model's own fused attention: bit for bit."""
    adapter = find_adapter(shared_model("timm ViT"))
    seen = observe(adapter, images(VIT), attention=False)
    assert seen.maps == []
    assert seen.pooler is None
    assert len(seen.tokens) == 4
    assert torch.equal(seen.outputs, adapter(images(VIT)))
    torch.autograd.grad(seen.outputs.sum(), seen.tokens)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: Callable[[], Any]) -> None:
    adapter = find_adapter(shared_model("timm ViT"))
    with mode():
        seen = observe(adapter, images(VIT))
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert not seen.outputs.requires_grad
    torch.testing.assert_close(seen.maps, observe(adapter, images(VIT)).maps)


def test_arguments_behind_the_inputs() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = shared_model("timm ViT")

        def forward(self, inputs: Tensor, scale: float = 1.0) -> Tensor:
            return scale * self.vit(inputs)

    adapter = replace(find_adapter(shared_model("timm ViT")), model=Scaled())
    seen = observe(adapter, images(VIT), 3.0)
    torch.testing.assert_close(seen.outputs, 3 * observe(adapter, images(VIT)).outputs)


def test_biases_and_tokens_add_up_to_the_output() -> None:
    """Under LibraGrad a model is complete behind its tokens (Mehri et al., Def. 1)."""
    model = shared_model("timm DeiT III")
    biases = BiasCapture()
    with LibraGrad(model), biases, ConstantParameters(torch.float64):
        seen = observe(find_adapter(model), images(VIT), attention=False, biases=biases)
    results = [result for result, _ in biases.records]
    # Three blocks with qkv, projection, two norms and two maps; the norm and the head.
    assert len(results) == 3 * 6 + 2
    score = seen.outputs[:, 2].sum()
    to_tokens, *gradients = torch.autograd.grad(score, [seen.tokens[0], *results])
    total = (to_tokens * seen.tokens[0]).sum()
    for (_, bias), gradient in zip(biases.records, gradients, strict=True):
        total = total + (bias * gradient).sum()
    torch.testing.assert_close(total, score, rtol=1e-11, atol=1e-11)


# Errors and threads -------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_remains_after_an_error(error: type[BaseException]) -> None:
    model = build_model(VIT)
    adapter = find_adapter(model)
    wanted = model(images(VIT))

    def fail(module: nn.Module, args: Any, output: Any) -> None:
        raise error("stopped in the middle")

    handle = model.blocks[1].mlp.register_forward_hook(fail)
    before = Snapshot(model)
    with pytest.raises(error, match="stopped in the middle"):
        observe(adapter, images(VIT), first_block=1)
    before.assert_unchanged()
    handle.remove()
    assert hooks_of(model) == 0
    assert torch.equal(model(images(VIT)), wanted)
    assert len(observe(adapter, images(VIT)).maps) == 3


class Elsewhere(nn.Module):
    """Runs a model in a thread of its own, as nn.DataParallel does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, inputs: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.inner, inputs).result()


def test_models_that_run_on_another_thread() -> None:
    """Function modes are local to their thread: said, not passed over."""
    model = shared_model("timm ViT")
    adapter = replace(find_adapter(model), model=Elsewhere(model))
    with pytest.raises(RuntimeError, match=r"saw \[\] .* 3 blocks.* other threads"):
        observe(adapter, images(VIT))
    with pytest.raises(ValueError, match="other threads"):
        resolve(adapter)
    assert hooks_of(model) == 0


def test_two_threads_on_one_model() -> None:
    """Each sees its own forward, though both hook the same blocks."""
    adapter = find_adapter(build_model(VIT))
    inputs = [images(VIT, seed=seed) for seed in range(2)]
    wanted = [observe(adapter, x) for x in inputs]
    start = threading.Barrier(2)

    def watch(index: int) -> None:
        start.wait()
        for _ in range(25):
            seen = observe(adapter, inputs[index], first_block=0)
            torch.testing.assert_close(seen.maps, wanted[index].maps)
            torch.testing.assert_close(seen.outputs, wanted[index].outputs)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(watch, range(2)))
    assert hooks_of(adapter.model) == 0


def test_two_threads_attribute_at_once() -> None:
    method = AttentionRollout(build_model(VIT))
    inputs = [images(VIT, seed=seed) for seed in range(2)]
    wanted = [method.attribute(x) for x in inputs]
    start = threading.Barrier(2)

    def attribute(index: int) -> None:
        start.wait()
        for _ in range(5):
            torch.testing.assert_close(method.attribute(inputs[index]), wanted[index])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(attribute, range(2)))
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3


def test_a_thread_that_leaves_while_another_is_inside_a_block() -> None:
    """The other one's forward has listed the hooks already that are then removed."""
    model = build_model(VIT)
    adapter: ViTAdapter = find_adapter(model)
    main = threading.get_ident()
    listed, left = threading.Event(), threading.Event()

    def wait(module: nn.Module, args: Any) -> None:
        if threading.get_ident() != main:
            listed.set()
            assert left.wait(20)

    def start_the_other(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == main:
            futures.append(pool.submit(model, images(VIT)))
            assert listed.wait(20)

    futures: list[Any] = []
    handles = [
        model.blocks[0].register_forward_pre_hook(wait),
        model.head.register_forward_pre_hook(start_the_other),
    ]
    with ThreadPoolExecutor(1) as pool:
        observe(adapter, images(VIT))
        left.set()
        outputs = futures[0].result()
    for handle in handles:
        handle.remove()
    assert torch.equal(outputs, model(images(VIT)))
