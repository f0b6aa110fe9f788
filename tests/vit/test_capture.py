"""Attention maps as a model computes them, with their values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda.vit import AttentionCapture, find_adapter, observe
from captum_mda.vit.function_mode import RuleMode
from captum_mda.vit.multihead import attention_probabilities

Q, K, V = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)  # (B, H, T, d) each


@contextmanager
def hooked(model: nn.Module) -> Iterator[list[Tensor]]:
    """The maps as forward hooks see them: only where attention is not fused."""
    maps: list[Tensor] = []
    handles = [
        block.attn.attn_drop.register_forward_hook(
            lambda module, args, output: maps.append(output)
        )
        for block in model.blocks
    ]
    yield maps
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("fused", [False, True])
def test_maps_and_gradients_are_those_of_hooks(fused: bool) -> None:
    x = images(BY_NAME["timm ViT"]).double()
    unfused = build_model(BY_NAME["timm ViT un-fused"], torch.float64)
    with hooked(unfused) as wanted:
        outputs = unfused(x)
    gradients = torch.autograd.grad(outputs[:, 1].sum(), wanted)
    model = build_model(BY_NAME["timm ViT"], torch.float64) if fused else unfused
    with AttentionCapture() as capture:
        captured_outputs = model(x)
    maps = [record.probabilities for record in capture.records]
    captured = torch.autograd.grad(captured_outputs[:, 1].sum(), maps)
    tolerance = 1e-13 if fused else 0.0
    near = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(captured_outputs, outputs, **near)
    torch.testing.assert_close(maps, wanted, **near)
    torch.testing.assert_close(captured, gradients, **near)
    assert min(gradient.abs().max() for gradient in gradients) > 1e-3


@pytest.mark.parametrize("case", PARAMETERS)
def test_maps_times_values_reach_the_output_projection(case: Case) -> None:
    """Which is a linear map of what attention averaged, in every family."""
    adapter = find_adapter(shared_model(case.name))
    weights = [adapter.output_projection(index) for index in range(adapter.depth)]
    averaged: list[Tensor] = []

    def note(func: Any, x: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
        if any(weight is wanted for wanted in weights):
            averaged.append(x)
        return func(x, weight, bias)

    with torch.no_grad(), RuleMode({F.linear: note}):
        seen = observe(adapter, images(case))
    assert len(seen.attention) == len(averaged) == adapter.depth
    for record, wanted in zip(seen.attention, averaged, strict=True):
        assert record.values is not None
        mixed = (record.probabilities @ record.values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, wanted.reshape(mixed.shape))


def test_maps_and_values_of_multihead_attention() -> None:
    """Against the module's own answer, and the third part of its projection."""
    model = shared_model("torchvision ViT")
    entered: list[Tensor] = []
    handles = [
        block.ln_1.register_forward_hook(lambda module, args, out: entered.append(out))
        for block in model.encoder.layers
    ]
    x = images(BY_NAME["torchvision ViT"])
    with torch.no_grad(), AttentionCapture() as capture:
        model(x)
    for handle in handles:
        handle.remove()
    assert len(capture.records) == 3
    for block, tokens, record in zip(
        model.encoder.layers, entered, capture.records, strict=True
    ):
        module = block.self_attention
        with torch.no_grad():
            _, attention = module(tokens, tokens, tokens, average_attn_weights=False)
            projected = F.linear(tokens, module.in_proj_weight, module.in_proj_bias)
        values = projected[..., 48:].reshape(2, 17, 3, 8).transpose(1, 2)
        torch.testing.assert_close(record.probabilities, attention)
        torch.testing.assert_close(record.values, values)


@pytest.mark.parametrize("name", ["ViT", "CLIP", "SigLIP"])
def test_fused_and_eager_attention_of_transformers(name: str) -> None:
    """Maps, values and gradients, and the pooler's behind them."""
    case = BY_NAME[f"transformers {name}"]
    found = []
    for attention in ("sdpa", "eager"):
        model = build_model(case)
        model.set_attn_implementation(attention)
        adapter = find_adapter(model)
        seen = observe(adapter, images(case))
        records = seen.attention + ([seen.pooler] if seen.pooler else [])
        maps = [record.probabilities for record in records]
        gradients = torch.autograd.grad(seen.outputs[:, 0].sum(), maps)
        values = [record.values for record in records[:3]]
        found.append((maps, values, gradients))
    near = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(*found, **near)


MASK = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": MASK.expand(2, 4, 5, 5)},
        {"attn_mask": MASK.abs() < 2},
        {"attn_mask": MASK.masked_fill(MASK > 1, -math.inf)},
    ],
)
def test_probabilities_of_fused_attention(options: dict[str, Any]) -> None:
    """Fused attention of a unit matrix returns its probabilities."""
    unit = torch.eye(5, dtype=torch.float64).expand(2, 4, 5, 5)
    wanted = F.scaled_dot_product_attention(Q, K, unit, **options)
    torch.testing.assert_close(attention_probabilities(Q, K, **options), wanted)
    with AttentionCapture() as capture:
        mixed = F.scaled_dot_product_attention(Q, K, V, **options)
    torch.testing.assert_close(capture.records[0].probabilities, wanted)
    assert capture.records[0].values is V
    torch.testing.assert_close(
        mixed, F.scaled_dot_product_attention(Q, K, V, **options)
    )


def test_grouped_queries() -> None:
    with AttentionCapture() as capture:
        mixed = F.scaled_dot_product_attention(Q, K[:, :2], V[:, :2], enable_gqa=True)
    wanted = F.scaled_dot_product_attention(Q, K[:, :2], V[:, :2], enable_gqa=True)
    torch.testing.assert_close(mixed, wanted)
    assert capture.records[0].probabilities.shape == (2, 4, 5, 5)
    assert capture.records[0].values.shape == V.shape


def test_what_is_not_recorded() -> None:
    """Attention without heads, a softmax over classes, and all while inactive."""
    with AttentionCapture() as capture:
        flat = F.scaled_dot_product_attention(Q[0], K[0], V[0])
        torch.softmax(Q[0], dim=-1)
        capture.active = False
        F.scaled_dot_product_attention(Q, K, V)
        F.scaled_dot_product_attention(Q, K[:, :2], V[:, :2], enable_gqa=True)
        torch.softmax(Q, dim=-1)
        assert capture.records == []
        capture.active = True
        torch.softmax(Q, dim=-1)
    assert len(capture.records) == 1
    assert torch.equal(flat, F.scaled_dot_product_attention(Q[0], K[0], V[0]))
    F.scaled_dot_product_attention(Q, K, V)
    assert len(capture.records) == 1


@pytest.mark.parametrize(
    "mix",
    [
        lambda attention, v: attention @ v,
        torch.matmul,
        lambda attention, v: attention.matmul(v),
        lambda attention, v: F.dropout(attention, 0.0) @ v,
        lambda attention, v: attention.to(torch.float32).to(v.dtype) @ v,
    ],
)
@pytest.mark.parametrize(
    "softmax", [torch.softmax, F.softmax, lambda x, dim: x.softmax(dim=dim)]
)
def test_explicit_attention(
    softmax: Callable[..., Tensor], mix: Callable[[Tensor, Tensor], Tensor]
) -> None:
    with AttentionCapture() as capture:
        attention = softmax(Q @ K.transpose(-2, -1), dim=-1)
        mix(attention, V)
        attention @ K  # only the first product is with the values
    (record,) = capture.records
    assert record.probabilities is attention
    assert record.values is V


@pytest.mark.parametrize("name", ["timm ViT", "transformers ViT eager"])
def test_frozen_models(name: str) -> None:
    """Maps have gradients also where nothing before them does."""
    case = BY_NAME[name]
    model = build_model(case)
    found = []
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        with AttentionCapture() as capture:
            outputs = find_adapter(model)(images(case))
        maps = [record.probabilities for record in capture.records]
        found.append(torch.autograd.grad(outputs[:, 0].sum(), maps))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert min(gradient.abs().max() for gradient in found[1]) > 0
    with torch.no_grad(), AttentionCapture() as capture:
        model(images(case))
    assert not any(record.probabilities.requires_grad for record in capture.records)


def test_dropout_of_training_is_honoured() -> None:
    """Maps are recorded before dropout; what goes on is what dropout left."""
    with AttentionCapture() as capture:
        none = F.scaled_dot_product_attention(Q, K, V, dropout_p=1.0)
        torch.manual_seed(0)
        half = F.scaled_dot_product_attention(Q, K, V, dropout_p=0.5)
    assert not none.any()
    recorded = capture.records[1].probabilities
    torch.testing.assert_close(recorded.sum(dim=-1), torch.ones_like(recorded[..., 0]))
    torch.manual_seed(0)
    torch.testing.assert_close(half, F.dropout(recorded, 0.5) @ V)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_dropout_of_a_model(library: str) -> None:
    """Of attention only, so that all of it dropped leaves no trace of the values."""
    if library == "timm":
        from timm.layers import Attention

        module = Attention(8, 2, attn_drop=1.0)
        output, projection = module, module.proj
    else:
        module = nn.MultiheadAttention(8, 2, dropout=1.0, batch_first=True)
        projection = module.out_proj
        nn.init.ones_(projection.bias)
        output = lambda x: module(x, x, x, need_weights=False)[0]  # noqa: E731
    x = torch.randn(1, 3, 8)
    with AttentionCapture() as capture:
        dropped = output(x)
        module.eval()
        kept = output(x)
    assert len(capture.records) == 2
    torch.testing.assert_close(dropped, projection.bias.expand(1, 3, 8))
    torch.testing.assert_close(kept, output(x))
    assert (kept - dropped).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """The softmax is taken in single precision, as fused kernels take it."""
    q, k, v = (3 * tensor.to(dtype) for tensor in (Q, K, V))
    with AttentionCapture() as capture:
        mixed = F.scaled_dot_product_attention(q, k, v)
    assert mixed.dtype == capture.records[0].probabilities.dtype == dtype
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    error = (mixed.double() - exact).abs().max() / exact.abs().max()
    assert error < 8 * torch.finfo(dtype).eps
