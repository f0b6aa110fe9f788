"""How sure a mean score is, and whether methods differ on the same examples.

Intervals and tests are over examples: they tell what another sample of examples could
have given. A NaN score, as of a degenerate example, is left out and counted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captum_mda.metrics.accumulators import example_values, Values
from captum_mda.perturbation.inputs import (
    require_in_unit_interval,
    require_positive_integer,
)


@dataclass(frozen=True)
class MeanInterval:
    """A mean over examples and its bootstrap confidence interval, see `mean_interval`.

    Args:
        mean (float): The mean of the scores that are there.
        low (float): Lower end; ``-inf`` where there is one score.
        high (float): Upper end; ``inf`` where there is one score.
        n (int): How many scores the mean is of.
        n_missing (int): How many were NaN and left out.
        confidence (float): The nominal coverage, such as 0.95.
        method (str): "BCa"; "percentile" where BCa is undefined; "exact" where all
            scores are equal, so that every resample gives the same mean; "none" for one
            score.
    """

    mean: float
    low: float
    high: float
    n: int
    n_missing: int
    confidence: float
    method: Literal["BCa", "percentile", "exact", "none"]

    def __str__(self) -> str:
        """Write ``0.812 [0.790, 0.834]``, with more decimals for a narrow interval."""
        width = self.high - self.low
        finite = 0 < width < math.inf
        decimals = min(max(3, 1 - math.floor(math.log10(width))), 15) if finite else 3
        # Adding 0 turns a rounded -0.0 into 0.0.
        mean, low, high = (
            f"{round(value, decimals) + 0.0:.{decimals}f}"
            for value in (self.mean, self.low, self.high)
        )
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Comparison:
    """A method against the reference, paired over examples, see `compare`.

    Args:
        method (str): The method's name.
        reference (str): The name of what it is compared with.
        difference (MeanInterval): Of method minus reference, over the pairs.
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
    def verdict(self) -> str:
        """The verdict in a sentence, with the adjusted p-value and an unsigned "by"."""
        outcome, p_value = self.outcome, f"p = {self.adjusted_p_value:.2g}"
        record = f"(n = {self.n}, {p_value}, effect {self.effect_size:.2f})"
        if outcome == "mixed":
            return (
                f"{self.method} differs from {self.reference}, but ranks and mean "
                f"point apart: difference {self.difference} {record}"
            )
        if outcome == "not distinguishable":
            return (
                f"{self.method} is not distinguishable from {self.reference} at n = "
                f"{self.n}: difference {self.difference}, {p_value}{self._hopelessness}"
            )
        upwards = self.difference.mean > 0
        margin = self.difference if upwards else _negated(self.difference)
        return f"{self.method} is {outcome} than {self.reference} by {margin} {record}"

    @property
    def _hopelessness(self) -> str:
        """Say where even a perfect record would not have been significant."""
        if self.smallest_p_value < 1 - self.difference.confidence:
            return ""
        examples = _counted(self.n, "example")
        if self.n_nonzero < self.n:
            examples += f" of which {self.n_nonzero} differ"
        return (
            f"; no result could be, with {_counted(self.n_comparisons, 'comparison')} "
            f"of {examples}"
        )


def mean_interval(
    values: Values, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> MeanInterval:
    """Compute a mean over examples and its BCa bootstrap confidence interval.

    No global random number generator is used. The time grows with the number of
    examples times the larger of that number and ``n_resamples``.

    Args:
        values (Tensor, array or sequence): The scores of the examples, (B,); NaN is
            left out and counted.
        confidence (float, optional): Nominal coverage, between 0 and 1. Default: 0.95
        n_resamples (int, optional): Bootstrap resamples. Default: 9999
        seed (int, optional): Of the resamples, at least 0. Default: 0

    Returns:
        *MeanInterval*: Ends are never NaN. One example says nothing about the spread:
        its interval is from ``-inf`` to ``inf``.

    Raises:
        TypeError: An argument of the wrong type, or complex values.
        ValueError: ``values`` is not of shape (B,), holds an infinity or nothing but
            NaN, or another argument is out of range.

    Reference:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14.

    Example::

        >>> from captum_mda.metrics.statistics import mean_interval
        >>> print(mean_interval([0.5, 0.75, float("nan"), 0.75, 1.0]))
        0.750 [0.562, 0.938]
    """
    _require_settings(confidence, n_resamples, seed)
    everything = example_values("values", values)
    present = everything[~np.isnan(everything)]
    n, n_missing = present.size, everything.size - present.size
    if n == 0:
        raise ValueError(f"values: all {n_missing} scores are NaN or there are none")
    if n == 1:
        alone = float(present[0])
        return MeanInterval(
            alone, -math.inf, math.inf, 1, n_missing, confidence, "none"
        )
    if (present == present[0]).all():
        same = float(present[0])
        return MeanInterval(same, same, same, n, n_missing, confidence, "exact")
    if not math.isfinite(float(np.abs(present).max()) * n):
        raise ValueError("values: their sum exceeds float64; scale them down")
    low, high, method = _bootstrap(present, confidence, n_resamples, seed)
    mean = float(np.mean(present))
    return MeanInterval(mean, low, high, n, n_missing, confidence, method)


def compare(
    scores: Mapping[str, Values],
    higher_is_better: bool = True,
    reference: str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every method with a reference, paired over the same examples.

    The Wilcoxon test is exact for up to 50 differing pairs, or up to 13 where absolute
    differences are tied, and its normal approximation beyond. With ties among 11 to 13
    pairs SciPy takes up to seconds for each method. A reference that is chosen for its
    mean is chosen with the data at hand, which flatters it.

    Args:
        scores (Mapping[str, Tensor, array or sequence]): For each of at least two
            methods the scores of the same examples in the same order, (B,); a pair with
            a NaN is left out and counted.
        higher_is_better (bool, optional): Default: True
        reference (str, optional): The method that all others are compared with. None:
            the one with the best mean, the first of those. Default: None
        confidence (float, optional): Of the intervals; one minus it is the level of the
            tests after correction. Default: 0.95
        n_resamples (int, optional): As in `mean_interval`. Default: 9999
        seed (int, optional): As in `mean_interval`. Default: 0

    Returns:
        *list[Comparison]*: One for each method but the reference, in order.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: There are fewer than two methods, their lengths differ, a pair of
            methods shares no example, or as `mean_interval`.

    Reference:
        Wilcoxon, Individual Comparisons by Ranking Methods, 1945; Holm, A Simple
        Sequentially Rejective Multiple Test Procedure, 1979; Kerby, The Simple
        Difference Formula, 2014 (rank-biserial correlation).

    Example::

        >>> from captum_mda.metrics.statistics import compare
        >>> ours, theirs = [0.5, 0.7, 0.9, 0.8], [0.4, 0.5, 0.6, 0.4]
        >>> print(compare({"ours": ours, "theirs": theirs})[0].verdict)
        theirs is not distinguishable from ours at n = 4: difference -0.250
        [-0.350, -0.150], p = 0.12; no result could be, with 1 comparison of 4 examples
    """
    _require_settings(confidence, n_resamples, seed)
    values = _paired_values(scores)
    chosen = _chosen_reference(values, higher_is_better, reference)
    differences = {
        name: array - values[chosen] for name, array in values.items() if name != chosen
    }
    pairs = [_present_pairs(name, chosen, each) for name, each in differences.items()]
    p_values = [_signed_rank_p_value(each) for each in pairs]
    adjusted = holm(p_values)
    return [
        Comparison(
            method=name,
            reference=chosen,
            difference=mean_interval(differences[name], confidence, n_resamples, seed),
            p_value=p_values[index],
            adjusted_p_value=adjusted[index],
            effect_size=_rank_biserial(pairs[index]),
            n=pairs[index].size,
            n_nonzero=int(np.count_nonzero(pairs[index])),
            n_comparisons=len(pairs),
            smallest_p_value=_smallest_p_value(p_values, index, pairs[index]),
            higher_is_better=higher_is_better,
        )
        for index, name in enumerate(differences)
    ]


def comparison_table(
    scores: Mapping[str, Values],
    higher_is_better: bool = True,
    reference: str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> str:
    """Write the means of all methods and their comparisons as a Markdown table.

    Args:
        scores (Mapping[str, Tensor, array or sequence]): As all arguments, see
            `compare`.
        higher_is_better (bool, optional): Default: True
        reference (str, optional): Default: None
        confidence (float, optional): Default: 0.95
        n_resamples (int, optional): Default: 9999
        seed (int, optional): Default: 0

    Returns:
        *str*: A row for each method, in order: its mean, the difference to the
        reference, both with their intervals, the p-value after Holm's correction, the
        effect size, the number of pairs and the outcome in a word.

    Raises:
        TypeError, ValueError: As `compare`.

    Example::

        >>> from captum_mda.metrics.statistics import comparison_table
        >>> scores = {"ours": [0.5, 0.7, 0.9], "theirs": [0.4, 0.5, 0.6]}
        >>> print(comparison_table(scores))
        | method | mean [95%] | difference [95%] | Holm p | effect | n | verdict |
        | --- | --- | --- | --- | --- | --- | --- |
        | ours | 0.700 [0.567, 0.900] |  |  |  | 3 | reference |
        | theirs | 0.500 [0.400, 0.600] | -0.200 [-0.300, -0.100] | 0.25 | -1.00 | 3 |
        not distinguishable |
    """
    comparisons = {
        comparison.method: comparison
        for comparison in compare(
            scores, higher_is_better, reference, confidence, n_resamples, seed
        )
    }
    level = f"[{100 * confidence:g}%]"
    header = f"method|mean {level}|difference {level}|Holm p|effect|n|verdict".split(
        "|"
    )
    rows = [header, ["---"] * len(header)]
    for name, values in scores.items():
        mean = mean_interval(values, confidence, n_resamples, seed)
        cells = ["", "", "", str(mean.n), "reference"]
        if name in comparisons:
            found = comparisons[name]
            cells = [
                str(found.difference),
                f"{found.adjusted_p_value:.2g}",
                f"{found.effect_size:.2f}",
                str(found.n),
                found.outcome,
            ]
        rows.append([name.replace("|", r"\|"), str(mean), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method.

    Args:
        p_values (Sequence[float]): In [0, 1], of any number of tests.

    Returns:
        *list[float]*: In the same order, in [0, 1], never below the p-value.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(
        sorted(range(len(p_values)), key=p_values.__getitem__)
    ):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _require_settings(confidence: float, n_resamples: int, seed: int) -> None:
    """Raise unless these are a probability between 0 and 1, and fit for a bootstrap."""
    require_in_unit_interval("confidence", confidence)
    if confidence in (0, 1):
        raise ValueError(f"confidence: got {confidence!r}, takes less than 1, above 0")
    require_positive_integer("n_resamples", n_resamples)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: got {seed!r}, takes an integer of at least 0")
    if seed < 0:
        raise ValueError(f"seed: got {seed!r}, takes an integer of at least 0")


def _paired_values(scores: Mapping[str, Values]) -> dict[str, NDArray[np.float64]]:
    """Read the scores of at least two methods on the same number of examples."""
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"scores: got {type(scores).__name__}, takes a mapping from each method's "
            "name to its scores"
        )
    if len(scores) < 2:
        raise ValueError(f"scores: got {len(scores)} methods, takes at least two")
    values = {
        name: example_values(f"scores[{name!r}]", given)
        for name, given in scores.items()
    }
    lengths = {name: array.size for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"scores: got {lengths} examples, takes the same examples for each method"
        )
    for name, array in values.items():
        if np.isnan(array).all():
            raise ValueError(f"scores[{name!r}]: got no score that is not NaN")
    return values


def _chosen_reference(
    values: Mapping[str, NDArray[np.float64]],
    higher_is_better: bool,
    reference: str | None,
) -> str:
    """Name the reference: the given one, or the first of those with the best mean."""
    if reference is None:
        pick = max if higher_is_better else min
        return pick(values, key=lambda name: float(np.nanmean(values[name])))
    if reference not in values:
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


def _bootstrap(
    values: NDArray[np.float64], confidence: float, n_resamples: int, seed: int
) -> tuple[float, float, Literal["BCa", "percentile"]]:
    """Bootstrap the mean: by BCa, or by percentiles where that is undefined."""
    # Importing it takes longer than the rest of this package's metrics together.
    from scipy import stats

    methods: tuple[Literal["BCa", "percentile"], ...] = ("BCa", "percentile")
    for method in methods:
        with warnings.catch_warnings():
            # SciPy warns where BCa is undefined, which the field ``method`` tells.
            warnings.simplefilter("ignore", RuntimeWarning)
            interval = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=n_resamples,
                batch=max(1, 2**22 // values.size),  # bounds the memory
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high), method


def _signed_rank_p_value(differences: NDArray[np.float64]) -> float:
    """Test paired differences by Wilcoxon's signed ranks, without those that are 0."""
    from scipy import stats

    nonzero = differences[differences != 0]
    # Dropped here, zeros do not turn SciPy from the exact test to the approximation.
    return float(stats.wilcoxon(nonzero).pvalue) if nonzero.size else 1.0


def _smallest_p_value(
    p_values: Sequence[float], index: int, differences: NDArray[np.float64]
) -> float:
    """Adjust the p-value that these differences would have with one sign for all."""
    n_nonzero = int(np.count_nonzero(differences))
    perfect = min(1.0, 2 / 2**n_nonzero)
    if (
        n_nonzero > 13
    ):  # Above, ties make the test an approximation, with another limit.
        perfect = _signed_rank_p_value(np.abs(differences))
    return holm([*p_values[:index], perfect, *p_values[index + 1 :]])[index]


def _rank_biserial(differences: NDArray[np.float64]) -> float:
    """Share of the ranks of positive differences minus that of negative ones."""
    from scipy import stats

    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 0.0
    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def _negated(interval: MeanInterval) -> MeanInterval:
    return replace(
        interval, mean=-interval.mean, low=-interval.high, high=-interval.low
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
