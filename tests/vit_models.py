"""Small Vision Transformers of every family, with random weights.

Each entry builds a model of the library's own class from a configuration of its own;
all biases and constants are made random, so that none of them hides a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

SIDE = 32
PATCH = 8


@dataclass(frozen=True)
class Case:
    """A model to test with, and what its adapter must say."""

    name: str
    build: Callable[[], nn.Module]
    n_prefix_tokens: int
    pooling: str
    size: tuple[int, int] = (SIDE, SIDE)
    grid: tuple[int, int] = (SIDE // PATCH, SIDE // PATCH)


def _timm(cls: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm.models

        settings: dict[str, Any] = {
            "img_size": SIDE,
            "patch_size": PATCH,
            "embed_dim": 24,
            "depth": 3,
            "num_heads": 3,
            "num_classes": 5,
        }
        return getattr(timm.models, cls)(**(settings | options))

    return build


def _deit_distilled() -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=24,
        depth=3,
        num_heads=3,
        num_classes=5,
    )


def _unfused() -> nn.Module:
    model = _timm("VisionTransformer")()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def _swiglu() -> nn.Module:
    from timm.layers import SwiGLU

    return _timm("VisionTransformer", qk_norm=True, mlp_layer=SwiGLU)()


def _beside() -> nn.Module:
    from timm.models.vision_transformer import ParallelScalingBlock

    return _timm("VisionTransformer", block_fn=ParallelScalingBlock)()


def _torchvision() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(SIDE, PATCH, 3, 3, 24, 48, num_classes=5)


def _open_clip(**options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from open_clip.transformer import QuickGELU, VisionTransformer

        settings: dict[str, Any] = {
            "image_size": SIDE,
            "patch_size": PATCH,
            "width": 24,
            "layers": 3,
            "heads": 3,
            "mlp_ratio": 2.0,
            "output_dim": 5,
            "act_layer": QuickGELU,
        }
        return VisionTransformer(**(settings | options))

    return build


def _open_clip_siglip() -> nn.Module:
    from open_clip.timm_model import TimmModel

    visual = TimmModel(
        "vit_tiny_patch16_224", embed_dim=5, image_size=SIDE, pool="", proj="linear"
    )
    visual.trunk = _timm(
        "VisionTransformer", global_pool="map", class_token=False, num_classes=0
    )()
    visual.head = nn.Linear(24, 5)
    return visual


def _hf(cls: str, config: str, attention: str, **options: Any) -> Callable[..., Any]:
    def build() -> nn.Module:
        import transformers

        settings: dict[str, Any] = {
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "intermediate_size": 48,
            "num_labels": 5,
        }
        built = getattr(transformers, config)(**(settings | options))
        if config in ("CLIPVisionConfig", "SiglipVisionConfig") and ("ForImage" in cls):
            whole = getattr(transformers, config.replace("Vision", ""))(num_labels=5)
            whole.vision_config = built
            built = whole
        return getattr(transformers, cls)._from_config(
            built, attn_implementation=attention
        )

    return build


CASES = [
    Case("timm ViT", _timm("VisionTransformer"), 1, "cls"),
    Case("timm ViT un-fused", _unfused, 1, "cls"),
    Case(
        "timm ViT not square",
        _timm("VisionTransformer", img_size=(32, 48)),
        1,
        "cls",
        (32, 48),
        (4, 6),
    ),
    Case(
        "timm ViT average",
        _timm("VisionTransformer", global_pool="avg", class_token=False),
        0,
        "avg",
    ),
    Case(
        "timm DeiT III",
        _timm("VisionTransformer", init_values=0.5, no_embed_class=True),
        1,
        "cls",
    ),
    Case("timm DeiT distilled", _deit_distilled, 2, "cls"),
    Case(
        "timm DINOv2 registers",
        _timm("VisionTransformer", reg_tokens=4, init_values=0.5, no_embed_class=True),
        5,
        "cls",
    ),
    Case(
        "timm CLIP trunk",
        _timm("VisionTransformer", pre_norm=True, norm_layer=nn.LayerNorm),
        1,
        "cls",
    ),
    Case(
        "timm SigLIP",
        _timm("VisionTransformer", global_pool="map", class_token=False),
        0,
        "map",
    ),
    Case(
        "timm ViT SwiGLU qk-norm",
        _swiglu,
        1,
        "cls",
    ),
    Case(
        "timm EVA-02",
        _timm(
            "Eva",
            swiglu_mlp=True,
            use_rot_pos_emb=True,
            scale_mlp=True,
            qkv_fused=False,
            global_pool="token",
            embed_dim=48,
        ),
        1,
        "cls",
    ),
    Case(
        "timm DINOv3",
        _timm(
            "Eva",
            use_rot_pos_emb=True,
            use_abs_pos_emb=False,
            num_reg_tokens=4,
            rope_type="dinov3",
            rope_rotate_half=True,
            init_values=0.5,
            global_pool="avg",
            embed_dim=48,
        ),
        5,
        "avg",
    ),
    Case(
        "timm BEiT",
        _timm("Beit", use_rel_pos_bias=True, init_values=0.5, global_pool="avg"),
        1,
        "avg",
    ),
    Case("timm ViT attention beside MLP", _beside, 1, "cls"),
    Case("torchvision ViT", _torchvision, 1, "cls"),
    Case("open_clip QuickGELU", _open_clip(), 1, "cls"),
    Case(
        "open_clip average LayerScale",
        _open_clip(pool_type="avg", ls_init_value=0.5, final_ln_after_pool=True),
        1,
        "avg",
    ),
    Case(
        "open_clip CoCa pooler",
        _open_clip(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=1),
        1,
        "map",
    ),
    Case("open_clip SigLIP", _open_clip_siglip, 0, "map"),
    Case(
        "transformers ViT",
        _hf("ViTForImageClassification", "ViTConfig", "sdpa"),
        1,
        "cls",
    ),
    Case(
        "transformers ViT eager",
        _hf("ViTForImageClassification", "ViTConfig", "eager"),
        1,
        "cls",
    ),
    Case("transformers ViT base", _hf("ViTModel", "ViTConfig", "sdpa"), 1, "cls"),
    Case(
        "transformers DeiT",
        _hf("DeiTForImageClassification", "DeiTConfig", "sdpa"),
        2,
        "cls",
    ),
    Case(
        "transformers DeiT with teacher",
        _hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", "sdpa"),
        2,
        "cls",
    ),
    Case(
        "transformers DINOv2",
        _hf(
            "Dinov2ForImageClassification",
            "Dinov2Config",
            "sdpa",
            use_swiglu_ffn=True,
        ),
        1,
        "cls+avg",
    ),
    Case(
        "transformers DINOv2 registers",
        _hf(
            "Dinov2WithRegistersForImageClassification",
            "Dinov2WithRegistersConfig",
            "eager",
            num_register_tokens=4,
        ),
        5,
        "cls+avg",
    ),
    Case(
        "transformers CLIP",
        _hf(
            "CLIPVisionModelWithProjection",
            "CLIPVisionConfig",
            "sdpa",
            projection_dim=5,
        ),
        1,
        "cls",
    ),
    Case(
        "transformers CLIP classifier",
        _hf("CLIPForImageClassification", "CLIPVisionConfig", "eager"),
        1,
        "avg",
    ),
    Case(
        "transformers SigLIP",
        _hf("SiglipVisionModel", "SiglipVisionConfig", "sdpa"),
        0,
        "map",
    ),
    Case(
        "transformers SigLIP classifier",
        _hf("SiglipForImageClassification", "SiglipVisionConfig", "eager"),
        0,
        "avg",
    ),
    Case(
        "transformers BEiT",
        _hf(
            "BeitForImageClassification",
            "BeitConfig",
            "sdpa",
            use_relative_position_bias=True,
            layer_scale_init_value=0.5,
        ),
        1,
        "avg",
    ),
    Case(
        "transformers ViT-MSN",
        _hf("ViTMSNForImageClassification", "ViTMSNConfig", "sdpa"),
        1,
        "cls",
    ),
    Case(
        "transformers I-JEPA",
        _hf("IJepaForImageClassification", "IJepaConfig", "sdpa"),
        0,
        "avg",
    ),
    Case(
        "transformers DINOv3",
        _hf(
            "DINOv3ViTModel",
            "DINOv3ViTConfig",
            "sdpa",
            num_register_tokens=2,
            num_attention_heads=2,
        ),
        3,
        "cls",
    ),
]
BY_NAME = {case.name: case for case in CASES}
PARAMETERS = [pytest.param(case, id=case.name) for case in CASES]

_NEEDS = {"open_clip": "open_clip", "transformers": "transformers"}


def build_model(case: Case, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Build a case's model afresh, in evaluation mode, all its parameters random."""
    needed = _NEEDS.get(case.name.split()[0])
    if needed:
        pytest.importorskip(needed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = case.build().to(dtype).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@cache
def shared_model(name: str) -> nn.Module:
    """A case's model in float32, built once; do not change it."""
    return build_model(BY_NAME[name])


def images(case: Case, n: int = 2, seed: int = 0) -> torch.Tensor:
    """Random inputs of a case's size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, *case.size, generator=generator)
