"""benchmarks/README.md: current, with every script and every file of results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import index
from benchmarks.results import FOLDER, ROOT


def test_the_page_is_current() -> None:
    assert index.README.read_text(encoding="utf-8") == index.page()


def test_every_module_and_file_is_in_the_index() -> None:
    scripts = {script.name for script in index.SCRIPTS}
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert not scripts & set(index.PARTS)
    assert modules == scripts | set(index.PARTS)
    files = [name for script in index.SCRIPTS for name in script.results]
    assert sorted(files) == sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("script", index.SCRIPTS, ids=lambda each: each.name)
def test_a_page_names_the_script(script: index.Script) -> None:
    assert script.pages
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in script.pages]
    assert f"python -m benchmarks.{script.name}" in " ".join(pages)


@pytest.mark.parametrize("script", index.SCRIPTS, ids=lambda each: each.name)
def test_a_script_has_options_so_that_help_runs_nothing(script: index.Script) -> None:
    source = (FOLDER / f"{script.name}.py").read_text(encoding="utf-8")
    assert "ArgumentParser(" in source


def test_versions_that_are_not_recorded_are_called_so() -> None:
    assert index.versions_of({"torch": None, "timm": None}) == "not recorded"
    assert index.versions_of({"torch": "2.9.0", "timm": None}) == "torch 2.9.0"


def test_a_stale_page_is_told_with_the_command_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    with pytest.raises(
        SystemExit, match=r"README\.md: not current; run python -m some"
    ):
        index.write_or_check({path: "new\n"}, write=False, module="some")
    index.write_or_check({path: "new\n"}, write=True, module="some")
    index.write_or_check({path: "new\n"}, write=False, module="some")
    assert path.read_text() == "new\n"


def test_the_module_checks_from_the_command_line() -> None:
    command = [sys.executable, "-m", "benchmarks.index", "--check"]
    subprocess.run(command, cwd=ROOT, check=True)
