"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Photos to explain; with the demo model none are needed.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(metavar="NAME", help="A timm model, or the embedded one, 'demo'."),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The timm model's weights, a .safetensors file."),
]
Pretrained = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--no-pretrained",
        help="Let timm download weights; the default where --weights is missing.",
        show_default=False,
    ),
]
Target = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="The class to explain.  [default: each image's likeliest]"
    ),
]
DeletionBaseline = Annotated[
    str,
    typer.Option(
        metavar="mean|black",
        help="The colour of a deleted patch: the data's mean, or black.",
    ),
]
PatchSize = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="The patches' side.  [default: the model's]"),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Images in one forward.  [default: as many as fit]"),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Samples = Annotated[
    int,
    typer.Option(metavar="N", help="How many demo samples, where no IMAGE is given."),
]
SampleSeed = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Which demo samples; the model was trained on those of 0 and 1.",
    ),
]
Progress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
]
Out = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where the files go; it is made if missing."),
]
OUT = Path("captum-mda-output")
"""The default of `Out`."""
