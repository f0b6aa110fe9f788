"""The seed by gradient ascent: its algebra, what it finds, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import nn, Tensor

from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    demo,
    MDAExplanation,
    MetricDrivenAttribution,
    patch_feature_mask,
)
from captum_mda.ordering import (
    FastOrdering,
    Ordering,
    ORDERINGS,
    PaperOrdering,
    RelaxedOrdering,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.relaxed import _presence, _through_presence

ROWS_OF_A_STEP = 6


class BySeed:
    """An ordering that ranks by the task's seed, and keeps it."""

    seed: Tensor

    def __call__(self, task: SearchTask) -> SearchResult:
        assert task.seed is not None
        self.seed = task.seed.clone()
        order = (-self.seed[task.examples]).argsort(dim=1, stable=True)
        curves = torch.full((len(order), order.shape[1] + 1), torch.nan).double()
        ends = task.end_points
        insertion, deletion = curves.clone(), curves.clone()
        insertion[:, 0] = ends.insertion_baseline[task.examples]
        deletion[:, -1] = ends.deletion_baseline[task.examples]
        insertion[:, -1] = deletion[:, 0] = ends.full[task.examples]
        return SearchResult(order, torch.zeros(len(order)).long(), insertion, deletion)


def explain(
    model: Any, inputs: Tensor, ordering: Ordering, **options: Any
) -> MDAExplanation:
    mda = MetricDrivenAttribution(
        model, ordering=ordering, score="identity", on_degenerate="zero"
    )
    return mda.explain(inputs, **options)


def explain_samples(
    ordering: Ordering, n: int = 3, chosen: slice = slice(None), **options: Any
) -> MDAExplanation:
    images, labels, _ = demo.make_samples(n=n, seed=5)
    model = demo.load_model()
    seed = BidirectionalAttention(model).attribute(
        images, target=labels, interpolate_mode=None
    )
    images, labels, seed = images[chosen], labels[chosen], seed[chosen]
    return MetricDrivenAttribution(
        model, ordering=ordering, on_degenerate="zero"
    ).explain(
        images,
        target=labels,
        feature_mask=patch_feature_mask(images, demo.PATCH_SIZE),
        insertion_baselines=blur_baseline(images, 31),
        seed_attributions=seed.flatten(1),
        **options,
    )


def scores_of(found: MDAExplanation) -> Tensor:
    """Insertion less deletion, in steps of a patch: (B,)."""
    between = found.insertion_curve - found.deletion_curve
    return torch.trapezoid(between) / found.order.shape[1]


scores = st.lists(st.floats(-2, 2), min_size=2, max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@settings(deadline=None, max_examples=60)
@given(scores, st.floats(0.05, 0.95), st.floats(0.02, 0.5))
def test_as_much_is_present_as_was_asked_for(
    values: Tensor, share: float, softness: float
) -> None:
    count = torch.tensor([share * len(values)], dtype=torch.float64)
    (presence,) = _presence(values, count, softness)
    assert float(presence.sum()) == pytest.approx(float(count), abs=1e-6)
    by_score = presence[values.argsort(stable=True)]
    assert bool((by_score.diff() >= -1e-12).all())
    assert 0.0 <= float(presence.min()) and float(presence.max()) <= 1.0


@settings(deadline=None, max_examples=40)
@given(scores, st.integers(0, 10**6))
def test_the_way_back_is_the_derivative(values: Tensor, seed: int) -> None:
    softness, n = 0.3, len(values)
    counts = torch.tensor([0.3 * n, 0.7 * n], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, n, generator=generator, dtype=torch.float64)
    presence = _presence(values, counts, softness)
    gradient = _through_presence(presence, weights, softness)
    step = 1e-4
    for index in range(n):
        moved = torch.zeros_like(values)
        moved[index] = step
        ahead = _presence(values + moved, counts, softness)
        behind = _presence(values - moved, counts, softness)
        slope = float((weights * (ahead - behind)).sum()) / (2 * step)
        assert float(gradient[index]) == pytest.approx(slope, abs=1e-4)


def test_all_but_equal_presences_have_no_way_back_that_is_not_a_number() -> None:
    presence = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    gradient = _through_presence(presence, torch.ones(1, 3).double(), 0.02)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_it_ranks_what_adds_up_by_what_it_adds() -> None:
    weights = torch.tensor([0.5, 4.0, 1.0, 8.0, 2.0, 0.25], dtype=torch.float64)
    model = Recorder(lambda rows: rows @ weights)
    ordering, inputs = BySeed(), torch.ones(1, 6).double()
    explain(model, inputs, RelaxedOrdering(ordering))
    assert torch.equal(ordering.seed[0].argsort(), weights.argsort())
    # From the wrong way round it finds what matters most.
    explain(model, inputs, RelaxedOrdering(ordering), seed_attributions=-weights[None])
    assert ordering.seed[0].argsort().tolist()[-2:] == [1, 3]


def test_two_that_only_work_together_come_first() -> None:
    """Each alone does nothing, which a greedy search cannot see."""
    model = Recorder(lambda rows: 10 * rows[:, 3] * rows[:, 7] + rows.sum(1))
    ordering = BySeed()
    explain(model, torch.ones(1, 10).double(), RelaxedOrdering(ordering))
    assert set((-ordering.seed[0]).argsort()[:2].tolist()) == {3, 7}


def test_its_orders_are_better_than_the_seeds() -> None:
    plain = scores_of(explain_samples(BySeed(), n=4))
    ordering = RelaxedOrdering(BySeed(), steps=20)
    relaxed = scores_of(explain_samples(ordering, n=4))
    assert float((relaxed - plain).mean()) > 0.02


def test_a_row_there_and_back_counts_as_two() -> None:
    model = Recorder(lambda rows: rows.sum(1))
    inputs = torch.ones(2, 9).double()
    plain = explain(model, inputs, BySeed(), seed_attributions=torch.eye(2, 9))
    relaxed = explain(model, inputs, RelaxedOrdering(BySeed(), steps=7))
    difference = relaxed.forwards - plain.forwards
    assert difference.tolist() == [7 * 2 * ROWS_OF_A_STEP] * 2


def test_neighbours_and_chunks_change_nothing() -> None:
    ordering = RelaxedOrdering(FastOrdering(), steps=3)
    together = explain_samples(ordering)
    for options in (
        {"perturbations_per_eval": ROWS_OF_A_STEP},
        {"perturbations_per_eval": 40},
    ):
        assert torch.equal(explain_samples(ordering, **options).order, together.order)
    for example in range(3):
        alone = explain_samples(ordering, chosen=slice(example, example + 1))
        assert torch.equal(alone.order[0], together.order[example])
        assert torch.equal(alone.forwards, together.forwards[[example]])


def test_one_row_at_a_time_will_do() -> None:
    seeds = BySeed(), BySeed()
    explain_samples(RelaxedOrdering(seeds[0], steps=6))
    explain_samples(RelaxedOrdering(seeds[1], steps=6), perturbations_per_eval=1)
    torch.testing.assert_close(seeds[1].seed, seeds[0].seed, atol=1e-3, rtol=0)


def test_examples_that_cannot_be_ordered_are_left_out() -> None:
    model = Recorder(lambda rows: rows.sum(1))
    inputs = torch.stack([torch.ones(5), -torch.ones(5)]).double()
    ordering = BySeed()
    with pytest.warns(UserWarning, match="example 1"):
        found = explain(model, inputs, RelaxedOrdering(ordering))
    assert found.degenerate.tolist() == [False, True]
    assert ordering.seed[1].tolist() == [0.0] * 5
    assert int(found.forwards[1]) == 3  # its end points


class Squares(nn.Module):
    """A model with a parameter, and a buffer of what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.arange(1.0, 7.0))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, rows: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = torch.ones(len(rows)) if scale is None else scale
        return scale * ((self.frozen * rows**2) @ self.weights)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("made_inside", [False, True])
def test_it_works_where_gradients_are_off(context: Any, made_inside: bool) -> None:
    model, ordering = Squares(), BySeed()
    explain(model, torch.ones(1, 6), RelaxedOrdering(ordering))
    expected = ordering.seed
    inputs = torch.ones(1, 6)
    with context():
        if made_inside:
            inputs = torch.ones(1, 6)
        explain(model, inputs, RelaxedOrdering(ordering))
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() is (context is torch.inference_mode)
    assert torch.equal(ordering.seed, expected)


def test_the_model_and_the_inputs_come_back_untouched() -> None:
    model, inputs = Squares(), torch.ones(1, 6, requires_grad=True)
    model.weights.grad = torch.full((6,), 7.0)
    state, before = torch.get_rng_state(), inputs.detach().clone()
    explain(model, inputs, RelaxedOrdering(FastOrdering()))
    assert model.weights.grad.tolist() == [7.0] * 6
    assert model.weights.requires_grad and not model.frozen.requires_grad
    assert inputs.grad is None and torch.equal(inputs.detach(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_arguments_follow_their_rows() -> None:
    model, inputs = Squares(), torch.ones(2, 6)
    scale = torch.tensor([1.0, 3.0])
    with torch.inference_mode():
        scale = scale.clone()
        both = explain(
            model,
            inputs,
            RelaxedOrdering(FastOrdering()),
            additional_forward_args=scale,
        )
    alone = explain(model, inputs[:1], RelaxedOrdering(FastOrdering()))
    # The scores are normalised, so that the scale changes nothing.
    assert torch.equal(both.order, alone.order.expand(2, -1))


def without_gradient(rows: Tensor) -> Tensor:
    return rows.detach().sum(1)


WEIGHT = nn.Parameter(torch.ones(1))


def by_its_parameters_alone(rows: Tensor) -> Tensor:
    return WEIGHT * rows.detach().sum(1)


def of_integers(rows: Tensor) -> Tensor:
    return rows.double().sum(1)


def steep_at_zero(rows: Tensor) -> Tensor:
    # Finite, but its slope at 0 is not.
    return (rows[:, 0] * 0).sqrt() + rows.sum(1)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (without_gradient, torch.ones(1, 4), "outputs have no gradient"),
        (by_its_parameters_alone, torch.ones(1, 4), "outputs have no gradient"),
        (of_integers, torch.ones(1, 4).long(), "pass floating-point inputs"),
        (steep_at_zero, torch.ones(1, 4), "first for one of example 0"),
    ],
)
def test_what_cannot_be_differentiated_is_said(
    model: Any, inputs: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(model, inputs, RelaxedOrdering(PaperOrdering()))


def test_bad_options() -> None:
    with pytest.raises(TypeError, match="takes an ordering"):
        RelaxedOrdering("fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps"):
        RelaxedOrdering(FastOrdering(), steps=0)


def test_it_says_what_it_is() -> None:
    made = repr(RelaxedOrdering(FastOrdering(), steps=4))
    assert made.startswith("RelaxedOrdering(ordering=FastOrdering(")
    assert made.endswith("steps=4)")


def test_by_name_it_searches_with_a_smaller_budget() -> None:
    named = explain_samples(ORDERINGS["relaxed"](), n=1)
    spelled = explain_samples(
        RelaxedOrdering(FastOrdering(forwards_per_feature=3.5), steps=40), n=1
    )
    assert torch.equal(named.order, spelled.order)
    assert int(named.forwards[0]) <= 40 * 2 * ROWS_OF_A_STEP + 3.5 * 64 + 10
