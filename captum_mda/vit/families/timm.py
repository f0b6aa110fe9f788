"""timm's VisionTransformer (with its DeiT and trunks), Eva and Beit."""

from __future__ import annotations

from typing import Any

from torch import nn, Tensor

from captum_mda.vit.adapter import Pooling, ViTAdapter
from captum_mda.vit.families import base
from captum_mda.vit.families.refusals import refusal_of
from captum_mda.vit.layout import PatchLayout

POOLING: dict[str, Pooling] = {"token": "cls", "avg": "avg", "map": "map"}
_FIRST_NORMS = "norm1|in_norm|attns.0.norm"
_PROJECTIONS = "attn.proj|attn_out_proj|out_proj"
"""The second and third are those of blocks that run attention and MLP in parallel."""


def pool_of(model: Any) -> str:
    """Name how a model pools; with an attention pooler, "map"."""
    with_pooler = getattr(model, "attn_pool", None) is not None
    return "map" if with_pooler else str(model.global_pool)


def require_output(model: Any) -> None:
    """Raise unless a model returns one vector per image."""
    if pool_of(model) not in POOLING:
        raise ValueError(
            f"model: its global_pool is {pool_of(model)!r}, takes 'token', 'avg' or "
            "'map'; make it with timm.create_model(..., global_pool='avg'), which also "
            "gives it one output for each image"
        )


def _refuse_by_name(model: Any, blocks: tuple[Any, ...]) -> None:
    reason = refusal_of(model)
    if reason is not None:
        raise ValueError(f"model: got {type(model).__name__}, which {reason}")
    for block in blocks:
        if not base.has(block, _FIRST_NORMS):
            raise ValueError(
                f"model: its blocks are {type(block).__name__}, which have no norm1, "
                "takes blocks as VisionTransformer's; write an adapter, see "
                "docs/adapters.md"
            )


def _adapt(model: Any) -> ViTAdapter:
    blocks, pool = tuple(model.blocks), pool_of(model)
    _refuse_by_name(model, blocks)
    size = getattr(model.patch_embed, "img_size", None) or (224, 224)
    # A hybrid's projection takes the features of another network, and a stem has
    # several convolutions.
    convolution, proj = (
        base.first_convolution(model.patch_embed),
        model.patch_embed.proj,
    )
    reads_images = any(part is convolution for part in proj.modules())
    reads_images = reads_images and not isinstance(proj, nn.Sequential)

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        pads = getattr(model.patch_embed, "dynamic_img_pad", False)
        if reads_images and not pads:
            return base.conv_grid(convolution, inputs)
        rows, columns = model.patch_embed.dynamic_feat_size(tuple(inputs.shape[-2:]))
        return int(rows), int(columns)

    def patch_layout(inputs: Tensor) -> PatchLayout:
        if reads_images:
            return base.conv_layout(convolution, inputs)
        # After other layers, the product of the strides is the patch size.
        return PatchLayout(base.pair(model.patch_embed.feat_ratio(as_scalar=False)))

    def tail(tokens: Tensor) -> Tensor:
        output: Tensor = model.forward_head(model.norm(tokens))
        return output

    def output_projection(index: int) -> Tensor:
        block = blocks[index]
        if not base.has(block, _PROJECTIONS):
            raise ValueError(
                f"model: its blocks are {type(block).__name__}, which have no single "
                "projection behind attention"
            )
        weight = base.linear_weight(base.look_up(block, _PROJECTIONS))
        # One projection may take attention and MLP together: (D, D + hidden).
        return weight[:, : len(weight)] if weight.shape[1] > len(weight) else weight

    return ViTAdapter(
        model=model,
        blocks=blocks,
        n_prefix_tokens=int(model.num_prefix_tokens),
        pooling=POOLING.get(pool, "cls"),
        tail=tail,
        patch_grid=patch_grid,
        patch_layout=patch_layout,
        output_projection=output_projection,
        feature_layer=base.look_up(blocks[-1], _FIRST_NORMS),
        class_index=0 if getattr(model, "cls_token", None) is not None else None,
        distillation_index=1 if hasattr(model, "head_dist") else None,
        pools_prefix=pool != "token" and getattr(model, "pool_include_prefix", False),
        example_size=(convolution.in_channels, *base.pair(size)),
    )


TIMM = base.Family(
    name="timm VisionTransformer, Eva, Beit",
    parts=(
        "patch_embed.proj",
        "patch_embed.dynamic_feat_size",
        "blocks",
        "norm",
        "num_prefix_tokens",
        "global_pool",
        "forward_head",
    ),
    build=_adapt,
    require_output=require_output,
)
