"""Transition attention maps."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda.attr.attention_integrated_gradients import mean_path_gradient
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.attr.vit_batch import Batch, full_precision
from captum_mda.perturbation import Score
from captum_mda.perturbation.inputs import require_choice, require_index
from captum_mda.vit import find_adapter, ViTAdapter


class TransitionAttention(PathAttribution):
    r"""Attention followed backwards as a Markov chain, weighted by its gradient.

    A row starts as the classified one of the last block's attention and goes back
    through the blocks, :math:`r \leftarrow r \langle A_l \rangle_h + r`; the map is
    :math:`r \odot W[q^*]` with the mean path gradient W of the last block's attention
    (see `AttentionIntegratedGradients`).

    In the variant "original" the chain goes on at the last block but one; in "mda",
    which made the tables of MDA, at the last block again. The two differ little.

    Args:
        model (nn.Module or ViTAdapter): See `ViTAttribution`.
        variant (str, optional): "mda" or "original". Default: "mda"
        start_layer (int, optional): The block at which the way back ends, from 0 on.
            Default: 0
        score (str or callable, optional): See `ViTAttribution`. Default: "identity"

    Reference:
        Yuan, Li, Xiong, Cao, Dou, "Explaining Information Flow Inside Vision
        Transformers Using Markov Chain", 2021.

    Example::

        >>> from captum_mda import demo, TransitionAttention
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> method = TransitionAttention(demo.load_model(), variant="original")
        >>> method.attribute(images, target=labels, n_steps=4).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        variant: Literal["mda", "original"] = "mda",
        start_layer: int = 0,
        score: Score = "identity",
    ) -> None:
        """Check the model, the variant and the layer."""
        require_choice("variant", variant, ("mda", "original"))
        adapter = find_adapter(model)
        self.start_layer = require_index("start_layer", start_layer, adapter.depth)
        self.variant = variant
        PathAttribution.__init__(self, adapter, score)
        self._subject = model

    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        gradient = mean_path_gradient(batch, options["n_steps"])  # W (B, T, T)
        with torch.no_grad():
            seen = batch.observe(first_block=self.start_layer)
        attention = [full_precision(each).mean(dim=1) for each in seen.maps]
        row = batch.read_row(attention[-1], seen)  # r (B, T)
        way_back = attention[::-1] if self.variant == "mda" else attention[-2::-1]
        for step in way_back:
            row = (row[:, None] @ step)[:, 0] + row
        return row * batch.read_row(gradient, seen)
