"""Attention in every spelling, read or refused by its cause; what blocks must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_adapter import adapter_of, Block, HandWritten
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import (
    AttentionRollout,
    BidirectionalAttention,
    CausalActivationPatching,
    FullGradPlus,
    LeGrad,
    TokenInputXGradient,
    TransformerInputSampling,
)
from captum_mda.vit import check_adapter, observe, resolve, ViTAdapter
from captum_mda.vit.einsum import values_of_einsum

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q, k, v (B, H, T, d) to what the heads average, in the same shape."""


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


def folded(softmax: Callable[[Tensor], Tensor]) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = [part.flatten(0, 1) for part in (q, k, v)]
        weights = softmax(torch.bmm(flat[0], flat[1].mT) / math.sqrt(q.shape[-1]))
        return torch.bmm(weights, flat[2]).unflatten(0, q.shape[:2])

    return attend


def soft(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=-1)


def exp_over_sum(logits: Tensor) -> Tensor:
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def exp_times_reciprocal(logits: Tensor) -> Tensor:
    weights = torch.exp(logits)
    return weights * weights.sum(dim=-1, keepdim=True).reciprocal()


def masked_exp(logits: Tensor) -> Tensor:
    weights = torch.exp(logits) * torch.ones(logits.shape[-2:])
    return weights / weights.sum(-1)[..., None]


def exp_in_place(logits: Tensor) -> Tensor:
    with torch.no_grad():
        top = logits.amax(dim=-1, keepdim=True)
    weights = torch.exp(logits - top)
    return weights.div(weights.sum(dim=-1, keepdim=True))


def normalized_exp(logits: Tensor) -> Tensor:
    return F.normalize(torch.exp(logits), p=1, dim=-1)


def base_two(logits: Tensor) -> Tensor:
    weights = torch.exp2(logits * math.log2(math.e))
    return weights / weights.sum(dim=-1, keepdim=True)


def log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits, dim=-1).exp()


def explicit(softmax: Callable[[Tensor], Tensor]) -> Attend:
    return lambda q, k, v: softmax(scores(q, k)) @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    logits = torch.einsum("bhxd,bhyd->bhxy", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhxy,bhyd->bhxd", soft(logits), v)


def by_einsum_tokens_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, T, H, d)
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    mixed = torch.einsum("b h q k, b k h d -> b q h d", soft(logits), v)
    return mixed.transpose(1, 2)


def heads_behind_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    logits = torch.einsum("bhqd,bhkd->bqhk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bqhk,bhkd->bhqd", soft(logits), v)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (part.unflatten(1, (2, 1)) for part in (q, k, v))
    return (soft(scores(q, k)) @ v).flatten(1, 2)


def fused_and_folded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    flat = [part.flatten(0, 1) for part in (q, k, v)]
    return F.scaled_dot_product_attention(*flat).unflatten(0, q.shape[:2])


READ: dict[str, Attend] = {
    "softmax": explicit(soft),
    "bmm": folded(soft),
    "SDPA of three dimensions": fused_and_folded,
    "exp over sum": explicit(exp_over_sum),
    "exp over sum by bmm": folded(exp_over_sum),
    "exp times reciprocal": explicit(exp_times_reciprocal),
    "exp with a mask": explicit(masked_exp),
    "exp less a constant": explicit(exp_in_place),
    "exp normalised": explicit(normalized_exp),
    "exp2": explicit(base_two),
    "log-softmax": explicit(log_softmax),
    "log-softmax by bmm": folded(log_softmax),
    "special softmax": explicit(lambda logits: torch.special.softmax(logits, -1)),
    "nn.Softmax": explicit(nn.Softmax(dim=-1)),
    "einsum": by_einsum,
    "einsum, tokens first": by_einsum_tokens_first,
    "einsum, heads behind queries": heads_behind_queries,
    "five dimensions": grouped,
}


def model_with(attend: Attend) -> HandWritten:
    """All blocks attend in the same way; the same weights each time."""

    class Attending(Block):
        def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(q, k, v)

    torch.manual_seed(0)
    model = HandWritten().double()
    for index, layer in enumerate(model.layers):
        model.layers[index] = Attending().double()
        model.layers[index].load_state_dict(layer.state_dict())
    return model.eval()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("spelling", READ)
def test_spellings_that_are_read(spelling: str, frozen: bool) -> None:
    """Maps, gradients and values, equal to those of fused attention."""
    wanted_model = model_with(F.scaled_dot_product_attention)
    model = model_with(READ[spelling]).requires_grad_(not frozen)
    adapter = resolve(adapter_of(model))
    x = torch.randn(3, 1, 6, 4, dtype=torch.float64)
    found = []
    for each in (adapter, adapter_of(wanted_model)):
        seen = observe(each, x)
        gradients = torch.autograd.grad(seen.outputs[:, 1].sum(), seen.maps)
        # The values that were averaged: their products with the maps tell them.
        means = [
            None if record.values is None else record.probabilities @ record.values
            for record in seen.attention
        ]
        found.append((seen.maps, list(gradients), means))
    assert found[0][0][0].shape == (3, 2, 7, 7)
    assert min(float(gradient.abs().max()) for gradient in found[0][1]) > 1e-6
    if spelling in ("einsum, heads behind queries",):
        found = [each[:2] for each in found]  # its values lie in another order
    torch.testing.assert_close(*found)
    for method in (LeGrad, AttentionRollout):
        maps = [
            method(each).attribute(x, target=1)
            for each in (adapter, adapter_of(wanted_model))
        ]
        torch.testing.assert_close(*maps)


def test_values_by_einsum_serve_methods() -> None:
    x = torch.randn(2, 1, 6, 4, dtype=torch.float64)
    maps = [
        BidirectionalAttention(adapter_of(model_with(attend))).attribute(x, target=1)
        for attend in (by_einsum, folded(soft), F.scaled_dot_product_attention)
    ]
    torch.testing.assert_close(maps[0], maps[2])
    torch.testing.assert_close(maps[1], maps[2])


@pytest.mark.parametrize(
    ("equation", "shape", "wanted"),
    [
        ("bhqk,bhkd->bhqd", (2, 3, 5, 4), (2, 3, 5, 4)),
        ("b h q k, b k h d -> b q h d", (2, 5, 3, 4), (2, 3, 5, 4)),
        ("...qk,...kd->...qd", (2, 3, 5, 4), (2, 3, 5, 4)),
        ("bhqk,dkhb->bqhd", (4, 5, 3, 2), (2, 3, 5, 4)),
        ("bhqk,bhqd->bhkd", (2, 3, 5, 4), None),  # averages queries, not keys
        ("bhqk,bhk->bhq", (2, 3, 5), None),
    ],
)
def test_values_of_einsum(
    equation: str, shape: tuple[int, ...], wanted: tuple[int, ...] | None
) -> None:
    maps, values = torch.randn(2, 3, 5, 5), torch.randn(shape)
    found = values_of_einsum(equation, [maps, values], maps)
    assert (found is None) == (wanted is None)
    if found is not None and "->" in equation:
        assert found.shape == wanted
        mixed = torch.einsum(equation, maps, values)
        names = equation.replace(" ", "").split("->")[1].replace("...", "bh")
        order = [names.index(name) for name in "bhqd"]
        torch.testing.assert_close(mixed.permute(order), maps @ found)


# Refused by name ----------------------------------------------------------------------


def head_by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.stack(
        [
            soft(scores(q[:, head], k[:, head])) @ v[:, head]
            for head in range(q.shape[1])
        ],
        dim=1,
    )


def head_by_head_kept(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = zip(q.split(1, 1), k.split(1, 1), v.split(1, 1), strict=True)
    return torch.cat([soft(scores(*each[:2])) @ each[2] for each in heads], dim=1)


def image_by_image(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = [
        torch.stack(
            [soft(scores(q[i, h], k[i, h])) @ v[i, h] for h in range(q.shape[1])]
        )
        for i in range(len(q))
    ]
    return torch.stack(rows)


def heads_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Folded as (H * B, T, T), as the first Transformer's code did."""
    flat = [part.transpose(0, 1).flatten(0, 1) for part in (q, k, v)]
    mixed = soft(scores(flat[0], flat[1])) @ flat[2]
    return mixed.unflatten(0, (q.shape[1], len(q))).transpose(0, 1)


def heads_first_unfolded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    return (soft(scores(q, k)) @ v).transpose(0, 1)


def sigmoid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.sigmoid(scores(q, k) - math.log(q.shape[2])) @ v


def squared_relu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.relu(scores(q, k)).square() @ v


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return (q @ (k.mT @ v)) / (q @ k.sum(dim=-2)[..., None])


def over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), dim=-2) @ v


def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return explicit(soft)(q, k, v) + explicit(soft)(k, q, v)


REFUSED: dict[str, tuple[Attend, str]] = {
    "one head at a time": (head_by_head, "one head at a time"),
    "one head at a time, kept": (head_by_head_kept, "one head at a time"),
    "one image at a time": (image_by_image, "one head at a time"),
    "heads before the batch": (heads_first, r"heads \* B, T, T"),
    "heads before the batch, unfolded": (
        heads_first_unfolded,
        "batch before the heads",
    ),
    "sigmoid": (sigmoid, r"made by a sigmoid, whose rows do not sum to 1"),
    "relu": (squared_relu, r"made by a relu, whose rows do not sum to 1"),
    "linear": (linear, r"without a softmax \(linear attention\)"),
    "over queries": (over_queries, r"sum to 1 only within .* another dimension"),
    "twice": (twice, r"saw \[2, 2, 2\] .*several attentions"),
}
WITHOUT_ATTENTION: list[Callable[[ViTAdapter], Any]] = [
    CausalActivationPatching,
    FullGradPlus,
    TokenInputXGradient,
    lambda adapter: TransformerInputSampling(adapter, n_masks=4),
]


@pytest.mark.parametrize("spelling", REFUSED)
def test_spellings_that_are_refused_by_name(spelling: str) -> None:
    attend, message = REFUSED[spelling]
    with pytest.raises(ValueError, match=message):
        resolve(adapter_of(model_with(attend)))


@pytest.mark.parametrize("spelling", REFUSED)
def test_methods_that_read_no_attention_run(spelling: str) -> None:
    adapter = adapter_of(model_with(REFUSED[spelling][0]))
    x = torch.randn(2, 1, 6, 4, dtype=torch.float64)
    for make in WITHOUT_ATTENTION:
        assert make(adapter).attribute(x, target=1).shape == (2, 1, 6, 4)
    check_adapter(adapter, attention=False)


# What blocks are ----------------------------------------------------------------------


class Pair(nn.Module):
    """A residual attention and a residual MLP that are not one module."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Block()
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))


class Listed(HandWritten):
    """As vit-pytorch builds it: a list of lists, of which only the parts are called."""

    def __init__(self) -> None:
        super().__init__()
        pairs = (Pair() for _ in range(3))
        self.pairs = nn.ModuleList(
            nn.ModuleList([pair.attention, pair.mlp]) for pair in pairs
        )

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        for attention, mlp in self.pairs:
            tokens = attention(tokens)
            tokens = tokens + mlp(tokens)
        return self.head(tokens[:, 0])


class Encoder(HandWritten):
    """Of `nn.TransformerEncoder`, tokens before the batch or behind it."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.layers = self.encoder.layers

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        if self.encoder.layers[0].self_attn.batch_first:
            return self.head(self.encoder(tokens)[:, 0])
        return self.head(self.encoder(tokens.transpose(0, 1))[0])


class Crops(HandWritten):
    """Runs its transformer on both halves of an image, as one batch."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.unflatten(3, (2, 2)).movedim(3, 1).flatten(0, 1))


class Mirrored(HandWritten):
    """Averages over the image and its mirror image, one after the other."""

    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) + super().forward(images.flip(-1))) / 2


def listed_as_blocks() -> ViTAdapter:
    model = Listed().eval()
    return replace(adapter_of(model), blocks=tuple(model.pairs))


def attention_as_blocks() -> ViTAdapter:
    model = Listed().eval()
    return replace(adapter_of(model), blocks=tuple(pair[0] for pair in model.pairs))


def idle_blocks() -> ViTAdapter:
    model = HandWritten().eval()
    return replace(adapter_of(model), blocks=(*model.layers, Block()))


def other_order() -> ViTAdapter:
    model = HandWritten().eval()
    return replace(adapter_of(model), blocks=tuple(model.layers)[::-1])


def some_blocks() -> ViTAdapter:
    model = HandWritten().eval()
    return replace(adapter_of(model), blocks=tuple(model.layers)[:2])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            listed_as_blocks,
            r"\(ModuleList\).*never run .*never called itself",
        ),
        (
            attention_as_blocks,
            r"blocks\[0\] \(Block\) returns is not .* parts",
        ),
        (idle_blocks, r"blocks\[3\] \(Block\) of its adapter never run"),
        (other_order, "its blocks run in another order"),
        (some_blocks, "the adapter's tail differs .* must repeat all"),
        (
            lambda: adapter_of(Encoder(batch_first=False).eval()),
            r"\(7, 1, 8\) for one image: the batch comes second \(batch_first=False\)",
        ),
        (lambda: adapter_of(Crops().eval()), r"\(2, \d, 8\) for one image, takes one"),
        (lambda: adapter_of(Mirrored().eval()), r"blocks\[0\] ran 2 times"),
    ],
)
def test_adapters_refused_by_their_cause(
    build: Callable[[], ViTAdapter], message: str
) -> None:
    torch.manual_seed(0)
    adapter = build()
    for attention in (True, False):
        with pytest.raises(ValueError, match=message):
            check_adapter(adapter, attention)


def test_a_transformer_encoder_with_the_batch_first() -> None:
    """Its fast path takes no hooks: it is run without."""
    torch.manual_seed(0)
    model = Encoder(batch_first=True).eval()
    adapter = resolve(
        replace(adapter_of(model), feature_layer=model.encoder.layers[-1].norm1)
    )
    x = torch.randn(2, 1, 6, 4)
    assert LeGrad(adapter).attribute(x, target=1).any()
    CausalActivationPatching(adapter).attribute(x, target=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"class_index": 1, "n_prefix_tokens": 1},
            "depends on token 0, .* is token 1;",
        ),
        ({"pooling": "avg"}, r"depends on token 0, .* is 6 tokens \(1, 2, 3, ...\);"),
    ],
)
def test_pooling_of_other_tokens(wrong: dict[str, Any], message: str) -> None:
    torch.manual_seed(0)
    adapter = adapter_of(HandWritten().eval())
    with pytest.raises(ValueError, match=message):
        resolve(replace(adapter, **wrong))
    # Tokens that are said to be read and are not, beside one that is: a head may
    # have a weight of 0.
    resolve(replace(adapter, pooling="cls+avg"))


def test_pooling_is_not_looked_for_where_nothing_is_differentiable() -> None:
    model = HandWritten().eval()
    adapter = adapter_of(model)
    resolve(replace(adapter, tail=lambda tokens: adapter.tail(tokens).detach()))


@pytest.mark.parametrize("attention", [True, False])
def test_a_tail_that_is_not_a_number(attention: bool) -> None:
    model = HandWritten().eval()
    adapter = adapter_of(model)
    bad = replace(adapter, tail=lambda tokens: adapter.tail(tokens) * torch.nan)
    with pytest.raises(ValueError, match=r"adapter's tail differs .* by nan"):
        check_adapter(bad, attention)
    model.head.bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"output for an example input .* is NaN"):
        check_adapter(adapter, attention)


@pytest.mark.parametrize("during", [1, 2, 3])
@pytest.mark.parametrize(
    "error",
    [
        getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)("CUDA out of"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_in_the_check_passes_as_it_is(
    error: RuntimeError, during: int
) -> None:
    """In the model's own forward, under observation, and in the tail."""
    model, calls = HandWritten().eval(), 0

    def run_out(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == during:
            raise error

    model.head.register_forward_pre_hook(run_out)
    with pytest.raises(type(error)) as raised:
        resolve(adapter_of(model))
    assert raised.value is error
