"""One writer and one reader for the JSON of every benchmark.

A file holds what was measured with what::

    {"versions": {"python": "3.11.9", "torch": null, ...},
     "settings": {"model": "deit_tiny_patch16_224", ...},
     "rows": [...]}

A version of null is not recorded. Rows are a list, or a mapping from names.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from captum_mda import __version__
from captum_mda._files import replacing

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
DOCS = ROOT / "docs"
KEYS = {"versions", "settings", "rows"}
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Results:
    """What a file holds: the rows, and the versions and settings they have."""

    versions: Mapping[str, str | None]
    settings: Mapping[str, Any]
    rows: Any


def path_of(module: str) -> Path:
    """Return the file of a script: ``speed.json`` of ``benchmarks/speed.py``."""
    return Path(module).with_suffix(".json")


def present_versions() -> dict[str, str | None]:
    """Read the versions that a measurement made now would have."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build
        "timm": version("timm"),
        "captum": version("captum"),
        "captum_mda": __version__,
    }


def read(path: str | Path) -> Results:
    """Read a file, by its path or by the name of one in this folder, such as "speed".

    Raises:
        ValueError: It is not of the format that `write` writes.
    """
    path = path if isinstance(path, Path) else FOLDER / f"{path}.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or set(found) != KEYS:
        raise ValueError(
            f"{path.name}: takes an object with the keys {', '.join(sorted(KEYS))}, as "
            "benchmarks.results.write makes it; delete the file to measure anew"
        )
    return Results(**found)


def read_rows(
    path: str | Path,
    settings: Mapping[str, Any],
    empty: Callable[[], Any] | None = None,
) -> Any:
    """Read rows that were measured with the present settings of a script.

    Args:
        path (str or Path): As of `read`.
        settings (mapping): What the script would measure with now.
        empty (callable, optional): Makes the rows of a file that is not there. None: it
            has to be there. Default: None

    Raises:
        ValueError: The rows have other settings: their names and both values, and what
            to do.
    """
    path = path if isinstance(path, Path) else FOLDER / f"{path}.json"
    if empty is not None and not path.exists():
        return empty()
    found = read(path)
    now = json.loads(json.dumps(dict(settings)))
    differences = [
        f"{name} is {_shown(found.settings, name)} there and {_shown(now, name)} now"
        for name in dict.fromkeys((*found.settings, *now))
        if _shown(found.settings, name) != _shown(now, name)
    ]
    if differences:
        raise ValueError(
            f"{path.name}: its rows have other settings: {'; '.join(differences)}; "
            f"delete {path} and run the script to measure anew, or pass another --out"
        )
    return found.rows


def write(
    path: Path, rows: Any, settings: Mapping[str, Any], *, adds: bool = False
) -> None:
    """Write rows beside a file, which they then replace, an entry on each line.

    Args:
        path (Path): The file.
        rows (list or mapping): What was measured.
        settings (mapping): What it was measured with.
        adds (bool, optional): Whether rows of the file are among the rows. Versions
            that they were measured with are then listed, too, as "2.9.0, 2.10.0".
            Default: False
    """
    versions = present_versions()
    if adds and path.exists():
        earlier = read(path).versions
        versions = {
            name: _both(earlier.get(name), now) for name, now in versions.items()
        }
    _write(path, Results(versions, settings, rows))


def _write(path: Path, results: Results) -> None:
    text = (
        f'{{\n"versions": {json.dumps(results.versions)},\n'
        f'"settings": {json.dumps(results.settings)},\n'
        f'"rows": {_lines(results.rows)}\n}}\n'
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _lines(rows: Any) -> str:
    if isinstance(rows, Mapping):
        lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        return "{\n" + ",\n".join(lines) + "\n}"
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else UNKNOWN


def _both(earlier: str | None, now: str | None) -> str | None:
    return ", ".join(dict.fromkeys([*(earlier or UNKNOWN).split(", "), now or UNKNOWN]))
