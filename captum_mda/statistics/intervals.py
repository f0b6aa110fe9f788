"""Bootstrap confidence intervals of means over examples."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from captum_mda._checks import (
    require_count,
    require_in_unit_interval,
    require_positive_integer,
)
from captum_mda.statistics._scores import example_values, Values

Method: TypeAlias = Literal["BCa", "percentile", "exact", "none"]


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """A mean over examples and its bootstrap confidence interval, see `mean_interval`.

    Args:
        mean (float): The mean of the scores that are there.
        low (float): Lower end; ``-inf`` where there is one score.
        high (float): Upper end; ``inf`` where there is one score.
        n (int): How many scores the mean is of.
        n_missing (int): How many were NaN and left out.
        confidence (float): The nominal coverage, such as 0.95.
        method (str): "BCa"; "percentile" where BCa is undefined; "exact" where all
            scores are equal, so that every resample gives the same mean; "none" for one
            score.
    """

    mean: float
    low: float
    high: float
    n: int
    n_missing: int
    confidence: float
    method: Method

    def __str__(self) -> str:
        """Write ``0.812 [0.790, 0.834]``, with more decimals for a narrow interval.

        One score has no interval, ``0.812``, and none no mean, ``NaN``.
        """
        width = self.high - self.low
        # The ends of equal values differ in their last bits; that is no width.
        noise = 1e-12 * max(abs(self.low), abs(self.high))
        finite = noise < width < math.inf
        decimals = min(max(3, 1 - math.floor(math.log10(width))), 15) if finite else 3
        # Adding 0 turns a rounded -0.0 into 0.0.
        mean, low, high = (
            f"{round(value, decimals) + 0.0:.{decimals}f}"
            for value in (self.mean, self.low, self.high)
        )
        if self.n < 2:
            return mean if self.n else "NaN"
        return f"{mean} [{low}, {high}]"


def mean_interval(
    values: Values, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> MeanInterval:
    """Compute a mean over examples and its BCa bootstrap confidence interval.

    No global random number generator is used. The time grows with the number of
    examples times the larger of that number and ``n_resamples``.

    Args:
        values (Tensor, array or sequence): The scores of the examples, (B,); NaN is
            left out and counted.
        confidence (float, optional): Nominal coverage, between 0 and 1. Default: 0.95
        n_resamples (int, optional): Bootstrap resamples. Default: 9999
        seed (int, optional): Of the resamples, at least 0. Default: 0

    Returns:
        *MeanInterval*: Ends are never NaN. One example says nothing about the spread:
        its interval is from ``-inf`` to ``inf``.

    Raises:
        TypeError: An argument of the wrong type, or complex values.
        ValueError: ``values`` is not of shape (B,), holds an infinity or nothing but
            NaN, or another argument is out of range.

    Reference:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14.

    Example::

        >>> from captum_mda.metrics.statistics import mean_interval
        >>> print(mean_interval([0.5, 0.75, float("nan"), 0.75, 1.0]))
        0.750 [0.562, 0.938]
    """
    method: Method
    require_settings(confidence, n_resamples, seed)
    everything = example_values("values", values)
    present = everything[~np.isnan(everything)]
    n, n_missing = present.size, everything.size - present.size
    if n == 0:
        raise ValueError(f"values: all {n_missing} scores are NaN or there are none")
    if n == 1:
        mean, low, high, method = float(present[0]), -math.inf, math.inf, "none"
    elif (present == present[0]).all():
        mean = low = high = float(present[0])
        method = "exact"
    elif not math.isfinite(float(np.abs(present).max()) * n):
        raise ValueError("values: their sum exceeds float64; scale them down")
    else:
        mean = float(np.mean(present))
        low, high, method = bootstrap_mean(present, confidence, n_resamples, seed)
    return MeanInterval(
        mean=mean,
        low=low,
        high=high,
        n=n,
        n_missing=n_missing,
        confidence=confidence,
        method=method,
    )


def require_settings(confidence: float, n_resamples: int, seed: int) -> None:
    """Raise unless these are a probability between 0 and 1, and fit for a bootstrap."""
    require_in_unit_interval("confidence", confidence)
    if confidence in (0, 1):
        raise ValueError(f"confidence: got {confidence!r}, takes less than 1, above 0")
    require_positive_integer("n_resamples", n_resamples)
    require_count("seed", seed)


def bootstrap_mean(
    values: NDArray[np.float64], confidence: float, n_resamples: int, seed: int
) -> tuple[float, float, Literal["BCa", "percentile"]]:
    """Bootstrap the mean: by BCa, or by percentiles where that is undefined."""
    # Importing it takes longer than the rest of this package's metrics together.
    from scipy import stats

    methods: tuple[Literal["BCa", "percentile"], ...] = ("BCa", "percentile")
    for method in methods:
        with warnings.catch_warnings():
            # SciPy warns where BCa is undefined, which the field ``method`` tells.
            warnings.simplefilter("ignore", RuntimeWarning)
            interval = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=n_resamples,
                batch=max(1, 2**22 // values.size),  # bounds the memory
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high), method
