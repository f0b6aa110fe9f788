"""Runs from a block on: with nothing changed they give the model's own output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from test_adapter import adapter_of, Block, HandWritten
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, images, shared_model

from captum_mda import CausalActivationPatching, TransformerInputSampling
from captum_mda.metrics import lif_deletion, mif_deletion, token_deletion
from captum_mda.vit import (
    CannotDropError,
    find_adapter,
    ObservationError,
    observe,
    resolve,
    TokenStream,
    ViTAdapter,
)

VIT = BY_NAME["timm ViT"]


def moved(tokens: Tensor) -> Tensor:
    """Other tokens, which no norm brings back."""
    return tokens * 1.3 + torch.linspace(-1, 1, tokens.shape[-1]).to(tokens)


def move_before(block: nn.Module) -> None:
    """Of the caller's own: changes a block's input."""
    block.register_forward_pre_hook(lambda module, args: (moved(args[0]), *args[1:]))


def move_behind(block: nn.Module) -> None:
    """Of the caller's own: changes a block's output."""
    block.register_forward_hook(lambda module, args, output: moved(output))


HOOKS: dict[str, Callable[[nn.Module], None]] = {
    "before": move_before,
    "behind": move_behind,
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_of_the_caller_act_once(hook: str, place: int) -> None:
    model, x = build_model(VIT, torch.float64), images(VIT).double()
    plain = model(x)
    HOOKS[hook](model.blocks[place])
    adapter = resolve(model)
    with torch.no_grad():
        wanted = model(x)
    assert (wanted - plain).abs().max() > 1e-2
    stream = TokenStream(adapter, x, places=range(adapter.depth + 1))
    for first in range(adapter.depth + 1):
        outputs = stream.run(stream.tokens[first], first)
        torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-12)
        stream.require_own_outputs(first)


@pytest.mark.parametrize("hook", HOOKS)
def test_methods_on_a_hooked_model_explain_the_model_that_is_called(hook: str) -> None:
    """The hook written into the network gives the same maps and scores."""

    class Written(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, tokens: Tensor) -> Tensor:
            if hook == "before":
                return self.block(moved(tokens))
            return moved(self.block(tokens))

    hooked, written = (build_model(VIT, torch.float64) for _ in range(2))
    HOOKS[hook](hooked.blocks[1])
    adapter = find_adapter(written)
    written.blocks[1] = Written(written.blocks[1])
    adapter = replace(adapter, blocks=tuple(written.blocks))
    x = images(VIT).double()
    grid = torch.arange(32.0).reshape(2, 1, 4, 4)
    for method in (
        lambda model: TransformerInputSampling(model, n_masks=8).attribute(x, 1),
        lambda model: CausalActivationPatching(model).attribute(x, 1),
        lambda model: token_deletion(model, x, grid, target=1).probabilities,
    ):
        torch.testing.assert_close(method(hooked), method(adapter))


def test_observed_tokens_are_those_between_blocks() -> None:
    model = build_model(VIT, torch.float64)
    move_before(model.blocks[0])
    adapter, x = find_adapter(model), images(VIT).double()
    seen = observe(adapter, x, attention=False)
    embedded = model.pos_drop(model._pos_embed(model.patch_embed(x)))
    torch.testing.assert_close(seen.tokens[0], embedded)
    torch.testing.assert_close(seen.outputs, model(x))


class Between(HandWritten):
    """Adds to the tokens between its blocks, as deep prompts and positions do."""

    amount = 0.5

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        for layer in self.layers:
            tokens = layer(tokens) + self.amount
        return self.head(tokens[:, 0] - self.amount)


def temperature(model: HandWritten) -> None:
    """The output that users see is a tenth of the head's."""
    model.head.register_forward_hook(lambda module, args, output: output)
    model.register_forward_hook(lambda module, args, output: output / 10)


def wrong_tail(model: HandWritten) -> ViTAdapter:
    return replace(adapter_of(model), tail=lambda tokens: model.head(tokens[:, 1]))


def not_a_number(model: HandWritten) -> ViTAdapter:
    return replace(
        adapter_of(model), tail=lambda tokens: model.head(tokens[:, 0]) * torch.nan
    )


def hooked(model: HandWritten) -> ViTAdapter:
    temperature(model)
    return adapter_of(model)


def between(model: HandWritten) -> ViTAdapter:
    return adapter_of(Between())


@pytest.mark.parametrize("removal", ["auto", "tokens"])
@pytest.mark.parametrize("build", [wrong_tail, not_a_number, hooked, between])
def test_token_deletion_refuses_runs_that_are_not_the_models(
    build: Callable[[HandWritten], ViTAdapter], removal: Any
) -> None:
    torch.manual_seed(0)
    adapter = build(HandWritten().eval())
    x, grid = torch.randn(2, 1, 6, 4), torch.randn(2, 1, 3, 2)
    message = "run by themselves with nothing removed, differ .* for example [01] by"
    for metric in (token_deletion, mif_deletion, lif_deletion):
        with pytest.raises(ValueError, match=message):
            metric(adapter, x, grid, target=1, removal=removal)


def test_the_check_is_of_the_callers_own_inputs() -> None:
    """A model that does more than its blocks for some inputs only."""

    class Sometimes(Between):
        def forward(self, images: Tensor) -> Tensor:
            # The example input that adapters are checked with has small values.
            self.amount = 0.5 if bool(images.max() > 5) else 0.0
            return super().forward(images)

    torch.manual_seed(0)
    adapter = adapter_of(Sometimes().eval())
    caap = CausalActivationPatching(adapter)
    tis = TransformerInputSampling(adapter, n_masks=4)
    x = torch.randn(3, 1, 6, 4).clamp(-2, 2)
    for method in (caap, tis):
        method.attribute(x, target=1)
    x[2, 0, 0, 0] = 9.0
    for method in (caap, tis):
        with pytest.raises(ValueError, match=r"nothing removed, differ .* example"):
            method.attribute(x, target=1)
        with pytest.raises(ValueError, match=r"differ .* example 2 by"):
            method.attribute(x, target=1, internal_batch_size=1)


class Positioned(Block):
    """Takes a table of positions that all images share, or a mask for each image."""

    def forward(self, tokens: Tensor, table: Tensor) -> Tensor:
        return super().forward(tokens + table)


class WithTable(HandWritten):
    """Seven tokens, and a table (7, 8) of them."""

    def __init__(self, per_image: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Positioned() for _ in range(3))
        self.table = nn.Parameter(torch.randn(7, 8))
        self.per_image = per_image

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        table = self.table
        if self.per_image:
            table = images.mean(dim=(1, 2, 3))[:, None, None] * table
        for layer in self.layers:
            tokens = layer(tokens, table)
        return self.head(tokens[:, 0])


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("n_images", [1, 2, 7])
def test_tables_shared_by_images_and_tables_of_each(
    per_image: bool, n_images: int
) -> None:
    """Seven images do not make a table of seven tokens one of images."""
    torch.manual_seed(0)
    adapter = adapter_of(WithTable(per_image).eval())
    x = torch.randn(n_images, 1, 6, 4)
    stream = TokenStream(adapter, x, places=[1])
    stream.require_own_outputs(1)
    rows = torch.arange(n_images).repeat(2)
    outputs = stream.run(stream.tokens[1][rows], 1, rows)
    torch.testing.assert_close(outputs, stream.outputs[rows])


def test_a_blank_with_arguments_of_its_own_is_refused() -> None:
    """CAAP runs the blank's tokens with what blocks were passed for the image."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 6, 4)
    CausalActivationPatching(adapter_of(WithTable(False).eval())).attribute(x, 1)
    caap = CausalActivationPatching(adapter_of(WithTable(True).eval()))
    with pytest.raises(ValueError, match="with nothing removed, differ"):
        caap.attribute(x, target=1)


@pytest.mark.parametrize("name", ["timm EVA-02", "timm DINOv3"])
@pytest.mark.parametrize("shape", [(16,), (1, 1, 16), (3, 16)])
def test_rotary_tables_follow_dropped_tokens(name: str, shape: tuple[int, ...]) -> None:
    """Tables of all heads, with leading ones, in tuples: rows of the kept tokens."""
    stream = TokenStream(find_adapter(shared_model(name)), images(BY_NAME[name]))
    table = torch.randn(*shape, 4)
    kept = stream.keep(torch.tensor([[0, 5], [2, 9]]))
    rows = stream._rotary_positions(table, kept)
    heads = 3 if len(shape) == 2 else 1
    assert rows.shape == (2, heads, 2, 4)
    flat = table.reshape(heads, 16, 4)
    assert torch.equal(rows[1, -1], flat[-1][[2, 9]])
    prefixed = torch.randn(stream.n_tokens, 4)
    assert torch.equal(
        stream._rotary_positions(prefixed, kept)[0, 0], prefixed[kept[0]]
    )
    square = torch.randn(16, 16)  # as long as a head is wide, as transformers' DINOv3
    assert torch.equal(stream._rotary_positions(square, kept)[1, 0], square[[2, 9]])
    n_tokens = stream.n_tokens
    mask = torch.randn(n_tokens, n_tokens)
    for bad in (mask, torch.randn(15, 4), torch.randn(2, 3, 16, 4)):
        with pytest.raises(CannotDropError, match="cannot follow dropped tokens"):
            stream._rotary_positions(bad, kept)


# What blocks are called with, and return ----------------------------------------------


@dataclass
class Returned:
    tokens: Tensor
    extra: int = 0


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda tokens: (tokens, None),
    "list": lambda tokens: [tokens],
    "mapping": lambda tokens: {"last_hidden_state": tokens, "other": 1},
    "dataclass": Returned,
}


def packed(pack: Callable[[Tensor], Any], by_name: bool) -> HandWritten:
    """A model whose blocks take tokens behind another argument, and pack outputs."""

    class Packing(Block):
        def forward(self, mask: Any = None, hidden_states: Any = None) -> Any:
            return pack(super().forward(hidden_states))

    class Packed(HandWritten):
        def forward(self, images: Tensor) -> Tensor:
            patches = self.embed(images).flatten(2).transpose(1, 2)
            token = self.token.expand(len(images), -1, -1)
            tokens = torch.cat([token, patches], dim=1)
            mask = torch.zeros(7)
            for layer in self.layers:
                if by_name:
                    out = layer(mask=mask, hidden_states=tokens)
                else:
                    out = layer(None, tokens)
                if isinstance(out, dict):
                    tokens = out["last_hidden_state"]
                else:
                    tokens = out.tokens if isinstance(out, Returned) else out[0]
            return self.head(tokens[:, 0])

    model = Packed()
    model.layers = nn.ModuleList(Packing() for _ in range(3))
    return model.eval()


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("pack", RETURNS)
def test_tokens_among_arguments_and_results(pack: str, by_name: bool) -> None:
    torch.manual_seed(0)
    adapter = resolve(adapter_of(packed(RETURNS[pack], by_name)))
    x = torch.randn(2, 1, 6, 4)
    seen = observe(adapter, x)
    assert [tuple(tokens.shape) for tokens in seen.tokens] == [(2, 7, 8)] * 4
    assert torch.autograd.grad(seen.outputs.sum(), seen.tokens)[0].any()
    stream = TokenStream(adapter, x, places=[0, 3])
    torch.testing.assert_close(stream.run(stream.tokens[0], 0), adapter(x))
    torch.testing.assert_close(stream.run(stream.tokens[3], 3), adapter(x))


def test_blocks_without_tokens() -> None:
    class Blind(Block):
        def forward(self, tokens: Any) -> Any:
            return super().forward(tokens[0])

    class Boxed(HandWritten):
        def forward(self, images: Tensor) -> Tensor:
            tokens = self.embed(images).flatten(2).transpose(1, 2)
            for layer in self.layers:
                tokens = layer([tokens])
            return self.head(tokens[:, 0])

    model = Boxed()
    model.layers = nn.ModuleList(Blind() for _ in range(3))
    with pytest.raises(ValueError, match=r"without a tensor of .* gets list"):
        resolve(adapter_of(model))
    strange = packed(lambda tokens: Strange(tokens), by_name=False)
    with pytest.raises(ObservationError, match="returned Strange, takes tokens"):
        resolve(adapter_of(strange))


class Strange:
    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def __getitem__(self, index: int) -> Tensor:
        return self.tokens


def test_a_block_that_repeats() -> None:
    """Stands in blocks as often as it runs."""
    model = HandWritten().eval()
    model.layers = nn.ModuleList([model.layers[0]] * 3)
    adapter = resolve(adapter_of(model))
    x = torch.randn(2, 1, 6, 4)
    assert len(observe(adapter, x).maps) == 3
    stream = TokenStream(adapter, x, places=[0])
    torch.testing.assert_close(stream.run(stream.tokens[0], 0), adapter(x))
