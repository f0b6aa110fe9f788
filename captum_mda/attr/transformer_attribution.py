"""Transformer attribution: relevance times gradient of every attention map."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda._checks import require_choice, require_index
from captum_mda._docstrings import documented
from captum_mda._state import warn_caller
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import ModelBatch
from captum_mda.attr.vit_gradients import score_gradients
from captum_mda.backward import RelevancePropagation
from captum_mda.backward.conservation import (
    largest_loss,
    missing_relevance,
    relevance_that_ends,
    TOLERANCES,
)
from captum_mda.perturbation import Score
from captum_mda.vit import (
    ConstantParameters,
    find_adapter,
    Observation,
    ViTAdapter,
)


@documented(vit_arguments)
class TransformerAttribution(ViTAttribution):
    r"""T-Attr: layer-wise relevance of the attention maps, times their gradients.

    With the gradient :math:`G_l` and the relevance :math:`R_l` of each block's
    attention (see `captum_mda.backward.RelevancePropagation`),

    .. math:: C_l = \langle (G_l \odot R_l)^+ \rangle_h, \qquad M_l = C_l + I, \qquad
              a = (M_L \cdots M_{start}) [q^*]

    In the variant "original" (Chefer et al.) the product begins at block 1; in "mda",
    the form behind the tables of MDA, it begins at block 0 and the rows of :math:`M_l`
    are normalised to sum to 1. The two maps can differ much.

    Where the head pools tokens by a mean or by attention, the product of the identities
    is subtracted: it gives every pooled token its weight in the pool, which would
    dominate the map.

    The total relevance is checked: what reaches block :math:`start` must equal what
    left the output, to 1e-5 in float64 and 1e-3 in float32. Otherwise `attribute`
    raises a ValueError that names the function with the largest difference.

    A callable target must have slopes at the outputs that do not sum to 0, as those of
    a difference of two classes do, since relevance keeps its total. For a class,
    relevance starts as 1, also with ``score="softmax"``.

    The relevance rules divide by sums that may be near 0: on some images the float32
    and float64 results of the published code differ by more than the map's maximum. The
    model therefore computes in float64 by default, whatever the precision of its
    parameters. Even then, a change of 1e-7 in the input can change the map by a tenth
    of its maximum.

    Args:
        model: ...
        variant (str, optional): "mda" or "original". Default: "mda"
        start_layer (int, optional): The first block of the product, from 0 on. None:
            0 for "mda", 1 for "original". Default: None
        dtype (torch.dtype, optional): The precision of forwards and backwards:
            torch.float64, or torch.float32 for devices without float64.
            Default: torch.float64
        score: ...

    Raises:
        TypeError, ValueError: As `ViTAttribution`, and `attribute` with a ValueError
            where relevance reaches a function without a rule, or its total changes.
            Where the rules themselves drop a part of it, at outputs of linear maps to
            which nothing contributes, it warns instead.

    Reference:
        Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention
        Visualization", CVPR 2021, Eq. 13 and 14.

    Example::

        >>> from captum_mda import demo, TransformerAttribution
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> method = TransformerAttribution(demo.load_model())
        >>> method.attribute(images, target=labels).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        variant: Literal["mda", "original"] = "mda",
        start_layer: int | None = None,
        dtype: torch.dtype = torch.float64,
        score: Score = "identity",
    ) -> None:
        """Check the model, the variant, the layer and the precision."""
        require_choice("variant", variant, ("mda", "original"))
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"dtype: got {dtype}, takes torch.float64 or torch.float32"
            )
        adapter = find_adapter(model)
        if start_layer is None:
            start_layer = _start_layer(variant, adapter.depth)
        self.variant = variant
        self.start_layer = require_index("start_layer", start_layer, adapter.depth)
        self.dtype = dtype
        ViTAttribution.__init__(self, adapter, score)
        self._subject = model

    def _n_forwards(self, images: Tensor) -> int:
        """Count two: one for gradients, one for relevance."""
        return 2

    def _call_defaults(self) -> dict[str, Any]:
        start_layer = _start_layer(self.variant, self.adapter.depth)
        return super()._call_defaults() | {"start_layer": start_layer}

    def _token_map(self, batch: ModelBatch) -> Tensor:
        batch = replace(batch, as_called=nullcontext)  # no autocast
        with ConstantParameters(self.dtype):
            seen = batch.observe(first_block=self.start_layer)
            gradients = score_gradients(batch, seen.outputs, seen.maps)  # G_l
        relevances = self._relevances(batch, gradients)  # R_l
        factors = [
            (gradient * relevance).clamp(min=0).mean(dim=1).detach()  # C_l
            for gradient, relevance in zip(gradients, relevances, strict=True)
        ]
        normalized = self.variant == "mda"
        if self.adapter.pooling == "cls":
            product = _product(factors, normalized)
        else:
            # The identities give every pooled token its weight, which would dominate.
            product = _product_without_identity(factors, normalized)
        return self._head_row(product, seen)

    def _relevances(
        self, batch: ModelBatch, gradients: Sequence[Tensor]
    ) -> list[Tensor]:
        """Propagate the score's relevance back to the attention maps."""
        seen, start = self._relevance_graph(batch)
        _require_relevance(start, batch)
        *relevances, arrived = torch.autograd.grad(
            seen.outputs, [*seen.maps, seen.tokens[0]], start, allow_unused=True
        )
        if arrived is None:
            arrived = torch.zeros_like(seen.tokens[0])
        self._require_conserved(batch, gradients, start, arrived)
        return [
            torch.zeros_like(attention) if relevance is None else relevance
            for attention, relevance in zip(seen.maps, relevances, strict=True)
        ]

    def _relevance_graph(self, batch: ModelBatch) -> tuple[Observation, Tensor]:
        """Run the model under the rules, and set the relevance of the outputs."""
        with RelevancePropagation(self.adapter.model, self.dtype):
            seen = batch.observe(first_block=self.start_layer)
        outputs = seen.outputs.detach().requires_grad_()
        # Relevance starts as 1 at a class, also of probabilities, whose slopes sum to
        # 0. For other targets it starts as the score's slopes.
        scorer = batch.scorer
        scorer = replace(scorer, score=scorer.output or scorer.score)
        unscored = replace(batch, scorer=scorer)
        (start,) = score_gradients(unscored, outputs, [outputs])
        return seen, start

    def _require_conserved(
        self,
        batch: ModelBatch,
        gradients: Sequence[Tensor],
        start: Tensor,
        arrived: Tensor,
    ) -> None:
        """Raise a ValueError where the total of the relevance has changed.

        Args:
            batch (ModelBatch): The examples.
            gradients (sequence of Tensor): Of the attention maps; where all are 0, so
                is the map.
            start (Tensor): (B, ...), the relevance of the outputs.
            arrived (Tensor): (B, T, D), that of the first block's tokens.
        """
        missing = missing_relevance(start, arrived)
        tolerance = TOLERANCES[self.dtype]
        matters = torch.stack([each.flatten(1).any(dim=1) for each in gradients]).any(0)
        bad = (matters & ~(missing <= tolerance)).nonzero().flatten()
        if not len(bad):
            return
        seen, start = self._relevance_graph(batch)
        for row in bad.tolist():
            one = torch.zeros_like(start)
            one[row] = start[row]
            found = float(arrived[row].sum())
            ended = relevance_that_ends(seen.outputs, seen.tokens[0], one)
            example = int(batch.examples[row])
            began = f"of example {example}'s relevance {float(one.sum()):.6g} left the"
            if abs(float(one.sum()) - found - ended) <= tolerance * float(
                one.abs().sum()
            ):
                warn_caller(
                    f"model: {began} output and {ended:.6g} ended where nothing "
                    "contributes: at linear maps none of whose products is positive, "
                    "or products that are 0 (the published rule)"
                )
                continue
            where = largest_loss(seen.outputs, seen.tokens[0], one)
            raise ValueError(
                f"model: {began} output and {found:.6g} reached block "
                f"{self.start_layer}, more than {tolerance:g} off; most of the "
                f"difference arises at {where}, for which the relevance rules do not "
                "hold here; use a method without relevance, such as LeGrad"
            )


def _product(factors: Sequence[Tensor], normalized: bool) -> Tensor:
    """Multiply M_L ... M_start: (B, T, T)."""
    product: Tensor | None = None
    for factor in factors:
        factor = factor + torch.eye(factor.shape[-1]).to(factor)  # M_l
        if normalized:
            factor = factor / factor.sum(dim=-1, keepdim=True)
        product = factor if product is None else factor @ product
    assert product is not None
    return product


def _product_without_identity(factors: Sequence[Tensor], normalized: bool) -> Tensor:
    """Multiply M_L ... M_start, minus the product of their identities: (B, T, T).

    The two are computed apart, as the difference may be smaller than the rounding of
    the whole product.
    """
    rest = torch.zeros_like(factors[0])
    alone = factors[0].new_ones(factors[0].shape[:-1])  # diagonal, (B, T)
    for factor in factors:
        scale = torch.ones_like(alone)
        if normalized:
            scale = 1.0 / (1.0 + factor.sum(dim=-1))
        mixed = factor @ rest + factor * alone[:, None] + rest
        rest = scale[..., None] * mixed
        alone = scale * alone
    return rest


def _require_relevance(start: Tensor, batch: ModelBatch) -> None:
    """Raise a ValueError where the slopes sum to 0, so that no relevance starts.

    Args:
        start (Tensor): (B, ...), the relevance of the outputs.
        batch (ModelBatch): The examples.
    """
    slopes = start.reshape(len(start), -1)
    cancels = slopes.sum(dim=1).abs() < 1e-6 * slopes.abs().sum(dim=1)
    if bool(cancels.any()):
        bad = int(batch.examples[cancels.cpu()][0])
        raise ValueError(
            f"target: the slopes of example {bad}'s score at the outputs cancel, so "
            "that no relevance starts from them; explain a class, a similarity or one "
            "output in place of a difference or a probability"
        )


def _start_layer(variant: Literal["mda", "original"], depth: int) -> int:
    return 0 if variant == "mda" else min(1, depth - 1)
