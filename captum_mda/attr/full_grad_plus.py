"""Input times gradient at the tokens, and its sums over layers and biases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn, Tensor

from captum_mda._state import restores_modes
from captum_mda._summaries import as_html, as_text, examples
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import Batch, full_precision
from captum_mda.perturbation import Score
from captum_mda.perturbation.inputs import require_flag, require_index
from captum_mda.perturbation.targets import Target
from captum_mda.vit import (
    BiasCapture,
    ConstantParameters,
    find_adapter,
    Observation,
    ViTAdapter,
)


class Completeness(NamedTuple):
    """How well gradients account for a score.

    Args:
        score (Tensor): (B,), the score of the target.
        total (Tensor): (B,), tokens times gradients, over all tokens, plus all biases
            times theirs: the sum of FullGrad.
        error (Tensor): (B,), the absolute difference; lower is better, at best 0.
    """

    score: Tensor
    total: Tensor
    error: Tensor

    def __repr__(self) -> str:
        """Write a line for each of the first examples."""
        return as_text(f"Completeness of {examples(len(self.score))}", self._asdict())

    def _repr_html_(self) -> str:
        """Write the same as a table, for notebooks."""
        return as_html(f"Completeness of {examples(len(self.score))}", self._asdict())


class _TokenGradients(ViTAttribution):
    """Base of the methods that multiply tokens with their gradients."""

    def _reads_attention(self) -> bool:
        """Tell that only an attention pooler's map is read."""
        return self.adapter.pooling == "map"

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are of the input and not of its sensitivity: yes."""
        return True

    @restores_modes
    def completeness(
        self,
        inputs: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        internal_batch_size: int | None = None,
    ) -> Completeness:
        """Compare the sum of FullGrad with the score.

        FullGrad is input times gradient at the token sequence z_0 plus every bias times
        the gradient where it is added, behind z_0. Under `LibraGrad` it adds up to the
        score, with plain gradients it does not.

        Args:
            inputs (Tensor): (B, C, H, W), as all arguments see `attribute`.
            target (int, tuple, Tensor, list, callable, optional): Default: None
            additional_forward_args (any, optional): Default: None
            internal_batch_size (int, optional): Default: None

        Returns:
            *Completeness*: score, total and error, each (B,), detached.

        Raises:
            TypeError, ValueError: As `attribute`.

        Reference:
            Mehri et al., CVPR 2025, Def. 1 and Eq. 1.
        """

        def sums(batch: Batch) -> Tensor:
            score, worth = self._account(batch, [0], biases=True)
            return torch.stack([score, worth.sum(dim=1)], dim=1)

        both = self._ask(
            sums, inputs, target, additional_forward_args, internal_batch_size, False, 1
        )
        score, total = both.unbind(dim=1)
        return Completeness(score, total, (score - total).abs())

    def _account(
        self, batch: Batch, blocks: Sequence[int], biases: bool
    ) -> tuple[Tensor, Tensor]:
        """Multiply tokens and biases with their gradients.

        Args:
            batch (Batch): The examples.
            blocks (sequence of int): The blocks whose inputs count.
            biases (bool): Whether biases count.

        Returns:
            *Tensor*, *Tensor*: the scores (B,), and what each token is worth (B, T).
        """
        first = min(blocks)
        with BiasCapture() as capture, ConstantParameters():
            seen = batch.observe(
                attention=self.adapter.pooling == "map",
                first_block=first,
                biases=capture if biases else None,
            )
        tokens = [seen.tokens[block - first] for block in blocks]
        records = capture.records
        added = [result for result, _ in records]
        gradients = batch.gradients(seen.outputs, tokens, may_lack=added)
        with torch.no_grad():
            score = batch.scores(seen.outputs)
            worth = sum(
                (full_precision(z) * full_precision(gradient)).sum(dim=-1)
                for z, gradient in zip(tokens, gradients, strict=False)
            )
            assert isinstance(worth, Tensor)
            further = zip(records, gradients[len(tokens) :], strict=True)
            worth = worth + self._bias_map(
                ((constant, gradient) for (_, constant), gradient in further),
                worth,
                seen,
            )
        return score.detach(), worth

    def _bias_map(
        self,
        biases: Iterable[tuple[Tensor, Tensor]],
        like: Tensor,
        seen: Observation,
    ) -> Tensor:
        """Sum biases times gradients for each token: (B, T).

        What is added behind pooling goes to the tokens as they were pooled.
        """
        n_tokens = like.shape[1]
        by_token = torch.zeros_like(like)
        pooled = torch.zeros_like(like[:, 0])
        for constant, gradient in biases:
            product = full_precision(gradient) * full_precision(constant)
            if product.dim() == 4:  # (B, H, n, d)
                product = product.transpose(1, 2).flatten(2)
            n = product.shape[1] if product.dim() == 3 else 0
            if n in (n_tokens, n_tokens - self.adapter.n_prefix_tokens) and n > 1:
                by_token[:, n_tokens - n :] += product.sum(dim=-1)
            else:
                pooled += product.flatten(1).sum(dim=1)
        pooler = None if seen.pooler is None else seen.pooler.probabilities.detach()
        return by_token + pooled[:, None] * self.adapter.readout(n_tokens, pooler, like)


class TokenInputXGradient(_TokenGradients):
    r"""Input times gradient at the token sequence, before the first block.

    .. math:: a = \sum_D z_0 \odot \partial s / \partial z_0

    with the tokens :math:`z_0` after patch embedding and positions; the map is signed.
    With ``biases=True`` it is FullGrad, whose sum over all tokens, prefix included, is
    the score itself under `LibraGrad`; `completeness` measures that.

    Args:
        model (nn.Module or ViTAdapter): See `ViTAttribution`.
        biases (bool, optional): Whether each token also gets all biases times the
            gradients where they are added to it; those behind pooling go to the pooled
            tokens. Default: False
        score (str or callable, optional): "identity" for logits, "softmax" for
            probabilities, the preset of LibraGrad's authors for classifiers.
            Default: "identity"

    Reference:
        Mehri et al., "LibraGrad", CVPR 2025, Sec. 3; FullGrad: Srinivas, Fleuret,
        NeurIPS 2019.

    Example::

        >>> from captum_mda import demo, LibraGrad, TokenInputXGradient
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> method = TokenInputXGradient(model)
        >>> with LibraGrad(model):
        ...     error = method.completeness(images, target=labels).error
        >>> bool(error < 1e-4)
        True
        >>> bool(method.completeness(images, target=labels).error > 1e-2)
        True
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        biases: bool = False,
        score: Score = "identity",
    ) -> None:
        """Check the model."""
        self.biases = require_flag("biases", biases)
        ViTAttribution.__init__(self, model, score)

    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        return self._account(batch, [0], self.biases)[1]


class FullGradPlus(_TokenGradients):
    r"""FullGrad+: input times gradient, summed over the inputs of all blocks.

    .. math:: a = \sum_l \sum_D z_{l-1} \odot \partial s / \partial z_{l-1}
              + \sum_b b \odot \partial s / \partial b

    The map is signed. It is made to be used under `LibraGrad`, where it was the best of
    its family::

        with LibraGrad(model):
            attributions = FullGradPlus(model).attribute(images, target=classes)

    FullGrad+ counts the stream once for each block and does not sum to the score;
    `completeness` is that of FullGrad, which does.

    Args:
        model (nn.Module or ViTAdapter): See `ViTAttribution`.
        biases (bool, optional): Whether biases count, once. Default: True
        start_layer (int, optional): The first block whose input counts, from 0 on;
            half the depth is SkipPLUS. Biases before it are left out. Default: 0
        score (str or callable, optional): "identity" for logits, "softmax" for
            probabilities, the preset of LibraGrad's authors for classifiers.
            Default: "identity"

    Reference:
        Mehri et al., "LibraGrad", CVPR 2025; the sum over layers is PLUS of SkipPLUS,
        CVPR workshops 2024.

    Example::

        >>> from captum_mda import demo, FullGradPlus, LibraGrad
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> with LibraGrad(model):
        ...     attributions = FullGradPlus(model).attribute(images, target=labels)
        >>> attributions.shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        biases: bool = True,
        start_layer: int = 0,
        score: Score = "identity",
    ) -> None:
        """Check the model and the layer."""
        self.biases = require_flag("biases", biases)
        adapter = find_adapter(model)
        self.start_layer = require_index("start_layer", start_layer, adapter.depth)
        ViTAttribution.__init__(self, adapter, score)

    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        blocks = range(self.start_layer, self.adapter.depth)
        return self._account(batch, blocks, self.biases)[1]
