"""Integrated gradients of the last block's attention."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import PathAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.attr.vit_gradients import require_slopes, score_gradients


def mean_path_gradient(batch: ModelBatch, n_steps: int) -> Tensor:
    r"""Average the gradient of the last attention from all zeros to the input.

    .. math:: W = \Big( \frac 1 S \sum_{\alpha \in \text{linspace}(0, 1, S)}
              G_L(\alpha x) \Big)^+

    Only the last block runs with a graph.

    Args:
        batch (ModelBatch): The examples.
        n_steps (int): The number S of points, both ends included.

    Returns:
        *Tensor*: (B, T, T), the mean over heads of W.
    """
    steps = torch.linspace(0, 1, n_steps, dtype=torch.float64).tolist()
    together = 1 if batch.scorer.whole_batch else max(1, batch.max_rows // len(batch))
    total: Tensor | None = None
    for start in range(0, n_steps, together):
        scales = steps[start : start + together]
        seen = batch.observe(scales, first_block=-1)
        # Gradients may be 0 at black, but not along the whole path.
        (gradient,) = score_gradients(
            batch, seen.outputs, seen.maps[-1:], may_be_zero=True
        )
        parts = full_precision(gradient).unflatten(0, (len(scales), len(batch)))
        part = parts.sum(dim=0)
        total = part if total is None else total + part
    assert total is not None
    if not bool(total.any()):
        require_slopes(batch, seen.outputs)
    return (total / n_steps).clamp(min=0).mean(dim=1)


@documented(vit_arguments)
class AttentionIntegratedGradients(PathAttribution):
    r"""The gradient of the last block's attention, averaged from black to the image.

    :math:`a = \langle W \rangle_h [q^*]`, where W (see `mean_path_gradient`) is the
    positive part of the mean gradient, without a factor of attention or input. "Black"
    is all zeros in the model's input space, the data's mean colour.

    Args:
        model: ...
        score: ...

    Reference:
        "IG" in the tables of Walker, Jha, Ewetz, ICLR 2025; W is that of Yuan et al.,
        "Explaining Information Flow Inside Vision Transformers Using Markov Chain",
        2021, after Sundararajan et al., ICML 2017.

    Example::

        >>> from captum_mda import AttentionIntegratedGradients, demo
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> method = AttentionIntegratedGradients(demo.load_model())
        >>> method.attribute(images, target=labels, n_steps=4).shape
        torch.Size([1, 1, 64, 64])
    """

    @property
    def _further_forwards(self) -> int:
        return int(self.adapter.pooling == "map")

    def _token_map(self, batch: ModelBatch, n_steps: int = 20) -> Tensor:
        gradient = mean_path_gradient(batch, n_steps)
        if self.adapter.pooling != "map":
            return self._head_row(gradient)
        with torch.no_grad():  # the row is the pooler's attention to the image
            return self._head_row(gradient, batch.observe(first_block=-1))
