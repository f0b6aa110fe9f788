"""What the command line takes; the work is in the modules of the commands' names.

PyTorch, timm and matplotlib are imported by the commands, not by this module.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from captum_mda._cli.file_names import showable
from captum_mda._cli.method_option import (
    chosen_methods,
    completed_methods,
    methods_help,
    MethodsCommand,
)
from captum_mda._cli.options import (
    Background,
    BatchSize,
    CHOICES,
    completing,
    DeletionBaseline,
    Device,
    Images,
    Labels,
    Model,
    ModelArgs,
    NumClasses,
    ORDERING_HELP,
    OUT,
    Out,
    Overwrite,
    PatchSize,
    Pretrained,
    Progress,
    require_choices,
    require_files,
    require_model,
    Samples,
    SampleSeed,
    Score,
    Target,
    Weights,
    WeightsKey,
)

app = typer.Typer(
    name="captum-mda",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_STOPPED = 130  # what shells return for a command that Ctrl-C ended


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
def _one_line_errors(out: Path) -> Iterator[None]:
    """Show what the user can mend, or that they stopped, as a line, not a traceback."""
    started = time.time() - 1.0  # file systems round their times
    try:
        yield
    except KeyboardInterrupt as error:
        _note(f"captum-mda: stopped; {_kept(out, started)}")
        raise typer.Exit(_STOPPED) from error
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        _note(f"captum-mda: error: {message}")
        raise typer.Exit(2) from error


def _kept(out: Path, since: float) -> str:
    """Say what a command that was interrupted has written into its folder."""
    files = list(out.iterdir()) if out.is_dir() else []
    new = [path for path in files if path.is_file() and path.stat().st_mtime >= since]
    if not new:
        return f"nothing was written to {out}"
    count = "1 file is" if len(new) == 1 else f"{len(new)} files are"
    tables = [path.name for path in new if path.suffix == ".csv"]
    rows = f"; {tables[0]} has the rows of finished images" if tables else ""
    return f"{count} in {out} of what was finished{rows}"


def _finish(errors: Sequence[str | None], files: str, table: str, out: Path) -> None:
    """Say where the results are, and exit with 1 if a row has an error."""
    if all(errors):
        _note(f"every row has an error; the table, {table}, is in {out}")
    else:
        _note(f"{files} and {table} are in {out}")
    if any(errors):
        raise typer.Exit(1)


def _note(text: str) -> None:
    """Say something that does not belong to the result."""
    _say(showable(text), sys.stderr)


def _say(text: str, stream: TextIO) -> None:
    """Write lines, with escapes for what the terminal's encoding has no letter for."""
    encoding = stream.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


@app.command()
def explain(
    images: Images = None,
    model: Model = None,
    weights: Weights = None,
    weights_key: WeightsKey = None,
    pretrained: Pretrained = None,
    num_classes: NumClasses = None,
    model_arg: ModelArgs = None,
    labels: Labels = None,
    target: Target = None,
    score: Score = "softmax",
    seed_method: Annotated[
        str,
        typer.Option(
            metavar="|".join(CHOICES["--seed-method"]),
            autocompletion=completing("--seed-method"),
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
        str,
        typer.Option(
            metavar="|".join(CHOICES["--solver"]),
            autocompletion=completing("--solver"),
            help="What fits the density.",
        ),
    ] = "nnls",
    magnitude: Annotated[
        str,
        typer.Option(
            metavar="|".join(CHOICES["--magnitude"]),
            autocompletion=completing("--magnitude"),
            help="The rule of the magnitudes; mas: those that MAS scores reward most.",
        ),
    ] = "reference",
    ordering: Annotated[
        str,
        typer.Option(
            metavar="|".join(CHOICES["--ordering"]),
            autocompletion=completing("--ordering"),
            help=ORDERING_HELP,
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(CHOICES["--precision"]),
            autocompletion=completing("--precision"),
            help="Screen candidates in bfloat16 and decide near ties in float32, which "
            "saves time where the hardware computes in bfloat16.  [default: float32 "
            "throughout]",
            show_default=False,
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(help="Passes of local moves that improve the order found."),
    ] = 0,
    background: Background = "white",
    deletion_baseline: DeletionBaseline = "mean",
    patch_size: PatchSize = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    samples: Samples = None,
    sample_seed: SampleSeed = None,
    progress: Progress = True,
    out: Out = OUT,
    overwrite: Overwrite = False,
) -> None:
    """Explain the class of each image by its patches.

    Writes a figure (.png) and the explanation (.safetensors) of each image and a table
    of all scores (scores.csv), and prints the table. Its forwards and seconds are those
    of the search, without the seed's, and with --precision bf16 the forwards that were
    in bfloat16 stand beside them; the kernel is the side of the blur that insertion
    starts from.
    """
    with _one_line_errors(out):
        require_choices(
            seed_method=seed_method,
            solver=solver,
            magnitude=magnitude,
            ordering=ordering,
            precision=precision,
            score=score,
            device=device,
            deletion_baseline=deletion_baseline,
        )
        require_model(images, model)
        require_files(weights=weights, labels=labels, seed_map=seed_map)
        from captum_mda._cli.explain import explain_images, ExplainOptions
        from captum_mda._cli.image import Search
        from captum_mda._cli.preparation import CommonOptions, ModelOptions
        from captum_mda._cli.table import format_table, SCORES_NOTE, SEARCH_NOTE

        common = CommonOptions(
            images=tuple(images or ()),
            model=ModelOptions(
                model=model,
                weights=weights,
                weights_key=weights_key,
                pretrained=pretrained,
                num_classes=num_classes,
                model_args=tuple(model_arg or ()),
                labels=labels,
                score=score,
                patch_size=patch_size,
                device=device,
            ),
            target=target,
            background=background,
            deletion_baseline=deletion_baseline,
            batch_size=batch_size,
            samples=samples,
            sample_seed=sample_seed,
            show_progress=progress,
            out=out,
            overwrite=overwrite,
        )
        search = Search(
            tau=tau,
            gamma=gamma,
            kappa=kappa,
            solver=solver,
            magnitude=magnitude,
            ordering=ordering,
            precision=precision,
            refine=refine,
        )
        options = ExplainOptions(common, search, seed_method, seed_map)
        rows = explain_images(options, _note)
        _say(format_table(rows), sys.stdout)
        if any(row.error is None for row in rows):
            _note(f"{SCORES_NOTE} {SEARCH_NOTE}")
        _finish([row.error for row in rows], "figures, explanations", "scores.csv", out)


@app.command(cls=MethodsCommand, epilog=methods_help())
def compare(
    images: Images = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            autocompletion=completed_methods,
            help="The methods, in the order of the panels: words up to the next option "
            "or to a path, or with commas between. Their names are listed below.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    weights: Weights = None,
    weights_key: WeightsKey = None,
    pretrained: Pretrained = None,
    num_classes: NumClasses = None,
    model_arg: ModelArgs = None,
    labels: Labels = None,
    target: Target = None,
    score: Score = "softmax",
    ordering: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(CHOICES["--ordering"]),
            autocompletion=completing("--ordering"),
            help=f"Of the method mda. {ORDERING_HELP}  [default: auto]",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores/--no-scores",
            help="Score each map, by some 450 forwards; or only draw the maps.",
        ),
    ] = True,
    background: Background = "white",
    deletion_baseline: DeletionBaseline = "mean",
    patch_size: PatchSize = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    samples: Samples = None,
    sample_seed: SampleSeed = None,
    progress: Progress = True,
    out: Out = OUT,
    overwrite: Overwrite = False,
) -> None:
    """Compare the maps of several methods on each image.

    Writes a figure of all maps (NAME-compare.png) of each image and a table of all
    scores (comparison.csv), and prints the table. Its seconds are those of the map, to
    whose scores some 450 forwards are added. A map with negative values is scored by
    its absolute value, as in the MDA tables.

    A method that cannot explain an image gets an error in place of scores, and the exit
    code is then 1.
    """
    with _one_line_errors(out):
        chosen = chosen_methods(methods or ())
        require_choices(
            ordering=ordering,
            score=score,
            device=device,
            deletion_baseline=deletion_baseline,
        )
        require_model(images, model)
        require_files(weights=weights, labels=labels)

        from captum_mda._cli.compare import compare_images, CompareOptions
        from captum_mda._cli.comparison import format_comparison
        from captum_mda._cli.preparation import CommonOptions, ModelOptions
        from captum_mda._cli.table import SCORES_NOTE

        common = CommonOptions(
            images=tuple(images or ()),
            model=ModelOptions(
                model=model,
                weights=weights,
                weights_key=weights_key,
                pretrained=pretrained,
                num_classes=num_classes,
                model_args=tuple(model_arg or ()),
                labels=labels,
                score=score,
                patch_size=patch_size,
                device=device,
            ),
            target=target,
            background=background,
            deletion_baseline=deletion_baseline,
            batch_size=batch_size,
            samples=samples,
            sample_seed=sample_seed,
            show_progress=progress,
            out=out,
            overwrite=overwrite,
        )
        rows = compare_images(CompareOptions(common, chosen, ordering, scores), _note)
        _say(format_comparison(rows), sys.stdout)
        if any(row.insertion is not None for row in rows):
            _note(f"{SCORES_NOTE} seconds: of the map.")
        _finish([row.error for row in rows], "figures", "comparison.csv", out)
