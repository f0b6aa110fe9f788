"""The index of the scripts: what each measures, its results, its pages, its versions.

    python -m benchmarks.index --write

writes README.md beside this file; ``--check`` says whether it is current.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, read, UNKNOWN
from captum_mda._files import replacing
from captum_mda.evaluate.tables import Cell, Column, Table

README = FOLDER / "README.md"


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script of this folder; what it measures is the first line of its docstring.

    Args:
        name (str): Of the module.
        pages (tuple[str, ...]): Where its figures stand, from the root.
        results (tuple[str, ...], optional): Its JSON files, without ending. Default: ()
        minutes (int, optional): How long it runs, on one core of a CPU. None: not
            recorded. Default: None
    """

    name: str
    pages: tuple[str, ...]
    results: tuple[str, ...] = ()
    minutes: int | None = None


def _script(name: str, *pages: str, minutes: int | None = None) -> Script:
    return Script(name=name, pages=pages, results=(name,), minutes=minutes)


ATTRIBUTION = "docs/attribution.md"
SCRIPTS = (
    _script("caap_blank", ATTRIBUTION, "CHANGELOG.md"),
    _script("caap_sweep", ATTRIBUTION, minutes=10),
    _script("capture", ATTRIBUTION),
    Script(name="conventions_figure", pages=("docs/metrics.md",)),
    Script(name="demo_training", pages=("README.md",)),
    _script("magnitudes", ATTRIBUTION),
    _script("mda_quality", "README.md"),
    Script(
        name="metrics",
        pages=("docs/metrics.md",),
        results=("metrics", "metrics_two_threads"),
    ),
    _script("metrics_table", "docs/metrics_table.md"),
    Script(name="models_table", pages=("docs/models.md",)),
    _script("ordering", ATTRIBUTION),
    _script("perturbation_methods", ATTRIBUTION),
    _script("precision", ATTRIBUTION),
    _script("quality", "docs/quality.md"),
    _script("speed", "docs/speed.md", ATTRIBUTION),
)
PARTS = (
    "demo_measures",
    "demo_training_data",
    "demo_weights",
    "explainers",
    "index",
    "model_families",
    "model_kinds",
    "models_run",
    "pages",
    "quality_figure",
    "quality_tables",
    "results",
    "scoring",
    "speed_page",
    "white_box",
)
"""Modules that measure nothing by themselves."""

INTRODUCTION = """\
# Benchmarks

Run a script from the root of the repository, as `python -m benchmarks.speed`; `--help`
lists its options. CAPTUM_MDA_DATA names the folder of the reference photos where a
script needs them. Minutes are those on one core of a CPU. Versions are those that the
JSON was measured with. Rows that were measured with other settings than those of the
script are refused.

A script writes its JSON; `python -m benchmarks.pages --write` then fills the marks in
the pages, and this page is written by `python -m benchmarks.index --write`. Tests check
both.
"""


def first_line(name: str) -> str:
    """Read the first line of a module's docstring, without importing the module."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0]


def versions_of(versions: Mapping[str, str | None]) -> str:
    """Write the versions that are recorded."""
    known = [f"{name} {each}" for name, each in versions.items() if each is not None]
    return ", ".join(known) or UNKNOWN


def _row(script: Script) -> dict[str, Any]:
    versions = dict.fromkeys(
        versions_of(read(name).versions) for name in script.results
    )
    return {
        "script": Cell(script.name, code=True),
        "what it measures": first_line(script.name),
        "JSON": Cell(", ".join(f"{each}.json" for each in script.results), code=True)
        if script.results
        else None,
        "page": Cell(", ".join(script.pages), code=True),
        "minutes": script.minutes,
        "last measured with": "; ".join(versions) or None,
    }


def page() -> str:
    """Write README.md."""
    missing = {"minutes": UNKNOWN, "JSON": "none", "last measured with": "no JSON"}
    rows = tuple(map(_row, SCRIPTS))
    scripts = Table(
        columns=tuple(
            Column(name=name, align="left", missing=missing.get(name, ""))
            for name in rows[0]
        ),
        rows=rows,
    )
    parts = Table(
        columns=tuple(
            Column(name=name, align="left") for name in ("part", "what it is")
        ),
        rows=tuple(
            {"part": Cell(name, code=True), "what it is": first_line(name)}
            for name in PARTS
        ),
    )
    return "\n".join([INTRODUCTION, scripts.to_markdown(), "", parts.to_markdown(), ""])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--write", action="store_true", help="write README.md")
    either.add_argument("--check", action="store_true", help="compare README.md")
    write_or_check({README: page()}, parser.parse_args().write, "benchmarks.index")


def write_or_check(made: Mapping[Path, str], write: bool, module: str) -> None:
    """Write pages, or exit with the names of those that are not as they are made."""
    stale = [
        path
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale if write else ():
        with replacing(path) as beside:
            beside.write_text(made[path], encoding="utf-8")
    if stale and not write:
        names = ", ".join(path.name for path in stale)
        raise SystemExit(f"{names}: not current; run python -m {module} --write")


if __name__ == "__main__":
    main()
