"""The concave fit: exact on a thousand curves, by either solver."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import quadprog
from example_curves import COUNTS, example_curves, FloatArray, KINDS
from hypothesis import given, settings, strategies as st

from captum_mda.magnitude import solve_by_nnls, solve_by_osqp


@cache
def bends(n: int) -> FloatArray:
    """The matrix of -(x_{i-1} - 2 x_i + x_{i+1}) for the n - 1 inner points."""
    matrix = 2 * np.eye(n - 1) - np.eye(n - 1, k=1) - np.eye(n - 1, k=-1)
    matrix.flags.writeable = False
    return matrix


def concave_by_quadprog(curve: FloatArray) -> FloatArray:
    """Minimise sum (x - y)^2 under second differences <= 0, x_0 = 0, x_N = 1."""
    n = len(curve) - 1
    right_end = np.zeros(n - 1)
    right_end[-1] = 1.0  # x_N = 1 enters the last constraint
    inner = quadprog.solve_qp(
        np.eye(n - 1), curve[1:-1].copy(), bends(n).T.copy(), right_end
    )[0]
    return np.concatenate([[0.0], inner, [1.0]])


@cache
def unit_multipliers(n: int) -> FloatArray:
    """Rows that turn a residual into multipliers of constraints of unit length."""
    inverse = np.linalg.inv(bends(n))
    return inverse / np.linalg.norm(inverse, axis=1, keepdims=True)


def assert_optimal(solution: FloatArray, curve: FloatArray, tolerance: float) -> None:
    """Check the KKT conditions, which only the one optimum fulfils.

    Stationarity, x - y = bends^T m, holds by how the multipliers m are made.
    """
    bend = -np.diff(solution, 2)
    multipliers = unit_multipliers(len(curve) - 1) @ (solution - curve)[1:-1]
    assert bend.min() >= -tolerance
    assert multipliers.min() >= -tolerance
    assert np.abs(multipliers * bend).max() <= tolerance


def assert_is_density(solution: FloatArray, tolerance: float = 1e-10) -> None:
    assert solution.dtype == np.float64
    assert solution[0] == 0.0 and solution[-1] == 1.0
    assert np.diff(solution).min() >= -tolerance
    assert np.diff(solution, 2).max() <= tolerance


def test_there_are_a_thousand_curves_with_2_to_400_steps() -> None:
    assert sum(COUNTS.values()) * len(KINDS) >= 1_000
    assert min(COUNTS) == 2 and max(COUNTS) == 400


@pytest.mark.parametrize("kind", KINDS)
def test_nnls_finds_the_optimum(kind: str) -> None:
    for curve in example_curves(kind):
        solution = solve_by_nnls(curve)
        assert_is_density(solution)
        assert_optimal(solution, curve, 1e-9)


def test_densities_are_concave_and_increasing_up_to_rounding() -> None:
    for kind in KINDS:
        for curve in example_curves(kind):
            assert_is_density(solve_by_nnls(curve), tolerance=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_nnls_agrees_with_a_quadratic_program(kind: str) -> None:
    for curve in example_curves(kind):
        expected = concave_by_quadprog(curve)
        np.testing.assert_allclose(solve_by_nnls(curve), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_osqp_finds_the_optimum_too(kind: str) -> None:
    for curve in example_curves(kind):
        solution = solve_by_osqp(curve)
        assert_is_density(solution)
        assert_optimal(solution, curve, 1e-9)
        np.testing.assert_allclose(solution, solve_by_nnls(curve), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.booleans())
def test_any_curve_between_0_and_1_is_solved(inner: list[int], rises: bool) -> None:
    curve = np.array([0, *(sorted(inner) if rises else inner), 1000]) / 1000
    before = curve.copy()
    for solve in (solve_by_nnls, solve_by_osqp):
        solution = solve(curve)
        assert_is_density(solution)
        assert_optimal(solution, curve, 1e-9)
    assert np.array_equal(curve, before)


@pytest.mark.parametrize("solve", [solve_by_nnls, solve_by_osqp])
@pytest.mark.parametrize(
    ("curve", "density"),
    [
        ([0, 0.5, 1], [0, 0.5, 1]),
        ([0, 0.1, 1], [0, 0.5, 1]),  # it may not bend up
        ([0, 0.9, 1], [0, 0.9, 1]),  # concave as it is
        ([0, 0.2, 0.9, 1], [0, 0.4, 0.8, 1]),  # slopes d, d: (0.2 + 2 * 0.9) / 5 = d
        ([0, 1, 1, 1, 1], [0, 1, 1, 1, 1]),
        ([0, 0, 0, 0, 1], [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_small_problems_are_solved_as_by_hand(
    solve: type[solve_by_nnls], curve: list[float], density: list[float]
) -> None:
    solution = solve(np.array(curve, dtype=np.float64))
    np.testing.assert_allclose(solution, density, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solve", [solve_by_nnls, solve_by_osqp])
def test_a_single_patch_has_all_the_density(solve: type[solve_by_nnls]) -> None:
    for _ in range(100):  # SciPy's nnls frees what it does not own, now and then
        assert solve(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_solvers_print_nothing(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    curve = next(c for c in example_curves(kind) if len(c) == 50)
    solve_by_nnls(curve)
    solve_by_osqp(curve)
    assert capfd.readouterr() == ("", "")
