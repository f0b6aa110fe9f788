"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from captum_mda._spelling import require_choice

CHOICES = {
    "--deletion-baseline": ("mean", "black"),
    "--device": ("auto", "cpu", "cuda"),
    "--magnitude": ("reference", "paper", "increment", "mas"),
    "--ordering": ("paper", "fast", "joint", "relaxed", "auto"),
    "--precision": ("bf16",),
    "--score": ("softmax", "identity", "sigmoid"),
    "--seed-method": ("auto", "bi-attn", "legrad", "none"),
    "--solver": ("nnls", "osqp"),
}
"""What options take that take words; a test holds it to the modules that know them,
which take seconds to import."""


def require_choices(**values: str | None) -> None:
    """Raise a ValueError if an option has none of its words; None is no value."""
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None:
            require_choice(option, value, CHOICES[option])


def require_model(images: Sequence[Path] | None, model: str | None) -> None:
    """Raise a ValueError if there are images, and no model that they are for."""
    if images and model is None:
        raise ValueError(
            "--model: got none, and images of your own need one; pass --model NAME, "
            "such as --model deit_tiny_patch16_224 (with --weights FILE for weights of "
            "your own), or --model demo for the toy model, which knows only the shapes "
            "of its samples"
        )


def require_files(**paths: Path | None) -> None:
    """Raise a ValueError if a path does not exist; a pipe, as a shell's <(…), does."""
    for name, path in paths.items():
        if path is not None and not path.exists():
            raise ValueError(f"--{name.replace('_', '-')}: there is no file {path}")


def completing(option: str) -> Callable[[str], list[str]]:
    """Make what completes an option's words in a shell."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in CHOICES[option] if word.startswith(incomplete)]

    return complete


Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Photos to explain, or folders of photos; without any, the demo model "
        "explains samples of its own.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A timm model, such as deit_tiny_patch16_224; images of your own need it. "
        "The embedded toy model, 'demo', knows the shapes of its samples alone.  "
        "[default: demo, where no IMAGE is given]",
        show_default=False,
    ),
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="KEY=VALUE",
        help="An argument of timm.create_model, such as img_size=384; may be repeated.",
        show_default=False,
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="The model's number of classes.  [default: as the weights say, or timm]",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The timm model's weights: .safetensors, or a state dict or checkpoint of "
        "torch.save (.pth, .pt, .ckpt). No code in it is run.",
        show_default=False,
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Which weights of a file with several, such as state_dict_ema.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The classes' names: a name on each line, or JSON.",
        show_default=False,
    ),
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
    str | None,
    typer.Option(
        metavar="CLASS",
        help="The class to explain, by index or name.  [default: each image's "
        "likeliest]",
        show_default=False,
    ),
]
Score = Annotated[
    str,
    typer.Option(
        metavar="|".join(CHOICES["--score"]),
        autocompletion=completing("--score"),
        help="What is made of the model's outputs: softmax for one class of several, "
        "sigmoid for several at once or a single yes or no, identity for numbers.",
    ),
]
Background = Annotated[
    str,
    typer.Option(
        metavar="COLOUR",
        help="What lies behind transparent pixels: white, black, #rrggbb.",
    ),
]
DeletionBaseline = Annotated[
    str,
    typer.Option(
        metavar="|".join(CHOICES["--deletion-baseline"]),
        autocompletion=completing("--deletion-baseline"),
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
Device = Annotated[
    str,
    typer.Option(
        metavar="|".join(CHOICES["--device"]),
        help="Where to compute.",
        autocompletion=completing("--device"),
    ),
]
SAMPLES, SAMPLE_SEED = 4, 2
"""How many samples the demo explains, and which; the defaults of what follows."""
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"How many demo samples, where no IMAGE is given.  [default: {SAMPLES}]",
        show_default=False,
    ),
]
SampleSeed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which demo samples; the model was trained on those of 0 and 1.  "
        f"[default: {SAMPLE_SEED}]",
        show_default=False,
    ),
]
Progress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
]
Out = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where the files go; it is made if missing."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that an earlier run has left in --out; else it is refused.",
    ),
]
ORDERING_HELP = (
    "The search: paper, the published one; fast, a seventh of its forwards; relaxed, a "
    "fifth, from a seed that gradients find; joint, two fifths, by both metrics again "
    "and again; auto: relaxed for more than 100 patches, else joint."
)
OUT = Path("captum-mda-output")
"""The default of `Out`."""
