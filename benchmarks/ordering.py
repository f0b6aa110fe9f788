"""What the fast and the joint search cost, and what they gain on the exact search.

Runs them with several settings on the eight photos of the reference data with
DeiT-Tiny, on the exact patch grid, and scores their maps as mda_quality.py scores those
of the exact search, whose figures are read from mda_quality.json.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.ordering

prints a table, writes ordering.json beside itself and draws docs/images/ordering.png.
Settings that are in the JSON already are not run again. With ``--samples 60`` it
compares the searches on as many samples of the packaged model instead, all in one
batch, for which no data is needed.
"""

from __future__ import annotations

import argparse
import os
from itertools import starmap
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.mda_quality import Reference
from benchmarks.quality_figure import draw, Point
from benchmarks.results import DOCS, path_of, read, read_rows, write
from benchmarks.scoring import markdown, MODEL, PHOTO_NAMES, short
from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    demo,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.evaluate.tables import Column
from captum_mda.ordering import (
    FastOrdering,
    JointOrdering,
    Ordering,
    PaperOrdering,
    RefinedOrdering,
    RelaxedOrdering,
)
from captum_mda.perturbation.precision import Precision, PRECISIONS
from captum_mda.statistics import mean_interval

SCORES = ("insertion_deletion", "mas_insertion_deletion")
EXACT_FORWARDS = 5307
PARTITION = "exact"
MEASURED = {"model": MODEL, "partition": PARTITION}
SETTINGS: dict[str, Ordering] = {
    "default": FastOrdering(),
    "joint": JointOrdering(),
    "joint, budget 6": JointOrdering(
        forwards_per_feature=6.0, searches=[FastOrdering(forwards_per_feature=6.0)]
    ),
    "relaxed": RelaxedOrdering(),
    "relaxed, 15 steps": RelaxedOrdering(steps=15),
    "refined": RefinedOrdering(FastOrdering(), passes=4),
    "budget 2.5": FastOrdering(forwards_per_feature=2.5),
    "insertion alone in front": FastOrdering(deletion_checks=1),
    "no farther than tau": FastOrdering(patience=0),
    "never quiet": FastOrdering(quiet_level=0.0),
    "quiet below 0.05": FastOrdering(quiet_level=0.05),
    "no ageing": FastOrdering(oldest_share=0.0),
}
"""By name: the searches, and what the parts of the fast one are worth."""
NAMED = {"default": "fast", "relaxed": "relaxed", "joint": "joint"}
"""The settings that `MetricDrivenAttribution` knows by name, and these names."""


def measured(reference: Reference, photo: str, ordering: Ordering) -> list[float]:
    """Explain a photo; tell the forwards and the scores."""
    mda = MetricDrivenAttribution(reference.model, ordering=ordering)
    found = mda.explain(**reference.question(photo, PARTITION))
    scores = reference.scores(photo, found.attributions())
    return [found.n_forwards, *(float(getattr(scores, name)) for name in SCORES)]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    parser.add_argument("--photos", nargs="*", help="some of them; all if not given")
    parser.add_argument("--samples", type=int, help="of the packaged model")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of the samples' search"
    )
    options = parser.parse_args()
    if options.samples:
        compare_samples(options.samples, options.precision)
        return
    reference = Reference(Path(os.environ["CAPTUM_MDA_DATA"]))
    exact = {
        row["photo"]: row
        for row in read("mda_quality").rows
        if row["partition"] == PARTITION
    }
    rows = read_rows(options.out, MEASURED, list)
    done = {(row["setting"], row["photo"]) for row in rows}
    for setting in options.settings:
        for photo in tqdm(options.photos or exact, desc=setting):
            if (setting, photo) in done:
                continue
            forwards, *scores = measured(reference, photo, SETTINGS[setting])
            row = {"setting": setting, "photo": photo, "forwards": forwards}
            for name, score in zip(SCORES, scores, strict=True):
                row[name] = round(score, 5)
                row[f"{name}_gain"] = round(score - exact[photo][name], 5)
            rows.append(row)
            write(options.out, rows, MEASURED, adds=True)
    print(settings_table(rows))
    if options.out != path_of(__file__):  # the page is about what is kept with it
        return
    draw({"photos": points_of(rows)}, DOCS / "images" / "ordering.png")


def compare_samples(n: int, precision: Precision) -> None:
    """Run the searches on samples of the packaged model, and print what differs."""
    images, labels, _ = demo.make_samples(n=n, seed=77)
    model, baseline = demo.load_model(), blur_baseline(images, 31)
    seed = BidirectionalAttention(model).attribute(
        images, target=labels, interpolate_mode=None
    )
    found: dict[str, Tensor] = {}
    searches: dict[str, tuple[Ordering, Tensor | None]] = {
        "paper": (PaperOrdering(), seed.reshape(n, -1)),
        "fast": (FastOrdering(), seed.reshape(n, -1)),
        "joint": (JointOrdering(), seed.reshape(n, -1)),
    }
    for name, (ordering, by) in searches.items():
        mda = MetricDrivenAttribution(
            model, ordering=ordering, on_degenerate="zero", precision=precision
        )
        explanation = mda.explain(
            images,
            target=labels,
            feature_mask=patch_feature_mask(images, demo.PATCH_SIZE),
            insertion_baselines=baseline,
            seed_attributions=by,
        )
        scores = metrics.perturbation_scores(
            model,
            images,
            explanation.attributions(),
            insertion_baselines=baseline,
            target=labels,
            on_degenerate="nan",
        )
        found[name] = torch.stack([getattr(scores, each) for each in SCORES])
        in_bf16 = int(explanation.forwards_bf16.sum())
        print(
            f"{name}: {explanation.n_forwards / n:,.0f} forwards an image, "
            f"{in_bf16 / n:,.0f} of them in bfloat16"
        )
        for score, values, paper in zip(
            SCORES, found[name], found["paper"], strict=True
        ):
            print(f"  {score}: {mean_interval(values)}")
            if name != "paper":
                print(f"    less the exact search's: {mean_interval(values - paper)}")


def by_setting(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group the rows by their setting, in the order of `SETTINGS` and of photos."""
    groups = {
        setting: sorted(
            (row for row in rows if row["setting"] == setting),
            key=lambda row: int(row["photo"]),
        )
        for setting in SETTINGS
    }
    return {setting: group for setting, group in groups.items() if group}


def photos_table(rows: list[dict[str, Any]]) -> str:
    """Write what the named searches cost and gain on each photo."""
    groups, lines = by_setting(rows), []
    columns = [Column(name="photo")]
    for setting, name in NAMED.items():
        columns.append(Column(name=f"{setting} forwards", heading=name, format=","))
        columns += [
            Column(name=f"{setting} {score}", heading=head, format="+.3f")
            for score, head in zip(SCORES, ("Ins-Del", "MAS"), strict=True)
        ]
    for alike in zip(*(groups[setting] for setting in NAMED), strict=True):
        cells: dict[str, Any] = {"photo": PHOTO_NAMES[alike[0]["photo"]]}
        for row in alike:
            cells[f"{row['setting']} forwards"] = row["forwards"]
            for score in SCORES:
                cells[f"{row['setting']} {score}"] = row[f"{score}_gain"]
        lines.append(cells)
    return markdown(columns, lines)


def settings_table(rows: list[dict[str, Any]]) -> str:
    """Write what each setting costs and gains, on average and at worst."""
    columns = [
        Column(name="setting"),
        Column(name="forwards", format=",.0f"),
        Column(name="most", format=",.0f"),
    ]
    for score, head in zip(SCORES, ("Ins-Del", "MAS Ins-Del"), strict=True):
        columns.append(Column(name=score, heading=head, format="+.4f"))
        columns.append(Column(name=f"worst {score}", heading="worst", format="+.4f"))
    return markdown(columns, starmap(line, by_setting(rows).items()))


def figures(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    groups = by_setting(rows)
    gains = {
        setting: mean(row["insertion_deletion_gain"] for row in group)
        for setting, group in groups.items()
    }
    worth = {
        setting: short(gains["default"] - gains[setting])
        for setting in ("insertion alone in front", "no farther than tau")
    }
    return {
        "photos": photos_table(rows),
        "settings": settings_table(rows),
        "worth-of-checks": worth["insertion alone in front"],
        "worth-of-patience": worth["no farther than tau"],
    }


def points_of(rows: list[dict[str, Any]]) -> dict[str, list[Point]]:
    """Tell what the figure shows: mean forwards and gains of each setting."""
    titles = ("Ins-Del over MDA as published", "MAS Ins-Del over MDA as published")
    found = {}
    for title, score in zip(titles, SCORES, strict=True):
        found[title] = [Point("published search", EXACT_FORWARDS, 0.0)]
        for setting, group in by_setting(rows).items():
            forwards = mean(row["forwards"] for row in group)
            gain = mean(row[f"{score}_gain"] for row in group)
            found[title].append(Point(setting, forwards, gain))
    return found


def line(setting: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a row of the table: forwards, and gains over the exact search."""
    forwards = [row["forwards"] for row in rows]
    cells = {"setting": setting, "forwards": mean(forwards), "most": max(forwards)}
    for score in SCORES:
        gains = [row[f"{score}_gain"] for row in rows]
        cells |= {score: mean(gains), f"worst {score}": min(gains)}
    return cells


if __name__ == "__main__":
    main()
