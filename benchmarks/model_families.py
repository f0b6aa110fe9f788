"""Stock models of four libraries with random weights, an example of each family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Model:
    """A row of the tables.

    Args:
        library (str): Where it is from.
        family (str): What it is an example of.
        name (str): What its library calls it.
        build (callable): Makes it.
        note (str): How it differs from the stock model of that name, or "".
    """

    library: str
    family: str
    name: str
    build: Callable[[], nn.Module]
    note: str = ""


def timm_model(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def torchvision_model(name: str, options: dict[str, Any]) -> nn.Module:
    import torchvision

    model: nn.Module = getattr(torchvision.models, name)(weights=None, **options)
    return model


def transformers_model(
    name: str, config: str, attention: str, options: dict[str, Any]
) -> nn.Module:
    import transformers

    built = getattr(transformers, config)(**(SMALL_CONFIG | options))
    make = getattr(transformers, name)._from_config
    model: nn.Module = make(built, attn_implementation=attention)
    return model


def open_clip_model(name: str) -> nn.Module:
    import open_clip

    return open_clip.create_model(name, pretrained=None).visual


def open_clip_coca() -> nn.Module:
    from open_clip.transformer import VisionTransformer

    # By the last three its coca_ViT-B-32 differs from its CLIP models.
    return VisionTransformer(
        image_size=224,
        patch_size=16,
        width=192,
        layers=4,
        heads=3,
        mlp_ratio=4.0,
        output_dim=64,
        attentional_pool=True,
        output_tokens=True,
    )


def open_clip_siglip() -> nn.Module:
    from open_clip.timm_model import TimmModel

    visual = TimmModel("vit_tiny_patch16_224", 10, 224, pool="", proj="linear")
    visual.trunk = timm_model("vit_base_patch16_siglip_224", SMALL | {"num_classes": 0})
    return visual


TEN = {"num_classes": 10}
SHORT = {"depth": 4} | TEN
AT_224 = {"img_size": 224}
SMALL = {"embed_dim": 192, "num_heads": 3} | SHORT
SMALL_CONFIG = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "num_labels": 10,
}
NARROW = "4 blocks of width 192"
NOTES = (
    (SMALL, NARROW),
    (AT_224 | SHORT, "4 blocks, 224 pixels"),
    (AT_224, "224 pixels"),
    (SHORT, "4 blocks"),
    (TEN, ""),
)


def _timm(family: str, name: str, options: dict[str, Any] = TEN) -> Model:
    note = next(note for some, note in NOTES if some.items() <= options.items())
    return Model("timm", family, name, partial(timm_model, name, options), note)


def _transformers(
    name: str, config: str, attention: str = "sdpa", **options: Any
) -> Model:
    family = config.removesuffix("Config").removesuffix("Vision")
    build = partial(transformers_model, name, config, attention, options)
    note = f"{NARROW}, {attention}"
    return Model("transformers", family, name, build, note)


def _open_clip(family: str, name: str, build: Any, note: str = "") -> Model:
    return Model("open_clip", family, name, build, note)


MODELS = (
    _timm("ViT", "vit_tiny_patch16_224"),
    _timm("DeiT distilled", "deit_tiny_distilled_patch16_224"),
    _timm("DeiT III", "deit3_small_patch16_224", SHORT),
    _timm("DINOv2 registers", "vit_small_patch14_reg4_dinov2", AT_224 | SHORT),
    _timm("CLIP trunk", "vit_base_patch16_clip_224", SMALL),
    _timm("SigLIP", "vit_base_patch16_siglip_224", SMALL),
    _timm("Perception Encoder", "vit_pe_core_tiny_patch16_384", AT_224 | TEN),
    _timm("EVA-02", "eva02_tiny_patch14_224"),
    _timm("DINOv3", "vit_small_patch16_dinov3", AT_224 | SHORT),
    _timm("BEiT", "beit_base_patch16_224", SMALL),
    Model(
        "torchvision",
        "ViT",
        "vit_b_16",
        partial(torchvision_model, "vit_b_16", {"image_size": 96}),
        "96 pixels",
    ),
    _transformers("ViTForImageClassification", "ViTConfig"),
    _transformers("ViTForImageClassification", "ViTConfig", "eager"),
    _transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    _transformers("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True),
    _transformers(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        "eager",
    ),
    _transformers("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    _transformers("SiglipVisionModel", "SiglipVisionConfig"),
    _open_clip(
        "CLIP", "ViT-B-32-quickgelu", partial(open_clip_model, "ViT-B-32-quickgelu")
    ),
    _open_clip("CoCa", "VisionTransformer", open_clip_coca, NARROW),
    _open_clip("SigLIP", "TimmModel", open_clip_siglip, NARROW),
    _timm("MLP-Mixer", "mixer_s16_224"),
    _timm("Swin", "swin_tiny_patch4_window7_224"),
)
