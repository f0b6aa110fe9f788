"""Which layers, support and blank CAAP works best with, on exact object masks.

Runs CAAP on fresh images of the packaged model under every setting and measures how
well the maps find the object of the class that is asked for: the average precision of
the map's pixels against the object's mask (area under precision and recall), as a mean
over images; higher is better, in [0, 1]. Two kinds of images:

- one object, as the model was trained on;
- two objects of different classes, one pasted beside the other. Each is asked for in
  turn, so that a map that only tells objects from background is right half the time.

    python -m benchmarks.caap_sweep

writes caap_sweep.json beside itself, in ten minutes on one core.

Settings are chosen by the mean of both figures on one half of the images; all that is
reported beside other methods is of the other half, so that choosing does not flatter.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.results import path_of, write
from benchmarks.scoring import markdown, short
from captum_mda import (
    AttentionRollout,
    BidirectionalAttention,
    CausalActivationPatching,
    demo,
    LeGrad,
    RawAttention,
)
from captum_mda.evaluate.tables import Cell, Column

BLANKS = ("zeros", "mean")
MARGIN = 9  # pixels between two objects, about a patch
MEASURED = {"margin": MARGIN}


class ImageSet(NamedTuple):
    """Images (n, 3, H, W), the class asked for (n,) and its object's mask."""

    images: Tensor
    labels: Tensor
    masks: Tensor


def gaussian(sigma: float) -> Tensor:
    """Weights that fall off with the distance from the patch, 1 on it."""
    steps = torch.arange(-2, 3.0)
    return torch.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma**2))


SUPPORTS: dict[str, int | Tensor] = {
    "0": 0,
    "1": 1,
    "cross": torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool),
    "gaussian 0.7": gaussian(0.7),
}


def one_object(n: int, seed: int) -> ImageSet:
    return ImageSet(*demo.make_samples(n, seed))


def two_objects(n: int, seed: int) -> ImageSet:
    """Paste every second object into another image; ask for both in turn."""
    images, labels, masks = demo.make_samples(8 * n, seed)
    masks = masks.reshape(len(masks), 1, *images.shape[-2:])
    near = F.max_pool2d(masks.float(), 2 * MARGIN + 1, 1, MARGIN) > 0
    pairs: list[tuple[int, int]] = []
    free = list(range(len(images)))
    while len(pairs) < n // 2:
        host = free.pop(0)
        for guest in free:
            apart = not (near[host] & masks[guest]).any()
            if apart and labels[guest] != labels[host]:
                free.remove(guest)
                pairs.append((host, guest))
                break
    hosts, guests = torch.tensor(pairs).T
    both = torch.where(masks[guests], images[guests], images[hosts])
    return ImageSet(
        torch.cat([both, both]),
        torch.cat([labels[hosts], labels[guests]]),
        torch.cat([masks[hosts], masks[guests]]),
    )


def average_precision(maps: Tensor, masks: Tensor) -> float:
    """Mean over images of the average precision of maps (n, 1, H, W)."""
    return float(
        np.mean(
            [
                average_precision_score(mask.flatten(), values.flatten())
                for mask, values in zip(masks.numpy(), maps.numpy(), strict=True)
            ]
        )
    )


def settings(depth: int) -> Iterator[dict[str, Any]]:
    ranges = itertools.combinations(range(depth + 1), 2)
    for layers, support, blank in itertools.product(ranges, SUPPORTS, BLANKS):
        yield {"layers": layers, "support": support, "blank": blank}


def halves(image_set: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Every second image, and the others."""
    first, second = (ImageSet(*(part[k::2] for part in image_set)) for k in (0, 1))
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = path_of(__file__)
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--samples", type=int, default=48, help="of each kind")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    model = demo.load_model()
    kinds = {
        "one object": halves(one_object(options.samples, options.seed)),
        "two objects": halves(two_objects(options.samples, options.seed)),
    }

    def measure(attribute: Callable[..., Tensor], half: int) -> dict[str, float]:
        found = {}
        for kind, parts in kinds.items():
            images, labels, masks = parts[half]
            found[kind] = average_precision(attribute(images, target=labels), masks)
        return found

    def caap(setting: dict[str, Any]) -> Callable[..., Tensor]:
        chosen = setting | {"support": SUPPORTS[setting["support"]]}
        return CausalActivationPatching(model, **chosen).attribute

    def noise(images: Tensor, target: Tensor) -> Tensor:
        return torch.rand(images[:, :1].shape, generator=generator)

    rows = []
    for setting in tqdm(list(settings(len(model.blocks))), desc="CAAP settings"):
        rows.append(setting | measure(caap(setting), 0))
    rows.sort(key=lambda row: -sum(row[kind] for kind in kinds))
    best = {name: rows[0][name] for name in ("layers", "support", "blank")}
    generator = torch.Generator().manual_seed(0)
    held_out = {
        "random map": measure(noise, 1),
        "raw attention": measure(RawAttention(model).attribute, 1),
        "rollout": measure(AttentionRollout(model).attribute, 1),
        "Bi-Attn": measure(BidirectionalAttention(model).attribute, 1),
        "LeGrad": measure(LeGrad(model).attribute, 1),
        "CAAP, defaults": measure(CausalActivationPatching(model).attribute, 1),
        "CAAP, best setting": measure(caap(best), 1),
    }
    print(f"{'layers':>8} {'support':>14} {'blank':>6} {'one':>6} {'two':>6}")
    for row in rows[:10]:
        figures = " ".join(f"{row[kind]:6.3f}" for kind in kinds)
        layers = "{}-{}".format(*row["layers"])
        print(f"{layers:>8} {row['support']:>14} {row['blank']:>6} {figures}")
    for name, found in held_out.items():
        print(f"{name:<22}", " ".join(f"{found[kind]:6.3f}" for kind in kinds))
    found = {"best": best, "held_out": held_out, "settings": rows}
    given = {"samples": options.samples, "seed": options.seed}
    write(options.out, found, given | MEASURED)


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Make what the pages say of the rows.

    ``best.cross`` is the best setting with that support, ``best.from-3`` the best of a
    range that begins at block 3.
    """
    held_out, kinds = found["held_out"], ("one object", "two objects")
    best = {kind: max(of[kind] for of in held_out.values()) for kind in kinds}
    rows = [
        {"method": name}
        | {kind: Cell(short(of[kind]), bold=of[kind] == best[kind]) for kind in kinds}
        for name, of in held_out.items()
    ]
    columns = [Column(name=name) for name in ("method", *kinds)]
    told = {"table": markdown(columns, rows), "n": f"{len(found['settings'])}"}
    groups = {name.replace(" ", "-"): ("support", name) for name in SUPPORTS}
    for name, (key, value) in groups.items():
        first = next(row for row in found["settings"] if row[key] == value)
        told |= {f"best.{name}.{kind[:3]}": short(first[kind], 2) for kind in kinds}
    late = next(row for row in found["settings"] if row["layers"][0] == 3)
    return told | {f"best.from-3.{kind[:3]}": short(late[kind], 2) for kind in kinds}


if __name__ == "__main__":
    main()
