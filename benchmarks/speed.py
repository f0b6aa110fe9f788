"""What explanations cost: forwards, seconds, and seconds in forwards of the bare model.

Explains photos with a timm model by MDA, exact and fast, and by the methods of
explainers.py, and scores a map. A forward-equivalent is the time of one image in the
bare model, float32, at its best batch, in the same run; "overhead" is the time over
that of as many forwards as were counted.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.speed

adds rows to speed.json beside itself, where they replace those of the same task, and
draws the figure of docs/speed.md. ``--resolution 448`` explains at 784 patches of 16
pixels, ``--patch-size 8`` at as many of 8 pixels, ``--patch-size 32`` at 49.
``--tasks`` says what to measure: searches, methods, "metrics"; with none of them the
figure is drawn of what was measured. ``--random`` needs no data: random weights and
images, for speed alone. On a CPU times are processor seconds, so that other programs
disturb little.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn, Tensor

from benchmarks.explainers import EXPLAINERS, Inside
from benchmarks.results import DOCS, path_of, read_rows, write
from benchmarks.scoring import MODEL
from benchmarks.speed_page import draw, table
from benchmarks.white_box import balanced, build
from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.evaluate import counted, METHODS
from captum_mda.ordering import ORDERINGS

KERNEL, N_STEPS = 51, 224
MEASURED = {"blur": KERNEL, "n_steps": N_STEPS}
BATCHES = {"cpu": (4, 8, 16, 32), "cuda": (64, 128, 256, 512)}
EXPLAINED = [name for name, each in EXPLAINERS.items() if isinstance(each, Inside)]
SCORED = "metrics"


class Bench:
    """A model, images, and the clock of their device."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load what the options ask for."""
        self.device = torch.device(options.device)
        self.model = timm.create_model(
            options.model, dynamic_img_size=True, pretrained=False
        ).eval()
        size = options.resolution
        if options.random:
            self.images = torch.randn(options.images, 3, size, size)
        else:
            folder = Path(os.environ["CAPTUM_MDA_DATA"])
            name = f"{MODEL}.safetensors"
            self.model.load_state_dict(load_file(folder / "models" / name))
            self.images = photos(folder / "images", size, options.images, self.model)
        self.model, self.images = (
            self.model.to(self.device),
            self.images.to(self.device),
        )
        with torch.no_grad():
            self.target = self.model(self.images).argmax(1)

    def seconds(self) -> float:
        """Read the clock."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def peak(self) -> float:
        """Tell the peak of memory so far in MB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def bare(self, n_forwards: int = 128) -> tuple[float, int]:
        """Measure seconds per image of the bare model at its best batch."""
        best = (float("inf"), 0)
        for batch in BATCHES[self.device.type]:
            rows = self.images[:1].repeat(batch, 1, 1, 1)
            rows = rows + torch.rand(batch, 1, 1, 1, device=self.device)
            with torch.no_grad():
                self.model(rows)
                start, done = self.seconds(), 0
                while done < max(n_forwards, 2 * batch):
                    self.model(rows)
                    done += batch
                best = min(best, ((self.seconds() - start) / done, batch))
        return best


def photos(folder: Path, size: int, n: int, model: nn.Module) -> Tensor:
    """Load the first photos as the model wants them, at another resolution."""
    config = timm.data.resolve_data_config({}, model=model)
    config |= {"input_size": (3, size, size)}
    transform = timm.data.create_transform(**config, is_training=False)
    paths = sorted(folder.glob("*.JPEG"))[:n]
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])


def searched(bench: Bench, search: str, options: argparse.Namespace) -> dict[str, Any]:
    """Explain the images by one search, and score the maps."""
    seed = BidirectionalAttention(bench.model).attribute(
        bench.images, target=bench.target
    )
    baseline = blur_baseline(bench.images, KERNEL)
    before = bench.seconds()
    explanation = MetricDrivenAttribution(
        bench.model, ordering=search, on_degenerate="zero"
    ).explain(
        bench.images,
        target=bench.target,
        feature_mask=patch_feature_mask(bench.images, options.patch_size),
        insertion_baselines=baseline,
        seed_attributions=seed,
        show_progress=True,
    )
    row: dict[str, Any] = {
        "seconds": (bench.seconds() - before) / len(bench.images),
        "features": explanation.order.shape[1],
        "forwards": explanation.n_forwards / len(bench.images),
        "n_inserted": explanation.n_inserted.tolist(),
    }
    if options.scores:
        scores = metrics.perturbation_scores(
            bench.model,
            bench.images,
            explanation.attributions(),
            insertion_baselines=baseline,
            target=bench.target,
            n_steps=N_STEPS,
            on_degenerate="nan",
        )
        for name in ("insertion_deletion", "mas_insertion_deletion"):
            row[name] = float(getattr(scores, name).nanmean())
    return row


def explained(bench: Bench, name: str) -> dict[str, Any]:
    """Explain the images by a method that looks inside the model."""
    entry = EXPLAINERS[name]
    assert isinstance(entry, Inside)
    method = METHODS[entry.name]
    attribution = build(method, bench.model)
    with balanced(method, bench.model):
        return timed(bench, lambda: attribution.attribute(bench.images, bench.target))


def scored(bench: Bench) -> dict[str, Any]:
    """Score a map by insertion, deletion and MAS, both in 224 steps."""
    maps = torch.rand(bench.images[:, :1].shape, generator=torch.Generator())
    baseline = blur_baseline(bench.images, KERNEL)
    return timed(
        bench,
        lambda: metrics.perturbation_scores(
            bench.model,
            bench.images,
            maps.to(bench.device),
            insertion_baselines=baseline,
            target=bench.target,
            n_steps=N_STEPS,
            on_degenerate="nan",
        ),
    )


def timed(bench: Bench, task: Callable[[], object]) -> dict[str, Any]:
    """Count a task's forwards, and time it; both for one image."""
    with counted(bench.model, bench.images) as cost:
        task()
    before = bench.seconds()
    task()
    return {
        "seconds": (bench.seconds() - before) / len(bench.images),
        "features": None,
        "forwards": cost.forwards / len(bench.images),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    parser.add_argument("--model", default=MODEL)
    tasks = ["paper", "fast", *EXPLAINED, SCORED]
    parser.add_argument(
        "--tasks", nargs="*", default=tasks, choices=[*ORDERINGS, *EXPLAINED, SCORED]
    )
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--random", action="store_true", help="weights and images")
    parser.add_argument("--scores", action="store_true", help="score the maps, too")
    parser.add_argument("--figure", type=Path, default=DOCS / "images" / "speed.png")
    options = parser.parse_args()
    rows = read_rows(options.out, MEASURED, list)
    if options.tasks:
        rows = with_measured(rows, options)
    draw(rows, options.figure)


def with_measured(
    rows: list[dict[str, Any]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure the tasks; each row is written as it comes, in place of its like."""
    bench = Bench(options)
    for task in options.tasks:
        before, batch = bench.bare()
        if task in ORDERINGS:
            row = searched(bench, task, options)
        else:
            row = scored(bench) if task == SCORED else explained(bench, task)
        bare = (before + bench.bare()[0]) / 2  # machines change their pace
        row = {"task": task} | row
        row |= {
            "model": options.model,
            "images": options.images,
            "resolution": options.resolution,
            "device": options.device,
            "bare_seconds": bare,
            "best_batch": batch,
            "forward_equivalents": row["seconds"] / bare,
            "overhead": row["seconds"] / bare / row["forwards"],
            "peak_mb": bench.peak(),
        }
        rows = [each for each in rows if identity(each) != identity(row)]
        rows.append({k: _rounded(v) for k, v in row.items()})
        print(table(rows[-1:]).splitlines()[-1])
        write(options.out, rows, MEASURED, adds=True)
    return rows


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """Tell what a row is about."""
    keys = ("task", "features", "images", "resolution", "model", "device")
    return tuple(row[key] for key in keys)


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
