"""The arguments of `MetricDrivenAttribution`: their descriptions and their forms.

Args:
    inputs (Tensor or tuple[Tensor, ...]): The inputs to explain, examples along
        dimension 0 of each tensor.
    baselines (Tensor, number, tuple of those, optional): Replace deleted features; a
        tensor broadcasts to its input. None: 0. Default: None
    target (int, tuple, Tensor, list, callable, optional): The class to explain, for all
        examples or per example, in Captum's forms; or a callable that maps outputs (R,
        ...), in float32 or float64, to one score per row, (R,), in place of ``score``:
        rows are perturbed inputs of any examples, in any number, and each is scored by
        its own output alone. None where ``forward_func`` returns one value per example.
        Default: None
    additional_forward_args (any, optional): Passed to ``forward_func`` after the
        inputs; tensors whose first dimension is the batch's hold one entry per example.
        Default: None
    feature_mask (Tensor or tuple[Tensor, ...], optional): Integers that give the
        feature of each element, broadcasting to the inputs; equal numbers are one
        feature, also across tensors. For a Vision Transformer pass
        ``patch_feature_mask(inputs, patch_size)``. None: every scalar is a feature, up
        to 4,096 of them. Default: None
    insertion_baselines (Tensor, number, tuple of those, optional): Replace features
        that are not yet inserted; the paper blurs the inputs, see
        `confidence_blur_baseline`. None: those of deletion. Default: None
    seed_attributions (Tensor, tuple of those, or MDAExplanation, optional): The prior,
        an attribution that narrows the search to the candidates it ranks next, as any
        method returns it: (B, N), one signed score per feature; the grid of patches (B,
        1, h, w) or (B, h, w) that a method of this package returns with
        ``interpolate_mode=None``, where the feature mask is a raster of such patches or
        its features do not cut the grid's cells; or maps that broadcast to the inputs
        and are averaged over each feature. Of forms that a shape fits, the first is
        taken. None: all features are candidates at each step, which costs more.
        Default: None
    tau (float, optional): The normalised response in [0, 1] at which insertion hands
        over to deletion; 1 uses insertion alone, 0 deletion alone. Default: 0.9
    gamma (float, optional): 0 is the sparse map, which scores best in the magnitude
        metrics, 1 the dense one, which shows more features, in [0, 1]. Default: 0.0
    kappa (float, optional): The sparse magnitude in [0, 1] from which on the dense map
        counts a feature as important. Default: 0.005
    return_input_shape (bool, optional): Paint the attributions onto the inputs'
        elements; else return one per feature. Default: True
    perturbations_per_eval (int, optional): The largest number of perturbed inputs per
        example in one forward. None: as many as fit. Default: None
    show_progress (bool, optional): Show a progress bar of the search's forwards.
        Default: False
    deletion_baselines (Tensor, number, tuple of those, optional): The same as
        ``baselines``, by the name that the metrics have for it. None: ``baselines``.
        Default: None
"""

from __future__ import annotations

from torch import Tensor

from captum_mda._captum import BaselineType
from captum_mda._checks import require_positive_integer_or_none
from captum_mda.perturbation import format_baselines


def removed_baselines(
    baselines: BaselineType, deletion_baselines: BaselineType
) -> tuple[BaselineType, str]:
    """Choose the argument that replaces deleted features, with its name.

    Raises:
        ValueError: Both are given.
    """
    if deletion_baselines is None:
        return baselines, "baselines"
    if baselines is not None:
        raise ValueError(
            "deletion_baselines: got both deletion_baselines and baselines, which are "
            "two names of one argument; pass deletion_baselines alone, and "
            "insertion_baselines for what is inserted into"
        )
    return deletion_baselines, "deletion_baselines"


def both_baselines(
    inputs: tuple[Tensor, ...],
    insertion_baselines: BaselineType,
    deletion_baselines: BaselineType,
    name: str,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Read the baselines of insertion, by default those of deletion, and of deletion.

    Args:
        inputs (tuple[Tensor, ...]): The inputs.
        insertion_baselines (Tensor, number, tuple of those, optional): As given.
        deletion_baselines (Tensor, number, tuple of those, optional): As given.
        name (str): The argument that the latter came in, for messages.
    """
    deleted = format_baselines(inputs, deletion_baselines, name)
    if insertion_baselines is None:
        return deleted, deleted
    return format_baselines(inputs, insertion_baselines, "insertion_baselines"), deleted


def rows_per_forward(perturbations_per_eval: int | None, n_examples: int) -> int | None:
    """Convert Captum's number of perturbations per example to one of rows."""
    rows = require_positive_integer_or_none(
        "perturbations_per_eval", perturbations_per_eval
    )
    return None if rows is None else rows * n_examples
