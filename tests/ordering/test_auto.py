"""Which ordering "auto" chooses, and that it is the one that runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.ordering import (
    AutoOrdering,
    JointOrdering,
    Ordering,
    ordering_name,
    ORDERINGS,
    RefinedOrdering,
    RelaxedOrdering,
)
from captum_mda.ordering.auto import FEW_FEATURES


def smooth(inputs: Tensor) -> Tensor:
    weights = torch.linspace(1.0, 0.1, inputs.shape[1])
    return torch.tanh(0.02 * inputs @ weights)


def detached(inputs: Tensor) -> Tensor:
    return smooth(inputs).detach()


def through_numpy(inputs: Tensor) -> Tensor:
    return torch.from_numpy(np.tanh(inputs.numpy().sum(1) / 100))


def explain(
    model: object, n: int, ordering: str | Ordering = "auto", **options: int
) -> MDAExplanation:
    mda = MetricDrivenAttribution(model, score="identity", ordering=ordering, **options)
    return mda.explain(torch.ones(1, n))


@pytest.mark.parametrize(
    ("model", "n", "name"),
    [
        (smooth, FEW_FEATURES + 1, "relaxed"),
        (smooth, FEW_FEATURES, "joint"),
        (detached, FEW_FEATURES + 1, "joint"),
        (through_numpy, FEW_FEATURES + 1, "joint"),
    ],
)
def test_it_is_the_ordering_that_it_names(model: object, n: int, name: str) -> None:
    found = explain(model, n)
    assert found.provenance["ordering"] == name
    alone = explain(model, n, name)
    assert torch.equal(found.order, alone.order)
    assert torch.equal(found.density_curve, alone.density_curve)
    # Of a model that can be differentiated it is asked for the gradient once more.
    assert found.n_forwards - alone.n_forwards == (4 if name == "relaxed" else 0)


def test_integers_have_no_gradients() -> None:
    mda = MetricDrivenAttribution(
        lambda x: x.double().sum(1), score="identity", ordering="auto"
    )
    found = mda.explain(torch.ones(1, FEW_FEATURES + 1, dtype=torch.int64))
    assert found.provenance["ordering"] == "joint"


def test_it_is_refined_and_called_like_any_other() -> None:
    refined = explain(smooth, 9, "auto", refine=2)
    assert refined.provenance["ordering"] == "joint"
    assert refined.provenance["refine"] == 2
    joint = explain(smooth, 9, RefinedOrdering(JointOrdering(), 2))
    assert torch.equal(refined.order, joint.order)

    def delegating(task: object) -> object:
        return AutoOrdering()(task)

    found = explain(smooth, 9, delegating)
    assert torch.equal(found.order, explain(smooth, 9, "joint").order)
    assert str(found.provenance["ordering"]).endswith("delegating")


def test_orderings_have_names() -> None:
    assert [ordering_name(make()) for make in ORDERINGS.values()] == list(ORDERINGS)
    assert ordering_name(RelaxedOrdering(steps=5)).startswith("RelaxedOrdering(")
    assert ordering_name(RefinedOrdering(JointOrdering(), 3)) == "joint"
