"""All insertion, deletion and MAS scores of a map, from one sweep each way.

The conventions are those of `captum_mda.metrics.insertion_deletion`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from captum_mda._captum import BaselineType, log_usage, TargetType
from captum_mda.metrics.response_curves import (
    Convention,
    Question,
    ResponseCurve,
    sweep,
)
from captum_mda.perturbation import Score


@dataclass(frozen=True, eq=False)
class PerturbationScores:
    """The six scores of a batch of attributions, each float64 (B,), and their curves.

    Insertion scores are better when higher, deletion scores when lower, and differences
    when higher.

    Args:
        insertion (Tensor): Area under the insertion curve.
        deletion (Tensor): Area under the deletion curve.
        insertion_deletion (Tensor): ``insertion - deletion``.
        mas_insertion (Tensor): Area under the magnitude-aligned insertion curve.
        mas_deletion (Tensor): Area under the magnitude-aligned deletion curve.
        mas_insertion_deletion (Tensor): ``mas_insertion - mas_deletion``.
        insertion_curve (ResponseCurve): What the insertion scores are the areas of.
        deletion_curve (ResponseCurve): What the deletion scores are the areas of.
    """

    insertion: Tensor
    deletion: Tensor
    insertion_deletion: Tensor
    mas_insertion: Tensor
    mas_deletion: Tensor
    mas_insertion_deletion: Tensor
    insertion_curve: ResponseCurve
    deletion_curve: ResponseCurve


@log_usage(part_of_slo=True)
def perturbation_scores(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    insertion_baselines: BaselineType = None,
    deletion_baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    convention: Convention = "mas",
    score: Score = "softmax",
) -> PerturbationScores:
    """Compute all six insertion, deletion and MAS scores from one sweep each way.

    Args:
        forward_func (callable): As all arguments but the baselines, see
            `response_curve`.
        inputs (Tensor or tuple[Tensor, ...]): The explained inputs.
        attributions (Tensor or tuple[Tensor, ...]): Their attributions.
        insertion_baselines (Tensor, number, tuple of those, optional): What stands
            where a feature is not yet inserted; the papers blur the inputs. None: 0.
            Default: None
        deletion_baselines (Tensor, number, tuple of those, optional): What stands where
            a feature is deleted. None: 0. Default: None
        feature_mask (Tensor or tuple[Tensor, ...], optional): Default: None
        additional_forward_args (any, optional): Default: None
        target (int, tuple, Tensor, list, optional): Default: None
        n_steps (int, optional): Default: 224
        max_examples_per_batch (int, optional): Default: None
        show_progress (bool, optional): Default: False
        convention (str, optional): "mas" or "rise", see the module. Default: "mas"
        score (str or callable, optional): Default: "softmax"

    Returns:
        *PerturbationScores*: six scores, each float64 (B,), in [0, 1] under "mas"
        (differences in [-1, 1]), and both curves.

    Raises:
        TypeError, ValueError: As `response_curve`.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> scores = metrics.perturbation_scores(sum_model, x, attributions=x)
        >>> scores.insertion, scores.deletion
        (tensor([0.7500], dtype=torch.float64), tensor([0.2500], dtype=torch.float64))
    """
    question = Question(
        forward_func,
        inputs,
        attributions,
        feature_mask,
        additional_forward_args,
        target,
        n_steps,
        max_examples_per_batch,
        show_progress,
        convention,
        score,
    )
    inserted, deleted = sweep(
        question,
        [
            ("insertion", insertion_baselines, "insertion_baselines"),
            ("deletion", deletion_baselines, "deletion_baselines"),
        ],
    )
    return PerturbationScores(
        insertion=inserted.area,
        deletion=deleted.area,
        insertion_deletion=inserted.area - deleted.area,
        mas_insertion=inserted.mas_area,
        mas_deletion=deleted.mas_area,
        mas_insertion_deletion=inserted.mas_area - deleted.mas_area,
        insertion_curve=inserted,
        deletion_curve=deleted,
    )
