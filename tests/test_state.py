"""What calls must leave as it was: models, generators, the grad mode, and inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from helpers import NoisyModel, Snapshot
from torch import nn, Tensor

from captum_mda import metrics
from captum_mda._state import preserved_state
from captum_mda.perturbation import confidence_blur_baseline

IMAGES = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
ATTRIBUTIONS = IMAGES.abs() + 0.1

Caller = Callable[[Callable[[Tensor], Tensor]], object]


def blur(forward_func: Callable[[Tensor], Tensor]) -> object:
    """Try three kernels on each image, and fail: nine forwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return confidence_blur_baseline(
            forward_func,
            IMAGES,
            target=0,
            kernel_sizes=[1, 3, 5],
            max_confidence=0.0,
            on_failure="lowest",
            perturbations_per_eval=1,
        )


def one_curve(forward_func: Callable[[Tensor], Tensor]) -> object:
    """Follow four steps for each image: fifteen forwards."""
    return metrics.deletion(
        forward_func,
        IMAGES,
        ATTRIBUTIONS,
        target=0,
        n_steps=4,
        max_examples_per_batch=1,
        convention="rise",
    )


def both_curves(forward_func: Callable[[Tensor], Tensor]) -> object:
    """Follow four steps both ways, ends shared, for each image: 24 forwards."""
    return metrics.perturbation_scores(
        forward_func,
        IMAGES,
        ATTRIBUTIONS,
        target=0,
        n_steps=4,
        max_examples_per_batch=1,
        convention="rise",
    )


CALLERS = [(blur, 9), (one_curve, 15), (both_curves, 24)]


def test_the_noisy_model_does_leave_its_marks() -> None:
    model = NoisyModel().train()
    snapshot = Snapshot(model)
    model(IMAGES)
    with pytest.raises(AssertionError, match="torch generator"):
        snapshot.assert_unchanged()
    torch.manual_seed(0)
    snapshot = Snapshot(model)
    model(IMAGES)
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="running_mean"):
        snapshot.assert_unchanged()


@pytest.mark.parametrize(("caller", "n_forwards"), CALLERS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("as_method", [True, False])
@pytest.mark.parametrize("grad_mode", [True, False])
def test_calls_leave_no_marks(
    caller: Caller, n_forwards: int, training: bool, as_method: bool, grad_mode: bool
) -> None:
    model = NoisyModel().train(training)
    model(IMAGES).sum().backward()  # gradients of the caller's own
    model.head.bias.requires_grad_(False)
    model.dropout.train(True)  # one part may differ from the others
    model.calls = 0
    with torch.set_grad_enabled(grad_mode):
        snapshot = Snapshot(model)
        caller(model.forward if as_method else model)
        snapshot.assert_unchanged()
    assert model.calls == n_forwards


@pytest.mark.parametrize(("caller", "n_forwards"), CALLERS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_calls_that_fail_in_the_middle_leave_no_marks(
    caller: Caller, n_forwards: int, error: type[BaseException]
) -> None:
    model = NoisyModel(fail_at=n_forwards // 2, error=error).train()
    snapshot = Snapshot(model)
    with pytest.raises(error, match="stopped in the middle"):
        caller(model)
    snapshot.assert_unchanged()
    assert model.calls == n_forwards // 2


@pytest.mark.parametrize("caller", [caller for caller, _ in CALLERS])
def test_inputs_stay_as_they_are_even_if_the_model_writes_on_them(
    caller: Caller,
) -> None:
    images, attributions = IMAGES.clone(), ATTRIBUTIONS.clone()

    def model(rows: Tensor) -> Tensor:
        logits = rows.flatten(1)[:, :2].clone()
        rows.zero_()
        return logits

    caller(model)
    assert torch.equal(images, IMAGES) and torch.equal(attributions, ATTRIBUTIONS)


def test_a_buffer_that_the_model_replaces_is_put_back() -> None:
    class RunningMean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            self.mean = 0.9 * self.mean + 0.1 * images.mean().abs()
            return images.flatten(1)[:, :2]

    model = RunningMean().train()
    snapshot = Snapshot(model)
    one_curve(model)
    snapshot.assert_unchanged()


def test_the_preserved_block_swallows_nothing_and_passes_on_results() -> None:
    model = NoisyModel().train()
    snapshot = Snapshot(model)
    with pytest.raises(KeyError, match="mine"):
        with preserved_state(model, warns=False):
            model(IMAGES)
            raise KeyError("mine")
    snapshot.assert_unchanged()
    with preserved_state(lambda rows: rows, warns=False):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3))  # the same numbers come again
