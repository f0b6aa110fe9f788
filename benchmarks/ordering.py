"""What the lazy search saves, and what it loses, against the exact search.

Runs ``ordering="fast"`` with several widths on the eight photos of the reference data
with DeiT-Tiny, on the exact patch grid, and scores its maps as mda_quality.py
scores those of the exact search, whose figures are read from mda_quality.json.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python benchmarks/ordering.py

prints a table and writes ordering.json beside itself.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean
from typing import Any

from mda_quality import Reference
from tqdm import tqdm

from captum_mda import MetricDrivenAttribution
from captum_mda._files import replacing
from captum_mda.ordering import FastOrdering

SCORES = ("insertion_deletion", "mas_insertion_deletion")
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "ordering.json")
    parser.add_argument("--widths", nargs="*", default=["14,6"])
    options = parser.parse_args()
    reference = Reference(Path(os.environ["CAPTUM_MDA_DATA"]))
    exact = {
        row["photo"]: row
        for row in json.loads((HERE / "mda_quality.json").read_text())
        if row["partition"] == "exact"
    }
    rows: list[dict[str, Any]] = []
    for widths in options.widths:
        insertion_width, deletion_width = map(int, widths.split(","))
        ordering = FastOrdering(None, insertion_width, deletion_width)
        for photo in tqdm(exact, desc=f"widths {widths}"):
            mda = MetricDrivenAttribution(reference.model, ordering=ordering)
            found = mda.explain(**reference.question(photo, "exact"))
            scores = reference.scores(photo, found.attributions())
            row: dict[str, Any] = {"photo": photo, "widths": widths}
            row |= {"forwards": found.n_forwards}
            for name in SCORES:
                row[name] = float(getattr(scores, name))
                row[f"exact_{name}"] = exact[photo][name]
            rows.append(row)
            print(
                f"{photo:>5} {widths:>6} {row['forwards']:>6}",
                *(f"{row[n]:.4f} ({row[n] - row[f'exact_{n}']:+.4f})" for n in SCORES),
            )
        chosen = [row for row in rows if row["widths"] == widths]
        losses = [mean(r[n] - r[f"exact_{n}"] for r in chosen) for n in SCORES]
        forwards = mean(row["forwards"] for row in chosen)
        print(
            f"mean {widths}: {forwards:.0f} forwards, {losses[0]:+.4f} {losses[1]:+.4f}"
        )
        with replacing(options.out) as beside:
            beside.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
