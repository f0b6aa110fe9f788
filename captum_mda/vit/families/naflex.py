"""timm's NaFlexVit, which takes images of any size and aspect."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.families.base import Family, linear_weight, look_up, pair
from captum_mda.vit.families.timm import POOLING, require_output
from captum_mda.vit.layout import PatchLayout


def _adapt(model: Any) -> ViTAdapter:
    """Adapt it for images (B, C, H, W); patches that are cut before are refused."""
    blocks, embeds = tuple(model.blocks), model.embeds
    down, across = embeds.patch_size
    rows, columns = embeds.pos_embed_grid_size or (16, 16)
    size = embeds.default_img_size or (down * rows, across * columns)

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        height, width = embeds.dynamic_feat_size(tuple(inputs.shape[-2:]))
        return int(height), int(width)

    def tail(tokens: Tensor) -> Tensor:
        output: Tensor = model.forward_head(model.norm(tokens))
        return output

    return ViTAdapter(
        model=model,
        blocks=blocks,
        n_prefix_tokens=int(model.num_prefix_tokens),
        pooling=POOLING.get(model.global_pool, "cls"),
        tail=tail,
        patch_grid=patch_grid,
        patch_layout=lambda inputs: PatchLayout((down, across)),
        output_projection=lambda index: linear_weight(
            look_up(blocks[index], "attn.proj")
        ),
        feature_layer=look_up(blocks[-1], "norm1"),
        class_index=0 if getattr(embeds, "cls_token", None) is not None else None,
        pools_prefix=getattr(model, "pool_include_prefix", False),
        example_size=(int(model.in_chans), *pair(size)),
    )


NAFLEX = Family(
    name="timm NaFlexVit",
    parts=(
        "embeds.proj",
        "embeds.patch_size",
        "embeds.dynamic_feat_size",
        "blocks",
        "norm",
        "num_prefix_tokens",
        "global_pool",
        "forward_head",
    ),
    build=_adapt,
    require_output=require_output,
)
