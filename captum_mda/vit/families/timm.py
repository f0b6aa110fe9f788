"""timm's VisionTransformer (with its DeiT and trunks), Eva and Beit."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import nn, Tensor

from captum_mda.vit.adapter import Pooling, ViTAdapter
from captum_mda.vit.families.base import conv_grid, conv_layout, Family, look_up, pair

_POOLING: dict[str, Pooling] = {"token": "cls", "avg": "avg", "map": "map"}


def _adapt(model: Any) -> ViTAdapter:
    """Adapt timm's VisionTransformer (with its DeiT and trunks), Eva and Beit."""
    pool = "map" if getattr(model, "attn_pool", None) is not None else model.global_pool
    if pool not in _POOLING:
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

    reads_images = first is model.patch_embed.proj

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        pads = getattr(model.patch_embed, "dynamic_img_pad", False)
        if reads_images and not pads:
            return conv_grid(first, inputs)
        rows, columns = model.patch_embed.dynamic_feat_size(tuple(inputs.shape[-2:]))
        return int(rows), int(columns)

    return ViTAdapter(
        model=model,
        blocks=tuple(model.blocks),
        n_prefix_tokens=int(model.num_prefix_tokens),
        pooling=_POOLING[pool],
        tail=lambda tokens: model.forward_head(model.norm(tokens)),
        patch_grid=patch_grid,
        patch_layout=partial(conv_layout, first) if reads_images else None,
        output_projection=lambda index: cast(
            Tensor, look_up(model.blocks[index], "attn.proj").weight
        ),
        feature_layer=model.blocks[-1].norm1,
        class_index=0 if getattr(model, "cls_token", None) is not None else None,
        distillation_index=1 if hasattr(model, "head_dist") else None,
        pools_prefix=pool != "token" and getattr(model, "pool_include_prefix", False),
        example_size=(first.in_channels, *pair(size)),
    )


TIMM = Family(
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
    _adapt,
)
