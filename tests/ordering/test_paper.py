"""The window greedy search, against a literal transcription and by hand."""

from __future__ import annotations

from collections import Counter
from math import isqrt

import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal_mda import literal_curves, literal_order
from torch import Tensor
from toy_models import interacting_model

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.ordering import PaperOrdering

INSERTION_BASELINE = 0.25


def explain(n: int, model_seed: int, tau: float, **options: object) -> MDAExplanation:
    ordering = options.pop("ordering", "paper")
    mda = MetricDrivenAttribution(
        interacting_model(n, model_seed), ordering=ordering, score="identity"
    )
    return mda.explain(
        torch.ones(1, n), tau=tau, insertion_baselines=INSERTION_BASELINE, **options
    )


def scorer(n: int, model_seed: int):
    model = interacting_model(n, model_seed)

    def score(present: frozenset[int], phase: str) -> float:
        absent = INSERTION_BASELINE if phase == "insertion" else 0.0
        row = torch.tensor([[1.0 if j in present else absent for j in range(n)]])
        return float(model(row))

    return score


def is_gradable(n: int, model_seed: int) -> bool:
    score = scorer(n, model_seed)
    full = score(frozenset(range(n)), "insertion")
    return full > max(score(frozenset(), "insertion"), score(frozenset(), "deletion"))


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 14),
    model_seed=st.integers(0, 10_000),
    tau=st.sampled_from([0.0, 0.3, 0.7, 0.9, 1.0]),
    window=st.sampled_from([None, 1, 2, 5, 100]),
    has_seed=st.booleans(),
)
def test_order_and_curves_equal_the_literal_transcription(
    n: int, model_seed: int, tau: float, window: int | None, has_seed: bool
) -> None:
    if not is_gradable(n, model_seed):
        return
    seed = None
    if has_seed:
        generator = torch.Generator().manual_seed(model_seed)
        seed = torch.randint(-3, 4, (1, n), generator=generator).float()  # with ties
    explanation = explain(
        n, model_seed, tau, seed_attributions=seed, ordering=PaperOrdering(window)
    )
    width = (window or min(2 * isqrt(n), 28)) if has_seed else n
    order, n_inserted = literal_order(
        scorer(n, model_seed), n, tau, seed[0].tolist() if has_seed else None, width
    )
    assert explanation.order[0].tolist() == order
    assert explanation.n_inserted.item() == n_inserted
    insertion, deletion, mean = literal_curves(scorer(n, model_seed), order)
    for ours, literal in (
        (explanation.insertion_curve, insertion),
        (explanation.deletion_curve, deletion),
        (explanation.mean_curve, mean),
    ):
        torch.testing.assert_close(
            ours[0], torch.from_numpy(literal), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [2, 5, 16, 49])
def test_nothing_is_computed_twice_and_the_count_is_the_specified_one(
    n: int, tau: float
) -> None:
    model_seed = next(s for s in range(100) if is_gradable(n, s))
    model = interacting_model(n, model_seed)
    seen: Counter[tuple[float, ...]] = Counter()
    sizes: list[int] = []

    def counting(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        seen.update(tuple(row) for row in inputs.tolist())
        return model(inputs)

    mda = MetricDrivenAttribution(counting, score="identity")
    explanation = mda.explain(
        torch.ones(1, n),
        tau=tau,
        insertion_baselines=INSERTION_BASELINE,
        seed_attributions=torch.arange(float(n))[None],
    )
    assert min(sizes) > 0, "no empty batch"
    assert explanation.n_forwards == sum(sizes)
    c, w = explanation.n_inserted.item(), min(2 * isqrt(n), 28, n)
    if 0 < c <= n - w:
        bound = c * w + (n - c - w) * w + w * (w + 1) // 2 + n + 8
        assert explanation.n_forwards <= bound
    repeated = {row: count for row, count in seen.items() if count > 1}
    # One input may be asked for by both stages: only where the baselines agree on it.
    assert not repeated


def test_all_inserted_patches_are_handed_over_when_the_cut_off_is_met_late() -> None:
    """Bug B1 of the published code: met in the last W steps, most patches were lost."""
    n = 49

    def needs_almost_all(inputs: Tensor) -> Tensor:
        return inputs.sum(1) + 1000.0 * (inputs.sum(1) >= 47)

    mda = MetricDrivenAttribution(needs_almost_all, score="identity")
    explanation = mda.explain(
        torch.ones(1, n), seed_attributions=torch.arange(float(n), 0, -1)[None]
    )
    assert explanation.n_inserted.item() == 47
    assert explanation.order[0, :47].tolist() == list(range(47))


def test_ties_go_to_the_lower_index() -> None:
    mda = MetricDrivenAttribution(lambda x: x.sum(1), score="identity")
    explanation = mda.explain(torch.ones(1, 5), tau=0.5)
    # Insertion takes 0, 1, 2; then deletion finds 3 first, which puts it last.
    assert explanation.order[0].tolist() == [0, 1, 2, 4, 3]


def test_tau_zero_orders_by_deletion_alone_and_tau_one_by_insertion_alone() -> None:
    n, model_seed = 12, next(s for s in range(100) if is_gradable(12, s))
    assert explain(n, model_seed, 0.0).n_inserted.item() == 0
    assert explain(n, model_seed, 1.0).n_inserted.item() == n


def test_tau_one_goes_on_where_the_response_exceeds_the_full_one() -> None:
    def peaks_early(inputs: Tensor) -> Tensor:
        return inputs[:, 0] * 10 - inputs[:, 1:].sum(1)

    mda = MetricDrivenAttribution(peaks_early, score="identity")
    explanation = mda.explain(torch.ones(1, 4), tau=1.0)
    assert explanation.order[0].tolist() == [0, 1, 2, 3]
    assert explanation.n_inserted.item() == 4


def test_images_in_different_phases_share_forwards() -> None:
    n = 30
    weights = torch.stack([torch.linspace(1, 0.01, n) ** 8, torch.ones(n)])
    rows: list[int] = []

    def model(inputs: Tensor, weight: Tensor) -> Tensor:
        rows.append(len(inputs))
        return (inputs * weight).sum(1)

    mda = MetricDrivenAttribution(model, score="identity")
    both = mda.explain(
        torch.ones(2, n), additional_forward_args=weights, perturbations_per_eval=100
    )
    calls = len(rows)
    singles = [
        mda.explain(
            torch.ones(1, n),
            additional_forward_args=w[None],
            perturbations_per_eval=200,
        )
        for w in weights
    ]
    assert both.n_inserted[0] < both.n_inserted[1]
    assert both.order.tolist() == [single.order[0].tolist() for single in singles]
    assert both.forwards.tolist() == [single.n_forwards for single in singles]
    assert calls < len(rows) - calls, "two images at once take fewer forwards"


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "all"])
def test_a_window_that_is_no_positive_integer_is_refused(window: object) -> None:
    with pytest.raises((ValueError, TypeError), match="window: got"):
        PaperOrdering(window)
