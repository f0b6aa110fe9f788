"""Input times gradient at the tokens, and its sums over layers and biases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from weakref import WeakSet

import torch
from torch import nn, Tensor

from captum_mda._checks import require_flag, require_index
from captum_mda._docstrings import documented
from captum_mda._state import restores_modes, warn_caller
from captum_mda._summaries import as_html, as_text, examples
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.attr.vit_gradients import score_gradients
from captum_mda.backward.libragrad import all_rules_hold
from captum_mda.perturbation import Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import (
    BiasCapture,
    ConstantParameters,
    find_adapter,
    Observation,
    ViTAdapter,
)

_TOLERANCE = 0.01
_TOLERANCE_OF_HALF = 0.1
_UNBALANCED: WeakSet[nn.Module] = WeakSet()  # models that were warned about
_BALANCED: WeakSet[nn.Module] = WeakSet()


class Completeness(NamedTuple):
    """The difference between a score and the sum of its FullGrad attributions.

    Args:
        score (Tensor): (B,), the score of the target.
        total (Tensor): (B,), the sum of FullGrad: all tokens times their gradients plus
            all biases times theirs.
        error (Tensor): (B,), the absolute difference; lower is better, at best 0.
    """

    score: Tensor
    total: Tensor
    error: Tensor

    def __repr__(self) -> str:
        """Write one line per example, of the first examples."""
        return as_text(f"Completeness of {examples(len(self.score))}", self._asdict())

    def _repr_html_(self) -> str:
        """Write the same as a table, for notebooks."""
        return as_html(f"Completeness of {examples(len(self.score))}", self._asdict())


class _TokenGradients(ViTAttribution):
    """Base of the methods that multiply tokens with their gradients."""

    @property
    def _reads_attention(self) -> bool:  # type: ignore[override]
        """Whether the map of an attention pooler is read; no others are."""
        return self.adapter.pooling == "map"

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are multiplied by the inputs: True."""
        return True

    @restores_modes
    @documented(vit_arguments)
    def completeness(
        self,
        inputs: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        internal_batch_size: int | None = None,
    ) -> Completeness:
        """Compare the sum of FullGrad with the score.

        FullGrad is input times gradient at the token sequence z_0 plus every later bias
        times the gradient where it is added. Under `LibraGrad` it sums to the score;
        with plain gradients it does not.

        Args:
            inputs: ...
            target: ...
            additional_forward_args: ...
            internal_batch_size: ...

        Returns:
            *Completeness*: score, total and error, each (B,), detached.

        Raises:
            TypeError, ValueError: As `attribute`.

        Reference:
            Mehri et al., CVPR 2025, Def. 1 and Eq. 1.
        """

        def sums(batch: ModelBatch) -> Tensor:
            score, values = self._account(batch, [0], biases=True, checks=False)
            return torch.stack([score, values.sum(dim=1)], dim=1)

        both = self._in_batches(
            sums, inputs, target, additional_forward_args, internal_batch_size, False
        )
        score, total = both.unbind(dim=1)
        return Completeness(score, total, (score - total).abs())

    def _account(
        self,
        batch: ModelBatch,
        blocks: Sequence[int],
        biases: bool,
        checks: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Multiply tokens and biases with their gradients.

        Args:
            batch (ModelBatch): The examples.
            blocks (sequence of int): The blocks whose inputs are summed.
            biases (bool): Whether biases are added.
            checks (bool, optional): Whether to warn where LibraGrad does not balance
                the model. Default: True

        Returns:
            *Tensor*, *Tensor*: the scores (B,), and the values of the tokens (B, T).
        """
        first = min(blocks)
        model = self.adapter.model
        checks = checks and all_rules_hold() and model not in _UNBALANCED
        checks = checks and (biases or model not in _BALANCED)
        with BiasCapture() as capture, ConstantParameters():
            seen = batch.observe(
                attention=self.adapter.pooling == "map",
                first_block=first,
                biases=capture if biases or checks else None,
            )
        tokens = [seen.tokens[block - first] for block in blocks]
        gradients = score_gradients(batch, seen.outputs, tokens)
        with torch.no_grad():
            score = batch.scores(seen.outputs)
            by_block = [
                (full_precision(z) * full_precision(gradient)).sum(dim=-1)
                for z, gradient in zip(tokens, gradients, strict=True)
            ]
            values = sum(by_block)
            assert isinstance(values, Tensor)
            added = self._bias_map(capture, values, seen)
        if checks:
            self._check_balance(batch, seen, by_block[0] + added)
        return score.detach(), values + added if biases else values

    def _check_balance(
        self, batch: ModelBatch, seen: Observation, full_grad: Tensor
    ) -> None:
        """Warn, once per model, if its gradients are not balanced.

        Args:
            batch (ModelBatch): The examples.
            seen (Observation): The observed forward.
            full_grad (Tensor): (B, T), tokens and biases times gradients, from the
                first observed block on.
        """
        outputs = seen.outputs.detach().requires_grad_()
        # Rules balance the outputs: the expected sum is the outputs times the slopes
        # of the score.
        (slopes,) = score_gradients(batch, outputs, [outputs], may_be_zero=True)
        slopes, values = (
            slopes.flatten(1).double(),
            outputs.detach().flatten(1).double(),
        )
        wanted = (slopes * values).sum(dim=1)
        error = (full_grad.double().sum(dim=1) - wanted).abs()
        size = slopes.abs().sum(dim=1) * values.abs().amax(dim=1)
        is_half = outputs.dtype in (torch.float16, torch.bfloat16)
        tolerance = _TOLERANCE_OF_HALF if is_half else _TOLERANCE
        bad = error > tolerance * size
        if bool(bad.any()):
            row = int((error / size).nan_to_num().argmax())
            _UNBALANCED.add(self.adapter.model)
            warn_caller(
                f"model: under LibraGrad, tokens and biases times their gradients miss "
                f"the score of example {int(batch.examples[row])} by "
                f"{float(error[row]):.3g}, {float(error[row] / size[row]):.1%} of its "
                f"largest output (completeness error; up to {tolerance:.0%} is "
                "accepted): some part of the model is written in functions without a "
                "balanced rule, and its map is not balanced",
            )
        else:
            _BALANCED.add(self.adapter.model)

    def _bias_map(
        self, capture: BiasCapture, like: Tensor, seen: Observation
    ) -> Tensor:
        """Sum biases times gradients per token: (B, T).

        Biases added after pooling are shared among the tokens as pooling weights them.
        """
        n_tokens = like.shape[1]
        by_token = torch.zeros_like(like)
        pooled = torch.zeros_like(like[:, 0])
        for index, (_, constant) in enumerate(capture.records):
            gradient = capture.gradients.get(index)
            if gradient is None:
                continue
            product = full_precision(gradient) * full_precision(constant)
            if product.dim() == 2 and constant.dim() == 0:
                product = product[..., None]  # one number per channel
            first_channels = constant.dim() > 1 and constant.shape[-1] == 1
            product = with_examples_first(
                product,
                len(like),
                (n_tokens, n_tokens - self.adapter.n_prefix_tokens),
                first_channels and product.shape[-1] > 1,
            )
            n = product.shape[1] if product.dim() == 3 else 0
            if n in (n_tokens, n_tokens - self.adapter.n_prefix_tokens) and n > 1:
                by_token[:, n_tokens - n :] += product.sum(dim=-1)
            else:
                pooled += product.reshape(len(product), -1).sum(dim=1)
        pooler = None if seen.pooler is None else seen.pooler.probabilities.detach()
        if not capture.records:
            return by_token
        return by_token + pooled[:, None] * self.adapter.readout(n_tokens, pooler, like)


def with_examples_first(
    product: Tensor, n_examples: int, n_tokens: Collection[int], channels_first: bool
) -> Tensor:
    """Arrange values of tokens as (B, n, ...), from any layout that models use.

    Args:
        product (Tensor): (B, n, d), (B, H, n, d), (B, d, n) or (B, d, h, w) with
            ``channels_first``, (B, h, w, d), (n, B, d), or rows of all examples:
            (B * n, d), (B * H, n, d).
        n_examples (int): B.
        n_tokens (collection of int): The values that n may have.
        channels_first (bool): Whether channels come before positions.

    Returns:
        *Tensor*: (B, n, channels), or (B, ...) where no dimension is the tokens.
    """
    shape = product.shape
    if shape[0] != n_examples:
        if product.dim() == 3 and shape[1] == n_examples and shape[0] in n_tokens:
            product = product.transpose(0, 1)
        elif shape[0] % n_examples == 0:
            product = product.reshape(n_examples, -1, *shape[1:])
        else:
            return product.sum().expand(n_examples, 1) / n_examples
    shape = product.shape
    if channels_first and product.dim() > 2:
        return product.flatten(2).transpose(1, 2)
    if product.dim() == 4 and shape[2] not in n_tokens:
        if shape[1] * shape[2] in n_tokens:
            return product.flatten(1, 2)
    if product.dim() == 4:  # (B, H, n, d)
        return product.transpose(1, 2).flatten(2)
    return product


@documented(vit_arguments)
class TokenInputXGradient(_TokenGradients):
    r"""Input times gradient at the token sequence, before the first block.

    .. math:: a = \sum_D z_0 \odot \partial s / \partial z_0

    with the tokens :math:`z_0` after patch embedding and positions; the map is signed.
    With ``biases=True`` it is FullGrad, which sums to the score over all tokens, prefix
    included, under `LibraGrad`; `completeness` measures the difference.

    Args:
        model: ...
        biases (bool, optional): Whether each token also gets the biases added to it,
            times their gradients; biases after pooling go to the pooled tokens.
            Default: False
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

    def _token_map(self, batch: ModelBatch) -> Tensor:
        return self._account(batch, [0], self.biases)[1]


@documented(vit_arguments)
class FullGradPlus(_TokenGradients):
    r"""FullGrad+: input times gradient, summed over the inputs of all blocks.

    .. math:: a = \sum_l \sum_D z_{l-1} \odot \partial s / \partial z_{l-1}
              + \sum_b b \odot \partial s / \partial b

    The map is signed. Use it under `LibraGrad`, with which it was published::

        with LibraGrad(model):
            attributions = FullGradPlus(model).attribute(images, target=classes)

    If a part of the model is written in functions without a LibraGrad rule, its
    gradients are not balanced. The method warns, once per model, where FullGrad differs
    from the score by more than 1 % of the largest output (10 % in half precision).

    FullGrad+ counts the residual stream once per block and does not sum to the score;
    `completeness` is that of FullGrad, which does.

    Args:
        model: ...
        biases (bool, optional): Whether biases are added, once. Default: True
        start_layer (int, optional): The first block whose input is summed, counted from
            0; half the depth is SkipPLUS. Biases before it are left out. Default: 0
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
        self._subject = model

    def _token_map(self, batch: ModelBatch) -> Tensor:
        blocks = range(self.start_layer, self.adapter.depth)
        return self._account(batch, blocks, self.biases)[1]
