"""Intervals and comparisons of scores: against SciPy, by hand, and in words."""

from __future__ import annotations

import inspect
import math
import random
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from captum_mda.metrics import (
    METRICS,
    perturbation_scores_of_maps,
    segmentation_scores,
)
from captum_mda.metrics.statistics import (
    compare,
    Comparison,
    comparison_table,
    holm,
    mean_interval,
    MeanInterval,
)

NAN = math.nan
SCORES = np.random.default_rng(7).beta(5, 2, size=24)
FEW = 199  # resamples, where the interval does not matter


WHAT = "95 % bootstrap interval of the mean, not corrected; Holm-corrected Wilcoxon"


def interval(mean: float, low: float, high: float, n: int = 24) -> MeanInterval:
    return MeanInterval(
        mean=mean, low=low, high=high, n=n, n_missing=0, confidence=0.95, method="BCa"
    )


def comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "method": "legrad",
        "reference": "rollout",
        "difference": interval(0.031, 0.012, 0.050),
        "p_value": 0.002,
        "adjusted_p_value": 0.004,
        "effect_size": 0.71,
        "n": 24,
        "n_nonzero": 24,
        "n_comparisons": 2,
        "smallest_p_value": 1e-6,
        "higher_is_better": True,
    }
    return Comparison(**{**fields, **changes})


# --- the mean and its interval ----------------------------------------------


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_scipys_bca_bootstrap(confidence: float) -> None:
    found = mean_interval(SCORES, confidence, n_resamples=999, seed=3)
    expected = stats.bootstrap(
        (SCORES,),
        np.mean,
        n_resamples=999,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.mean == pytest.approx(SCORES.mean(), rel=1e-15)
    assert (found.n, found.n_missing, found.confidence) == (24, 0, confidence)
    assert found.method == "BCa"


@pytest.mark.parametrize(
    "convert",
    [list, tuple, torch.tensor, lambda v: torch.tensor(v, requires_grad=True)],
    ids=["list", "tuple", "tensor", "with gradient"],
)
def test_values_come_as_sequences_arrays_and_tensors(
    convert: Callable[[Any], Any],
) -> None:
    expected = mean_interval(SCORES, n_resamples=FEW)
    assert mean_interval(convert(SCORES), n_resamples=FEW) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_values_of_any_real_dtype(dtype: torch.dtype) -> None:
    values = torch.tensor([1, 2, 4, 8], dtype=dtype)
    assert mean_interval(values, n_resamples=FEW).mean == 3.75


def test_missing_values_are_left_out_and_counted() -> None:
    with_gaps = np.insert(SCORES, [0, 5, 24], NAN)
    found = mean_interval(with_gaps, n_resamples=FEW)
    without = mean_interval(SCORES, n_resamples=FEW)
    assert (found.n, found.n_missing) == (24, 3)
    assert (found.mean, found.low, found.high) == (
        without.mean,
        without.low,
        without.high,
    )


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([0.1, 0.1, 0.1])  # whose float sum is not 3 * 0.1
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)
    assert (found.n, found.method) == (3, "exact")


def test_one_value_says_nothing_about_the_spread() -> None:
    found = mean_interval([NAN, 0.5])
    assert (found.mean, found.low, found.high) == (0.5, -math.inf, math.inf)
    assert (found.n, found.n_missing, found.method) == (1, 1, "none")
    assert str(found) == "0.500"


def test_where_bca_is_undefined_percentiles_are_taken_without_a_warning() -> None:
    values = np.array([0.1, 0.1, 0.1, 0.10000000000000002])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean_interval(values, n_resamples=999, seed=1)
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=999,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.method == "percentile"
    assert (found.low, found.high) == (expected.low, expected.high)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), max_size=8))
@settings(max_examples=50, deadline=None)
def test_an_interval_is_never_nan_and_counts_every_value(values: list[float]) -> None:
    present = [value for value in values if not math.isnan(value)]
    if not present:
        with pytest.raises(ValueError, match=r"^values"):
            mean_interval(values, n_resamples=FEW)
        return
    found = mean_interval(values, n_resamples=FEW)
    assert found.low <= found.high
    assert found.n + found.n_missing == len(values)
    assert found.mean == pytest.approx(math.fsum(present) / len(present), abs=1e-9)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (interval(0.812, 0.79, 0.834), "0.812 [0.790, 0.834]"),
        (interval(-0.0001, -0.2, 0.2), "0.000 [-0.200, 0.200]"),
        (interval(2e-5, 1e-5, 4e-5), "0.000020 [0.000010, 0.000040]"),
        (interval(0.25, 0.25, 0.25), "0.250 [0.250, 0.250]"),
        (interval(120.5, 90.0, 150.0), "120.500 [90.000, 150.000]"),
        (interval(0.5, -math.inf, math.inf, n=1), "0.500"),
        (interval(NAN, NAN, NAN, n=0), "NaN"),
    ],
)
def test_an_interval_is_shown_with_as_many_decimals_as_it_needs(
    shown: MeanInterval, expected: str
) -> None:
    assert str(shown) == expected


def test_results_are_reproducible_and_no_global_generator_is_touched() -> None:
    scores = {"a": SCORES, "b": SCORES[::-1], "c": np.roll(SCORES, 1).round(1)}

    def states() -> list[str]:
        numpys = np.random.get_state(legacy=False)
        torchs = torch.random.get_rng_state().tolist()
        return [str(random.getstate()), str(numpys), str(torchs)]

    before = states()
    first = mean_interval(SCORES), compare(scores, True, n_resamples=FEW)
    np.random.random()
    changed = states()
    assert changed != before
    again = mean_interval(SCORES), compare(scores, True, n_resamples=FEW)
    assert first == again
    assert states() == changed
    assert mean_interval(SCORES, seed=1) != first[0]


# --- comparisons ------------------------------------------------------------


@given(
    st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=8).filter(any),
)
@settings(max_examples=30, deadline=None)
def test_p_value_and_effect_are_those_of_all_sign_patterns(
    differences: list[float],
) -> None:
    nonzero = np.array([d for d in differences if d])
    ranks = stats.rankdata(abs(nonzero))
    # The literal test: every pattern of signs is as likely as any other.
    signs = np.array(list(product((-1, 1), repeat=len(nonzero))))
    statistics, observed = signs @ ranks, float(np.sign(nonzero) @ ranks)
    expected = float((abs(statistics) >= abs(observed) - 1e-9).mean())
    found = compare(
        {"base": [0.0] * len(differences), "new": differences},
        higher_is_better=True,
        reference="base",
        n_resamples=9,
    )[0]
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert found.effect_size == pytest.approx(observed / ranks.sum(), abs=1e-12)
    assert found.smallest_p_value == pytest.approx(2 / 2 ** len(nonzero), rel=1e-9)
    assert (found.n, found.n_nonzero) == (len(differences), len(nonzero))


def test_a_long_comparison_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    base, new = rng.random((2, 80))
    new += 0.1
    found = compare({"new": new, "base": base}, True, "base", n_resamples=FEW)[0]
    assert found.p_value == stats.wilcoxon(new - base).pvalue
    assert found.difference == mean_interval(new - base, n_resamples=FEW)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [14, 50, 51])
def test_the_smallest_p_value_is_that_of_a_perfect_record(n: int, tied: bool) -> None:
    record = np.ones(n) if tied else np.arange(1.0, n + 1)
    signs = np.where(np.arange(n) % 3 == 0, -1, 1)
    found = compare(
        {"new": record * signs, "base": np.zeros(n)}, True, "base", n_resamples=FEW
    )[0]
    assert found.smallest_p_value == stats.wilcoxon(record).pvalue < found.p_value


def test_the_effect_by_hand() -> None:
    # Differences 3, -1, 2, 0: ranks 3, 1, 2; (5 - 1) / 6.
    scores = {"old": [1.0, 1, 1, 1], "new": [4.0, 0, 3, 1]}
    found = compare(scores, True, reference="old", n_resamples=FEW)[0]
    assert found.effect_size == pytest.approx(2 / 3)
    assert (found.n, found.n_nonzero) == (4, 3)
    assert compare(scores, True, reference="new", n_resamples=FEW)[
        0
    ].effect_size == pytest.approx(-2 / 3)


def test_methods_that_never_differ() -> None:
    found = compare({"a": [0.5, 0.7], "b": [0.5, 0.7]}, True)[0]
    assert (found.p_value, found.adjusted_p_value, found.effect_size) == (1, 1, 0)
    assert (found.difference.low, found.difference.high) == (0, 0)
    assert not found.distinguishable
    assert found.verdict.endswith(
        f"at n = 2: difference 0.000 [0.000, 0.000] ({WHAT} p = 1, n = 2, effect "
        "0.00); no result could be significant, with 1 comparison of 2 examples of "
        "which 0 differ"
    )


def test_pairs_with_a_missing_score_are_left_out() -> None:
    scores = {"a": [NAN, 0.5, 0.25, 0.75, 1.0], "b": [1.0, NAN, 0.5, 0.5, 0.5]}
    found = compare(scores, True, reference="b")[0]
    assert (found.n, found.difference.n, found.difference.n_missing) == (3, 3, 2)
    assert found.difference.mean == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(
    ("higher_is_better", "expected"), [(True, "high"), (False, "low")]
)
def test_the_reference_is_the_first_of_the_best(
    higher_is_better: bool, expected: str
) -> None:
    scores = {
        "middle": [0.5, 0.5],
        "low": [0.1, 0.3],
        "high": [NAN, 0.9],
        "low too": [0.3, 0.1],
        "high too": [0.9, 0.9],
    }
    found = compare(scores, higher_is_better, n_resamples=FEW)
    assert {each.reference for each in found} == {expected}
    assert [each.method for each in found] == [n for n in scores if n != expected]
    assert {each.n_comparisons for each in found} == {4}


def test_holm_by_hand() -> None:
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    # A hypothesis falls where every set of hypotheses with it falls to Bonferroni.
    indices = range(len(p_values))
    sets = [
        [i for i in indices if chosen[i]]
        for chosen in product((False, True), repeat=len(p_values))
    ]
    literal = [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s)
        for i in indices
    ]
    assert holm(p_values) == pytest.approx(literal, rel=1e-12)


def test_p_values_of_a_call_are_adjusted_together() -> None:
    rng = np.random.default_rng(4)
    base = rng.random(30)
    scores = {"base": base} | {
        f"{shift}": base + shift + rng.normal(0, 0.3, 30) for shift in (0.05, 0.1, 0.2)
    }
    found = compare(scores, True, reference="base", n_resamples=FEW)
    assert [each.adjusted_p_value for each in found] == holm(
        [each.p_value for each in found]
    )
    smallest = min(found, key=lambda each: each.p_value)
    assert smallest.adjusted_p_value == 3 * smallest.p_value < 1


# --- which scores are better -------------------------------------------------


def test_the_metric_says_which_scores_are_better() -> None:
    scores = {"low": [0.1, 0.2], "high": [0.8, 0.9]}
    for metric, best in (("deletion", "low"), ("insertion", "high")):
        (found,) = compare(scores, metric=metric, n_resamples=FEW)
        assert found.reference == best
        assert found.higher_is_better == METRICS[metric].higher_is_better
        assert found.metric is METRICS[metric]
        assert compare(scores, metric=METRICS[metric], n_resamples=FEW) == [found]


@pytest.mark.parametrize("function", [compare, comparison_table])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, TypeError, "metric: got neither it nor higher_is_better.*=True or False"),
        (
            {"metric": "deletion", "higher_is_better": True},
            ValueError,
            "higher_is_better: got True, but lower is better in 'deletion'; leave it",
        ),
        (
            {"metric": "insertion", "higher_is_better": False},
            ValueError,
            "higher_is_better: got False, but higher is better in 'insertion'",
        ),
        (
            {"higher_is_better": "deletion"},
            TypeError,
            "higher_is_better: got 'deletion', .* passed as metric='deletion'",
        ),
        ({"metric": True}, TypeError, "metric: got True, takes the name of a metric"),
        ({"metric": "delition"}, ValueError, "metric: .*did you mean 'deletion'"),
        ({"metric": "Del"}, ValueError, "metric: got 'Del', did you mean 'deletion'"),
        ({"metric": "MAS Del"}, ValueError, "metric: .*did you mean 'mas_deletion'"),
        ({"metric": "accuracy of dogs"}, ValueError, "metric: .*takes one of insertio"),
    ],
)
def test_a_wrong_direction_cannot_be_passed_unseen(
    function: Callable[..., object],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        function({"a": [0.5, 0.6], "b": [0.4, 0.3]}, **changes)


def test_a_direction_that_agrees_with_the_metric_is_taken() -> None:
    scores = {"a": [0.5, 0.6], "b": [0.4, 0.3]}
    told = compare(scores, False, metric="deletion", n_resamples=FEW)
    assert told == compare(scores, metric="deletion", n_resamples=FEW)


def test_scores_are_read_off_results() -> None:
    inputs = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    maps = {"true": inputs, "reversed": -inputs}
    results = perturbation_scores_of_maps(
        lambda x: x.sum(dim=1), inputs, maps, convention="rise", least_first=True
    )
    for metric in ("deletion", "insertion", "symmetric_relevance_gain", "aopc"):
        of_values = {name: getattr(each, metric) for name, each in results.items()}
        found = compare(results, metric=metric, n_resamples=FEW)
        assert found == compare(of_values, metric=metric, n_resamples=FEW)
        assert found[0].reference == "true"
        table = comparison_table(results, metric=metric, n_resamples=FEW)
        assert METRICS[metric].head in table.splitlines()[0]
    with pytest.raises(ValueError, match=r"^metric: got no metric for the Perturbatio"):
        compare(results, higher_is_better=True)
    with pytest.raises(ValueError, match=r"^metric: got 'iou' .*takes one of inserti"):
        compare(results, metric="iou")
    masks = torch.tensor([[[True, False], [True, False]]]).expand(3, 2, 2)
    found_objects = {
        name: segmentation_scores(map_, masks)
        for name, map_ in {"on": masks.double(), "off": 1 - masks.double()}.items()
    }
    assert compare(found_objects, metric="iou", n_resamples=FEW)[0].reference == "on"


# --- in words ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word", "sentence"),
    [
        (
            {},
            "better",
            f"legrad is better than rollout by 0.031 [0.012, 0.050] ({WHAT} "
            "p = 0.004, n = 24, effect 0.71)",
        ),
        (
            {"higher_is_better": False},
            "worse",
            f"legrad is worse than rollout by 0.031 [0.012, 0.050] ({WHAT} "
            "p = 0.004, n = 24, effect 0.71)",
        ),
        (
            {"difference": interval(-0.031, -0.05, -0.012), "effect_size": -0.71},
            "worse",
            f"legrad is worse than rollout by 0.031 [0.012, 0.050] ({WHAT} "
            "p = 0.004, n = 24, effect -0.71)",
        ),
        (
            {"effect_size": -0.4},
            "mixed",
            "legrad differs from rollout, but ranks and mean point apart: difference "
            f"0.031 [0.012, 0.050] ({WHAT} p = 0.004, n = 24, effect -0.40)",
        ),
        (
            {
                "difference": interval(0.010, -0.020, 0.040, n=8),
                "n": 8,
                "n_nonzero": 8,
                "adjusted_p_value": 0.31,
            },
            "not distinguishable",
            "legrad is not distinguishable from rollout at n = 8: difference "
            f"0.010 [-0.020, 0.040] ({WHAT} p = 0.31, n = 8, effect 0.71)",
        ),
        (
            {"metric": METRICS["deletion"], "higher_is_better": False},
            "worse",
            "legrad is worse than rollout in Del (lower is better) by 0.031 [0.012, "
            f"0.050] ({WHAT} p = 0.004, n = 24, effect 0.71)",
        ),
        (
            {"adjusted_p_value": 0.12},
            "not distinguishable",
            "legrad is not distinguishable from rollout at n = 24: difference 0.031 "
            f"[0.012, 0.050] ({WHAT} p = 0.12, n = 24, effect 0.71); the interval "
            "leaves out 0, but it is not corrected for 2 comparisons and is too narrow "
            "for few examples: the verdict follows the test",
        ),
        (
            {"difference": interval(0.031, -0.002, 0.060)},
            "better",
            f"legrad is better than rollout by 0.031 [-0.002, 0.060] ({WHAT} p = "
            "0.004, n = 24, effect 0.71); the interval includes 0, but it is of the "
            "mean and the test is of the ranks: the verdict follows the test",
        ),
    ],
)
def test_the_verdict_in_a_word_and_in_a_sentence(
    changes: dict[str, Any], word: str, sentence: str
) -> None:
    found = comparison(**changes)
    assert found.outcome == word
    assert found.verdict == sentence
    assert found.distinguishable == (word != "not distinguishable")


@pytest.mark.parametrize(("methods", "hopeless"), [(6, False), (7, True), (13, True)])
def test_a_verdict_says_where_even_a_perfect_record_is_not_enough(
    methods: int, hopeless: bool
) -> None:
    # Eight examples: 2 / 2**8 = 0.0078, and 0.0078 * 7 is above 0.05.
    base = SCORES[:8]
    scores = {"base": base} | {
        f"method {i}": base + np.linspace(0.1, 0.2, 8) for i in range(methods)
    }
    found = compare(scores, True, reference="base", n_resamples=FEW)[0]
    assert found.smallest_p_value == pytest.approx(methods * 2 / 2**8)
    assert found.distinguishable != hopeless
    ending = (
        f"; no result could be significant, with {methods} comparisons of 8 examples"
    )
    assert found.verdict.endswith(ending) == hopeless


def test_other_comparisons_that_fall_first_leave_a_record_its_chance() -> None:
    # Of six examples a perfect record has p = 0.031: not enough times 2, but the other
    # comparison is over 24 and falls first, so this one is not multiplied.
    base = SCORES
    perfect = np.where(np.arange(24) < 6, base + np.linspace(0.1, 0.2, 24), NAN)
    scores = {"base": base, "six": perfect, "all": base + np.linspace(0.1, 0.2, 24)}
    found = compare(scores, True, reference="base", n_resamples=FEW)[0]
    assert (found.n, found.difference.n_missing) == (6, 18)
    assert found.smallest_p_value == found.adjusted_p_value == 2 / 2**6
    assert found.outcome == "better"


def test_outliers_against_the_ranks_give_a_mixed_outcome() -> None:
    differences = np.append(np.linspace(0.01, 0.02, 29), -9.0)
    found = compare(
        {"new": differences, "base": np.zeros(30)}, True, "base", n_resamples=FEW
    )[0]
    assert found.distinguishable and found.effect_size > 0 > found.difference.mean
    assert found.outcome == "mixed"


def test_the_table_has_a_row_for_each_method_in_order() -> None:
    base = SCORES
    scores = {
        "a|b": base - np.linspace(0.1, 0.2, 24),
        "base": base,
        "same": np.append(base[:23], NAN),
    }
    table = comparison_table(scores, True, "base", 0.9, n_resamples=FEW)
    header, rule, worse, reference, same = table.splitlines()
    assert header == (
        "| method | ↑, mean [90 % bootstrap] | difference [90 % "
        "bootstrap, not corrected] | Wilcoxon p, Holm-corrected | effect | n | "
        "verdict |"
    )
    assert rule == "|" + " --- |" * 7
    found = compare(scores, True, reference="base", confidence=0.9, n_resamples=FEW)
    mean = mean_interval(scores["a|b"], 0.9, FEW)
    p_value = f"{found[0].adjusted_p_value:.2g}"
    assert worse == (
        f"| a\\|b | {mean} | {found[0].difference} | {p_value} | -1.00 | 24 | worse |"
    )
    mean = mean_interval(base, 0.9, FEW)
    assert reference == f"| base | {mean} |  |  |  | 24 | reference |"
    assert same.endswith(
        "| 0.000 [0.000, 0.000] | 1 | 0.00 | 23 | not distinguishable |"
    )


def test_the_table_says_where_interval_and_test_point_apart() -> None:
    few = {"base": SCORES[:4], "new": SCORES[:4] + np.linspace(0.1, 0.2, 4)}
    table = comparison_table(few, metric="deletion", n_resamples=FEW)
    assert table.startswith("| method | Del ↓, mean [95 % bootstrap]")
    assert table.endswith(
        "| not distinguishable by the test; the interval leaves out 0 |"
    )


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(0.5, 0.99))
@settings(max_examples=40, deadline=None)
def test_no_verdict_leaves_a_disagreement_unsaid(
    differences: list[float], confidence: float
) -> None:
    (found,) = compare(
        {"base": [0.0] * len(differences), "new": differences},
        True,
        "base",
        confidence,
        n_resamples=49,
    )
    leaves_out_0 = not found.difference.low <= 0 <= found.difference.high
    rejects = found.adjusted_p_value < 1 - confidence
    said = "the verdict follows the test" in found.verdict
    assert found.interval_agrees == (leaves_out_0 == rejects)
    assert said == (leaves_out_0 != rejects and found.outcome != "mixed")


# --- what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": []}, ValueError, "values: all 0 scores are NaN or there are none"),
        ({"values": [NAN, NAN]}, ValueError, "values: all 2 scores are NaN"),
        ({"values": [[0.5]]}, ValueError, r"values: got shape \(1, 1\)"),
        ({"values": 0.5}, ValueError, r"values: got shape \(\)"),
        ({"values": [0.5, math.inf]}, ValueError, "values: got an infinity in example"),
        ({"values": [1e308, -1e308]}, ValueError, "values: their sum exceeds float64"),
        ({"values": [1j]}, TypeError, "values: got complex128 values"),
        ({"values": torch.tensor([1j])}, TypeError, "values: got complex64 values"),
        ({"values": ["high"]}, TypeError, "values: got <U4 values"),
        ({"values": [None]}, TypeError, "values: got object values"),
        ({"confidence": 1}, ValueError, "confidence: got 1, takes less than 1"),
        ({"confidence": 0.0}, ValueError, "confidence: got 0.0, takes less than 1"),
        ({"confidence": 95}, ValueError, "confidence: got 95"),
        ({"confidence": "0.95"}, TypeError, "confidence: got '0.95'"),
        ({"n_resamples": 0}, ValueError, "n_resamples: got 0"),
        ({"n_resamples": 9.0}, TypeError, r"n_resamples: got 9\.0"),
        ({"seed": -1}, ValueError, "seed: got -1"),
        ({"seed": None}, TypeError, "seed: got None"),
    ],
)
def test_an_interval_refuses(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        mean_interval(**{"values": [0.5, 0.6], **changes})


@pytest.mark.parametrize("function", [compare, comparison_table])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scores": [0.5, 0.6]}, TypeError, "scores: got list, takes a mapping"),
        ({"scores": {"a": [0.5]}}, ValueError, "scores: got 1 methods, takes at least"),
        (
            {"scores": {"a": [0.5], "b": [0.5, 0.6]}},
            ValueError,
            "scores: got {'a': 1, 'b': 2} examples, takes the same examples",
        ),
        (
            {"scores": {"a": [0.5, 0.6], "b": [NAN, NAN]}},
            ValueError,
            r"scores\['b'\]: got no score that is not NaN",
        ),
        (
            {"scores": {"a": [0.5, NAN], "b": [NAN, 0.5]}},
            ValueError,
            "scores: 'b' and 'a' share no example",
        ),
        (
            {"scores": {"a": [0.5], "b": [math.inf]}},
            ValueError,
            r"scores\['b'\]: got an infinity in example 0",
        ),
        ({"reference": "c"}, ValueError, "reference: got 'c', takes one of 'a', 'b'"),
        ({"confidence": 1.0}, ValueError, "confidence: got 1.0"),
        ({"seed": 0.5}, TypeError, "seed: got 0.5"),
    ],
)
def test_a_comparison_refuses(
    function: Callable[..., object],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    scores = {"a": [0.5, 0.6], "b": [0.4, 0.3]}
    with pytest.raises(error, match=f"^{message}"):
        function(**{"scores": scores, "higher_is_better": True, **changes})


def test_the_table_takes_what_a_comparison_takes() -> None:
    taken = [inspect.signature(f).parameters for f in (compare, comparison_table)]
    assert taken[0] == taken[1]


def test_an_interval_of_rounding_errors_alone_has_no_more_decimals() -> None:
    equal = [later - first for first, later in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4))]
    assert len(set(equal)) > 1
    found = mean_interval(equal)
    assert found.low < found.high
    assert str(found) == "0.100 [0.100, 0.100]"
    assert str(mean_interval([0.10001, 0.10002, 0.10003])).startswith("0.100020 [")
