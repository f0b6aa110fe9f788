"""Means of any number of values, exact, whatever the order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_mda._checks import require_count, require_real

Values: TypeAlias = Tensor | Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class MeanAndDeviation:
    """What a `MeanAccumulator` has seen.

    Args:
        mean (float): The mean, correctly rounded.
        standard_deviation (float): That of the sample, with ``n - 1``,
            rounded from the exact variance; NaN for one value.
        n (int): How many values the mean is of.
        n_missing (int): How many were NaN and left out.
    """

    mean: float
    standard_deviation: float
    n: int
    n_missing: int


class MeanAccumulator:
    """Computes mean and standard deviation of values that come in batches, exactly.

    Example::

        >>> from captum_mda.metrics.accumulators import MeanAccumulator
        >>> first, second = MeanAccumulator(), MeanAccumulator()
        >>> first.update([0.5, 1.0])
        >>> second.update([1.5, float("nan")])
        >>> first.merge(second)
        >>> first.compute()
        MeanAndDeviation(mean=1.0, standard_deviation=0.5, n=3, n_missing=1)
    """

    def __init__(self) -> None:
        self._n = self._n_missing = 0
        self._total = self._total_of_squares = Fraction(0)

    def update(self, values: Values) -> None:
        """Take in values, (B,), which may be none; NaN is counted and left out.

        Raises:
            TypeError: The values are no real numbers.
            ValueError: They are not of shape (B,), or one is infinite.
        """
        read = example_values("values", values)
        present = read[~np.isnan(read)].tolist()
        total, total_of_squares = _exact_totals(present)
        self._n += len(present)
        self._n_missing += read.size - len(present)
        self._total += total
        self._total_of_squares += total_of_squares

    def merge(self, other: MeanAccumulator) -> None:
        """Take in all that another accumulator has seen; that one is left alone.

        Raises:
            TypeError: ``other`` is no such accumulator.
        """
        require_same_type(self, other)
        self._n += other._n
        self._n_missing += other._n_missing
        self._total += other._total
        self._total_of_squares += other._total_of_squares

    def compute(self) -> MeanAndDeviation:
        """Compute mean and standard deviation of all values so far.

        Raises:
            ValueError: There is no value that is not NaN.
        """
        if self._n == 0:
            raise ValueError(f"no values to average; {self._n_missing} were NaN")
        mean, deviation = self._total / self._n, math.nan
        if self._n > 1:
            squares = self._total_of_squares - self._total * mean
            deviation = _square_root(squares / (self._n - 1))
        return MeanAndDeviation(float(mean), deviation, self._n, self._n_missing)

    def state(self) -> dict[str, Any]:
        """Return all that was seen, as strings and integers, for JSON."""
        return {
            "kind": type(self).__name__,
            "n": self._n,
            "n_missing": self._n_missing,
            "total": str(self._total),
            "total_of_squares": str(self._total_of_squares),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MeanAccumulator:
        """Make the accumulator whose `state` this is.

        Raises:
            ValueError: It is not the state of such an accumulator.
        """
        result = cls()
        require_state(result, state)
        result._n = require_count("state: n", state["n"])
        result._n_missing = require_count("state: n_missing", state["n_missing"])
        result._total = _fraction(state, "total")
        result._total_of_squares = _fraction(state, "total_of_squares")
        # No sum of squares is less than this, whatever the values are.
        if result._total**2 > result._n * result._total_of_squares:
            raise ValueError(
                f"state: no {result._n} values have the total and total_of_squares "
                "that it holds"
            )
        return result


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


def _fraction(state: Mapping[str, Any], name: str) -> Fraction:
    try:
        return Fraction(state[name])
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"state: got {state[name]!r} as {name}, takes a fraction such as '7/2'"
        ) from error


def _exact_totals(values: Sequence[float]) -> tuple[Fraction, Fraction]:
    """Sum values, and their squares, without rounding."""
    # Adding integers over the same denominator is far faster than adding fractions.
    totals: dict[int, int] = {}
    squares: dict[int, int] = {}
    for value in values:
        numerator, denominator = value.as_integer_ratio()
        totals[denominator] = totals.get(denominator, 0) + numerator
        squares[denominator] = squares.get(denominator, 0) + numerator**2
    return (
        sum((Fraction(total, d) for d, total in totals.items()), Fraction(0)),
        sum((Fraction(total, d**2) for d, total in squares.items()), Fraction(0)),
    )


def _square_root(square: Fraction) -> float:
    """Take the root of a fraction that may be beyond the range of floats."""
    if square == 0:
        return 0.0
    # Scaled by a power of four to over 200 bits, so that the integer root has over 100.
    shift = 100 - (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    root = math.isqrt(math.floor(square * Fraction(4) ** shift))
    return float(Fraction(root) / Fraction(2) ** shift)


def require_same_type(accumulator: object, other: object) -> None:
    """Raise a TypeError unless two accumulators can be merged."""
    if type(other) is not type(accumulator):
        raise TypeError(
            f"other: got {type(other).__name__}, takes a {type(accumulator).__name__}"
        )


def require_state(
    accumulator: Any,
    state: Mapping[str, Any],
) -> None:
    """Raise unless a state has the kind and the fields of this accumulator's own."""
    own = accumulator.state()
    if not isinstance(state, Mapping) or state.keys() != own.keys():
        raise ValueError(f"state: takes the fields {', '.join(own)}")
    if state["kind"] != own["kind"]:
        raise ValueError(f"state: got that of a {state['kind']}, takes {own['kind']}")
