"""The adapter: the parts of a Vision Transformer, the same for all libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TYPE_CHECKING

import torch
from torch import nn, Tensor

from captum_mda._checks import require_real
from captum_mda._summaries import Brief
from captum_mda.vit.layout import (
    layout_by_growth,
    paint,
    patch_means,
    PatchLayout,
)
from captum_mda.vit.rerun import RerunTail

if TYPE_CHECKING:
    from jaxtyping import Float

Pooling = Literal["cls", "avg", "cls+avg", "map"]
"""How tokens are pooled: class token, mean, both concatenated, attention pooler."""


# More than twelve methods: docs/adapters.md describes them as the interface of an
# adapter, and each is a few lines.
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ViTAdapter(Brief):
    """The parts of a Vision Transformer that attribution methods use.

    `captum_mda.vit.resolve` makes one for every family it knows. For another model,
    construct one from its parts and pass it wherever a model is accepted.

    Args:
        model (nn.Module): The module that is called with the inputs.
        blocks (tuple[nn.Module, ...]): The residual blocks in order. Each takes and
            returns tokens (B, T, D), the second perhaps as the first entry of a tuple.
            The input of the first is the sequence after embeddings and positions.
        n_prefix_tokens (int): The number of tokens (class, distillation, registers)
            before the patches.
        pooling (str): "cls", "avg", "cls+avg" or "map", an attention pooler after the
            blocks.
        tail (callable): From the last block's output (B, T, D) to the model's output:
            norm, pooling and head.
        patch_grid (callable): From inputs (B, C, H, W) to the rows and columns (h, w)
            of patches that the model divides them into.
        output_projection (callable): From a block's index to the weight (D, H * d) of
            its attention's output projection.
        feature_layer (nn.Module): The first norm of the last block, whose output
            (B, T, D) holds the model's features of each patch.
        class_index (int, optional): The position of the class token; None without one.
            Default: None
        distillation_index (int, optional): The position of a distillation token whose
            head contributes to the output. Default: None
        pools_prefix (bool, optional): Whether "avg" or "map" pools prefix tokens too.
            Default: False
        example_size (tuple[int, ...], optional): (C, H, W) of an input to check
            the adapter with. Default: (3, 224, 224)
        select_output (callable, optional): From the model's return value to a tensor
            (B, ...). Default: the tensor itself, the first entry of a tuple
        patch_layout (callable, optional): From inputs (B, C, H, W) to the places of
            their patches (`PatchLayout`): needed where patches overlap or do not begin
            at the top left. None: patches have a fixed size if ``patch_grid`` grows
            with the input, and tile the input evenly otherwise. Default: None
        patch_order (str, optional): Whether the tokens of patches are in order of
            "rows" or of "columns". Default: "rows"
        planes (bool, optional): Whether inputs may have no channels, (B, H, W), as
            spectrograms do. Default: False

    Example::

        >>> import torch
        >>> from captum_mda import demo
        >>> from captum_mda.vit import resolve
        >>> adapter = resolve(demo.load_model())
        >>> adapter.depth, adapter.n_prefix_tokens, adapter.pooling
        (5, 1, 'cls')
        >>> adapter.patch_grid(torch.zeros(1, 3, 64, 64))
        (8, 8)
    """

    model: nn.Module
    blocks: tuple[nn.Module, ...]
    n_prefix_tokens: int
    pooling: Pooling
    tail: Callable[[Tensor], Tensor]
    patch_grid: Callable[[Tensor], tuple[int, int]]
    output_projection: Callable[[int], Tensor]
    feature_layer: nn.Module
    class_index: int | None = None
    distillation_index: int | None = None
    pools_prefix: bool = False
    example_size: tuple[int, ...] = (3, 224, 224)
    select_output: Callable[[object], Tensor] | None = None
    patch_layout: Callable[[Tensor], PatchLayout] | None = None
    patch_order: Literal["rows", "columns"] = "rows"
    planes: bool = False

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def token_entry(self) -> nn.Module:
        """The module whose input is the token sequence: the first block."""
        return self.blocks[0]

    def __call__(self, inputs: Tensor, *arguments: object) -> Tensor:
        """Run the model and return its output as a tensor (B, ...)."""
        return self.output_of(self.model(inputs, *arguments))

    def output_of(self, returned: object) -> Tensor:
        """Find the tensor in what the model returned."""
        if self.select_output is not None:
            returned = self.select_output(returned)
        elif isinstance(returned, (tuple, list)):
            returned = returned[0]
        if not isinstance(returned, Tensor):
            raise TypeError(
                f"model: {type(self.model).__name__} returned "
                f"{type(returned).__name__}, takes a model that returns a tensor; "
                "give the adapter a select_output that picks it"
            )
        require_real("model", returned, "returned", "must return")
        return returned

    def finish(self, tokens: Tensor, inputs: Tensor, *arguments: object) -> Tensor:
        """Compute the model's output from the last block's tokens, by the tail.

        Args:
            tokens (Tensor): (R, T, D).
            inputs (Tensor): (R, ...), the inputs that the tokens stem from.
            *arguments (any): Passed to the model after the inputs.

        Returns:
            *Tensor*: (R, ...).
        """
        if isinstance(self.tail, RerunTail):
            return self.tail(tokens, inputs, *arguments)
        return self.tail(tokens)

    def readout(
        self,
        n_tokens: int,
        pooler: Float[Tensor, "B H queries keys"] | None,
        like: Tensor,
    ) -> Float[Tensor, "rows {n_tokens}"]:
        """Compute the share of each token in the pooled vector.

        Args:
            n_tokens (int): T.
            pooler (Tensor, optional): Attention (B, heads, queries, keys) of an
                attention pooler, whose first query is read.
            like (Tensor): The result gets its dtype and device.

        Returns:
            *Tensor*: (1 or B, T), rows sum to 1: one for a class token, a half each
            with a distillation token or for "cls+avg", the mean over patches, or the
            pooler's mean attention.
        """
        first = 0 if self.pools_prefix else self.n_prefix_tokens
        weights = like.new_zeros(1, n_tokens)
        if self.pooling == "map":
            if pooler is None:
                raise ValueError(
                    "model: its adapter says pooling 'map', but no attention was seen "
                    "behind the blocks"
                )
            attention = pooler.to(like).mean(dim=1)[:, 0]  # (B, keys)
            weights = like.new_zeros(len(attention), n_tokens)
            weights[:, n_tokens - attention.shape[1] :] = attention
            return weights
        if self.pooling == "avg":
            weights[:, first:] = 1.0 / (n_tokens - first)
            return weights
        class_tokens = [self.class_index or 0]
        if self.distillation_index is not None:
            class_tokens.append(self.distillation_index)
        weights[:, class_tokens] = 1.0 / len(class_tokens)
        if self.pooling == "cls+avg":
            weights /= 2
            weights[:, first:] += 0.5 / (n_tokens - first)
        return weights

    def patch_map(
        self, tokens: Float[Tensor, "B T"], inputs: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B 1 h w"]:
        """Arrange values of tokens on the grid of patches.

        Args:
            tokens (Tensor): (B, T), one value per token.
            inputs (Tensor): (B, C, H, W), for the grid.

        Returns:
            *Tensor*: (B, 1, h, w), the values of the patches.

        Raises:
            ValueError: The number of tokens is not the prefix plus the patches.
        """
        height, width = self.patch_grid(inputs)
        if tokens.shape[1] != self.n_prefix_tokens + height * width:
            raise ValueError(
                f"model: it made {tokens.shape[1]} tokens of inputs of "
                f"{inputs.shape[-2]} x {inputs.shape[-1]} pixels, its adapter expects "
                f"{self.n_prefix_tokens} and {height} x {width} patches; models that "
                "drop or merge tokens cannot be mapped"
            )
        patches = tokens[:, None, self.n_prefix_tokens :]
        return self.on_grid(patches, height, width)

    def on_grid(self, patches: Tensor, height: int, width: int) -> Tensor:
        """Arrange patches (..., P), in the order of tokens, as a grid (..., h, w)."""
        lead = patches.shape[:-1]
        if self.patch_order == "columns":
            return patches.reshape(*lead, width, height).mT
        return patches.reshape(*lead, height, width)

    def as_images(self, inputs: Tensor) -> Tensor:
        """Add a channel to inputs (B, H, W), where the model accepts such inputs."""
        if not isinstance(inputs, Tensor) or inputs.dim() != 3:
            return inputs
        takes = getattr(self.model, "takes", None)
        if isinstance(takes, str):
            raise ValueError(f"inputs: got shape {tuple(inputs.shape)}, takes {takes}")
        return inputs[:, None] if self.planes else inputs

    def layout(self, inputs: Tensor) -> PatchLayout | None:
        """Find the places of the inputs' patches; None where they tile the inputs."""
        if self.patch_layout is None:
            return layout_by_growth(self.patch_grid, self.example_size, inputs)
        layout = self.patch_layout(inputs)
        if layout is not None and not isinstance(layout, PatchLayout):
            raise TypeError(
                f"model: its adapter's patch_layout returned {type(layout).__name__}, "
                "takes a captum_mda.vit.PatchLayout, or None"
            )
        return layout

    def paint(self, grids: Tensor, inputs: Tensor, mode: str) -> Tensor:
        """Resize maps of patches to the inputs, with each patch at its place.

        Args:
            grids (Tensor): (B, C, h, w).
            inputs (Tensor): (B, C, H, W), for the size and the layout.
            mode (str): The interpolation, see `ViTAttribution.attribute`.

        Returns:
            *Tensor*: (B, C, H, W).
        """
        return paint(grids, inputs.shape[-2:], mode, self.layout(inputs))

    def patch_means(self, maps: Tensor, inputs: Tensor) -> Tensor:
        """Average maps (B, C, H, W) over the inputs' patches: (B, C, h, w)."""
        return patch_means(maps, self.patch_grid(inputs), self.layout(inputs))

    def example_input(self) -> Tensor:
        """Make an input (1, C, H, W) for checks: waves, always the same."""
        parameter = next(self.model.parameters(), torch.empty(0))
        n_values = 1
        for size in self.example_size:
            n_values *= size
        steps = torch.arange(n_values, dtype=torch.float64)
        values = (steps * 0.37).sin() + (steps * 0.011).cos()
        return values.reshape(1, *self.example_size).to(
            parameter.device,
            parameter.dtype if parameter.is_floating_point() else torch.float32,
        )
