"""The pointing game: by hand and against a literal loop."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.metrics.localization import pointing_game


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """One map of small integers, with many ties, and a mask: both (1, H, W)."""
    height, width = draw(st.tuples(st.integers(1, 5), st.integers(2, 5)))
    n = height * width
    values = st.lists(st.integers(-3, 3), min_size=n, max_size=n)
    flags = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    found = draw(values.filter(lambda row: len(set(row)) > 1))
    mask = draw(flags.filter(any))
    size = (1, height, width)
    return torch.tensor(found).double().view(size), torch.tensor(mask).view(size)


def literal_pointing_game(values: np.ndarray, truth: np.ndarray, reach: float) -> bool:
    """Whether an object pixel lies within reach of the first largest value."""
    peak, place = -math.inf, (0, 0)
    for row, column in np.ndindex(*values.shape):
        if values[row, column] > peak:
            peak, place = values[row, column], (row, column)
    return any(math.dist(place, each) <= reach for each in np.argwhere(truth))


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([0, 0.5, 1, 1.5, 2, 3, 15]))
def test_the_pointing_game_is_its_literal_loop(
    case: tuple[Tensor, Tensor], tolerance: float
) -> None:
    hit = pointing_game(*case, tolerance)
    assert hit.dtype == torch.float64
    expected = literal_pointing_game(case[0][0].numpy(), case[1][0].numpy(), tolerance)
    assert hit.tolist() == [expected]


def test_the_largest_value_must_lie_on_the_object() -> None:
    maps = torch.tensor([[[0.0, 5.0], [9.0, 1.0]]]).repeat(3, 1, 1)
    masks = torch.tensor([[[0, 0], [1, 0]], [[1, 1], [0, 1]], [[0, 1], [0, 0]]])
    assert pointing_game(maps, masks).tolist() == [1, 0, 0]
    assert pointing_game(maps, masks, tolerance=1).tolist() == [1, 1, 0]
    assert pointing_game(maps, masks, tolerance=1.5).tolist() == [1, 1, 1]


def test_of_equal_largest_values_the_first_points() -> None:
    maps = torch.tensor([[[0.0, 7.0], [7.0, 0.0]]]).repeat(2, 1, 1)
    masks = torch.tensor([[[0, 1], [0, 0]], [[0, 0], [1, 0]]])
    assert pointing_game(maps, masks).tolist() == [1, 0]


def test_the_tolerance_itself_is_within_reach() -> None:
    maps, masks = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    maps[0, 0, 0], masks[0, 2, 3] = 1, True
    reach = math.sqrt(13)  # whose square is below 13
    assert pointing_game(maps, masks, reach).tolist() == [1]
    assert pointing_game(maps, masks, math.nextafter(reach, 0)).tolist() == [0]


def test_an_object_that_fills_the_image_is_always_hit() -> None:
    maps = torch.tensor([[[0.0, 5.0], [9.0, 1.0]]])
    assert pointing_game(maps, torch.ones(1, 2, 2, dtype=torch.bool)).tolist() == [1]


def test_a_batch_is_its_single_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(20, 6, 7, generator=generator)
    masks = torch.rand(20, 6, 7, generator=generator) > 0.9
    together = pointing_game(maps, masks, tolerance=1)
    alone = [pointing_game(maps[i : i + 1], masks[i : i + 1], 1) for i in range(20)]
    assert torch.equal(together, torch.cat(alone))
    assert 0 < together.sum() < 20
