"""Every kind of bad input has a message that names the argument and what it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from captum_mda import demo, LeGrad, MetricDrivenAttribution, metrics

INPUTS = torch.ones(2, 3)


class Forbidden:
    """A forward function that must not be reached."""

    def __call__(self, *_: object) -> Tensor:
        raise AssertionError("bad arguments must be found before the first forward")


BEFORE_THE_FIRST_FORWARD = [
    ({"inputs": [1.0]}, TypeError, "inputs: got list"),
    ({"inputs": ()}, ValueError, "inputs: got an empty tuple"),
    ({"inputs": torch.ones(0, 3)}, ValueError, "inputs: got shape"),
    ({"inputs": (INPUTS, torch.ones(3, 3))}, ValueError, "hold 2 and 3 examples"),
    (
        {"inputs": torch.tensor([[1.0, 2.0], [1.0, torch.nan]])},
        ValueError,
        "inputs: NaN or infinite values in example 1",
    ),
    ({"inputs": torch.ones(2, 3, dtype=torch.complex64)}, TypeError, "complex"),
    ({"inputs": torch.ones(2, 3, device="meta")}, TypeError, "tensor on meta"),
    ({"inputs": torch.ones(2, 3).to_sparse()}, TypeError, "sparse_coo tensor"),
    ({"inputs": torch.ones(1, 3, 64, 64)}, ValueError, "feature_mask: None makes"),
    ({"feature_mask": torch.tensor([0, 1, -1])}, ValueError, "smallest number is -1"),
    ({"feature_mask": torch.tensor([0.0, 1, 2])}, TypeError, r"mask\.long\(\)"),
    ({"feature_mask": torch.tensor([0, 1])}, ValueError, "does not broadcast"),
    ({"feature_mask": torch.tensor([4, 4, 4])}, ValueError, "one feature only"),
    ({"feature_mask": [0, 1, 2]}, (TypeError, ValueError), "feature_mask"),
    ({"target": 1.5}, TypeError, "target: got 1.5"),
    ({"target": True}, TypeError, "target: got True"),
    ({"target": -1}, ValueError, "target: got -1"),
    ({"target": [0, 1, 2]}, ValueError, "target: got 3 entries for 2 examples"),
    ({"target": torch.tensor([0.0, 1.0])}, TypeError, "target: got dtype"),
    ({"tau": 1.1}, ValueError, "tau: got 1.1"),
    ({"tau": -0.1}, ValueError, "tau: got -0.1"),
    ({"tau": float("nan")}, ValueError, "tau: got nan"),
    ({"gamma": 2.0}, ValueError, "gamma: got 2.0"),
    ({"gamma": "half"}, TypeError, "gamma: got 'half'"),
    ({"kappa": -1.0}, ValueError, "kappa: got -1.0"),
    ({"baselines": torch.ones(2, 4)}, ValueError, "baselines: shape"),
    ({"baselines": (0, 1)}, ValueError, "baselines: got 2 for 1"),
    ({"baselines": "blur"}, TypeError, "baselines: got str"),
    ({"baselines": float("inf")}, ValueError, "baselines: NaN or infinite"),
    (
        {"insertion_baselines": torch.ones(5)},
        ValueError,
        "insertion_baselines: shape",
    ),
    ({"seed_attributions": torch.ones(2, 4)}, ValueError, "seed_attributions: got"),
    ({"seed_attributions": [1, 2, 3]}, TypeError, "seed_attributions: got list"),
    (
        {"seed_attributions": torch.full((2, 3), torch.nan)},
        ValueError,
        "seed_attributions: NaN or infinite values in example 0",
    ),
    ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval: got 0"),
    ({"perturbations_per_eval": 1.5}, TypeError, "perturbations_per_eval: got 1.5"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BEFORE_THE_FIRST_FORWARD)
def test_bad_arguments_are_found_before_the_first_forward(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    mda = MetricDrivenAttribution(Forbidden())
    with pytest.raises(error, match=message):
        mda.attribute(**{"inputs": INPUTS, "target": 0, **arguments})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"forward_func": 3}, TypeError, "forward_func: got int"),
        ({"solver": "cvxopt"}, ValueError, "solver: got 'cvxopt'.*'nnls', 'osqp'"),
        ({"ordering": "random"}, ValueError, "ordering: got 'random'.*'paper'"),
        ({"precision": "fp16"}, ValueError, "precision: got 'fp16', takes .*'bf16'"),
        ({"precision": 16}, ValueError, "precision: got 16"),
        ({"magnitude": "equal"}, ValueError, "magnitude: got 'equal'"),
        ({"score": "logit"}, ValueError, "score: got 'logit'"),
        ({"on_degenerate": "skip"}, ValueError, "on_degenerate: got 'skip'"),
        ({"mean_steps": "row"}, ValueError, "mean_steps: got 'row'"),
    ],
)
def test_bad_options_are_found_at_construction(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MetricDrivenAttribution(**{"forward_func": Forbidden(), **options})


def logits(inputs: Tensor) -> Tensor:
    return torch.stack([inputs.sum(1), torch.zeros(len(inputs))], dim=1)


def nan_in_example_1(inputs: Tensor, which: Tensor) -> Tensor:
    out = logits(inputs)
    out[which == 1] = torch.nan
    return out


@pytest.mark.parametrize(
    ("forward_func", "target", "error", "message"),
    [
        (lambda x: x.sum(), None, ValueError, r"returned shape \(\) for 6 rows"),
        (lambda x: x.sum(0), None, ValueError, r"returned shape \(3,\) for 6 rows"),
        (lambda x: logits(x)[:1], 0, ValueError, r"returned shape \(1, 2\)"),
        (lambda x: logits(x).tolist(), 0, TypeError, "returned list"),
        (logits, None, ValueError, "target: None, but forward_func returned"),
        (logits, 2, ValueError, "target: 2 is out of range"),
        (logits, [0, 7], ValueError, "target: 7 is out of range"),
        (logits, (0, 1), ValueError, "target: has 2 entries"),
        (lambda x: x.sum(1), 0, ValueError, "pass target=None"),
    ],
)
def test_forward_functions_that_do_not_fit_are_named(
    forward_func: Any, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MetricDrivenAttribution(forward_func).attribute(INPUTS, target=target)


def test_non_finite_outputs_name_the_example() -> None:
    mda = MetricDrivenAttribution(nan_in_example_1)
    with pytest.raises(ValueError, match=r"NaN or infinite .* example 1"):
        mda.attribute(INPUTS, target=0, additional_forward_args=torch.arange(2))


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([0.0, 1.0], "shape"),
        ([0.0, float("nan"), 0.9, 1.0], "shape|finite"),
        ([0.0, 0.1, 0.2, 1.0], "concave"),
        ([0.0, 0.9, 0.95, 0.97], "from 0 to 1"),
    ],
)
def test_a_solver_that_breaks_the_constraints_is_refused(
    curve: list[float], message: str
) -> None:
    mda = MetricDrivenAttribution(
        lambda x: x.sum(1), solver=lambda mean: curve, score="identity"
    )
    with pytest.raises(ValueError, match=message):
        mda.attribute(INPUTS)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), r"uint8, .*float\(\) / 255"),
        (torch.zeros(2, 3, 8, 12, dtype=torch.int64), r"int64, .*float\(\) / 255"),
        (torch.zeros(2, 4, 3, 8, 12), r"shape \(2, 4, 3, 8, 12\).*flatten\(0, 1"),
        (torch.zeros(3, 8, 12), r"shape \(3, 8, 12\).*images\[None\]"),
        (torch.zeros(8, 12), r"shape \(8, 12\).*images\[None, None\]"),
        (torch.zeros(2), r"shape \(2,\), takes images \(B, C, H, W\)$"),
    ],
)
def test_images_of_another_kind_have_messages_of_their_own(
    images: Tensor, message: str
) -> None:
    model = demo.load_model()
    with pytest.raises(ValueError, match=f"inputs: got .*{message}"):
        LeGrad(model).attribute(images, target=1)
    with pytest.raises(ValueError, match=f"inputs: got .*{message}"):
        metrics.token_deletion(model, images, torch.zeros(2, 1, 8, 8), target=1)


def test_frames_passed_to_a_model_of_images() -> None:
    frames = torch.rand(2, 1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 64\).*inputs.flatten\(0, 1\)"):
        metrics.insertion(demo.load_model(), frames, frames, target=1)


def test_bytes_passed_to_a_model_of_numbers() -> None:
    images = torch.randint(255, (2, 3, 64, 64)).to(torch.uint8)
    with pytest.raises(ValueError, match=r"torch.uint8, .* / 255, normalised"):
        metrics.insertion(demo.load_model(), images, images, target=1)
