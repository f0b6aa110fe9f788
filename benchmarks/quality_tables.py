"""The tables of quality.py, made of its rows: means, and paired differences.

Everything follows from the JSON, so that the page can be checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.quality_figure import Point
from benchmarks.scoring import (
    Column,
    markdown,
    MASKED_COLUMNS,
    OBJECT_COLUMNS,
    PHOTOS,
    SAMPLES,
)
from captum_mda.metrics.statistics import mean_interval

REFERENCE = "mda"
"""The explainer that all others are compared with."""

SEARCHED = {
    "insertion": Column("Ins", True),
    "deletion": Column("Del", False),
    "insertion_deletion": Column("Ins-Del", True),
    "mas_insertion_deletion": Column("MAS Ins-Del", True),
}
COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "searched": SEARCHED,
    "other": {
        "gaussian": Column("Gaussian blur", True),
        "mean_colour": Column("Mean colour", True),
        "noise": Column("Noise", True),
        "other_class": Column("Other class", False),
        "monotonicity": Column("Monotonicity", True),
        **MASKED_COLUMNS,
        **OBJECT_COLUMNS,
    },
}
"""By whether the search sees them."""

Row = dict[str, Any]


def values_of(rows: Sequence[Row], kind: str, metric: str) -> dict[str, dict[str, Any]]:
    """Gather a metric: of each explainer by picture, without what has no score."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["data"] == kind:
            of = found.setdefault(row["name"], {})
            if row.get(metric) is not None:
                of[row["example"]] = row[metric]
    return found


def columns_of(kind: str, group: str) -> dict[str, Column]:
    return {name: c for name, c in COLUMNS[group].items() if kind in c.sets}


def means(rows: Sequence[Row], kind: str, group: str) -> str:
    """Write the mean of every explainer by every metric of a group, the best bold."""
    columns = columns_of(kind, group)
    forwards = values_of(rows, kind, "forwards")
    if not forwards:
        return "Not measured yet."
    cells = {
        name: [name, f"{fmean(of.values()):,.0f}"] for name, of in forwards.items()
    }
    for metric, column in columns.items():
        found = {
            name: f"{fmean(of.values()):.3f}" if of else "n/a"
            for name, of in values_of(rows, kind, metric).items()
        }
        known = [text for text in found.values() if text != "n/a"]
        pick = max if column.higher_is_better else min
        best = pick(known, key=float, default="")
        for name, text in found.items():
            cells[name].append(f"**{text}**" if text == best else text)
    heads = ["explainer", "forwards", *(column.head for column in columns.values())]
    return markdown([heads, *cells.values()])


def differences(rows: Sequence[Row], kind: str, group: str) -> str:
    """Write what each explainer scores more than the reference on the same pictures."""
    columns = columns_of(kind, group)
    cells: dict[str, list[str]] = {}
    for metric in columns:
        found = values_of(rows, kind, metric)
        reference = found.pop(REFERENCE, {})
        for name, of in found.items():
            cells.setdefault(name, [name]).append(interval(pairs_of(of, reference)))
    if not cells:
        return "Not measured yet."
    heads = [f"less {REFERENCE}", *(column.head for column in columns.values())]
    return markdown([heads, *cells.values()])


def pairs_of(of: Mapping[str, Any], reference: Mapping[str, Any]) -> list[float]:
    """Subtract scores of the same pictures."""
    # Scores are kept with five decimals: ties shall stay ties.
    return [round(of[each] - reference[each], 5) for each in of if each in reference]


def interval(pairs: Sequence[float]) -> str:
    """Write a mean difference and its interval, bold where that leaves 0 out."""
    if not pairs:
        return "n/a"
    if not any(pairs):
        return "0"
    found = mean_interval(pairs)
    mean = f"{found.mean:+.3f}"
    if found.low > 0 or found.high < 0:
        mean = f"**{mean}**"
    return f"{mean} [{found.low:+.3f}, {found.high:+.3f}]"


def parts_of(rows: Sequence[Row]) -> dict[str, str]:
    """Make everything that stands between the marks of the page."""
    parts = {}
    for kind in (SAMPLES, PHOTOS):
        parts[f"{kind} number"] = number_of(rows, kind)
        for group in COLUMNS:
            parts[f"{kind} {group}"] = means(rows, kind, group)
            parts[f"{kind} {group} differences"] = differences(rows, kind, group)
    return parts


def number_of(rows: Sequence[Row], kind: str) -> str:
    """Say of how many pictures the means are."""
    counts = {len(of) for of in values_of(rows, kind, "forwards").values()}
    if not counts:
        return f"No {kind} yet."
    if len(counts) > 1:
        return f"Means of {min(counts)} to {max(counts)} {kind}."
    return f"Means of {counts.pop()} {kind}."


_SEARCHES = ("mda", "mda fast", "mda joint", "mda relaxed")


def points_of(rows: Sequence[Row]) -> dict[str, dict[str, list[Point]]]:
    """Gather what the figure shows: by set and metric, explainers that have a score."""
    titles = {"insertion_deletion": "Ins-Del", "mas_insertion_deletion": "MAS Ins-Del"}
    figure: dict[str, dict[str, list[Point]]] = {}
    for kind in (PHOTOS, SAMPLES):
        forwards = values_of(rows, kind, "forwards")
        for metric, title in titles.items():
            found = values_of(rows, kind, metric)
            points = [
                Point(name, fmean(forwards[name].values()), fmean(of.values()))
                for name, of in found.items()
                if of
            ]
            variants = [point for point in points if point.name.startswith("mda")]
            # Eleven markers on one spot of all methods are a panel of their own.
            if points:
                figure.setdefault(kind, {})[title] = [
                    p for p in points if p not in variants or p.name in _SEARCHES
                ]
            if variants:
                # Ins-Del knows no magnitudes: their markers would be on one spot.
                figure.setdefault(f"{kind}, MDA alone", {})[title] = [
                    p
                    for p in variants
                    if metric.startswith("mas") or ", mas" not in p.name
                ]
    return figure
