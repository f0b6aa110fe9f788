"""What screening in bfloat16 saves: forwards in either precision, and the scores.

Explains photos with DeiT-Tiny by the fast search, once in float32 and once with
``precision="bf16"``, on the exact patch grid as mda_quality.py does.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.precision

prints a table and writes precision.json beside itself. Forwards in bfloat16 count as
33/83 of one in float32, the ratio of a CPU that computes in bfloat16 (AVX512-BF16). On
CPUs that do not, bfloat16 is slow, so it is emulated at the speed of float32: weights,
inputs and outputs of all layers that autocast runs in bfloat16 are rounded to it;
``--real`` lets autocast do it.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional
from tqdm import tqdm

from benchmarks.mda_quality import Reference
from benchmarks.results import path_of, write
from benchmarks.scoring import markdown, MODEL, PHOTO_NAMES, short
from captum_mda import MetricDrivenAttribution
from captum_mda.evaluate.tables import Column

BF16_COST = 33 / 83
PARTITION = "exact"
MEASURED = {"model": MODEL, "partition": PARTITION, "bf16_cost": BF16_COST}
FORMATS = {"photo": "", "margin": ".3f", "Ins-Del": "+.3f"}


class Emulated:
    """A model; under autocast to bfloat16, one that rounds as autocast would."""

    def __init__(self, model: nn.Module) -> None:
        """Copy the model, with rounded weights."""
        self.model, self.rounding = model, copy.deepcopy(model)
        for module in self.rounding.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                with torch.no_grad():
                    for weights in module.parameters(recurse=False):
                        weights.copy_(rounded(weights))
                module.register_forward_pre_hook(
                    lambda _, inputs: tuple(rounded(each) for each in inputs)
                )
            if isinstance(module, nn.Linear | nn.Conv2d | nn.GELU):
                module.register_forward_hook(lambda _, inputs, output: rounded(output))

    def __call__(self, images: Tensor) -> Tensor:
        """Classify images."""
        if not torch.is_autocast_enabled("cpu"):
            logits: Tensor = self.model(images)
            return logits
        attend = functional.scaled_dot_product_attention

        def rounding(*args: Tensor, **options: object) -> Tensor:
            return rounded(attend(*(rounded(each) for each in args), **options))

        functional.scaled_dot_product_attention = rounding
        try:
            with torch.autocast("cpu", enabled=False):
                return rounded(self.rounding(images))
        finally:
            functional.scaled_dot_product_attention = attend


def rounded(values: Tensor) -> Tensor:
    """Round to bfloat16."""
    return values.to(torch.bfloat16).float()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    parser.add_argument("--photos", nargs="*", default=list(PHOTO_NAMES))
    parser.add_argument("--real", action="store_true", help="do not emulate")
    options = parser.parse_args()
    reference = Reference(Path(os.environ["CAPTUM_MDA_DATA"]))
    model = reference.model if options.real else Emulated(reference.model)
    rows = []
    for photo in tqdm(options.photos):
        question = reference.question(photo, PARTITION)
        in_float32, screened = (
            MetricDrivenAttribution(
                model, ordering="fast", precision=precision
            ).explain(**question)
            for precision in (None, "bf16")
        )
        areas = [
            float(torch.trapezoid(each.insertion_curve - each.deletion_curve))
            / each.order.shape[1]
            for each in (in_float32, screened)
        ]
        in_bf16 = int(screened.forwards_bf16)
        rows.append(
            {
                "photo": photo,
                "float32 alone": in_float32.n_forwards,
                "in bfloat16": in_bf16,
                "in float32": screened.n_forwards - in_bf16,
                "as float32": round(screened.n_forwards - (1 - BF16_COST) * in_bf16),
                "margin": round(float(screened.margin), 3),
                "Ins-Del": round(areas[1] - areas[0], 4),
            }
        )
        write(options.out, rows, MEASURED | {"emulated": not options.real})
    print(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows and their means."""
    names = list(rows[0])
    columns = [Column(name=name, format=FORMATS.get(name, ".0f")) for name in names]
    means = {name: mean(float(row[name]) for row in rows) for name in names}
    named = [row | {"photo": PHOTO_NAMES[row["photo"]]} for row in rows]
    return markdown(columns, [*named, means | {"photo": "mean"}])


def figures(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Make what the pages say of the rows."""
    loss = -min(row["Ins-Del"] for row in rows)
    return {"table": table(rows), "most-loss": short(loss, 2)}


if __name__ == "__main__":
    main()
