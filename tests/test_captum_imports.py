"""Captum's private helpers enter the package through one module only."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import captum_mda
from captum_mda import _captum

PACKAGE = Path(captum_mda.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", _captum.__all__)
def test_every_helper_can_be_imported(name: str) -> None:
    assert getattr(importlib.import_module("captum_mda._captum"), name) is not None


def private_captum_imports(source: str) -> list[str]:
    """Find what a module imports from Captum below a name that starts with "_"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for path in paths:
            top, *below = path.split(".")
            if top == "captum" and any(part.startswith("_") for part in below):
                found.append(path)
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from captum.attr import FeatureAblation", []),
        ("from captum_mda._captum import progress", []),
        ("import captum._utils.common as c", ["captum._utils.common"]),
        ("from captum import _utils", ["captum._utils"]),
        ("def f():\n  from captum._utils.x import y", ["captum._utils.x.y"]),
        ("from captum.attr import _core as c", ["captum.attr._core"]),
        ("from captum.attr._core.lime import Lime", ["captum.attr._core.lime.Lime"]),
    ],
)
def test_the_scan_finds_private_imports(source: str, found: list[str]) -> None:
    assert private_captum_imports(source) == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_other_module_imports_private_names(path: Path) -> None:
    found = private_captum_imports(path.read_text(encoding="utf-8"))
    assert bool(found) == (path == PACKAGE / "_captum.py"), found
