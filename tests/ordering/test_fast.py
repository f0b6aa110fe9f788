"""The fast search: orders and curves, what each of its economies does, and its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.ordering import FastOrdering, Ordering, PaperOrdering
from captum_mda.ordering.fast.completion import interpolated
from captum_mda.ordering.fast.settings import FEW_FEATURES
from captum_mda.ordering.memory import Memory
from captum_mda.perturbation.precision import Precision

EVERYTHING = {
    "forwards_per_feature": 1e6,
    "deletion_checks": 1,
    "quiet_level": 0.0,
    "patience": 0,
}
"""With these it looks at all of the window, and at insertion alone in front."""


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def model_of(n: int, seed: int) -> Recorder:
    """Scores that rise with what is present, pairs of features included."""
    single, pairs = seeded(n, seed=seed).abs(), seeded(n, n, seed=seed + 1).abs()
    return Recorder(lambda rows: rows @ single + 0.3 * ((rows @ pairs) * rows).sum(1))


def explain(
    ordering: Ordering | str,
    n: int = 12,
    n_examples: int = 2,
    seed: int = 1,
    model: Recorder | None = None,
    with_seed: bool = True,
    **options: Any,
) -> MDAExplanation:
    mda = MetricDrivenAttribution(
        model or model_of(n, seed), ordering=ordering, score="identity"
    )
    return mda.explain(
        torch.ones(n_examples, n, dtype=torch.float64),
        seed_attributions=seeded(n_examples, n, seed=seed + 9) if with_seed else None,
        **options,
    )


def raw_curve(model: Recorder, order: Tensor, deletes: bool) -> Tensor:
    """Insert or delete one feature after the other: (N + 1,)."""
    row = torch.full((1, len(order)), float(deletes), dtype=torch.float64)
    raw = [float(model(row)[0])]
    for feature in order.tolist():
        row[0, feature] = float(not deletes)
        raw.append(float(model(row)[0]))
    return torch.tensor(raw, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 9),
    st.sampled_from([None, 1, 3, 20]),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.floats(0, 1),
    st.integers(0, 10**6),
)
def test_with_everything_evaluated_it_is_the_exact_search(
    n: int, window: int | None, tau: float, share: float, seed: int
) -> None:
    options = {"n": n, "seed": seed, "tau": tau}
    exact = explain(PaperOrdering(window), **options)
    fast = explain(FastOrdering(window, oldest_share=share, **EVERYTHING), **options)
    assert torch.equal(fast.order, exact.order)
    assert torch.equal(fast.n_inserted, exact.n_inserted)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 14),
    st.sampled_from([0.1, 2.0, 5.0]),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_orders_are_orders_and_curves_keep_what_was_evaluated(
    n: int,
    budget: float,
    checks: int,
    quiet: float,
    tau: float,
    with_seed: bool,
    seed: int,
) -> None:
    model = model_of(n, seed)
    recorded = model_of(n, seed)
    ordering = FastOrdering(None, budget, checks, quiet)
    found = explain(
        ordering, n=n, seed=seed, model=recorded, tau=tau, with_seed=with_seed
    )
    for example in range(2):
        order = found.order[example]
        assert sorted(order.tolist()) == list(range(n))
        inserted = raw_curve(model, order, deletes=False)
        deleted = raw_curve(model, order, deletes=True)
        c = int(found.n_inserted[example])
        got = found.insertion_responses[example]
        # As far as insertion went, and at the ends, curves are the model's own ...
        torch.testing.assert_close(got[: c + 1], inserted[: c + 1])
        torch.testing.assert_close(got[-1], inserted[-1])
        got = found.deletion_responses[example]
        torch.testing.assert_close(got[[0, c, -1]], deleted[[0, c, -1]])
        # ... and elsewhere between its neighbours: this model only rises.
        assert bool((got.diff() <= 1e-9).all())
        if tau == 0.9:
            torch.testing.assert_close(got[: c + 1], deleted[: c + 1])


@pytest.mark.parametrize("budget", [4.0, 6.0])
def test_forwards_stay_within_the_budget(budget: float) -> None:
    """Where the seed leads the response to tau in time."""
    weights = 0.8 ** torch.arange(64.0).double()
    rough = weights + 0.1 * seeded(64, seed=0)
    rows = []
    for ordering in (
        FastOrdering(None, budget, deletion_checks=4, patience=0),
        FastOrdering(None, budget),
        PaperOrdering(),
    ):
        model = Recorder(lambda rows: rows @ weights)
        mda = MetricDrivenAttribution(model, ordering=ordering, score="identity")
        mda.explain(torch.ones(1, 64).double(), seed_attributions=rough[None])
        rows.append(model.rows)
    assert rows[0] <= budget * 64 + 32
    # More checks, and patches past tau, may take a little more than the budget.
    assert rows[1] <= 1.2 * budget * 64
    assert rows[1] < 0.5 * rows[2]


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("budget", [4.5, 6.0])
def test_the_budget_holds_where_tau_is_far(budget: float, precision: Precision) -> None:
    """Each of 196 features adds the same or nearly: tau is reached at the 177th."""
    n = 196
    for weights in (torch.ones(n).double(), seeded(n, seed=1).abs() + 3.0):
        model = Recorder(lambda rows, weights=weights: rows @ weights)
        mda = MetricDrivenAttribution(
            model,
            ordering=FastOrdering(None, budget),
            score="identity",
            precision=precision,
        )
        found = mda.explain(
            torch.ones(1, n).double(), seed_attributions=seeded(1, n, seed=5)
        )
        # All candidates are near ties: in bfloat16 many are evaluated twice.
        share, off = (1.05, 0.01) if precision is None else (1.1, 0.02)
        assert model.rows <= share * budget * n
        (order,), c = found.order, int(found.n_inserted[0])
        assert c < 0.9 * n
        inserted = raw_curve(model, order, deletes=False)
        deleted = raw_curve(model, order, deletes=True)
        # Pairs of insertion are met both ways; the rest is interpolated.
        torch.testing.assert_close(
            found.insertion_responses[0, : c + 1], inserted[: c + 1]
        )
        torch.testing.assert_close(
            found.deletion_responses[0, : c + 1], deleted[: c + 1]
        )
        assert float((found.insertion_responses[0] - inserted).abs().max()) < off * n


def test_without_a_seed_it_makes_one_for_two_forwards_a_feature() -> None:
    weights = torch.tensor([0.0, 5.0, 0.0, 9.0, 0.0, 1.0] + [0.0] * 58).double()
    model = Recorder(lambda rows: rows @ weights)
    found = explain("fast", n=64, n_examples=1, model=model, with_seed=False)
    assert found.order[0, :3].tolist() == [3, 1, 5]
    # Alone, each feature adds its weight and takes it away.
    told = Recorder(lambda rows: rows @ weights)
    mda = MetricDrivenAttribution(told, ordering="fast", score="identity")
    same = mda.explain(torch.ones(1, 64).double(), seed_attributions=weights[None])
    assert torch.equal(same.order, found.order)
    assert model.rows == told.rows + 2 * 64


def test_quiet_patches_cost_next_to_nothing() -> None:
    """Three features of 256 matter, and the seed knows which."""
    weights = torch.zeros(256).double()
    weights[[7, 50, 200]] = torch.tensor([3.0, 2.0, 1.0]).double()
    model = Recorder(lambda rows: rows @ weights)
    mda = MetricDrivenAttribution(model, ordering="fast", score="identity")
    x = torch.ones(1, 256).double()
    found = mda.explain(x, seed_attributions=weights[None])
    assert found.order[0, :3].tolist() == [7, 50, 200]
    assert model.rows < 256


def test_in_front_deletion_has_a_say() -> None:
    """Features 0 and 1 say the same: each gives most, but deleting it takes nothing."""
    rest = torch.full((13,), 0.01).double()

    def model(rows: Tensor) -> Tensor:
        return rows[:, :2].amax(1) + 0.9 * rows[:, 2] + rows[:, 3:] @ rest

    x, seed = torch.ones(1, 16).double(), torch.arange(16.0, 0.0, -1.0)[None]

    def first(checks: int, tau: float = 0.9) -> int:
        ordering = FastOrdering(None, 1e6, checks)
        mda = MetricDrivenAttribution(model, ordering=ordering, score="identity")
        return int(mda.explain(x, seed_attributions=seed, tau=tau).order[0, 0])

    assert first(checks=1) == 0
    assert first(checks=4) == 2
    assert first(checks=4, tau=1.0) == 0  # insertion alone


def test_of_few_features_what_deleting_did_tells_whom_to_check() -> None:
    """Six features in pairs give more each; two give less, but are missed if gone."""
    rest = torch.full((8,), 0.01).double()

    def model(rows: Tensor) -> Tensor:
        pairs = rows[:, :6].view(-1, 3, 2).amax(2).sum(1)
        return pairs + 0.9 * rows[:, 6:8].sum(1) + rows[:, 8:] @ rest

    x, seed = torch.ones(1, 16).double(), torch.arange(16.0, 0.0, -1.0)[None]

    def first(checks: int | None) -> list[int]:
        ordering = FastOrdering(None, 1e3, checks)
        mda = MetricDrivenAttribution(model, ordering=ordering, score="identity")
        found: list[int] = mda.explain(x, seed_attributions=seed).order[0, :2].tolist()
        return found

    # The first step checks all eight, so the second knows which few to check.
    assert first(None) == first(2) == [6, 7]
    assert first(1) == [0, 2]


def checks_by_step(n: int) -> tuple[list[int], list[int]]:
    """Count the rows with the first k patches deleted, and inserted: k from 1.

    Without the first feature nothing is left, and with it the others add alike.
    """
    deleted, inserted = [0] * (n + 1), [0] * (n + 1)
    weights = torch.linspace(1.2, 0.8, n - 1).double()

    def forward(rows: Tensor) -> Tensor:  # -1 is deleted, 0 not inserted yet
        present = (rows == 1).double()
        for k, is_deletion in zip(
            (n - present.sum(1)).int().tolist(), (rows == -1).any(1), strict=True
        ):
            (deleted if is_deletion else inserted)[k if is_deletion else n - k] += 1
        return present[:, 0] * (1 + present[:, 1:] @ weights)

    mda = MetricDrivenAttribution(forward, ordering="fast", score="identity")
    found = mda.explain(
        torch.ones(1, n),
        baselines=-torch.ones(1, n),
        insertion_baselines=torch.zeros(1, n),
        seed_attributions=torch.arange(float(n), 0.0, -1.0)[None],
    )
    c = int(found.n_inserted)
    assert found.order[0, 0] == 0 and c > 20
    return deleted[1 : c // 2], inserted[1 : c // 2]


def test_few_features_check_deletion_at_first_and_not_once_it_is_quiet() -> None:
    deleted, inserted = checks_by_step(FEW_FEATURES)
    assert deleted == [14] + [1] * (len(deleted) - 1)  # a window, then the curve
    of_many, _ = checks_by_step(FEW_FEATURES + 1)
    assert of_many[:5] == [5] * 5 and min(of_many) >= 2
    # What deletion does not need insertion has: it narrows over 0.8 of the budget, 196
    # of 245: of 14 after the first step, 14 (1 - 28 / 196) = 12, and so on.
    assert inserted[:6] == [14, 12, 11, 10, 9, 9]


def test_numbers_that_are_given_hold_for_few_features_too() -> None:
    given, default = (
        explain(ordering, n=30)
        for ordering in (FastOrdering(deletion_checks=3, patience=2), FastOrdering())
    )
    assert torch.equal(given.order, default.order)
    assert torch.equal(given.forwards, default.forwards)
    more = explain(FastOrdering(deletion_checks=5, patience=4), n=30)
    assert not torch.equal(more.forwards, default.forwards)


def test_chunks_and_neighbours_change_nothing() -> None:
    whole = explain("fast", n=40, n_examples=3)
    for size in (1, 2):
        one = explain("fast", n=40, n_examples=3, perturbations_per_eval=size)
        assert torch.equal(one.order, whole.order)
    mda = MetricDrivenAttribution(model_of(40, 1), ordering="fast", score="identity")
    seeds = seeded(3, 40, seed=10)
    for example in range(3):
        alone = mda.explain(
            torch.ones(1, 40, dtype=torch.float64),
            seed_attributions=seeds[example : example + 1],
        )
        assert torch.equal(alone.order[0], whole.order[example])
        assert alone.n_forwards == int(whole.forwards[example])


def test_memory_chooses_the_new_the_best_and_the_oldest() -> None:
    memory = Memory(6, oldest_share=0.34)
    assert memory.choose([0, 1, 2, 3], 2) == [0, 1, 2, 3]  # all are new
    memory.note([0, 1, 2, 3], np.array([4.0, 3.0, 2.0, 1.0]))
    memory.note([0, 2], np.array([4.0, 2.0]))
    # One of two places is for the oldest: 1 and 3, of which 1 has the lower index.
    assert memory.choose([0, 1, 2, 3], 2) == [0, 1]
    memory.note([0, 1], np.array([4.0, 3.0]))
    assert memory.choose([0, 1, 2, 3], 2) == [0, 3]
    # A new one takes a place, and one is always left for the best.
    assert memory.choose([0, 1, 2, 3, 4], 2) == [0, 4]
    assert memory.choose([0, 1, 2, 3, 4, 5], 2) == [0, 4, 5]
    assert memory.choose([0, 1, 2, 3, 4, 5], 2, all_new=False) == [0, 4]


def test_lines_are_drawn_between_known_points() -> None:
    nan = float("nan")
    curve = torch.tensor([0.0, nan, nan, 6.0, nan, 7.0]).numpy()
    assert interpolated(curve).tolist() == [0.0, 2.0, 4.0, 6.0, 6.5, 7.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "window: got 0"),
        ({"forwards_per_feature": 0.0}, ValueError, "forwards_per_feature: got 0.0"),
        ({"forwards_per_feature": "4"}, TypeError, "takes a positive number"),
        ({"deletion_checks": -1}, ValueError, "deletion_checks: got -1"),
        ({"quiet_level": 1.5}, ValueError, "quiet_level: got 1.5"),
        ({"oldest_share": 1.5}, ValueError, "oldest_share: got 1.5"),
    ],
)
def test_bad_numbers(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FastOrdering(**options)
