"""How fast the perturbation metrics are: against a plain loop, and the bare model.

- On the packaged model: insertion, deletion, both MAS scores, monotonicity, AOPC and
  the relevance gain of four maps of two images, by `perturbation_scores_of_maps`,
  against the loop that everybody writes first: number by number, image by image,
  map by map, step by step, one forward each. Both make the same curves.
- On DeiT-Tiny (random weights cost the same): rows scored per second by
  `perturbation_scores`, in units of the bare model on batches of as many rows.

    OMP_NUM_THREADS=1 python -m benchmarks.metrics

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

from benchmarks.results import path_of, write
from captum_mda import demo, metrics
from captum_mda.perturbation.chunks import CPU_ROWS

N_STEPS = 224
MEASURED = {"n_steps": N_STEPS}
# Each number's own sweep: mode, and whether the least important go first.
SWEEPS = {
    "insertion": ("insertion", False),
    "deletion": ("deletion", False),
    "MAS insertion": ("insertion", False),
    "MAS deletion": ("deletion", False),
    "monotonicity": ("insertion", False),
    "AOPC": ("deletion", False),
    "SRG, most first": ("deletion", False),
    "SRG, least first": ("deletion", True),
}


class Counted(nn.Module):
    """Counts the rows a model sees."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the model."""
        self.rows += len(inputs)
        outputs: Tensor = self.model(inputs)
        return outputs


def plain_curve(
    model: nn.Module, image: Tensor, values: Tensor, label: int, sweep: tuple[str, bool]
) -> list[float]:
    """Insert or delete pixels, one forward for each step."""
    mode, least_first = sweep
    ranking = values.sum(0).flatten().abs().argsort(stable=True)
    ranking = ranking if least_first else ranking.flip(0)
    start, end = torch.zeros_like(image), image
    if mode == "deletion":
        start, end = end, start
    present, curve, done = start.clone().flatten(1), [], 0
    for step in range(N_STEPS + 1):
        upto = step * len(ranking) // N_STEPS
        moved = ranking[done:upto]
        present[:, moved] = end.flatten(1)[:, moved]
        done = upto
        output = model(present.view(1, *image.shape))
        curve.append(float(output.softmax(1)[0, label]))
    return curve


def seconds(job: Callable[[], Any]) -> float:
    """Count the processor seconds of a job."""
    start = time.process_time()
    job()
    return time.process_time() - start


def on_demo() -> dict[str, float]:
    """Compare with the loop."""
    model = Counted(demo.load_model())
    images, labels, _ = demo.make_samples(2, 5)
    generator = torch.Generator().manual_seed(0)
    maps = {
        f"map {number}": torch.rand(2, 1, 64, 64, generator=generator)
        for number in range(4)
    }

    def ours() -> Any:
        return metrics.perturbation_scores_of_maps(
            model, images, maps, target=labels, convention="rise", least_first=True
        )

    @torch.no_grad()
    def loop() -> Any:
        return {
            (name, number, index): plain_curve(
                model,
                images[index],
                values[index],
                int(labels[index]),
                sweep,
            )
            for name, values in maps.items()
            for number, sweep in SWEEPS.items()
            for index in range(len(images))
        }

    found, theirs = ours(), loop()
    for name in maps:
        for index in range(len(images)):
            curve = torch.tensor(theirs[name, "insertion", index])
            raw = found[name].insertion_curve.raw[index].float()
            torch.testing.assert_close(curve, raw, rtol=0, atol=1e-4)
    result = {}
    for name, job in {"ours": ours, "loop": loop}.items():
        model.rows = 0
        result[f"{name}: seconds"] = seconds(job)
        result[f"{name}: forwards"] = float(model.rows)
        result[f"{name}: forwards a second"] = model.rows / result[f"{name}: seconds"]
    result["times as fast, numbers"] = result["loop: seconds"] / result["ours: seconds"]
    result["times as fast, forwards"] = (
        result["ours: forwards a second"] / result["loop: forwards a second"]
    )
    bare = seconds(lambda: _bare(model.model, images, 64))
    result["share of the bare throughput"] = (
        result["ours: forwards a second"] * bare / (64 * CPU_ROWS)
    )
    return result


@torch.no_grad()
def _bare(model: nn.Module, images: Tensor, n_batches: int) -> None:
    batch = images[:1].expand(CPU_ROWS, -1, -1, -1).contiguous()
    for _ in range(n_batches):
        model(batch)


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
    default = path_of(__file__)
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    settings = {
        "threads": torch.get_num_threads(),
        "repetitions": options.repetitions,
    }
    result = {
        "demo": on_demo(),
        "deit_tiny": on_deit(options.repetitions),
    }
    print(json.dumps(result, indent=1))
    write(options.out, result, MEASURED | settings)


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    demo = found["demo"]
    more = demo["loop: forwards"] / demo["ours: forwards"]
    share = "share of the bare throughput"
    return {
        "demo-share": f"{demo[share]:.0%}".replace("%", " %"),
        "deit-share": f"{found['deit_tiny'][share]:.0%}".replace("%", " %"),
        "loop-forwards": f"{more:.1f}",
        "times-per-forward": f"{demo['times as fast, forwards']:.1f}",
        "times": f"{demo['times as fast, numbers']:.1f}",
    }


if __name__ == "__main__":
    main()
