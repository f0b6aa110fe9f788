"""LeGrad: gradients of per-layer scores with respect to the layers' attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda._checks import require_choice, require_flag, require_index
from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch, scale_patches
from captum_mda.attr.vit_gradients import score_gradients
from captum_mda.perturbation import Score
from captum_mda.vit import AttentionCapture, find_adapter, ViTAdapter
from captum_mda.vit.rerun import RerunTail

Layers = int | slice | Sequence[int]

_LAST_TWO = -2  # layers, as in the published code


@documented(vit_arguments)
class LeGrad(ViTAttribution):
    r"""LeGrad: gradients of layer-wise scores with respect to attention maps.

    The mean of all tokens after block l goes through the model's own tail, norm and
    head, which gives a score of the target, :math:`s_l`. The gradient of this score
    with respect to the same block's attention, :math:`G_l = \partial s_l / \partial
    A_l`, measures how more attention to a token would raise it:

    .. math:: e_l = \langle \text{mean}_i\, (G_l)^+_{\cdot, i, j} \rangle_h

    The map is the sum over layers. For models with an attention pooler, the tokens
    after block l go through the pooler, and :math:`G_l` is the gradient of the pooler's
    attention, in the row of its (first) query.

    For image-text models pass the text's embedding as ``target``: the score is then the
    cosine similarity.

    Args:
        model: ...
        layers (int, slice or sequence of int, optional): The first layer of the sum,
            negative from the end; or a slice or indices of layers. The paper averages
            over all layers, 0; its code sums the last two, -2 (the only layer of a
            model with one). Default: -2
        aggregate (str, optional): "sum" over layers as in the paper's code, or "mean"
            as in the paper. Default: "sum"
        normalize (bool, optional): Whether to scale each map to [0, 1], as the paper's
            code does for display; a map without positive gradients stays zero.
            Default: False
        score: ...

    Reference:
        Bousselham, Boggust, Chaybouti, Strobelt, Kuehne, "LeGrad: An Explainability
        Method for Vision Transformers via Feature Formation Sensitivity", ICCV 2025,
        Sec. 3. The form for classifiers, with the classification head as the tail, and
        the pooler after the model's own last norm, are ours.

    Example::

        >>> from captum_mda import demo, LeGrad
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> legrad = LeGrad(demo.load_model(), layers=0)
        >>> legrad.attribute(images, target=labels).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        layers: Layers = _LAST_TWO,
        aggregate: Literal["sum", "mean"] = "sum",
        normalize: bool = False,
        score: Score = "identity",
    ) -> None:
        """Check the model and the layers."""
        require_choice("aggregate", aggregate, ("sum", "mean"))
        self.aggregate = aggregate
        self.normalize = require_flag("normalize", normalize)
        adapter = find_adapter(model)
        self.layers = _layer_indices(layers, adapter.depth)
        ViTAttribution.__init__(self, adapter, score)
        self._subject = model

    def _call_defaults(self) -> dict[str, Any]:
        layers = _layer_indices(_LAST_TWO, self.adapter.depth)
        return super()._call_defaults() | {"layers": layers}

    def _token_map(self, batch: ModelBatch) -> Tensor:
        first = self.layers[0]
        pooler = self.adapter.pooling == "map"
        seen = batch.observe(first_block=first, attention=not pooler)
        total: Tensor | None = None
        for layer in self.layers:
            tokens = seen.tokens[layer - first + 1]  # z_l (B, T, D)
            if pooler:
                part = self._pooler_map(batch, tokens)
            else:
                part = self._layer_map(batch, tokens, seen.maps[layer - first])
            total = part if total is None else total + part
        assert total is not None
        if self.aggregate == "mean":
            total = total / len(self.layers)
        if self.normalize:
            total, _ = scale_patches(total, self.adapter.n_prefix_tokens)
        return total

    def _layer_map(
        self, batch: ModelBatch, tokens: Tensor, attention: Tensor
    ) -> Tensor:
        """Differentiate the mean token's score by the block's attention: (B, T)."""
        mean = tokens.mean(dim=1, keepdim=True)
        # All tokens that the tail pools are the mean, so that it pools the mean.
        any_number = not isinstance(self.adapter.tail, RerunTail)
        n_tokens = self.adapter.n_prefix_tokens + 1 if any_number else tokens.shape[1]
        same = mean.expand(-1, n_tokens, -1)
        with batch.as_called():
            outputs = batch.finish(same)
        (gradient,) = score_gradients(batch, outputs, [attention], keep_graph=True)
        return full_precision(gradient).clamp(min=0).mean(dim=(1, 2))

    def _pooler_map(self, batch: ModelBatch, tokens: Tensor) -> Tensor:
        """Run the pooler on a block's tokens, and differentiate its map: (B, T)."""
        with batch.as_called(), AttentionCapture() as capture:
            outputs = batch.finish(tokens.detach())
        # The last record: a tail that reruns the whole model records its blocks first.
        pooling = capture.records[-1].probabilities  # (B, H, queries, keys)
        (gradient,) = score_gradients(batch, outputs, [pooling])
        row = full_precision(gradient).clamp(min=0).mean(dim=1)[:, 0]
        prefix = row.new_zeros(len(row), tokens.shape[1] - row.shape[1])
        return torch.cat([prefix, row], dim=1)


def _layer_indices(layers: Layers, depth: int) -> list[int]:
    """Read the layers as indices in order."""
    if layers == _LAST_TWO and depth == 1:
        layers = 0
    if isinstance(layers, slice):
        indices = list(range(depth))[layers]
    elif isinstance(layers, Sequence) and not isinstance(layers, str):
        indices = [require_index("layers", index, depth) for index in layers]
    else:
        indices = list(range(require_index("layers", layers, depth), depth))
    if not indices:
        raise ValueError(f"layers: got {layers!r}, takes at least one of {depth}")
    return sorted(set(indices))
