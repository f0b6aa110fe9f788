"""TIS, ViT-CX and CAAP on the reference photos: agreement, cost, memory.

For each photo of ``CAPTUM_MDA_DATA`` and DeiT-Tiny in float32 on the CPU:

- agreement: Spearman's rank correlation with the stored map of each seed of the
  published code, on the grid of patches, beside that of these two maps;
- cost: processor seconds in units of a bare forward of one image (in batches of 64,
  measured before each photo), beside what the published code's stored seconds are in
  the same unit on the machine that made them;
- memory: by how much a process that explains one photo grows at its peak (Linux).

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.perturbation_methods

writes perturbation_methods.json beside itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn, Tensor
from tqdm import tqdm

from benchmarks.capture import make_model, peak_bytes, PROCESS_STATUS
from benchmarks.results import path_of, ROOT, write
from benchmarks.scoring import MODEL, short
from benchmarks.white_box import build, class_of, PERTURBING
from captum_mda.evaluate import METHODS

NAMES = {class_of(METHODS[name]).__name__: name for name in PERTURBING}
MEASURED = {"model": MODEL}
STORED = {"TransformerInputSampling": "tis", "VitCx": "vit_cx"}
# The published code's seconds for an image, and 5,900 forwards in 176 seconds, both on
# one core of the machine that made the stored maps.
REFERENCE_FORWARDS = {
    "TransformerInputSampling": 15.0 * 5900 / 176,
    "VitCx": 2.3 * 5900 / 176,
}


def load_photos() -> dict[str, tuple[Tensor, int, dict[str, np.ndarray]]]:
    """Read each photo, its target and the stored maps of it."""
    photos = {}
    with np.load(Path(os.environ["CAPTUM_MDA_DATA"]) / "oracles" / "maps.npz") as maps:
        names = sorted({name.split("/")[0] for name in maps.files if name[0].isdigit()})
        for name in names:
            wanted = [f"{key}_s{seed}" for key in STORED.values() for seed in (0, 1)]
            photos[name] = (
                torch.from_numpy(maps[f"{name}/x"])[None],
                int(maps[f"{name}/target"]),
                {key: maps[f"{name}/{key}"] for key in wanted},
            )
    return photos


def rank(one: np.ndarray, other: np.ndarray) -> float:
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def forward_seconds(model: nn.Module) -> float:
    """Time a bare forward of one image, in a batch of 64."""
    images = torch.randn(64, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        start = time.process_time()
        model(images)
    return (time.process_time() - start) / len(images)


def peak_growth(name: str) -> float:
    """Explain one photo in a process of its own: MB it grew by at its peak."""
    module = "benchmarks.perturbation_methods"
    command = [sys.executable, "-m", module, "--peak-of", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def own_peak_growth(name: str) -> float:
    x, target, _ = next(iter(load_photos().values()))
    method = build(METHODS[NAMES[name]], make_model(fused=True))
    before = peak_bytes()
    method.attribute(x, target)
    return (peak_bytes() - before) / 1e6


def measure() -> dict[str, Any]:
    """Measure every method on every photo."""
    model = make_model(fused=True)
    methods = {each: build(METHODS[name], model) for each, name in NAMES.items()}
    rows = []
    for photo, (x, target, stored) in tqdm(load_photos().items(), desc="photos"):
        unit = forward_seconds(model)
        for name, method in methods.items():
            start = time.process_time()
            grid = method.attribute(x, target, interpolate_mode=None)
            seconds = time.process_time() - start
            row: dict[str, Any] = {
                "photo": photo,
                "method": name,
                "forwards": seconds / unit,
            }
            if name in STORED:
                first, second = (stored[f"{STORED[name]}_s{seed}"] for seed in (0, 1))
                ours = grid[0, 0].numpy()
                row["rank_with_seeds"] = [rank(ours, first), rank(ours, second)]
                row["rank_of_seeds"] = rank(first, second)
            rows.append(row)
    return {"rows": rows}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = path_of(__file__)
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--peak-of", choices=tuple(NAMES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print(own_peak_growth(arguments.peak_of))
        return
    result = measure()
    print(
        f"\n{'photo':>6} {'method':<26}{'forwards':>9}  rank with seeds 0, 1, of them"
    )
    for row in result["rows"]:
        ranks: list[float] = []
        if "rank_of_seeds" in row:
            ranks = [*row["rank_with_seeds"], row["rank_of_seeds"]]
        cells = "  ".join(f"{value:.3f}" for value in ranks)
        print(f"{row['photo']:>6} {row['method']:<26}{row['forwards']:9.0f}  {cells}")
    result["summary"] = {}
    for name in NAMES:
        costs = [row["forwards"] for row in result["rows"] if row["method"] == name]
        told = {
            "forwards": statistics.median(costs),
            "most": max(costs),
        }
        if name in REFERENCE_FORWARDS:
            told["reference"] = REFERENCE_FORWARDS[name]
        if PROCESS_STATUS.exists():
            told["peak_megabytes"] = peak_growth(name)
        result["summary"][name] = told
        print(f"{name:<26}", "  ".join(f"{key} {told[key]:.0f}" for key in told))
    write(arguments.out, result, MEASURED)


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Make what the pages say of the rows, by method: ``tis.forwards``."""
    told = {}
    for title, of in found["summary"].items():
        name = NAMES[title]
        told |= {f"{name}.{key}": f"{value:.0f}" for key, value in of.items()}
        rows = [row for row in found["rows"] if row["method"] == title]
        ranks = {
            "rank": [rank for row in rows for rank in row.get("rank_with_seeds", ())],
            "seeds": [row["rank_of_seeds"] for row in rows if "rank_of_seeds" in row],
        }
        for key, values in ranks.items():
            if values:
                told[f"{name}.least-{key}"] = short(min(values))
                told[f"{name}.most-{key}"] = short(max(values))
    return told


if __name__ == "__main__":
    main()
