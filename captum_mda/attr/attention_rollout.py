"""Attention rollout: the product of attention over all blocks."""

from __future__ import annotations

import torch
from torch import nn, Tensor

from captum_mda._checks import require_index
from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.perturbation import Score
from captum_mda.vit import find_adapter, ViTAdapter


@documented(vit_arguments)
class AttentionRollout(ViTAttribution):
    r"""The product of all blocks' attention, with the identity for the residual stream.

    .. math:: \hat A_l = \text{row-normalised } \langle A_l \rangle_h + I, \qquad
              a = (\hat A_L \cdots \hat A_{start}) [q^*]

    The rows of the product sum to 1. The map does not depend on the target.

    Args:
        model: ...
        start_layer (int, optional): The first block of the product, counted from 0,
            negative from the end. Default: 0
        score (str or callable, optional): Not used. Default: "identity"

    Reference:
        Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

    Example::

        >>> from captum_mda import AttentionRollout, demo
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> rollout = AttentionRollout(demo.load_model())
        >>> grid = rollout.attribute(images, interpolate_mode=None)
        >>> grid.shape, bool(grid.sum() < 1.0)  # the class token keeps its share
        (torch.Size([1, 1, 8, 8]), True)
    """

    _uses_target = False

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        start_layer: int = 0,
        score: Score = "identity",
    ) -> None:
        """Check the model and the layer."""
        adapter = find_adapter(model)
        self.start_layer = require_index("start_layer", start_layer, adapter.depth)
        ViTAttribution.__init__(self, adapter, score)
        self._subject = model

    def _token_map(self, batch: ModelBatch) -> Tensor:
        with torch.no_grad():
            seen = batch.observe(first_block=self.start_layer)
        rollout: Tensor | None = None
        for attention in seen.maps:
            step = full_precision(attention).mean(dim=1)
            step = step + torch.eye(step.shape[-1]).to(step)
            step = step / step.sum(dim=-1, keepdim=True)
            rollout = step if rollout is None else step @ rollout
        assert rollout is not None
        return self._head_row(rollout, seen)
