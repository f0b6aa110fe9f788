"""open_clip's visual towers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch import nn, Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.families import base
from captum_mda.vit.families.timm import TIMM


def _require_output(visual: Any) -> None:
    pools_attention = getattr(visual, "attn_pool", None) is not None
    if getattr(visual, "pool_type", "tok") == "none" and not pools_attention:
        raise ValueError("model: its pool_type is 'none', takes 'tok' or 'avg'")


def _adapt(visual: Any) -> ViTAdapter:
    blocks = tuple(visual.transformer.resblocks)
    if not getattr(visual.transformer, "batch_first", True):
        raise ValueError(
            "model: its tokens come before the batch (batch_first=False); use an "
            "open_clip of 2024 or newer"
        )
    pools_attention = getattr(visual, "attn_pool", None) is not None
    pool = getattr(visual, "pool_type", "tok")

    def tail(tokens: Tensor) -> Tensor:
        pooled = visual._pool(tokens)[0]
        return cast(Tensor, pooled if visual.proj is None else pooled @ visual.proj)

    def output_projection(index: int) -> Tensor:
        return base.linear_weight(base.look_up(blocks[index], "attn.out_proj"))

    return ViTAdapter(
        model=visual,
        blocks=blocks,
        n_prefix_tokens=1,
        pooling="map" if pools_attention else "avg" if pool == "avg" else "cls",
        tail=tail,
        patch_grid=partial(base.conv_grid, visual.conv1),
        patch_layout=partial(base.conv_layout, visual.conv1),
        output_projection=output_projection,
        feature_layer=cast(nn.Module, blocks[-1].ln_1),
        class_index=0,
        pools_prefix=pools_attention,
        example_size=(
            base.first_convolution(visual.conv1).in_channels,
            *base.pair(visual.image_size),
        ),
    )


def _require_timm_output(visual: Any) -> None:
    TIMM.require_output(visual.trunk)


def _adapt_timm(visual: Any) -> ViTAdapter:
    """Adapt open_clip's TimmModel: a timm trunk and a projection."""
    trunk = TIMM.build(visual.trunk)
    return replace(
        trunk, model=visual, tail=lambda tokens: visual.head(trunk.tail(tokens))
    )


OPEN_CLIP = base.Family(
    name="open_clip VisionTransformer",
    parts=("conv1", "class_embedding", "transformer.resblocks", "ln_post", "_pool"),
    build=_adapt,
    require_output=_require_output,
)

OPEN_CLIP_TIMM = base.Family(
    name="open_clip TimmModel",
    parts=(*(f"trunk.{part}" for part in TIMM.parts), "head"),
    build=_adapt_timm,
    require_output=_require_timm_output,
)
