"""Magnitudes: the published rules written out, and an order that is always strict."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from example_curves import example_curves, FloatArray, KINDS
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.magnitude import (
    blended_magnitudes,
    dense_magnitudes,
    MAGNITUDE_RULES,
    MagnitudeRule,
    solve_by_nnls,
    sparse_magnitudes,
    strictly_decreasing,
)

KAPPA = 0.005
PATCH_PIXELS = 256.0


@cache
def densities(kind: str) -> list[Tensor]:
    """The AD of every example curve of a kind, each (1, N + 1)."""
    return [torch.from_numpy(solve_by_nnls(c))[None] for c in example_curves(kind)]


def equal_sizes(n: int) -> Tensor:
    return torch.full((1, n), PATCH_PIXELS, dtype=torch.float64)


def unequal_sizes(n: int) -> Tensor:
    rng = np.random.default_rng(n)
    return torch.from_numpy(rng.integers(1, 1000, size=(1, n)).astype(np.float64))


# --- the formulas -----------------------------------------------------------


def literal_sparse(density: FloatArray, sizes: FloatArray, rule: str) -> FloatArray:
    """Spec 6.5: Eq. 10 as read, as coded, or the increment; and the order term.

    "mas", whose density has the strict order in itself, spreads increments over sizes.
    """
    n = len(density) - 1
    magnitudes = []
    for i in range(1, n + 1):
        d = density[i] - density[i - 1]
        if rule == "mas":
            magnitudes.append(d / sizes[i - 1] * sum(sizes) / n)
            continue
        if rule == "reference":
            a = d / sizes[i - 1] + d * (n - i) / n
        elif rule == "paper":
            a = d + d * (n - i) / n
        else:
            a = d
        magnitudes.append(a + 1e-6 * (n - i) / n)
    return np.array(magnitudes)


def literal_dense(sparse: FloatArray, kappa: float) -> FloatArray:
    """Spec 6.6: Eq. 11, scaled to the sparse maximum (D13)."""
    n = len(sparse)
    dense = [(n - i) / n if a >= kappa else a for i, a in enumerate(sparse, start=1)]
    return np.array(dense) / max(dense) * max(sparse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", MAGNITUDE_RULES)
def test_sparse_magnitudes_follow_the_rule(kind: str, rule: MagnitudeRule) -> None:
    for density in densities(kind):
        sizes = equal_sizes(density.shape[1] - 1)
        actual = sparse_magnitudes(density, sizes, rule)[0].numpy()
        expected = literal_sparse(density[0].numpy(), sizes[0].numpy(), rule)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kappa", [0.0, KAPPA, 0.1, 1.0])
def test_dense_magnitudes_follow_the_formula(kind: str, kappa: float) -> None:
    for density in densities(kind):
        sizes = equal_sizes(density.shape[1] - 1)
        sparse = sparse_magnitudes(density, sizes, "increment")
        actual = dense_magnitudes(sparse, kappa)[0].numpy()
        expected = literal_dense(sparse[0].numpy(), kappa)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_blended_magnitudes_are_the_weighted_mean(gamma: float) -> None:
    # Two of four patches reach kappa, so both maps fall and nothing is lifted.
    sparse = torch.tensor([[0.6, 0.3, 0.004, 0.001]], dtype=torch.float64)
    dense = literal_dense(sparse[0].numpy(), KAPPA)
    np.testing.assert_allclose(dense, np.array([0.75, 0.5, 0.004, 0.001]) * 0.8)
    expected = (1 - gamma) * sparse[0].numpy() + gamma * dense
    actual = blended_magnitudes(sparse, gamma, KAPPA)[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


def test_magnitudes_of_a_hand_worked_density() -> None:
    # D = 0.5, 0.25, 0.25, 0 and f = 0.75, 0.5, 0.25, 0.
    density = torch.tensor([[0, 0.5, 0.75, 1, 1]], dtype=torch.float64)
    sizes = torch.full((1, 4), 2.0, dtype=torch.float64)
    order_term = 1e-6 * np.array([0.75, 0.5, 0.25, 0])
    for rule, values in {
        "increment": [0.5, 0.25, 0.25, 0],
        "paper": [0.875, 0.375, 0.3125, 0],
        "reference": [0.625, 0.25, 0.1875, 0],
    }.items():
        actual = sparse_magnitudes(density, sizes, rule)[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(actual, values + order_term, rtol=0, atol=1e-15)


def test_the_pixels_of_each_patch_of_the_order_count_in_the_reference_rule() -> None:
    density = torch.tensor([[0, 0.5, 0.8, 1]] * 2, dtype=torch.float64)
    sizes = torch.tensor([[1, 2, 4], [4, 2, 1]], dtype=torch.float64)
    actual = sparse_magnitudes(density, sizes, "reference")
    for row, size in zip(actual.numpy(), sizes.numpy(), strict=True):
        expected = literal_sparse(density[0].numpy(), size, "reference")
        expected = lifted(expected)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)
    assert actual[0, 0] != actual[1, 0]


@pytest.mark.parametrize(
    ("rule", "half_way"), [("increment", 0.50), ("paper", 0.58), ("reference", 0.75)]
)
def test_the_worst_case_density_responses_are_those_of_the_specification(
    rule: MagnitudeRule, half_way: float
) -> None:
    density = torch.linspace(0, 1, 197, dtype=torch.float64)[None]
    magnitudes = sparse_magnitudes(density, equal_sizes(196), rule)[0]
    response = float(magnitudes[:98].sum() / magnitudes.sum())
    assert response == pytest.approx(half_way, abs=0.01)


# --- the strict order -------------------------------------------------------


def falls_strictly(values: Tensor) -> bool:
    return bool((values[:, :-1] > values[:, 1:]).all()) and bool((values >= 0).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", MAGNITUDE_RULES)
@pytest.mark.parametrize("sizes", [equal_sizes, unequal_sizes])
def test_magnitudes_fall_strictly_also_in_float32(
    kind: str, rule: MagnitudeRule, sizes: type[equal_sizes]
) -> None:
    for density in densities(kind):
        sparse = sparse_magnitudes(density, sizes(density.shape[1] - 1), rule)
        assert falls_strictly(sparse)
        for gamma in (0.0, 0.3, 1.0):
            blended = blended_magnitudes(sparse, gamma, KAPPA)
            assert blended.dtype == torch.float64 and falls_strictly(blended)
            rounded = strictly_decreasing(blended.float())
            assert rounded.dtype == torch.float32 and falls_strictly(rounded)
            lift = float((rounded.double() - blended).abs().max())
            assert lift <= 1e-4 * float(blended.max())


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_no_threshold_breaks_the_order(kappa: float, gamma: float) -> None:
    for kind in KINDS:
        density = densities(kind)[-1]
        sparse = sparse_magnitudes(density, unequal_sizes(400), "reference")
        assert falls_strictly(blended_magnitudes(sparse, gamma, kappa))


def test_a_solvers_noise_does_not_turn_the_order_around() -> None:
    density = torch.tensor([[0, 0.4 - 1e-7, 0.8, 1, 1 - 1e-7]], dtype=torch.float64)
    for rule in MAGNITUDE_RULES:
        sparse = sparse_magnitudes(density, equal_sizes(4), rule)  # type: ignore[arg-type]
        assert falls_strictly(sparse)


def lifted(values: FloatArray) -> FloatArray:
    """Each value, or the next number above the one behind it, whichever is more."""
    values = values.copy()
    for i in reversed(range(len(values) - 1)):
        above = np.nextafter(values[i + 1], values.dtype.type(np.inf))
        values[i] = max(values[i], above)
    return values


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.lists(st.integers(0, 6), min_size=7, max_size=7), min_size=1, max_size=3
    ),
    st.sampled_from([torch.float64, torch.float32, torch.float16]),
)
def test_values_are_lifted_by_no_more_than_needed(
    rows: list[list[int]], dtype: torch.dtype
) -> None:
    values = torch.tensor(rows, dtype=dtype) / 6
    before = values.clone()
    result = strictly_decreasing(values)
    assert result.dtype == dtype and torch.equal(values, before)
    for row, expected in zip(result.numpy(), values.numpy(), strict=True):
        assert np.array_equal(row, lifted(expected))
    assert falls_strictly(result)


def test_what_falls_already_is_returned_as_it_is() -> None:
    values = torch.tensor([[3.0, 2.0, 1.0, 0.0], [4.0, 3.5, 3.25, 3.125]])
    assert torch.equal(strictly_decreasing(values), values)
