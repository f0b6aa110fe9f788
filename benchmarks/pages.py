"""The pages that say what was measured, filled from the results.

What stands between two marks is made of the results that the first one names::

    <!-- from benchmarks: speed.table -->

    | task | ...

    <!-- end -->

and within a line ``<!-- from benchmarks: speed.metrics-forwards -->449<!-- end -->``.
The name of a JSON file comes first; what follows is a key of its script's ``figures``.

    python -m benchmarks.pages --write

fills them; ``--check`` says which pages are not current.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from benchmarks.index import write_or_check
from benchmarks.results import DOCS, read, read_rows, ROOT

PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
MAKERS = {"metrics_two_threads": "metrics", "quality": "quality_tables"} | {
    "speed": "speed_page"
}
"""The modules that have ``figures`` where these are not named like the results."""
SCRIPTS = {"metrics_two_threads": "metrics"}
"""The scripts that measure, where these are not named like the results."""
Figure: TypeAlias = str | Callable[[], str]
"""A text, or what makes it where that takes time."""
_MARKED = re.compile(
    r"(?P<begin><!-- from benchmarks: (?P<name>\w+)\.(?P<key>[^ ]+) -->)"
    r"(?P<space>\n\n)?.*?(?P=space)?(?P<end><!-- end -->)",
    re.DOTALL,
)


@cache
def figures(name: str) -> Mapping[str, Figure]:
    """Make what can be said of a file of results, which has the present settings.

    Raises:
        ValueError: Its rows are stale.
    """
    measured = import_module(f"benchmarks.{SCRIPTS.get(name, name)}").MEASURED
    rows = read_rows(name, {**read(name).settings, **measured})
    make: Callable[..., Mapping[str, Figure]] = import_module(
        f"benchmarks.{MAKERS.get(name, name)}"
    ).figures
    return make(rows)


def filled(page: str) -> str:
    """Fill in what stands between marks; all else stays."""

    def fill(found: re.Match[str]) -> str:
        made, key = figures(found["name"]), found["key"]
        if key not in made:
            raise ValueError(
                f"{found['name']}.{key}: there is no such figure, takes one of "
                f"{', '.join(made)}"
            )
        figure = made[key]
        text = figure if isinstance(figure, str) else figure()
        space = "\n\n" if "\n" in text or found["space"] else ""
        return f"{found['begin']}{space}{text}{space}{found['end']}"

    return _MARKED.sub(fill, page)


def names_of(page: str) -> list[str]:
    """List the figures that a page has."""
    return [f"{found['name']}.{found['key']}" for found in _MARKED.finditer(page)]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--write", action="store_true", help="fill the pages")
    either.add_argument("--check", action="store_true", help="compare the pages")
    made: dict[Path, str] = {
        path: filled(path.read_text(encoding="utf-8")) for path in PAGES
    }
    write_or_check(made, parser.parse_args().write, "benchmarks.pages")


if __name__ == "__main__":
    main()
