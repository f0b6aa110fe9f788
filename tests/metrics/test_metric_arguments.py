"""What the response metrics refuse, what they cost, and the bar they show."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch
from helpers import Recorder
from torch import Tensor

from captum_mda import metrics

IMAGES = torch.tensor([[[[4.0, 1.0], [2.0, 3.0]]], [[[1.0, 2.0], [3.0, 5.0]]]])
NAN = torch.tensor([0.0, float("nan")]).view(2, 1, 1, 1)
ZERO_MAP = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)

Metric = Callable[..., object]
WITH_ONE_BASELINE: list[Metric] = [
    metrics.response_curve,
    metrics.insertion,
    metrics.deletion,
    metrics.mas_insertion,
    metrics.mas_deletion,
]
ALL_METRICS: list[Metric] = [
    *WITH_ONE_BASELINE,
    metrics.perturbation_scores,
    metrics.aopc,
    metrics.monotonicity,
    metrics.symmetric_relevance_gain,
]


def total(inputs: Tensor, *more: Tensor) -> Tensor:
    return inputs.flatten(1).sum(dim=1)


@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"attributions": IMAGES * 0},
            ValueError,
            "attributions: constant map in example 0 and 1 more; it ranks nothing",
        ),
        ({"attributions": IMAGES * ZERO_MAP}, ValueError, "constant map in example 1;"),
        ({"on_degenerate": "drop"}, ValueError, "on_degenerate: got 'drop', takes"),
        (
            {"attributions": IMAGES + NAN},
            ValueError,
            "attributions: NaN or infinite values in example 1",
        ),
        (
            {"attributions": IMAGES[:, :, :1, :1].expand(2, 1, 3, 2)},
            ValueError,
            r"attributions: shape \(2, 1, 3, 2\) does not broadcast .*\(2, 1, 2, 2\)",
        ),
        (
            {"attributions": IMAGES[0, 0]},
            ValueError,
            r"attributions: shape \(2, 2\) does not broadcast",
        ),
        (
            {"attributions": (IMAGES, IMAGES)},
            ValueError,
            "attributions: got 2 tensors for 1 inputs, takes one for each",
        ),
        ({"attributions": None}, TypeError, "attributions: got NoneType, takes a ten"),
        ({"inputs": IMAGES + NAN}, ValueError, "inputs: NaN or infinite values in ex"),
        ({"inputs": [IMAGES]}, TypeError, "inputs: got list, takes a tensor or a tup"),
        ({"inputs": ()}, ValueError, "inputs: got an empty tuple"),
        ({"inputs": IMAGES[:0]}, ValueError, r"inputs: got shape \(0, 1, 2, 2\), tak"),
        (
            {"inputs": (IMAGES, IMAGES[:1]), "attributions": (IMAGES, IMAGES)},
            ValueError,
            "inputs: the tensors hold 2 and 1 examples",
        ),
        ({"inputs": IMAGES.cfloat()}, TypeError, "inputs: got dtype torch.complex64"),
        ({"n_steps": 0}, ValueError, "n_steps: got 0, takes a positive integer"),
        ({"n_steps": 2.0}, TypeError, "n_steps: got 2.0, takes a positive integer"),
        ({"n_steps": True}, TypeError, "n_steps: got True, takes a positive integer"),
        (
            {"max_examples_per_batch": 0},
            ValueError,
            "max_examples_per_batch: got 0, takes a positive integer",
        ),
        (
            {"max_examples_per_batch": 1.5},
            TypeError,
            "max_examples_per_batch: got 1.5, takes a positive integer",
        ),
        ({"feature_mask": torch.zeros(2, 2).long()}, ValueError, "one feature only"),
        ({"feature_mask": torch.zeros(2, 2)}, TypeError, "feature_mask: got dtype to"),
        ({"score": "logit"}, ValueError, "score: got 'logit', takes one of 'softmax'"),
        ({"target": [0, 1, 2]}, ValueError, "target: got 3 entries for 2 examples"),
        ({"target": 0.5}, TypeError, "target: got 0.5, takes an int"),
        ({"forward_func": 1}, TypeError, "forward_func: got int, takes a callable"),
        ({"n_step": 5}, TypeError, "unexpected keyword argument 'n_step'"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_forward(
    metric: Metric, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    model = Recorder(total)
    arguments = {"forward_func": model, "inputs": IMAGES, "attributions": IMAGES}
    with pytest.raises(error, match=message):
        metric(**(arguments | changes))
    assert model.calls == []


@pytest.mark.parametrize("metric", WITH_ONE_BASELINE)
def test_baselines_that_do_not_fit_are_refused(metric: Metric) -> None:
    with pytest.raises(ValueError, match=r"^baselines: shape \(3,\) does not broad"):
        metric(total, IMAGES, IMAGES, baselines=torch.zeros(3))


@pytest.mark.parametrize("name", ["insertion_baselines", "deletion_baselines"])
def test_baselines_that_do_not_fit_are_refused_by_their_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: shape \(3,\) does not broadcast"):
        metrics.perturbation_scores(total, IMAGES, IMAGES, **{name: torch.zeros(3)})


@pytest.mark.parametrize(
    "metric", [metrics.response_curve, metrics.insertion, metrics.perturbation_scores]
)
def test_a_convention_must_be_known(metric: Metric) -> None:
    with pytest.raises(
        ValueError, match=r"convention: got 'mda', takes .*'mas', 'rise'"
    ):
        metric(total, IMAGES, IMAGES, convention="mda")


def test_a_mode_must_be_known() -> None:
    with pytest.raises(
        ValueError, match=r"mode: got 'both', takes .*'insertion', 'del"
    ):
        metrics.response_curve(total, IMAGES, IMAGES, mode="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_every_metric_is_wrapped_and_ordered_as_captums_are(metric: Metric) -> None:
    names = list(inspect.signature(metric.__wrapped__).parameters)  # type: ignore[attr-defined]
    assert names[:3] == ["forward_func", "inputs", "attributions"]
    assert names.index("additional_forward_args") < names.index("target")


SCORES = [
    name
    for name in metrics.__all__
    if inspect.isfunction(value := getattr(metrics, name))
    and inspect.signature(value).return_annotation in ("Tensor", "SegmentationScores")
]


@pytest.mark.parametrize("name", SCORES)
def test_the_first_line_says_direction_range_and_source(name: str) -> None:
    first = inspect.getdoc(getattr(metrics, name)).splitlines()[0]  # type: ignore[union-attr]
    pattern = r".+; (higher|lower) is better.*, (in [\[(].+[\])]|from 0 on|0 or 1) "
    assert re.fullmatch(pattern + r"\(.+ et al\. \d{4}.*\)\.", first), first


def test_there_are_scores_to_check() -> None:
    assert len(SCORES) >= 14


# --- inputs that score no higher than their baseline ------------------------

# Example 1 scores 1 on the target, and its baseline of 2 in each pixel 8.
DULL = torch.tensor([[[[4.0, 5.0], [6.0, 7.0]]], [[[1.0, 0.0], [0.0, 0.0]]]])


def test_an_input_below_its_baseline_is_named_with_both_scores() -> None:
    message = 'inputs: example 1 scores 1 on .* its insertion baseline 8, .*"rise"'
    with pytest.raises(ValueError, match=message):
        metrics.insertion(total, DULL, DULL, baselines=2)
    with pytest.raises(ValueError, match=r"example 1 scores 1 on .* its deletion base"):
        metrics.perturbation_scores(total, DULL, DULL, deletion_baselines=2)


def test_an_input_that_equals_its_baseline_is_refused_too() -> None:
    with pytest.raises(ValueError, match=r"example 0 scores 22 .* baseline 22"):
        metrics.deletion(total, DULL, DULL, baselines=DULL)


def test_the_raw_scores_of_an_input_below_its_baseline_are_defined() -> None:
    curve = metrics.response_curve(
        total, DULL, DULL + 0.5, baselines=2, convention="rise"
    )
    assert curve.raw.tolist() == [[8, 13, 17, 20, 22], [8, 7, 5, 3, 1]]
    assert curve.area.tolist() == [65 / 4, 19.5 / 4]
    for part in (curve.penalty, curve.mas):
        assert part[0].isfinite().all() and part[1].isnan().all()
    assert curve.density.isfinite().all()
    scores = metrics.mas_insertion(total, DULL[:1], DULL[:1] + 0.5, baselines=2)
    torch.testing.assert_close(curve.mas_area[:1], scores)
    assert curve.mas_area[1].isnan()


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_scores_that_are_not_finite_name_their_example(metric: Metric) -> None:
    def spoilt(images: Tensor) -> Tensor:
        values = total(images)
        return torch.where(images.flatten(1)[:, 3] == 5, torch.nan, values)

    with pytest.raises(ValueError, match=r"NaN or infinite .* one of example 1"):
        metric(spoilt, IMAGES, IMAGES)


# --- cost and progress ------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 3, 4, 224])
def test_a_curve_costs_its_points_and_the_sweep_shares_the_full_input(
    n_steps: int,
) -> None:
    points = min(n_steps, 4) + 1
    for metric in WITH_ONE_BASELINE:
        model = Recorder(total)
        metric(model, IMAGES, IMAGES, n_steps=n_steps)
        assert model.rows == 2 * points
    model = Recorder(total)
    metrics.perturbation_scores(model, IMAGES, IMAGES, 0.25, n_steps=n_steps)
    assert model.rows == 2 * (2 * points - 1)
    model = Recorder(total)  # one baseline for both is shared, too
    metrics.perturbation_scores(model, IMAGES, IMAGES, n_steps=n_steps)
    assert model.rows == 2 * (2 * points - 2)


def test_forwards_hold_at_most_the_examples_asked_for_and_mix_them() -> None:
    model = Recorder(total)
    metrics.perturbation_scores(model, IMAGES, IMAGES, max_examples_per_batch=7)
    assert model.calls == [7, 7, 2]


@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize("max_examples_per_batch", [1, 3, None])
def test_a_bar_is_shown_on_request_and_gets_to_its_end(
    metric: Metric,
    max_examples_per_batch: int | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    metric(
        total,
        IMAGES,
        IMAGES,
        max_examples_per_batch=max_examples_per_batch,
        show_progress=True,
    )
    out, shown = capfd.readouterr()
    two_sweeps = (metrics.perturbation_scores, metrics.symmetric_relevance_gain)
    rows = 16 if metric in two_sweeps else 10
    assert out == "" and "Response curves: 100%" in shown
    assert f"{rows}/{rows}" in shown
    metric(total, IMAGES, IMAGES)
    assert capfd.readouterr() == ("", "")


# --- types ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scores_are_float64_and_carry_no_gradient(dtype: torch.dtype) -> None:
    images = IMAGES.clone().to(dtype).requires_grad_()
    weight = torch.ones((), dtype=dtype, requires_grad=True)
    scores = metrics.perturbation_scores(
        lambda rows: total(rows) * weight, images, images * 2
    )
    assert scores.insertion.dtype == torch.float64
    assert not scores.insertion.requires_grad
    assert not scores.insertion_curve.density.requires_grad
    assert images.grad is None and weight.grad is None
    expected = metrics.perturbation_scores(total, IMAGES, IMAGES * 2)
    torch.testing.assert_close(scores.deletion, expected.deletion, rtol=0, atol=1e-2)


def test_integer_inputs_are_scored() -> None:
    counts = torch.tensor([[3, 1, 0]])
    curve = metrics.response_curve(total, counts, counts)
    assert curve.raw.tolist() == [[0, 3, 4, 4]]
