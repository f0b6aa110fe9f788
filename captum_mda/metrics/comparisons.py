"""Whether methods differ on the same examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captum_mda._checks import require_flag
from captum_mda.metrics.exact_means import example_values, Values
from captum_mda.metrics.intervals import (
    mean_interval,
    MeanInterval,
    require_settings,
)
from captum_mda.metrics.signed_ranks import (
    holm,
    rank_biserial,
    signed_rank_p_value,
    smallest_p_value_of,
)


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
    require_settings(confidence, n_resamples, seed)
    higher_is_better = require_flag("higher_is_better", higher_is_better)
    values = _paired_values(scores)
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
