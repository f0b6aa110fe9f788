"""magnitude="mas": no more penalty than the fitted rules have, and the most MAS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from example_curves import FloatArray
from hypothesis import example, given, settings, strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from captum_mda.magnitude import (
    align_density,
    aligned_difference,
    density_of,
    fit_density,
    FITTED_RULES,
    mean_penalty,
    mean_response,
    resampled,
    sparse_magnitudes,
)

ROUNDING = 2e-12


# --- the formulas -----------------------------------------------------------


def literal_figures(
    inserted: FloatArray, deleted: FloatArray, density: FloatArray
) -> tuple[float, float]:
    """Spec 10.1: the alignment penalty's area, mean of both curves; MAS Ins-Del."""
    n = len(density) - 1
    penalties, areas = [], []
    for response, dr, sign in ((inserted, density, -1), (deleted, 1 - density, 1)):
        ap = [abs(mr - d) for mr, d in zip(response, dr, strict=True)]
        curve = [
            min(1.0, max(0.0, mr + sign * a))
            for mr, a in zip(response, ap, strict=True)
        ]
        low, high = min(curve), max(curve)
        curve = [(value - low) / (high - low) for value in curve]
        for values, found in ((ap, penalties), (curve, areas)):
            found.append((sum(values) - values[0] / 2 - values[-1] / 2) / n)
    return sum(penalties) / 2, areas[0] - areas[1]


def literal_reading(
    density: FloatArray, sizes: FloatArray, points: FloatArray | None
) -> FloatArray:
    """DR between two borders of patches is linear in the elements that have moved."""
    if points is None:
        return density
    borders = np.concatenate([[0], sizes.cumsum()]) / sizes.sum()
    return np.interp(points, borders, density)


def literal_most_mas(
    inserted: FloatArray, deleted: FloatArray, sizes: FloatArray, most: float
) -> float:
    """The most MAS within a penalty, by a mixed-integer programme.

    The variables are A, abs(R - D), its capped form t and whether it is capped, z: a
    point loses abs(R - D), or R.
    """
    n = len(sizes)
    rise = np.concatenate([inserted, 1 - deleted])
    density = np.tile(np.tril(np.ones((n + 1, n)), -1) * sizes, (2, 1))
    m = len(rise)
    one, zero = np.eye(m), np.zeros((m, m))
    rows = np.block(
        [
            [density, -one, zero, zero],  # D - R <= p
            [-density, -one, zero, zero],  # R - D <= p
            [np.zeros((m, n)), one, -one, -2 * one],  # t >= p, or z
            [np.zeros((m, n)), zero, -one, 2 * one],  # t >= R, or not z
            [np.diff(np.eye(n), axis=0), np.zeros((n - 1, 3 * m))],  # A falls
            [np.zeros((1, n)), np.ones((1, m)), np.zeros((1, 2 * m))],
        ]
    )
    bounds = [rise, -rise, np.zeros(m), 2 - rise, np.zeros(n - 1), [most * 2 * n]]
    total = np.concatenate([sizes, np.zeros(3 * m)])
    found = milp(
        np.concatenate([np.zeros(n + m), np.ones(m), np.zeros(m)]) / n,
        constraints=[
            LinearConstraint(rows, ub=np.concatenate(bounds)),
            LinearConstraint(total[None], 1, 1),
        ],
        bounds=Bounds(0, np.concatenate([np.full(n + 2 * m, np.inf), np.ones(m)])),
        integrality=np.concatenate([np.zeros(n + 2 * m), np.ones(m)]),
    )
    areas = (rise.sum() - 1) / n  # of both R, whose ends are 0 and 1
    return float(areas - 1 - found.fun)


# --- cases ------------------------------------------------------------------


class Case:
    """The curves of an example, and what the rules make of them."""

    def __init__(
        self,
        inserted: FloatArray,
        deleted: FloatArray,
        sizes: FloatArray,
        points: FloatArray | None = None,
    ) -> None:
        self.inserted, self.deleted = inserted, deleted
        self.sizes, self.points = sizes, points
        self.curves = torch.from_numpy(np.stack([inserted, deleted]))[:, None]
        mean = resampled(mean_response(*self.curves), len(sizes))
        self.fitted = fit_density(mean, "nnls")
        self.aligned = align_density(
            self.fitted,
            torch.from_numpy(sizes)[None],
            *self.curves,
            None if points is None else torch.from_numpy(points),
        )
        self.magnitudes = self.magnitudes_of("mas")

    def magnitudes_of(self, rule: str) -> Tensor:
        density = self.aligned if rule == "mas" else self.fitted
        sizes = torch.from_numpy(self.sizes)[None]
        return sparse_magnitudes(density, sizes, rule)[0]  # type: ignore[arg-type]

    def figures(self, rule: str) -> tuple[float, float]:
        """The penalty and the MAS of a rule's map, order term and all."""
        mass = self.magnitudes_of(rule).numpy() * self.sizes
        density = np.concatenate([[0.0], mass.cumsum() / mass.sum()])
        read = literal_reading(density, self.sizes, self.points)
        return literal_figures(self.inserted, self.deleted, read)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Curves with plateaus and jumps; either may be the higher one."""
    n = draw(st.integers(1, 12))
    by_patch = draw(st.booleans())
    n_steps = n if by_patch else draw(st.integers(2, 30))
    levels = st.lists(st.integers(0, 8), min_size=n_steps - 1, max_size=n_steps - 1)
    inserted = np.array([0, *sorted(draw(levels)), 8]) / 8
    deleted = np.array([8, *sorted(draw(levels), reverse=True), 0]) / 8
    equal = st.just([4] * n)
    unequal = st.lists(st.sampled_from([1, 2, 3, 50]), min_size=n, max_size=n)
    sizes = np.array(draw(equal | unequal), dtype=np.float64)
    points = None if by_patch else np.linspace(0, 1, n_steps + 1)
    return Case(inserted, deleted, sizes, points)


def steep(n: int, at: int) -> FloatArray:
    return (np.arange(n + 1) >= at).astype(np.float64)


# --- never worse ------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@example(Case(steep(9, 9), 1 - steep(9, 9), np.ones(9)))  # no rise until the end
@example(Case(steep(9, 1), 1 - steep(9, 1), np.ones(9)))
@example(Case(steep(9, 9), 1 - steep(9, 1), np.ones(9)))
@example(Case(steep(9, 1), 1 - steep(9, 9), np.ones(9)))
@example(Case(np.linspace(0, 1, 10), np.linspace(1, 0, 10), np.ones(9)))
@given(cases())
def test_no_fitted_rule_has_less_penalty(case: Case) -> None:
    penalty, mas = case.figures("mas")
    others = [case.figures(rule) for rule in FITTED_RULES]
    least = min(others)[0]
    assert penalty <= least + ROUNDING
    assert mas >= max(m for p, m in others if p <= least + 1e-14) - ROUNDING


@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_order_is_strict_and_the_density_is_the_maps_own(case: Case) -> None:
    assert (case.magnitudes.diff() < 0).all() and (case.magnitudes >= 0).all()
    assert case.aligned[0, 0] == 0 and case.aligned[0, -1] == 1
    sizes = torch.from_numpy(case.sizes)
    again = density_of(case.magnitudes, sizes)
    torch.testing.assert_close(again, case.aligned[0], rtol=0, atol=1e-12)
    # On average over all elements a magnitude is what one of N equal patches gets.
    mean = float((case.magnitudes * sizes).sum() / sizes.sum())
    assert mean == pytest.approx(1 / len(sizes), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_the_figures_are_those_of_the_formulas(case: Case) -> None:
    density = literal_reading(case.fitted[0].numpy(), case.sizes, case.points)
    read = torch.from_numpy(density)[None]
    penalty, mas = literal_figures(case.inserted, case.deleted, density)
    assert float(mean_penalty(*case.curves, read)) == pytest.approx(penalty, abs=1e-12)
    actual = float(aligned_difference(*case.curves, read))
    assert actual == pytest.approx(mas, abs=1e-12)


# --- the most there is ------------------------------------------------------


def seeded(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    inner = rng.integers(0, 11, size=(2, n - 1)) / 10
    if seed % 3 == 0:
        inner = rng.exponential(size=(2, n - 1)).cumsum(axis=1).clip(0, n) / n
    rises = [np.concatenate([[0], each, [1]]) for each in np.sort(inner)]
    sizes = np.ones(n) if seed % 2 else rng.integers(1, 5, size=n).astype(np.float64)
    return Case(rises[0], 1 - rises[1], sizes)


@pytest.mark.parametrize("seed", range(40))
def test_no_map_of_that_penalty_has_more(seed: int) -> None:
    case = seeded(seed)
    most = min(case.figures(rule)[0] for rule in FITTED_RULES)
    best = literal_most_mas(case.inserted, case.deleted, case.sizes, most)
    assert case.figures("mas")[1] == pytest.approx(best, abs=1e-5)


def test_these_cases_gain_and_the_bound_binds() -> None:
    gained = bound = 0
    for case in map(seeded, range(40)):
        mas = case.figures("mas")[1]
        gained += mas > min(map(case.figures, FITTED_RULES))[1] + 0.01
        unbound = literal_most_mas(case.inserted, case.deleted, case.sizes, 1.0)
        bound += unbound > mas + 0.01
    assert gained >= 10 and bound >= 3


def test_a_point_that_is_lost_anyway_is_given_up() -> None:
    # After one of two patches insertion has 0.1 and deletion 0.8. From D = 0.2 on the
    # first is lost; all of [0.5, 0.8] has the same penalty, and 0.8 all of the second.
    case = Case(np.array([0, 0.1, 1]), np.array([1, 0.2, 0]), np.ones(2))
    assert case.fitted[0].tolist() == pytest.approx([0, 0.5, 1])
    assert case.aligned[0].tolist() == pytest.approx([0, 0.8, 1], abs=1e-6)
    assert case.figures("increment") == pytest.approx((0.175, -0.25), abs=1e-6)
    assert case.figures("mas") == pytest.approx((0.175, -0.1), abs=1e-6)


def test_a_concave_curve_that_both_metrics_share_is_met() -> None:
    rise = np.array([0, 0.6, 0.9, 1])
    case = Case(rise, 1 - rise, np.ones(3))
    assert case.aligned[0].tolist() == pytest.approx(rise.tolist(), abs=1e-5)


def test_patches_of_unequal_size_hold_their_share() -> None:
    # Element for element the second patch may hold no more than the first.
    case = Case(np.array([0, 0.1, 1]), np.array([1, 0.9, 0]), np.array([1.0, 3.0]))
    assert case.aligned[0].tolist() == pytest.approx([0, 0.25, 1], abs=1e-6)
    assert case.magnitudes.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert case.magnitudes[0] > case.magnitudes[1]


def test_rows_do_not_depend_on_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    rises = torch.rand(2, 5, 16, generator=generator, dtype=torch.float64)
    rises = torch.cat([torch.zeros(2, 5, 1), rises.cumsum(2)], dim=2)
    inserted, deleted = rises / rises[..., -1:]
    curves = (inserted, 1 - deleted)
    fitted = fit_density(mean_response(*curves), "nnls")
    sizes = torch.ones(5, 16, dtype=torch.float64)
    together = align_density(fitted, sizes, *curves)
    for i in range(5):
        row = slice(i, i + 1)
        alone = align_density(fitted[row], sizes[row], *(c[row] for c in curves))
        assert torch.equal(alone, together[row])
