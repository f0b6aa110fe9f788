"""What the command line takes; the work is in `captum_mda._cli.explain`.

PyTorch, timm and matplotlib are imported by the commands, not by this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="captum-mda",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import captum_mda

        typer.echo(f"captum-mda {captum_mda.__version__}")
        raise typer.Exit()


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Metric-driven attributions for Vision Transformers."""


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Show what the user can mend as one line instead of a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        typer.echo(f"captum-mda: error: {message}", err=True)
        raise typer.Exit(2) from error


def _note(text: str) -> None:
    """Say something that does not belong to the result."""
    typer.echo(text, err=True)


@app.command()
def explain(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Photos to explain; with the demo model none are needed.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="A timm model, or the embedded one, 'demo'."),
    ] = "demo",
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The timm model's weights, a .safetensors file."
        ),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--no-pretrained",
            help="Let timm download weights; the default where --weights is missing.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The class to explain.  [default: each image's likeliest]"
        ),
    ] = None,
    seed_method: Annotated[
        str,
        typer.Option(
            metavar="auto|bi-attn|legrad|none",
            help="The seed, an attribution to choose candidates by, which saves most "
            "of the forwards. auto: bi-attn, as in the MDA tables, if the model is a "
            "Vision Transformer that can be looked into, else none.",
        ),
    ] = "auto",
    seed_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A seed of your own: .npy or .safetensors, one number for each patch "
            "or pixel, and for several images one map each.",
        ),
    ] = None,
    tau: Annotated[
        float,
        typer.Option(
            metavar="X", help="The response at which insertion hands over to deletion."
        ),
    ] = 0.9,
    gamma: Annotated[
        float,
        typer.Option(
            metavar="X", help="The map that is scored, from sparse, 0, to dense, 1."
        ),
    ] = 0.0,
    kappa: Annotated[
        float,
        typer.Option(
            metavar="X", help="The magnitude from which on a patch counts as important."
        ),
    ] = 0.005,
    solver: Annotated[
        str, typer.Option(metavar="nnls|osqp", help="What fits the density.")
    ] = "nnls",
    magnitude: Annotated[
        str,
        typer.Option(
            metavar="reference|paper|increment", help="The rule of the magnitudes."
        ),
    ] = "reference",
    deletion_baseline: Annotated[
        str,
        typer.Option(
            metavar="mean|black",
            help="The colour of a deleted patch: the data's mean, or black.",
        ),
    ] = "mean",
    patch_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="The patches' side.  [default: the model's]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Images in one forward.  [default: as many as fit]"
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")
    ] = "auto",
    samples: Annotated[
        int,
        typer.Option(
            metavar="N", help="How many demo samples, where no IMAGE is given."
        ),
    ] = 4,
    sample_seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Which demo samples; the model was trained on those of 0 and 1.",
        ),
    ] = 2,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show progress bars.")
    ] = True,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the files go; it is made if missing."),
    ] = Path("captum-mda-output"),
) -> None:
    """Explain the class of each image by its patches.

    Writes a figure (.png) and the explanation (.safetensors) of each image and a table
    of all scores (scores.csv), and prints the table. Its forwards and seconds are those
    of the search, without the seed's; the kernel is the side of the blur that insertion
    starts from.
    """
    with _one_line_errors():
        from captum_mda._cli.explain import explain_images, ExplainOptions
        from captum_mda._cli.image import Settings
        from captum_mda._cli.table import format_table

        settings = Settings(
            target=target,
            tau=tau,
            gamma=gamma,
            kappa=kappa,
            solver=solver,
            magnitude=magnitude,
            deletion_baseline=deletion_baseline,
            batch_size=batch_size,
            show_progress=progress,
            out=out,
        )
        options = ExplainOptions(
            images=tuple(images or ()),
            model=model,
            weights=weights,
            pretrained=pretrained,
            patch_size=patch_size,
            device=device,
            seed_method=seed_method,
            seed_map=seed_map,
            samples=samples,
            sample_seed=sample_seed,
            settings=settings,
        )
        rows = explain_images(options, _note)
        typer.echo(format_table(rows))
        _note(f"figures, explanations and scores.csv are in {out}")
    if any(row.error for row in rows):
        raise typer.Exit(1)
