"""The lazy search: what the exact one finds where widths allow, orders, and savings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.curves import monotone_response
from captum_mda.ordering import FastOrdering, Ordering, PaperOrdering


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def model_of(n: int, seed: int) -> Recorder:
    """Scores that rise with what is present, pairs of features included."""
    single, pairs = seeded(n, seed=seed).abs(), seeded(n, n, seed=seed + 1)
    return Recorder(
        lambda rows: rows @ single + 0.3 * ((rows @ pairs) * rows).sum(1).sin()
    )


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
        model or model_of(n, seed),
        ordering=ordering,
        score="identity",
        on_degenerate="zero",
    )
    return mda.explain(
        torch.ones(n_examples, n, dtype=torch.float64),
        seed_attributions=seeded(n_examples, n, seed=seed + 9) if with_seed else None,
        **options,
    )


def assert_equal(one: MDAExplanation, other: MDAExplanation) -> None:
    assert torch.equal(one.order, other.order)
    assert torch.equal(one.n_inserted, other.n_inserted)
    torch.testing.assert_close(one.insertion_curve, other.insertion_curve)
    torch.testing.assert_close(one.deletion_curve, other.deletion_curve)


@pytest.mark.filterwarnings("ignore:inputs. examples:UserWarning")
@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 9),
    st.sampled_from([None, 1, 3, 20]),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_wide_enough_it_is_the_exact_search(
    n: int, window: int | None, tau: float, share: float, with_seed: bool, seed: int
) -> None:
    options = {"n": n, "seed": seed, "tau": tau, "with_seed": with_seed}
    exact = explain(PaperOrdering(window), **options)
    fast = explain(FastOrdering(window, n, n, share), **options)
    assert_equal(fast, exact)
    assert fast.n_forwards == exact.n_forwards


@pytest.mark.filterwarnings("ignore:inputs. examples:UserWarning")
@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.integers(0, 10**6),
)
def test_orders_are_orders_and_curves_their_responses(
    n: int, insertion: int, deletion: int, share: float, tau: float, seed: int
) -> None:
    model = model_of(n, seed)
    found = explain(
        FastOrdering(None, insertion, deletion, share),
        n=n,
        seed=seed,
        model=model,
        tau=tau,
    )
    for example in range(2):
        assert sorted(found.order[example].tolist()) == list(range(n))
        if not found.n_inserted[example]:
            continue  # degenerate, or all by deletion
        row, raw = torch.zeros(1, n, dtype=torch.float64), [0.0]
        for feature in found.order[example].tolist():
            row[0, feature] = 1.0
            raw.append(float(model.forward_func(row)[0]))  # type: ignore[operator]
        curve = torch.tensor(raw, dtype=torch.float64)
        wanted = monotone_response(curve, curve[0], curve[-1], "insertion")
        torch.testing.assert_close(found.insertion_curve[example], wanted)


def test_it_asks_for_a_fraction() -> None:
    exact, fast = model_of(64, 3), model_of(64, 3)
    explain("paper", n=64, n_examples=1, seed=3, model=exact)
    explain(FastOrdering(None, 6, 4), n=64, n_examples=1, seed=3, model=fast)
    assert fast.rows < 0.6 * exact.rows


def test_chunks_and_neighbours_change_nothing() -> None:
    whole = explain("fast", n=20, n_examples=3)
    for size in (1, 2):
        assert_equal(
            explain("fast", n=20, n_examples=3, perturbations_per_eval=size), whole
        )
    mda = MetricDrivenAttribution(model_of(20, 1), ordering="fast", score="identity")
    seeds = seeded(3, 20, seed=10)
    for example in range(3):
        alone = mda.explain(
            torch.ones(1, 20, dtype=torch.float64),
            seed_attributions=seeds[example : example + 1],
        )
        assert torch.equal(alone.order[0], whole.order[example])


def test_patches_that_gain_by_others_are_asked_about_again() -> None:
    """Feature 3 is worth nothing until feature 0 is there, and then most of all."""

    def model(rows: Tensor) -> Tensor:
        return (
            rows[:, 0] * (2 + 5 * rows[:, 3]) + rows[:, 1:3].sum(1) + 0.5 * rows[:, 4]
        )

    x, seed = torch.ones(1, 5).double(), torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])

    def order(share: float) -> list[int]:
        mda = MetricDrivenAttribution(
            model, ordering=FastOrdering(5, 2, 2, share), score="identity"
        )
        return mda.explain(x, seed_attributions=seed, tau=1.0).order[0].tolist()

    assert order(0.5) == [0, 1, 3, 2, 4]
    assert order(0.0).index(3) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window: got 0"),
        ({"insertion_width": 0}, "insertion_width: got 0"),
        ({"deletion_width": -1}, "deletion_width: got -1"),
        ({"oldest_share": 1.5}, "oldest_share: got 1.5"),
    ],
)
def test_bad_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastOrdering(**options)
