"""Several maps in one job: what each gets alone, for fewer forwards; and statuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import metrics
from captum_mda.metrics import PerturbationScores

FIELDS = (
    "insertion",
    "deletion",
    "insertion_deletion",
    "mas_insertion",
    "mas_deletion",
    "mas_insertion_deletion",
)
PROPERTIES = ("monotonicity", "aopc", "symmetric_relevance_gain")


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(n_inputs: int, seed: int) -> Callable[[Tensor], Tensor]:
    first, second = seeded(n_inputs, 6, seed=seed), seeded(6, 3, seed=seed + 1)
    return lambda rows: (rows.flatten(1) @ first).sin() @ second


def assert_same(one: PerturbationScores, other: PerturbationScores) -> None:
    for name in (*FIELDS, *PROPERTIES):
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=0, atol=1e-12, equal_nan=True
        )
    assert one.status == other.status


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 6),
    st.integers(1, 7),
    st.sampled_from(["mas", "rise"]),
    st.sampled_from([1, 3, None]),
    st.integers(0, 10**6),
)
def test_each_map_gets_what_it_gets_alone(
    n_maps: int,
    n_examples: int,
    n_features: int,
    n_steps: int,
    convention: str,
    chunk: int | None,
    seed: int,
) -> None:
    x = seeded(n_examples, n_features, seed=seed)
    maps = {
        f"map {number}": seeded(n_examples, n_features, seed=seed + number + 1)
        for number in range(n_maps)
    }
    model = Recorder(lambda rows: rows.sin().sum(1) + 50 * (rows == x[:1]).all(1))
    options = {
        "insertion_baselines": -5.0,
        "deletion_baselines": 0.5,
        "n_steps": n_steps,
        "convention": "rise" if n_examples > 1 else convention,
        "least_first": True,
        "max_examples_per_batch": chunk,
    }
    together = metrics.perturbation_scores_of_maps(model, x, maps, **options)
    n = min(n_steps, n_features)
    inner = n_maps * (n - 1)
    # Insertion; deletion and its reverse share what one leaves and the other keeps.
    assert model.rows <= n_examples * (inner + 2 * inner + 3)
    assert list(together) == list(maps)
    for name, values in maps.items():
        alone = metrics.perturbation_scores(model, x, values, **options)
        assert_same(together[name], alone)


def test_k_maps_cost_k_sweeps_and_two_ends() -> None:
    x, model = seeded(1, 10, seed=1), Recorder(network(10, 2))
    maps = {f"{number}": seeded(1, 10, seed=number + 3) for number in range(4)}
    metrics.perturbation_scores_of_maps(
        model, x, maps, 0.3, 0.0, target=1, n_steps=10, convention="rise"
    )
    n_steps, n_maps = 10, 4
    assert model.rows <= 2 * (n_maps * (n_steps + 1) + 2)
    assert model.rows <= 2 * n_maps * (n_steps - 1) + 3


def test_equal_subsets_are_asked_once() -> None:
    x, model = seeded(1, 5, seed=1), Recorder(network(5, 2))
    values = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    swapped = torch.tensor([[4.0, 5.0, 3.0, 2.0, 1.0]])
    maps = {"one": values, "same": values * 2, "swapped": swapped}
    found = metrics.perturbation_scores_of_maps(
        model, x, maps, 0.3, 0.0, target=1, convention="rise"
    )
    # Each way 4 inner points and one that only "swapped" comes by; and three ends.
    assert model.rows == 2 * (4 + 1) + 3
    assert_equal_curves(found["one"], found["same"])
    assert not torch.equal(found["one"].insertion, found["swapped"].insertion)


def assert_equal_curves(one: PerturbationScores, other: PerturbationScores) -> None:
    assert torch.equal(one.insertion_curve.raw, other.insertion_curve.raw)
    assert torch.equal(one.deletion_curve.raw, other.deletion_curve.raw)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 7), st.integers(0, 10**6))
def test_insertion_is_deletion_of_the_reverse_on_the_complement(
    n: int, seed: int
) -> None:
    """Inserting an order comes by the inputs that deleting its reverse comes by."""
    x, values = seeded(1, n, seed=seed), seeded(1, n, seed=seed + 1)
    model = Recorder(network(n, seed + 2))
    inserted = metrics.response_curve(
        model, x, values, target=0, convention="rise", mode="insertion"
    )
    deleted = metrics.response_curve(
        model, x, -values, target=0, convention="rise", mode="deletion"
    )
    assert torch.equal(inserted.raw, deleted.raw.flip(1))
    model.calls.clear()
    metrics.perturbation_scores(
        model, x, values, target=0, convention="rise", least_first=True
    )
    # The least-first deletion costs nothing then: n + 1 and n - 1 inputs in all.
    assert model.rows == 2 * n


@pytest.mark.parametrize("maps", [{}, None, [torch.ones(1, 2)]])
def test_maps_have_names(maps: object) -> None:
    with pytest.raises(TypeError, match=r"maps: got .* takes a mapping"):
        metrics.perturbation_scores_of_maps(
            network(2, 1),
            torch.ones(1, 2),
            maps,  # type: ignore[arg-type]
        )


def test_errors_name_the_map() -> None:
    x = torch.tensor([[1.0, 2.0]])
    with pytest.raises(ValueError, match="lime: constant map in example 0"):
        metrics.perturbation_scores_of_maps(
            lambda rows: rows.sum(1), x, {"ig": x, "lime": x * 0}
        )


# --- statuses -----------------------------------------------------------------


def test_an_input_below_its_baseline_is_told_and_left_out() -> None:
    x = torch.tensor([[3.0, 1.0], [-3.0, -1.0], [2.0, 2.0]])
    values = torch.tensor([[3.0, 1.0], [3.0, 1.0], [2.0, 2.0]])
    with pytest.warns(UserWarning) as warned:
        scores = metrics.perturbation_scores(
            lambda rows: rows.sum(1), x, values, on_degenerate="nan"
        )
    assert any("constant map" in str(each.message) for each in warned)
    assert any(
        "example 1 scores -4 on the target" in str(each.message) for each in warned
    )
    assert scores.status == (
        "ok",
        "input scores no higher than its baseline",
        "constant map",
    )
    for name in FIELDS:
        assert getattr(scores, name).isnan().tolist() == [False, True, True], name
    assert scores.aopc.isnan().tolist() == [False, False, True]


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 10**6))
def test_no_aligned_curve_is_flat(n: int, n_steps: int, seed: int) -> None:
    """Both ends are aligned, at 0 and 1: the published 0.5 of flat curves is no score.

    It needs an input that scores no higher than its baseline, which has a status.
    """
    x, values = seeded(1, n, seed=seed), seeded(1, n, seed=seed + 1)
    model = network(n, seed + 2)
    difference = model(x).softmax(1) - model(x * 0).softmax(1)
    target = int(difference.argmax())
    scores = metrics.perturbation_scores(
        model, x, values, target=target, n_steps=n_steps
    )
    for curve in (scores.insertion_curve, scores.deletion_curve):
        assert float(curve.mas.max() - curve.mas.min()) == pytest.approx(1)
        assert {round(float(curve.mas[0, k]), 9) for k in (0, -1)} == {0.0, 1.0}


def test_the_gain_must_be_asked_for() -> None:
    x = torch.tensor([[1.0, 2.0]])
    scores = metrics.perturbation_scores(lambda rows: rows.sum(1), x, x)
    with pytest.raises(ValueError, match="pass least_first=True"):
        scores.symmetric_relevance_gain  # noqa: B018
