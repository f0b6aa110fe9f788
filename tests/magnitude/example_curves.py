"""Mean response curves of many kinds, as the tests of the magnitudes want them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Rng = np.random.Generator


def _between_0_and_1(inner: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.clip(inner, 0.0, 1.0), [1.0]])


def _smooth(n: int, rng: Rng) -> FloatArray:
    return np.linspace(0, 1, n + 1) ** rng.uniform(0.1, 3.0)


def _random(n: int, rng: Rng) -> FloatArray:
    rises = rng.exponential(size=n) ** 2
    return _between_0_and_1(rises.cumsum()[:-1] / rises.sum())


def _plateaus(n: int, rng: Rng) -> FloatArray:
    levels = np.sort(rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], size=n - 1))
    return _between_0_and_1(levels)


def _single_step(n: int, rng: Rng) -> FloatArray:
    return (np.arange(n + 1) >= rng.integers(1, n + 1)).astype(np.float64)


def _noise(n: int, rng: Rng) -> FloatArray:
    return _between_0_and_1(rng.uniform(size=n - 1))


def _never_rises_until_the_end(n: int, rng: Rng) -> FloatArray:
    return _between_0_and_1(np.zeros(n - 1))


def _rises_at_once(n: int, rng: Rng) -> FloatArray:
    return _between_0_and_1(np.ones(n - 1))


def _linear(n: int, rng: Rng) -> FloatArray:
    return np.linspace(0, 1, n + 1)


def _nearly_linear(n: int, rng: Rng) -> FloatArray:
    return _between_0_and_1(_linear(n, rng)[1:-1] + rng.normal(size=n - 1) * 1e-9)


def _mean_of_both_curves(n: int, rng: Rng) -> FloatArray:
    """A noisy steep rise, its running maximum; and a slower fall's running minimum."""
    steps = np.linspace(0, 1, n + 1)
    up = 1 - np.exp(-rng.uniform(3, 40) * steps) + rng.normal(size=n + 1) * 0.05
    down = np.exp(-rng.uniform(1, 15) * steps) + rng.normal(size=n + 1) * 0.05
    up = np.maximum.accumulate(np.clip(up, 0, 1))
    down = np.minimum.accumulate(np.clip(down, 0, 1))
    return _between_0_and_1((up + 1 - down)[1:-1] / 2)


KINDS: dict[str, Callable[[int, Rng], FloatArray]] = {
    "smooth": _smooth,
    "random": _random,
    "plateaus": _plateaus,
    "single step": _single_step,
    "noise": _noise,
    "never rises until the end": _never_rises_until_the_end,
    "rises at once": _rises_at_once,
    "linear": _linear,
    "nearly linear": _nearly_linear,
    "mean of both curves": _mean_of_both_curves,
}

# How many curves of each kind there are, by the number of steps.
COUNTS = {2: 1, 3: 2, 4: 10, 7: 20, 16: 25, 25: 25, 49: 18, 196: 4, 400: 3}


@cache
def example_curves(kind: str) -> list[FloatArray]:
    """Make the same curves of a kind at every call; do not change them."""
    rng = np.random.default_rng(sorted(KINDS).index(kind))
    curves = [KINDS[kind](n, rng) for n, count in COUNTS.items() for _ in range(count)]
    for curve in curves:
        assert curve[0] == 0 and curve[-1] == 1
        assert curve.min() >= 0 and curve.max() <= 1
        curve.flags.writeable = False
    return curves
