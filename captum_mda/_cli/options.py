"""The options of the commands: one dataclass for each, from which Typer reads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints, TypeVar

import typer

from captum_mda._cli.method_option import completed_methods
from captum_mda._spelling import require_choice
from captum_mda.evaluate._arguments import require_file

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
"""The words that options take; a test holds it to the modules that know them, which
take seconds to import."""

SAMPLES, SAMPLE_SEED = 4, 2
"""How many samples the demo explains, and which; the defaults of the options."""

_ORDERING_HELP = (
    "The search: paper, the published one; fast, a seventh of its forwards; relaxed, a "
    "fifth, from a seed that gradients find; joint, two fifths, by both metrics again "
    "and again; auto: relaxed for more than 100 patches, else joint."
)


def _completing(option: str) -> Callable[[str], list[str]]:
    """Make what completes an option's words in a shell."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in CHOICES[option] if word.startswith(incomplete)]

    return complete


def _words(option: str, help: str, **more: Any) -> Any:
    """Describe an option that takes one of some words."""
    return typer.Option(
        metavar="|".join(CHOICES[option]),
        autocompletion=_completing(option),
        help=help,
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which images, which model, and what its outputs mean."""

    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Photos to explain, or folders of photos; without any, the demo model "
            "explains samples of its own.",
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A timm model, such as deit_tiny_patch16_224; images of your own need "
            "it. The embedded toy model, 'demo', knows the shapes of its samples alone."
            "  [default: demo, where no IMAGE is given]",
        ),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The timm model's weights: .safetensors, or a state dict or "
            "checkpoint of torch.save (.pth, .pt, .ckpt). No code in it is run.",
        ),
    ] = None
    weights_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Which weights of a file with several, such as state_dict_ema.",
        ),
    ] = None
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--no-pretrained",
            help="Let timm download weights; the default where --weights is missing.",
        ),
    ] = None
    num_classes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The model's number of classes.  [default: as the weights say, or "
            "timm]",
        ),
    ] = None
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--model-arg",
            metavar="KEY=VALUE",
            help="An argument of timm.create_model, such as img_size=384; may be "
            "repeated.",
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The classes' names: a name on each line, or JSON.",
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="The class to explain, by index or name.  [default: each image's "
            "likeliest]",
        ),
    ] = None
    score: Annotated[
        str,
        _words(
            "--score",
            "What is made of the model's outputs: softmax for one class of several, "
            "sigmoid for several at once or a single yes or no, identity for numbers.",
        ),
    ] = "softmax"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How images are read and replaced, and where the results go."""

    background: Annotated[
        str,
        typer.Option(
            metavar="COLOUR",
            help="What lies behind transparent pixels: white, black, #rrggbb.",
        ),
    ] = "white"
    deletion_baseline: Annotated[
        str,
        _words(
            "--deletion-baseline",
            "The colour of a deleted patch: the data's mean, or black.",
        ),
    ] = "mean"
    patch_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="The patches' side.  [default: the model's]"
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Images in one forward.  [default: as many as fit]"
        ),
    ] = None
    device: Annotated[str, _words("--device", "Where to compute.")] = "auto"
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many demo samples, where no IMAGE is given.  "
            f"[default: {SAMPLES}]",
        ),
    ] = None
    sample_seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Which demo samples; the model was trained on those of 0 and 1.  "
            f"[default: {SAMPLE_SEED}]",
        ),
    ] = None
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
    ] = True
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the files go; it is made if missing."),
    ] = Path("captum-mda-output")
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace files that an earlier run has left in --out; else it is "
            "refused.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How MDA searches and weighs; see `SearchSettings`."""

    seed_method: Annotated[
        str,
        _words(
            "--seed-method",
            "The seed, an attribution to choose candidates by, which saves most of the "
            "forwards. auto: bi-attn, as in the MDA tables, if the model is a Vision "
            "Transformer that can be looked into, else none.",
        ),
    ] = "auto"
    seed_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A seed of your own: .npy or .safetensors, one number for each patch "
            "or pixel, and for several images one map each.",
        ),
    ] = None
    tau: Annotated[
        float,
        typer.Option(
            metavar="X", help="The response at which insertion hands over to deletion."
        ),
    ] = 0.9
    gamma: Annotated[
        float,
        typer.Option(
            metavar="X", help="The map that is scored, from sparse, 0, to dense, 1."
        ),
    ] = 0.0
    kappa: Annotated[
        float,
        typer.Option(
            metavar="X", help="The magnitude from which on a patch counts as important."
        ),
    ] = 0.005
    solver: Annotated[str, _words("--solver", "What fits the density.")] = "nnls"
    magnitude: Annotated[
        str,
        _words(
            "--magnitude",
            "The rule of the magnitudes; mas: those that MAS scores reward most.",
        ),
    ] = "reference"
    ordering: Annotated[str, _words("--ordering", _ORDERING_HELP)] = "auto"
    precision: Annotated[
        str | None,
        _words(
            "--precision",
            "Screen candidates in bfloat16 and decide near ties in float32, which "
            "saves time where the hardware computes in bfloat16.  [default: float32 "
            "throughout]",
        ),
    ] = None
    refine: Annotated[
        int,
        typer.Option(help="Passes of local moves that improve the order found."),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class ChoiceOfMethods:
    """Which maps are compared, and how."""

    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            autocompletion=completed_methods,
            help="The methods, in the order of the panels, with commas between; may be "
            "repeated. Their names are listed below.",
        ),
    ] = None
    ordering: Annotated[
        str | None,
        _words(
            "--ordering",
            f"Of the method mda. {_ORDERING_HELP}  [default: auto]",
        ),
    ] = None
    scores: Annotated[
        bool,
        typer.Option(
            "--scores/--no-scores",
            help="Score each map, by some 450 forwards; or only draw the maps.",
        ),
    ] = True


class CommonOptions(RunOptions, ModelOptions):
    """The options that every command has, and their checks."""

    def check(self) -> None:
        """Check what needs neither PyTorch nor the images.

        Raises:
            ValueError: A word is of no choice, a file is missing, or images have no
                model that they are for.
        """
        for each in fields(self):
            option, value = f"--{each.name.replace('_', '-')}", getattr(self, each.name)
            if option in CHOICES and value is not None:
                require_choice(option, value, CHOICES[option])
        if self.images and self.model is None:
            raise ValueError(
                "--model: got none, and images of your own need one; pass --model "
                "NAME, such as --model deit_tiny_patch16_224 (with --weights FILE for "
                "weights of your own), or --model demo for the toy model, which knows "
                "only the shapes of its samples"
            )
        for name in ("weights", "labels", "seed_map"):
            path = getattr(self, name, None)
            if path is not None:
                require_file(name, path)


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(CommonOptions, RunOptions, SearchOptions, ModelOptions):
    """What ``captum-mda explain`` takes."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CommonOptions, RunOptions, ChoiceOfMethods, ModelOptions):
    """What ``captum-mda compare`` takes."""


Options = TypeVar("Options")


def taking(
    options: type[Options],
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let a command take its options as one dataclass.

    Args:
        options (type): A dataclass whose fields are annotated as Typer reads them.

    Returns:
        *callable*: a decorator. Typer sees a function that has the fields as its
        parameters; the command gets an instance of the dataclass.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(options)  # type: ignore[arg-type]
    ]

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            command(options(**values))

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {name: hints[name] for name in hints}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate
