"""A metric that is registered appears wherever metrics are listed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import Any

import pytest
import torch

import captum_mda.metrics.statistics
from captum_mda import metrics, statistics
from captum_mda.evaluate.metrics import (
    Evaluation,
    Found,
    get_metric,
    list_metrics,
    Metric,
    METRICS,
    register_metric,
    Scored,
)
from captum_mda.evaluate.tables import score_table

INPUTS = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 4.0]])


def run_toy(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Score a map by its largest value."""
    scored = {
        method: Scored(maps[0].double().amax(dim=1), ("ok",) * len(maps[0]))
        for method, maps in evaluation.laid.items()
    }
    return dict.fromkeys(names, scored)


TOY: dict[str, Any] = {
    "name": "toy",
    "heading": "Toy",
    "higher_is_better": False,
    "range": (0.0, 10.0),
    "meaning": "the largest value",
    "run": run_toy,
}


@pytest.fixture
def toy() -> Iterator[Metric]:
    yield register_metric(Metric(**TOY))
    del METRICS["toy"]


def test_a_registered_metric_is_listed(toy: Metric) -> None:
    assert metrics.METRICS["toy"] is toy and get_metric("toy") is toy
    assert list_metrics()[-1] == "toy"


def test_a_registered_metric_is_evaluated_with_the_others(toy: Metric) -> None:
    pytest.importorskip("pandas")

    def logits(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.sum(dim=1), torch.full((len(x),), -1.0)], dim=1)

    arguments = (logits, INPUTS, {"one": INPUTS}, 0)
    table = metrics.evaluate(*arguments, n_resamples=99)
    assert "Toy ↓" in table.index and "Ins ↑" in table.index
    assert table.loc["Toy ↓", "one"].mean == 3.5
    rows = metrics.evaluate(*arguments, metrics="toy", form="examples")
    assert rows["score"].tolist() == [3.0, 4.0]


def test_a_registered_metric_has_a_direction(toy: Metric) -> None:
    scores = {"low": [0.1, 0.2, 0.3], "high": [0.5, 0.6, 0.8]}
    assert statistics.compare(scores, metric="toy")[0].reference == "low"
    table = score_table({"toy": scores})
    assert table.to_text().split()[1:3] == ["Toy", "↓"]


@pytest.mark.parametrize("changes", [{"heading": "Other"}, {"name": "other"}])
def test_a_taken_name_or_heading_is_refused(
    toy: Metric, changes: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"^metric: there is one of the "):
        register_metric(Metric(**(TOY | changes)))
    assert list_metrics()[-1] == "toy"


def test_only_metrics_are_registered() -> None:
    with pytest.raises(TypeError, match=r"^metric: got str, takes a Metric"):
        register_metric("toy")  # type: ignore[arg-type]


def test_near_names_are_suggested() -> None:
    with pytest.raises(ValueError, match=r"^metric: got 'deletions', did you mean"):
        get_metric("deletions")


def test_aliases_are_the_same_objects() -> None:
    for name in statistics.__all__:
        assert getattr(metrics.statistics, name) is getattr(statistics, name)
    assert captum_mda.metrics.statistics is metrics.statistics
    assert metrics.METRICS is METRICS and metrics.Metric is Metric
    with pytest.raises(AttributeError, match="no attribute 'METRIC'"):
        metrics.METRIC  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "line",
    [
        "import captum_mda.metrics.statistics",
        "from captum_mda.metrics.statistics import compare",
        "import captum_mda; captum_mda.metrics.statistics.compare",
        "import captum_mda.metrics; captum_mda.metrics.evaluate",
        "import captum_mda.statistics",
        "import captum_mda.evaluate.metrics",
        "from captum_mda.metrics import *; METRICS, Metric, evaluate, statistics.holm",
        "from captum_mda import metrics as m; assert set(m.__all__) <= set(dir(m))",
    ],
)
def test_imports_work_in_any_order(line: str) -> None:
    subprocess.run([sys.executable, "-c", line], check=True)
