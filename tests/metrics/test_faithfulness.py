"""AOPC, monotonicity, relevance gain, completeness: by hand, by loops, properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from captum.metrics import infidelity, sensitivity_max
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from scipy.stats import spearmanr
from torch import Tensor
from vit_models import BY_NAME, images, shared_model

from captum_mda import LeGrad, metrics, patch_feature_mask, RawAttention
from captum_mda.metrics._ranked_maps import rank_correlation

Metric = Callable[..., Tensor]
METRICS: list[Metric] = [
    metrics.aopc,
    metrics.monotonicity,
    metrics.symmetric_relevance_gain,
]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)


def total(inputs: Tensor) -> Tensor:
    return inputs.flatten(1).sum(dim=1)


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(n_inputs: int, seed: int) -> Callable[[Tensor], Tensor]:
    first, second = seeded(n_inputs, 6, seed=seed), seeded(6, 3, seed=seed + 1)
    return lambda rows: (rows.flatten(1) @ first).sin() @ second


def literal_curve(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    order: list[int],
    target: int,
    insert: bool = False,
) -> list[float]:
    """One feature after the other is set to 0, or from 0 to its value."""
    row = torch.zeros_like(x) if insert else x.clone()
    curve = [float(model(row[None]).softmax(1)[0, target])]
    for feature in order:
        row[feature] = x[feature] if insert else 0.0
        curve.append(float(model(row[None]).softmax(1)[0, target]))
    return curve


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 7), st.integers(0, 2), st.integers(0, 10**6))
def test_all_three_are_their_definitions(n: int, target: int, seed: int) -> None:
    x, values = seeded(n, seed=seed), seeded(n, seed=seed + 7)
    model = network(n, seed + 20)
    order = values.argsort(descending=True).tolist()
    falling = literal_curve(model, x, order, target)
    arguments: tuple[Any, ...] = (model, x[None], values[None])
    aopc = float(metrics.aopc(*arguments, target=target))
    assert aopc == pytest.approx(np.mean([falling[0] - p for p in falling]), abs=1e-12)

    least_first = literal_curve(model, x, order[::-1], target)
    gain = float(metrics.symmetric_relevance_gain(*arguments, target=target))
    wanted = (np.trapezoid(least_first) - np.trapezoid(falling)) / n
    assert gain == pytest.approx(wanted, abs=1e-12)
    assert -1 <= gain <= 1

    by_size = values.abs().argsort(descending=True).tolist()
    for mode, rising in (("insertion", True), ("deletion", False)):
        curve = literal_curve(model, x, by_size, target, insert=rising)
        steps = np.linspace(0, 1, n + 1) if rising else np.linspace(1, 0, n + 1)
        wanted = spearmanr(steps, curve).statistic
        found = metrics.monotonicity(*arguments, target=target, mode=mode)
        assert float(found) == pytest.approx(wanted, abs=1e-12)


def test_by_hand() -> None:
    x = torch.tensor([[3.0, 1.0, 0.0, 2.0]])
    # Deleted in the order 0, 3, 1, 2 the sum falls 6, 3, 1, 0, 0.
    assert float(metrics.aopc(total, x, x)) == (0 + 3 + 5 + 6 + 6) / 5
    # Least first: 6, 6, 5, 3, 0; areas 17 and 7 of four steps.
    assert float(metrics.symmetric_relevance_gain(total, x, x)) == (17 - 7) / 4
    assert float(metrics.monotonicity(total, x + 1, x + 1)) == pytest.approx(1.0)
    assert float(metrics.monotonicity(total, -x - 1, x + 1)) == pytest.approx(-1.0)


@every_metric
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_only_the_ranking_counts(metric: Metric, seed: int) -> None:
    x = seeded(3, 6, seed=seed)
    values = seeded(3, 6, seed=seed + 1).abs()
    model = network(6, seed + 2)
    plain = metric(model, x, values, target=[0, 1, 2])
    for changed in (values * 7, values.exp(), values**3):
        assert torch.equal(metric(model, x, changed, target=[0, 1, 2]), plain)


@every_metric
@pytest.mark.parametrize("chunk", [1, 2, 5, None])
def test_a_batch_is_its_examples(metric: Metric, chunk: int | None) -> None:
    x, values, model = seeded(3, 6, seed=1), seeded(3, 6, seed=2), network(6, 3)
    together = metric(model, x, values, target=[0, 1, 2], max_examples_per_batch=chunk)
    for row in range(3):
        alone = metric(model, x[row : row + 1], values[row : row + 1], target=row)
        torch.testing.assert_close(together[row : row + 1], alone)
    assert together.dtype == torch.float64


def test_random_maps_gain_nothing_in_expectation() -> None:
    model, x = network(8, 5), seeded(1, 8, seed=6).expand(400, -1)
    gains = metrics.symmetric_relevance_gain(
        model, x, seeded(400, 8, seed=7), target=1, max_examples_per_batch=2000
    )
    error = float(gains.std() / 400**0.5)
    assert abs(float(gains.mean())) < 4 * error
    good = metrics.symmetric_relevance_gain(total, x.abs()[:1], x.abs()[:1])
    assert float(good) > 0.1


@every_metric
def test_degenerate_examples(metric: Metric) -> None:
    x = seeded(3, 4, seed=1)
    values = x.clone()
    values[1] = 2.0
    with pytest.raises(ValueError, match="attributions: constant map in example 1;"):
        metric(total, x, values)
    with pytest.warns(UserWarning, match=r"1 \(constant map\)"):
        scores = metric(total, x, values, on_degenerate="nan")
    assert scores.isnan().tolist() == [False, True, False]


def test_scores_that_never_change_have_no_monotonicity() -> None:
    x = seeded(2, 4, seed=1)

    def flat(rows: Tensor) -> Tensor:
        return torch.zeros(len(rows))

    with pytest.raises(ValueError, match="inputs: constant curve in example 0 and 1"):
        metrics.monotonicity(flat, x, x)
    with pytest.warns(UserWarning, match="constant curve"):
        scores = metrics.monotonicity(flat, x, x, on_degenerate="nan")
    assert scores.isnan().all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1))
def test_rank_correlation_is_scipys(rows: list[list[int]]) -> None:
    other = torch.tensor([[0.0, 2.0, 1.0, 5.0]]).expand(len(rows), -1)
    found = rank_correlation(torch.tensor(rows).double(), other)
    for row, value in zip(rows, found.tolist(), strict=True):
        if len(set(row)) == 1:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(spearmanr(row, other[0]).statistic)


# --- completeness -------------------------------------------------------------


def test_completeness_by_hand() -> None:
    x = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    shares = torch.tensor([[3.0, 0.5], [1.0, 5.0]])
    assert metrics.completeness_error(total, x, shares).tolist() == [0.5, 2.0]
    error = metrics.completeness_error(total, x, shares, baselines=1.0)
    assert error.tolist() == [1.5, 4.0]
    pair = (x, x)
    error = metrics.completeness_error(lambda a, b: total(a) * b.sum(1), pair, pair)
    assert error.tolist() == [8.0, 8.0]


def test_integrated_gradients_are_complete() -> None:
    model, x = network(5, 1), seeded(2, 5, seed=2)
    shares = IntegratedGradients(model).attribute(x, target=1, n_steps=200)
    error = metrics.completeness_error(model, x, shares, baselines=0, target=1)
    assert float(error.max()) < 1e-6
    twice = metrics.completeness_error(model, x, shares * 2, 0, target=1)
    assert float(twice.min()) > 1e-3


@pytest.mark.parametrize(
    ("attributions", "error", "message"),
    [
        (None, TypeError, "attributions: got NoneType"),
        (torch.ones(3, 2), ValueError, r"attributions: got shape \(3, 2\) for 2 exam"),
        (torch.full((2, 2), torch.nan), ValueError, "attributions: NaN or infinite"),
    ],
)
def test_completeness_takes_one_map_for_each(
    attributions: Any, error: type[Exception], message: str
) -> None:
    model = Recorder(total)
    with pytest.raises(error, match=message):
        metrics.completeness_error(model, torch.ones(2, 2), attributions)
    assert model.calls == []


# --- Captum's own metrics -----------------------------------------------------


def test_captums_metrics_work_on_our_methods() -> None:
    case = BY_NAME["timm ViT"]
    model, x = shared_model(case.name), images(case)
    legrad = LeGrad(model)
    change = sensitivity_max(legrad.attribute, x, target=1, n_perturb_samples=2)
    assert change.shape == (2,) and float(change.min()) > 0

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.full_like(inputs, 0.1)
        return noise, inputs - noise

    maps = RawAttention(model).attribute(x).expand_as(x)
    unfaithful = infidelity(model, perturb, x, maps, target=1, n_perturb_samples=2)
    assert unfaithful.shape == (2,) and bool(unfaithful.isfinite().all())


def test_patches_as_features() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    mask = patch_feature_mask(x, 2)
    # Patches sum to 10, 18, 42, 50, and go from the last one on.
    falls = [0, 50, 92, 110, 120]
    assert float(metrics.aopc(total, x, x, feature_mask=mask)) == sum(falls) / 5


def test_completeness_refuses_maps_whose_sum_means_nothing() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    calls = []

    def total(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return images.sum(dim=(1, 2, 3))

    upsampled = torch.nn.functional.interpolate(x.sum(1, keepdim=True), (8, 8))
    with pytest.raises(ValueError, match="interpolate_mode=None"):
        metrics.completeness_error(total, x, upsampled)
    with pytest.raises(ValueError, match="expand"):
        metrics.completeness_error(total, x, upsampled.expand(2, 3, 8, 8))
    assert not calls
    grid = x.sum(1, keepdim=True).unflatten(2, (4, 2)).unflatten(4, (4, 2))
    for fits in (x, x.sum(1), grid.sum(dim=(3, 5))):
        assert float(metrics.completeness_error(total, x, fits).max()) < 1e-4
