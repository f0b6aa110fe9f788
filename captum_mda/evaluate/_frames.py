"""Scores as pandas DataFrames, in three forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_args, Literal, TYPE_CHECKING, TypeAlias

from torch import Tensor

from captum_mda._checks import require_choice
from captum_mda.evaluate._runners import Scored
from captum_mda.evaluate.metrics import Metric
from captum_mda.statistics.intervals import (
    mean_interval,
    MeanInterval,
    require_settings,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Form = Literal["table", "long", "examples"]
Scores: TypeAlias = Mapping[Metric, Mapping[str, Scored]]
"""Metric -> name of a map -> scores."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The form of a table, and the settings of its intervals, see `evaluate`."""

    form: Form
    confidence: float
    n_resamples: int
    seed: int

    def check(self) -> None:
        """Check all settings."""
        require_settings(self.confidence, self.n_resamples, self.seed)
        require_choice("form", self.form, get_args(Form))

    def frame(self, pandas: Any, scores: Scores) -> DataFrame:
        """Lay scores out as a DataFrame."""
        if self.form == "examples":
            examples: DataFrame = pandas.DataFrame(_rows_of_examples(scores))
            return examples
        intervals = {
            metric: {
                method: self.interval(scored.values)
                for method, scored in of_methods.items()
            }
            for metric, of_methods in scores.items()
        }
        if self.form == "long":
            numbers: DataFrame = pandas.DataFrame(_rows_of_numbers(intervals))
            return numbers
        return _table(pandas, intervals)

    def interval(self, values: Tensor) -> MeanInterval:
        """Compute a mean's interval; without any score all numbers are NaN."""
        if not bool(values.isnan().all()):
            return mean_interval(values, self.confidence, self.n_resamples, self.seed)
        return MeanInterval(
            mean=math.nan,
            low=math.nan,
            high=math.nan,
            n=0,
            n_missing=len(values),
            confidence=self.confidence,
            method="none",
        )


def import_pandas() -> ModuleType:
    """Import pandas, or say how to get it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "evaluate: pandas is not available; install it with "
            "python -m pip install pandas, or with captum_mda's extra: "
            'python -m pip install "captum_mda[evaluate]"'
        ) from error
    module: ModuleType = pandas
    return module


def _table(
    pandas: Any, intervals: Mapping[Metric, Mapping[str, MeanInterval]]
) -> DataFrame:
    # So many metrics beside each other would not fit a screen.
    rows = {metric.head: of_methods for metric, of_methods in intervals.items()}
    frame: DataFrame = pandas.DataFrame.from_dict(rows, orient="index")
    return frame.rename_axis(index="metric", columns="method")


def _rows_of_numbers(
    intervals: Mapping[Metric, Mapping[str, MeanInterval]],
) -> list[dict[str, object]]:
    return [
        _named_as(method, metric)
        | {
            "mean": found.mean,
            "low": found.low if found.n > 1 else math.nan,
            "high": found.high if found.n > 1 else math.nan,
            "n": found.n,
            "n_missing": found.n_missing,
        }
        for metric, of_methods in intervals.items()
        for method, found in of_methods.items()
    ]


def _rows_of_examples(
    scores: Scores,
) -> list[dict[str, object]]:
    return [
        _named_as(method, metric)
        | {"example": example, "score": value, "status": status}
        for metric, of_methods in scores.items()
        for method, scored in of_methods.items()
        for example, (value, status) in enumerate(
            zip(scored.values.tolist(), scored.status, strict=True)
        )
    ]


def _named_as(method: str, metric: Metric) -> dict[str, object]:
    return {
        "method": method,
        "metric": metric.name,
        "heading": metric.head,
        "better": metric.direction,
    }
