"""torchvision's VisionTransformer."""

from __future__ import annotations

from typing import Any, cast

from torch import nn, Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.families import base


def _adapt(model: Any) -> ViTAdapter:
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
        output_projection=lambda index: base.linear_weight(
            base.look_up(blocks[index], "self_attention.out_proj")
        ),
        feature_layer=cast(nn.Module, blocks[-1].ln_1),
        class_index=0,
        example_size=(
            base.first_convolution(model.conv_proj).in_channels,
            *base.pair(model.image_size),
        ),
    )


TORCHVISION = base.Family(
    name="torchvision VisionTransformer",
    parts=("conv_proj", "class_token", "encoder.layers", "encoder.ln", "heads"),
    build=_adapt,
)
