"""From the two curves to their mean, and from that to the density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from example_curves import example_curves, FloatArray, KINDS

from captum_mda.magnitude import (
    fit_density,
    mean_response,
    solve_by_nnls,
    solve_by_osqp,
)


def test_the_mean_response_averages_the_rise_and_the_turned_over_fall() -> None:
    rise = torch.tensor([[0.0, 0.8, 1.0], [0.0, 0.5, 1.0]])
    fall = torch.tensor([[1.0, 0.4, 0.0], [1.0, 0.5, 0.0]])
    mean = mean_response(rise, fall)
    assert mean.dtype == torch.float64
    expected = torch.tensor([[0.0, 0.7, 1.0], [0.0, 0.5, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("solver", "solve"), [("nnls", solve_by_nnls), ("osqp", solve_by_osqp)]
)
def test_every_curve_of_a_batch_is_solved_by_the_named_solver(
    solver: str, solve: Callable[[FloatArray], FloatArray]
) -> None:
    batch = [
        next(c for c in example_curves(k) if len(c) == 17) for k in list(KINDS)[:4]
    ]
    density = fit_density(torch.from_numpy(np.stack(batch)), solver)
    assert density.dtype == torch.float64 and density.shape == (4, 17)
    for row, curve in zip(density.numpy(), batch, strict=True):
        assert np.array_equal(row, solve(curve))


@pytest.mark.parametrize("solver", ["nnls", "osqp"])
def test_one_patch_is_a_batch_like_any(solver: str) -> None:
    curves = torch.tensor([[0.0, 1.0]] * 2, dtype=torch.float64)
    assert torch.equal(fit_density(curves, solver), curves)


def test_a_callable_may_solve() -> None:
    seen = []

    def line(mean_curve: FloatArray) -> FloatArray:
        seen.append(mean_curve.copy())
        return np.linspace(0, 1, len(mean_curve))

    curves = torch.tensor([[0.0, 0.9, 1.0], [0.0, 0.1, 1.0]], dtype=torch.float64)
    density = fit_density(curves, line)
    assert density.tolist() == [[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]
    assert [curve.tolist() for curve in seen] == curves.tolist()
    assert seen[0].dtype == np.float64


@pytest.mark.parametrize("noise", [1e-7, -1e-7])
def test_a_callable_may_be_off_by_numerical_noise(noise: float) -> None:
    curve = torch.tensor([[0.0, 0.3, 0.6, 1.0]], dtype=torch.float64)
    near = np.array([0.0, 1 / 3, 2 / 3 + noise, 1.0])
    assert fit_density(curve, lambda _: near)[0].tolist() == near.tolist()


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ([0.0, 0.5, 1.0], r"returned shape \(3,\), must return shape \(5,\)"),
        ([[0.0, 0.25, 0.5, 0.75, 1.0]], r"returned shape \(1, 5\), must return shape"),
        ([0.0, 0.25, float("nan"), 0.75, 1.0], "returned NaN or infinite values"),
        ([0.0, 0.25, float("inf"), 0.75, 1.0], "returned NaN or infinite values"),
        ([0.0, 0.1, 0.2, 0.5, 1.0], "concave, increasing curve .* is off by 0.2"),
        ([0.0, 0.5, 0.9, 1.1, 1.0], "concave, increasing curve .* is off by 0.1"),
        ([0.1, 0.4, 0.7, 0.9, 1.0], "concave, increasing curve .* is off by 0.1"),
        ([0.0, 0.2, 0.4, 0.6, 0.8], "concave, increasing curve .* is off by 0.2"),
        ([0.0, 0.25, 0.5, 0.75 + 1e-5, 1.0], "is off by 1e-05"),
    ],
)
def test_solutions_that_are_no_density_are_refused(
    solution: object, message: str
) -> None:
    curve = torch.linspace(0, 1, 5, dtype=torch.float64)[None]
    with pytest.raises(ValueError, match=f"solver: .*{message}"):
        fit_density(curve, lambda _: np.array(solution))
