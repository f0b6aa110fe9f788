"""AOPC, monotonicity, relevance gain and completeness error.

All are computed from raw scores, without the normalisation of the MDA tables. Use
`perturbation_scores` to compute several for one map: it sweeps once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_mda._captum import BaselineType, log_usage
from captum_mda._docstrings import documented
from captum_mda._state import preserved_state
from captum_mda.curves import Mode
from captum_mda.metrics._arguments import Convention, Direction, Maps, MetricArguments
from captum_mda.metrics._degenerate import OnDegenerate, report_degenerate
from captum_mda.metrics._sweep import sweep
from captum_mda.metrics.insertion_deletion import response_curve
from captum_mda.perturbation import (
    format_baselines,
    Response,
    Score,
    Target,
    validate_inputs,
)
from captum_mda.perturbation.maps import AnyMaps, as_tensors


@log_usage(part_of_slo=True)
@documented(response_curve)
def aopc(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    r"""Area over perturbation curve; higher is better, in [-1, 1] (Samek et al. 2017).

    The mean fall of the score while features are deleted, most important first:
    :math:`\frac 1 {n+1} \sum_{k=0}^n f(x) - f(x_k)`. Features are ranked by their
    signed attribution.

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
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,), in the score's unit; within [-1, 1] for probabilities.

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Samek, Binder, Montavon, Lapuschkin, Müller, "Evaluating the Visualization of
        What a Deep Neural Network Has Learned", IEEE TNNLS 2017, Eq. 12.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.aopc(sum_model, x, attributions=x)
        tensor([2.7500], dtype=torch.float64)
    """
    curve = response_curve(**locals(), mode="deletion", convention="rise")
    return curve.aopc


@log_usage(part_of_slo=True)
@documented(response_curve)
def monotonicity(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
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
) -> Tensor:
    """Monotonicity; higher is better, in [-1, 1] (Walker et al. 2025, A.3).

    How steadily the score follows the ranking: Spearman's rank correlation of the
    number of steps and the raw score, while features are inserted, most important
    first; under ``mode="deletion"`` they are deleted, and the score should fall. The
    MDA tables take 224 steps from the blurred image, and blur again for deletion.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): Usually the blurred
            inputs. None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        mode: ...
        convention (str, optional): How features are ranked: "mas", by the absolute
            attribution, or "rise", by the signed one. Default: "mas"
        score: ...
        on_degenerate (str, optional): Also about scores that are all the same.
            Default: "raise"

    Returns:
        *Tensor*: float64 (B,) in [-1, 1].

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Walker, Jha, Ewetz, ICLR 2025, Appendix A.3, and published code.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, -1.0, 2.0]])
        >>> metrics.monotonicity(sum_model, x, attributions=x, convention="rise")
        tensor([0.8000], dtype=torch.float64)
    """
    arguments = MetricArguments.of(locals() | {"normalizes": False})
    direction = Direction(mode=mode, baselines=baselines)
    ((curve,),) = sweep(arguments, {"attributions": attributions}, [direction])
    flat = (curve.raw == curve.raw[:, :1]).all(dim=1).tolist()
    status = ["constant curve" if each else "ok" for each in flat]
    remedy = "its score does not change at all; drop it or choose another baseline"
    report_degenerate("inputs", status, on_degenerate, remedy)
    return curve.monotonicity


@log_usage(part_of_slo=True)
@documented(response_curve)
def symmetric_relevance_gain(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Relevance gain, SRG; higher is better, in [-1, 1] (Blücher et al. 2024).

    The area under the score's curve while features are deleted least important first
    (LIF), less that while they are deleted most important first (MIF), in one job. What
    the baseline does to the model by itself cancels: random maps have 0 in expectation.
    Features are ranked by their signed attribution.

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
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,), in the score's unit; within [-1, 1] for probabilities.

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Blücher, Vielhaben, Strodthoff, "Decoupling Pixel Flipping and Occlusion
        Strategy for Consistent XAI Benchmarks", TMLR 2024.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.symmetric_relevance_gain(sum_model, x, attributions=x)
        tensor([2.], dtype=torch.float64)
    """
    arguments = MetricArguments.of(locals() | {"convention": "rise"})
    directions = [
        Direction(mode="deletion", baselines=baselines),
        Direction(mode="deletion", baselines=baselines, least_first=True),
    ]
    maps = {"attributions": attributions}
    most_first, least_first = sweep(arguments, maps, directions)[0]
    return least_first.raw_area - most_first.raw_area


@log_usage(part_of_slo=True)
@documented(response_curve)
def completeness_error(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: Maps,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    target: Target = None,
    max_examples_per_batch: int | None = None,
    *,
    score: Score = "identity",
) -> Tensor:
    r"""Completeness error; lower is better, from 0 on (Mehri et al. 2025, Eq. 1).

    By how much attributions miss the score they share out:
    :math:`|f(x) - \sum_i A_i|`, or with baselines :math:`|f(x) - f(x') - \sum_i A_i|`,
    which methods with a baseline (Integrated Gradients, Shapley values) promise to keep
    at 0. Maps that were resized, scaled or repeated share out nothing any more: give
    the attributions of elements, as Captum's methods return them, or of the patch grid
    (``interpolate_mode=None``). Maps of one channel at the size of several-channel
    images are refused, as interpolated ones have that shape.

    Args:
        forward_func: ...
        inputs: ...
        attributions (Tensor or tuple[Tensor, ...]): (B, ...); all values of an
            example are summed. Shaped like the inputs, or a patch grid (B, 1, h, w); a
            sum over channels goes in as (B, H, W).
        baselines (Tensor, number, tuple of those, optional): None: the score itself is
            shared out. Default: None
        additional_forward_args: ...
        target: ...
        max_examples_per_batch: ...
        score (str or callable, optional): Default: "identity"

    Returns:
        *Tensor*: float64 (B,), not negative, in the score's unit.

    Raises:
        TypeError, ValueError: An argument does not fit.

    Reference:
        Mehri et al., "LibraGrad", CVPR 2025, Eq. 1; Sundararajan, Taly,
        Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.completeness_error(sum_model, x, attributions=x * 0.5)
        tensor([2.], dtype=torch.float64)
    """
    tensors = validate_inputs(inputs)
    maps = _read_maps(attributions, len(tensors[0]))
    _require_unrepeated(maps, tensors)
    response = Response(
        forward_func,
        len(tensors[0]),
        target,
        additional_forward_args,
        score,
        max_examples_per_batch,
        rows_argument="max_examples_per_batch",
    )
    examples = torch.arange(len(tensors[0]))
    sources = [tensors]
    if baselines is not None:
        absent = format_baselines(tensors, baselines)
        pairs = zip(absent, tensors, strict=True)
        sources.append(tuple(value.expand(tensor.shape) for value, tensor in pairs))
    with preserved_state(forward_func):
        scores = [
            response(_rows_of(source), examples).cpu().double() for source in sources
        ]
    total = sum(each.double().flatten(1).sum(dim=1).cpu() for each in maps)
    shared = scores[0] - (scores[1] if len(scores) > 1 else 0.0)
    return (shared - total).abs()


def _read_maps(attributions: AnyMaps, n_examples: int) -> tuple[Tensor, ...]:
    """Check attributions of any shape, examples along dimension 0."""
    maps = as_tensors("attributions", attributions)
    for each in maps:
        if each.dim() == 0 or len(each) != n_examples:
            raise ValueError(
                f"attributions: got shape {tuple(each.shape)} for {n_examples} "
                "examples, takes one map for each along dimension 0"
            )
    return maps


def _require_unrepeated(maps: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> None:
    """Raise for maps whose values can be seen to share out nothing."""
    for each, tensor in zip(maps, tensors, strict=False):
        images = tensor.dim() == each.dim() == 4 and tensor.shape[1] > 1
        if images and each.shape == (*tensor[:, :1].shape,):
            raise ValueError(
                f"attributions: got shape {tuple(each.shape)} for inputs "
                f"{tuple(tensor.shape)}, which is that of a map interpolated from "
                "patches: its sum is not what was shared out. Pass the patch grid "
                "from attribute(..., interpolate_mode=None), or attributions of all "
                "channels; their sum over channels goes in as (B, H, W)"
            )
        repeated = zip(each.shape[1:], each.stride()[1:], strict=True)
        if any(size > 1 and stride == 0 for size, stride in repeated):
            raise ValueError(
                f"attributions: got a map of shape {tuple(each.shape)} that repeats "
                "its values (expand), so that its sum counts each several times; pass "
                "it as it was before it was expanded"
            )


def _rows_of(source: tuple[Tensor, ...]) -> Callable[[slice], tuple[Tensor, ...]]:
    # Copies: the forward function may work on its inputs in place.
    return lambda rows: tuple(tensor[rows].clone() for tensor in source)
