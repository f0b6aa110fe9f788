"""The tables of quality.py, made of its rows: means, and paired differences.

Everything follows from the JSON, so that the page can be checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks.quality_figure import Point
from benchmarks.scoring import (
    AnyMetric,
    markdown,
    MASKED,
    OBJECTS,
    OwnMetric,
    PHOTOS,
    SAMPLES,
    short,
    shown_for,
)
from captum_mda.evaluate import METRICS
from captum_mda.evaluate.tables import Cell, Column
from captum_mda.statistics import mean_interval

REFERENCE = "mda"
"""The explainer that all others are compared with."""

SEARCHED = {
    name: METRICS[name]
    for name in (
        "insertion",
        "deletion",
        "insertion_deletion",
        "mas_insertion_deletion",
    )
}
COLUMNS: Mapping[str, Mapping[str, AnyMetric]] = {
    "searched": SEARCHED,
    "other": {
        "gaussian": OwnMetric("Gaussian blur", True),
        "mean_colour": OwnMetric("Mean colour", True),
        "noise": OwnMetric("Noise", True),
        "other_class": OwnMetric("Other class", False),
        **{name: METRICS[name] for name in ("monotonicity", *MASKED, *OBJECTS)},
    },
}
"""By whether the search sees them."""

Row = dict[str, Any]


def values_of(rows: Sequence[Row], kind: str, metric: str) -> dict[str, dict[str, Any]]:
    """Gather a metric: of each explainer by image, without what has no score."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["data"] == kind:
            of = found.setdefault(row["name"], {})
            if row.get(metric) is not None:
                of[row["example"]] = row[metric]
    return found


def means(rows: Sequence[Row], kind: str, group: str) -> str:
    """Write the mean of every explainer by every metric of a group, the best bold."""
    forwards = values_of(rows, kind, "forwards")
    if not forwards:
        return "Not measured yet."
    columns = [Column(name="explainer"), Column(name="forwards", format=",.0f")]
    cells: dict[str, dict[str, Any]] = {
        name: {"explainer": name, "forwards": fmean(of.values())}
        for name, of in forwards.items()
    }
    for metric, shown in shown_for(kind, COLUMNS[group]).items():
        columns.append(
            Column(name=metric, heading=shown.head, format=".3f", missing="n/a")
        )
        found = {
            name: fmean(of.values())
            for name, of in values_of(rows, kind, metric).items()
            if of
        }
        pick = max if shown.higher_is_better else min
        best = pick(found.values(), default=0.0)
        for name, value in found.items():
            same = f"{value:.3f}" == f"{best:.3f}"
            cells[name][metric] = Cell(value, bold=same)
    return markdown(columns, cells.values())


def differences(rows: Sequence[Row], kind: str, group: str) -> str:
    """Write what each explainer scores more than the reference on the same images."""
    columns = [Column(name="name", heading=f"less {REFERENCE}")]
    cells: dict[str, dict[str, Any]] = {}
    for metric, shown in shown_for(kind, COLUMNS[group]).items():
        columns.append(
            Column(name=metric, heading=shown.head, format="+.3f", missing="n/a")
        )
        found = values_of(rows, kind, metric)
        reference = found.pop(REFERENCE, {})
        for name, of in found.items():
            row = cells.setdefault(name, {"name": name})
            row[metric] = interval(pairs_of(of, reference))
    return markdown(columns, cells.values()) if cells else "Not measured yet."


def pairs_of(of: Mapping[str, Any], reference: Mapping[str, Any]) -> list[float]:
    """Subtract scores of the same images."""
    # Scores are kept with five decimals: ties shall stay ties.
    return [round(of[each] - reference[each], 5) for each in of if each in reference]


def interval(pairs: Sequence[float]) -> Cell | str | None:
    """Make a cell of a mean difference, bold where its interval leaves 0 out."""
    if not pairs:
        return None
    if not any(pairs):
        return "0"
    found = mean_interval(pairs)
    return Cell(found, bold=found.low > 0 or found.high < 0)


def tables_of(rows: Sequence[Row]) -> dict[str, str]:
    """Make the tables of the page."""
    parts = {}
    for kind in (SAMPLES, PHOTOS):
        parts[f"{kind}.number"] = number_of(rows, kind)
        for group in COLUMNS:
            parts[f"{kind}.{group}"] = means(rows, kind, group)
            parts[f"{kind}.{group}-differences"] = differences(rows, kind, group)
    return parts


def figures(rows: Sequence[Row]) -> dict[str, str | Callable[[], str]]:
    """Make what the pages say of the rows: tables, forwards and gains on `REFERENCE`.

    ``photos.mda-joint.gaussian`` is a gain, with ``.low`` and ``.high`` behind it the
    ends of its interval. ``photos.mda-fast-refined.more-forwards`` and ``.gain`` are
    what local moves add to a search, ``.gain4`` with four digits.
    """
    found: dict[str, str | Callable[[], str]] = {**tables_of(rows)}
    for kind in (SAMPLES, PHOTOS):
        forwards = values_of(rows, kind, "forwards")
        for name, of in forwards.items():
            found[f"{kind}.{_key(name)}.forwards"] = f"{fmean(of.values()):,.0f}"
        for metric in shown_for(kind, {**SEARCHED, **COLUMNS["other"]}):
            values = values_of(rows, kind, metric)
            for name, of in values.items():
                pairs = pairs_of(of, values[REFERENCE])
                for end in ("mean", "low", "high"):
                    key = f"{kind}.{_key(name)}.{metric}.{end}".removesuffix(".mean")
                    found[key] = partial(_gain, pairs, end)
        found |= _refined(rows, kind)
    return found


def _key(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _gain(pairs: Sequence[float], end: str) -> str:
    return short(getattr(mean_interval(pairs), end))


def _refined(rows: Sequence[Row], kind: str) -> dict[str, str]:
    """Compare searches with and without local moves."""
    found = {}
    scores, forwards = (
        values_of(rows, kind, each) for each in ("insertion_deletion", "forwards")
    )
    for search in ("mda fast", "mda joint"):
        name = f"{search} refined"
        if name in scores:
            key = f"{kind}.{_key(name)}"
            more = fmean(pairs_of(forwards[name], forwards[search]))
            gain = fmean(pairs_of(scores[name], scores[search]))
            found[f"{key}.more-forwards"] = f"{more:,.0f}"
            found[f"{key}.gain"] = short(gain)
            found[f"{key}.gain4"] = short(gain, 4)
    return found


def number_of(rows: Sequence[Row], kind: str) -> str:
    """Say of how many images the means are."""
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
