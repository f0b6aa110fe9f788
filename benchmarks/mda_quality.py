"""MDA against its authors' own maps: orders, forwards and scores on real photos.

Runs the published search on the eight photos of the reference data with DeiT-Tiny in
float32, once on the authors' shifted partition, where the result must be theirs, and
once on the exact patch grid. Both maps, ours and the authors', are scored by the same
metric; the column ``pixel_mas_insertion_deletion`` is that of ``mean_steps="pixel"``.

    CAPTUM_MDA_DATA=DATA python -m benchmarks.mda_quality --out results.json

Prints a table and writes it as JSON. Explanations are kept in ``--explanations`` and
reused, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from scipy.stats import kendalltau
from torch import Tensor

from benchmarks.results import write
from benchmarks.scoring import MODEL
from captum_mda import (
    blur_baseline,
    curves,
    MDAExplanation,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.magnitude import fit_density, mean_response, resampled

MEASURED = {"model": MODEL, "ordering": "paper"}
SCORES = ("insertion", "deletion", "insertion_deletion", "mas_insertion_deletion")


class Reference:
    """The stored photos, and what the authors' code made of them."""

    def __init__(self, folder: Path) -> None:
        """Load the model and open the oracles."""
        self.model = timm.create_model(MODEL, pretrained=False).eval()
        weights = load_file(folder / "models" / f"{MODEL}.safetensors")
        self.model.load_state_dict(weights)
        self.mda = np.load(folder / "oracles" / "mda.npz")
        self.maps = np.load(folder / "oracles" / "maps.npz")
        self.runs: dict[str, dict[str, Any]] = json.loads(
            (folder / "oracles" / "mda_reference.json").read_text()
        )
        self.shifted_mask = torch.from_numpy(self.mda["shifted_mask"])[None, None]

    def question(self, name: str, partition: str) -> dict[str, Any]:
        """Return what `MetricDrivenAttribution.explain` takes for a photo."""
        inputs = torch.from_numpy(self.maps[f"{name}/x"])[None]
        shifted = partition == "shifted"
        seed = self.mda[f"{name}/{'seed_scores' if shifted else 'seed_map'}"]
        return {
            "inputs": inputs,
            "target": self.runs[name]["target"],
            "feature_mask": (
                self.shifted_mask if shifted else patch_feature_mask(inputs, 16)
            ),
            "insertion_baselines": blur_baseline(inputs, self.runs[name]["kernel"]),
            "seed_attributions": torch.from_numpy(seed).reshape(1, -1),
        }

    def scores(self, name: str, attributions: Tensor) -> metrics.PerturbationScores:
        """Score a map as the authors' tables do."""
        question = self.question(name, "shifted")
        return metrics.perturbation_scores(
            self.model,
            question["inputs"],
            attributions,
            insertion_baselines=question["insertion_baselines"],
            target=question["target"],
        )

    def authors_map(self, name: str) -> Tensor:
        """Paint the authors' sparse map: (1, 1, H, W)."""
        values = torch.from_numpy(self.mda[f"{name}/sparse"])
        return values[self.shifted_mask]


def explanation_of(
    reference: Reference, name: str, partition: str, folder: Path
) -> tuple[MDAExplanation, float | None]:
    """Explain a photo, or load what an earlier run found; tell the seconds spent."""
    path = folder / f"{name}-{partition}.safetensors"
    if path.exists():
        return MDAExplanation.load(path), None
    mda = MetricDrivenAttribution(reference.model)
    start = time.perf_counter()
    explanation = mda.explain(**reference.question(name, partition), show_progress=True)
    seconds = time.perf_counter() - start
    explanation.save(path)
    return explanation, seconds


def mas_with_pixel_steps(
    explanation: MDAExplanation, scores: metrics.PerturbationScores
) -> float:
    """Score the map that ``mean_steps="pixel"`` makes of the same order.

    Both maps rank pixels alike, so the curves that were just measured are also those
    that the mean is read from, and no forward is needed.
    """
    inserted, deleted = scores.insertion_curve, scores.deletion_curve
    mean = mean_response(inserted.response, deleted.response)
    density = fit_density(resampled(mean, explanation.order.shape[1]), "nnls")
    values = (
        replace(explanation, density_curve=density).attributions().sum(1).flatten(1)
    )
    mass = values.double().sort(dim=1, descending=True).values.view(1, 224, -1).sum(2)
    areas = []
    for curve in (inserted, deleted):
        moved = curves.density_response(mass, curve.mode)
        penalty = curves.alignment_penalty(curve.response, moved)
        mas = curves.mas_curve(curve.response, penalty, curve.mode)
        areas.append(float(curves.area(mas)))
    return areas[0] - areas[1]


def row(
    reference: Reference, name: str, partition: str, folder: Path
) -> dict[str, Any]:
    """Measure one photo on one partition."""
    explanation, seconds = explanation_of(reference, name, partition, folder)
    order = explanation.order[0].numpy()
    n, window = len(order), 28
    c = int(explanation.n_inserted)
    result: dict[str, Any] = {
        "photo": name,
        "partition": partition,
        "n_inserted": c,
        "forwards": explanation.n_forwards,
        "forwards_bound": c * window
        + (n - c - window) * window
        + window * (window + 1) // 2
        + n
        + 8,
        "seconds": seconds,
    }
    scores = reference.scores(name, explanation.attributions())
    result |= {field: float(getattr(scores, field)) for field in SCORES}
    result["pixel_mas_insertion_deletion"] = mas_with_pixel_steps(explanation, scores)
    if partition == "shifted":
        authors = reference.mda[f"{name}/order"]
        result["kendall_tau"] = float(
            kendalltau(np.argsort(order), np.argsort(authors)).statistic
        )
        result["authors_n_inserted"] = reference.runs[name]["n_inserted"]
        result["authors_forwards"] = reference.runs[name]["forwards"]
        scores = reference.scores(name, reference.authors_map(name))
        result |= {
            f"authors_{field}": float(getattr(scores, field)) for field in SCORES
        }
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows and their means out as text."""
    columns = {
        "photo": 6,
        "partition": 9,
        "n_inserted": 10,
        "authors_n_inserted": 18,
        "kendall_tau": 11,
        "forwards": 8,
        "insertion_deletion": 18,
        "authors_insertion_deletion": 26,
        "mas_insertion_deletion": 22,
        "pixel_mas_insertion_deletion": 28,
        "authors_mas_insertion_deletion": 30,
    }

    def line(values: dict[str, Any]) -> str:
        cells = []
        for column, width in columns.items():
            value = values.get(column, "")
            text = f"{value:.4f}" if isinstance(value, float) else str(value)
            cells.append(text.rjust(width))
        return " ".join(cells)

    lines = [line({column: column for column in columns})]
    lines += [line(values) for values in rows]
    for partition in ("shifted", "exact"):
        group = [values for values in rows if values["partition"] == partition]
        if group:
            means = {
                column: float(np.mean([values[column] for values in group]))
                for column in columns
                if isinstance(group[0].get(column), float)
            }
            lines.append(line({"photo": "mean", "partition": partition, **means}))
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("mda_quality.json"))
    parser.add_argument("--explanations", type=Path, default=Path("mda_explanations"))
    parser.add_argument("--photos", nargs="*", help="class numbers; default: all")
    parser.add_argument("--partitions", nargs="*", default=["shifted", "exact"])
    arguments = parser.parse_args()
    data = os.environ.get("CAPTUM_MDA_DATA")
    if not data:
        raise SystemExit("set CAPTUM_MDA_DATA to the folder of the reference data")
    reference = Reference(Path(data))
    arguments.explanations.mkdir(parents=True, exist_ok=True)
    rows = []
    for partition in arguments.partitions:
        for name in arguments.photos or list(reference.runs):
            rows.append(row(reference, name, partition, arguments.explanations))
            print(table(rows), end="\n\n", flush=True)
            write(arguments.out, rows, MEASURED)


def figures(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    groups = {
        partition: [row for row in rows if row["partition"] == partition]
        for partition in ("shifted", "exact")
    }
    told = {}
    for partition, group in groups.items():
        for field, value in group[0].items():
            if not isinstance(value, str) and all(field in row for row in group):
                mean = fmean(row[field] for row in group)
                digits = ",.0f" if field.endswith("forwards") else ".4f"
                told[f"{partition}.{field}"] = format(mean, digits)
    shifted, exact = groups.values()
    for field in ("mas_insertion_deletion", "pixel_mas_insertion_deletion"):
        gains = [row[field] - row["authors_mas_insertion_deletion"] for row in shifted]
        told[f"least.{field}"] = f"{min(gains):+.3f}"
        told[f"most.{field}"] = f"{max(gains):+.3f}"
    moved = [
        one["insertion_deletion"] - other["insertion_deletion"]
        for one, other in zip(exact, shifted, strict=True)
    ]
    told |= {"least.moved": f"{min(moved):+.2f}", "most.moved": f"{max(moved):+.2f}"}
    tau = min(row["kendall_tau"] for row in shifted)
    return told | {"kendall-tau": f"{tau:.3f}"}


if __name__ == "__main__":
    main()
