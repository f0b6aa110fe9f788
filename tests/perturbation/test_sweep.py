"""Sweeps over a ranking, against a loop over sweeps, examples and steps."""

from __future__ import annotations

import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.perturbation import Features, Response, SubsetResponses
from captum_mda.perturbation.sweep import Path, Ranking, Sweep


def weighted(rows: Tensor) -> Tensor:
    """A value in which every element has a weight of its own."""
    return rows.sin() @ torch.arange(1, rows.shape[1] + 1, dtype=torch.float64)


def test_a_ranking_knows_every_features_place() -> None:
    ranking = Ranking.of(torch.tensor([[2, 0, 1], [1, 2, 0]]), n_steps=2)
    assert ranking.place.tolist() == [[1, 2, 0], [2, 0, 1]]
    assert ranking.counts.tolist() == [0, 1, 3]
    assert ranking.n_steps == 2


@pytest.mark.parametrize(
    ("n_steps", "counts"), [(1, [0, 4]), (3, [0, 1, 2, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_steps_are_as_equal_as_can_be(n_steps: int, counts: list[int]) -> None:
    ranking = Ranking.of(torch.arange(4)[None], n_steps)
    assert ranking.counts.tolist() == counts


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.integers(2, 6),
    st.integers(1, 7),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.sampled_from([1, 4, None]),
    st.integers(0, 10**6),
)
def test_every_response_is_the_one_of_a_loop(
    n_examples: int,
    n_features: int,
    n_steps: int,
    deletes: list[bool],
    rows_per_forward: int | None,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_examples, n_features)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    baselines = torch.randn(len(deletes), *shape, generator=generator).double()
    order = torch.rand(shape, generator=generator).argsort(dim=1)
    model = Recorder(weighted)
    responses = SubsetResponses(
        Response(model, n_examples, rows_per_forward=rows_per_forward),
        (inputs,),
        [(baseline,) for baseline in baselines],
        Features.from_mask((inputs,), None),
    )
    ranking = Ranking.of(order, n_steps)
    paths = [Path(ranking, delete, index) for index, delete in enumerate(deletes)]
    sweep = Sweep(paths)
    raw = torch.stack(sweep.run(responses))

    n = min(n_steps, n_features)
    assert raw.shape == (len(deletes), n_examples, n + 1)
    assert raw.dtype == torch.float64
    for index, delete in enumerate(deletes):
        for example in range(n_examples):
            for step in range(n + 1):
                moved = order[example, : step * n_features // n]
                row = (inputs if delete else baselines[index])[example].clone()
                row[moved] = (baselines[index] if delete else inputs)[example, moved]
                expected = weighted(row[None])[0]
                torch.testing.assert_close(raw[index, example, step], expected)
        assert paths[index].full_point == (0 if delete else n)
    assert model.rows == sweep.n_rows == n_examples * (len(deletes) * n + 1)
