"""Screening in bfloat16: rows evaluated again, the margin, and equal orders."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn, Tensor
from toy_models import interacting_model

from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    demo,
    MDAExplanation,
    MetricDrivenAttribution,
    patch_feature_mask,
)
from captum_mda.ordering import FastOrdering, Ordering, PaperOrdering, screening
from captum_mda.ordering.fast import evaluation
from captum_mda.ordering.lockstep import SubsetQuery
from captum_mda.ordering.screening import (
    DecisionRule,
    FRUGAL,
    LogOdds,
    Screened,
    Screening,
    STRICT,
    Units,
)

NOISE = 60.0  # of responses between 0 and some 50,000, whose candidates differ by 1,000


def noisy_in_bf16(
    model: Callable[[Tensor], Tensor], noise: float = NOISE
) -> Callable[[Tensor], Tensor]:
    """Add to the scores of a subset, under autocast, what depends on it alone."""

    def forward(inputs: Tensor) -> Tensor:
        values = model(inputs)
        if not torch.is_autocast_enabled("cpu"):
            return values
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        places = torch.arange(1, inputs.shape[1] + 1)
        return values + noise * torch.sin((inputs * places**2).sum(1) * 12.9898)

    return forward


def explain(
    ordering: Ordering | str,
    n: int,
    seed: int,
    precision: Any = "bf16",
    n_examples: int = 1,
    **options: Any,
) -> MDAExplanation:
    generator = torch.Generator().manual_seed(seed)
    mda = MetricDrivenAttribution(
        noisy_in_bf16(interacting_model(n, seed)),
        ordering=ordering,
        score="identity",
        on_degenerate="zero",
        precision=precision,
    )
    return mda.explain(
        torch.ones(n_examples, n) * torch.tensor([1.0, 1.5, 2.0])[:n_examples, None],
        seed_attributions=torch.randn(3, n, generator=generator)[:n_examples],
        **options,
    )


# --- one decision, by hand ------------------------------------------------------


class Oracle:
    """Answers queries with one response for each row of ``np.eye``."""

    def __init__(self, exact: list[float], in_bf16: list[float]) -> None:
        self.exact, self.in_bf16 = np.array(exact), np.array(in_bf16)
        self.queries: list[tuple[bool, list[int]]] = []

    def run(self, search: Generator[SubsetQuery, NDArray[np.float64], Any]) -> Any:
        answer = None
        try:
            while True:
                query = search.send(answer)  # type: ignore[arg-type]
                rows = query.subsets.argmax(axis=1)
                self.queries.append((query.in_bf16, rows.tolist()))
                answer = (self.in_bf16 if query.in_bf16 else self.exact)[rows]
        except StopIteration as stop:
            return stop.value


def decide(
    oracle: Oracle, on: Screening, sense: int = 1, rule: DecisionRule = STRICT
) -> tuple[int, Screened, list[tuple[bool, list[int]]]]:
    subsets = np.eye(len(oracle.exact), dtype=bool)
    screened = oracle.run(on.screen(subsets, 0, sense))
    best = oracle.run(on.best_of(screened, rule))
    return best, screened, oracle.queries


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the margin after two rows."""
    monkeypatch.setattr(screening, "FIRST_KNOWN", 2)
    monkeypatch.setattr(screening, "LEAST_FREEDOM", 1.0)


@pytest.mark.usefixtures("few")
def test_rows_within_the_margin_are_evaluated_until_the_best_is_certain() -> None:
    # 0 and 1 are evaluated first and err by 0.5 and 0: squares about the mean of 0.125,
    # so the margin is 3 sqrt(2 * 0.125 / 1) = 1.5. The best, row 0, is at 8.5, and row
    # 2 may be at 7.5 - 0.5 + 1.5, as good.
    oracle = Oracle([8.5, 8.0, 9.0, 5.0, 4.0], [9.0, 8.0, 7.5, 5.0, 3.0])
    best, screened, queries = decide(oracle, on := Screening("bf16"))
    # It is better, by an error of -1.5, with which the margin grows to 4.4, and row 3
    # may be at 5 + 1.5 + 4.4, row 4 at 3 + 1.5 + 4.4 only.
    assert queries == [
        (True, [0, 1, 2, 3, 4]),
        (False, [0, 1]),
        (False, [2]),
        (False, [3]),
    ]
    assert best == 2 and screened.known.tolist() == [True, True, True, True, False]
    assert screened.responses.tolist() == [8.5, 8.0, 9.0, 5.0, 3.0 + 1.5]
    # Errors 0.5, 0, -1.5 and 0: squares about their mean of 2.25.
    assert on.margin == pytest.approx(3 * (2 * 2.25 / 3) ** 0.5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("sense", [1, -1])
def test_what_falls_behind_is_left_and_corrected(sense: int) -> None:
    exact, low = np.array([5.0, 9.0, 1.0, 4.0]), np.array([5.5, 9.75, 1.2, 5.0])
    oracle = Oracle((sense * exact).tolist(), (sense * low).tolist())
    best, screened, queries = decide(oracle, on := Screening("bf16"), sense)
    assert best == 1 and queries[1:] == [(False, [0, 1])]
    assert on.margin == 3 * (2 * (0.125**2 + 0.125**2)) ** 0.5
    assert screened.known.tolist() == [True, True, False, False]
    # Those left out are taken to err as the best does, by 0.75.
    assert (sense * screened.responses).tolist() == [5.0, 9.0, 1.2 - 0.75, 4.25]


def test_errors_that_rows_share_cost_nothing() -> None:
    exact = np.arange(10.0)
    oracle = Oracle(exact.tolist(), (exact + 100).tolist())
    best, _, queries = decide(oracle, on := Screening("bf16"))
    assert best == 9 and on.margin == 0.0
    assert queries[1:] == [(False, [4, 5, 6, 7, 8, 9])]


def test_equal_rows_are_all_evaluated_and_the_first_is_the_best() -> None:
    for units in (False, True):
        values = [0.1, 0.3, 0.2] + [0.3] * 9
        oracle = Oracle(values, values)
        best, screened, _ = decide(oracle, Screening("bf16", of_probabilities=units))
        assert best == 1 and int(screened.known.sum()) == 10


def test_without_a_precision_nothing_is_screened() -> None:
    oracle = Oracle([1.0, 3.0, 2.0], [9.0, 0.0, 0.0])
    best, screened, queries = decide(oracle, on := Screening())
    assert best == 1 and queries == [(False, [0, 1, 2])]
    assert screened.responses.tolist() == [1.0, 3.0, 2.0] and on.margin == 0.0


def test_one_row_alone_is_evaluated_in_float32() -> None:
    best, _, queries = decide(oracle := Oracle([1.0], [9.0]), Screening("bf16"))
    assert best == 0 and queries == [(False, [0])] and oracle.queries is queries


@pytest.mark.usefixtures("few")
def test_two_queries_are_weighed_with_the_errors_of_both() -> None:
    """The value is the first response less the second."""
    oracle = Oracle([], [])
    on, subsets = Screening("bf16"), np.eye(4, dtype=bool)

    def query(sense: int, exact: list[float], low: list[float]) -> Screened:
        oracle.exact, oracle.in_bf16 = np.array(exact), np.array(low)
        return oracle.run(on.screen(subsets, int(sense < 0), sense))

    gains = query(1, [5.0, 5.0, 5.0, -9.0], [5.0, 5.0, 5.0, -9.0])
    lost = query(-1, [1.0, 3.0, 0.5, 1.0], [1.0, 2.0, 2.5, 1.0])
    answers = {1: [5.0, 5.0, 5.0, -9.0], -1: [1.0, 3.0, 0.5, 1.0]}
    search = on.decide(lambda first, second: first - second, gains, lost)
    turn, answer = 1, None
    rows = []
    try:
        while True:
            each = search.send(answer)  # type: ignore[arg-type]
            rows.append(each.subsets.argmax(axis=1).tolist())
            answer, turn = np.array(answers[turn])[rows[-1]], -turn
    except StopIteration as stop:
        best = stop.value
    # Rows 0 and 1 seem best; the second query errs by 0 and -1, which makes its
    # margin 3 sqrt(2 * 0.5) = 3. So row 2, at 2.5 where the best has 4, may be at 5.5.
    # It errs by 2, and row 3, at -10, is too low even by the margin of 6.5 by then.
    assert rows == [[0, 1], [0, 1], [2], [2]]
    assert best == 2 and on.margin == pytest.approx(3 * (2 * (14 / 3) / 2) ** 0.5)


@pytest.mark.usefixtures("few")
def test_the_margin_follows_the_errors_of_the_last_queries() -> None:
    on = Screening("bf16")
    decide(Oracle([0.0, 9.0], [0.0, 10.0]), on)  # errors 0 and 1: 3 sqrt(2 * 0.5)
    assert on.margin == pytest.approx(3.0)
    decide(Oracle([0.0, 9.0], [0.0, 9.0]), on)
    assert on.margin == pytest.approx(3.0)  # the largest yet
    # A fifth is forgotten with each query: now 3 sqrt(2 * 0.32 / 2.44) = 1.54.
    _, _, queries = decide(Oracle([0.0, 9.0, 6.8], [0.0, 9.0, 6.8]), on)
    assert queries[1:] == [(False, [1, 2])]  # every query evaluates two
    # 3 sqrt(2 * 0.256 / 2.95) = 1.25
    exact = [0.0, 9.0, 8.0, 7.8, 7.7]
    _, _, queries = decide(Oracle(exact, exact), on)
    assert queries[1:] == [(False, [1, 2]), (False, [3])]
    decide(Oracle([0.0, 90.0], [20.0, 90.0]), on)
    assert on.margin == pytest.approx(3 * (2 * 200.2048 / 4.1616) ** 0.5)


@pytest.mark.usefixtures("few")
def test_a_frugal_margin_is_half_as_wide() -> None:
    # As above: errors of 0.5 and 0, now a margin of 1.5 sqrt(2 * 0.125) = 0.75, and
    # row 2 may be at 7.5 - 0.5 + 0.75 at most.
    oracle = Oracle([8.5, 8.0, 9.0, 5.0, 4.0], [9.0, 8.0, 7.5, 5.0, 3.0])
    best, _, queries = decide(oracle, on := Screening("bf16"), rule=FRUGAL)
    assert best == 0 and queries[1:] == [(False, [0, 1])]
    assert on.margin == pytest.approx(0.75)


def test_a_frugal_decision_evaluates_one_row_while_it_knows_enough() -> None:
    on = Screening("bf16")
    exact = np.arange(10.0)
    screened = []
    for _ in range(12):
        _, _, queries = decide(Oracle([*exact], [*exact]), on, rule=FRUGAL)
        screened.append([len(rows) for _, rows in queries[1:]])
    # Six rows have five degrees of freedom, of which 3 are left after ten more
    # queries: 5 * 0.95^10 = 2.99. Then two rows add one.
    assert screened == [[6], *[[1]] * 10, [2]]
    assert on._errors[0][1] == pytest.approx(5 * 0.95**11 + 1)


def test_what_a_frugal_choice_loses_is_small() -> None:
    random, lost, sure = np.random.default_rng(0), [], []
    for rule, losses in ((FRUGAL, lost), (STRICT, sure)):
        on = Screening("bf16")
        for _ in range(400):  # responses as near each other as errors are large
            exact = random.normal(size=12)
            best, *_ = decide(
                Oracle([*exact], [*(exact + random.normal(size=12))]), on, rule=rule
            )
            losses.append(exact.max() - exact[best])
    assert np.mean(sure) < 0.01 < np.mean(lost) < 0.1
    assert np.mean(lost) > 3 * np.mean(sure)


@pytest.mark.usefixtures("few")
def test_the_margin_covers_the_errors_of_the_query_itself() -> None:
    on = Screening("bf16")
    for _ in range(20):  # as good as no error
        decide(Oracle([0.0, 9.0, 8.0, 7.0], [0.0, 9.0, 8.0, 7.0]), on)
    decide(Oracle([0.0, 90.0, 90.0], [0.0, 91.0, 90.0]), on)
    assert on.margin == pytest.approx(3 * (2 * 0.5 / (0.8 * 5 + 1)) ** 0.5, rel=0.05)
    on = Screening("bf16")
    on._errors[0] = (0.0, 1000.0)
    decide(Oracle([0.0, 90.0, 90.0], [0.0, 91.0, 90.0]), on)
    assert on.margin == 1.0


def test_log_odds_are_those_of_the_textbook_and_come_back() -> None:
    units, p = LogOdds(), np.array([0.01, 0.5, 0.99])
    expected = np.log(p / (1 - p))
    np.testing.assert_allclose(units.of(p), expected, atol=1e-4)
    for each in (units, Units()):
        ends = np.array([0.0, 1e-7, 0.3, 1.0])
        np.testing.assert_allclose(each.to_responses(each.of(ends)), ends, atol=1e-12)


# --- whole searches -------------------------------------------------------------

CASES = [(n, seed) for n in (3, 12, 30) for seed in range(8)]


def not_degenerate(*explanations: MDAExplanation) -> bool:
    return not any(bool(each.degenerate.any()) for each in explanations)


@pytest.mark.filterwarnings("ignore:inputs. example")
@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    "ordering",
    [PaperOrdering(6), FastOrdering(6, 1e6, 1, quiet_level=0.0, patience=0)],
)
def test_noise_does_not_change_the_exact_searches(
    ordering: Ordering, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast one is exact if it looks at all of the window, and is as careful."""
    monkeypatch.setattr(evaluation, "FRUGAL", STRICT)
    searched = 0
    for n, seed in CASES:
        options = {"n": n, "seed": seed, "tau": tau}
        exact = explain(PaperOrdering(6), precision=None, **options)
        found = explain(ordering, **options)
        if not not_degenerate(exact, found):
            continue
        searched += 1
        assert torch.equal(found.order, exact.order), (n, seed)
        if isinstance(ordering, PaperOrdering):
            assert torch.equal(found.insertion_responses, exact.insertion_responses)
            assert torch.equal(found.deletion_responses, exact.deletion_responses)
            assert torch.equal(found.attributions(), exact.attributions())
    assert searched > 10


@pytest.mark.filterwarnings("ignore:inputs. example")
def test_without_margin_the_noise_would_change_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screening, "FIRST_KNOWN", 1)
    rash = DecisionRule(safety=0.0, known=1, memory=0.8)
    monkeypatch.setattr(Screening.decide, "__kwdefaults__", {"rule": rash})
    monkeypatch.setattr(Screening.best_of, "__defaults__", (rash,))
    pairs = [
        [
            explain(PaperOrdering(6), n=n, seed=seed, precision=precision).order
            for precision in (None, "bf16")
        ]
        for n, seed in CASES
    ]
    assert not all(torch.equal(*orders) for orders in pairs)


@pytest.mark.parametrize("ordering", ["paper", "fast"])
def test_known_points_of_the_curves_are_float32s(ordering: str) -> None:
    n = 30
    for seed in range(5):
        found = explain(ordering, n=n, seed=seed)
        if not not_degenerate(found):
            continue
        order, model = found.order[0], interacting_model(n, seed)
        inserted = torch.tril(torch.ones(n + 1, n), -1)[:, order.argsort()]
        c = int(found.n_inserted)
        known = slice(None) if ordering == "paper" else slice(c + 1)
        for raw, rows in (
            (found.insertion_responses[0], inserted),
            (found.deletion_responses[0], 1 - inserted),
        ):
            torch.testing.assert_close(
                raw[known], model(rows)[known].double(), rtol=0, atol=0
            )


@pytest.mark.parametrize("ordering", ["paper", "fast"])
def test_forwards_are_counted_by_precision(ordering: str) -> None:
    counts = {True: 0, False: 0}
    model = interacting_model(40, 1)

    def counting(inputs: Tensor) -> Tensor:
        counts[torch.is_autocast_enabled("cpu")] += len(inputs)
        return noisy_in_bf16(model)(inputs)

    mda = MetricDrivenAttribution(
        counting, ordering=ordering, score="identity", precision="bf16"
    )
    seed = torch.arange(40.0)[None]
    found = mda.explain(torch.ones(1, 40), seed_attributions=seed)
    assert found.forwards_bf16.tolist() == [counts[True]]
    assert found.n_forwards == counts[True] + counts[False]
    exact = explain(ordering, n=40, seed=1, precision=None)
    assert exact.forwards_bf16.tolist() == [0] and exact.margin.tolist() == [0.0]
    assert exact.precision is None and found.precision == "bf16"
    assert 0 < float(found.margin) < 3 * 2**0.5 * 1.2 * NOISE
    if ordering == "paper":  # it asks all in bfloat16 that would be screened in float32
        alone = MetricDrivenAttribution(model, score="identity").explain(
            torch.ones(1, 40), seed_attributions=seed
        )
        assert counts[False] < 0.6 * alone.n_forwards < counts[True]


@pytest.mark.parametrize("ordering", ["paper", "fast"])
def test_neighbours_and_chunks_change_nothing(ordering: str) -> None:
    together = explain(ordering, n=20, seed=3, n_examples=3)
    small = explain(ordering, n=20, seed=3, n_examples=3, perturbations_per_eval=1)
    assert torch.equal(together.order, small.order)
    assert torch.equal(together.forwards, small.forwards)
    assert torch.equal(together.margin, small.margin)
    alone = explain(ordering, n=20, seed=3)
    assert torch.equal(together.order[:1], alone.order)
    assert torch.equal(together.forwards_bf16[:1], alone.forwards_bf16)
    assert torch.equal(together.margin[:1], alone.margin)


@pytest.mark.parametrize("ordering", [PaperOrdering(), FastOrdering(None, 1e6)])
def test_functions_that_ignore_autocast_lose_nothing(ordering: Ordering) -> None:
    found, exact = (
        MetricDrivenAttribution(
            interacting_model(16, 1),
            ordering=ordering,
            score="identity",
            precision=precision,
        ).explain(torch.ones(1, 16))
        for precision in ("bf16", None)
    )
    assert torch.equal(found.order, exact.order) and found.margin.tolist() == [0.0]
    assert torch.equal(found.insertion_responses, exact.insertion_responses)


# --- models ---------------------------------------------------------------------


def of_demo(precision: Any, ordering: Ordering | str) -> MDAExplanation:
    images, labels, _ = demo.make_samples(n=1, seed=77)
    model = demo.load_model()
    seed = BidirectionalAttention(model).attribute(
        images, target=labels, interpolate_mode=None
    )
    mda = MetricDrivenAttribution(model, ordering=ordering, precision=precision)
    return mda.explain(
        images,
        target=labels,
        feature_mask=patch_feature_mask(images, demo.PATCH_SIZE),
        insertion_baselines=blur_baseline(images, 31),
        seed_attributions=seed.flatten(1),
    )


def test_the_demo_models_orders_stay() -> None:
    exact, found = (
        of_demo(precision, PaperOrdering(8)) for precision in (None, "bf16")
    )
    assert torch.equal(exact.order, found.order)
    torch.testing.assert_close(  # chunks of another size round otherwise
        found.insertion_responses, exact.insertion_responses, rtol=1e-4, atol=1e-6
    )
    assert bool((found.margin > 0).all()) and bool((found.margin < 0.5).all())
    assert bool((found.forwards - found.forwards_bf16 < 0.5 * exact.forwards).all())


@pytest.mark.real_model
def test_a_photos_order_stays(
    deit_tiny: nn.Module, oracle_maps: dict[str, np.ndarray]
) -> None:
    photo = torch.from_numpy(oracle_maps["207/x"])[None]
    found, exact = (
        MetricDrivenAttribution(
            deit_tiny, ordering=PaperOrdering(4), precision=precision
        ).explain(
            photo,
            target=207,
            feature_mask=patch_feature_mask(photo, 56),
            insertion_baselines=blur_baseline(photo, 31),
            seed_attributions=torch.arange(16.0, 0.0, -1.0)[None],
        )
        for precision in ("bf16", None)
    )
    assert torch.equal(found.order, exact.order)
    assert int(found.forwards_bf16) > 40 and 0 < float(found.margin) < 0.5
    torch.testing.assert_close(
        found.deletion_responses, exact.deletion_responses, rtol=1e-4, atol=1e-6
    )
