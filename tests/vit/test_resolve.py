"""From stock models to adapters, and what is said about models that do not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda.vit import find_adapter, observe, resolve, ViTAdapter

WITHOUT_CLASS_TOKEN = {
    "timm ViT average",
    "timm SigLIP",
    "open_clip SigLIP",
    "transformers SigLIP",
    "transformers SigLIP classifier",
    "transformers I-JEPA",
}
DISTILLED = {"timm DeiT distilled", "transformers DeiT with teacher"}


@pytest.mark.parametrize("case", PARAMETERS)
def test_every_family(case: Case) -> None:
    model = shared_model(case.name)
    before = Snapshot(model)
    adapter = resolve(model)
    before.assert_unchanged()
    assert adapter.model is model
    assert adapter.n_prefix_tokens == case.n_prefix_tokens
    assert adapter.pooling == case.pooling
    assert adapter.class_index == (None if case.name in WITHOUT_CLASS_TOKEN else 0)
    assert adapter.distillation_index == (1 if case.name in DISTILLED else None)
    assert adapter.pools_prefix == (case.name == "open_clip CoCa pooler")
    assert adapter.patch_grid(images(case)) == case.grid
    assert adapter.depth == 3
    assert adapter.example_size == (3, *case.size)
    assert any(adapter.feature_layer is part for part in adapter.blocks[-1].modules())
    for index, block in enumerate(adapter.blocks):
        weight = adapter.output_projection(index)
        assert any(weight is parameter for parameter in block.parameters())
        assert len(weight) == weight.shape[1] == images_tokens(adapter, case).shape[2]


def images_tokens(adapter: ViTAdapter, case: Case) -> Tensor:
    with torch.no_grad():
        return observe(adapter, images(case, 1), attention=False).tokens[-1]


def _average_of_all() -> nn.Module:
    from timm.models import VisionTransformer

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3}
    pooling = {"global_pool": "avg", "pool_include_prefix": True, "reg_tokens": 2}
    return VisionTransformer(num_heads=3, **sizes, **pooling)


@pytest.mark.parametrize(
    "case", [*PARAMETERS, Case("timm ViT average of all", _average_of_all, 3, "avg")]
)
def test_only_tokens_with_a_share_reach_the_output(case: Case) -> None:
    """The readout's zeros are where the tail does not look, and nowhere else."""
    adapter = find_adapter(build_model(case))
    with torch.no_grad():
        seen = observe(adapter, images(case, 1))
    tokens = seen.tokens[-1].requires_grad_()
    (gradient,) = torch.autograd.grad(adapter.tail(tokens).square().sum(), tokens)
    pooler = None if seen.pooler is None else seen.pooler.probabilities
    shares = adapter.readout(tokens.shape[1], pooler, tokens)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(1))
    assert torch.equal(shares != 0, gradient.abs().sum(dim=2) != 0)


# Models that do not fit ---------------------------------------------------------------


def _swin() -> nn.Module:
    from timm.models import SwinTransformer

    return SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=8, depths=(1, 1)
    )


def _resnet() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18()


def _clip() -> nn.Module:
    model = nn.Module()
    model.visual = shared_model("timm ViT")
    return model


def _timm_pooling(pool: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm.models import VisionTransformer

        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1}
        return VisionTransformer(**sizes, num_heads=3, global_pool=pool)

    return build


def _open_clip_tokens() -> nn.Module:
    open_clip = pytest.importorskip("open_clip")
    return open_clip.transformer.VisionTransformer(
        32, 8, 24, 1, 3, 2.0, output_dim=5, pool_type="none"
    )


def _whole_clip_of_transformers() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.CLIPConfig(text_config=small, vision_config=small)
    return transformers.CLIPModel(config)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Linear(2, 2),
            "got Linear.*closest is .*, of which it lacks .*Known",
        ),
        (_resnet, "got ResNet.*lacks .*write a captum_mda.vit.ViTAdapter"),
        (
            _swin,
            "got SwinTransformer.*closest is timm .*lacks .*blocks, num_prefix_tok",
        ),
        (
            _clip,
            r"inside \(model.visual .*NotImplemented.*pass model.visual in its place",
        ),
        (_timm_pooling("max"), "global_pool is 'max', takes 'token', 'avg' or 'map'"),
        (_timm_pooling(""), "global_pool is '', takes .*global_pool='avg'"),
        (_open_clip_tokens, "pool_type is 'none', takes 'tok' or 'avg'"),
        (_whole_clip_of_transformers, "got CLIPModel, .*CLIPVisionModelWithProjection"),
    ],
)
def test_unknown_models(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match="^model: .*" + message):
        resolve(build())


def test_no_model_at_all() -> None:
    with pytest.raises(TypeError, match=r"model: got str, takes a torch.nn.Module"):
        resolve("vit_tiny_patch16_224")  # type: ignore[arg-type]


def test_a_model_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="on the meta device"):
        resolve(build_model(BY_NAME["timm ViT"]).to("meta"))
