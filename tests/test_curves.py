"""Curves: values worked out by hand, and the published formulas written out."""

from __future__ import annotations

import pytest
import torch
from helpers import literal_area, literal_density, literal_mas, literal_monotone
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import curves
from captum_mda.curves import Mode


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def check(actual: Tensor, *expected: float) -> None:
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, tensor(*expected), rtol=0, atol=1e-12)


# --- by hand ----------------------------------------------------------------


def test_normalised_responses_are_0_at_the_baseline_and_1_at_the_input() -> None:
    raw = tensor(0.2, 0.1, 0.6, 1.2, 1.0)
    check(curves.normalized(raw, tensor(0.2)[0], tensor(1)[0]), 0, -0.125, 0.5, 1.25, 1)


def test_insertion_takes_the_running_maximum_of_what_was_clipped() -> None:
    raw = tensor(0.2, 0.1, 0.6, 0.4, 1.2, 1.0)
    curve = curves.monotone_response(raw, tensor(0.2)[0], tensor(1)[0], "insertion")
    check(curve, 0, 0, 0.5, 0.5, 1, 1)


def test_deletion_takes_the_running_minimum_of_what_was_clipped() -> None:
    raw = tensor(1.0, 1.2, 0.6, 0.8, 0.1, 0.2)
    curve = curves.monotone_response(raw, tensor(0.2)[0], tensor(1)[0], "deletion")
    check(curve, 1, 1, 0.5, 0.5, 0, 0)


def test_density_is_the_share_of_the_mass_moved_so_far() -> None:
    check(
        curves.density_response(tensor(4, 3, 0, 1), "insertion"),
        0,
        0.5,
        7 / 8,
        7 / 8,
        1,
    )
    check(
        curves.density_response(tensor(4, 3, 0, 1), "deletion"), 1, 0.5, 1 / 8, 1 / 8, 0
    )


def test_the_penalty_is_the_distance_of_response_and_density() -> None:
    check(curves.alignment_penalty(tensor(0, 0.7, 1), tensor(0, 0.9, 0.5)), 0, 0.2, 0.5)


def test_mas_insertion_subtracts_clips_and_stretches() -> None:
    # MR - AP = -0.1, 0.2, 0.4, 0.6; clipped 0, 0.2, 0.4, 0.6; stretched by 1/0.6.
    curve = curves.mas_curve(
        tensor(0, 0.3, 0.5, 1), tensor(0.1, 0.1, 0.1, 0.4), "insertion"
    )
    check(curve, 0, 1 / 3, 2 / 3, 1)


def test_mas_deletion_adds_clips_and_stretches() -> None:
    # MR + AP = 1.3, 0.8, 0.6, 0.2; clipped 1, 0.8, 0.6, 0.2; stretched from 0.2 to 1.
    curve = curves.mas_curve(
        tensor(1, 0.6, 0.5, 0), tensor(0.3, 0.2, 0.1, 0.2), "deletion"
    )
    check(curve, 1, 0.75, 0.5, 0)


@pytest.mark.parametrize(
    ("mode", "response", "line"),
    [
        ("insertion", 0.3, [0, 0.25, 0.5, 0.75, 1]),
        ("deletion", 0.8, [1, 0.75, 0.5, 0.25, 0]),
    ],
)
def test_a_mas_curve_that_clipping_leaves_constant_becomes_the_straight_line(
    mode: Mode, response: float, line: list[float]
) -> None:
    flat = torch.full((5,), response, dtype=torch.float64)
    curve = curves.mas_curve(flat, torch.full_like(flat, 0.5), mode)
    check(curve, *line)
    check(curves.area(curve)[None], 0.5)


def test_only_the_constant_curves_of_a_batch_become_the_straight_line() -> None:
    response = torch.stack([tensor(0.2, 0.2, 0.2), tensor(0, 0, 1)])
    curve = curves.mas_curve(response, torch.zeros(2, 3).double(), "insertion")
    check(curve[0], 0, 0.5, 1)
    check(curve[1], 0, 0, 1)


def test_the_area_counts_the_ends_half() -> None:
    check(curves.area(tensor(1, 0.5, 0.25, 3))[None], (0.5 + 0.5 + 0.25 + 1.5) / 3)
    check(curves.area(tensor(0, 1))[None], 0.5)


def test_areas_of_float32_curves_are_added_in_float64() -> None:
    assert curves.area(torch.tensor([0.0, 1.0, 1.0])).dtype == torch.float64


# --- against the formulas ---------------------------------------------------


MODES = st.sampled_from(["insertion", "deletion"])
UNIT = st.floats(0, 1)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=20), UNIT, st.floats(0.01, 1), MODES
)
def test_monotone_responses_are_the_published_ones(
    raw: list[float], base: float, rise: float, mode: Mode
) -> None:
    full = base + rise
    curve = curves.monotone_response(
        tensor(*raw), tensor(base)[0], tensor(full)[0], mode
    )
    check(curve, *literal_monotone(raw, base, full, mode))
    steps = curve.diff()
    assert (steps >= 0).all() if mode == "insertion" else (steps <= 0).all()
    assert 0 <= curve.min() and curve.max() <= 1


@settings(deadline=None, max_examples=150)
@given(st.lists(UNIT, min_size=1, max_size=20), st.floats(0.01, 1), MODES)
def test_density_responses_are_the_published_ones_whatever_the_scale(
    mass: list[float], more: float, mode: Mode
) -> None:
    mass.append(more)
    density = curves.density_response(tensor(*mass), mode)
    check(density, *literal_density(mass, mode))
    check(curves.density_response(1e9 * tensor(*mass), mode), *density.tolist())
    assert 0 <= density.min() and density.max() <= 1
    assert density[0] == (mode == "deletion")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(UNIT, UNIT), min_size=2, max_size=20), MODES)
def test_mas_curves_and_areas_are_the_published_ones(
    points: list[tuple[float, float]], mode: Mode
) -> None:
    response, density = (list(values) for values in zip(*points, strict=True))
    penalty = curves.alignment_penalty(tensor(*response), tensor(*density))
    curve = curves.mas_curve(tensor(*response), penalty, mode)
    expected = literal_mas(response, density, mode)
    check(curve, *expected)
    assert {float(curve.min()), float(curve.max())} == {0.0, 1.0}
    check(curves.area(curve)[None], literal_area(expected))


@pytest.mark.parametrize("mode", ["insertion", "deletion"])
def test_every_row_of_a_batch_is_treated_by_itself(mode: Mode) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(2, 3, 6, generator=generator)
    base, full = raw.amin(-1) - 0.1, raw.amax(-1) + 0.1
    mass = torch.rand(2, 3, 5, generator=generator)
    response = curves.monotone_response(raw, base, full, mode)
    density = curves.density_response(mass, mode)
    mas = curves.mas_curve(response, curves.alignment_penalty(response, density), mode)
    areas = curves.area(mas)
    assert areas.shape == (2, 3) and response.shape == density.shape == (2, 3, 6)
    for i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        single = curves.monotone_response(raw[i, j], base[i, j], full[i, j], mode)
        assert torch.equal(response[i, j], single)
        dense = curves.density_response(mass[i, j], mode)
        torch.testing.assert_close(density[i, j], dense, rtol=0, atol=1e-15)
        penalty = curves.alignment_penalty(single, dense)
        alone = curves.area(curves.mas_curve(single, penalty, mode))
        torch.testing.assert_close(areas[i, j], alone, rtol=0, atol=1e-14)
