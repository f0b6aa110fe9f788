"""Insertion and deletion scores.

Two conventions are in use, and their numbers must not be mixed:

``convention="mas"`` is that of the MDA tables. Positions are ranked by the absolute
value of the attribution summed over channels, ascending and then reversed, so that ties
go to the higher index. Responses are normalised between baseline and input, clipped to
[0, 1] and made monotone before the area is taken.

``convention="rise"`` is that of Petsiuk et al. Positions are ranked by the signed sum,
ties to the lower index, and the area is that of the raw scores.

Both step through the ranking in ``n_steps`` steps and integrate by the trapezoid rule.
MAS scores are defined by the normalised response under either.

References: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of
Black-box Models", BMVC 2018; Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision
Transformers", ICLR 2025, and its published code.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_mda._captum import BaselineType, log_usage
from captum_mda._docstrings import documented
from captum_mda.curves import Mode
from captum_mda.metrics._arguments import Convention, Direction, MetricArguments
from captum_mda.metrics._degenerate import OnDegenerate
from captum_mda.metrics._sweep import sweep
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.perturbation import Score, Target
from captum_mda.perturbation.maps import AnyMaps


@log_usage(part_of_slo=True)
def response_curve(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    mode: Mode = "insertion",
    convention: Convention = "mas",
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> ResponseCurve:
    """Follow the score while features are inserted, or deleted, in their ranking.

    Args:
        forward_func (callable): Returns logits (B, classes), or one value for each
            example.
        inputs (Tensor or tuple[Tensor, ...]): The explained inputs, examples along
            dimension 0.
        attributions (Tensor, tuple of those, or MDAExplanation): Attributions, not all
            the same, as methods return them: maps that broadcast to the inputs, or (B,
            H, W) of images; a grid of patches, (B, 1, h, w) or (B, h, w), which is
            painted onto the patches of a feature mask that is a raster of h x w, else
            onto equal cells of the inputs; or (B, N), one number for each feature of
            the mask. Of forms that a shape fits, the first is taken.
        baselines (Tensor, number, tuple of those, optional): Replace absent features;
            the papers blur for insertion and take 0 for deletion. None: 0. Default:
            None
        feature_mask (Tensor or tuple[Tensor, ...], optional): Integers that broadcast
            to the inputs, such as ``patch_feature_mask(inputs, 16)``. Steps then move
            whole features, ranked by the sum of their attributions. None: steps move
            single positions (pixels), their channels together. Default: None
        additional_forward_args (any, optional): Passed to ``forward_func`` behind the
            inputs. Default: None
        target (int, tuple, Tensor, list, callable, optional): The class, in Captum's
            forms; or a callable that maps outputs (R, ...) to one score for each row,
            (R,), in place of ``score``: rows are perturbed inputs of any examples, in
            any number. Default: None
        n_steps (int, optional): Number of steps between both ends, each of as equal a
            number of features as can be; at most one step for each feature. Default:
            224
        max_examples_per_batch (int, optional): The most inputs in one forward. None: as
            many as fit. Default: None
        show_progress (bool, optional): Show a bar of the inputs scored. Default: False
        mode (str, optional): "insertion" or "deletion". Default: "insertion"
        convention (str, optional): "mas" or "rise", see
            `captum_mda.metrics.insertion_deletion`. Default: "mas"
        score (str or callable, optional): "softmax", "sigmoid", "identity", or a
            callable from outputs to scores; one value for each example is its own score
            under "softmax". Default: "softmax"
        on_degenerate (str, optional): What to do about examples that cannot be scored:
            a map that is constant, or under "mas" an input that scores no higher than
            its baseline. "raise" refuses the batch; "nan" warns, and their scores are
            NaN, with the reason in the curve's status. Default: "raise"

    Returns:
        *ResponseCurve*: raw scores, response, density and penalty, each float64
        (B, n + 1), a status for each example, and what can be read off the curve: its
        areas, AOPC and monotonicity.

    Raises:
        TypeError, ValueError: An argument does not fit (before the first forward), the
            scores are not finite, or an example is degenerate, see above.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.response_curve(sum_model, x, attributions=x).raw
        tensor([[0., 3., 4., 4.]], dtype=torch.float64)
    """
    arguments = MetricArguments.of(locals())
    maps = {"attributions": attributions}
    return sweep(arguments, maps, [Direction(mode=mode, baselines=baselines)])[0][0]


@log_usage(part_of_slo=True)
@documented(response_curve)
def insertion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    convention: Convention = "mas",
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Insertion score; higher is better, in [0, 1] (Petsiuk et al. 2018).

    The area under the score's curve while features are inserted into the
    baseline, most important first.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): Usually the
            blurred inputs. None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        convention: ...
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,), in [0, 1] under "mas" and in the score's unit under
        "rise".

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Petsiuk, Das, Saenko, "RISE", BMVC 2018; normalised as in MDA's published code.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.insertion(sum_model, x, attributions=x)
        tensor([0.7500], dtype=torch.float64)
    """
    curve = response_curve(**locals(), mode="insertion")
    return curve.area


@log_usage(part_of_slo=True)
@documented(response_curve)
def deletion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    convention: Convention = "mas",
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Deletion score; lower is better, in [0, 1] (Petsiuk et al. 2018).

    The area under the score's curve while features are deleted, most
    important first.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        convention: ...
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,), in [0, 1] under "mas" and in the score's unit under
        "rise".

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Petsiuk, Das, Saenko, "RISE", BMVC 2018; normalised as in MDA's published code.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.deletion(sum_model, x, attributions=x)
        tensor([0.2500], dtype=torch.float64)
    """
    curve = response_curve(**locals(), mode="deletion")
    return curve.area
