"""Bi-Attn: attention followed through the blocks, weighted by gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda._checks import require_choice, require_index
from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.attention_integrated_gradients import mean_path_gradient
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.attr.vit_gradients import score_gradients
from captum_mda.perturbation import Score
from captum_mda.vit import AttentionRecord, find_adapter, ViTAdapter

# The published defaults, counted from 0.
_START_LAYERS = {"head": 3, "token": 5}


@documented(vit_arguments)
class BidirectionalAttention(PathAttribution):
    r"""Bi-Attn: how blocks mix tokens, weighted by the gradient of the decision.

    Perception starts at :math:`R = I` and goes :math:`R \leftarrow R + \bar A_l R`
    through the blocks; the decision is the mean path gradient W of the last block's
    attention (see `AttentionIntegratedGradients`); the map is
    :math:`(W \odot R)[q^*]`. Two modes combine the heads of a block into one matrix:

    - "head": :math:`\bar A_l = \sum_h I_h A_h`, by each head's importance
      :math:`I_h = \text{mean}_{ij} |A_h^T G_h|`, scaled to sum to 1;
    - "token": :math:`\bar A_l = \langle A_l \rangle_h \text{diag}(o)`, by the length of
      a token's projected value, :math:`o_j = \|v_j W_O^T\| / \|z_{l-1, j}\|`, and
      :math:`|R|` in the product.

    Args:
        model: ...
        mode (str, optional): "head", which MDA starts from, or "token".
            Default: "head"
        start_layer (int, optional): The first block of R, counted from 0. None:
            3 for "head" and 5 for "token" as published (there counted from 1), at most
            the last block. Default: None
        score: ...

    Reference:
        Chen, Li, Yu, Zhang, Yan, "Beyond Intuition: Rethinking Token Attributions
        inside Transformers", TMLR 2023.

    Example::

        >>> from captum_mda import BidirectionalAttention, demo
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> method = BidirectionalAttention(demo.load_model())
        >>> method.attribute(images, target=labels, n_steps=4).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        mode: Literal["head", "token"] = "head",
        start_layer: int | None = None,
        score: Score = "identity",
    ) -> None:
        """Check the model, the mode and the layer."""
        require_choice("mode", mode, ("head", "token"))
        adapter = find_adapter(model)
        if start_layer is None:
            start_layer = _start_layer(mode, adapter.depth)
        self.start_layer = require_index("start_layer", start_layer, adapter.depth)
        self.mode = mode
        PathAttribution.__init__(self, adapter, score)
        self._subject = model

    def _call_defaults(self) -> dict[str, Any]:
        start_layer = _start_layer(self.mode, self.adapter.depth)
        return super()._call_defaults() | {"start_layer": start_layer}

    def _token_map(self, batch: ModelBatch, n_steps: int = 20) -> Tensor:
        decision = mean_path_gradient(batch, n_steps)  # W (B, T, T)
        seen = batch.observe(first_block=self.start_layer)
        if self.mode == "head":
            gradients = score_gradients(batch, seen.outputs, seen.maps)
            mixed = [
                _by_heads(full_precision(attention), full_precision(gradient))
                for attention, gradient in zip(seen.maps, gradients, strict=True)
            ]
        else:
            mixed = [
                self._by_tokens(self.start_layer + index, record, seen.tokens[index])
                for index, record in enumerate(seen.attention)
            ]
        perception = torch.eye(decision.shape[-1]).to(decision)  # R
        for step in mixed:
            perception = perception + step @ perception
        if self.mode == "token":
            perception = perception.abs()
        return self._head_row(decision * perception, seen)

    def _by_tokens(self, block: int, record: AttentionRecord, tokens: Tensor) -> Tensor:
        """Weight the mean attention by the length of each token's value."""
        if record.values is None:
            raise RuntimeError(
                f"model: the values of block {block}'s attention were not seen; load "
                "it with PyTorch's scaled dot-product attention (in transformers "
                "attn_implementation='sdpa')"
            )
        values = full_precision(record.values).transpose(1, 2).flatten(2)  # (B, T, H d)
        weight = full_precision(self.adapter.output_projection(block)).to(values)
        lengths = (values @ weight.T).norm(dim=-1)
        sizes = full_precision(tokens).norm(dim=-1)
        outward: Tensor = lengths / sizes.clamp(
            min=torch.finfo(sizes.dtype).tiny
        )  # o (B, T)
        mean = full_precision(record.probabilities).mean(dim=1)
        return mean * outward[:, None]


def _by_heads(attention: Tensor, gradient: Tensor) -> Tensor:
    """Weight heads by the gradients of the target's score: (B, T, T)."""
    importance = (attention.transpose(-2, -1) @ gradient).abs().mean(dim=(-2, -1))
    total = importance.sum(dim=1, keepdim=True)  # I_h (B, H)
    # Where all gradients are 0, the heads get equal weights.
    even = torch.full_like(importance, 1.0 / importance.shape[1])
    importance = torch.where(total > 0, importance / total, even)
    return (attention * importance[:, :, None, None]).sum(dim=1)


def _start_layer(mode: Literal["head", "token"], depth: int) -> int:
    return min(_START_LAYERS[mode], depth - 1)
