"""How fast the perturbation metrics are: against a plain loop, and the bare model.

- On the packaged model: all six scores of eight maps of eight pictures by
  `perturbation_scores_of_maps`, against the loop that everybody writes first: picture
  by picture, map by map, step by step, one forward each. Both make the same curves.
- On DeiT-Tiny (random weights cost the same): rows scored per second by
  `perturbation_scores`, in units of the bare model on batches of as many rows.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py

prints both and writes metrics.json beside itself. Times are processor seconds, the
least of some runs that take turns, so that other programs disturb little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn, Tensor

from captum_mda import demo, metrics, patch_feature_mask
from captum_mda._files import replacing
from captum_mda.perturbation.response import CPU_ROWS


class Counted(nn.Module):
    """Counts the rows a model sees."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.rows += len(inputs)
        outputs: Tensor = self.model(inputs)
        return outputs


def loop(
    model: nn.Module, images: Tensor, maps: dict[str, Tensor], target: Tensor
) -> dict[str, Tensor]:
    """Insert and delete pixel by pixel group, one forward at a time."""
    found = {}
    n_steps, n_pixels = 224, images[0, 0].numel()
    with torch.no_grad():
        for name, values in maps.items():
            curves = []
            for image, one_map, label in zip(images, values, target, strict=True):
                ranking = one_map.sum(0).flatten().abs().argsort(stable=True).flip(0)
                for mode in ("insertion", "deletion"):
                    start, end = torch.zeros_like(image), image
                    if mode == "deletion":
                        start, end = end, start
                    present, curve = start.clone().flatten(1), []
                    done = 0
                    for step in range(n_steps + 1):
                        upto = step * n_pixels // n_steps
                        moved = ranking[done:upto]
                        present[:, moved] = end.flatten(1)[:, moved]
                        done = upto
                        output = model(present.view(1, *image.shape))
                        curve.append(float(output.softmax(1)[0, label]))
                    curves.append(curve)
            found[name] = torch.tensor(curves, dtype=torch.float64)
    return found


def seconds(job: Callable[[], Any]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def on_demo() -> dict[str, float]:
    """Compare with the loop."""
    model = Counted(demo.load_model())
    images, labels, _ = demo.make_samples(4, 5)
    generator = torch.Generator().manual_seed(0)
    maps = {
        f"map {number}": torch.rand(4, 1, 8, 8, generator=generator)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
        for number in range(8)
    }
    patches = {
        name: torch.nn.functional.avg_pool2d(values, 8) for name, values in maps.items()
    }
    del patches
    mask = patch_feature_mask(images, demo.PATCH_SIZE)

    def ours() -> Any:
        return metrics.perturbation_scores_of_maps(
            model, images, maps, target=labels, convention="rise"
        )

    def patchwise() -> Any:
        return metrics.perturbation_scores_of_maps(
            model, images, maps, feature_mask=mask, target=labels, convention="rise"
        )

    def theirs() -> Any:
        return loop(model, images, maps, labels)

    rows, spent = {}, {}
    jobs = {"ours": ours, "ours, patches": patchwise, "loop": theirs}
    for name, job in jobs.items():
        model.rows = 0
        spent[name] = min(seconds(job) for _ in range(1 if name == "loop" else 2))
        rows[name] = model.rows
    return spent | {f"rows, {name}": float(n) for name, n in rows.items()}


def on_deit(repetitions: int) -> dict[str, float]:
    """Compare with the bare model."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("deit_tiny_patch16_224").eval()
    image = torch.randn(1, 3, 224, 224)
    counted = Counted(model)
    values = torch.rand(1, 1, 224, 224)
    batch = torch.randn(CPU_ROWS, 3, 224, 224)
    n_batches = 14

    def bare() -> None:
        with torch.no_grad():
            for _ in range(n_batches):
                model(batch)

    def scored() -> None:
        metrics.perturbation_scores(
            counted, image, values, target=1, convention="rise", n_steps=112
        )

    times: dict[str, list[float]] = {"bare": [], "scored": []}
    for _ in range(repetitions):
        counted.rows = 0
        times["bare"].append(seconds(bare) / (n_batches * CPU_ROWS))
        times["scored"].append(seconds(scored) / counted.rows)
    return {
        "bare seconds a row": min(times["bare"]),
        "scored seconds a row": min(times["scored"]),
        "share of the bare throughput": min(times["bare"]) / min(times["scored"]),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    result = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "demo": on_demo(),
        "deit_tiny": on_deit(options.repetitions),
    }
    print(json.dumps(result, indent=1))
    with replacing(options.out) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
