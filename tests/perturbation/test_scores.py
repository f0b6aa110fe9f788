"""What a score is made of: sigmoids, callable targets, and messages for each case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import Recorder
from torch import Tensor

from captum_mda import MetricDrivenAttribution, metrics, patch_feature_mask
from captum_mda.perturbation import confidence_blur_baseline, Response

IMAGES = torch.tensor([[[[4.0, 1.0], [2.0, 3.0]]], [[[1.0, 2.0], [3.0, 5.0]]]])
MASK = patch_feature_mask(IMAGES, 1)
Target = Callable[[Tensor], Tensor]


def logits(images: Tensor) -> Tensor:
    """Three labels: the sum, less the sum, and the first pixel: (R, 3)."""
    flat = images.flatten(1)
    return torch.stack([flat.sum(1), -flat.sum(1), flat[:, 0]], dim=1) / 4


def label_two(images: Tensor) -> Tensor:
    """The model whose only value is the sigmoid of the third logit: (R,)."""
    return logits(images)[:, 2].sigmoid()


def one_logit(images: Tensor) -> Tensor:
    return logits(images)[:, 2:]


CURVES = [
    metrics.insertion,
    metrics.deletion,
    metrics.mas_insertion,
    metrics.mas_deletion,
    metrics.aopc,
    metrics.monotonicity,
    metrics.symmetric_relevance_gain,
]


@pytest.mark.parametrize("metric", CURVES)
def test_every_metric_takes_a_sigmoid(metric: Callable[..., Tensor]) -> None:
    wanted = metric(label_two, IMAGES, IMAGES)
    got = metric(logits, IMAGES, IMAGES, target=2, score="sigmoid")
    one = metric(one_logit, IMAGES, IMAGES, score="sigmoid")
    assert torch.equal(got, wanted)
    assert torch.equal(one, wanted)


@pytest.mark.parametrize("metric", CURVES)
def test_every_metric_takes_a_callable_target(metric: Callable[..., Tensor]) -> None:
    wanted = metric(label_two, IMAGES, IMAGES)
    got = metric(logits, IMAGES, IMAGES, target=lambda o: o[:, 2].sigmoid())
    assert torch.equal(got, wanted)


def test_perturbation_scores_take_a_callable_target() -> None:
    wanted = metrics.perturbation_scores(label_two, IMAGES, IMAGES)
    got = metrics.perturbation_scores(
        logits, IMAGES, IMAGES, target=lambda o: o[:, 2:].sigmoid()
    )
    assert torch.equal(got.mas_insertion_deletion, wanted.mas_insertion_deletion)


def test_completeness_error_takes_a_callable_target() -> None:
    def difference(outputs: Tensor) -> Tensor:
        return outputs[:, 0] - outputs[:, 1]

    share = IMAGES / 2  # the sum of (x / 2) is the difference of the two logits
    error = metrics.completeness_error(logits, IMAGES, share, target=difference)
    assert error.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("ordering", ["paper", "fast", "joint", "relaxed"])
def test_mda_takes_a_callable_target(ordering: str) -> None:
    wanted = MetricDrivenAttribution(label_two, ordering=ordering).explain(
        IMAGES, feature_mask=MASK
    )
    got = MetricDrivenAttribution(logits, ordering=ordering).explain(
        IMAGES, target=lambda o: o[:, 2].sigmoid(), feature_mask=MASK
    )
    assert torch.equal(got.attributions(), wanted.attributions())
    assert got.n_forwards == wanted.n_forwards


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_mda_takes_a_sigmoid(precision: str | None) -> None:
    got = MetricDrivenAttribution(logits, score="sigmoid", precision=precision)
    order = got.explain(IMAGES, target=2, feature_mask=MASK).order
    assert order[:, 0].tolist() == [0, 0]


def test_blur_takes_a_callable_target() -> None:
    arguments = {"kernel_sizes": [1, 3], "max_confidence": 0.9}
    bright = torch.ones(2, 1, 8, 8)
    wanted = confidence_blur_baseline(
        lambda x: x.mean(dim=(1, 2, 3)), bright, **arguments
    )
    got = confidence_blur_baseline(
        lambda x: x.flatten(1), bright, target=lambda o: o.mean(1), **arguments
    )
    assert torch.equal(got, wanted)


def test_a_callable_target_sees_full_precision_and_no_softmax() -> None:
    seen = []

    def note(outputs: Tensor) -> Tensor:
        seen.append(outputs)
        return outputs[:, 0]

    response = Response(lambda x: x.bfloat16(), 2, note)
    rows = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    assert response(lambda chosen: (rows[chosen],), torch.arange(2)).tolist() == [1, 2]
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], rows)


def test_a_callable_target_may_return_booleans() -> None:
    response = Response(lambda x: x, 2, lambda o: o.argmax(1) == 1)
    rows = torch.tensor([[1.0, 3.0], [4.0, 2.0]])
    assert response(lambda chosen: (rows[chosen],), torch.arange(2)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (
            lambda o: o[:, 0].numpy(),
            TypeError,
            "target: returned numpy.ndarray, must return a torch tensor",
        ),
        (
            lambda o: np.float64(0.5),
            TypeError,
            "target: returned numpy.float64, must return a torch tensor",
        ),
        (lambda o: o[:, 0].tolist(), TypeError, "target: returned list, must return"),
        (lambda o: o[0, 0].item(), TypeError, "target: returned float, must return"),
        (lambda o: o[:, 0].cfloat(), TypeError, "callable returned torch.complex64"),
        (lambda o: o[:, 0].sum(), ValueError, r"target: returned shape \(\) for 2 r"),
        (
            lambda o: o,
            ValueError,
            r"target: the callable returned shape \(2, 3\) for 2",
        ),
        (lambda o: o[:1, 0], ValueError, r"target: returned shape \(1,\) for 2 rows"),
    ],
)
def test_what_a_callable_target_returns_is_checked(
    target: Target, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.response_curve(logits, IMAGES, IMAGES, target=target, n_steps=1, **TWO)


TWO = {"max_examples_per_batch": 2, "convention": "rise"}


@pytest.mark.parametrize(
    "target",
    [
        lambda o: o[torch.arange(len(o)), torch.tensor([0, 2])[: len(o)]],
        lambda o: o[:, 0] - o[:, 0].mean(),  # rows interact
        lambda o: o[:, 0] * torch.linspace(0, 1, len(o)),
    ],
)
def test_a_target_that_depends_on_the_place_of_a_row_is_refused(
    target: Target,
) -> None:
    with pytest.raises(ValueError, match=r"target: .* in another place of the batch; "):
        metrics.insertion(
            logits, IMAGES, IMAGES, target=target, max_examples_per_batch=2
        )


def test_a_target_that_wants_all_examples_says_how_it_is_called() -> None:
    labels = torch.tensor([0, 2])
    with pytest.raises(ValueError, match=r"target: .* any number of perturbed rows"):
        MetricDrivenAttribution(logits).attribute(
            IMAGES, target=lambda o: o[torch.arange(2), labels], feature_mask=MASK
        )


@pytest.mark.parametrize("metric", [metrics.masked_hits, metrics.positive_perturbation])
def test_metrics_of_the_first_class_refuse_a_callable_target(
    metric: Callable[..., object],
) -> None:
    model = Recorder(logits)
    with pytest.raises(TypeError, match="target: got a callable, takes class indices"):
        metric(model, IMAGES, IMAGES, target=lambda o: o[:, 0])
    assert model.calls == []


CASES = [
    (logits, 1, "softmax", "explain a class that the model sees .*sigmoid"),
    (logits, 1, "sigmoid", "explain a label that the model sees .* 1 - outputs"),
    (logits, 1, "identity", "no zero point"),
    (lambda x: logits(x)[:, 1:2], None, "softmax", "the output is one value"),
    (lambda x: logits(x)[:, 1], None, "identity", "the output is one value"),
    (lambda x: logits(x)[:, 1], None, "sigmoid", "explain a label"),
    (logits, 1, lambda o: o.tanh(), "let the callable score return more"),
    (logits, lambda o: o[:, 1], "softmax", "let the callable target return more"),
    (lambda x: logits(x) * 0, 1, "softmax", "the score does not change at all"),
]


@pytest.mark.parametrize(("model", "target", "score", "advice"), CASES)
def test_a_score_below_its_baseline_is_explained_by_its_case(
    model: object, target: object, score: object, advice: str
) -> None:
    mda = MetricDrivenAttribution(model, score=score)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"inputs: example 0 scores .*{advice}.*zero"):
        mda.attribute(IMAGES, target=target, feature_mask=MASK)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f'example 0 scores .*{advice}.*"rise"'):
        metrics.insertion(model, IMAGES, IMAGES, target=target, score=score)  # type: ignore[arg-type]


def test_a_relaxed_ordering_says_that_a_callable_has_no_gradient() -> None:
    mda = MetricDrivenAttribution(logits, ordering="relaxed")
    message = r"outputs or the scores that the callable target makes .* no gradient"
    with pytest.raises(ValueError, match=message):
        mda.attribute(IMAGES, target=lambda o: o.detach()[:, 2], feature_mask=MASK)
