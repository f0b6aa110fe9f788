"""Every white-box method on every family of models: what runs, and how exact it is.

Builds stock models with random weights (nothing is downloaded), runs each method on
each of them, and measures in float64 how well LibraGrad's gradients and the relevance
rules account for the outputs. Writes the page docs/models.md:

    python -m benchmarks.models_table --out docs/models.md

A cell is a tick only if the map is finite, of the patch grid's shape and not flat
for each image; otherwise the page says what went wrong.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.model_families import Model, MODELS
from benchmarks.model_kinds import section
from benchmarks.models_run import (
    columns,
    LEAST_SPREAD,
    measured,
    N_IMAGES,
    N_STEPS,
    Row,
    TICK,
)
from benchmarks.scoring import markdown
from benchmarks.white_box import class_of
from captum_mda._files import replacing
from captum_mda.evaluate.tables import Cell, Column

LIBRARIES = (
    "torch",
    "captum",
    "timm",
    "torchvision",
    "transformers",
    "open_clip_torch",
)


def named(model: Model) -> dict[str, Any]:
    """Make the first cells of a row."""
    name = Cell(model.name, code=True)
    return {"library": model.library, "family": model.family, "model": name}


def table(rows: Sequence[Mapping[str, Any]], missing: str = "") -> str:
    """Write rows whose keys are the heads."""
    heads = dict.fromkeys(head for row in rows for head in row)
    return markdown([Column(name=head, missing=missing) for head in heads], rows)


def runs_table(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Write what runs; return what does not, too, by the numbers in the table."""
    failures: list[str] = []

    def mark(row: Row, head: str) -> str:
        found = row.cells.get(head, "-")
        if found in (TICK, "-"):
            return found
        failures.append(f"{row.model.name}, {head}: {found}")
        return f"[{len(failures)}]"

    cells = [
        {
            **named(row.model),
            "pooling": row.pooling or "-",
            "prefix": row.n_prefix_tokens or "-",
            **{head: mark(row, head) for head in columns()},
        }
        for row in rows
    ]
    return table(cells), failures


def errors_table(rows: Sequence[Row]) -> str:
    """Write how exact gradients and relevances are."""
    return table(
        [
            {
                **named(row.model),
                "built": row.model.note or "as it is",
                "LibraGrad": f"{row.errors[0]:.0e}",
                "plain": f"{row.errors[1]:.0e}",
                "LRP": f"{row.errors[2]:.0e}",
            }
            for row in rows
        ]
    )


def legend() -> list[str]:
    """Say how the method of each column is built."""
    lines = []
    for head, method in columns().items():
        given = ", ".join(f'{name}="{value}"' for name, value in method.options.items())
        under = " under `LibraGrad`" if method.libra else ""
        lines.append(f"- {head}: `{class_of(method).__name__}({given})`{under}")
    return lines


def page(rows: Sequence[Row]) -> str:
    """Write the whole page."""
    runs, failures = runs_table(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return "\n".join(
        [
            INTRODUCTION.format(python=platform.python_version(), versions=versions),
            section(),
            "## Methods and models",
            "",
            RUNS.format(n_images=N_IMAGES, n_steps=N_STEPS, least_spread=LEAST_SPREAD),
            runs,
            "",
            *(f"[{number}] {failure}" for number, failure in enumerate(failures, 1)),
            REFUSED,
            *legend(),
            "",
            "## How exact the gradients and relevances are",
            "",
            ERRORS,
            errors_table(rows),
            "",
        ]
    )


INTRODUCTION = """\
# Models

Made by `python -m benchmarks.models_table --out docs/models.md`, which runs everything
that it reports. All weights are random, nothing is downloaded. For another model write
an adapter, see [adapters.md](adapters.md).

On the CPU with Python {python}, {versions}.
"""
RUNS = """\
A tick: the method's maps of {n_images} images are finite, of the patch grid's shape and
not flat: highest less lowest is at least {least_spread:.0%} of the mean absolute value.
They are for the images' largest outputs; where the map of one is flat
(Grad-CAM's is zero, and it warns, where no gradient is positive), for the next, up to
the fourth. Methods that average along a path took {n_steps} steps. *Pooling* is how
tokens become one vector: the class token, the mean, both, or an attention pooler
("map"); *prefix* counts the tokens before the patches.
"""
REFUSED = """\
A dash: not applicable. MLP-Mixer has no attention, and Swin attends within shifted
windows and merges tokens, so that no row of attention covers the image; the methods
refuse both with a ValueError. `LibraGrad` and Captum's gradient methods under it run on
them all the same, see the second table.
"""
ERRORS = """\
In float64, for the largest output of one image, relative to it.

- *LibraGrad*: how far tokens times gradients plus biases times gradients are from the
  output under `LibraGrad` (`TokenInputXGradient.completeness`; from the pixels on for
  models without an adapter). 0 but for rounding is completeness.
- *plain*: the same with plain gradients.
- *LRP*: how much of the relevance that leaves the output does not reach the input of
  the first block under `captum_mda.backward.RelevancePropagation`.
"""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models.md"))
    parser.add_argument("--models", nargs="*", help="names; default: all")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # open_clip notes random weights
    warnings.simplefilter("ignore")
    rows = []
    for model in MODELS:
        if arguments.models and model.name not in arguments.models:
            continue
        start = time.process_time()
        row = measured(model)
        rows.append(row)
        bad = {name: text for name, text in row.cells.items() if text != TICK}
        seconds = time.process_time() - start
        print(f"{seconds:5.1f} s {model.library} {model.name} {row.errors} {bad}")
    with replacing(arguments.out) as beside:
        beside.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
