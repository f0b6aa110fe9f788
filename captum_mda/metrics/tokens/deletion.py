"""MIF and LIF deletion: whether a class stays first while tokens are taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args, Literal

import torch
from torch import nn, Tensor

from captum_mda._captum import (
    BaselineType,
    format_additional_forward_args,
    log_usage,
    TargetType,
)
from captum_mda._checks import (
    require_choice,
    require_flag,
    require_positive_integer_or_none,
)
from captum_mda._docstrings import documented
from captum_mda._results import BatchResult
from captum_mda._summaries import Columns, examples
from captum_mda.metrics import perturbation_accuracy
from captum_mda.metrics._degenerate import (
    OK,
    OnDegenerate,
    report_unpredicted,
    require_ranking,
)
from captum_mda.metrics.tokens import _runs
from captum_mda.perturbation import format_baselines
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.targets import require_classes, target_indices
from captum_mda.vit import CannotDropError, find_adapter, ViTAdapter

Removal = Literal["auto", "tokens", "mask"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TokenDeletion(BatchResult):
    """The outputs of a model with growing shares of its patches taken away.

    Args:
        fractions (Tensor): float64 (K,), the shares that are taken away.
        probabilities (Tensor): float64 (B, K), of the target.
        hits (Tensor): float64 (B, K), 1 where the target is the first class.
        full_probability (Tensor): float64 (B,), of the target, with all patches.
        removal (str): "tokens" or "mask", what was done.
        status (tuple[str, ...]): Of each example "ok", "constant map" or "target not
            predicted". All values of a constant map are NaN but its full probability;
            hits of a target that is not predicted tell of the model, not of the map.
        target_predicted (Tensor): bool (B,), whether the target is the first class with
            all patches.
    """

    _shared = ("fractions",)

    fractions: Tensor
    probabilities: Tensor
    hits: Tensor
    full_probability: Tensor
    removal: str
    status: tuple[str, ...]
    target_predicted: Tensor

    @property
    def accuracy(self) -> Tensor:
        """The share of fractions at which the target stays first, float64 (B,)."""
        return self.hits.mean(dim=1)

    @property
    def aopc(self) -> Tensor:
        """The mean fall of the target's probability, float64 (B,) in [-1, 1]."""
        return (self.full_probability[:, None] - self.probabilities).mean(dim=1)

    def _summary(self) -> tuple[str, Columns]:
        how = "tokens dropped" if self.removal == "tokens" else "patches masked"
        n, n_shares = self.hits.shape
        return f"{examples(n)}, {how} at {n_shares} fractions", {
            "probability": self.full_probability,
            "accuracy": self.accuracy,
            "AOPC": self.aopc,
            "status": self.status,
        }


@log_usage(part_of_slo=True)
@documented(perturbation_accuracy.masked_hits)
def token_deletion(
    model: nn.Module | ViTAdapter,
    inputs: Tensor,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    first: perturbation_accuracy.First = "most",
    fractions: Sequence[float] = perturbation_accuracy.FRACTIONS,
    removal: Removal = "auto",
    on_degenerate: OnDegenerate = "raise",
) -> TokenDeletion:
    """Take growing shares of the patches away from a Vision Transformer.

    Tokens are really dropped behind the position embeddings, so that the model sees
    fewer of them and nothing stands in their place; prefix tokens stay. Patches are
    ranked by the signed mean of the attribution over them, ties by the lower index.

    Args:
        model (nn.Module or ViTAdapter): A Vision Transformer that
            `captum_mda.vit.resolve` knows, or an adapter.
        inputs (Tensor): (B, C, H, W).
        attributions (Tensor): (B, C or 1, H, W), (B, H, W), the patch grid (B, 1, h,
            w), or one number for each patch, (B, P).
        baselines (Tensor, number, tuple of those, optional): Replace masked patches,
            where tokens cannot be dropped. None: 0. Default: None
        additional_forward_args (any, optional): Passed to the model behind the inputs.
            Default: None
        target (int, tuple, Tensor, list, optional): The class. Default: None
        max_examples_per_batch: ...
        show_progress: ...
        first (str, optional): Which patches go first: the "most" important features
            (MIF) or the "least" (LIF). Default: "most"
        fractions (sequence of float, optional): Ascending, in [0, 1); of P patches the
            first int(fraction * P) go. Default: 0.1, 0.2, ..., 0.9
        removal (str, optional): "tokens" drops them, "mask" sets pixels to the
            baselines, "auto" masks only where attention has positions of its own, as in
            BEiT, that dropped tokens leave without a partner. Default: "auto"
        on_degenerate: ...

    Returns:
        *TokenDeletion*: hits and probabilities of every example.

    Raises:
        TypeError, ValueError: An argument does not fit (before the first forward); the
            model is not known; its outputs are not finite, or have no classes; its
            blocks and the adapter's tail, run with all tokens, do not give the model's
            own output for these inputs.

    Example::

        >>> from captum_mda import demo, metrics, RawAttention
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> grid = RawAttention(model).attribute(images, interpolate_mode=None)
        >>> found = metrics.token_deletion(model, images, grid, target=labels)
        >>> found.hits.shape, found.removal
        (torch.Size([2, 9]), 'tokens')
    """
    require_choice("first", first, get_args(perturbation_accuracy.First))
    require_choice("removal", removal, get_args(Removal))
    require_choice("on_degenerate", on_degenerate, get_args(OnDegenerate))
    require_positive_integer_or_none("max_examples_per_batch", max_examples_per_batch)
    require_flag("show_progress", show_progress)
    require_classes(target)
    shares = perturbation_accuracy.read_fractions(fractions)
    images = _runs.read_images(inputs)
    absent = format_baselines((images,), baselines)
    target_indices(target, len(images))
    adapter = _row_by_row(model)
    scores = _runs.patch_scores(attributions, images, adapter)
    status = require_ranking("attributions", scores, on_degenerate)
    patches = _runs.PatchRemoval(
        adapter=adapter,
        images=images,
        order=scores.argsort(dim=1, stable=True, descending=first == "most"),
        counts=perturbation_accuracy.counts_of(shares, scores.shape[1]),
        arguments=tuple(format_additional_forward_args(additional_forward_args) or ()),
        target=target,
        max_rows=max_examples_per_batch,
        show_progress=show_progress,
    )
    values, used = _take_away(patches, removal, absent)
    return _result(shares, values, used, status, target)


def _row_by_row(model: nn.Module | ViTAdapter) -> ViTAdapter:
    """Find the adapter of a model that numbers its patches row by row."""
    adapter = find_adapter(model)
    if adapter.patch_order != "rows":
        raise ValueError(
            f"model: {type(model).__name__} reads patches column by column, takes a "
            "model that reads them row by row; use captum_mda.metrics.deletion"
        )
    return adapter


def _take_away(
    patches: _runs.PatchRemoval, removal: Removal, baselines: tuple[Tensor, ...]
) -> tuple[Tensor, str]:
    """Drop tokens, or mask patches where that is wanted or dropping is impossible."""
    if removal != "mask":
        try:
            return _runs.drop_tokens(patches), "tokens"
        except CannotDropError as error:
            if removal == "tokens":
                raise ValueError(f"{error}; take removal='mask'") from error
    return _runs.mask_patches(patches, baselines), "mask"


def _result(
    shares: Tensor,
    values: Tensor,
    used: str,
    status: tuple[str, ...],
    target: TargetType,
) -> TokenDeletion:
    """Separate hits from probabilities in values, (B, K + 1), and report targets."""
    hits = (values >= _runs.FIRST).double()
    probabilities = values - _runs.FIRST * hits
    skipped = torch.tensor([each != OK for each in status])[:, None]
    predicted = hits[:, 0] == 1
    return TokenDeletion(
        fractions=shares,
        probabilities=probabilities[:, 1:].masked_fill(skipped, torch.nan),
        hits=hits[:, 1:].masked_fill(skipped, torch.nan),
        full_probability=probabilities[:, 0],
        removal=used,
        status=report_unpredicted(
            status, predicted, target_indices(target, len(values))
        ),
        target_predicted=predicted,
    )


@log_usage(part_of_slo=True)
@documented(token_deletion)
def mif_deletion(
    model: nn.Module | ViTAdapter,
    inputs: Tensor,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    removal: Removal = "auto",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """MIF deletion accuracy; lower is better, in [0, 1] (Mehri et al. 2025).

    The share of nine steps, 10 % to 90 % of the patches taken away, at which the model
    still says the target. LibraGrad's tables state 1 less this as "MIF accuracy".

    Args:
        model: ...
        inputs: ...
        attributions: ...
        baselines: ...
        additional_forward_args: ...
        target: ...
        max_examples_per_batch: ...
        show_progress: ...
        removal: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1], a multiple of 1/9. Of a target that the model
        does not predict it says nothing; a warning names the example.

    Raises:
        TypeError, ValueError: As `token_deletion`.

    Reference:
        Mehri et al., "LibraGrad", CVPR 2025.

    Example::

        >>> from captum_mda import demo, metrics, RawAttention
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> grid = RawAttention(model).attribute(images, interpolate_mode=None)
        >>> metrics.mif_deletion(model, images, grid, target=labels).shape
        torch.Size([2])
    """
    return token_deletion(**locals()).accuracy


@log_usage(part_of_slo=True)
@documented(token_deletion)
def lif_deletion(
    model: nn.Module | ViTAdapter,
    inputs: Tensor,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    removal: Removal = "auto",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """LIF deletion accuracy; higher is better, in [0, 1] (Mehri et al. 2025).

    As `mif_deletion`, but the least important patches go first: a good map leaves the
    class standing.

    Args:
        model: ...
        inputs: ...
        attributions: ...
        baselines: ...
        additional_forward_args: ...
        target: ...
        max_examples_per_batch: ...
        show_progress: ...
        removal: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1], a multiple of 1/9. Of a target that the model
        does not predict it says nothing; a warning names the example.

    Raises:
        TypeError, ValueError: As `token_deletion`.

    Reference:
        Mehri et al., "LibraGrad", CVPR 2025.

    Example::

        >>> from captum_mda import demo, metrics, RawAttention
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> grid = RawAttention(model).attribute(images, interpolate_mode=None)
        >>> metrics.lif_deletion(model, images, grid, target=labels).shape
        torch.Size([2])
    """
    return token_deletion(**locals(), first="least").accuracy
