"""Transformer attribution: relevance walked back by hand, conservation, precision."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal_vit import gradients, linear_vit, LiteralVit, Pass, Score, shared_vit
from torch import nn, Tensor
from vit_models import (
    build_model,
    BY_NAME,
    Case,
    CASES,
    images,
    PARAMETERS,
    shared_model,
)

from captum_mda import TransformerAttribution
from captum_mda.attr.transformer_attribution import _product_without_identity
from captum_mda.backward import RelevancePropagation
from captum_mda.vit import find_adapter

DEPTH, CLASSES = 3, 5
RELEVANCE_CASES = (
    "timm ViT",
    "timm ViT average",
    "timm ViT not square",
    "timm DINOv2 registers",
)


# --- the rules of Chefer et al., walked backwards ------------------------------------


def divide(a: Tensor, b: Tensor) -> Tensor:
    """0 where b is exactly 0, else with epsilon."""
    return torch.where(b == 0, 0.0, a / (b + 1e-9))


def through_linear(x: Tensor, weight: Tensor, r: Tensor) -> Tensor:
    """By the products of equal sign; biases take nothing."""
    total = torch.zeros_like(r)
    for sign in (1, -1):
        total += (sign * x).clamp(min=0) @ (sign * weight).clamp(min=0).T
    share, relevance = divide(r, total), torch.zeros_like(x)
    for sign in (1, -1):
        part = (sign * x).clamp(min=0)
        relevance += part * (share @ (sign * weight).clamp(min=0))
    return relevance


def through_sum(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """By value, then scaled to the branches' shares of the absolute totals."""
    to_a, to_b = (divide(r, a + b) * branch for branch in (a, b))
    size_a, size_b = to_a.sum().abs(), to_b.sum().abs()
    wanted_a = divide(size_a, size_a + size_b) * r.sum()
    wanted_b = divide(size_b, size_a + size_b) * r.sum()
    return to_a * divide(wanted_a, to_a.sum()), to_b * divide(wanted_b, to_b.sum())


def through_product(a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Of matrices a @ b: half to each, by contribution."""
    share = divide(r, a @ b)
    return a * (share @ b.transpose(1, 2)) / 2, b * (a.transpose(1, 2) @ share) / 2


def through_block(vit: LiteralVit, index: int, r: Tensor) -> tuple[Tensor, Tensor]:
    """From a block's output to its attention and its input."""
    b, name = vit.seen.blocks[index], f"blocks.{index}"
    weight = {
        part: vit.p[f"{name}.{part}.weight"]
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    to_mid, branch = through_sum(b["mid"], b["out2"], r)
    branch = through_linear(b["hidden"], weight["mlp.fc2"], branch)
    to_mid = to_mid + through_linear(b["norm2"], weight["mlp.fc1"], branch)
    to_in, branch = through_sum(b["in"], b["out1"], to_mid)
    branch = vit.heads(through_linear(b["mixed"], weight["attn.proj"], branch))
    attention, to_v = through_product(b["A"], b["v"], branch)
    to_q, to_k = through_product(b["q"], b["k"].transpose(1, 2), attention)
    parts = (to_q, to_k.transpose(1, 2), to_v)
    to_qkv = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)
    to_in = to_in + through_linear(b["norm1"], weight["attn.qkv"], to_qkv)
    return attention, to_in


def relevances(vit: LiteralVit, seen: Pass, start: Tensor) -> list[Tensor]:
    """R of every attention, from the first block to the last, and of the tokens."""
    pooled = vit.norm(seen.pooled, "fc_norm")
    r = through_linear(pooled, vit.p["head.weight"], start)
    tokens = torch.zeros_like(seen.normed)
    if vit.pooling == "avg":  # a mean is a linear map: by value
        patches = seen.normed[vit.n_prefix :]
        tokens[vit.n_prefix :] = patches * divide(r, patches.sum(0))
    else:
        tokens[0] = r
    found: list[Tensor] = []
    for index in reversed(range(vit.depth)):
        attention, tokens = through_block(vit, index, tokens)
        found.insert(0, attention)
    return [*found, tokens]


def literal_map(
    vit: LiteralVit,
    image: Tensor,
    score: Score,
    variant: str,
    start: int,
    relevant: Score | None = None,
) -> Tensor:
    """From the relevance of the outputs, the slope of ``relevant`` or of the score."""
    seen = vit(image)
    slopes = gradients(seen, score, seen.maps)
    (seed,) = gradients(seen, relevant or score, [seen.outputs])
    with torch.no_grad():
        relevance = relevances(vit, seen, seed)[:-1]
        product = alone = identity = torch.eye(len(seen.read), dtype=torch.float64)
        for slope, r in list(zip(slopes, relevance, strict=True))[start:]:
            factor, own = (slope * r).clamp(min=0).mean(0) + identity, identity
            if variant == "mda":
                total = factor.sum(1, keepdim=True)
                factor, own = factor / total, own / total
            product, alone = factor @ product, own @ alone
        if vit.pooling == "avg":  # the identities alone give each patch its weight
            product = product - alone
        return (seen.read @ product)[vit.n_prefix :]


# --- the formula ---------------------------------------------------------------------


def grids(model: nn.Module, x: Tensor, target: Any, **options: Any) -> Tensor:
    method = TransformerAttribution(model, **options)
    return method.attribute(x, target, interpolate_mode=None)


def inputs(case: str = "timm ViT", n: int = 2) -> Tensor:
    return images(BY_NAME[case], n).double()


def assert_close(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within a share of how much the expected map varies."""
    scale = float(expected.max() - expected.min())
    assert scale > 0
    assert float((ours.double() - expected).abs().max()) <= tolerance * scale


# The rules divide by sums near 0: the same examples each time.
@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("variant", ["mda", "original"])
@pytest.mark.parametrize("case", RELEVANCE_CASES)
@settings(deadline=None, max_examples=2, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    targets=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=2),
    start=st.integers(0, DEPTH - 1),
)
def test_a_map_is_the_formula(
    case: str, variant: str, weight: float, seed: int, targets: list[int], start: int
) -> None:
    """Of a class, or of a score with slopes 1 and a half at two outputs."""
    model, vit = shared_vit(case), LiteralVit(shared_vit(case))
    x = images(BY_NAME[case], len(targets), seed).double()

    def mixed(outputs: Tensor) -> Tensor:
        rows = zip(outputs, targets, strict=True)
        return torch.stack([row[c] + weight * row[c - 1] for row, c in rows])

    target = mixed if weight else targets
    ours = grids(model, x, target, variant=variant, start_layer=start)
    for row, image, c in zip(ours, x, targets, strict=True):

        def score(outputs: Tensor, c: int = c) -> Tensor:
            return outputs[c] + weight * outputs[c - 1]

        expected = literal_map(vit, image, score, variant, start)
        assert_close(row.flatten(), expected, 1e-8)


def test_a_probability_changes_the_gradients_and_not_the_relevance() -> None:
    """Its slopes sum to 0; relevance that started there would be rounding errors."""
    model, vit, x = shared_vit("timm ViT"), LiteralVit(shared_vit("timm ViT")), inputs()
    ours = grids(model, x, 1, score="softmax")
    for row, image in zip(ours, x, strict=True):
        expected = literal_map(
            vit, image, lambda o: o.softmax(0)[1], "mda", 0, lambda o: o[1]
        )
        assert_close(row.flatten(), expected, 1e-8)
    assert (ours.amax(dim=(1, 2, 3)) > 1e-8).all()


def test_two_tokens_by_hand() -> None:
    """A positive linear model: half of the relevance, 1, is at the one attention.

    Its gradient is twice the logit s, so that C = s: the map is s, or normalised
    s / (1 + s).
    """
    model = linear_vit((1, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    logit = model(x)[0, 2].item()
    assert logit > 1e-2
    mda, original = (
        grids(model, x, 2, variant=variant).item() for variant in ("mda", "original")
    )
    assert original == pytest.approx(logit, rel=1e-6)
    assert mda == pytest.approx(logit / (1 + logit), rel=1e-6)


@pytest.mark.parametrize("variant", ["mda", "original"])
def test_an_example_does_not_depend_on_its_batch(variant: str) -> None:
    """Totals of residual sums are taken in each example."""
    model, x, order = shared_vit("timm ViT"), inputs(n=4), [2, 0, 3, 1]
    targets = [3, 0, 4, 1]
    whole = grids(model, x, targets, variant=variant)
    moved = grids(model, x[order], [targets[i] for i in order], variant=variant)
    for index, row in enumerate(x):
        alone = grids(model, row[None], targets[index], variant=variant)
        assert_close(alone[0], whole[index], 1e-9)
        assert_close(moved[order.index(index)], whole[index], 1e-9)


def test_a_constant_score_has_an_empty_map() -> None:
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    with torch.no_grad():
        model.head.weight[2] = 0
    for variant in ("mda", "original"):
        assert not grids(model, inputs(), 2, variant=variant).any()


# --- variants ----------------------------------------------------------------------


def test_the_variants_differ_in_their_rows_and_in_where_they_begin() -> None:
    model, x = shared_vit("timm ViT"), inputs()
    maps = {
        (variant, start): grids(model, x, 1, variant=variant, start_layer=start)
        for variant in ("mda", "original")
        for start in (0, 1)
    }
    assert torch.equal(grids(model, x, 1), maps["mda", 0])
    assert torch.equal(grids(model, x, 1, variant="original"), maps["original", 1])
    found = list(maps.values())
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            assert float((one - other).abs().max()) > 1e-6 * float(one.max())
    assert TransformerAttribution(linear_vit(depth=1), "original").start_layer == 0


@pytest.mark.parametrize("variant", ["mda", "original"])
@pytest.mark.parametrize("name", [c.name for c in CASES if c.pooling != "cls"])
def test_maps_of_pooled_models_are_not_flat(name: str, variant: str) -> None:
    """Next to the identity's own share, relevance is lost in float32."""
    target = 3  # to which something contributes in CoCa's pooler of five numbers, too
    ours = grids(shared_model(name), images(BY_NAME[name]), target, variant=variant)
    ours = ours.flatten(1).double()
    assert ((ours.amax(1) - ours.amin(1)) / ours.mean(1) > 0.1).all()
    assert (ours >= 0).all()
    assert all(len(row.unique()) == len(row) for row in ours)
    if variant == "mda":  # rows share out one, of which the identity has the most
        assert (ours.sum(dim=1) < 0.5).all()


@pytest.mark.parametrize("size", [1e-3, 1e-9])
def test_little_relevance_is_exact_beside_the_identity(size: float) -> None:
    """To first order in small factors C, what remains of the product is their sum."""
    generator = torch.Generator().manual_seed(0)
    factors = [
        torch.rand(2, 4, 4, generator=generator, dtype=torch.float64) * size
        for _ in range(3)
    ]
    whole = identity = torch.eye(4, dtype=torch.float64)
    for factor in factors:
        whole = (factor + identity) @ whole
    found = _product_without_identity(factors, normalized=False)
    torch.testing.assert_close(found, whole - identity, rtol=1e-6, atol=1e-15)
    first_order = factors[0] + factors[1] + factors[2]
    torch.testing.assert_close(found, first_order, rtol=20 * size + 1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variant": "new"}, ValueError, "variant: got 'new'"),
        ({"start_layer": 3}, ValueError, "start_layer: got 3"),
        ({"start_layer": 1.0}, TypeError, "start_layer: got 1.0"),
        ({"dtype": torch.float16}, ValueError, "dtype: got torch.float16"),
        ({"dtype": None}, ValueError, "dtype: got None"),
    ],
)
def test_settings_that_do_not_exist_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TransformerAttribution(shared_vit("timm ViT"), **options)


# --- relevance and precision ---------------------------------------------------------


@pytest.mark.parametrize("case", PARAMETERS)
def test_all_relevance_arrives_at_the_first_block(case: Case) -> None:
    """In each example, whatever the others' is.

    What a linear map loses, where none of an output's products is positive, is not met
    here.
    """
    model, x = build_model(case), images(case)
    tokens: list[Tensor] = []
    adapter = find_adapter(model)

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        tokens.append(args[0] if args else kwargs["hidden_states"])

    handle = adapter.blocks[0].register_forward_pre_hook(keep, with_kwargs=True)
    with RelevancePropagation(model):
        outputs = adapter(x.requires_grad_())
        seed = torch.zeros_like(outputs)
        seed[0, 1], seed[1, 3] = 1.0, -3.0
        (relevance,) = torch.autograd.grad(outputs, tokens, seed)
    handle.remove()
    assert relevance.dtype == torch.float64
    assert relevance.sum(dim=(1, 2)).tolist() == pytest.approx([1, -3], abs=1e-5)
    assert float(relevance.abs().max()) > 1e-3


@pytest.mark.parametrize("case", PARAMETERS)
def test_the_model_computes_in_float64_whatever_its_parameters_are(case: Case) -> None:
    model, x = build_model(case), images(case)
    ours = grids(model, x, 1)
    assert ours.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    double = grids(deepcopy(model).double(), x.double(), 1)
    assert double.dtype == torch.float64
    for row, expected in zip(ours, double, strict=True):
        error = float((row.double() - expected).abs().max())
        assert error <= 1e-6 * float(expected.max())


def test_models_in_half_precision_are_explained_in_float64_too() -> None:
    model = build_model(BY_NAME["timm ViT"]).bfloat16()
    x = images(BY_NAME["timm ViT"]).bfloat16()
    ours = grids(model, x, 1)
    assert ours.dtype == torch.float32
    double = grids(deepcopy(model).double(), x.double(), 1)
    torch.testing.assert_close(ours, double.float(), rtol=1e-5, atol=1e-7)


def test_float32_is_there_for_devices_without_float64() -> None:
    model, x = build_model(BY_NAME["timm ViT"]), images(BY_NAME["timm ViT"])
    single, double = grids(model, x, 1, dtype=torch.float32), grids(model, x, 1)
    assert not torch.equal(single, double)
    for row, expected in zip(single, double, strict=True):
        assert_close(row, expected, 1e-2)


# --- what has no rule ----------------------------------------------------------------


class Cube(torch.autograd.Function):
    """An activation as another library's kernel might compute it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Activation(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.function(x)
        return activated


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Cube.apply, "relevance arrives at Cube, which has no relevance rule"),
        (lambda x: torch.prod(x[..., None], -1), "relevance arrives at torch.prod"),
        (lambda x: torch.fft.fft(x).abs(), r"relevance arrives at torch.fft.fft"),
        # Entries move only, but constants take the place of some.
        (
            lambda x: torch.where(x > 0, x, 1.0),
            r"example 0.* reached block 0.*at Where",
        ),
        (lambda x: x.masked_fill(x < 0, 1.0), r"example 0.*at MaskedFill"),
    ],
)
def test_there_is_no_map_where_relevance_is_not_kept(
    function: Any, message: str
) -> None:
    model: Any = build_model(BY_NAME["timm ViT"])
    model.blocks[1].mlp.act = Activation(function)
    with pytest.raises(ValueError, match=f"^model: .*{message}"):
        TransformerAttribution(model).attribute(images(BY_NAME["timm ViT"]), target=1)


def test_a_linear_map_that_ends_relevance_is_told_of() -> None:
    """The published rule gives nothing where no product is positive."""
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    keeps = Activation(lambda x: x.abs())
    model.blocks[1].mlp.act = keeps
    with torch.no_grad():
        model.blocks[1].mlp.fc2.weight[3] = -1.0
    with pytest.warns(UserWarning, match="relevance 1 left the output and .* ended"):
        grids(model, inputs(), 1)
