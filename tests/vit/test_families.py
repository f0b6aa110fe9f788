"""Classes that are known by name only: what runs, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import (
    BidirectionalAttention,
    CausalActivationPatching,
    FullGradPlus,
    LeGrad,
    MetricDrivenAttribution,
    metrics,
    VitCx,
)
from captum_mda.vit import observe, resolve, TokenStream

SIZE = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}
IMAGES = SIZE | {"image_size": 64, "patch_size": 16, "num_labels": 5}


def hf(name: str, config: str, options: dict[str, Any] = IMAGES) -> Any:
    """Build a class of transformers with random weights, all of them."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(getattr(transformers, config)(**options))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def timm_model(name: str, **options: Any) -> Any:
    import timm

    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}
    return timm.create_model(name, **(sizes | options)).eval()


# AST: spectrograms, patches column by column ------------------------------------------

AST = IMAGES | {"max_length": 56, "num_mel_bins": 36}
AST |= {"frequency_stride": 10, "time_stride": 20}


def ast() -> Any:
    return hf("ASTForAudioClassification", "ASTConfig", AST)


def test_ast_is_explained_on_its_spectrograms() -> None:
    model = ast()
    adapter = resolve(model)
    assert (adapter.n_prefix_tokens, adapter.distillation_index) == (2, 1)
    x = torch.randn(2, 56, 36)
    assert adapter.patch_grid(x) == (3, 3)
    for method in (LeGrad, BidirectionalAttention, FullGradPlus, VitCx):
        assert method(model).attribute(x, target=1).shape == (2, 56, 36)
    grid = LeGrad(model).attribute(x, target=1, interpolate_mode=None)
    assert grid.shape == (2, 1, 3, 3)


@pytest.mark.parametrize("place", [(0, 1), (2, 0), (1, 2)])
def test_ast_patches_are_in_time_and_frequency(place: tuple[int, int]) -> None:
    """The patch whose pixels are changed is the one whose token changes."""
    adapter = resolve(ast())
    time, frequency = place
    x = torch.zeros(1, 56, 36)
    changed = x.clone()
    # A pixel that only this patch reads, as patches overlap in frequency alone.
    pixel = (20 * time + 8, {0: 2, 1: 17, 2: 34}[frequency])
    changed[0, pixel[0], pixel[1]] = 5.0
    with torch.no_grad():
        first, second = (
            observe(adapter, each, attention=False).tokens[0] for each in (x, changed)
        )
    moved = adapter.patch_map((first - second).abs().sum(dim=2), x)[0, 0]
    assert moved.nonzero().tolist() == [[time, frequency]]
    layout = adapter.layout(x)
    assert layout is not None
    assert (layout.stride, layout.size) == ((20, 10), (16, 16))


def test_ast_in_patching_and_metrics() -> None:
    model = ast()
    x = torch.randn(1, 56, 36)
    wide = torch.tensor([[1.0], [1.0], [1.0]])  # over time
    maps = CausalActivationPatching(model, blank="zeros", support=wide)
    grid = maps.attribute(x, target=1, interpolate_mode=None)
    assert grid.shape == (1, 1, 3, 3)
    with pytest.raises(ValueError, match="reads patches column by column"):
        metrics.token_deletion(model, x[:, None], grid, target=1)
    gain = model(x).logits.softmax(1) - model(x * 0).logits.softmax(1)
    target = int(gain.argmax())
    score = metrics.deletion(
        lambda inputs: model(inputs).logits,
        x,
        LeGrad(model).attribute(x, target=target),
        target=target,
        n_steps=4,
    )
    assert torch.isfinite(score).all()


def test_ast_patching_windows_reach_along_time() -> None:
    """A window over all of time patches a frequency whole: equal along time."""
    x = torch.randn(1, 56, 36)
    whole = torch.ones(5, 1)
    method = CausalActivationPatching(ast(), blank="zeros", support=whole)
    grid = method.attribute(x, target=1, interpolate_mode=None)[0, 0]
    torch.testing.assert_close(grid, grid[:1].expand(3, -1))
    assert float(grid[0].std()) > 0


# SigLIP 2: patches cut beforehand -----------------------------------------------------


def siglip2() -> Any:
    return hf("Siglip2VisionModel", "Siglip2VisionConfig", IMAGES | {"num_patches": 16})


def cut(images: Tensor, side: int) -> Tensor:
    """Cut as its processor does: raster order, channels last."""
    rows = images.unfold(2, side, side).unfold(3, side, side)  # (B, C, h, w, s, s)
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (50, 70)])
def test_siglip2_takes_images(size: tuple[int, int]) -> None:
    model = siglip2()
    adapter = resolve(model)
    images = torch.randn(2, 3, *size)
    rows, columns = size[0] // 16, size[1] // 16
    patches = cut(images[..., : rows * 16, : columns * 16], 16)
    shapes = torch.tensor([[rows, columns]]).expand(2, 2)
    wanted = model(patches, torch.ones(2, rows * columns), shapes).pooler_output
    torch.testing.assert_close(adapter(images), wanted)
    maps = LeGrad(model).attribute(images, target=1)
    assert maps.shape == (2, 1, *size)
    assert float(maps.std()) > 0


def test_siglip2_asks_for_images_where_patches_are_passed() -> None:
    method = LeGrad(siglip2())
    with pytest.raises(ValueError, match=r"got shape \(2, 16, 768\), takes images"):
        method.attribute(torch.randn(2, 16, 768), target=1)


def test_tokens_of_dinov3_are_dropped_with_their_positions() -> None:
    """As many patches as a head has channels: a square table, and no mask."""
    adapter = resolve(hf("DINOv3ViTModel", "DINOv3ViTConfig"))
    images = torch.randn(2, 3, 64, 64)
    stream = TokenStream(adapter, images, places=[0])
    everything = stream.keep(torch.arange(16).expand(2, -1))
    torch.testing.assert_close(
        stream.run(stream.tokens[0], 0, kept=everything), adapter(images)
    )
    kept = stream.keep(torch.tensor([[0, 3, 9], [1, 2, 15]]))
    rows = torch.arange(2)[:, None]
    shorter = stream.run(stream.tokens[0][rows, kept], 0, kept=kept)
    assert shorter.shape == (2, 48)


def test_siglip2_goes_into_mda_by_its_adapter() -> None:
    model = hf_siglip2_classifier()
    adapter = resolve(model)
    images = torch.randn(1, 3, 64, 64)
    mask = torch.arange(64)[:, None] // 32 * 2 + torch.arange(64)[None] // 32
    gain = adapter(images).softmax(1) - adapter(images * 0).softmax(1)
    target = int(gain.argmax())
    mda = MetricDrivenAttribution(adapter)
    found = mda.attribute(images, target=target, feature_mask=mask[None, None])
    assert found.shape == images.shape


def hf_siglip2_classifier() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.Siglip2Config(
        vision_config=SIZE | {"num_patches": 16, "patch_size": 16},
        text_config=SIZE | {"vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1},
    )
    config.num_labels = 5
    torch.manual_seed(1)
    return transformers.Siglip2ForImageClassification(config).eval()


# Others that run ----------------------------------------------------------------------


def test_models_without_a_pooling_layer_have_their_class_token_as_output() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**IMAGES)
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    images = torch.randn(2, 3, 64, 64)
    wanted = model(images).last_hidden_state[:, 0]
    assert torch.equal(resolve(model)(images), wanted)


@pytest.mark.parametrize("pooling", ["cls", "avg"])
@pytest.mark.parametrize("name", ["Beit", "Data2VecVision"])
def test_beit_pools_as_its_config_says(name: str, pooling: str) -> None:
    options = IMAGES | {"use_mean_pooling": pooling == "avg"}
    model = hf(f"{name}ForImageClassification", f"{name}Config", options)
    assert resolve(model).pooling == pooling


def test_torchvision_of_grey_images() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=2)
    model.conv_proj = nn.Conv2d(1, 48, 16, 16)
    assert resolve(model.eval()).example_size == (1, 64, 64)
    images = torch.randn(1, 1, 64, 64)
    with pytest.warns(UserWarning, match="are 0 everywhere"):  # its head begins at 0
        assert not LeGrad(model).attribute(images, target=1).any()
    torch.nn.init.normal_(model.heads.head.weight)
    maps = LeGrad(model).attribute(images, target=1)
    assert maps.shape == (1, 1, 64, 64)
    assert float(maps.std()) > 0


def test_naflexvit_takes_images_of_any_aspect() -> None:
    model = timm_model("naflexvit_base_patch16_gap", num_classes=5)
    images = torch.randn(2, 3, 48, 80)
    maps = LeGrad(model).attribute(images, target=1, interpolate_mode=None)
    assert maps.shape == (2, 1, 3, 5)


@pytest.mark.parametrize("fused", [True, False])
def test_the_output_projection_beside_the_mlp(fused: bool) -> None:
    """Where one projection takes both, attention's share of it comes first."""
    from functools import partial

    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    block = partial(ParallelScalingBlock, fuse_out_proj=fused)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, block_fn=block
    ).eval()
    weight = resolve(model).output_projection(1)
    last: Any = model.blocks[1]
    wanted = last.out_proj.weight[:, :24] if fused else last.attn_out_proj.weight
    assert torch.equal(weight, wanted)


@pytest.mark.parametrize("method", [FullGradPlus, CausalActivationPatching, VitCx])
def test_blocks_with_two_attentions_in_methods_that_read_none(method: Any) -> None:
    model = timm_model("vit_small_patch16_18x2_224")
    options = {"blank": "zeros"} if method is CausalActivationPatching else {}
    images = torch.randn(2, 3, 64, 64)
    maps = method(model, **options).attribute(images, target=1)
    assert maps.shape == (2, 1, 64, 64)
    assert float(maps.std()) > 0


# Refusals by name ---------------------------------------------------------------------

TINY_TEXT = SIZE | {"vocab_size": 20}
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "masked": (
        lambda: hf(
            "ViTMAEModel", "ViTMAEConfig", IMAGES | {"decoder_num_hidden_layers": 1}
        ),
        "got ViTMAEModel, which .*hidden at random; load its weights by ViTModel",
    ),
    "videos": (
        lambda: hf("VideoMAEForVideoClassification", "VideoMAEConfig"),
        r"got VideoMAEForVideoClassification, which reads videos \(B, frames",
    ),
    "videos by tubes": (
        lambda: hf(
            "VivitForVideoClassification",
            "VivitConfig",
            IMAGES | {"num_frames": 4, "tubelet_size": [2, 16, 16]},
        ),
        "got VivitForVideoClassification, which reads videos",
    ),
    "detection": (
        lambda: hf("YolosModel", "YolosConfig", IMAGES | {"image_size": [64, 64]}),
        "got YolosModel, which returns one output for each of many",
    ),
    "segmentation": (
        lambda: hf("SegformerForImageClassification", "SegformerConfig", {}),
        "got SegformerForImageClassification, which attends within windows, or merges",
    ),
    "text": (
        lambda: hf("BertForSequenceClassification", "BertConfig", TINY_TEXT),
        "got BertForSequenceClassification, which reads text, takes a model of images",
    ),
    "another text": (
        lambda: hf(
            "DistilBertModel",
            "DistilBertConfig",
            {"dim": 48, "n_layers": 1, "n_heads": 3, "hidden_dim": 96},
        ),
        "got DistilBertModel, which reads text",
    ),
    "dense": (
        lambda: hf("BeitForMaskedImageModeling", "BeitConfig"),
        "got BeitForMaskedImageModeling, which returns one output for each patch",
    ),
    "convolutions": (
        lambda: hf("ConvNextModel", "ConvNextConfig", {"hidden_sizes": [8] * 4}),
        "got ConvNextModel, which has no attention between patches",
    ),
    "two attentions": (
        lambda: timm_model("vit_small_patch16_18x2_224"),
        r"saw \[2, 2\] attention maps in 2 blocks \(ParallelThingsBlock\), takes one",
    ),
    "differences": (
        lambda: timm_model("vit_dpwee_patch16_reg1_gap_256"),
        r"saw \[2, 2\] attention maps in 2 blocks \(DiffParallelScalingBlock\)",
    ),
    "class attention": (
        lambda: timm_model("cait_xxs24_224"),
        "got Cait, which lets the class token in behind its blocks",
    ),
    "inside another": (
        lambda: nn.Sequential(nn.Identity(), timm_model("vit_small_patch16_18x2_224")),
        r"blocks \(ParallelThingsBlock\), takes one in each",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_with_the_nearest_way(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^model.*{message}"):
        LeGrad(build())


def test_a_user_class_with_a_like_name_is_not_refused_for_it() -> None:
    class SwinLike(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = timm_model("vit_tiny_patch16_224")

        def forward(self, images: Tensor) -> Tensor:
            output: Tensor = self.vit(images)
            return output

    assert resolve(SwinLike().eval()).depth == 2


def test_zero_shot_round_a_model_with_two_towers() -> None:
    """Its vision tower is found inside, though the whole takes texts as well."""
    transformers = pytest.importorskip("transformers")
    vision = SIZE | {"image_size": 64, "patch_size": 16, "projection_dim": 16}
    text = SIZE | {"vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}
    config = transformers.CLIPConfig(
        vision_config=vision, text_config=text, projection_dim=16
    )

    class ZeroShot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = transformers.CLIPModel(config)

        def forward(self, images: Tensor) -> Tensor:
            found = self.clip.get_image_features(images)
            found = getattr(found, "pooler_output", found)
            return F.normalize(found, dim=1) @ torch.eye(16)[:, :5]

    torch.manual_seed(0)
    adapter = resolve(ZeroShot().eval())
    assert adapter.pooling == "cls"
    maps = LeGrad(adapter).attribute(torch.randn(1, 3, 64, 64), target=1)
    assert float(maps.std()) > 0
