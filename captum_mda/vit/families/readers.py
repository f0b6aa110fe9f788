"""How models of transformers divide their inputs into patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda.vit.families.base import conv_grid, conv_layout, pair
from captum_mda.vit.layout import PatchLayout


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A model's inputs and patches, as fields of `ViTAdapter`.

    Args:
        patch_grid (callable): As all fields up to ``planes``, see `ViTAdapter`.
        patch_layout (callable, optional): See there.
        example_size (tuple[int, ...]): See there.
        patch_order (str, optional): See there. Default: "rows"
        planes (bool, optional): See there. Default: False
        wrap (callable, optional): Wraps the model in a module that takes images.
            Default: None
    """

    patch_grid: Callable[[Tensor], tuple[int, int]]
    patch_layout: Callable[[Tensor], PatchLayout] | None
    example_size: tuple[int, ...]
    patch_order: Literal["rows", "columns"] = "rows"
    planes: bool = False
    wrap: Callable[[nn.Module], nn.Module] | None = None


def reader_of(base: Any, embedding: nn.Module) -> Reader:
    """Find the inputs and patches of a base model by its patch embedding.

    Raises:
        ValueError: The embedding is neither a convolution nor a linear map.
    """
    convolution = next(
        (part for part in embedding.modules() if isinstance(part, nn.Conv2d)), None
    )
    if convolution is not None and hasattr(base.config, "num_mel_bins"):
        return _spectrograms(base.config, convolution)
    if convolution is not None:
        size = pair(getattr(base.config, "image_size", None) or 224)
        return Reader(
            patch_grid=partial(conv_grid, convolution),
            patch_layout=partial(conv_layout, convolution),
            example_size=(convolution.in_channels, *size),
        )
    if isinstance(embedding, nn.Linear):
        return _cut_beforehand(base.config, embedding)
    raise ValueError(
        f"model: {type(base).__name__} makes patches by {type(embedding).__name__}, "
        "takes a model that does by a convolution or a linear map of patches; write an "
        "adapter, see docs/adapters.md"
    )


def _spectrograms(config: Any, convolution: nn.Conv2d) -> Reader:
    """Read spectrograms (B, time, frequency), which AST transposes first."""

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        rows, columns = conv_grid(convolution, inputs.mT)
        return columns, rows

    def patch_layout(inputs: Tensor) -> PatchLayout:
        layout = conv_layout(convolution, inputs.mT)
        size = layout.size or layout.stride
        return PatchLayout(layout.stride[::-1], size[::-1], layout.offset[::-1])

    size = (1, int(config.max_length), int(config.num_mel_bins))
    return Reader(
        patch_grid=patch_grid,
        patch_layout=patch_layout,
        example_size=size,
        patch_order="columns",
        planes=True,
        wrap=WithoutChannel,
    )


def _cut_beforehand(config: Any, embedding: nn.Linear) -> Reader:
    """Read images for a model whose processor cuts the patches (SigLIP 2)."""
    side = int(config.patch_size)
    n_channels = embedding.in_features // side**2
    n_rows = round(int(config.num_patches) ** 0.5)

    def patch_grid(inputs: Tensor) -> tuple[int, int]:
        return inputs.shape[-2] // side, inputs.shape[-1] // side

    return Reader(
        patch_grid=patch_grid,
        patch_layout=lambda inputs: PatchLayout((side, side)),
        example_size=(n_channels, n_rows * side, n_rows * side),
        wrap=partial(CutImages, side),
    )


class WithoutChannel(nn.Module):
    """Removes the only channel of inputs (B, 1, H, W).

    Args:
        model (nn.Module): Takes inputs (B, H, W).
    """

    def __init__(self, model: nn.Module) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, inputs: Tensor, *arguments: Any) -> Any:
        """Run the model on inputs (B, 1, H, W), or (B, H, W) as they are."""
        planes = inputs[:, 0] if inputs.dim() == 4 else inputs
        return self.model(planes, *arguments)


class CutImages(nn.Module):
    """Cuts images into patches for a model that takes patches.

    Args:
        side (int): Height and width of a patch.
        model (nn.Module): Takes patches (B, P, side * side * C), a mask (B, P) that is
            0 for padding, and rows and columns of each image (B, 2).
    """

    takes = (
        "images (B, C, H, W), normalised as its processor does; they are cut into "
        "patches here, so pass no patches, mask or sizes"
    )

    def __init__(self, side: int, model: nn.Module) -> None:
        """Keep both."""
        super().__init__()
        self.side = side
        self.model = model
        self.training = model.training

    def forward(self, images: Tensor, *arguments: Any) -> Any:
        """Run the model on images (B, C, H, W)."""
        height, width = (size // self.side for size in images.shape[-2:])
        images = images[..., : height * self.side, : width * self.side]
        pieces = images.unflatten(-1, (width, -1)).unflatten(-3, (height, -1))
        # (B, C, h, side, w, side) to (B, h w, side side C), channels last
        patches = pieces.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2).flatten(2)
        mask = torch.ones(patches.shape[:2], dtype=torch.long, device=images.device)
        shapes = torch.tensor([[height, width]], device=images.device)
        return self.model(patches, mask, shapes.expand(len(images), 2), *arguments)
