"""Rounds of the joint search, and local moves on a finished order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.ordering import (
    FastOrdering,
    JointOrdering,
    Ordering,
    PaperOrdering,
    RefinedOrdering,
)
from captum_mda.ordering.joint import ResponseCache
from captum_mda.ordering.lockstep import Search, SubsetQuery


def model_of(n: int, seed: int) -> Recorder:
    """Scores of a small random network, which do not only rise."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(n, 2 * n, generator=generator, dtype=torch.float64)
    outer = torch.rand(2 * n, generator=generator, dtype=torch.float64)
    weights = torch.rand(n, generator=generator, dtype=torch.float64)
    return Recorder(lambda rows: (rows @ inner).tanh() @ outer + 3 * rows @ weights)


def explain(
    ordering: Ordering | str, n: int, seed: int, n_examples: int = 1, **options: Any
) -> MDAExplanation:
    generator = torch.Generator().manual_seed(seed + 1)
    mda = MetricDrivenAttribution(
        options.pop("model", None) or model_of(n, seed),
        ordering=ordering,
        score="identity",
        on_degenerate="zero",
        refine=options.pop("refine", 0),
    )
    return mda.explain(
        torch.ones(n_examples, n, dtype=torch.float64),
        seed_attributions=torch.rand(n_examples, n, generator=generator),
        **options,
    )


def literal_score(n: int, seed: int, order: Tensor) -> float:
    """Insertion less deletion of an order, point by point."""
    model = model_of(n, seed)

    def response(present: list[int]) -> float:
        row = torch.zeros(1, n, dtype=torch.float64)
        row[0, present] = 1.0
        return float(model(row)[0])

    features, empty, full = order.tolist(), response([]), response(list(range(n)))
    rise, fall, area = 0.0, 1.0, 0.0
    for k in range(n + 1):
        inserted = (response(features[:k]) - empty) / (full - empty)
        deleted = (response(features[k:]) - empty) / (full - empty)
        rise = max(rise, min(max(inserted, 0.0), 1.0))
        fall = min(fall, min(max(deleted, 0.0), 1.0))
        area += (rise - fall) * (0.5 if k in (0, n) else 1.0)
    return area / n


def scores_of(explanation: MDAExplanation) -> Tensor:
    return (
        torch.trapezoid(explanation.insertion_curve - explanation.deletion_curve)
        / explanation.order.shape[1]
    )


cases = given(st.integers(2, 20), st.integers(0, 10**6))


@settings(deadline=None, max_examples=15)
@cases
def test_moves_never_lower_the_score(n: int, seed: int) -> None:
    for ordering in (PaperOrdering(), JointOrdering(rounds=2)):
        first = explain(ordering, n, seed)
        if bool(first.degenerate[0]):
            return
        refined = explain(ordering, n, seed, refine=5)
        assert refined.order[0].sort().values.tolist() == list(range(n))
        assert torch.equal(refined.n_inserted, first.n_inserted)
        before = literal_score(n, seed, first.order[0])
        after = literal_score(n, seed, refined.order[0])
        assert after >= before - 1e-12
        # Its curves are the model's own, every point.
        assert float(scores_of(refined)[0]) == pytest.approx(after, abs=1e-12)


def test_moves_raise_what_can_be_raised() -> None:
    """On random models nearly every order of the published search can be improved."""
    gains = [
        literal_score(16, seed, explain("paper", 16, seed, refine=8).order[0])
        - literal_score(16, seed, explain("paper", 16, seed).order[0])
        for seed in range(8)
    ]
    assert min(gains) >= 0.0 and np.mean(gains) > 0.002


def test_an_exchange_by_hand() -> None:
    """Of four features, seeded the wrong way round, neighbours change places."""
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0]).double()
    model = Recorder(lambda rows: rows @ weights)

    def backwards(task: Any) -> Any:
        found = PaperOrdering()(task)
        return replace(found, order=torch.tensor([[3, 2, 1, 0]]))

    orders = [
        explain(backwards, 4, 0, model=model, refine=passes).order[0].tolist()
        for passes in (1, 2)
    ]
    # Pairs of single features first, then the two pairs.
    assert orders == [[2, 3, 0, 1], [0, 1, 2, 3]]
    plain = explain(backwards, 4, 0, model=Recorder(lambda rows: rows @ weights))
    moved = explain(backwards, 4, 0, model=model, refine=2)
    # Without moves the two points that the search left open are evaluated; with them
    # both curves whole, 2 points of each in the first pass and 3 of each in the second.
    assert moved.n_forwards == plain.n_forwards - 2 + 6 + 4 + 6


@settings(deadline=None, max_examples=12)
@cases
def test_further_rounds_never_lower_the_score(n: int, seed: int) -> None:
    """Where every point that counts is evaluated, so that scores are exact."""
    search = FastOrdering(quiet_level=0.0, forwards_per_feature=1e6)
    scores = []
    for rounds in (1, 2, 4):
        ordering = JointOrdering(1e9, rounds, [search])
        found = explain(ordering, n, seed)
        if bool(found.degenerate[0]):
            return
        scores.append(float(scores_of(found)[0]))
    assert scores == sorted(scores)
    one = explain(search, n, seed)
    assert float(scores_of(one)[0]) == pytest.approx(scores[0], abs=1e-12)


def test_a_first_round_is_the_search_itself_and_budgets_hold() -> None:
    search = FastOrdering(forwards_per_feature=2.5)
    once = explain(search, 64, 3)
    joint = explain(JointOrdering(0.1, searches=[search]), 64, 3)
    assert torch.equal(joint.order, once.order)
    assert joint.n_forwards <= once.n_forwards  # nothing is evaluated twice
    for budget in (16.0, 32.0):
        found = explain(JointOrdering(budget, 50, [search]), 64, 3)
        assert once.n_forwards < found.n_forwards <= budget * 64 + 3


def test_chunks_and_neighbours_change_nothing() -> None:
    for options in ({"ordering": "joint"}, {"ordering": "fast", "refine": 3}):
        whole = explain(n=16, seed=1, n_examples=3, **options)
        small = explain(n=16, seed=1, n_examples=3, perturbations_per_eval=2, **options)
        assert torch.equal(small.order, whole.order)
        first = explain(n=16, seed=1, n_examples=1, **options)
        assert torch.equal(first.order[0], whole.order[0])
        assert first.n_forwards == int(whole.forwards[0])


def test_nothing_is_evaluated_twice() -> None:
    def search() -> Search[list[float]]:
        twice = np.array([[True, False], [False, True], [True, False]])
        first = yield SubsetQuery(twice, 0)
        second = yield SubsetQuery(twice[:2], 0)
        other = yield SubsetQuery(twice[:1], 1)
        rounded = yield SubsetQuery(twice[:1], 0, in_bf16=True)
        return [*first, *second, *other, *rounded]

    cache = ResponseCache()
    running = cache.run(search())  # type: ignore[arg-type]
    assert next(running).subsets.tolist() == [[True, False], [False, True]]
    assert running.send(np.array([1.0, 2.0])).baseline_index == 1
    assert running.send(np.array([3.0])).in_bf16
    with pytest.raises(StopIteration) as stop:
        running.send(np.array([4.0]))
    assert stop.value.value == [1.0, 2.0, 1.0, 1.0, 2.0, 3.0, 4.0]
    assert cache.n_evaluated == 4


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: JointOrdering(0.0), ValueError, "forwards_per_feature: got 0.0"),
        (lambda: JointOrdering(rounds=0), ValueError, "rounds: got 0"),
        (lambda: JointOrdering(searches=[]), TypeError, "sequence of FastOrdering"),
        (lambda: JointOrdering(searches=["fast"]), TypeError, "sequence of Fast"),
        (lambda: RefinedOrdering("fast"), TypeError, "ordering: got str"),  # type: ignore[arg-type]
        (lambda: RefinedOrdering(FastOrdering(), 0), ValueError, "passes: got 0"),
        (lambda: FastOrdering(patience=-1), ValueError, "patience: got -1"),
        (
            lambda: MetricDrivenAttribution(lambda x: x, refine=1.5),  # type: ignore[arg-type]
            TypeError,
            "refine: got 1.5",
        ),
    ],
)
def test_bad_options(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_orderings_say_what_they_are() -> None:
    assert repr(PaperOrdering(7)) == "PaperOrdering(window=7)"
    said = repr(RefinedOrdering(JointOrdering(rounds=3), 2))
    assert said.startswith("RefinedOrdering(ordering=JointOrdering(")
    assert "rounds=3" in said and said.endswith("passes=2)")
