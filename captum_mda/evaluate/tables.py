r"""Tables: written once, read as text, Markdown, CSV or LaTeX.

A `Table` holds values, not strings: numbers, intervals, words. Columns say how they
look. Text, Markdown and LaTeX show the columns; CSV holds all digits of everything that
is in the rows.

Example::

    >>> from captum_mda.evaluate.tables import Cell, Column, Table
    >>> table = Table(
    ...     columns=(
    ...         Column(name="method", align="left"),
    ...         Column(name="score", heading="Ins ↑", format=".3f", missing="n/a"),
    ...     ),
    ...     rows=(
    ...         {"method": "legrad", "score": Cell(0.80123, bold=True)},
    ...         {"method": "lime"},
    ...     ),
    ... )
    >>> print(table.to_text())
    method  Ins ↑
    -------------
    legrad  0.801
    lime      n/a
    >>> print(table.to_markdown())
    | method | Ins ↑ |
    | --- | ---: |
    | legrad | **0.801** |
    | lime | n/a |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TYPE_CHECKING

from captum_mda._table import Cell, Column, Interval, Table

if TYPE_CHECKING:
    from captum_mda.metrics.statistics import Comparison, MeanInterval

__all__ = [
    "AS_GOOD",
    "Cell",
    "Column",
    "Interval",
    "Table",
    "difference_table",
    "score_table",
]

AS_GOOD = "\N{ASTERISK OPERATOR}"
"""Marks scores that the tests do not tell from the best one."""


def score_table(
    scores: Mapping[str, Mapping[str, Any]],
    *,
    titles: Mapping[str, str] | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    format: str = "",
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Table:
    """Make a table of mean scores with their bootstrap intervals.

    A row is a method, a column a metric. The best mean of a column is bold; methods
    that Holm-corrected Wilcoxon tests do not tell from it are marked with ``AS_GOOD``.

    Args:
        scores (Mapping[str, Mapping[str, array]]): By metric and method the scores of
            the same examples, (B,); NaN is left out. A method without any score of a
            metric is missing from its column.
        titles (Mapping[str, str], optional): How methods are called in the table. None:
            by their keys. Default: None
        higher_is_better (Mapping[str, bool], optional): For metrics that are not in
            `captum_mda.metrics.METRICS`. Default: None
        format (str, optional): As a `Column`'s, such as ``".3f [.2f]"``. Default: ""
        confidence (float, optional): As in `mean_interval`. Default: 0.95
        n_resamples (int, optional): As in `mean_interval`. Default: 9999
        seed (int, optional): As in `mean_interval`. Default: 0

    Returns:
        *Table*: its rows hold `MeanInterval` records, which CSV writes with all digits.

    Example::

        >>> scores = {"deletion": {"ours": [0.2, 0.1, 0.3], "theirs": [0.3, 0.3, 0.6]}}
        >>> print(score_table(scores, format=".2f").to_text())
        method               Del ↓
        --------------------------
        ours     0.20 [0.10, 0.30]
        theirs  0.40... [0.30, 0.60]
    """
    from captum_mda.metrics.statistics import mean_interval

    methods = dict.fromkeys(name for of in scores.values() for name in of)
    rows: dict[str, dict[str, Any]] = {
        name: {"method": (titles or {}).get(name, name)} for name in methods
    }
    columns = [Column(name="method", align="left")]
    settings = (confidence, n_resamples, seed)
    for metric, of in scores.items():
        heading, higher = _metric(metric, higher_is_better)
        known = {name: values for name, values in of.items() if _has_scores(values)}
        means = {name: mean_interval(each, *settings) for name, each in known.items()}
        best, same = _best(metric, known, higher, means, settings)
        for name, mean in means.items():
            mark = AS_GOOD if name in same else ""
            rows[name][metric] = Cell(mean, bold=name == best, mark=mark)
        columns.append(
            Column(name=metric, heading=heading, format=format, missing="n/a")
        )
    return Table(columns=tuple(columns), rows=tuple(rows.values()))


def difference_table(
    scores: Mapping[str, Mapping[str, Any]],
    *,
    reference: str | None = None,
    titles: Mapping[str, str] | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Table:
    """Make a table of paired differences to a reference, with tests and verdicts.

    Args:
        scores (Mapping[str, Mapping[str, array]]): By metric and method the scores of
            the same examples, (B,).
        reference (str, optional): The method that the others are compared with. None:
            in each metric, the one with the best mean. Default: None
        titles (Mapping[str, str], optional): As in `score_table`. Default: None
        higher_is_better (Mapping[str, bool], optional): As in `score_table`. Default:
            None
        confidence (float, optional): As in `mean_interval`. Default: 0.95
        n_resamples (int, optional): As in `mean_interval`. Default: 9999
        seed (int, optional): As in `mean_interval`. Default: 0

    Returns:
        *Table*: a row for each metric and method, with what `compare` finds: the
        p-values are corrected by Holm within a metric, the intervals are not corrected,
        and verdicts follow the test.

    Raises:
        TypeError, ValueError: As `compare`.

    Example::

        >>> scores = {"deletion": {"ours": [0.2, 0.1, 0.3], "theirs": [0.3, 0.3, 0.6]}}
        >>> table = difference_table(scores, reference="ours")
        >>> theirs = table.rows[1]
        >>> print(theirs["difference"], theirs["p"])
        0.200 [0.100, 0.267] 0.25
        >>> print(theirs["verdict"])
        not distinguishable by the test; the interval leaves out 0
    """
    from captum_mda.metrics.statistics import compare, mean_interval

    settings, rows = (confidence, n_resamples, seed), []
    for metric, of in scores.items():
        heading, higher = _metric(metric, higher_is_better)
        known = {name: values for name, values in of.items() if _has_scores(values)}
        found = compare(known, higher, reference, *settings)
        comparisons = {each.method: each for each in found}
        for name, values in known.items():
            mean = mean_interval(values, *settings)
            row = {"metric": heading, "method": (titles or {}).get(name, name)}
            rows.append(row | {"mean": mean} | _compared(comparisons.get(name), mean))
    columns = (
        Column(name="metric", align="left"),
        Column(name="method", align="left"),
        Column(name="mean"),
        Column(name="difference"),
        Column(name="p", format=".2g"),
        Column(name="effect", format=".2f"),
        Column(name="n"),
        Column(name="verdict", align="left"),
    )
    percent = f"{100 * confidence:g} %"
    note = (
        f"[]: {percent} bootstrap interval of the mean, not corrected; p: Wilcoxon's "
        "signed-rank test, Holm-corrected; effect: rank-biserial correlation"
    )
    return Table(columns=columns, rows=tuple(rows), notes=(note,))


def _compared(comparison: Comparison | None, mean: MeanInterval) -> dict[str, Any]:
    """Make the cells of a method, or of the reference."""
    if comparison is None:
        return {"n": mean.n, "verdict": "reference"}
    return {
        "difference": comparison.difference,
        "p": comparison.adjusted_p_value,
        "effect": comparison.effect_size,
        "n": comparison.n,
        "verdict": comparison.short_verdict,
    }


def _metric(name: str, higher_is_better: Mapping[str, bool] | None) -> tuple[str, bool]:
    """Look up a metric's heading with its arrow, and whether higher is better."""
    from captum_mda.metrics import METRICS

    if name in METRICS:
        return METRICS[name].head, METRICS[name].higher_is_better
    if name not in (higher_is_better or {}):
        raise ValueError(
            f"scores: {name!r} is no metric of captum_mda.metrics.METRICS; pass "
            f"higher_is_better={{{name!r}: True}} or False"
        )
    higher = (higher_is_better or {})[name]
    return f"{name} {'↑' if higher else '↓'}", higher


def _has_scores(values: Any) -> bool:
    return any(float(value) == float(value) for value in values)


def _best(
    metric: str,
    known: Mapping[str, Any],
    higher: bool,
    means: Mapping[str, MeanInterval],
    settings: tuple[float, int, int],
) -> tuple[str | None, set[str]]:
    """Name the method with the best mean, and those that cannot be told from it."""
    from captum_mda.metrics.statistics import compare

    if len(known) < 2:
        return next(iter(known), None), set()
    found = compare(known, higher, None, *settings)
    same = {each.method for each in found if not each.distinguishable}
    return found[0].reference, same
