"""Adapters: what they say of tokens, and how those of one's own are checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda.vit import observe, resolve, ViTAdapter


def bare_adapter(**settings: Any) -> ViTAdapter:
    """An adapter whose model is not asked."""
    model = nn.Linear(2, 2)
    needed: dict[str, Any] = {
        "model": model,
        "blocks": (model,),
        "n_prefix_tokens": 2,
        "pooling": "cls",
        "tail": model,
        "patch_grid": lambda inputs: (1, 2),
        "output_projection": lambda index: model.weight,
        "feature_layer": model,
    }
    return ViTAdapter(**(needed | settings))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"class_index": 0}, [1, 0, 0, 0]),
        ({"class_index": 1}, [0, 1, 0, 0]),
        ({"class_index": 0, "distillation_index": 1}, [0.5, 0.5, 0, 0]),
        ({"pooling": "avg"}, [0, 0, 0.5, 0.5]),
        ({"pooling": "avg", "pools_prefix": True}, [0.25, 0.25, 0.25, 0.25]),
        ({"pooling": "avg", "n_prefix_tokens": 0}, [0.25, 0.25, 0.25, 0.25]),
        ({"pooling": "cls+avg", "class_index": 0}, [0.5, 0, 0.25, 0.25]),
    ],
)
def test_readout(settings: dict[str, Any], wanted: list[float]) -> None:
    shares = bare_adapter(**settings).readout(4, None, torch.zeros(1))
    assert shares.tolist() == [wanted]


def test_readout_of_a_pooler() -> None:
    """The mean over heads of its first query; tokens that it does not see get 0."""
    adapter = bare_adapter(pooling="map")
    first_query = torch.tensor([[[0.2, 0.8], [0.6, 0.4]], [[1.0, 0.0], [0.0, 1.0]]])
    pooler = torch.stack([first_query, torch.full_like(first_query, 0.5)], dim=2)
    shares = adapter.readout(4, pooler, torch.zeros(1))
    wanted = torch.tensor([[0.0, 0.0, 0.4, 0.6], [0.0, 0.0, 0.5, 0.5]])
    torch.testing.assert_close(shares, wanted)
    with pytest.raises(ValueError, match="no attention was seen behind the blocks"):
        adapter.readout(4, None, torch.zeros(1))


def test_patch_map() -> None:
    adapter = bare_adapter(patch_grid=lambda inputs: (2, 3))
    tokens = torch.arange(8.0)[None]
    grid = adapter.patch_map(tokens, torch.zeros(1, 3, 4, 6))
    assert grid.tolist() == [[[[2, 3, 4], [5, 6, 7]]]]
    with pytest.raises(ValueError, match="made 7 tokens of inputs of 4 x 6 pixels, "):
        adapter.patch_map(tokens[:, 1:], torch.zeros(1, 3, 4, 6))


# Adapters of one's own ----------------------------------------------------------------


class Block(nn.Module):
    """Attention that averages two heads, and a sum."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(self.norm(tokens)).unflatten(2, (3, 2, -1))
        mixed = self.attend(*parts.permute(2, 0, 3, 1, 4))
        return tokens + self.out(mixed.transpose(1, 2).flatten(2))


class HandWritten(nn.Module):
    """A ViT for 6 x 4 pixels in patches of 2: 6 patches behind a class token."""

    def __init__(self, block: type[nn.Module] = Block) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.layers = nn.ModuleList([Block(), block(), Block()])
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens[:, 0])


def adapter_of(model: HandWritten) -> ViTAdapter:
    return ViTAdapter(
        model=model,
        blocks=tuple(model.layers),
        n_prefix_tokens=1,
        pooling="cls",
        tail=lambda tokens: model.head(tokens[:, 0]),
        patch_grid=lambda inputs: (inputs.shape[2] // 2, inputs.shape[3] // 2),
        output_projection=lambda index: model.layers[index].out.weight,
        feature_layer=model.layers[-1],
        class_index=0,
        example_size=(1, 6, 4),
    )


def test_an_adapter_of_ones_own() -> None:
    adapter = adapter_of(HandWritten())
    assert resolve(adapter) is adapter
    seen = observe(adapter, torch.randn(2, 1, 6, 4))
    assert [tuple(attention.shape) for attention in seen.maps] == [(2, 2, 7, 7)] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_prefix_tokens": 2}, "7 tokens .*, its adapter expects 2 and 3 x 2"),
        ({"tail": lambda tokens: tokens[:, 0, :3]}, "adapter's tail differs .* by"),
        ({"tail": lambda tokens: tokens[:, 0]}, r"tail has shape \(1, 8\), .*\(1, 3\)"),
        ({"pooling": "map"}, "no attention was seen behind the blocks"),
        ({"blocks": ()}, "it has no blocks, takes at least one"),
        ({"patch_grid": lambda inputs: (3, 3)}, "expects 1 and 3 x 3 patches"),
    ],
)
def test_wrong_adapters(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(replace(adapter_of(HandWritten()), **wrong))


class Perceptron(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)


class Twice(Block):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(super().forward(tokens))


class Foreign(torch.autograd.Function):
    """Attention as a kernel of another library computes it: PyTorch sees one call."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-2, -1)).exp()
        return (weights / weights.sum(dim=-1, keepdim=True)) @ v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, gradient


class Flash(Block):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return Foreign.apply(q, k, v)


class Gated(Block):
    """Four-dimensional weights, but no softmax over tokens: each half sums to 1."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(-2, -1), dim=2) @ v


class Pooled(Block):
    """Keys of every second token."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :, ::2], v[:, :, ::2])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Perceptron, r"saw \[1, 0, 1\] attention maps in 3 blocks"),
        (Twice, r"saw \[1, 2, 1\] attention maps"),
        (Flash, r"saw \[1, 0, 1\] .*flash-attn, xformers"),
        (Gated, "rows of block 1's attention sum to 1 only within"),
        (Pooled, r"attention of block 1 is \(7, 4\) for 7 tokens"),
    ],
)
def test_blocks_that_cannot_be_read(block: type[nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(adapter_of(HandWritten(block)))


class Opaque(torch.autograd.Function):
    """Attention whose backward is written by hand: its map is in no graph."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, gradient


class HandDifferentiated(Block):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return Opaque.apply(q, k, v)


def test_maps_that_are_seen_but_have_no_gradient() -> None:
    adapter = adapter_of(HandWritten(HandDifferentiated))
    with torch.no_grad():
        assert len(observe(adapter, torch.randn(2, 1, 6, 4)).maps) == 3
    with pytest.raises(RuntimeError, match=r"^model: "):
        observe(adapter, torch.randn(2, 1, 6, 4))


def test_a_wrong_tail_is_not_looked_for_where_outputs_are_random() -> None:
    model = HandWritten()
    model.head = nn.Sequential(nn.Dropout(0.9), model.head)
    before = Snapshot(model.train())
    resolve(adapter_of(model))
    before.assert_unchanged()  # dropout has drawn numbers, and they are given back
    off = replace(adapter_of(model), tail=lambda tokens: model.head(tokens[:, 1]))
    resolve(off)
    model.eval()
    with pytest.raises(ValueError, match="tail differs"):
        resolve(off)


def test_what_a_model_returns() -> None:
    class Verbose(HandWritten):
        def forward(self, images: Tensor) -> Any:
            return {"logits": super().forward(images)}

    adapter = adapter_of(Verbose())
    with pytest.raises(TypeError, match=r"returned dict, .*select_output"):
        resolve(adapter)
    resolve(replace(adapter, select_output=lambda returned: returned["logits"]))
