"""What is registered appears in the benchmarks' tables, without another line there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from benchmarks import capture, metrics_table, models_run, models_table, quality_tables
from benchmarks.explainers import EXPLAINERS, Inside
from benchmarks.model_families import Model
from benchmarks.results import read
from benchmarks.scoring import PHOTOS, SAMPLES
from captum_mda import LeGrad
from captum_mda.evaluate import (
    load_classifier,
    make_case,
    Method,
    METHODS,
    Metric,
    METRICS,
    register_method,
    register_metric,
)
from captum_mda.evaluate.metrics import Evaluation, Scored

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}


class Toy(LeGrad):
    """A method that nobody has heard of."""


@pytest.fixture()
def toy_method() -> Iterator[Method]:
    yield register_method(
        Method(name="toy", title="Toy method", constructor=Toy, cost="seconds")
    )
    del METHODS["toy"]


def run_mean(evaluation: Evaluation, names: Any) -> dict[str, dict[str, Scored]]:
    means = {
        name: Scored(maps[0].flatten(1).mean(1).double(), ("ok",) * len(maps[0]))
        for name, maps in evaluation.laid.items()
    }
    return dict.fromkeys(names, means)


@pytest.fixture()
def toy_metric() -> Iterator[Metric]:
    yield register_metric(
        Metric(
            name="toy_mean",
            heading="Toy mean",
            higher_is_better=False,
            range=(-1.0, 1.0),
            meaning="the mean of the map",
            run=run_mean,
        )
    )
    del METRICS["toy_mean"]


def measured_rows(*names: str) -> list[dict[str, Any]]:
    """Read what was measured of some methods."""
    return [
        {**picture, "scores": {name: picture["scores"][name] for name in names}}
        for picture in read("metrics_table").rows
    ]


def test_a_registered_method_is_a_column_of_the_models_table(
    toy_method: Method,
) -> None:
    make = partial(timm.create_model, "vit_tiny_patch16_224", **SMALL)
    with torch.random.fork_rng(devices=[]):
        row = models_run.measured(Model("timm", "ViT", "vit_tiny_patch16_224", make))
    assert row.cells["Toy method"] == models_run.TICK
    page = models_table.page([row])
    (heads,) = (line for line in page.splitlines() if "| pooling |" in line)
    assert heads.endswith("| I x G | Toy method |")
    assert "- Toy method: `Toy()`" in page.splitlines()
    (cells, _) = (
        line for line in page.splitlines() if line.startswith("| timm | ViT | `vit_")
    )
    assert cells.split("|")[-2].strip() == models_run.TICK


def test_a_registered_method_is_measured_with_the_others(toy_method: Method) -> None:
    assert "Toy" in capture.method_jobs()
    rows = measured_rows("raw-attention", "legrad")
    (line,) = (
        line
        for line in metrics_table.table(rows, PHOTOS).splitlines()
        if "Toy method" in line
    )
    assert set(line.strip("| ").split(" | ")[1:]) == {"n/a"}


def test_variants_are_of_methods_of_the_table() -> None:
    assert set(models_run.VARIANTS) <= set(models_run.HEADS) <= set(METHODS)
    inside = [each for each in EXPLAINERS.values() if isinstance(each, Inside)]
    assert inside and all(each.name in METHODS for each in inside)


@pytest.mark.parametrize("kind", [PHOTOS, SAMPLES])
def test_a_registered_metric_is_a_column_of_the_table_of_all_metrics(
    toy_metric: Metric, kind: str
) -> None:
    rows = [
        {
            **picture,
            "scores": {
                name: {**row, "toy_mean": 0.1 + 0.01 * place}
                for place, (name, row) in enumerate(picture["scores"].items())
            },
        }
        for picture in measured_rows("raw-attention", "legrad")
    ]
    heads, _, first, *_ = metrics_table.table(rows, kind).splitlines()
    assert heads.endswith("| Toy mean ↓ |")
    assert "**0.100**" in first
    told = metrics_table.verdicts(rows, kind).splitlines()[-1]
    assert told.startswith("- **Toy mean**: best Raw attention; ")


def test_a_registered_metric_that_is_not_measured_is_said_to_be_so(
    toy_metric: Metric,
) -> None:
    rows = measured_rows("raw-attention", "legrad")
    heads, _, *lines = metrics_table.table(rows, PHOTOS).splitlines()
    assert heads.endswith("| Toy mean ↓ |")
    assert all(line.endswith(" | n/a |") for line in lines)
    told = metrics_table.verdicts(rows, PHOTOS).splitlines()[-1]
    assert told == "- **Toy mean**: not measured yet."


def test_a_registered_metric_is_run(toy_metric: Metric) -> None:
    classifier = load_classifier("demo", device="cpu")
    case = make_case(classifier, torch.zeros(3, 64, 64), 0)
    maps = {"half": torch.full((1, 1, 64, 64), 0.5), "none": torch.zeros(1, 1, 64, 64)}
    assert "toy_mean" in metrics_table.columns(PHOTOS)
    found = metrics_table.score_further(case, maps, None, ["toy_mean"])
    assert found == {"half": {"toy_mean": 0.5}, "none": {"toy_mean": 0.0}}


def test_columns_of_the_pages_are_metrics_of_the_table() -> None:
    shown: Mapping[str, Any] = {
        **quality_tables.COLUMNS["searched"],
        **quality_tables.COLUMNS["other"],
    }
    own = {"gaussian", "mean_colour", "noise", "other_class"}
    assert all(shown[name] is METRICS[name] for name in set(shown) - own)
    assert not own & set(METRICS)
    for kind in (PHOTOS, SAMPLES):
        columns = metrics_table.columns(kind)
        assert all(columns[name] is METRICS[name] for name in columns)
    assert set(metrics_table.columns(SAMPLES)) - set(metrics_table.columns(PHOTOS)) == {
        "average_precision",
        "iou",
        "pointing_game",
    }


def test_a_failing_cell_says_what_is_wrong() -> None:
    """The table's ticks mean something: bad maps and errors are told apart."""

    class Bad:
        def __init__(self, model: object) -> None:
            self.grid = model

        def attribute(self, *args: object, **kwargs: object) -> Tensor:
            if isinstance(self.grid, Exception):
                raise self.grid
            assert isinstance(self.grid, Tensor)
            return self.grid

    good = torch.arange(8.0).view(2, 1, 2, 2)
    infinite, constant = good.clone(), good.clone()
    infinite[1, 0, 0, 0] = torch.nan
    constant[1] = 3.0
    cases: dict[str, Any] = {
        models_run.TICK: good,
        "not finite": infinite,
        "flat": constant,
        "shape [1, 1, 2, 2], not [2, 1, 2, 2]": good[:1],
        "ValueError: model: no": ValueError("model: no\nmore"),
    }
    bad = Method(name="bad", title="Bad", constructor=Bad, cost="seconds")
    for wanted, grid in cases.items():
        empty = torch.zeros(2)
        assert models_run.cell(bad, grid, empty, empty, [2, 1, 2, 2]) == wanted
