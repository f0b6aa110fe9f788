"""Scores of several maps under all metrics, in one table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from captum_mda._captum import BaselineType, log_usage
from captum_mda._docstrings import documented
from captum_mda._state import warn_caller
from captum_mda.evaluate._frames import Form, import_pandas, Layout, Scores
from captum_mda.evaluate._runners import (
    Evaluation,
    Found,
    RUNNERS,
)
from captum_mda.evaluate.metrics import find_metric, Metric, METRICS
from captum_mda.metrics._arguments import Convention, Maps
from captum_mda.metrics._degenerate import NOT_PREDICTED, OK
from captum_mda.metrics.scores import perturbation_scores
from captum_mda.perturbation import Score, Target
from captum_mda.perturbation.maps import AnyMaps

if TYPE_CHECKING:
    from pandas import DataFrame

# Warnings of single metrics that `_report` replaces by one for all maps.
_REPORTED_TOGETHER = (
    "; their values are NaN",
    "; its scores are NaN",
    "target: the model does not predict it",
)
_OPTIONAL = ("classes", "tokens")
"""Needs of metrics that are left out where a model lacks them."""

_MOST_NAMED = 10


@log_usage(part_of_slo=True)
@documented(perturbation_scores)
def evaluate(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    maps: Mapping[str, AnyMaps],
    target: Target = None,
    *,
    insertion_baselines: BaselineType = None,
    deletion_baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    masks: Tensor | None = None,
    metrics: str | Sequence[str | Metric] | None = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    convention: Convention = "mas",
    score: Score = "softmax",
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
    form: Form = "table",
) -> DataFrame:
    """Score maps of several methods under all metrics, in one pandas DataFrame.

    Every score is that of the metric's own function in `captum_mda.metrics` for the
    same arguments; maps share the forwards that they have in common. Examples that a
    metric cannot score are left out of its means, and named in a warning. So are those
    whose target the model does not predict, which keep their values: whether the class
    survives says nothing of a map there.

    Args:
        forward_func (callable): As all arguments that are not told of here, see
            `perturbation_scores`. Metrics of tokens need a Vision Transformer itself.
        inputs: ...
        maps (mapping of str to Tensor, tuple[Tensor, ...] or MDAExplanation):
            Attributions of each method: shaped like the inputs, one channel, a grid of
            patches (B, 1, h, w), or one number for each feature (B, N).
        target: ...
        insertion_baselines: ...
        deletion_baselines (Tensor, number, tuple of those, optional): What stands where
            a feature is deleted, masked or, where tokens cannot be dropped, taken away;
            completeness errors are of the output less that for it. None: 0, and the
            output itself for completeness. Default: None
        feature_mask: ...
        additional_forward_args: ...
        masks (Tensor, optional): Where the objects are, for IoU, AP, F1, pixel accuracy
            and pointing game; see `segmentation_scores`. Default: None
        metrics (str or sequence of str, optional): Names from `METRICS`, in the order
            of the table. None: all but the completeness error, which asks that maps
            add up to the output; metrics of objects where ``masks`` are given; and
            those of classes and tokens where the model has them.
            ``table.attrs["left_out"]`` says what was left out, and why. Default: None
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        convention (str, optional): Of insertion, deletion, MAS and monotonicity; AOPC
            and relevance gain are always of the raw scores. Default: "mas"
        score (str or callable, optional): Completeness errors are of the outputs, or of
            what a callable makes of them. Default: "softmax"
        confidence (float, optional): Of the intervals. Default: 0.95
        n_resamples (int, optional): As in `mean_interval`. Default: 9999
        seed (int, optional): As in `mean_interval`. Default: 0
        form (str, optional): "table": a row for each metric and a column for each
            method (``table.T`` for the reverse), each cell a `MeanInterval`, which is
            printed as ``0.812 [0.790, 0.834]`` and has ``mean``, ``low``, ``high`` and
            ``n``. "long": a row for each method and metric, in numbers;
            ends are NaN where there is no interval. "examples": a row for each method,
            metric and example, with the score and its status. Default: "table"

    Returns:
        *pandas.DataFrame*: Names of metrics have an arrow towards better scores, such
        as ``Del ↓``. One example has no interval. Intervals are BCa bootstraps of
        the mean over examples, see `mean_interval`; to compare methods take
        `captum_mda.statistics.compare`.

    Raises:
        ImportError: pandas is not installed.
        TypeError, ValueError: An argument does not fit (before the first forward), or
            a metric that was named cannot be computed for this model.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> def logits(x):
        ...     return torch.stack([x.sum(dim=1), x[:, 0]], dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 4.0], [2.0, 3.0, 1.0]])
        >>> maps = {"good": x, "bad": 5 - x}
        >>> names = ["insertion", "deletion"]
        >>> metrics.evaluate(logits, x, maps, target=0, metrics=names)
        method                  good                   bad
        metric
        Ins ↑   0.705 [0.500, 0.813]  0.469 [0.422, 0.495]
        Del ↓   0.469 [0.422, 0.495]  0.705 [0.500, 0.813]
    """
    pandas = import_pandas()
    layout = Layout(
        form=form, confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    layout.check()
    chosen = _chosen(metrics, masks)
    evaluation = Evaluation.of(locals() | {"maps": _named_maps(maps)})
    evaluation.check()
    scores, left_out = _run(evaluation, chosen, optional=metrics is None)
    _report(scores)
    frame = layout.frame(pandas, scores)
    frame.attrs.update(confidence=confidence, left_out=left_out)
    return frame


def _named_maps(maps: object) -> Mapping[str, AnyMaps]:
    if not isinstance(maps, Mapping) or not maps:
        raise TypeError(
            f"maps: got {'none' if maps == {} else type(maps).__name__}, takes a "
            "mapping from the names of methods to their attributions, such as "
            '{"LeGrad": attributions}'
        )
    return {str(name): each for name, each in maps.items()}


def _chosen(metrics: object, masks: Tensor | None) -> list[Metric]:
    """Look the wanted metrics up."""
    if metrics is None:
        return [
            each
            for each in METRICS.values()
            if each.needs != "sums" and (each.needs != "masks" or masks is not None)
        ]
    if isinstance(metrics, str | Metric):
        metrics = [metrics]
    if not isinstance(metrics, Sequence) or not metrics:
        raise TypeError(
            f"metrics: got {metrics!r}, takes a sequence of names from "
            f"captum_mda.metrics.METRICS: {', '.join(METRICS)}"
        )
    named = [find_metric("metrics", each) for each in metrics]
    for each in named:
        if each.needs == "masks" and masks is None:
            raise ValueError(
                f"masks: got None, but {each.name!r} compares maps with the objects "
                "that masks mark; pass masks=(B, H, W), or leave it out of metrics"
            )
    return list(dict.fromkeys(named))


def _run(
    evaluation: Evaluation, chosen: Sequence[Metric], optional: bool
) -> tuple[Scores, dict[str, str]]:
    """Run each runner once; tell which metrics were left out, and why."""
    found: Found = {}
    left_out: dict[str, str] = {}
    with _reported_together():
        for runner in dict.fromkeys([*RUNNERS, *(each.run for each in chosen)]):
            wanted = [each for each in chosen if each.run is runner]
            names = [each.name for each in wanted]
            if not names:
                continue
            if not optional or any(each.needs not in _OPTIONAL for each in wanted):
                found |= runner(evaluation, names)
                continue
            try:
                _require_first_class(evaluation)
                found |= runner(evaluation, names)
            # Errors in arguments that all metrics share are raised by the curves.
            except (TypeError, ValueError) as error:
                left_out |= dict.fromkeys(names, str(error))
    return {each: found[each.name] for each in chosen if each.name in found}, left_out


def _require_first_class(evaluation: Evaluation) -> None:
    if evaluation.score not in ("softmax", "identity"):
        raise ValueError(
            'score: under "softmax" or "identity" alone the first class is known to '
            "be what the model predicts; name the metric to have it all the same"
        )


@contextmanager
def _reported_together() -> Iterator[None]:
    """Suppress warnings that `_report` replaces; pass others on, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    passed = {}
    for each in caught:
        text = str(each.message)
        if not any(words in text for words in _REPORTED_TOGETHER):
            passed[each.category, text] = each
    for each in passed.values():
        warnings.warn_explicit(
            each.message, each.category, each.filename, each.lineno, source=each.source
        )


def _report(scores: Scores) -> None:
    """Warn once of all examples that have no score, or one that says nothing."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for metric, of_methods in scores.items():
        for method, scored in of_methods.items():
            for reason in dict.fromkeys(scored.status):
                if reason != OK:
                    told = enumerate(scored.status)
                    which = tuple(example for example, word in told if word == reason)
                    key = (method, reason, which)
                    groups.setdefault(key, []).append(metric.heading)
    together: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    for (method, reason, examples), headings in groups.items():
        key_of_methods = (reason, examples, ", ".join(headings))
        together.setdefault(key_of_methods, []).append(method)
    parts = [
        f"{reason} in {_listed(examples)} of {', '.join(methods)}: {_outcome(reason)} "
        f"{headings}"
        for (reason, examples, headings), methods in together.items()
    ]
    if parts:
        warn_caller("evaluate: " + "; ".join(parts))


def _outcome(reason: str) -> str:
    if reason == NOT_PREDICTED:
        return "a score that says nothing of the map under"
    return "no score, and left out of the mean, under"


def _listed(examples: Sequence[int]) -> str:
    shown = ", ".join(map(str, examples[:_MOST_NAMED]))
    more = len(examples) - _MOST_NAMED
    noun = "example" if len(examples) == 1 else "examples"
    return f"{noun} {shown}" + (f" and {more} more" if more > 0 else "")
