"""Means and comparisons of methods as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from captum_mda._table import Column, Table
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
    rows = []
    for name, values in paired_values(scores, known.metric).items():
        mean = mean_interval(values, confidence, n_resamples, seed)
        found = comparisons.get(name)
        rows.append(
            {
                "method": name,
                "mean": str(mean),
                "difference": found and str(found.difference),
                "p": found and f"{found.adjusted_p_value:.2g}",
                "effect": found and f"{found.effect_size:.2f}",
                "n": found.n if found else mean.n,
                "verdict": found.short_verdict if found else "reference",
            }
        )
    return Table(columns=_columns(known), rows=tuple(rows)).to_markdown()


def _columns(comparison: Comparison) -> tuple[Column, ...]:
    level = f"{percent(comparison.difference.confidence)} bootstrap"
    arrow = UP if comparison.higher_is_better else DOWN
    metric = comparison.metric
    headings = {
        "method": "method",
        "mean": f"{arrow if metric is None else metric.head}, mean [{level}]",
        "difference": f"difference [{level}, not corrected]",
        "p": "Wilcoxon p, Holm-corrected",
        "effect": "effect",
        "n": "n",
        "verdict": "verdict",
    }
    return tuple(
        Column(name=name, heading=heading, align="left")
        for name, heading in headings.items()
    )
