"""The pages in docs/: their Python runs as it stands and prints what they say.

A fence ``python`` is run, all of a page in one namespace; a fence ``text`` behind it is
what it prints, with ``...`` for anything. A block whose first line is a comment that
begins with "not run:" is only compiled.
"""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from pages import blocks_of, run
from torch import nn

from benchmarks import (
    explainers,
    magnitudes,
    models_run,
    ordering,
    quality_tables,
    speed_page,
)
from benchmarks.model_families import MODELS
from benchmarks.results import read
from benchmarks.scoring import PHOTO_NAMES
from captum_mda.metrics.statistics import mean_interval, MeanInterval

ROOT = Path(__file__).parents[1]
PAGES = ("adapters.md", "attribution.md", "metrics.md")


def agrees(printed: str, output: str) -> bool:
    return doctest.OutputChecker().check_output(output, printed, doctest.ELLIPSIS)


@pytest.mark.parametrize("name", PAGES)
def test_code_of_a_page_runs_and_prints_what_the_page_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = ROOT / "docs" / name
    blocks = blocks_of(path.read_text(encoding="utf-8"))
    assert sum(block.runs for block in blocks) >= 4
    namespace: dict[str, object] = {"__name__": f"docs.{path.stem}"}
    for block in blocks:
        if "import open_clip" in block.code:
            pytest.importorskip("open_clip")
        printed = run(block, namespace, str(path))
        assert agrees(printed, block.output), f"{name}:{block.line} printed {printed}"


def test_blocks_are_found_with_their_output() -> None:
    page = "a\n```python\nprint(1)\n```\nb\n```text\n1\n```\n```console\nls\n```\n"
    page += "```python\n# not run: needs a photo\nprint(2)\n```\n"
    first, second = blocks_of(page)
    assert (first.code, first.line, first.output) == ("print(1)\n", 2, "1\n")
    assert agrees(run(first, {}, "page"), first.output)
    assert not agrees(run(first, {}, "page"), "2\n")
    assert not agrees(run(first, {}, "page"), "")
    assert run(second, {}, "page") == ""


def tables_of(page: str) -> list[list[list[str]]]:
    """Read each table as rows of cells, the header first."""
    tables: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return [table[:1] + table[2:] for table in tables if table]


def table_about(column: str, page: str) -> list[list[str]]:
    """Read the one table that has a column of that name."""
    (table,) = (table for table in tables_of(page) if column in table[0])
    return table


def test_page_of_models_is_that_of_the_script() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    runs, errors = (table for table in tables_of(page) if "family" in table[0])
    names = [[model.library, model.family, f"`{model.name}`"] for model in MODELS]
    assert runs[0][5:] == list(models_run.columns())
    assert [row[:3] for row in runs[1:]] == names
    assert [row[:3] for row in errors[1:]] == names


def test_page_of_models_shows_every_method_running_on_every_transformer() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    runs, errors = (table for table in tables_of(page) if "family" in table[0])
    for row in runs[1:]:
        mark = "-" if row[1] in ("MLP-Mixer", "Swin") else models_run.TICK
        assert row[5:] == [mark] * len(models_run.columns()), row[:3]
    for row in errors[1:]:
        libra, plain, relevance = map(float, row[4:])
        assert libra < 1e-12 < 1e-2 < plain, row[:3]
        assert relevance < 1e-6, row[:3]


def test_capture_costs_no_more_than_an_explicit_pass() -> None:
    passes = read("capture").rows["passes"]
    for name in ("inputs", "parameters"):
        assert passes[f"explicit, to {name}"]["ratio"] <= 1.6


def test_what_is_said_of_caap_is_what_was_measured() -> None:
    found = read("caap_sweep").rows["held_out"]
    best, alone = found["CAAP, best setting"], found["raw attention"]
    assert best["one object"] > alone["one object"]
    assert best["two objects"] > max(
        kinds["two objects"] for name, kinds in found.items() if "CAAP" not in name
    )


def test_what_is_said_of_the_searches_is_what_was_measured() -> None:
    measured = read("ordering").rows
    by_setting = ordering.by_setting(measured)
    for setting, most, least_mean, least in (
        ("default", 900, -0.005, -0.04),
        ("joint, budget 6", 1200, 0.03, -0.02),
        ("relaxed", 1200, 0.05, -0.02),
        ("relaxed, 15 steps", 900, 0.03, -0.05),
        ("joint", 5307, 0.05, -0.02),
    ):
        rows = by_setting[setting]
        gains = [row["insertion_deletion_gain"] for row in rows]
        assert sum(gains) / len(gains) >= least_mean
        assert min(gains) >= least
        assert max(row["forwards"] for row in rows) <= most


def test_what_is_said_of_speed_is_what_was_measured() -> None:
    measured = read("speed").rows
    fast = dict(speed_page.growth(measured, "fast"))
    assert fast[49] <= 250 and fast[196] <= 900
    assert fast[784] <= fast[196] * 4**1.1
    exact, few = (
        next(row for row in measured if (row["task"], row["features"]) == (task, 49))
        for task in ("paper", "fast")
    )
    for score in ("insertion_deletion", "mas_insertion_deletion"):
        assert exact[score] - few[score] <= 0.005
    for row in measured:
        if row["task"] == "paper":
            assert row["overhead"] <= 1.15


def test_screening_saves_forwards() -> None:
    measured = read("precision").rows
    assert len(measured) == 8
    assert sum(row["as float32"] for row in measured) <= 8 * 450


def test_what_is_said_of_the_magnitudes_is_what_was_measured() -> None:
    groups = magnitudes.groups_of(read("magnitudes").rows)
    assert list(groups) == ["8 photos", "59 samples"]
    gains = [
        new - old
        for new, old in zip(
            groups["8 photos"]["mas, patch"]["patch_mas"],
            groups["8 photos"]["reference, patch"]["patch_mas"],
            strict=True,
        )
    ]
    assert sum(gain > 0 for gain in gains) == 7
    for figures in groups.values():
        for rule in ("reference", "paper", "increment"):
            for steps in ("patch", "pixel"):
                mas, other = figures[f"mas, {steps}"], figures[f"{rule}, {steps}"]
                for new, old in zip(
                    mas[f"{steps}_penalty"], other[f"{steps}_penalty"], strict=True
                ):
                    assert new <= old + 2e-6  # both are rounded


def test_quality_is_measured_of_known_explainers() -> None:
    assert (ROOT / "docs" / "images" / "quality.png").exists()
    names = {row["name"] for row in read("quality").rows}
    assert quality_tables.REFERENCE in names <= set(explainers.EXPLAINERS)


class Gains:
    """What explainers gain on MDA as printed, by the rows of quality.json."""

    def __init__(self, script: ModuleType, kind: str) -> None:
        self._script, self._kind = script, kind
        self._rows = read("quality").rows

    def values(self, metric: str) -> dict[str, dict[str, float]]:
        """Read a metric of each explainer's pictures."""
        found: dict[str, dict[str, float]] = self._script.values_of(
            self._rows, self._kind, metric
        )
        return found

    def __call__(self, name: str, metric: str) -> MeanInterval:
        of = self.values(metric)
        return mean_interval(
            self._script.pairs_of(of[name], of[self._script.REFERENCE])
        )

    def total_forwards(self) -> dict[str, float]:
        """Add up the forwards of each explainer's pictures."""
        of = self.values("forwards")
        return {name: sum(each.values()) for name, each in of.items()}

    def is_open(self, name: str, metric: str) -> bool:
        """Tell whether an explainer cannot be told from MDA as printed."""
        found = self(name, metric)
        return bool(found.low <= 0 <= found.high)


def test_what_is_said_of_quality_on_samples_is_what_was_measured() -> None:
    gain = Gains(quality_tables, quality_tables.SAMPLES)
    is_open = gain.is_open
    inside = ("bi-attn", "legrad", "libra fullgrad+", "libra input x gradient")
    for name in (*inside, "caap", "tis", "vit-cx"):
        assert gain(name, "average_precision").low > 0
        assert gain(name, "mif_deletion").mean > 0 > gain(name, "lif_deletion").mean
    assert is_open("libra fullgrad+", "gaussian")
    assert is_open("libra fullgrad+", "mean_colour")
    assert gain("libra fullgrad+", "noise").low > 0
    assert gain("bi-attn", "gaussian").high < 0
    assert is_open("bi-attn", "mean_colour") and is_open("bi-attn", "noise")
    assert is_open("mda fast", "insertion")
    assert is_open("mda fast", "mas_insertion_deletion")
    assert gain("mda fast", "deletion").high < 0
    for metric in ("insertion_deletion", "mas_insertion_deletion"):
        assert gain("mda joint", metric).low > 0
    for metric in ("gaussian", "mean_colour", "noise", "average_precision"):
        assert gain("mda joint", metric).low > 0
    assert gain("mda joint", "monotonicity").high < 0
    for metric in (
        "positive_perturbation",
        "negative_perturbation",
        "mif_deletion",
        "lif_deletion",
    ):
        assert is_open("mda joint", metric)
    assert gain("mda, mas", "mas_insertion_deletion").low > 0
    assert gain("mda, mas", "iou").high < 0
    totals = gain.total_forwards()
    for metric in ("insertion_deletion", "mas_insertion_deletion"):
        assert is_open("mda relaxed", metric)
    for metric in ("gaussian", "noise"):
        assert gain("mda relaxed", metric).low > 0
    assert 0.6 < totals["mda relaxed"] / totals["mda"] < 0.7
    assert 4.5 < totals["mda"] / totals["mda fast"] < 5.5
    assert 2.8 < totals["mda"] / totals["mda joint"] < 3.5


def test_what_is_said_of_quality_on_photos_is_what_was_measured() -> None:
    gain = Gains(quality_tables, quality_tables.PHOTOS)
    for metric in ("gaussian", "mean_colour"):
        assert gain("mda joint", metric).low > 0
        for name in ("bi-attn", "legrad", "libra fullgrad+", "caap", "tis", "vit-cx"):
            assert gain(name, metric).high < 0
    assert gain("mda joint", "positive_perturbation").high < 0
    both_open = ("negative_perturbation", "mif_deletion", "lif_deletion")
    for metric in ("noise", *both_open):
        assert gain.is_open("mda joint", metric)
    for metric in ("gaussian", "mean_colour", "noise", "other_class", *both_open):
        assert gain.is_open("mda fast", metric)
    assert gain("mda joint", "monotonicity").high < 0
    assert gain("mda fast", "monotonicity").high < 0
    assert gain("libra fullgrad+", "lif_deletion").low > 0
    for metric in ("insertion_deletion", "gaussian", "mean_colour"):
        assert gain("mda relaxed", metric).low > 0
    scores = gain.values("insertion_deletion")
    for search, least in (("mda fast", -0.0045), ("mda joint", -0.0025)):
        refined, before = scores[f"{search} refined"], scores[search]
        gains = [refined[photo] - before[photo] for photo in before]
        assert sum(each > 0 for each in gains) == 6 and min(gains) > least
    mas = gain.values("mas_insertion_deletion")
    made, printed = mas["mda relaxed, mas"], mas["mda"]
    gains = [made[photo] - printed[photo] for photo in printed]
    assert min(gains) >= 0.013
    assert gain.is_open("mda relaxed", "noise")
    assert gain.is_open("mda relaxed", "monotonicity")
    for metric, sense in (
        ("positive_perturbation", -1),
        ("negative_perturbation", 1),
        ("mif_deletion", -1),
        ("lif_deletion", 1),
    ):
        assert sense * gain("mda relaxed", metric).mean > 0
        assert gain.is_open("mda relaxed", metric)
    totals = gain.total_forwards()
    assert 0.45 < totals["mda relaxed"] / totals["mda joint"] < 0.55


def test_perturbation_methods_cost_less_than_published_code() -> None:
    measured = read("perturbation_methods").rows
    for row in measured["summary"].values():
        assert row["most"] < row.get("reference", 1000)
    for row in measured["rows"]:
        for rank in row.get("rank_with_seeds", ()):
            assert rank >= row["rank_of_seeds"] - 0.02


SHARED = {
    **{name: name for name in ("mda", "bi-attn", "legrad", "caap", "tis", "vit-cx")},
    "libra-fullgrad": "libra fullgrad+",
    "libra-ixg": "libra input x gradient",
}
"""Methods of metrics_table.json, and what they are called in quality.json."""


@pytest.mark.parametrize("kind", ["photos", "samples"])
def test_a_quantity_has_one_number_on_all_pages(kind: str) -> None:
    table, quality = (read(name).rows for name in ("metrics_table", "quality"))
    for name, title in SHARED.items():
        ours = [each["scores"][name] for each in table if each["kind"] == kind]
        theirs = [row for row in quality if (row["data"], row["name"]) == (kind, title)]
        assert len(ours) == len(theirs) >= 8
        metrics = set(ours[0]) & set(theirs[0])
        assert {"insertion", "deletion", "mas_insertion_deletion"} <= metrics
        assert len(metrics) >= 8
        for metric in metrics:
            means = [fmean(row[metric] for row in rows) for rows in (ours, theirs)]
            assert means[0] == pytest.approx(means[1], abs=1e-3), (name, metric)


@pytest.mark.real_model
def test_photos_are_named_by_the_class_that_the_model_predicts(
    deit_tiny: nn.Module,
    oracle_maps: Mapping[str, np.ndarray],
) -> None:
    names = PHOTO_NAMES
    described = timm.data.ImageNetInfo().index_to_description
    assert set(names) == {key.split("/")[0] for key in oracle_maps if key[0].isdigit()}
    for photo, name in names.items():
        target = int(oracle_maps[f"{photo}/target"])
        with torch.no_grad():
            outputs = deit_tiny(torch.from_numpy(oracle_maps[f"{photo}/x"])[None])
        assert int(outputs.argmax()) == target
        assert described(target).split(",")[0] == name
