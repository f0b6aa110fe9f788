"""Transition attention: attention as a Markov chain, weighted by its gradient."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn, Tensor

from captum_mda._checks import require_choice, require_index
from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.attention_integrated_gradients import mean_path_gradient
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.perturbation import Score
from captum_mda.vit import find_adapter, ViTAdapter


@documented(vit_arguments)
class TransitionAttention(PathAttribution):
    r"""Attention followed backwards as a Markov chain, weighted by its gradient.

    The row of the last block's attention that feeds the head is multiplied back through
    the blocks, :math:`r \leftarrow r \langle A_l \rangle_h + r`; the map is
    :math:`r \odot W[q^*]` with the mean path gradient W of the last block's attention
    (see `AttentionIntegratedGradients`).

    In the variant "original" the chain continues at the last block but one; in "mda",
    the form behind the tables of MDA, at the last block again. The maps differ little.

    Args:
        model: ...
        variant (str, optional): "mda" or "original". Default: "mda"
        start_layer (int, optional): The block at which the chain ends, counted from 0.
            Default: 0
        score: ...

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

    def _token_map(self, batch: ModelBatch, n_steps: int = 20) -> Tensor:
        gradient = mean_path_gradient(batch, n_steps)  # W (B, T, T)
        with torch.no_grad():
            seen = batch.observe(first_block=self.start_layer)
        attention = [full_precision(each).mean(dim=1) for each in seen.maps]
        row = self._head_row(attention[-1], seen)  # r (B, T)
        way_back = attention[::-1] if self.variant == "mda" else attention[-2::-1]
        for step in way_back:
            row = (row[:, None] @ step)[:, 0] + row
        return row * self._head_row(gradient, seen)
