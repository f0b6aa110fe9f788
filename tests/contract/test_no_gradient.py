"""Scores that do not depend differentiably on the model: no method returns zeros."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract.vit_methods import (
    assert_same_maps,
    CASE,
    every_class_method,
    every_gradient_method,
    explain,
    IMAGES,
    Method,
    small_model,
)
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model

from captum_mda import FullGradPlus, LeGrad, LibraGrad, RawAttention
from captum_mda.perturbation import Response


def without_grad(outputs: Tensor) -> Tensor:
    with torch.no_grad():
        return outputs[:, 1]


CALLABLES: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda o: o.detach()[:, 1],
    "data": lambda o: o.data[:, 1],
    "argmax": lambda o: o.argmax(1).float(),
    "integers": lambda o: o.argmax(1),
    "comparison": lambda o: o[:, 1] > 0,
    "one-hot": lambda o: F.one_hot(o.argmax(1), o.shape[1])[:, 1].float(),
    "no_grad": without_grad,
    "NumPy": lambda o: torch.from_numpy(o.detach().numpy()[:, 1]),
    "numbers": lambda o: torch.tensor(o[:, 1].tolist()),
}
FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "rounding": lambda o: o[:, 1].round(),
    "sign": lambda o: o[:, 1].sign(),
    "floor": lambda o: (3 * o[:, 1]).floor(),
    "constant": lambda o: o[:, 1] * 0,
}


@every_gradient_method
@pytest.mark.parametrize("name", CALLABLES)
def test_callable_targets_without_gradient(method: Method, name: str) -> None:
    message = r"target: the callable's result has no gradient .* detach\(\), argmax"
    with pytest.raises(ValueError, match=message):
        explain(method.shared(), target=CALLABLES[name])


@every_gradient_method
@pytest.mark.parametrize("name", FLAT)
def test_callable_targets_that_are_flat(method: Method, name: str) -> None:
    message = "target: the callable's result has slope 0 .* rounding"
    with pytest.raises(ValueError, match=message):
        explain(method.shared(), target=FLAT[name])


@every_gradient_method
def test_callable_scores_without_gradient(method: Method) -> None:
    detached = method(small_model(), score=lambda outputs: outputs.detach())
    with pytest.raises(ValueError, match="score: the callable's result has no gradie"):
        explain(detached, target=1)
    flat = method(small_model(), score=torch.round)
    with pytest.raises(ValueError, match="score: the callable's result has slope 0"):
        explain(flat, target=1)


class Ending(nn.Module):
    """A head, reached in one of the ways that gradients do not go."""

    def __init__(self, head: nn.Module, way: str) -> None:
        super().__init__()
        self.inner, self.way = head, way

    def forward(self, tokens: Tensor) -> Tensor:
        if self.way == "detach":
            return self.inner(tokens.detach())
        if self.way == "NumPy":
            return self.inner(torch.from_numpy(tokens.detach().numpy()))
        if self.way == "no_grad":
            with torch.no_grad():
                return self.inner(tokens)
        if self.way == "inference_mode":
            with torch.inference_mode():
                return self.inner(tokens)
        if self.way == "behind":
            return self.inner(tokens).detach()
        if self.way == "rounding":
            return self.inner(tokens).round()
        if self.way == "zeros":
            return self.inner(tokens * 0)
        return Silent.apply(self.inner(tokens))


class Silent(torch.autograd.Function):
    """A function without a backward pass."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor) -> Tensor:
        return tokens * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None


def model_with(way: str, trained: bool = True) -> nn.Module:
    model: Any = build_model(CASE)
    model.head = Ending(model.head, way)
    return model.requires_grad_(trained)


@every_gradient_method
@pytest.mark.parametrize(
    "way", ["detach", "NumPy", "no_grad", "inference_mode", "behind", "Function"]
)
def test_heads_that_gradients_do_not_pass(method: Method, way: str) -> None:
    message = "model: no gradient leads from its output back through its blocks"
    with pytest.raises(ValueError, match=message):
        explain(method(model_with(way)), target=1)


@every_gradient_method
@pytest.mark.parametrize("way", ["rounding", "zeros"])
def test_heads_that_are_flat(method: Method, way: str) -> None:
    message = "model: the gradient of all its outputs is 0 at its blocks"
    with pytest.raises(ValueError, match=message):
        explain(method(model_with(way)), target=1)


class Frozen(nn.Module):
    """A model without gradient, and a head of its own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.head = model, model.head
        self.backbone.head = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(images)
        return self.head(features)


@every_gradient_method
def test_backbones_that_are_frozen_below_a_head(method: Method) -> None:
    expected = explain(method.shared(), target=1)
    assert_same_maps(explain(method(Frozen(build_model(CASE))), target=1), expected)


@pytest.mark.parametrize("way", ["detach", "no_grad", "behind"])
@pytest.mark.parametrize("trained", [True, False])
def test_the_place_where_the_gradient_ends_is_named(way: str, trained: bool) -> None:
    with pytest.raises(ValueError, match=r"it ends in head(\.inner)? \((End|Lin)"):
        explain(LeGrad(model_with(way, trained)), target=1)


def quantized(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its successor is no part of PyTorch
        return torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
        )


@pytest.mark.filterwarnings("ignore:quantized")  # PyTorch's own
@every_gradient_method
def test_quantized_models(method: Method) -> None:
    with pytest.raises(ValueError, match=r"its layer blocks.0.* \(.*\) is quantized"):
        explain(method(quantized(small_model())), target=1)


@pytest.mark.filterwarnings("ignore:quantized")
def test_blocks_that_are_quantized_beside_a_stream_that_is_not() -> None:
    model: Any = copy.deepcopy(small_model())
    model.blocks[1].mlp = quantized(model.blocks[1].mlp)
    with pytest.raises(ValueError, match=r"its layer blocks.1.mlp.* is quantized"):
        explain(FullGradPlus(model), target=1)
    assert explain(RawAttention(model)).any()  # it needs no gradient


@every_gradient_method
def test_models_that_switch_gradients_off_before_their_blocks(method: Method) -> None:
    """Graphs begin at the first block, whatever the mode is before it."""
    model: Any = copy.deepcopy(small_model())
    model.forward = torch.no_grad()(model.forward)
    expected = explain(method.shared(), target=1)
    assert torch.equal(explain(method(model), target=1), expected)


@every_gradient_method
def test_models_that_run_in_inference_mode(method: Method) -> None:
    model: Any = copy.deepcopy(small_model())
    model.forward = torch.inference_mode()(model.forward)
    with pytest.raises(ValueError, match="inference_mode"):
        explain(method(model), target=1)


def test_a_graph_that_is_cut_between_blocks() -> None:
    model: Any = copy.deepcopy(small_model())
    model.blocks[1].register_forward_pre_hook(lambda module, args: (args[0].detach(),))
    message = r"no gradient leads .* it ends behind block(s\.0| 0)"
    with pytest.raises(ValueError, match=message):
        explain(FullGradPlus(model), target=1)
    # Each block's own attention is asked alone.
    expected = explain(LeGrad(small_model(), layers=0), target=1)
    assert torch.equal(explain(LeGrad(model, layers=0), target=1), expected)


def test_full_grad_plus_under_libragrad() -> None:
    model = model_with("no_grad")
    with LibraGrad(model), pytest.raises(ValueError, match="no gradient leads from"):
        explain(FullGradPlus(model), target=1)
    with pytest.raises(ValueError, match="no gradient leads from"):
        FullGradPlus(model).completeness(IMAGES, target=1)


def test_a_saturated_probability_warns_and_names_its_examples() -> None:
    method = LeGrad(small_model(), score=lambda o: (1e4 * o).softmax(1))
    targets = small_model()(IMAGES).argmax(1)
    with pytest.warns(UserWarning, match=r"examples \[0, 1, 2\].*are 0 everywhere"):
        assert not explain(method, target=targets).any()


@every_class_method
def test_methods_without_gradients_explain_all_of_this(method: Method) -> None:
    if method.facts.differentiates:
        return
    wanted = explain(method.shared(), target=lambda o: o[:, 1])
    assert torch.equal(explain(method.shared(), target=CALLABLES["detach"]), wanted)
    explain(method(model_with("no_grad")), target=1)


# --- labels that are no embeddings ---------------------------------------------------

CLASSES = 5
LABELS = {
    "one-hot": torch.eye(CLASSES)[[1, 2, 0]],
    "multi-hot": torch.tensor([[1.0, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]),
    "no label": torch.zeros(3, CLASSES),
    "soft": torch.full((3, CLASSES), 0.2),
    "smoothed": torch.full((3, CLASSES), 0.05) + 0.9 * torch.eye(CLASSES)[[1, 2, 0]],
    "signs": 2 * torch.eye(CLASSES)[[1, 2, 0]] - 1,
    "float64": torch.eye(CLASSES).double()[[1, 2, 0]],
    "half": torch.eye(CLASSES).half()[[1, 2, 0]],
}


@pytest.mark.parametrize("name", LABELS)
@every_class_method
def test_labels_are_not_taken_for_embeddings(method: Method, name: str) -> None:
    message = r"target: .* labels, or an embedding\? .*argmax\(1\).*cosine_similarity"
    with pytest.raises(ValueError, match=message):
        explain(method.shared(), target=LABELS[name])


@pytest.mark.parametrize(
    "target",
    [
        torch.tensor([1.0, 2.0, 0.0]),  # class indices
        torch.tensor([[1.0], [2.0], [0.0]]),
        torch.rand(3, 4),
        torch.rand(4),
    ],
)
def test_what_is_not_as_wide_as_the_output_says_how_to_pass_it(target: Tensor) -> None:
    message = r"target: got an embedding .*integers, target.long\(\).*cosine_similarity"
    with pytest.raises(ValueError, match=message):
        explain(LeGrad(small_model()), target=target)


def test_class_indices_of_as_many_examples_as_classes() -> None:
    images = IMAGES[[0, 1, 2, 0, 1]]
    method = LeGrad(small_model())
    with pytest.raises(ValueError, match=r"target: .* or an embedding\?"):
        explain(method, images, target=torch.tensor([1.0, 2.0, 0.0, 4.0, 1.0]))
    text = torch.tensor([0.1, -0.2, 0.3, 0.4, 0.5])
    assert explain(method, images, target=text).any()


@pytest.mark.parametrize("target", [torch.ones(3, 1), torch.rand(3), torch.tensor(1.0)])
def test_labels_of_one_logit(target: Tensor) -> None:
    model: Any = copy.deepcopy(small_model())
    model.head = nn.Linear(model.head.in_features, 1)
    message = r"target: got .* one output, .* target=None, .*score='sigmoid'"
    with pytest.raises(ValueError, match=message):
        explain(LeGrad(model), target=target)
    assert explain(LeGrad(model, score="sigmoid"), target=None).shape == (3, 1, 4, 6)


def test_black_box_functions_say_how_to_pass_labels() -> None:
    with pytest.raises(TypeError, match=r"target.long\(\).*cosine_similarity"):
        Response(small_model(), 3, LABELS["one-hot"])  # type: ignore[arg-type]
