"""What attention maps with their gradients cost, and what each method costs.

Three measurements of a DeiT-Tiny in float32, batch 8, on the CPU:

- attention capture: one observed forward of the fused model and the gradients of a
  class's score with respect to all attention maps, against forward and backward of the
  plain model with explicit attention (``fused_attn`` False) and with fused attention,
  back to the inputs and back to the parameters;
- memory: the bytes of the maps and of their gradients, computed, and, on Linux, by how
  much a process grows at its peak;
- the methods of a few passes, in units of a bare forward of the same batch.

    OMP_NUM_THREADS=1 python -m benchmarks.capture --out benchmarks/capture.json

Prints tables and writes JSON. Times are processor seconds of the process, so that other
programs on the machine disturb little; with one thread and an idle machine they are
seconds. What is compared is run in turn, A B C A B C ..., and the medians are taken.
Weights are those of ``CAPTUM_MDA_DATA``'s folder ``models/``, or random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn, Tensor

from benchmarks.results import ROOT, write
from benchmarks.scoring import markdown, MODEL
from benchmarks.white_box import balanced, build, class_of, white_box
from captum_mda.evaluate import Method
from captum_mda.evaluate.tables import Cell, Column
from captum_mda.vit import observe, resolve

BATCH = 8
TARGET = 207
MEASURED = {"model": MODEL, "batch": BATCH, "target": TARGET}
PROCESS_STATUS = Path("/proc/self/status")
LARGEST_RATIO = 1.6  # of capture to the explicit model's forward and backward


def make_model(fused: bool) -> nn.Module:
    """Build the model, with the weights of the reference data where there are any."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(MODEL, pretrained=False).eval()
    data = os.environ.get("CAPTUM_MDA_DATA")
    if data:
        model.load_state_dict(load_file(Path(data) / "models" / f"{MODEL}.safetensors"))
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    return model


def make_images() -> Tensor:
    return torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def capture_job() -> Callable[[], Any]:
    """All attention maps and their gradients."""
    adapter, images = resolve(make_model(fused=True)), make_images()

    def job() -> Any:
        seen = observe(adapter, images)
        score = seen.outputs[:, TARGET].sum()
        return seen.maps, torch.autograd.grad(score, seen.maps)

    return job


def plain_job(fused: bool, to: str) -> Callable[[], Any]:
    """Forward and backward of the model itself."""
    model, images = make_model(fused), make_images()

    def to_inputs() -> Any:
        inputs = images.clone().requires_grad_()
        return torch.autograd.grad(model(inputs)[:, TARGET].sum(), inputs)

    def to_parameters() -> Any:
        parameters = list(model.parameters())
        return torch.autograd.grad(model(images)[:, TARGET].sum(), parameters)

    model.requires_grad_(to == "parameters")
    return to_parameters if to == "parameters" else to_inputs


def forward_job() -> Callable[[], Any]:
    """One bare forward of the fused model."""
    model, images = make_model(fused=True), make_images()

    def job() -> Tensor:
        with torch.no_grad():
            outputs: Tensor = model(images)
        return outputs

    return job


JOBS: dict[str, Callable[[], Callable[[], Any]]] = {
    "forward": forward_job,
    "capture": capture_job,
    "explicit, to inputs": lambda: plain_job(False, "inputs"),
    "explicit, to parameters": lambda: plain_job(False, "parameters"),
    "fused, to inputs": lambda: plain_job(True, "inputs"),
    "fused, to parameters": lambda: plain_job(True, "parameters"),
}


def method_jobs() -> dict[str, Callable[[], Any]]:
    """Each method's maps of the same batch."""
    model, images = make_model(fused=True), make_images()

    def job(method: Method) -> Callable[[], Tensor]:
        attribution = build(method, model)

        def run() -> Tensor:
            with balanced(method, model):
                return attribution.attribute(images, TARGET, interpolate_mode=None)

        return run

    jobs: dict[str, Callable[[], Any]] = {}
    for method in white_box().values():
        jobs.setdefault(class_of(method).__name__, job(method))
    return jobs


def timed(
    jobs: Mapping[str, Callable[[], Any]], repetitions: int
) -> dict[str, list[float]]:
    """Run jobs in turn and note the processor seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repetition in range(repetitions + 1):
        for name, job in jobs.items():
            start = time.process_time()
            result = job()
            spent = time.process_time() - start
            del result
            if repetition:  # the first only warms up
                seconds[name].append(spent)
    return seconds


def summary(seconds: list[float], unit: float) -> dict[str, float]:
    median = statistics.median(seconds)
    return {
        "seconds": median,
        "least": min(seconds),
        "most": max(seconds),
        "ratio": median / unit,
    }


def peak_growth(name: str) -> float:
    """Run one job in a process of its own; tell by how many MB it grew per image."""
    command = [sys.executable, "-m", "benchmarks.capture", "--peak-of", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def own_peak_growth(name: str) -> float:
    """Tell by how many MB per image the peak of this process rises in a job."""
    job = JOBS[name]()
    nn.Conv2d(3, 4, 16)(torch.zeros(1, 3, 32, 32))  # the kernels load once
    before = peak_bytes()
    result = job()
    after = peak_bytes()
    del result
    return (after - before) / 1e6 / BATCH


def peak_bytes() -> int:
    """Read the most memory this process has had; getrusage's includes its parent's."""
    for line in PROCESS_STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{PROCESS_STATUS} has no VmHWM")


def map_bytes() -> dict[str, float]:
    """Compute the MB per image of all maps, and of their gradients."""
    maps, gradients = capture_job()()
    return {
        name: sum(each.numel() * each.element_size() for each in tensors) / 1e6 / BATCH
        for name, tensors in (("maps", maps), ("gradients", gradients))
    }


def print_table(title: str, rows: Mapping[str, Mapping[str, float]], unit: str) -> None:
    columns = ("seconds", "least", "most")
    print(f"\n{title:34}" + "".join(f"{name:>9}" for name in columns) + f"{unit:>20}")
    for name, row in rows.items():
        cells = "".join(f"{row[column]:9.3f}" for column in columns)
        print(f"{name:34}{cells}{row['ratio']:20.2f}")


def measure(repetitions: int, method_repetitions: int) -> dict[str, Any]:
    """Measure everything."""
    seconds = timed({name: make() for name, make in JOBS.items()}, repetitions)
    capture = statistics.median(seconds["capture"])
    passes = {name: summary(values, capture) for name, values in seconds.items()}
    for row in passes.values():
        row["ratio"] = 1.0 / row["ratio"]  # of capture to this
    print_table("forward and backward", passes, "capture is x times")
    seconds = timed(method_jobs(), method_repetitions)
    forward = passes["forward"]["seconds"]
    methods = {name: summary(values, forward) for name, values in seconds.items()}
    print_table("method", methods, "forwards")
    memory = map_bytes()
    if PROCESS_STATUS.exists():
        memory |= {f"peak, {name}": peak_growth(name) for name in JOBS}
    print("\nMB for each image")
    for name, megabytes in memory.items():
        print(f"{name:34}{megabytes:9.1f}")
    return {"passes": passes, "methods": methods, "megabytes_per_image": memory}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("capture.json"))
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--method-repetitions", type=int, default=3)
    parser.add_argument("--peak-of", choices=tuple(JOBS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print(own_peak_growth(arguments.peak_of))
        return
    settings = {
        "threads": torch.get_num_threads(),
        "repetitions": arguments.repetitions,
        "method_repetitions": arguments.method_repetitions,
    }
    result = measure(arguments.repetitions, arguments.method_repetitions)
    ratio = result["passes"]["explicit, to inputs"]["ratio"]
    verdict = "within" if ratio <= LARGEST_RATIO else "ABOVE"
    print(f"\ncapture / explicit, to inputs: {ratio:.2f}, {verdict} {LARGEST_RATIO}")
    write(arguments.out, result, MEASURED | settings)


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    columns = (Column(name="method"), Column(name="forwards", format=".1f"))
    rows = [
        {"method": Cell(name, code=True), "forwards": row["ratio"]}
        for name, row in found["methods"].items()
    ]
    told = {"table": markdown(columns, rows)}
    for name, row in found["passes"].items():
        told[name.replace(", ", "-").replace(" ", "-")] = f"{row['ratio']:.2f}"
    memory = found["megabytes_per_image"]
    told["map-megabytes"] = f"{memory['maps']:.1f}"
    for name in ("capture", "explicit, to inputs"):
        key = name.replace(", ", "-").replace(" ", "-")
        told[f"peak-{key}"] = f"{memory[f'peak, {name}']:.0f}"
    return told


if __name__ == "__main__":
    main()
