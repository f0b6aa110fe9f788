"""Sparseness: how few features carry an attribution map."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from captum_mda._captum import log_usage
from captum_mda._checks import broadcasts_to, require_choice, require_examples
from captum_mda.metrics._degenerate import OK, OnDegenerate, report_degenerate
from captum_mda.perturbation import Features
from captum_mda.perturbation.maps import AnyMaps, as_tensors, over_inputs


@log_usage(part_of_slo=True)
def sparseness(
    attributions: AnyMaps,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Gini index; higher is better where sparse is, in [0, 1) (Chalasani et al. 2020).

    It is 0 where all features weigh the same, and 1 - 1/N where one of N features
    carries everything. Scale and sign do not matter, the number of features does:
    compare maps over the same features.

    Args:
        attributions (Tensor or tuple[Tensor, ...]): Attributions, examples along
            dimension 0, with the inputs' dimensions: an image's map without channels is
            (B, 1, H, W).
        feature_mask (Tensor or tuple[Tensor, ...], optional): Integers that broadcast
            to the attributions; or to the images, where attributions are of patches,
            (B, 1, h, w), or of features, (B, N). A feature weighs the absolute sum of
            its attributions.
            None: every position is a feature, its channels (dimension 1 of three or
            more) summed. Default: None
        on_degenerate (str, optional): What becomes of a map that is zero on all
            features: "raise", or "nan" to score it NaN with a warning.
            Default: "raise"

    Returns:
        *Tensor*: float64 (B,), on the CPU, in [0, 1 - 1/N].

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or a value does not fit, or under "raise" a map is zero on
            all features.

    Reference:
        Chalasani, Chen, Chowdhury, Jha, Wu, "Concise Explanations of Neural Networks
        using Adversarial Training", ICML 2020.

    Example::

        >>> import torch
        >>> from captum_mda.metrics.sparseness import sparseness
        >>> sparseness(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -3.0, 0.0]]))
        tensor([0.0000, 0.7500], dtype=torch.float64)
    """
    require_choice("on_degenerate", on_degenerate, get_args(OnDegenerate))
    maps = _validated(attributions)
    if feature_mask is None:
        features = Features.positions(maps)
    else:
        features = Features.from_mask(_inputs_of(maps, feature_mask), feature_mask)
        maps = over_inputs("attributions", maps, features)
    weights = features.sum(maps).abs()  # (B, N)
    empty = (weights == 0).all(dim=1).tolist()
    report_degenerate(
        "attributions",
        ["all-zero map" if each else OK for each in empty],
        on_degenerate,
        "its features weigh nothing; drop such examples",
    )
    return _gini_index(weights).cpu()


def _validated(attributions: AnyMaps) -> tuple[Tensor, ...]:
    """Check the attributions and return them as a tuple of detached tensors."""
    maps = as_tensors("attributions", attributions)
    for each in maps:
        require_examples("attributions", each)
        if each.shape[0] != maps[0].shape[0]:
            raise ValueError(
                f"attributions: the tensors hold {maps[0].shape[0]} and "
                f"{each.shape[0]} examples along dimension 0; give them the same number"
            )
    return maps


def _inputs_of(
    maps: tuple[Tensor, ...], feature_mask: Tensor | tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Make tensors of the shapes that maps are of: theirs, or those of larger masks."""
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    if len(maps) == 1 < len(masks):  # one number for each feature
        maps = maps * len(masks)
    if len(masks) != len(maps):
        return maps
    return tuple(_shaped_as(each, mask) for each, mask in zip(maps, masks, strict=True))


def _shaped_as(values: Tensor, mask: object) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dim() < 2 or broadcasts_to(mask, values):
        return values
    shape = [len(values), *mask.shape[1:]]
    if values.dim() == mask.dim() > 3:
        shape[1] = max(shape[1], values.shape[1])
    return values.new_zeros(()).expand(shape)


def _gini_index(weights: Tensor) -> Tensor:
    """Compute the Gini index of each row of non-negative weights: (B, N) to (B,).

    Half the mean difference of two weights over their mean; sorted in ascending order,
    the k-th weight enters with k - 1 positive and N - k negative differences.
    """
    n_features = weights.shape[1]
    rank = torch.arange(1, n_features + 1, device=weights.device)
    differences = (2 * rank - n_features - 1).double()
    ascending = weights.sort(dim=1).values
    index = (differences * ascending).sum(dim=1) / (n_features * weights.sum(dim=1))
    return index.clamp(0.0, 1.0 - 1.0 / n_features)  # rounding may leave the range
