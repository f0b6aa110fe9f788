"""Scores of examples, as arrays, numbers or the results that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_mda._checks import require_real, require_type
from captum_mda.metrics.localization.segmentation import SegmentationScores
from captum_mda.metrics.scores import PerturbationScores

if TYPE_CHECKING:
    from captum_mda.evaluate.metrics import Metric

Values: TypeAlias = Tensor | Sequence[float] | NDArray[Any]

Scores: TypeAlias = Values | PerturbationScores | SegmentationScores
"""The scores of one method's examples, or a result that holds them."""


def example_values(name: str, values: Values) -> NDArray[np.float64]:
    """Read one score for each example as float64 (B,); NaN may be among them.

    Raises:
        TypeError: They are no real numbers.
        ValueError: They are not of shape (B,), or one is infinite.
    """
    if isinstance(values, Tensor):
        if not values.is_complex():  # refused below, as NumPy's are
            require_real(name, values)
        values = values.detach().cpu()
        # NumPy knows no bfloat16.
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name}: {error}; takes one number for each") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: got {array.dtype} values, takes real numbers")
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}, takes one for each example")
    if np.isinf(array).any():
        index = int(np.isinf(array).argmax())
        raise ValueError(
            f"{name}: got an infinity in example {index}, takes finite ones"
        )
    return array.astype(np.float64)


def paired_values(
    scores: Mapping[str, Scores], metric: Metric | None
) -> dict[str, NDArray[np.float64]]:
    """Read the scores of at least two methods on the same number of examples."""
    takes = "a mapping from each method's name to its scores"
    require_type("scores", scores, Mapping, takes)
    if len(scores) < 2:
        raise ValueError(f"scores: got {len(scores)} methods, takes at least two")
    values = {
        name: example_values(f"scores[{name!r}]", _read(name, given, metric))
        for name, given in scores.items()
    }
    lengths = {name: array.size for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"scores: got {lengths} examples, takes the same examples for each method"
        )
    for name, array in values.items():
        if np.isnan(array).all():
            raise ValueError(f"scores[{name!r}]: got no score that is not NaN")
    return values


def _read(name: str, given: Scores, metric: Metric | None) -> Values:
    """Read the metric's scores from a result that holds those of several metrics."""
    # Imported at the call: the table of metrics is in a room above this one.
    from captum_mda.evaluate.metrics import METRICS

    held = [
        each.name
        for each in METRICS.values()
        if each.result is not None and isinstance(given, each.result)
    ]
    if not held:
        return given  # type: ignore[return-value]  # no result of a metric
    if metric is None or metric.name not in held:
        got = "no metric" if metric is None else repr(metric.name)
        raise ValueError(
            f"metric: got {got} for the {type(given).__name__} of {name!r}, takes one "
            f"of {', '.join(held)}"
        )
    values: Values = getattr(given, metric.name)
    return values
