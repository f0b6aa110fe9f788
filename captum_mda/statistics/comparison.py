"""Paired comparisons of methods on the same examples.

Each pair of methods has an interval and a p-value, and they can disagree. The interval
is a BCa bootstrap of the mean difference, one comparison at a time: it is not corrected
for their number, and too narrow for few examples (four differences of one sign never
give an interval with 0 in it, at any level). The p-value is that of Wilcoxon's
signed-rank test, corrected by Holm for the number of comparisons. Verdicts follow the
test, and say so where the interval points elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captum_mda._checks import require_flag
from captum_mda.statistics._scores import paired_values, Scores
from captum_mda.statistics.intervals import (
    mean_interval,
    MeanInterval,
    require_settings,
)
from captum_mda.statistics.signed_ranks import (
    holm,
    rank_biserial,
    signed_rank_p_value,
    smallest_p_value_of,
)

if TYPE_CHECKING:
    from captum_mda.evaluate.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method against the reference, paired over examples, see `compare`.

    Args:
        method (str): The method's name.
        reference (str): The name of what it is compared with.
        difference (MeanInterval): Of method minus reference, over the pairs; its
            bootstrap interval is not corrected for the number of comparisons.
        p_value (float): Of the two-sided Wilcoxon signed-rank test, in [0, 1].
        adjusted_p_value (float): By Holm over all comparisons of the call, in [0, 1].
        effect_size (float): Matched-pairs rank-biserial correlation, in [-1, 1];
            positive where the method scores higher, 0 where all differences are 0.
        n (int): The number of pairs in which neither score is NaN.
        n_nonzero (int): Of those, how many differ; the test sees no others.
        n_comparisons (int): The number of comparisons that Holm corrects for.
        smallest_p_value (float): The adjusted p-value if all differences had one sign
            and the other comparisons were as they are.
        higher_is_better (bool): Whether a higher score is a better one.
        metric (Metric, optional): What was compared. Default: None
    """

    method: str
    reference: str
    difference: MeanInterval
    p_value: float
    adjusted_p_value: float
    effect_size: float
    n: int
    n_nonzero: int
    n_comparisons: int
    smallest_p_value: float
    higher_is_better: bool
    metric: Metric | None = None

    @property
    def distinguishable(self) -> bool:
        """Whether the adjusted p-value is below one minus the confidence."""
        return self.adjusted_p_value < 1 - self.difference.confidence

    @property
    def outcome(self) -> Literal["better", "worse", "mixed", "not distinguishable"]:
        """The verdict in a word; "mixed" where ranks and mean point apart."""
        if not self.distinguishable:
            return "not distinguishable"
        # The test is of the ranks; outliers can pull the mean to the other side.
        if self.effect_size * self.difference.mean <= 0:
            return "mixed"
        scores_higher = self.effect_size > 0
        return "better" if scores_higher == self.higher_is_better else "worse"

    @property
    def interval_agrees(self) -> bool:
        """Whether the interval leaves out 0 where the test rejects, and only there."""
        leaves_out_0 = self.difference.low > 0 or self.difference.high < 0
        return leaves_out_0 == self.distinguishable

    @property
    def short_verdict(self) -> str:
        """The outcome, which follows the test, and whether the interval agrees."""
        if self.interval_agrees or self.outcome == "mixed":
            return self.outcome
        leaves = "includes" if self.distinguishable else "leaves out"
        return f"{self.outcome} by the test; the interval {leaves} 0"

    @property
    def verdict(self) -> str:
        """The verdict in a sentence: what differs, by how much, and how that is known.

        It follows the test, and says so where the interval points elsewhere.
        """
        outcome, pair = self.outcome, f"{self.reference}{self._of_metric}"
        if outcome == "mixed":
            return (
                f"{self.method} differs from {pair}, but ranks and mean point apart: "
                f"difference {self.difference} {self._record}"
            )
        if outcome == "not distinguishable":
            return (
                f"{self.method} is not distinguishable from {pair} at n = {self.n}: "
                f"difference {self.difference} {self._record}"
                f"{self._disagreement}{self._hopelessness}"
            )
        upwards = self.difference.mean > 0
        margin = self.difference if upwards else _negated(self.difference)
        return (
            f"{self.method} is {outcome} than {pair} by {margin} {self._record}"
            f"{self._disagreement}"
        )

    @property
    def _of_metric(self) -> str:
        """Say which scores were compared, and which of them are better."""
        if self.metric is None:
            return ""
        return f" in {self.metric.heading} ({self.metric.direction} is better)"

    @property
    def _record(self) -> str:
        """Say what the interval is, and what the test found."""
        return (
            f"({percent(self.difference.confidence)} bootstrap interval of the mean, "
            f"not corrected; Holm-corrected Wilcoxon p = {self.adjusted_p_value:.2g}, "
            f"n = {self.n}, effect {self.effect_size:.2f})"
        )

    @property
    def _disagreement(self) -> str:
        """Say which to go by where interval and test point apart."""
        if self.interval_agrees:
            return ""
        if self.distinguishable:
            return (
                "; the interval includes 0, but it is of the mean and the test is of "
                "the ranks: the verdict follows the test"
            )
        return (
            "; the interval leaves out 0, but it is not corrected for "
            f"{_counted(self.n_comparisons, 'comparison')} and is too narrow for few "
            "examples: the verdict follows the test"
        )

    @property
    def _hopelessness(self) -> str:
        """Say where even a perfect record would not have been significant."""
        if self.smallest_p_value < 1 - self.difference.confidence:
            return ""
        examples = _counted(self.n, "example")
        if self.n_nonzero < self.n:
            examples += f" of which {self.n_nonzero} differ"
        return (
            "; no result could be significant, with "
            f"{_counted(self.n_comparisons, 'comparison')} of {examples}"
        )


def compare(
    scores: Mapping[str, Scores],
    higher_is_better: bool | None = None,
    reference: str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
    *,
    metric: str | Metric | None = None,
) -> list[Comparison]:
    """Compare every method with a reference, paired over the same examples.

    Which scores are better comes from the metric. Whether two methods differ is said by
    the test, Wilcoxon's, corrected by Holm for the number of comparisons. The bootstrap
    interval of each mean difference is not corrected; a verdict says so, and says in
    words where the interval points elsewhere than the test.

    The Wilcoxon test is exact for up to 50 differing pairs, or up to 13 where absolute
    differences are tied, and its normal approximation beyond. With ties among 11 to 13
    pairs SciPy takes up to seconds for each method. A reference that is chosen for its
    mean is chosen with the data at hand, which flatters it.

    Args:
        scores (Mapping[str, Tensor, array, sequence or result]): For each of at least
            two methods the scores of the same examples in the same order, (B,), or
            `PerturbationScores` or `SegmentationScores` that hold the metric's; a pair
            with a NaN is left out and counted.
        higher_is_better (bool, optional): For scores of a metric of your own, in place
            of ``metric``. Default: None
        reference (str, optional): The method that all others are compared with. None:
            the one with the best mean, the first of those. Default: None
        confidence (float, optional): Of the intervals; one minus it is the level of the
            tests after correction. Default: 0.95
        n_resamples (int, optional): As in `mean_interval`. Default: 9999
        seed (int, optional): As in `mean_interval`. Default: 0
        metric (str or Metric, optional): What the scores are of, by its name in
            `captum_mda.metrics.METRICS`, which knows whether higher or lower is better.
            Default: None

    Returns:
        *list[Comparison]*: One for each method but the reference, in order.

    Raises:
        TypeError: An argument of the wrong type, or neither ``metric`` nor
            ``higher_is_better`` is given.
        ValueError: Both are given and disagree, there are fewer than two methods, their
            lengths differ, a pair of methods shares no example, or as `mean_interval`.

    Reference:
        Wilcoxon, Individual Comparisons by Ranking Methods, 1945; Holm, A Simple
        Sequentially Rejective Multiple Test Procedure, 1979; Kerby, The Simple
        Difference Formula, 2014 (rank-biserial correlation).

    Example::

        >>> from captum_mda.metrics.statistics import compare
        >>> scores = {"ours": [0.2, 0.1, 0.3, 0.2], "theirs": [0.3, 0.3, 0.6, 0.6]}
        >>> print(compare(scores, metric="deletion")[0].verdict)
        theirs is not distinguishable from ours in Del (lower is better) at n = 4:
        difference 0.250 [0.125, 0.350] (95 % bootstrap interval of the mean, not
        corrected; Holm-corrected Wilcoxon p = 0.12, n = 4, effect 1.00); the interval
        leaves out 0, but it is not corrected for 1 comparison and is too narrow for few
        examples: the verdict follows the test; no result could be
        significant, with 1 comparison of 4 examples
    """
    require_settings(confidence, n_resamples, seed)
    found = None if metric is None else _metric_of(metric)
    higher_is_better = _direction(found, higher_is_better)
    values = paired_values(scores, found)
    chosen = _chosen_reference(values, higher_is_better, reference)
    differences = {
        name: array - values[chosen] for name, array in values.items() if name != chosen
    }
    pairs = [_present_pairs(name, chosen, each) for name, each in differences.items()]
    p_values = [signed_rank_p_value(each) for each in pairs]
    adjusted = holm(p_values)
    return [
        Comparison(
            method=name,
            reference=chosen,
            difference=mean_interval(differences[name], confidence, n_resamples, seed),
            p_value=p_values[index],
            adjusted_p_value=adjusted[index],
            effect_size=rank_biserial(pairs[index]),
            n=pairs[index].size,
            n_nonzero=int(np.count_nonzero(pairs[index])),
            n_comparisons=len(pairs),
            smallest_p_value=smallest_p_value_of(p_values, index, pairs[index]),
            higher_is_better=higher_is_better,
            metric=found,
        )
        for index, name in enumerate(differences)
    ]


def _metric_of(metric: str | Metric) -> Metric:
    # Imported at the call: the table of metrics is in a room above this one.
    from captum_mda.evaluate.metrics import find_metric

    own = "pass higher_is_better in its place for scores of a metric of your own"
    return find_metric("metric", metric, otherwise=own)


def _direction(metric: Metric | None, higher_is_better: bool | None) -> bool:
    """Tell whether higher is better; raise unless that is known and undisputed."""
    if isinstance(higher_is_better, str):
        raise TypeError(
            f"higher_is_better: got {higher_is_better!r}, takes True or False; a "
            f"metric's name is passed as metric={higher_is_better!r}"
        )
    if higher_is_better is not None:
        higher_is_better = require_flag("higher_is_better", higher_is_better)
    if metric is None:
        if higher_is_better is None:
            raise TypeError(
                "metric: got neither it nor higher_is_better, so which scores are "
                'better is not known; pass the metric\'s name, as in metric="deletion" '
                "(captum_mda.metrics.METRICS lists all), or for scores of a metric of "
                "your own higher_is_better=True or False"
            )
        return higher_is_better
    if higher_is_better not in (None, metric.higher_is_better):
        raise ValueError(
            f"higher_is_better: got {higher_is_better}, but {metric.direction} is "
            f"better in {metric.name!r}; leave it out"
        )
    return metric.higher_is_better


def _chosen_reference(
    values: Mapping[str, NDArray[np.float64]],
    higher_is_better: bool,
    reference: str | None,
) -> str:
    """Name the reference: the given one, or the first of those with the best mean."""
    if reference is None:
        pick = max if higher_is_better else min
        return pick(values, key=lambda name: float(np.nanmean(values[name])))
    if not isinstance(reference, str) or reference not in values:
        raise ValueError(
            f"reference: got {reference!r}, takes one of {', '.join(map(repr, values))}"
        )
    return reference


def _present_pairs(
    name: str, reference: str, differences: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Leave out the pairs with a NaN; raise if none is left."""
    present = differences[~np.isnan(differences)]
    if not present.size:
        raise ValueError(f"scores: {name!r} and {reference!r} share no example")
    return present


def _negated(interval: MeanInterval) -> MeanInterval:
    return replace(
        interval, mean=-interval.mean, low=-interval.high, high=-interval.low
    )


def percent(confidence: float) -> str:
    """Write a confidence such as ``95 %``."""
    return f"{100 * confidence:g} %"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
