"""transformers' vision models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from captum_mda.vit.adapter import Pooling, ViTAdapter
from captum_mda.vit.families.base import (
    conv_grid,
    conv_layout,
    Family,
    has,
    look_up,
    pair,
)


@dataclass(frozen=True)
class _Head:
    """How a class of transformers ends, from the last block's output on.

    Args:
        pooling (str): How its output pools.
        classifier (str): The path of what follows the pooled vector; "" for nothing.
        output (str): The field of what it returns.
        norm (str): Where the base's last norm is applied: "before" pooling, "after" it,
            or "none": not at all.
        distilled (str): The path of a distillation token's own head; "" without one.
    """

    pooling: Pooling
    classifier: str = ""
    output: str = "pooler_output"
    norm: str = "before"
    distilled: str = ""


_HEADS: dict[str, _Head] = {
    "ViTModel": _Head("cls", "pooler"),
    "ViTForImageClassification": _Head("cls", "classifier", "logits"),
    "DeiTModel": _Head("cls", "pooler"),
    "DeiTForImageClassification": _Head("cls", "classifier", "logits"),
    "DeiTForImageClassificationWithTeacher": _Head(
        "cls", "cls_classifier", "logits", distilled="distillation_classifier"
    ),
    "Dinov2Model": _Head("cls"),
    "Dinov2ForImageClassification": _Head("cls+avg", "classifier", "logits"),
    "Dinov2WithRegistersModel": _Head("cls"),
    "Dinov2WithRegistersForImageClassification": _Head(
        "cls+avg", "classifier", "logits"
    ),
    "CLIPVisionModel": _Head("cls", norm="after"),
    "CLIPVisionModelWithProjection": _Head(
        "cls", "visual_projection", "image_embeds", norm="after"
    ),
    "CLIPForImageClassification": _Head("avg", "classifier", "logits", norm="none"),
    "SiglipVisionModel": _Head("map", "head"),
    "SiglipForImageClassification": _Head("avg", "classifier", "logits"),
}

_BASES = "vit|deit|dinov2|dinov2_with_registers|vision_model.vision_model|vision_model"
_LAYERS = "layers|encoder.layers|encoder.layer"
_NORMS = "layernorm|post_layernorm"
_PATCHES = "embeddings.patch_embeddings.projection|embeddings.patch_embedding"
_PROJECTIONS = (
    "attention.o_proj|attention.output.dense|self_attn.out_proj|self_attn.o_proj"
)
_FIRST_NORMS = "layernorm_before|norm1|layer_norm1"


def _adapt(model: Any) -> ViTAdapter:
    heads = [
        _HEADS[parent.__name__]
        for parent in type(model).__mro__
        if parent.__name__ in _HEADS
    ]
    if not heads:
        names = ", ".join(_HEADS)
        raise ValueError(
            f"model: got {type(model).__name__}, of transformers these are known: "
            f"{names}; pass a CLIPModel's vision tower as CLIPVisionModelWithProjection"
        )
    head = heads[0]
    base = look_up(model, _BASES) if has(model, _BASES) else model
    blocks = tuple(look_up(base, _LAYERS))
    embeddings = base.embeddings
    n_special = sum(
        has(embeddings, name)
        for name in ("cls_token|class_embedding", "distillation_token")
    )
    n_prefix = n_special + int(getattr(base.config, "num_register_tokens", 0) or 0)
    convolution = look_up(base, _PATCHES)
    return ViTAdapter(
        model=model,
        blocks=blocks,
        n_prefix_tokens=n_prefix,
        pooling=head.pooling,
        tail=partial(_tail, model, base, head, n_prefix),
        patch_grid=partial(conv_grid, convolution),
        patch_layout=partial(conv_layout, convolution),
        output_projection=lambda index: cast(
            Tensor, look_up(blocks[index], _PROJECTIONS).weight
        ),
        feature_layer=look_up(blocks[-1], _FIRST_NORMS),
        class_index=0 if n_special else None,
        distillation_index=1 if head.distilled else None,
        example_size=(convolution.in_channels, *pair(base.config.image_size)),
        select_output=partial(_field, head.output),
    )


def _tail(model: Any, base: Any, head: _Head, n_prefix: int, tokens: Tensor) -> Tensor:
    norm = look_up(base, _NORMS)
    if head.norm == "before":
        tokens = norm(tokens)
    if head.pooling == "map":
        return cast(Tensor, base.head(tokens))
    if head.classifier == "pooler":
        return cast(Tensor, base.pooler(tokens))
    pooled = tokens[:, 0]
    if head.pooling == "avg":
        pooled = tokens[:, n_prefix:].mean(dim=1)
    elif head.pooling == "cls+avg":
        pooled = torch.cat([pooled, tokens[:, n_prefix:].mean(dim=1)], dim=1)
    if head.norm == "after":
        pooled = norm(pooled)
    if head.classifier:
        pooled = look_up(model, head.classifier)(pooled)
    if head.distilled:
        pooled = (pooled + look_up(model, head.distilled)(tokens[:, 1])) / 2
    return pooled


def _field(name: str, returned: Any) -> Tensor:
    """Pick a field of a model output, or the first entry of a tuple."""
    value = getattr(returned, name, None)
    if value is None and isinstance(returned, tuple):
        value = returned[0]
    if value is None:
        raise ValueError(
            f"model: it returned no {name}, takes a model that pools its tokens; load "
            "it with its pooling layer"
        )
    return cast(Tensor, value)


TRANSFORMERS = Family(
    "transformers ViT, DeiT, DINOv2, CLIP vision, SigLIP vision",
    ("config.image_size|config.vision_config", "config.model_type"),
    _adapt,
)
