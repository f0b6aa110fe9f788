"""The one table of metrics: what each is called, and which scores are better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from captum_mda._spelling import nearest
from captum_mda.metrics import runs
from captum_mda.metrics.scores import PerturbationScores
from captum_mda.metrics.segmentation import SegmentationScores

UP, DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"


@dataclass(frozen=True)
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
        run (callable): Computes it, and what shares its forwards, for several maps.
        result (type, optional): The class of results that hold it as the attribute
            ``name``. None: the function returns the scores themselves. Default: None
        needs (str, optional): What not everyone has: "masks" of objects; "classes" of
            which one is first; the "tokens" of a Vision Transformer; or "sums", maps
            that add up to the output. Default: None
    """

    name: str
    heading: str
    higher_is_better: bool
    range: tuple[float, float]
    meaning: str
    run: runs.Runner
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
            "insertion",
            "Ins",
            True,
            _UNIT,
            "does the score come back early, most important first?",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "deletion",
            "Del",
            False,
            _UNIT,
            "does the score fall early, most important first?",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "insertion_deletion",
            "Ins-Del",
            True,
            _SIGNED,
            "insertion less deletion",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "mas_insertion",
            "MAS Ins",
            True,
            _UNIT,
            "insertion, less where magnitudes do not rise as the score does",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "mas_deletion",
            "MAS Del",
            False,
            _UNIT,
            "deletion, more where magnitudes do not fall as the score does",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "mas_insertion_deletion",
            "MAS Ins-Del",
            True,
            _SIGNED,
            "MAS insertion less MAS deletion",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "monotonicity",
            "Monotonicity",
            True,
            _SIGNED,
            "does every inserted feature raise the score?",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "aopc",
            "AOPC",
            True,
            _SIGNED,
            "how far does the raw score fall on average under deletion?",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "symmetric_relevance_gain",
            "SRG",
            True,
            _SIGNED,
            "least-first less most-first deletion of raw scores; random maps: 0",
            runs.run_curves,
            _SWEPT,
        ),
        Metric(
            "positive_perturbation",
            "Positive",
            False,
            _UNIT,
            "does the class stay first when the most important 10 to 90 % are masked?",
            runs.run_hits,
            needs="classes",
        ),
        Metric(
            "negative_perturbation",
            "Negative",
            True,
            _UNIT,
            "does the class stay first when the least important 10 to 90 % are masked?",
            runs.run_hits,
            needs="classes",
        ),
        Metric(
            "mif_deletion",
            "MIF",
            False,
            _UNIT,
            "does the class stay first when the most important tokens are dropped?",
            runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            "lif_deletion",
            "LIF",
            True,
            _UNIT,
            "does the class stay first when the least important tokens are dropped?",
            runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            "token_relevance_gain",
            "Token SRG",
            True,
            _SIGNED,
            "LIF less MIF deletion of tokens; random maps: 0",
            runs.run_tokens,
            needs="tokens",
        ),
        Metric(
            "completeness_error",
            "Completeness error",
            False,
            (0.0, math.inf),
            "by how much do attributions miss the score they share out?",
            runs.run_completeness,
            needs="sums",
        ),
        Metric(
            "sparseness",
            "Sparseness",
            True,
            _UNIT,
            "do few features carry the map? Higher is sparser, and not truer",
            runs.run_sparseness,
        ),
        Metric(
            "iou",
            "IoU",
            True,
            _UNIT,
            "does the map, cut in two, cover the object and nothing else?",
            runs.run_segmentation,
            _FOUND,
            needs="masks",
        ),
        Metric(
            "average_precision",
            "AP",
            True,
            _UNIT,
            "are the object's pixels ranked above the others?",
            runs.run_segmentation,
            _FOUND,
            needs="masks",
        ),
        Metric(
            "f1",
            "F1",
            True,
            _UNIT,
            "precision and recall of the object's pixels, map cut in two",
            runs.run_segmentation,
            _FOUND,
            needs="masks",
        ),
        Metric(
            "pixel_accuracy",
            "Pixel acc.",
            True,
            _UNIT,
            "which share of the pixels is right, map cut in two?",
            runs.run_segmentation,
            _FOUND,
            needs="masks",
        ),
        Metric(
            "pointing_game",
            "Pointing",
            True,
            _UNIT,
            "is the largest value on the object?",
            runs.run_pointing,
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


def metric_named(argument: str, name: object) -> Metric:
    """Look a metric up; raise with the names that are near."""
    if isinstance(name, Metric):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"{argument}: got {name!r}, takes the name of a metric, such as "
            '"deletion"; captum_mda.metrics.METRICS lists all'
        )
    if name in METRICS:
        return METRICS[name]
    # Whoever reads tables knows a metric by its heading.
    written = {each.heading: each.name for each in METRICS.values()}
    known = {**{each: each for each in METRICS}, **written}
    near = nearest(name, known)
    if near:
        raise ValueError(
            f"{argument}: got {name!r}, did you mean {known[near[0]]!r}? "
            "captum_mda.metrics.METRICS lists all"
        )
    raise ValueError(
        f"{argument}: got {name!r}, takes one of {', '.join(METRICS)}; pass "
        "higher_is_better in its place for scores of a metric of your own"
        if argument == "metric"
        else f"{argument}: got {name!r}, takes one of {', '.join(METRICS)}"
    )
