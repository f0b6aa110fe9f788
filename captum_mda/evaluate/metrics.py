"""The one table of metrics: names, headings, directions, ranges and runners."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from captum_mda._checks import require_type
from captum_mda._spelling import nearest
from captum_mda.evaluate._runners import (
    Evaluation as Evaluation,
    Found as Found,
    run_completeness,
    run_curves,
    run_hits,
    run_pointing,
    run_segmentation,
    run_sparseness,
    run_tokens,
    Runner as Runner,
    Scored as Scored,
)
from captum_mda.metrics.localization.segmentation import SegmentationScores
from captum_mda.metrics.scores import PerturbationScores
from captum_mda.statistics.table import DOWN, UP

Needs: TypeAlias = Literal["masks", "classes", "tokens", "sums"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: its names, the direction of better scores, and what it says.

    Args:
        name (str): The public function in `captum_mda.metrics`, or the field of its
            result.
        heading (str): What stands above its column in a table.
        higher_is_better (bool): Whether a higher score is a better one.
        range (tuple[float, float]): The smallest and the largest score; for raw scores
            that of probabilities.
        meaning (str): What a score says, in one line.
        run (callable): Computes the scores: from an `Evaluation` and the names of the
            wanted metrics to a `Scored` by the name of the metric and then of the map.
            Metrics that share forwards have one in common.
        result (type, optional): The class of results that hold it as the attribute
            ``name``. None: the function returns the scores themselves. Default: None
        needs (str, optional): What has to be available: "masks" of objects; "classes",
            of which one is first; the "tokens" of a Vision Transformer; or "sums", maps
            that add up to the output. Default: None
    """

    name: str
    heading: str
    higher_is_better: bool
    range: tuple[float, float]
    meaning: str
    run: Runner
    result: type | None = None
    needs: Needs | None = None

    @property
    def direction(self) -> str:
        """Which scores are better: "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def arrow(self) -> str:
        """An arrow towards better scores."""
        return UP if self.higher_is_better else DOWN

    @property
    def head(self) -> str:
        """The heading with the arrow, such as ``Del ↓``."""
        return f"{self.heading} {self.arrow}"


_SWEPT, _FOUND = PerturbationScores, SegmentationScores
_UNIT, _SIGNED, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)


def _metric(
    name: str,
    heading: str,
    arrow: str,
    range: tuple[float, float],
    run: Runner,
    result: type | None,
    needs: Needs | None,
    meaning: str,
) -> Metric:
    return Metric(
        name=name,
        heading=heading,
        higher_is_better=arrow == UP,
        range=range,
        meaning=meaning,
        run=run,
        result=result,
        needs=needs,
    )


# fmt: off
_TABLE = (
    _metric("insertion", "Ins", UP, _UNIT, run_curves, _SWEPT, None,
            "does the score come back early, most important first?"),
    _metric("deletion", "Del", DOWN, _UNIT, run_curves, _SWEPT, None,
            "does the score fall early, most important first?"),
    _metric("insertion_deletion", "Ins-Del", UP, _SIGNED, run_curves, _SWEPT, None,
            "insertion less deletion"),
    _metric("mas_insertion", "MAS Ins", UP, _UNIT, run_curves, _SWEPT, None,
            "insertion, less where magnitudes do not rise as the score does"),
    _metric("mas_deletion", "MAS Del", DOWN, _UNIT, run_curves, _SWEPT, None,
            "deletion, more where magnitudes do not fall as the score does"),
    _metric("mas_insertion_deletion", "MAS Ins-Del", UP, _SIGNED, run_curves, _SWEPT,
            None,
            "MAS insertion less MAS deletion"),
    _metric("monotonicity", "Monotonicity", UP, _SIGNED, run_curves, _SWEPT, None,
            "does every inserted feature raise the score?"),
    _metric("aopc", "AOPC", UP, _SIGNED, run_curves, _SWEPT, None,
            "how far does the raw score fall on average under deletion?"),
    _metric("symmetric_relevance_gain", "SRG", UP, _SIGNED, run_curves, _SWEPT, None,
            "least-first less most-first deletion of raw scores; random maps: 0"),
    _metric("positive_perturbation", "Positive", DOWN, _UNIT, run_hits, None, "classes",
            "does the class stay first when the most important 10 to 90 % are masked?"),
    _metric("negative_perturbation", "Negative", UP, _UNIT, run_hits, None, "classes",
            "does the class stay first when the least important 10 to 90 % are "
            "masked?"),
    _metric("mif_deletion", "MIF", DOWN, _UNIT, run_tokens, None, "tokens",
            "does the class stay first when the most important tokens are dropped?"),
    _metric("lif_deletion", "LIF", UP, _UNIT, run_tokens, None, "tokens",
            "does the class stay first when the least important tokens are dropped?"),
    _metric("token_relevance_gain", "Token SRG", UP, _SIGNED, run_tokens, None,
            "tokens",
            "LIF less MIF deletion of tokens; random maps: 0"),
    _metric("completeness_error", "Completeness error", DOWN, _POSITIVE,
            run_completeness, None, "sums",
            "by how much do attributions miss the score they share out?"),
    _metric("sparseness", "Sparseness", UP, _UNIT, run_sparseness, None, None,
            "do few features carry the map? Higher is sparser, and not truer"),
    _metric("iou", "IoU", UP, _UNIT, run_segmentation, _FOUND, "masks",
            "does the map, cut in two, cover the object and nothing else?"),
    _metric("average_precision", "AP", UP, _UNIT, run_segmentation, _FOUND, "masks",
            "are the object's pixels ranked above the others?"),
    _metric("f1", "F1", UP, _UNIT, run_segmentation, _FOUND, "masks",
            "precision and recall of the object's pixels, map cut in two"),
    _metric("pixel_accuracy", "Pixel acc.", UP, _UNIT, run_segmentation, _FOUND,
            "masks",
            "which share of the pixels is right, map cut in two?"),
    _metric("pointing_game", "Pointing", UP, _UNIT, run_pointing, None, "masks",
            "is the largest value on the object?"),
)
# fmt: on

METRICS: dict[str, Metric] = {each.name: each for each in _TABLE}
"""Every metric of the package by its name.

Example::

    >>> from captum_mda.metrics import METRICS
    >>> METRICS["deletion"].head, METRICS["deletion"].direction
    ('Del ↓', 'lower')
"""


def list_metrics() -> list[str]:
    """List the names of metrics, in the order of the table.

    Example::

        >>> list_metrics()[:3]
        ['insertion', 'deletion', 'insertion_deletion']
    """
    return list(METRICS)


def get_metric(name: str) -> Metric:
    """Look a metric up by its name.

    Raises:
        TypeError: The name is no string.
        ValueError: There is none of that name; the message has the nearest one.

    Example::

        >>> get_metric("deletion").heading
        'Del'
    """
    return find_metric("metric", name)


def register_metric(metric: Metric) -> Metric:
    """Add a metric to the table, and so to `captum_mda.metrics.evaluate`.

    Args:
        metric (Metric): Of a name and a heading that are not taken.

    Returns:
        *Metric*: the metric.

    Raises:
        TypeError: It is no `Metric`.
        ValueError: There is one of that name, or of that heading.

    Example::

        >>> import torch
        >>> def run(evaluation, names):
        ...     mean = {
        ...         name: Scored(maps[0].flatten(1).mean(1), ("ok",) * len(maps[0]))
        ...         for name, maps in evaluation.laid.items()
        ...     }
        ...     return dict.fromkeys(names, mean)
        >>> mean = register_metric(
        ...     Metric(
        ...         name="mean",
        ...         heading="Mean",
        ...         higher_is_better=True,
        ...         range=(-1, 1),
        ...         meaning="the mean of the map",
        ...         run=run,
        ...     )
        ... )
        >>> METRICS.pop("mean") is mean
        True
    """
    require_type("metric", metric, Metric, "a Metric")
    if metric.name in METRICS:
        raise ValueError(f"metric: there is one of the name {metric.name!r} already")
    if metric.heading in {each.heading for each in METRICS.values()}:
        raise ValueError(
            f"metric: there is one of the heading {metric.heading!r} already"
        )
    METRICS[metric.name] = metric
    return metric


def find_metric(argument: str, name: object, otherwise: str = "") -> Metric:
    """Look a metric up; raise an error that suggests near names.

    Args:
        argument (str): The argument that the name came in.
        name (str or Metric): The name; a metric is returned as it is.
        otherwise (str, optional): What else can be passed, for the error where no name
            is near. Default: ""
    """
    if isinstance(name, Metric):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"{argument}: got {name!r}, takes the name of a metric, such as "
            '"deletion"; captum_mda.metrics.METRICS lists all'
        )
    if name in METRICS:
        return METRICS[name]
    # Readers of tables know a metric by its heading.
    written = {each.heading: each.name for each in METRICS.values()}
    known = {**{each: each for each in METRICS}, **written}
    near = nearest(name, known)
    if near:
        raise ValueError(
            f"{argument}: got {name!r}, did you mean {known[near[0]]!r}? "
            "captum_mda.metrics.METRICS lists all"
        )
    hint = f"; {otherwise}" if otherwise else ""
    raise ValueError(
        f"{argument}: got {name!r}, takes one of {', '.join(METRICS)}{hint}"
    )
