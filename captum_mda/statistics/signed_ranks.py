"""Tests of paired differences, corrected for their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_mda._checks import require_in_unit_interval


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method.

    Args:
        p_values (Sequence[float]): In [0, 1], of any number of tests.

    Returns:
        *list[float]*: In the same order, in [0, 1], never below the p-value.

    Raises:
        TypeError: They are no sequence of numbers.
        ValueError: One is outside [0, 1], or NaN.
    """
    if isinstance(p_values, (str, Mapping)) or not isinstance(p_values, Iterable):
        raise TypeError(f"p_values: got {p_values!r}, takes a sequence of numbers")
    given = p_values.tolist() if isinstance(p_values, Tensor) else p_values
    p_values = [require_in_unit_interval("p_values", value) for value in given]
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(
        sorted(range(len(p_values)), key=p_values.__getitem__)
    ):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def signed_rank_p_value(differences: NDArray[np.float64]) -> float:
    """Test paired differences by Wilcoxon's signed ranks, without those that are 0."""
    from scipy import stats

    nonzero = differences[differences != 0]
    # Dropped here, zeros do not turn SciPy from the exact test to the approximation.
    return float(stats.wilcoxon(nonzero).pvalue) if nonzero.size else 1.0


def smallest_p_value_of(
    p_values: Sequence[float], index: int, differences: NDArray[np.float64]
) -> float:
    """Adjust the p-value that these differences would have with one sign for all."""
    n_nonzero = int(np.count_nonzero(differences))
    perfect = min(1.0, 2 / 2**n_nonzero)
    if (
        n_nonzero > 13
    ):  # Above, ties make the test an approximation, with another limit.
        perfect = signed_rank_p_value(np.abs(differences))
    return holm([*p_values[:index], perfect, *p_values[index + 1 :]])[index]


def rank_biserial(differences: NDArray[np.float64]) -> float:
    """Share of the ranks of positive differences minus that of negative ones."""
    from scipy import stats

    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 0.0
    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())
