"""The one table of metrics: what each is called, and which scores are better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches

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
        result (type, optional): The class of results that hold it as the attribute
            ``name``. None: the function returns the scores themselves. Default: None
    """

    name: str
    heading: str
    higher_is_better: bool
    range: tuple[float, float]
    meaning: str
    result: type | None = None

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
            _SWEPT,
        ),
        Metric(
            "deletion",
            "Del",
            False,
            _UNIT,
            "does the score fall early, most important first?",
            _SWEPT,
        ),
        Metric(
            "insertion_deletion",
            "Ins-Del",
            True,
            _SIGNED,
            "insertion less deletion",
            _SWEPT,
        ),
        Metric(
            "mas_insertion",
            "MAS Ins",
            True,
            _UNIT,
            "insertion, less where magnitudes do not rise as the score does",
            _SWEPT,
        ),
        Metric(
            "mas_deletion",
            "MAS Del",
            False,
            _UNIT,
            "deletion, more where magnitudes do not fall as the score does",
            _SWEPT,
        ),
        Metric(
            "mas_insertion_deletion",
            "MAS Ins-Del",
            True,
            _SIGNED,
            "MAS insertion less MAS deletion",
            _SWEPT,
        ),
        Metric(
            "monotonicity",
            "Monotonicity",
            True,
            _SIGNED,
            "does every inserted feature raise the score?",
            _SWEPT,
        ),
        Metric(
            "aopc",
            "AOPC",
            True,
            _SIGNED,
            "how far does the raw score fall on average under deletion?",
            _SWEPT,
        ),
        Metric(
            "symmetric_relevance_gain",
            "SRG",
            True,
            _SIGNED,
            "least-first less most-first deletion of raw scores; random maps: 0",
            _SWEPT,
        ),
        Metric(
            "positive_perturbation",
            "Positive",
            False,
            _UNIT,
            "does the class stay first when the most important 10 to 90 % are masked?",
        ),
        Metric(
            "negative_perturbation",
            "Negative",
            True,
            _UNIT,
            "does the class stay first when the least important 10 to 90 % are masked?",
        ),
        Metric(
            "mif_deletion",
            "MIF",
            False,
            _UNIT,
            "does the class stay first when the most important tokens are dropped?",
        ),
        Metric(
            "lif_deletion",
            "LIF",
            True,
            _UNIT,
            "does the class stay first when the least important tokens are dropped?",
        ),
        Metric(
            "token_relevance_gain",
            "Token SRG",
            True,
            _SIGNED,
            "LIF less MIF deletion of tokens; random maps: 0",
        ),
        Metric(
            "completeness_error",
            "Completeness error",
            False,
            (0.0, math.inf),
            "by how much do attributions miss the score they share out?",
        ),
        Metric(
            "sparseness",
            "Sparseness",
            True,
            _UNIT,
            "do few features carry the map? Higher is sparser, and not truer",
        ),
        Metric(
            "iou",
            "IoU",
            True,
            _UNIT,
            "does the map, cut in two, cover the object and nothing else?",
            _FOUND,
        ),
        Metric(
            "average_precision",
            "AP",
            True,
            _UNIT,
            "are the object's pixels ranked above the others?",
            _FOUND,
        ),
        Metric(
            "f1",
            "F1",
            True,
            _UNIT,
            "precision and recall of the object's pixels, map cut in two",
            _FOUND,
        ),
        Metric(
            "pixel_accuracy",
            "Pixel accuracy",
            True,
            _UNIT,
            "which share of the pixels is right, map cut in two?",
            _FOUND,
        ),
        Metric(
            "pointing_game",
            "Pointing",
            True,
            _UNIT,
            "is the largest value on the object?",
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
    written = {each.heading.lower(): each.name for each in METRICS.values()}
    known = {**{each: each for each in METRICS}, **written}
    near = get_close_matches(name.lower().replace(" ", "_"), known, n=1) or (
        get_close_matches(name.lower(), known, n=1)
    )
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
