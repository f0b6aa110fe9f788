"""The one table of metrics: names, headings, directions, ranges and runners."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from captum_mda._spelling import nearest
from captum_mda.evaluate import _runners as runs
from captum_mda.evaluate._runners import (
    Evaluation as Evaluation,
    Found as Found,
    Runner as Runner,
    Scored as Scored,
)
from captum_mda.metrics.localization.segmentation import SegmentationScores
from captum_mda.metrics.scores import PerturbationScores
from captum_mda.statistics.table import DOWN, UP


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
    needs: Literal["masks", "classes", "tokens", "sums"] | None = None

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
_UNIT, _SIGNED = (0.0, 1.0), (-1.0, 1.0)

METRICS: dict[str, Metric] = {
    each.name: each
    for each in (
        Metric(
            name="insertion",
            heading="Ins",
            higher_is_better=True,
            range=_UNIT,
            meaning="does the score come back early, most important first?",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="deletion",
            heading="Del",
            higher_is_better=False,
            range=_UNIT,
            meaning="does the score fall early, most important first?",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="insertion_deletion",
            heading="Ins-Del",
            higher_is_better=True,
            range=_SIGNED,
            meaning="insertion less deletion",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="mas_insertion",
            heading="MAS Ins",
            higher_is_better=True,
            range=_UNIT,
            meaning="insertion, less where magnitudes do not rise as the score does",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="mas_deletion",
            heading="MAS Del",
            higher_is_better=False,
            range=_UNIT,
            meaning="deletion, more where magnitudes do not fall as the score does",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="mas_insertion_deletion",
            heading="MAS Ins-Del",
            higher_is_better=True,
            range=_SIGNED,
            meaning="MAS insertion less MAS deletion",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="monotonicity",
            heading="Monotonicity",
            higher_is_better=True,
            range=_SIGNED,
            meaning="does every inserted feature raise the score?",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="aopc",
            heading="AOPC",
            higher_is_better=True,
            range=_SIGNED,
            meaning="how far does the raw score fall on average under deletion?",
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="symmetric_relevance_gain",
            heading="SRG",
            higher_is_better=True,
            range=_SIGNED,
            meaning=(
                "least-first less most-first deletion of raw scores; random maps: 0"
            ),
            run=runs.run_curves,
            result=_SWEPT,
        ),
        Metric(
            name="positive_perturbation",
            heading="Positive",
            higher_is_better=False,
            range=_UNIT,
            meaning=(
                "does the class stay first when the most important 10 "
                "to 90 % are masked?"
            ),
            run=runs.run_hits,
            needs="classes",
        ),
        Metric(
            name="negative_perturbation",
            heading="Negative",
            higher_is_better=True,
            range=_UNIT,
            meaning=(
                "does the class stay first when the least important 10 "
                "to 90 % are masked?"
            ),
            run=runs.run_hits,
            needs="classes",
        ),
        Metric(
            name="mif_deletion",
            heading="MIF",
            higher_is_better=False,
            range=_UNIT,
            meaning=(
                "does the class stay first when the most important tokens are dropped?"
            ),
            run=runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            name="lif_deletion",
            heading="LIF",
            higher_is_better=True,
            range=_UNIT,
            meaning=(
                "does the class stay first when the least important tokens are dropped?"
            ),
            run=runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            name="token_relevance_gain",
            heading="Token SRG",
            higher_is_better=True,
            range=_SIGNED,
            meaning="LIF less MIF deletion of tokens; random maps: 0",
            run=runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            name="completeness_error",
            heading="Completeness error",
            higher_is_better=False,
            range=(0.0, math.inf),
            meaning="by how much do attributions miss the score they share out?",
            run=runs.run_completeness,
            needs="sums",
        ),
        Metric(
            name="sparseness",
            heading="Sparseness",
            higher_is_better=True,
            range=_UNIT,
            meaning="do few features carry the map? Higher is sparser, and not truer",
            run=runs.run_sparseness,
        ),
        Metric(
            name="iou",
            heading="IoU",
            higher_is_better=True,
            range=_UNIT,
            meaning="does the map, cut in two, cover the object and nothing else?",
            run=runs.run_segmentation,
            result=_FOUND,
            needs="masks",
        ),
        Metric(
            name="average_precision",
            heading="AP",
            higher_is_better=True,
            range=_UNIT,
            meaning="are the object's pixels ranked above the others?",
            run=runs.run_segmentation,
            result=_FOUND,
            needs="masks",
        ),
        Metric(
            name="f1",
            heading="F1",
            higher_is_better=True,
            range=_UNIT,
            meaning="precision and recall of the object's pixels, map cut in two",
            run=runs.run_segmentation,
            result=_FOUND,
            needs="masks",
        ),
        Metric(
            name="pixel_accuracy",
            heading="Pixel acc.",
            higher_is_better=True,
            range=_UNIT,
            meaning="which share of the pixels is right, map cut in two?",
            run=runs.run_segmentation,
            result=_FOUND,
            needs="masks",
        ),
        Metric(
            name="pointing_game",
            heading="Pointing",
            higher_is_better=True,
            range=_UNIT,
            meaning="is the largest value on the object?",
            run=runs.run_pointing,
            needs="masks",
        ),
    )
}
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
    if not isinstance(metric, Metric):
        raise TypeError(f"metric: got {type(metric).__name__}, takes a Metric")
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
