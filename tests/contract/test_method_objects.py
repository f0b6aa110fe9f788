"""Methods as objects: how they are shown, copied and pickled."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from vit_methods import every_method, explain, IMAGES, Method, METHODS, small_model

import captum_mda
from captum_mda import (
    BidirectionalAttention,
    CausalActivationPatching,
    LeGrad,
    LibraGrad,
    MetricDrivenAttribution,
    TransformerAttribution,
)
from captum_mda.backward import RelevancePropagation
from captum_mda.ordering import FastOrdering, PaperOrdering
from captum_mda.vit import find_adapter


def by_row(images: Tensor) -> Tensor:
    """A forward function that pickles by its name."""
    return images.flatten(1).sum(dim=1)


@every_method
def test_a_method_comes_back_from_a_pickle(method: Method) -> None:
    made = method(small_model())
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made) and repr(again) == repr(made)
    assert again.adapter.model is not made.adapter.model
    assert torch.equal(explain(again), explain(made))
    assert str(inspect.signature(method.constructor)).startswith("(model: ")


@every_method
def test_a_copy_has_a_model_of_its_own(method: Method) -> None:
    made = method(small_model())
    expected = explain(made)
    deep, shallow = copy.deepcopy(made), copy.copy(made)
    assert torch.equal(explain(deep), expected)
    assert torch.equal(explain(shallow), expected)
    assert shallow.adapter is made.adapter
    with torch.no_grad():  # the tail, too, is the copy's
        for parameter in deep.adapter.model.parameters():
            parameter.zero_()
        deep.adapter.model.head.bias += 1.0
    assert torch.equal(explain(made), expected)
    outputs = deep.adapter.finish(torch.ones(1, 3, 24), IMAGES[:1])
    assert torch.equal(outputs, torch.ones_like(outputs))


@every_method
def test_the_repr_is_the_call(method: Method) -> None:
    """With no settings but those that are not the defaults."""
    made = method(small_model())
    defaults = inspect.signature(method.constructor).parameters
    changed = {n: v for n, v in method.options.items() if v != defaults[n].default}
    shown = [f"{n}={changed[n]!r}" for n in defaults if n in changed]
    expected = ", ".join([type(small_model()).__name__, *shown])
    assert repr(made) == f"{method.constructor.__name__}({expected})"


def test_settings_that_depend_on_the_model() -> None:
    model = small_model()
    name = type(model).__name__
    depth = find_adapter(model).depth
    for kind in (LeGrad, CausalActivationPatching):
        assert repr(kind(model)) == f"{kind.__name__}({name})"
    assert repr(LeGrad(model, layers=0)) == repr(
        LeGrad(model, layers=list(range(depth)))
    )
    assert repr(LeGrad(model, layers=[0])) == f"LeGrad({name}, layers=[0])"
    whole = CausalActivationPatching(model, layers=(0, depth))
    assert f"layers=(0, {depth})" in repr(whole)
    tokens = BidirectionalAttention(model, mode="token")
    assert repr(tokens) == f"BidirectionalAttention({name}, mode='token')"
    original = TransformerAttribution(model, variant="original", dtype=torch.float32)
    assert repr(original).endswith("variant='original', dtype=torch.float32)")


def test_what_was_changed_since_is_shown_and_kept() -> None:
    legrad = LeGrad(small_model())
    legrad.score = "softmax"
    for each in (legrad, copy.deepcopy(legrad), pickle.loads(pickle.dumps(legrad))):
        assert repr(each).endswith("score='softmax')")


def test_mda_shows_its_settings() -> None:
    def local(x: Tensor) -> Tensor:
        return x

    shown = {
        "MetricDrivenAttribution(by_row)": MetricDrivenAttribution(by_row),
        "MetricDrivenAttribution(local)": MetricDrivenAttribution(local),
        "MetricDrivenAttribution(<lambda>)": MetricDrivenAttribution(lambda x: x),
        "MetricDrivenAttribution(Linear, ordering='fast', score='identity')": (
            MetricDrivenAttribution(nn.Linear(2, 2), ordering="fast", score="identity")
        ),
        "MetricDrivenAttribution(by_row, ordering='auto')": (
            MetricDrivenAttribution(by_row, ordering="auto")
        ),
        "MetricDrivenAttribution(by_row, ordering=PaperOrdering(window=3))": (
            MetricDrivenAttribution(by_row, ordering=PaperOrdering(window=3))
        ),
        "MetricDrivenAttribution(by_row, score=by_row)": (
            MetricDrivenAttribution(by_row, score=by_row)
        ),
    }
    for expected, mda in shown.items():
        assert repr(mda) == expected
    refined = MetricDrivenAttribution(by_row, ordering=FastOrdering(), refine=2)
    assert "RefinedOrdering" in repr(refined) and "refine=" not in repr(refined)
    assert "\n" not in repr(refined)


X = torch.tensor([[3.0, 1.0, 2.0], [1.0, 5.0, 2.0]])


@pytest.mark.parametrize("ordering", ["paper", "fast", "joint", "auto"])
@pytest.mark.parametrize("refine", [0, 1])
def test_mda_comes_back_from_a_pickle(ordering: str, refine: int) -> None:
    mda = MetricDrivenAttribution(
        by_row, ordering=ordering, refine=refine, magnitude="mas", on_degenerate="zero"
    )
    expected = mda.attribute(X)
    for again in (pickle.loads(pickle.dumps(mda)), copy.deepcopy(mda), copy.copy(mda)):
        assert repr(again) == repr(mda)
        assert torch.equal(again.attribute(X), expected)


def local_model() -> nn.Module:
    class Local(nn.Linear):
        pass

    return Local(3, 1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MetricDrivenAttribution(lambda x: x), "MetricDrivenAttribution"),
        (lambda: MetricDrivenAttribution(by_row, score=lambda x: x), "Metric"),
        (lambda: MetricDrivenAttribution(local_model()), "local object"),
        (lambda: LeGrad(small_model(), score=lambda x: x), "LeGrad"),
        (lambda: LeGrad(find_adapter(small_model())), "make the method anew"),
        (lambda: LibraGrad(local_model()), "LibraGrad"),
        (lambda: RelevancePropagation(local_model()), "RelevancePropagation"),
    ],
)
def test_what_cannot_be_pickled_says_why(make: Any, named: str) -> None:
    with pytest.raises(TypeError, match=r"cannot be pickled: .*pickle the model") as e:
        pickle.dumps(make())
    assert named in str(e.value)


def test_a_copy_of_a_method_on_an_adapter_is_refused() -> None:
    """Its functions hold on to the model that they were made of."""
    made = LeGrad(find_adapter(small_model()))
    with pytest.raises(TypeError, match=r"LeGrad: cannot be copied.*adapter's"):
        copy.deepcopy(made)
    assert repr(made) == repr(LeGrad(small_model()))
    assert copy.copy(made).adapter is made.adapter


@pytest.mark.parametrize("kind", [LibraGrad, RelevancePropagation])
def test_contexts_come_back_from_a_pickle(kind: Any) -> None:
    context = kind(small_model())
    for again in (pickle.loads(pickle.dumps(context)), copy.deepcopy(context)):
        assert repr(again) == repr(context) == f"{kind.__name__}(VisionTransformer)"
        with again:
            again.model(IMAGES)
    assert "gate=False" in repr(LibraGrad(small_model(), gate=False))


def test_functions_by_value_are_left_to_those_who_can() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    mda = MetricDrivenAttribution(lambda x: x.sum(1))
    again = pickle.loads(cloudpickle.dumps(mda))
    assert torch.equal(again.attribute(X), mda.attribute(X))


def test_every_public_method_is_here() -> None:
    kinds = {method.constructor for method in METHODS}
    kinds |= {MetricDrivenAttribution, LibraGrad}
    public = {getattr(captum_mda, name) for name in captum_mda.__all__}
    methods = {
        k for k in public if isinstance(k, type) and k.__name__ != "MDAExplanation"
    }
    assert methods == kinds
