"""What subtracting the blank's score changes in CAAP's scores, on the reference photos.

The model is DeiT-Tiny as it is, and with all its logits lower by a constant, which
changes no probability. DATA is the folder of the photos, weights and stored baselines:

    CAPTUM_MDA_DATA=DATA python -m benchmarks.caap_blank --out caap_blank.json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file

from benchmarks.results import write
from benchmarks.scoring import MODEL, short
from captum_mda import blur_baseline, CausalActivationPatching, metrics
from captum_mda.statistics import mean_interval

SHIFTS = (0.0, -20.0)
FIELDS = ("insertion", "deletion", "mas_insertion_deletion")
MEASURED = {"model": MODEL, "shifts": SHIFTS, "fields": FIELDS}


def measure(data: Path, n_photos: int | None) -> dict[str, list[float]]:
    """Score the maps: from "shift/subtract_blank/photo" to one number a field."""
    model = timm.create_model(MODEL).eval()
    model.load_state_dict(load_file(data / f"models/{MODEL}.safetensors"))
    images = np.load(data / "oracles/maps.npz")
    runs = json.loads((data / "oracles/mda_reference.json").read_text())
    bias = model.head.bias.detach().clone()
    found = {}
    for shift in SHIFTS:
        model.head.bias.data = bias + shift
        for name in sorted(runs)[:n_photos]:
            x = torch.from_numpy(images[f"{name}/x"])[None]
            target = runs[name]["target"]
            blurred = blur_baseline(x, runs[name]["kernel"])
            for subtract in (False, True):
                caap = CausalActivationPatching(model, subtract_blank=subtract)
                scores = metrics.perturbation_scores(
                    model,
                    x,
                    caap.attribute(x, target),
                    insertion_baselines=blurred,
                    target=target,
                )
                row = [float(getattr(scores, field)) for field in FIELDS]
                found[f"{shift:g}/{subtract}/{name}"] = row
    return found


def report(found: dict[str, list[float]]) -> None:
    """Print the means, and the difference's bootstrap interval."""
    for shift in SHIFTS:
        rows = {
            subtract: np.array(
                [v for k, v in found.items() if k.startswith(f"{shift:g}/{subtract}/")]
            )
            for subtract in (False, True)
        }
        for subtract, values in rows.items():
            means = ", ".join(
                f"{field} {mean:.3f}"
                for field, mean in zip(FIELDS, values.mean(axis=0), strict=True)
            )
            print(f"logits {shift:+g}, subtract_blank={subtract}: {means}")
        gains = torch.from_numpy((rows[True] - rows[False])[:, -1])
        if len(gains) > 1:
            print("  gain of MAS:", mean_interval(gains))


def figures(found: dict[str, list[float]]) -> dict[str, str]:
    """Make what the pages say of the rows: means such as ``-20.kept.insertion``."""
    told = {}
    for shift in SHIFTS:
        kept, subtracted = (
            np.array(
                [v for k, v in found.items() if k.startswith(f"{shift:g}/{each}/")]
            )
            for each in (False, True)
        )
        for name, values in (("kept", kept), ("subtracted", subtracted)):
            for field, mean in zip(FIELDS, values.mean(axis=0), strict=True):
                told[f"{shift:g}.{name}.{field}"] = short(mean)
        gain = mean_interval(torch.from_numpy((subtracted - kept)[:, -1]))
        told[f"{shift:g}.gain"] = (
            f"{short(gain.mean, sign='+')} [{short(gain.low)}, {short(gain.high)}]"
        )
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, help="how many; all by default")
    parser.add_argument("--out", type=Path, help="where to write the scores as JSON")
    arguments = parser.parse_args()
    scores = measure(Path(os.environ["CAPTUM_MDA_DATA"]), arguments.photos)
    report(scores)
    if arguments.out is not None:
        write(arguments.out, scores, MEASURED)
