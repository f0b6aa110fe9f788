"""Captum's own generated tests, with our method in FeatureAblation's place.

They run every configuration that Captum keeps for FeatureAblation: a batch's targets
against each example alone, and no hook left behind, whatever goes wrong.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from captum.attr import FeatureAblation, NoiseTunnel
from captum.testing.attr.helpers.test_config import config
from torch import nn, Tensor

from captum_mda import MetricDrivenAttribution

CASES = [
    pytest.param(case, id=case["name"])
    for case in config
    if FeatureAblation in case["algorithms"] and "layer" not in case
]
# Captum's convolutional toy has dead weights: its output is the same for every input.
CONSTANT = {"conv_with_perturbations_per_eval"}
pytestmark = pytest.mark.filterwarnings("ignore:inputs. example")


def method(case: dict[str, Any], model: nn.Module) -> Any:
    """Examples that score below their baseline, as some of Captum's do, give zeros."""
    mda = MetricDrivenAttribution(model, on_degenerate="zero", score="identity")
    return NoiseTunnel(mda) if case.get("noise_tunnel") else mda


def arguments_of(case: dict[str, Any]) -> dict[str, Any]:
    """Copy a configuration's arguments, without noise under a noise tunnel."""
    noise = {"stdevs": 0.0} if case.get("noise_tunnel") else {}
    return deepcopy(case["attribute_args"]) | noise


def one_example(value: Any, index: int, n_examples: int) -> Any:
    """Keep one example of an argument."""
    if isinstance(value, tuple):
        return tuple(one_example(part, index, n_examples) for part in value)
    if isinstance(value, Tensor) and value.dim() and len(value) == n_examples:
        return value[index : index + 1]
    return value


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_captum_keeps_cases_for_feature_ablation() -> None:
    assert len(CASES) >= 5


@pytest.mark.parametrize("case", CASES)
def test_a_batch_equals_each_example_with_its_own_target(case: dict[str, Any]) -> None:
    arguments = arguments_of(case)
    n_examples = len(as_tuple(arguments["inputs"])[0])
    target = arguments.get("target")
    together = as_tuple(method(case, case["model"]).attribute(**arguments))
    nonzero = 0
    for index in range(n_examples):
        alone_arguments = {
            name: one_example(value, index, n_examples)
            for name, value in arguments.items()
        }
        if isinstance(target, list):
            alone_arguments["target"] = target[index]
        elif isinstance(target, Tensor) and target.numel() > 1:
            alone_arguments["target"] = target[index]
        alone = as_tuple(method(case, case["model"]).attribute(**alone_arguments))
        for ours, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[index : index + 1], expected)
            nonzero += int(expected.count_nonzero())
    assert nonzero > 0 or case["name"] in CONSTANT, "some example is explained"


def hook_count(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(part, kind)) for part in model.modules() for kind in kinds)


class Broken(nn.Module):
    """Fails in the middle of the forward, behind the wrapped model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> Tensor:
        self.model(*arguments)
        raise ZeroDivisionError("broken module")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accident", ["none", "wrong target", "broken module"])
def test_no_hook_remains(case: dict[str, Any], accident: str) -> None:
    model, arguments = deepcopy(case["model"]), arguments_of(case)
    before = hook_count(model)
    if accident == "none":
        method(case, model).attribute(**arguments)
    elif accident == "wrong target":
        arguments["target"] = (9999,) * 20
        with pytest.raises(ValueError, match="target"):
            method(case, model).attribute(**arguments)
    else:
        with pytest.raises(ZeroDivisionError, match="broken module"):
            method(case, Broken(model)).attribute(**arguments)
    assert hook_count(model) == before


@pytest.mark.parametrize("case", [c for c in CASES if "_nt" not in str(c.id)])
def test_a_noise_tunnel_without_noise_changes_nothing(case: dict[str, Any]) -> None:
    arguments = arguments_of(case)
    mda = method(case, case["model"])
    tunneled = NoiseTunnel(mda).attribute(**arguments, nt_samples=2, stdevs=0.0)
    plain = mda.attribute(**arguments)
    for ours, expected in zip(as_tuple(tunneled), as_tuple(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
