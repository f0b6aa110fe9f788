"""Models round a known model: the whole is explained, the known part looked into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda import (
    AttentionRollout,
    BidirectionalAttention,
    LeGrad,
    TransformerInputSampling,
    TransitionAttention,
)
from captum_mda.vit import find_adapter, resolve, TokenStream, ViTAdapter
from captum_mda.vit.outputs import output_tensor
from captum_mda.vit.rerun import RerunTail

VIT = BY_NAME["timm ViT"]
HF = BY_NAME["transformers ViT"]


class Around(nn.Module):
    """A known model in another one."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function
        self.eval()

    def forward(self, images: Tensor, *arguments: Any) -> Any:
        return self.function(self, images, *arguments)


def vit() -> nn.Module:
    return shared_model("timm ViT")


def linear(n_inputs: int, n_outputs: int = 4, seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(n_inputs, n_outputs)


def tokens_of(model: Any, x: Tensor) -> Tensor:
    tokens: Tensor = model.forward_features(x)
    return tokens


# What ends as the known part does --------------------------------------------------


@pytest.mark.parametrize("case", PARAMETERS)
def test_a_normalisation_in_front_changes_nothing_else(case: Case) -> None:
    """Every family: the map is the bare model's of the normalised images."""
    inner = shared_model(case.name)
    model = Around(lambda self, x: self.inner((x - 0.4) / 0.3), inner=inner)
    before = Snapshot(model)
    x, target = images(case), [1, 3]
    adapter = find_adapter(inner)
    found = LeGrad(model).attribute(x, target=target)
    before.assert_unchanged()
    wanted = LeGrad(adapter).attribute((x - 0.4) / 0.3, target=target)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


RETURNED: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, None),
    "dict": lambda logits: {"loss": None, "logits": logits, "features": logits * 2},
    "dict of one": lambda logits: {"prediction": logits},
}


@pytest.mark.parametrize("returned", RETURNED)
def test_what_it_may_return(returned: str) -> None:
    model = Around(lambda self, x: RETURNED[returned](self.vit(x)), vit=vit())
    x = images(VIT)
    found = BidirectionalAttention(model).attribute(x, target=1)
    assert torch.equal(found, BidirectionalAttention(vit()).attribute(x, target=1))
    assert not isinstance(resolve(model).tail, RerunTail)


@pytest.mark.parametrize(
    "case", [HF, BY_NAME["transformers CLIP"]], ids=lambda case: case.name
)
def test_a_wrapper_that_picks_a_field(case: Case) -> None:
    inner = shared_model(case.name)
    name = "logits" if case is HF else "image_embeds"
    model = Around(lambda s, x: getattr(s.model(pixel_values=x), name), model=inner)
    x = images(case)
    wanted = LeGrad(inner).attribute(x, target=1)
    assert torch.equal(LeGrad(model).attribute(x, target=1), wanted)
    for select in (resolve(inner).select_output, None):
        adapter = replace(resolve(inner), model=model, select_output=select)
        assert torch.equal(LeGrad(adapter).attribute(x, target=1), wanted)


def test_a_subclass_that_returns_its_logits() -> None:
    transformers = pytest.importorskip("transformers")

    class Sub(transformers.ViTForImageClassification):  # type: ignore[misc,name-defined]
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = super().forward(images).logits
            return logits

    inner = shared_model(HF.name)
    model = Sub(inner.config).eval()
    model.load_state_dict(inner.state_dict())
    x = images(HF)
    found = LeGrad(model).attribute(x, target=1)
    assert torch.equal(found, LeGrad(inner).attribute(x, target=1))


@pytest.mark.parametrize("where", ["wrapper", "inside", "both"])
def test_compiled(where: str) -> None:
    inner = torch.compile(vit()) if where != "wrapper" else vit()
    model = nn.Sequential(nn.Identity(), inner)
    whole = model if where == "inside" else torch.compile(model)
    x = images(VIT)
    found = LeGrad(whole).attribute(x, target=1)
    assert torch.equal(found, LeGrad(vit()).attribute(x, target=1))


# Heads of their own ----------------------------------------------------------------


class ClassToken(nn.Module):
    """A head of its own, to compare with an adapter written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = vit(), linear(24)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(tokens_of(self.backbone, images)[:, 0])
        return output


def by_hand(model: ClassToken) -> ViTAdapter:
    inner = find_adapter(model.backbone)
    norm: Any = model.backbone.norm
    tail = lambda tokens: model.head(norm(tokens)[:, 0])  # noqa: E731
    return replace(inner, model=model, tail=tail, select_output=None)


@pytest.mark.parametrize(
    "method",
    [LeGrad, TransitionAttention, AttentionRollout, BidirectionalAttention],
)
def test_a_head_is_explained_as_by_an_adapter_of_its_own(method: Any) -> None:
    model = ClassToken().eval()
    x = images(VIT)
    found = method(model).attribute(x, target=2)
    wanted = method(by_hand(model)).attribute(x, target=2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_tokens_can_be_dropped_before_a_head_of_its_own() -> None:
    pytest.importorskip("sklearn")
    model = ClassToken().eval()
    x = images(VIT)
    maps = [
        TransformerInputSampling(each, n_masks=6).attribute(x, target=2)
        for each in (model, by_hand(model))
    ]
    torch.testing.assert_close(*maps, rtol=1e-5, atol=1e-6)


def test_one_example_serves_all_rows_and_each_row_is_its_own() -> None:
    model = ClassToken().eval()
    tail = find_adapter(model).tail
    assert isinstance(tail, RerunTail)
    seen: list[int] = []
    handle = model.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]))
    )
    first: Any = model.backbone
    block = first.blocks[0].register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]))
    )
    tokens = torch.randn(5, 17, 24)
    with torch.no_grad():
        outputs = tail(tokens)
        single = torch.cat([tail(row[None]) for row in tokens])
    handle.remove()
    block.remove()
    assert set(seen) == {1}
    torch.testing.assert_close(outputs, single)


def test_a_head_that_counts_the_images_gets_as_many() -> None:
    head = linear(24)
    model = Around(
        lambda s, x: s.head(tokens_of(s.vit, x)[:, 0].view(x.shape[0], -1)),
        vit=vit(),
        head=head,
    )
    tail = find_adapter(model).tail
    tokens = torch.randn(3, 17, 24)
    norm: Any = vit().norm
    with torch.no_grad():
        torch.testing.assert_close(tail(tokens), head(norm(tokens)[:, 0]))


POOLINGS: dict[str, tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]] = {
    "class token": (lambda t: t[:, 0], 24, {"pooling": "cls", "class_index": 0}),
    "patches": (
        lambda t: t[:, 1:].mean(1),
        24,
        {"pooling": "avg", "pools_prefix": False},
    ),
    "all": (lambda t: t.mean(1), 24, {"pooling": "avg", "pools_prefix": True}),
    "sum over T": (
        lambda t: t[:, 1:].sum(1) / (t.shape[1] - 1),
        24,
        {"pooling": "avg", "pools_prefix": False},
    ),
    "both": (
        lambda t: torch.cat([t[:, 0], t[:, 1:].mean(1)], 1),
        48,
        {"pooling": "cls+avg", "class_index": 0, "pools_prefix": False},
    ),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_is_read_off_the_head(name: str) -> None:
    pool, width, fields = POOLINGS[name]
    model = Around(
        lambda s, x: s.head(pool(tokens_of(s.vit, x))), vit=vit(), head=linear(width)
    )
    adapter = resolve(model)
    assert {field: getattr(adapter, field) for field in fields} == fields


def test_an_attention_pooler_of_the_wrapper_is_read() -> None:
    pooler = nn.MultiheadAttention(24, 3, batch_first=True)
    query = nn.Parameter(torch.linspace(-1, 1, 24)[None, None])

    def run(self: Any, x: Tensor) -> Tensor:
        tokens = tokens_of(self.vit, x)
        pooled: Tensor = self.pooler(query.expand(len(x), -1, -1), tokens, tokens)[0]
        return pooled[:, 0]

    adapter = resolve(Around(run, vit=vit(), pooler=pooler))
    assert (adapter.pooling, adapter.pools_prefix) == ("map", True)
    grid = LeGrad(adapter).attribute(images(VIT), target=1, interpolate_mode=None)
    assert grid.shape == (2, 1, 4, 4)
    assert float(grid.std()) > 0


def test_a_head_that_weighs_patches_by_itself_is_warned_of() -> None:
    model = Around(
        lambda s, x: s.head(tokens_of(s.vit, x).flatten(1)),
        vit=vit(),
        head=linear(17 * 24),
    )
    with pytest.warns(UserWarning, match="weighs patches in a way of its own"):
        adapter = resolve(model)
    x = images(VIT)
    stream = TokenStream(adapter, x, places=[0])
    kept = stream.keep(torch.arange(4).expand(2, -1))
    with pytest.raises(ValueError, match="needs all 17 tokens, got 5"):
        stream.run(stream.tokens[0][:, :5], 0, kept=kept)


# What is no single transformer, or no function of its tokens -------------------------


def _other() -> nn.Module:
    return shared_model("timm DeiT III")


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two": (
        lambda: Around(lambda s, x: s.a(x) + s.b(x), a=vit(), b=_other()),
        r"runs 2 transformers that are known, model.a \(VisionTransformer\) and "
        r"model.b \(Vision.*resolve\(model, adapter=model.a\)",
    ),
    "one twice": (
        lambda: Around(lambda s, x: s.a(x) + s.a(x.flip(-1)), a=vit()),
        r"runs its transformer, model.a \(VisionTransformer\), 2 times on 2 images",
    ),
    "crops in the batch": (
        lambda: Around(
            lambda s, x: s.a(torch.cat([x, x])).view(2, len(x), -1).mean(0), a=vit()
        ),
        "1 times on 2 images in all for one input",
    ),
    "never": (
        lambda: Around(lambda s, x: x.mean((2, 3)), a=vit()),
        r"known inside \(model.a \(VisionTransformer\)\), but does not run it",
    ),
    "in a sequence": (
        lambda: nn.Sequential(nn.Identity(), nn.Sequential(nn.Flatten(), vit())),
        r"model\[1\]\[1\] \(VisionTransformer\)\), but does not run on an example",
    ),
    "further arguments": (
        lambda: Around(lambda s, x, text: s.a(x) * text, a=vit()),
        "does not run on an example image.*text.*pass model.a in its place",
    ),
    "earlier blocks": (
        lambda: Around(
            lambda s, x: torch.cat(
                [t.mean(1) for t in s.a.get_intermediate_layers(x, 2)], 1
            ),
            a=vit(),
        ),
        "depends on more than the tokens of the last block: on those of earlier",
    ),
    "the image": (
        lambda: Around(lambda s, x: s.a(x) * (1 + x.mean((1, 2, 3))[:, None]), a=vit()),
        r"on the image in another way.*resolve\(model, adapter=model.a\)",
    ),
    "mirrored": (
        lambda: Around(lambda s, x: s.a(x.flip(-1)), a=vit()),
        "mirrors, turns or transposes its images",
    ),
    "returns nothing known": (
        lambda: Around(lambda s, x: {"a": s.a(x), "b": x}, a=vit()),
        "returned dict of a, b, takes a model that returns a tensor",
    ),
    "none": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()),
        "got Sequential, which is of no known family, nor is any part of it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_was_found_and_what_to_pass(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        resolve(build())


def test_only_the_transformer_that_runs_counts() -> None:
    """A teacher beside the student, as in self-distillation."""
    model = Around(lambda s, x: s.student(x), teacher=_other(), student=vit())
    adapter = resolve(model)
    blocks: Any = vit().blocks
    assert adapter.blocks == tuple(blocks)


def test_the_caller_says_which_of_two() -> None:
    """The other one adds to the score; the maps are those of the one."""
    model = Around(lambda s, x: s.a(x) + s.b(x), a=vit(), b=_other())
    x = images(VIT)
    for name in ("a", "b"):
        part = getattr(model, name)
        wanted = LeGrad(part).attribute(x, target=1)
        for adapter in (part, resolve(part)):
            chosen = resolve(model, adapter=adapter)
            found = LeGrad(chosen).attribute(x, target=1)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    stream = TokenStream(chosen, x, places=[1])
    torch.testing.assert_close(stream.run(stream.tokens[1], 1), model(x))
    flipped = stream.run(stream.tokens[1].flip(0), 1, torch.tensor([1, 0]))
    torch.testing.assert_close(flipped, model(x).flip(0))


def test_adapter_must_be_inside() -> None:
    with pytest.raises(ValueError, match="VisionTransformer is no part of model"):
        resolve(nn.Sequential(vit()), adapter=_other())
    with pytest.raises(TypeError, match=r"adapter: got int, takes a torch.nn.Module"):
        resolve(nn.Sequential(vit()), adapter=3)  # type: ignore[arg-type]


# What is done to the image before -----------------------------------------------------


@pytest.mark.parametrize(
    ("function", "channels"),
    [
        (lambda s, x: s.vit(x.repeat(1, 3, 1, 1)), 1),
        (lambda s, x: s.vit(x[:, :3] * x[:, 3:]), 4),
    ],
)
def test_channels_of_the_example(function: Any, channels: int) -> None:
    adapter = resolve(Around(function, vit=vit()))
    assert adapter.example_size == (channels, 32, 32)


@pytest.mark.parametrize(
    ("function", "size", "patch", "offset"),
    [
        (lambda s, x: s.vit(F.interpolate(x, (32, 32))), (64, 96), (16, 24), (0, 0)),
        (lambda s, x: s.vit(F.avg_pool2d(x, 2)), (64, 64), (16, 16), (0, 0)),
        (lambda s, x: s.vit(x[..., 6:-6, 4:-8]), (44, 44), (8, 8), (6, 4)),
        (lambda s, x: s.vit(F.pad(x, (4, 4, 8, 0))), (24, 24), (8, 8), (-8, -4)),
    ],
    ids=["resized", "pooled", "cropped", "padded"],
)
def test_patches_lie_where_they_are_in_the_wrappers_input(
    function: Any, size: Any, patch: Any, offset: Any
) -> None:
    adapter = find_adapter(Around(function, vit=vit()))
    x = torch.randn(1, 3, *size)
    assert adapter.patch_grid(x) == (4, 4)
    layout = adapter.layout(x)
    assert layout is not None
    assert layout.stride == pytest.approx(patch)
    assert layout.offset == pytest.approx(offset)


def test_the_pixels_of_a_crop_are_painted_where_the_model_reads_them() -> None:
    model = Around(lambda s, x: s.vit(x[..., 8:40, 16:48]), vit=vit())
    x = torch.randn(1, 3, 48, 64)
    inner = LeGrad(vit()).attribute(x[..., 8:40, 16:48], 1, interpolate_mode="nearest")
    found = LeGrad(model).attribute(x, 1, interpolate_mode="nearest")
    torch.testing.assert_close(found[..., 8:40, 16:48], inner)


# LoRA ---------------------------------------------------------------------------------


class LowRank(nn.Module):
    """What peft puts in a linear map's place."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.down = linear(base_layer.in_features, 2, seed=1)
        self.up = linear(2, base_layer.out_features, seed=2)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base_layer(x) + 0.5 * self.up(self.down(x))
        return output


def test_low_rank_updates_count_in_the_output_projection() -> None:
    from vit_models import build_model

    model: Any = build_model(VIT)
    attention = model.blocks[1].attn
    attention.proj = LowRank(attention.proj)
    weight = resolve(nn.Sequential(nn.Identity(), model)).output_projection(1)
    update = attention.proj.up.weight @ attention.proj.down.weight
    wanted = attention.proj.base_layer.weight + 0.5 * update
    torch.testing.assert_close(weight, wanted)


# Outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["only by name", "behind another"])
def test_images_that_are_passed_by_name(name: str) -> None:
    class Named(Around):
        def forward(self, *, pixel_values: Tensor) -> Tensor:  # type: ignore[override]
            output: Tensor = self.vit(pixel_values)
            return output

    class Behind(Around):
        def forward(  # type: ignore[override]
            self, input_ids: Tensor | None = None, pixel_values: Tensor | None = None
        ) -> Tensor:
            if pixel_values is None:
                raise ValueError("pixel_values: got None")
            output: Tensor = self.vit(pixel_values)
            return output

    kind = Named if name == "only by name" else Behind
    model = kind(lambda: None, vit=vit())
    x = images(VIT)
    found = LeGrad(model).attribute(x, target=1)
    assert torch.equal(found, LeGrad(vit()).attribute(x, target=1))


def test_training_mode_that_an_example_cannot_pass_says_so() -> None:
    model = Around(lambda s, x: s.norm(s.vit(x)), vit=vit(), norm=nn.BatchNorm1d(5))
    assert LeGrad(model).attribute(images(VIT), target=1).shape == (2, 1, 32, 32)
    model.train()
    model.vit.eval()
    with pytest.raises(
        ValueError, match=r"more than 1 value.*call model.eval\(\) first"
    ):
        resolve(model)
    model.eval()


def test_output_tensor() -> None:
    a, b = torch.zeros(1, 2), torch.ones(1, 3)
    assert output_tensor(a) is a
    assert output_tensor([a, b]) is a
    assert output_tensor({"x": b, "logits": a}) is a
    assert output_tensor(((a, b), b)) is a
    for nothing in (None, {"x": a, "y": b}, (), "text"):
        with pytest.raises(TypeError, match="model: it returned"):
            output_tensor(nothing)
