"""What models, orderings and solvers return, and what models fail on: told by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import (
    blur_baseline,
    confidence_blur_baseline,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
    RawAttention,
)
from captum_mda.metrics import statistics
from captum_mda.ordering import (
    FastOrdering,
    PaperOrdering,
    RefinedOrdering,
    RelaxedOrdering,
    SearchResult,
    SearchTask,
)

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.2
MASK = patch_feature_mask((4, 4), 2)


def logits(images: Tensor) -> Tensor:
    total = images.flatten(1).sum(dim=1)
    return torch.stack([total, total * 0], dim=1)


def call_metric(metric: Callable[..., Any], model: Callable[..., Any]) -> Any:
    return metric(model, IMAGES, IMAGES, feature_mask=MASK, target=0)


def call_mda(model: Callable[..., Any]) -> Any:
    mda = MetricDrivenAttribution(model)
    return mda.attribute(IMAGES, target=0, feature_mask=MASK)


def call_blur(model: Callable[..., Any]) -> Any:
    return confidence_blur_baseline(model, IMAGES, target=0, kernel_sizes=[1])


def call_completeness(model: Callable[..., Any]) -> Any:
    return metrics.completeness_error(model, IMAGES, IMAGES, target=0)


BLACK_BOX: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "MDA": call_mda,
    "blur": call_blur,
    "completeness_error": call_completeness,
} | {
    name: partial(call_metric, getattr(metrics, name))
    for name in (
        "aopc",
        "insertion",
        "masked_hits",
        "monotonicity",
        "negative_perturbation",
        "perturbation_scores",
        "positive_perturbation",
        "symmetric_relevance_gain",
    )
}
CALLS = pytest.mark.parametrize("call", BLACK_BOX.values(), ids=BLACK_BOX.keys())


@CALLS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda outputs: outputs.to(torch.complex64), "returned dtype torch.complex64"),
        (lambda outputs: outputs.to("meta"), "returned a tensor on meta"),
        (lambda outputs: outputs.to_sparse(), "returned a torch.sparse_coo tensor"),
        (
            lambda outputs: torch.quantize_per_tensor(outputs, 0.1, 0, torch.qint8),
            "returned dtype torch.qint8",
        ),
        (lambda outputs: None, "returned NoneType"),
    ],
    ids=["complex", "meta", "sparse", "quantized", "None"],
)
def test_outputs_that_are_no_real_numbers_are_refused(
    call: Callable[..., Any], change: Callable[[Tensor], Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"^forward_func: {message}, must return"):
        call(lambda images: change(logits(images)))


@CALLS
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_outputs_that_are_not_finite_name_their_example(
    call: Callable[..., Any], value: float
) -> None:
    marked = IMAGES[1, 0, -1, -1]

    def spoilt(images: Tensor) -> Tensor:
        outputs, of_second = logits(images), images[:, 0, -1, -1] == marked
        spoilt = torch.tensor([value, 0.0]) if value != -torch.inf else value
        return torch.where(of_second[:, None], spoilt, outputs)

    with pytest.raises(ValueError, match=r"^forward_func: .* NaN or inf.* example 1"):
        call(spoilt)


@pytest.mark.parametrize("name", ["masked_hits", "positive_perturbation"])
def test_no_class_of_an_infinite_output_is_the_first(name: str) -> None:
    def other_class(images: Tensor) -> Tensor:
        return logits(images) + torch.tensor([0.0, torch.inf])

    with pytest.raises(ValueError, match="forward_func: its output is NaN or infinite"):
        call_metric(getattr(metrics, name), other_class)


@pytest.mark.parametrize("score", ["sigmoid", torch.sigmoid])
def test_no_probability_is_made_of_an_infinite_logit(score: Any) -> None:
    mda = MetricDrivenAttribution(lambda images: logits(images) / 0.0, score=score)
    with pytest.raises(ValueError, match="forward_func: its output is NaN or infinite"):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)


@pytest.mark.parametrize("name", ["MDA", "insertion", "aopc", "completeness_error"])
def test_class_numbers_are_no_scores(name: str) -> None:
    def call(model: Callable[[Tensor], Tensor]) -> Any:
        if name == "MDA":
            mda = MetricDrivenAttribution(model)
            return mda.attribute(IMAGES, feature_mask=MASK)
        return getattr(metrics, name)(model, IMAGES, IMAGES)

    for head in (lambda each: each.argmax(1), lambda each: each[:, 0] > 1):
        with pytest.raises(TypeError, match=r"dtype torch\.(int64|bool).*logits"):
            call(lambda images, head=head: head(logits(images)))


# --- what a model fails on --------------------------------------------------


def convolution(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 2, 2, stride=2), nn.Flatten(), nn.Linear(8, 2)
        return nn.Sequential(*layers).to(dtype).eval()


WRAPPED = pytest.mark.parametrize(
    "wrap",
    [lambda model: model, lambda model: model.forward, lambda m: partial(m.__call__)],
    ids=["module", "method", "partial"],
)


@WRAPPED
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (IMAGES.double(), "got dtype torch.float64, the model's .* torch.float32 "),
        (IMAGES.half(), "got dtype torch.float16, the model's .* torch.float32 "),
        (IMAGES.repeat(1, 3, 1, 1), r"got examples of shape \(3, 4, 4\).*3 channels"),
        (torch.rand(2, 1, 8, 8), r"got examples of shape \(1, 8, 8\)"),
    ],
)
def test_inputs_that_a_model_does_not_take_are_named(
    wrap: Callable[[nn.Module], Any], inputs: Tensor, message: str
) -> None:
    model = wrap(convolution())
    with pytest.raises(ValueError, match=f"^inputs: {message}"):
        MetricDrivenAttribution(model).attribute(
            inputs, target=0, feature_mask=patch_feature_mask(inputs, 2)
        )
    with pytest.raises(ValueError, match=f"^inputs: {message}"):
        metrics.insertion(model, inputs, inputs, target=0)


def test_inputs_that_a_hidden_model_does_not_take_are_named() -> None:
    model = convolution()
    with pytest.raises(ValueError, match=r"^inputs: got dtype torch.float64.*\.float"):
        metrics.insertion(lambda x: model(x), IMAGES.double(), IMAGES, target=0)


def test_whole_numbers_and_arguments_of_another_dtype_are_named() -> None:
    embedding = nn.Sequential(nn.Embedding(5, 2), nn.Flatten())
    floats = torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"^inputs: got dtype torch.float32.*\.long"):
        metrics.insertion(embedding, floats, floats, target=0)
    with pytest.raises(ValueError, match=r"^additional_forward_args: entry 1 has dtyp"):
        metrics.insertion(
            lambda rows, _, weight: F.linear(rows, weight),
            floats,
            floats,
            target=0,
            additional_forward_args=(None, torch.rand(2, 3).double()),
        )


def test_arguments_of_another_length_are_named() -> None:
    def model(images: Tensor, weight: Tensor) -> Tensor:
        return logits(images) * weight[:, None]

    with pytest.raises(
        ValueError, match=r"^additional_forward_args: entry 0 holds 3 .* for 2 examples"
    ):
        metrics.insertion(
            model, IMAGES, IMAGES, target=0, additional_forward_args=torch.ones(3)
        )
    with pytest.raises(TypeError, match=r"^additional_forward_args: got 0 entries"):
        metrics.insertion(model, IMAGES, IMAGES, target=0)
    with pytest.raises(TypeError, match=r"^additional_forward_args: got 2 entries"):
        metrics.insertion(
            model, IMAGES, IMAGES, target=0, additional_forward_args=(1, 2)
        )


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError, AssertionError])
def test_other_errors_of_a_model_pass_as_they_are(error: type[Exception]) -> None:
    def broken(images: Tensor) -> Tensor:
        raise error("the model's own trouble")

    with pytest.raises(error, match=r"the model.{1,2}s own trouble"):
        metrics.insertion(broken, IMAGES, IMAGES, target=0)


def test_white_box_methods_name_the_inputs_too() -> None:
    timm = pytest.importorskip("timm")
    options = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2}
    model = timm.models.VisionTransformer(num_heads=3, num_classes=5, **options).eval()
    method = RawAttention(model)
    images = torch.rand(2, 3, 16, 16)
    cases = [
        (images.double(), "got dtype torch.float64, the model's parameters are"),
        (images[:, :2], r"got examples of shape \(2, 16, 16\)"),
        (torch.rand(2, 3, 24, 24), r"got examples of shape \(3, 24, 24\)"),
    ]
    for inputs, message in cases:
        with pytest.raises(ValueError, match=f"^inputs: {message}"):
            method.attribute(inputs)
    grid = torch.rand(2, 1, 2, 2)
    for inputs, message in cases[:2]:
        with pytest.raises(ValueError, match=f"^inputs: {message}"):
            metrics.token_deletion(model, inputs, grid, target=0)
    with pytest.raises(TypeError, match=r"^additional_forward_args: got 5 entries"):
        method.attribute(images, additional_forward_args=(None,) * 5)


def test_complex_outputs_are_refused_when_a_model_is_checked() -> None:
    models = pytest.importorskip("timm").models

    class Complex(models.VisionTransformer):  # type: ignore[misc, name-defined]
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).to(torch.complex64)

    options = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2}
    model = Complex(num_heads=3, num_classes=5, **options).eval()
    with pytest.raises(
        TypeError, match=r"^model: returned dtype torch.complex64, must"
    ):
        RawAttention(model)


# --- orderings and solvers --------------------------------------------------


def ordering_that(change: Callable[[SearchResult], Any]) -> Any:
    return lambda task: change(PaperOrdering()(task))


@pytest.mark.parametrize("refine", [0, 1])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda found: None, TypeError, "returned NoneType, must return a SearchRes"),
        (lambda found: found.order, TypeError, "returned Tensor, must return a Sea"),
        (
            lambda found: replace(found, order=found.order * 0),
            ValueError,
            "returned an order that does not rank each of 4 features once",
        ),
        (
            lambda found: replace(found, order=found.order + 1),
            ValueError,
            "returned an order that does not rank",
        ),
        (
            lambda found: replace(found, order=found.order.double()),
            TypeError,
            "returned order of torch.float64, must be int64",
        ),
        (
            lambda found: replace(found, order=found.order[:, :3]),
            ValueError,
            r"returned order of shape \(2, 3\), must be .* \(2, 4\)",
        ),
        (
            lambda found: replace(found, order=found.order.tolist()),
            TypeError,
            "returned list as order",
        ),
        (
            lambda found: replace(found, n_inserted=found.n_inserted + 9),
            ValueError,
            "returned n_inserted from .*, must be 0 to 4",
        ),
        (
            lambda found: replace(found, insertion=found.insertion[:1]),
            ValueError,
            r"returned insertion of shape \(1, 5\)",
        ),
        (
            lambda found: replace(found, deletion=found.deletion / 0),
            ValueError,
            "returned infinite values in deletion",
        ),
        (
            lambda found: replace(found, deletion=found.deletion.to("meta")),
            TypeError,
            "returned a tensor on meta as deletion",
        ),
    ],
)
def test_what_an_ordering_returns_is_checked(
    change: Callable[[SearchResult], Any],
    error: type[Exception],
    message: str,
    refine: int,
) -> None:
    mda = MetricDrivenAttribution(logits, ordering=ordering_that(change), refine=refine)
    with pytest.raises(error, match=f"^ordering: {message}"):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)


def test_an_ordering_may_count_in_another_dtype_and_leave_responses_out() -> None:
    def partly(found: SearchResult) -> SearchResult:
        unknown = torch.full_like(found.insertion, torch.nan).float()
        return SearchResult(found.order.int(), found.n_inserted.int(), unknown, unknown)

    expected = MetricDrivenAttribution(logits).explain(IMAGES, 0, 0, None, MASK)
    found = MetricDrivenAttribution(logits, ordering=ordering_that(partly)).explain(
        IMAGES, 0, 0, None, MASK
    )
    assert torch.equal(found.order, expected.order)
    torch.testing.assert_close(found.insertion_curve, expected.insertion_curve)


@pytest.mark.parametrize(
    ("solver", "error", "message"),
    [
        (lambda curve: None, TypeError, "returned NoneType"),
        (lambda curve: curve.astype(complex), TypeError, "of complex128, must return"),
        (lambda curve: curve.astype(str), TypeError, "must return an array of real"),
        (lambda curve: curve[:-1], ValueError, r"returned shape \(4,\)"),
        (lambda curve: curve * np.nan, ValueError, "returned NaN"),
        (lambda curve: curve * 0, ValueError, "must return a concave, increasing"),
    ],
)
def test_what_a_solver_returns_is_checked(
    solver: Any, error: type[Exception], message: str
) -> None:
    mda = MetricDrivenAttribution(logits, solver=solver)
    with pytest.raises(error, match=f"^solver: .*{message}|^solver: {message}"):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)


@pytest.mark.parametrize(
    "ordering",
    [
        "relaxed",
        RelaxedOrdering(steps=1),
        RefinedOrdering(RelaxedOrdering(FastOrdering(), steps=1), 1),
    ],
)
def test_gradients_of_integers_are_refused_before_the_first_forward(
    ordering: Any,
) -> None:
    def forbidden(*_: object) -> Tensor:
        raise AssertionError("no forward is wanted")

    mda = MetricDrivenAttribution(forbidden, ordering=ordering)
    with pytest.raises(ValueError, match=r"^inputs: tensor 0 is torch.int64"):
        mda.attribute(torch.tensor([[3, 1, 2]]))


# --- precision and autocast -------------------------------------------------


@WRAPPED
def test_bfloat16_of_a_float16_model_is_refused_before_the_first_forward(
    wrap: Callable[[nn.Module], Any],
) -> None:
    model = convolution(torch.float16)
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    mda = MetricDrivenAttribution(wrap(model), precision="bf16")
    with pytest.raises(
        ValueError, match=r"^precision: .* parameters are float16.*None"
    ):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)
    assert not calls


def test_bfloat16_of_float16_inputs_is_refused() -> None:
    mda = MetricDrivenAttribution(logits, precision="bf16")
    with pytest.raises(ValueError, match=r"^precision: .* the inputs are float16"):
        mda.attribute(IMAGES.half(), target=0, feature_mask=MASK)


def test_bfloat16_of_a_quantized_model_is_refused() -> None:
    quantize = torch.ao.quantization.quantize_dynamic
    model = quantize(convolution(), {nn.Linear}, dtype=torch.qint8)
    mda = MetricDrivenAttribution(model, precision="bf16")
    with pytest.raises(ValueError, match=r"^precision: .* the model is quantized"):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)


def test_a_model_that_fails_in_bfloat16_names_the_precision() -> None:
    weight = torch.ones(16, 2)

    def float32_alone(images: Tensor) -> Tensor:
        hidden = F.linear(images.flatten(1), torch.eye(16))  # bfloat16 under autocast
        with torch.autocast("cpu", enabled=False):
            return hidden @ weight * torch.tensor([1.0, 0.0])

    mda = MetricDrivenAttribution(float32_alone, precision="bf16")
    with pytest.raises(ValueError, match=r"^precision: .*bfloat16.*precision=None"):
        mda.attribute(IMAGES, target=0, feature_mask=MASK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blurring_under_autocast_is_blurring(dtype: torch.dtype) -> None:
    images = IMAGES.to(dtype)
    expected = blur_baseline(images, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = blur_baseline(images, 3)
        searched, sizes = confidence_blur_baseline(
            logits,
            images,
            0,
            kernel_sizes=[1, 3],
            on_failure="lowest",
            max_confidence=1.0,
            return_kernel_sizes=True,
        )
    assert blurred.dtype == expected.dtype == dtype
    assert torch.equal(blurred, expected)
    assert torch.equal(searched, blur_baseline(images, 1)) and sizes.tolist() == [1, 1]


# --- names and ranges -------------------------------------------------------


def test_completeness_error_names_its_own_argument() -> None:
    with pytest.raises(ValueError, match=r"^max_examples_per_batch: got 0"):
        metrics.completeness_error(
            logits, IMAGES, IMAGES, target=0, max_examples_per_batch=0
        )


@pytest.mark.parametrize("mode", ["Deletion", "ins", None, "INSERTION", ""])
@pytest.mark.parametrize("name", ["monotonicity", "response_curve"])
def test_a_mode_is_a_word_that_is_known(name: str, mode: Any) -> None:
    with pytest.raises(ValueError, match=r"^mode: got .*'insertion', 'deletion'"):
        getattr(metrics, name)(logits, IMAGES, IMAGES, target=0, mode=mode)


def test_p_values_may_be_of_numpy_or_torch() -> None:
    expected = statistics.holm([0.01, 0.04])
    assert expected == [0.02, 0.04]
    assert statistics.holm(np.array([0.01, 0.04])) == expected
    tensor = torch.tensor([0.01, 0.04], dtype=torch.float64)
    assert statistics.holm(tensor) == expected  # type: ignore[arg-type]


def test_attributions_whose_sums_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^attributions, summed .*NaN or infinite"):
        metrics.insertion(
            logits, IMAGES, IMAGES.double() * 1e308, feature_mask=MASK, target=0
        )


def test_baselines_beyond_the_inputs_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^baselines: .*float16 cannot hold"):
        metrics.insertion(logits, IMAGES.half(), IMAGES, 1e6, target=0)


def test_a_search_task_is_what_an_ordering_gets() -> None:
    seen: list[SearchTask] = []

    def noting(task: SearchTask) -> SearchResult:
        seen.append(task)
        return PaperOrdering()(task)

    MetricDrivenAttribution(logits, ordering=noting).explain(IMAGES, 0, 0, None, MASK)
    assert seen[0].tau == 0.9 and isinstance(seen[0].tau, float)
