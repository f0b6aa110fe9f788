"""The table and the figure of speed.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

from benchmarks.scoring import markdown, short
from captum_mda._files import replacing
from captum_mda.evaluate.tables import Column

Row = dict[str, Any]
SEARCHES = {
    "paper": "published search",
    "fast": "fast search",
    "relaxed": "relaxed search",
    "joint": "joint search",
}


COLUMNS = (
    Column(name="task", format=lambda task: _title(task)),
    Column(name="features", heading="N"),
    Column(name="resolution", heading="pixels"),
    Column(name="images"),
    Column(name="forwards", format=",.0f"),
    Column(name="forward_equivalents", heading="equivalents", format=",.0f"),
    Column(name="overhead", format=".2f"),
    Column(name="peak_mb", heading="peak MB", format=",.0f"),
)


def _title(task: str) -> str:
    return f"MDA, {SEARCHES[task]}" if task in SEARCHES else task


def table(rows: Sequence[Row]) -> str:
    """Write a row for each task: what it costs for an image."""
    return markdown(COLUMNS, sorted(rows, key=_place))


def figures(rows: Sequence[Row]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    overheads = [row["overhead"] for row in rows if row["task"] in SEARCHES]
    found = {
        "table": table(rows),
        "least-overhead": f"{min(overheads):.2f}",
        "most-overhead": f"{max(overheads):.2f}",
    }
    exact, few = (_row(rows, task, 49) for task in ("paper", "fast"))
    for score in ("insertion_deletion", "mas_insertion_deletion"):
        found[f"few-patches.{score}-loss"] = short(exact[score] - few[score])
    found["few-patches.exact-forwards"] = f"{exact['forwards']:.0f}"
    found["few-patches.fast-forwards"] = f"{few['forwards']:.0f}"
    found["metrics-forwards"] = f"{_row(rows, 'metrics', None)['forwards']:.0f}"
    return found


def _row(rows: Sequence[Row], task: str, n_features: int | None) -> Row:
    found = ((row["task"], row["features"]) for row in rows)
    return rows[list(found).index((task, n_features))]


def _place(row: Row) -> tuple[Any, ...]:
    """Sort searches by name and size, and put all else behind them, as measured."""
    names = list(SEARCHES)
    if row["task"] not in names:
        return (len(names), 0, 0, 0)
    return (
        names.index(row["task"]),
        row["features"],
        row["resolution"],
        row["images"],
    )


def growth(rows: Sequence[Row], task: str) -> list[tuple[int, float]]:
    """Tell the mean forwards of a search by the number of features.

    Of rows with as many features, those count that are of the fewest images: others
    are of other images, too.
    """
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if row["task"] == task:
            groups.setdefault(row["features"], []).append(row)
    found = []
    for n, alike in sorted(groups.items()):
        fewest = min(row["images"] for row in alike)
        found.append(
            (n, mean(row["forwards"] for row in alike if row["images"] == fewest))
        )
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw forwards against the number of features, for each search."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for task, title in SEARCHES.items():
        points = growth(rows, task)
        if points:
            axis.loglog(*zip(*points, strict=True), "o-", label=title)
            for n, forwards in points:
                axis.annotate(
                    f"{forwards:,.0f}",
                    (n, forwards),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
    sizes = sorted({row["features"] for row in rows if row["features"]})
    known = dict(growth(rows, "fast"))
    if 196 in known:
        bound = [known[196] * (n / 196) ** 1.1 for n in sizes]
        axis.loglog(sizes, bound, ":", color="0.5", label="N to the power of 1.1")
    axis.set(xlabel="number of patches N", ylabel="forwards per image", xticks=sizes)
    axis.set_xticklabels([f"{n}" for n in sizes])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.margins(0.12, 0.16)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    plt.close(figure)
