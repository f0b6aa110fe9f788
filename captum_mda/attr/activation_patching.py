"""CAAP: scores of a blank image with one patch's activations from the image."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import _checks
from captum_mda._docstrings import documented
from captum_mda._state import restores_modes
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import ModelBatch
from captum_mda.perturbation import blur_baseline, Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import find_adapter, TokenStream, ViTAdapter

Blank = Literal["zeros", "black", "white", "mean", "blur"] | Tensor

BLANKS = ("zeros", "black", "white", "mean", "blur")
# About a seventh of the side makes objects unrecognisable, like MDA's first blur.
_BLUR_SHARE = 31 / 224


@documented(vit_arguments)
class CausalActivationPatching(ViTAttribution):
    r"""CAAP: patch activations of the image into a run of the model on a blank.

    The model runs on a blank image. For each patch :math:`p`, the activations of that
    patch (and its neighbours up to ``support``) after the blocks of an intermediate
    range are replaced with those of the image. The attribution of the patch is the
    target's score of this run minus the score of the blank.

    From the paper (its abstract and captions; its full text was not public when this
    was written): single patches of the source image are patched into a neutral context
    over an intermediate range of layers, with the target's score as attribution; the
    blank, the range and the spatial support are choices. Chosen here: the patched
    tensor (the residual stream after each block), the default range (from a quarter to
    three quarters of the depth), the support (one patch to each side), the blank
    (zeros, the data's mean colour), the score (the logit), and the subtraction of the
    blank's score. `attribute` never patches prefix tokens.

    The blocks before the range run once for the blank and once for the image, and all
    patches share the results. An image with P patches costs P runs of the blocks from
    the range on, one more run that must give the model's own output, and two runs of
    the whole model.

    Args:
        model: ...
        layers (tuple[int, int], optional): (lo, hi): activations are replaced after the
            blocks lo to hi - 1, counted from 0. None: from a quarter to three quarters
            of the depth. Default: None
        support (int or Tensor, optional): The number of patches to each side that are
            replaced with a patch: 1 is a window of 3 x 3. Or a window of weights in
            [0, 1], of odd height and width: the share of each neighbour's activations
            that comes from the image, the rest from the blank. Default: 1
        blank (str or Tensor, optional): The neutral image: "zeros", in the model's
            input space; "black" or "white", for timm models, whose config has the
            normalisation; "mean", each image's mean colour; "blur", the image blurred;
            or a tensor that broadcasts to the inputs. Default: "zeros"
        subtract_blank (bool, optional): Whether the blank's score is subtracted, so
            that an attribution is the change that the patch makes, and a constant added
            to the logits changes no map. It shifts all patches of an image by the same
            number, which matters where maps are ranked by absolute value: a negative
            logit of the blank can reverse such a ranking. Default: True
        score: ...

    Reference:
        Izadi, Banayeeanzade, Mirrokni, Hasani, Bagherian, Mehri, Soleymani Baghshah,
        "Causal Attribution via Activation Patching", arXiv 2603.13652, 2026.

    Example::

        >>> from captum_mda import CausalActivationPatching, demo
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> caap = CausalActivationPatching(demo.load_model(), layers=(1, 4))
        >>> caap.attribute(images, target=labels).shape
        torch.Size([2, 1, 64, 64])
    """

    _reads_attention = False  # any model with blocks is accepted

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        layers: tuple[int, int] | None = None,
        support: int | Tensor = 1,
        blank: Blank = "zeros",
        subtract_blank: bool = True,
        score: Score = "identity",
    ) -> None:
        """Check the model, the layers, the support and the blank."""
        self.support = support
        self._window = _window(support)
        if isinstance(blank, Tensor):
            _checks.require_tensor("blank", blank)
        else:
            _checks.require_choice("blank", blank, BLANKS)
        self.blank = blank
        self.subtract_blank = _checks.require_flag("subtract_blank", subtract_blank)
        adapter = find_adapter(model)
        self.layers = _layer_range(layers, adapter.depth)
        ViTAttribution.__init__(self, adapter, score)
        self._subject = model

    def _call_defaults(self) -> dict[str, Any]:
        layers = _layer_range(None, self.adapter.depth)
        return super()._call_defaults() | {"layers": layers}

    def _n_forwards(self, images: Tensor) -> int:
        """Count the patches, the runs of blank and image, and their check."""
        return self._n_patches(images) + 3

    @restores_modes
    @documented(vit_arguments)
    def patched_scores(
        self,
        inputs: Tensor,
        selections: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """Score the blank's run with any tokens of the image patched in.

        Args:
            inputs: ...
            selections (Tensor): bool (K, T) or (B, K, T): which tokens, prefix
                included, come from the image; or floating-point shares in [0, 1].
            target: ...
            additional_forward_args: ...
            internal_batch_size: ...
            show_progress: ...

        Returns:
            *Tensor*: (B, K) scores. Without any token it is the blank's score, with all
            tokens the image's; ``subtract_blank`` does not apply.

        Raises:
            TypeError, ValueError: As `attribute`, or ``selections`` do not fit.
        """
        _checks.require_tensor("selections", selections)
        if selections.dtype != torch.bool and not selections.is_floating_point():
            raise TypeError(
                f"selections: got dtype {selections.dtype}, takes bool, or "
                "floating-point shares in [0, 1]"
            )
        _require_shares("selections", selections)
        if selections.dim() not in (2, 3):
            raise ValueError(
                f"selections: got shape {tuple(selections.shape)}, takes (K, T) or "
                "(B, K, T)"
            )

        def scores(batch: ModelBatch) -> Tensor:
            chosen = selections.expand(batch.n_examples, *selections.shape[-2:])
            chosen = chosen[batch.examples.to(chosen.device)]
            return self._patched(batch, chosen, subtract_blank=False)

        return self._in_batches(
            scores,
            inputs,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
            selections.shape[-2] + 3,
        )

    def _token_map(self, batch: ModelBatch) -> Tensor:
        height, width = self.adapter.patch_grid(batch.inputs)
        if self.adapter.patch_order == "columns":
            windows = patch_windows(width, height, self._window.T)  # (P, P)
        else:
            windows = patch_windows(height, width, self._window)
        n_prefix = self.adapter.n_prefix_tokens
        selections = F.pad(windows, (n_prefix, 0))  # (P, T)
        selections = selections.expand(len(batch), -1, -1)
        scores = self._patched(batch, selections, self.subtract_blank)
        return F.pad(scores, (n_prefix, 0))

    @torch.no_grad()
    def _patched(
        self, batch: ModelBatch, selections: Tensor, subtract_blank: bool
    ) -> Tensor:
        """Score selections (B, K, T) of tokens, bool or shares: (B, K)."""
        low, high = self.layers
        n_tokens = self.adapter.n_prefix_tokens + self._n_patches(batch.inputs)
        if selections.shape[-1] != n_tokens:
            raise ValueError(
                f"selections: got {selections.shape[-1]} tokens, takes {n_tokens}, the "
                "prefix and the patches"
            )
        blank = batch.stream(self._blank_images(batch), places=[low])
        source = batch.stream(batch.inputs, places=range(low, high + 1))
        batch.require_own_outputs(source, low)
        if not source.shares_arguments_with(blank):
            batch.require_own_outputs(source, low, like=blank)

        def run(examples: Tensor, which: Tensor) -> Tensor:
            rows = examples.to(batch.inputs.device)
            chosen = selections[examples, which].to(rows.device)[:, :, None]
            edit = partial(self._patch, source=source, rows=rows, chosen=chosen)
            return source.run(blank.tokens[low][rows], low, examples, edit)

        counts = [selections.shape[1]] * len(batch)
        scores = torch.stack(batch.score_each(counts, run))
        if subtract_blank:
            scores = scores - batch.scores(blank.outputs)[:, None]
        return scores

    def _patch(
        self,
        block: int,
        tokens: Tensor,
        source: TokenStream,
        rows: Tensor,
        chosen: Tensor,
    ) -> Tensor:
        """Replace the chosen tokens after a block of the range with the image's."""
        if not self.layers[0] <= block < self.layers[1]:
            return tokens
        image = source.tokens[block + 1][rows]
        if chosen.dtype == torch.bool:
            return torch.where(chosen, image, tokens)
        return torch.lerp(tokens, image, chosen.to(tokens.dtype))

    def _blank_images(self, batch: ModelBatch) -> Tensor:
        images = batch.inputs
        if isinstance(self.blank, Tensor):
            return _given_blank(self.blank, batch)
        if self.blank == "zeros":
            return torch.zeros_like(images)
        if self.blank == "mean":
            return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
        if self.blank == "blur":
            side = max(3, round(_BLUR_SHARE * min(images.shape[-2:])) | 1)
            return blur_baseline(images, side)
        colour = _colour(self.adapter.model, float(self.blank == "white"))
        return colour.to(images).expand_as(images)

    def _n_patches(self, images: Tensor) -> int:
        height, width = self.adapter.patch_grid(images)
        return height * width


def patch_windows(height: int, width: int, window: Tensor) -> Tensor:
    """Place the window (kh, kw) on each patch of the grid, cut at borders: (P, P)."""
    n_patches, (reach_down, reach_right) = height * width, window.shape
    canvas = window.new_zeros(
        n_patches, height + reach_down - 1, width + reach_right - 1
    )
    for patch in range(n_patches):
        row, column = divmod(patch, width)
        canvas[patch, row : row + reach_down, column : column + reach_right] = window
    down, right = reach_down // 2, reach_right // 2
    return canvas[:, down : down + height, right : right + width].flatten(1)


def _window(support: int | Tensor) -> Tensor:
    """Make a window of a support: bool, or its weights (kh, kw)."""
    if not isinstance(support, Tensor):
        if not _checks.is_integer(support) or support < 0:
            raise ValueError(
                f"support: got {support!r}, takes an integer from 0 on, or a tensor of "
                "weights"
            )
        side = 2 * int(support) + 1
        return torch.ones(side, side, dtype=torch.bool)
    _checks.require_tensor("support", support)
    if support.dim() != 2 or support.shape[0] % 2 == 0 or support.shape[1] % 2 == 0:
        raise ValueError(
            f"support: got shape {tuple(support.shape)}, takes (kh, kw), both odd, so "
            "that the patch is in the middle"
        )
    _require_shares("support", support)
    weights = support.detach().clone().cpu()
    return weights if weights.dtype == torch.bool else weights.float()


def _require_shares(name: str, shares: Tensor) -> None:
    _checks.require_tensor(name, shares)
    if shares.numel() and not 0 <= float(shares.min()) <= float(shares.max()) <= 1:
        raise ValueError(
            f"{name}: got values from {float(shares.min()):g} to "
            f"{float(shares.max()):g}, takes shares in [0, 1]"
        )


def _layer_range(layers: tuple[int, int] | None, depth: int) -> tuple[int, int]:
    if layers is None:
        low = depth // 4
        return low, max(low + 1, 3 * depth // 4)
    if (
        not isinstance(layers, (tuple, list))
        or len(layers) != 2
        or not all(map(_checks.is_integer, layers))
    ):
        raise TypeError(f"layers: got {layers!r}, takes two integers (lo, hi)")
    low, high = layers
    if not 0 <= low < high <= depth:
        raise ValueError(
            f"layers: got {layers!r}, takes 0 <= lo < hi <= {depth}, the depth"
        )
    return int(low), int(high)


def _given_blank(blank: Tensor, batch: ModelBatch) -> Tensor:
    images = batch.inputs
    if blank.dim() == images.dim() and len(blank) == batch.n_examples:
        blank = blank[batch.examples.to(blank.device)]
    if not _checks.broadcasts_to(blank, images):
        raise ValueError(
            f"blank: got shape {tuple(blank.shape)}, takes one that broadcasts to the "
            f"inputs' {(batch.n_examples, *images.shape[1:])}"
        )
    return blank.to(images).expand_as(images)


def _colour(model: nn.Module, value: float) -> Tensor:
    """Convert black, 0, or white, 1, to the input space of a timm model."""
    config = getattr(model, "pretrained_cfg", None) or {}
    if "mean" not in config or "std" not in config:
        raise ValueError(
            "blank: the model does not say how its inputs are normalised, so that "
            "'black' and 'white' are not known; pass the colour as a tensor "
            "(1, C, 1, 1), for black -mean / std"
        )
    mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
    return ((value - mean) / std)[None, :, None, None]
