"""The families of Vision Transformers that `resolve` knows, as tables.

Nothing is imported: a family is recognised by the parts that its models have. Where a
library renamed a part, the names are tried in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn, Tensor

from captum_mda.vit.adapter import Pooling, ViTAdapter


@dataclass(frozen=True)
class Family:
    """Models that are alike.

    Args:
        name (str): What it is called in messages.
        parts (tuple[str, ...]): Paths of attributes that all its models have; names
            divided by "|" stand for each other.
        build (callable): From a model to its adapter.
    """

    name: str
    parts: tuple[str, ...]
    build: Callable[[Any], ViTAdapter]

    def missing(self, model: nn.Module) -> list[str]:
        """List the parts that a model lacks."""
        return [part for part in self.parts if not _has(model, part)]


def _look_up(owner: Any, paths: str) -> Any:
    """Follow the first of several paths, divided by "|", that leads somewhere."""
    for path in paths.split("|"):
        found = owner
        for name in path.split("."):
            found = getattr(found, name, None)
            if found is None:
                break
        else:
            return found
    raise AttributeError(f"{type(owner).__name__} has none of {paths}")


def _has(owner: Any, paths: str) -> bool:
    try:
        _look_up(owner, paths)
    except AttributeError:
        return False
    return True


def _pair(value: Any) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else tuple(value)[-2:]
    return int(height), int(width)


def _conv_grid(convolution: nn.Conv2d, inputs: Tensor) -> tuple[int, int]:
    """Count the patches that a convolution makes of inputs (B, C, H, W)."""
    (kh, kw), (sh, sw) = _pair(convolution.kernel_size), _pair(convolution.stride)
    height, width = inputs.shape[-2:]
    if not isinstance(convolution.padding, str):
        height += 2 * convolution.padding[0]
        width += 2 * convolution.padding[1]
    return (height - kh) // sh + 1, (width - kw) // sw + 1


# timm ---------------------------------------------------------------------------------

_TIMM_POOLING: dict[str, Pooling] = {"token": "cls", "avg": "avg", "map": "map"}


def _timm(model: Any) -> ViTAdapter:
    """Adapt timm's VisionTransformer (with its DeiT and trunks), Eva and Beit."""
    pool = "map" if getattr(model, "attn_pool", None) is not None else model.global_pool
    if pool not in _TIMM_POOLING:
        raise ValueError(
            f"model: its global_pool is {pool!r}, takes 'token', 'avg' or 'map'; make "
            "it with timm.create_model(..., global_pool='avg'), which also gives it "
            "one output for each image"
        )
    # A hybrid's projection takes the features of a network in front of it.
    first = next(
        part for part in model.patch_embed.modules() if isinstance(part, nn.Conv2d)
    )
    size = getattr(model.patch_embed, "img_size", None) or (224, 224)

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        rows, columns = model.patch_embed.dynamic_feat_size(tuple(inputs.shape[-2:]))
        return int(rows), int(columns)

    return ViTAdapter(
        model=model,
        blocks=tuple(model.blocks),
        n_prefix_tokens=int(model.num_prefix_tokens),
        pooling=_TIMM_POOLING[pool],
        tail=lambda tokens: model.forward_head(model.norm(tokens)),
        patch_grid=patch_grid,
        output_projection=lambda index: cast(
            Tensor, _look_up(model.blocks[index], "attn.proj").weight
        ),
        feature_layer=model.blocks[-1].norm1,
        class_index=0 if getattr(model, "cls_token", None) is not None else None,
        distillation_index=1 if hasattr(model, "head_dist") else None,
        pools_prefix=pool != "token" and getattr(model, "pool_include_prefix", False),
        example_size=(first.in_channels, *_pair(size)),
    )


# torchvision --------------------------------------------------------------------------


def _torchvision(model: Any) -> ViTAdapter:
    blocks = tuple(model.encoder.layers)

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        height, width = inputs.shape[-2:]
        return height // model.patch_size, width // model.patch_size

    return ViTAdapter(
        model=model,
        blocks=blocks,
        n_prefix_tokens=1,
        pooling="cls",
        tail=lambda tokens: model.heads(model.encoder.ln(tokens)[:, 0]),
        patch_grid=patch_grid,
        output_projection=lambda index: cast(
            Tensor, _look_up(blocks[index], "self_attention.out_proj").weight
        ),
        feature_layer=cast(nn.Module, blocks[-1].ln_1),
        class_index=0,
        example_size=(3, model.image_size, model.image_size),
    )


# open_clip ----------------------------------------------------------------------------


def _open_clip(visual: Any) -> ViTAdapter:
    blocks = tuple(visual.transformer.resblocks)
    if not getattr(visual.transformer, "batch_first", True):
        raise ValueError(
            "model: its tokens come before the batch (batch_first=False); use an "
            "open_clip of 2024 or newer"
        )
    pools_attention = getattr(visual, "attn_pool", None) is not None
    pool = getattr(visual, "pool_type", "tok")
    if pool == "none" and not pools_attention:
        raise ValueError("model: its pool_type is 'none', takes 'tok' or 'avg'")

    def tail(tokens: Tensor) -> Tensor:
        pooled = visual._pool(tokens)[0]
        return cast(Tensor, pooled if visual.proj is None else pooled @ visual.proj)

    def output_projection(index: int) -> Tensor:
        return cast(Tensor, _look_up(blocks[index], "attn.out_proj").weight)

    return ViTAdapter(
        model=visual,
        blocks=blocks,
        n_prefix_tokens=1,
        pooling="map" if pools_attention else "avg" if pool == "avg" else "cls",
        tail=tail,
        patch_grid=partial(_conv_grid, visual.conv1),
        output_projection=output_projection,
        feature_layer=cast(nn.Module, blocks[-1].ln_1),
        class_index=0,
        pools_prefix=pools_attention,
        example_size=(visual.conv1.in_channels, *_pair(visual.image_size)),
    )


def _open_clip_timm(visual: Any) -> ViTAdapter:
    """Adapt open_clip's TimmModel: a timm trunk and a projection."""
    trunk = build_adapter(visual.trunk)
    return replace(
        trunk, model=visual, tail=lambda tokens: visual.head(trunk.tail(tokens))
    )


# transformers -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """How a class of transformers ends, from the last block's output on.

    Args:
        pooling (str): How its output pools.
        classifier (str): The path of what follows the pooled vector; "" for nothing.
        output (str): The field of what it returns.
        normed (bool): Whether the base's last norm comes before pooling. "after" where
            it follows.
        distilled (bool): Whether a distillation token has a head of its own.
    """

    pooling: Pooling
    classifier: str = ""
    output: str = "pooler_output"
    norm: str = "before"
    distilled: str = ""


_TRANSFORMERS: dict[str, _Head] = {
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


def _transformers(model: Any) -> ViTAdapter:
    heads = [
        _TRANSFORMERS[parent.__name__]
        for parent in type(model).__mro__
        if parent.__name__ in _TRANSFORMERS
    ]
    if not heads:
        names = ", ".join(_TRANSFORMERS)
        raise ValueError(
            f"model: got {type(model).__name__}, of transformers these are known: "
            f"{names}; pass a CLIPModel's vision tower as CLIPVisionModelWithProjection"
        )
    head = heads[0]
    base = _look_up(model, _BASES) if _has(model, _BASES) else model
    blocks = tuple(_look_up(base, _LAYERS))
    embeddings = base.embeddings
    n_special = sum(
        _has(embeddings, name)
        for name in ("cls_token|class_embedding", "distillation_token")
    )
    n_prefix = n_special + int(getattr(base.config, "num_register_tokens", 0) or 0)
    convolution = _look_up(base, _PATCHES)
    return ViTAdapter(
        model=model,
        blocks=blocks,
        n_prefix_tokens=n_prefix,
        pooling=head.pooling,
        tail=partial(_transformers_tail, model, base, head, n_prefix),
        patch_grid=partial(_conv_grid, convolution),
        output_projection=lambda index: cast(
            Tensor, _look_up(blocks[index], _PROJECTIONS).weight
        ),
        feature_layer=_look_up(blocks[-1], _FIRST_NORMS),
        class_index=0 if n_special else None,
        distillation_index=1 if head.distilled else None,
        example_size=(convolution.in_channels, *_pair(base.config.image_size)),
        select_output=partial(_field, head.output),
    )


def _transformers_tail(
    model: Any, base: Any, head: _Head, n_prefix: int, tokens: Tensor
) -> Tensor:
    norm = _look_up(base, _NORMS)
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
        pooled = _look_up(model, head.classifier)(pooled)
    if head.distilled:
        pooled = (pooled + _look_up(model, head.distilled)(tokens[:, 1])) / 2
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


FAMILIES: tuple[Family, ...] = (
    Family(
        "timm VisionTransformer, Eva, Beit",
        (
            "patch_embed.proj",
            "patch_embed.dynamic_feat_size",
            "blocks",
            "norm",
            "num_prefix_tokens",
            "global_pool",
            "forward_head",
        ),
        _timm,
    ),
    Family(
        "torchvision VisionTransformer",
        ("conv_proj", "class_token", "encoder.layers", "encoder.ln", "heads"),
        _torchvision,
    ),
    Family(
        "open_clip VisionTransformer",
        ("conv1", "class_embedding", "transformer.resblocks", "ln_post", "_pool"),
        _open_clip,
    ),
    Family("open_clip TimmModel", ("trunk.blocks", "head"), _open_clip_timm),
    Family(
        "transformers ViT, DeiT, DINOv2, CLIP vision, SigLIP vision",
        ("config.image_size|config.vision_config", "config.model_type"),
        _transformers,
    ),
)


def build_adapter(model: nn.Module) -> ViTAdapter:
    """Make a model's adapter by the first family that has all its parts.

    Raises:
        ValueError: No family has, with what is missing of the closest one.
    """
    lacking = [(family.missing(model), family) for family in FAMILIES]
    for missing, family in lacking:
        if not missing:
            return family.build(model)
    missing, closest = min(lacking, key=lambda pair: len(pair[0]) / len(pair[1].parts))
    hint = ""
    for name in ("visual", "vision_model", "module", "trunk"):
        if isinstance(getattr(model, name, None), nn.Module):
            hint = f"; its .{name} may be what you mean"
            break
    raise ValueError(
        f"model: got {type(model).__name__}, which is of no known family; closest is "
        f"{closest.name}, of which it lacks {', '.join(missing)}{hint}. Known are "
        + "; ".join(family.name for family in FAMILIES)
        + ". For another model write a captum_mda.vit.ViTAdapter, see "
        "docs/adapters.md, and pass it in the model's place"
    )
