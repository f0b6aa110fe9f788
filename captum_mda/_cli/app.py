"""The commands of the command line; what they do is in `captum_mda.evaluate`.

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

from captum_mda._cli.method_option import chosen_methods, methods_help
from captum_mda._cli.options import CompareOptions, ExplainOptions, taking
from captum_mda._cli.words import as_option
from captum_mda.evaluate._arguments import message_of
from captum_mda.evaluate._file_names import showable

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
        message = " ".join(message_of(error, as_option).split())
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
@taking(ExplainOptions)
def explain(options: ExplainOptions) -> None:
    """Explain the class of each image by its patches.

    Writes a figure (.png) and the explanation (.safetensors) of each image and a table
    of all scores (scores.csv), and prints the table. Its forwards and seconds are those
    of the search, without the seed's, and with --precision bf16 the forwards that were
    in bfloat16 stand beside them; the kernel is the side of the blur that insertion
    starts from.
    """
    with _one_line_errors(options.out):
        options.check()
        from captum_mda._cli.run import explain_images
        from captum_mda.evaluate._rows import format_explained, SCORES_NOTE, SEARCH_NOTE

        rows = explain_images(options, _note)
        _say(format_explained(rows), sys.stdout)
        if any(row.error is None for row in rows):
            _note(f"{SCORES_NOTE} {SEARCH_NOTE}")
        errors = [row.error for row in rows]
        _finish(errors, "figures, explanations", "scores.csv", options.out)


@app.command(epilog=methods_help())
@taking(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Compare the maps of several methods on each image.

    Writes a figure of all maps (NAME-compare.png) of each image and a table of all
    scores (comparison.csv), and prints the table. Its seconds are those of the map, to
    whose scores some 450 forwards are added. A map with negative values is scored by
    its absolute value, as in the MDA tables.

    A method that cannot explain an image gets an error in place of scores, and the exit
    code is then 1.
    """
    with _one_line_errors(options.out):
        methods = chosen_methods(options.methods or ())
        options.check()
        from captum_mda._cli.run import compare_images
        from captum_mda.evaluate._rows import format_compared, SCORES_NOTE

        rows = compare_images(options, methods, _note)
        _say(format_compared(rows), sys.stdout)
        if any(row.insertion is not None for row in rows):
            _note(f"{SCORES_NOTE} seconds: of the map.")
        errors = [row.error for row in rows]
        _finish(errors, "figures", "comparison.csv", options.out)
