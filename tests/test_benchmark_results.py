"""The JSON of the benchmarks: one format, versions and settings, no stale rows."""

from __future__ import annotations

import configparser
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results

ROOT = Path(__file__).parents[1]
FILES = sorted(results.FOLDER.glob("*.json"))
SETTINGS = {"model": "tiny", "steps": {"photos": 28}, "shifts": (0.0, -20.0)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_has_versions_settings_and_rows(path: Path) -> None:
    found = results.read(path)
    assert set(found.versions) == set(results.present_versions())
    assert found.settings and found.rows


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_has_the_settings_of_its_script(path: Path) -> None:
    script = path.stem.removesuffix("_two_threads")
    measured = importlib.import_module(f"benchmarks.{script}").MEASURED
    settings = results.read(path).settings
    assert results.read_rows(path, {**settings, **measured}) == results.read(path).rows


@pytest.mark.parametrize(
    "rows",
    [[{"photo": "1", "score": 0.1}, {"photo": "2", "score": 1e-05}], {"a": [1, 2]}, []],
)
def test_rows_are_read_as_they_were_written(rows: Any, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    results.write(path, rows, SETTINGS)
    assert results.read_rows(path, SETTINGS) == rows
    found = results.read(path)
    assert found.versions["torch"] == torch.__version__
    assert all(isinstance(each, str) for each in found.versions.values())
    assert [each.name for each in tmp_path.iterdir()] == ["some.json"]


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"model": "small"}, 'model is "tiny" there and "small" now'),
        ({"steps": {"photos": 32}}, 'steps is {"photos": 28} there and'),
        ({"blur": 31}, "blur is not recorded there and 31 now"),
    ],
)
def test_stale_rows_are_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.json"
    results.write(path, [{"score": 0.5}], SETTINGS)
    with pytest.raises(ValueError) as error:
        results.read_rows(path, SETTINGS | changed)
    assert said in str(error.value)
    assert "some.json" in str(error.value) and "measure anew" in str(error.value)


def test_a_setting_that_is_no_longer_there_makes_rows_stale(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    results.write(path, [], SETTINGS)
    with pytest.raises(ValueError, match=r"model is .tiny. there and not recorded now"):
        results.read_rows(path, {each: SETTINGS[each] for each in ("steps", "shifts")})


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(json.dumps([{"score": 0.5}]))
    with pytest.raises(ValueError, match=r"some\.json: takes an object with the keys"):
        results.read_rows(path, SETTINGS)


def test_a_file_that_is_not_there_has_no_rows_only_where_that_is_meant(
    tmp_path: Path,
) -> None:
    assert results.read_rows(tmp_path / "none.json", SETTINGS, list) == []
    with pytest.raises(FileNotFoundError):
        results.read_rows(tmp_path / "none.json", SETTINGS)


def test_added_rows_keep_the_versions_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "some.json", results.present_versions()
    monkeypatch.setattr(results, "present_versions", lambda: now | {"timm": None})
    results.write(path, [1], SETTINGS)
    for timm in ("8.0", "9.0", "9.0"):
        monkeypatch.setattr(
            results, "present_versions", lambda timm=timm: now | {"timm": timm}
        )
        results.write(path, [1, 2], SETTINGS, adds=True)
    assert results.read(path).versions == now | {"timm": "not recorded, 8.0, 9.0"}
    results.write(path, [1, 2], SETTINGS)
    assert results.read(path).versions["timm"] == "9.0"


def test_the_benchmarks_are_not_installed() -> None:
    setuptools = pytest.importorskip("setuptools")
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    include = parser["options.packages.find"]["include"].split()
    found = setuptools.find_packages(str(ROOT), include=include)
    assert "captum_mda" in found and "benchmarks" in setuptools.find_packages(str(ROOT))
    assert not [name for name in found if name.startswith("benchmarks")]
