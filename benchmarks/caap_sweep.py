"""Which layers, support and blank CAAP works best with, on exact object masks.

Runs CAAP on fresh samples of the packaged model under every setting and measures how
well the maps find the object: the average precision of the map's pixels against the
object's mask (area under precision and recall), as a mean over images; higher is
better, in [0, 1]. Raw attention, rollout and a random map stand beside it.

    python benchmarks/caap_sweep.py --out benchmarks/caap_sweep.json

The settings are chosen on one half of the samples, and the best one's figure is that of
the other half, so that choosing does not flatter it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from tqdm import tqdm

from captum_mda import (
    AttentionRollout,
    CausalActivationPatching,
    demo,
    RawAttention,
)

BLANKS = ("zeros", "mean", "blur")
SUPPORTS = (0, 1, 2)


def average_precision(maps: Tensor, masks: Tensor) -> np.ndarray:
    """Average precision of each image's map (n, 1, H, W): (n,)."""
    return np.array(
        [
            average_precision_score(mask.flatten().numpy(), values.flatten().numpy())
            for mask, values in zip(masks, maps, strict=True)
        ]
    )


def settings(depth: int) -> Iterator[dict[str, Any]]:
    for low, high in itertools.combinations(range(depth + 1), 2):
        for support, blank in itertools.product(SUPPORTS, BLANKS):
            yield {"layers": (low, high), "support": support, "blank": blank}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    model = demo.load_model()
    images, labels, masks = demo.make_samples(options.samples, options.seed)
    chosen_on = slice(0, options.samples // 2)
    told_on = slice(options.samples // 2, options.samples)

    def measure(method: Any, part: slice) -> float:
        maps = method.attribute(images[part], target=labels[part])
        return float(average_precision(maps, masks[part]).mean())

    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images[told_on].shape, generator=generator)[:, :1]
    others = {
        "random map": float(average_precision(noise, masks[told_on]).mean()),
        "raw attention": measure(RawAttention(model), told_on),
        "rollout": measure(AttentionRollout(model), told_on),
        "CAAP, defaults": measure(CausalActivationPatching(model), told_on),
    }
    rows = []
    for setting in tqdm(list(settings(len(model.blocks))), desc="CAAP settings"):
        caap = CausalActivationPatching(model, **setting)
        rows.append(setting | {"average_precision": measure(caap, chosen_on)})
    rows.sort(key=lambda row: -row["average_precision"])
    best = {name: rows[0][name] for name in ("layers", "support", "blank")}
    others["CAAP, best setting"] = measure(
        CausalActivationPatching(model, **best), told_on
    )
    print(f"{'layers':>8} {'support':>8} {'blank':>6} {'AP':>7}")
    for row in rows[:10]:
        layers = "{}-{}".format(*row["layers"])
        print(
            f"{layers:>8} {row['support']:>8} {row['blank']:>6} "
            f"{row['average_precision']:>7.4f}"
        )
    for name, value in others.items():
        print(f"{name:<20} {value:.4f}")
    if options.out is not None:
        report = {"samples": options.samples, "seed": options.seed, "best": best}
        text = json.dumps(report | {"held_out": others, "settings": rows}, indent=1)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
