"""Means and comparisons of methods as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from captum_mda.statistics._scores import paired_values, Scores
from captum_mda.statistics.comparison import compare, Comparison, percent
from captum_mda.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from captum_mda.evaluate.metrics import Metric

UP, DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"


def comparison_table(
    scores: Mapping[str, Scores],
    higher_is_better: bool | None = None,
    reference: str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
    *,
    metric: str | Metric | None = None,
) -> str:
    """Write the means of all methods and their comparisons as a Markdown table.

    Args:
        scores (Mapping[str, Tensor, array, sequence or result]): As all arguments, see
            `compare`.
        higher_is_better (bool, optional): Default: None
        reference (str, optional): Default: None
        confidence (float, optional): Default: 0.95
        n_resamples (int, optional): Default: 9999
        seed (int, optional): Default: 0
        metric (str or Metric, optional): Default: None

    Returns:
        *str*: A row for each method, in order: its mean, the difference to the
        reference, both with bootstrap intervals that are not corrected, Wilcoxon's
        p-value after Holm's correction, the effect size, the number of pairs and the
        outcome in a word, which follows the test; where the interval points elsewhere,
        that is said. An arrow shows which means are better.

    Raises:
        TypeError, ValueError: As `compare`.

    Example::

        >>> from captum_mda.metrics.statistics import comparison_table
        >>> scores = {"ours": [0.5, 0.7, 0.9], "theirs": [0.4, 0.8, 0.6]}
        >>> print(comparison_table(scores, metric="insertion"))
        | method | Ins ↑, mean [95 % bootstrap] | difference [95 % bootstrap, not
        corrected] | Wilcoxon p, Holm-corrected | effect | n | verdict |
        | --- | --- | --- | --- | --- | --- | --- |
        | ours | 0.700 [0.567, 0.900] |  |  |  | 3 | reference |
        | theirs | 0.600 [0.467, 0.800] | -0.100 [-0.300, 0.100] | 0.75 | -0.33 | 3 |
        not distinguishable |
    """
    comparisons = {
        comparison.method: comparison
        for comparison in compare(
            scores,
            higher_is_better,
            reference,
            confidence,
            n_resamples,
            seed,
            metric=metric,
        )
    }
    known = next(iter(comparisons.values()))
    rows = [_header(known), ["---"] * 7]
    for name, values in paired_values(scores, known.metric).items():
        mean = mean_interval(values, confidence, n_resamples, seed)
        cells = ["", "", "", str(mean.n), "reference"]
        if name in comparisons:
            cells = _cells(comparisons[name])
        rows.append([name.replace("|", r"\|"), str(mean), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _header(comparison: Comparison) -> list[str]:
    level = f"{percent(comparison.difference.confidence)} bootstrap"
    arrow = UP if comparison.higher_is_better else DOWN
    metric = comparison.metric
    return [
        "method",
        f"{arrow if metric is None else metric.head}, mean [{level}]",
        f"difference [{level}, not corrected]",
        "Wilcoxon p, Holm-corrected",
        "effect",
        "n",
        "verdict",
    ]


def _cells(comparison: Comparison) -> list[str]:
    outcome: str = comparison.outcome
    if not comparison.interval_agrees and outcome != "mixed":
        leaves = "includes" if comparison.distinguishable else "leaves out"
        outcome = f"{outcome} by the test; the interval {leaves} 0"
    return [
        str(comparison.difference),
        f"{comparison.adjusted_p_value:.2g}",
        f"{comparison.effect_size:.2f}",
        str(comparison.n),
        outcome,
    ]
