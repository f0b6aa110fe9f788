"""Gradients of scores, and the reasons why there are none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn, Tensor

from captum_mda.attr.vit_batch import ModelBatch
from captum_mda.perturbation import differentiation
from captum_mda.vit import ConstantParameters


def score_gradients(
    batch: ModelBatch,
    outputs: Tensor,
    tensors: Sequence[Tensor],
    keep_graph: bool = False,
    may_be_zero: bool = False,
) -> list[Tensor]:
    """Differentiate the scores of outputs; examples do not interact.

    Args:
        batch (ModelBatch): The examples that the outputs stem from.
        outputs (Tensor): (R, ...), with a graph.
        tensors (sequence of Tensor): Differentiate with respect to these, one per block
            up to the last one.
        keep_graph (bool, optional): Whether another call follows. Default: False
        may_be_zero (bool, optional): Whether gradients may be 0 for all rows, for
            reasons that `require_slopes` refuses. Default: False

    Returns:
        *list[Tensor]*: shaped like ``tensors``.

    Raises:
        ValueError: The score does not depend differentiably on one of them, or is
            constant piece by piece; the message gives the likely reason.
    """
    scores = batch.scores(outputs)
    found: Sequence[Tensor | None] = [None] * len(tensors)
    if scores.requires_grad:
        found = torch.autograd.grad(
            scores.sum(), tensors, retain_graph=keep_graph, allow_unused=True
        )
    gradients = [gradient for gradient in found if gradient is not None]
    if len(gradients) < len(found):
        raise ValueError(_why_none(batch, outputs, found))
    if not may_be_zero and not any(bool(gradient.any()) for gradient in gradients):
        require_slopes(batch, outputs)
    return gradients


def _why_none(
    batch: ModelBatch, outputs: Tensor, found: Sequence[Tensor | None]
) -> str:
    """Explain why the score has no gradient: because of the target, or of the model."""
    named = batch.scorer.callable_name
    if named is not None and differentiation.lacks_gradient(batch.scores, outputs):
        return differentiation.callable_without_gradient(named)
    model = batch.adapter.model
    lost = [index for index, each in enumerate(found) if each is None]
    where = f"behind block {batch.adapter.depth - len(found) + lost[-1]}"
    if len(lost) == len(found):
        one = batch.select(slice(0, 1)).without_progress()

        def run() -> None:
            with ConstantParameters():
                one.observe(attention=False)

        where = differentiation.gradient_end(model, run) or where
    return differentiation.model_without_gradient(model, outputs, where)


def require_slopes(batch: ModelBatch, outputs: Tensor) -> None:
    """Raise a ValueError if a callable target, a score or the model is flat.

    Called where all gradients are 0. Saturated probabilities are accepted, and so are a
    class or a whole head whose weights are 0, as torchvision initialises heads: the
    maps of their examples are zeros.
    """
    named = batch.scorer.callable_name
    if named is not None and differentiation.is_flat(batch.scores, outputs):
        raise ValueError(differentiation.flat_callable(named))
    if _outputs_are_flat(batch) and not _has_fresh_head(batch.adapter.model):
        raise ValueError(differentiation.FLAT_MODEL)


def _outputs_are_flat(batch: ModelBatch) -> bool:
    """Tell whether no output has a slope, at an example and at darker copies of it."""
    one = batch.select(slice(0, 1)).without_progress()
    with ConstantParameters():
        seen = one.observe((1.0, 0.5, 0.0), attention=False)
    outputs = seen.outputs.flatten()
    # Different weights, as the slopes of probabilities, which sum to 1, would cancel.
    weights = (torch.arange(len(outputs)).to(outputs) * 0.7 + 1).sin()
    if not outputs.requires_grad:
        return False
    slopes = torch.autograd.grad(
        (outputs * weights).sum(), seen.tokens, allow_unused=True
    )
    return not any(each is not None and bool(each.any()) for each in slopes)


def _has_fresh_head(model: nn.Module) -> bool:
    """Tell whether the weights of a linear layer are all 0, as before training."""
    return any(
        isinstance(part, nn.Linear) and not bool(part.weight.any())
        for part in model.modules()
    )
