"""What every white-box method takes, refuses, shows and documents."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from captum.attr import Attribution
from torch import nn, Tensor
from torch.nn import functional as F
from vit_methods import (
    assert_same_maps,
    counted_rows,
    every_class_method,
    every_method,
    explain,
    few_steps,
    IMAGES,
    Method,
    METHODS,
    small_model,
    TARGETS,
)

import captum_mda
from captum_mda import MetricDrivenAttribution, TransformerAttribution
from captum_mda.vit import resolve, ViTAdapter

pytestmark = pytest.mark.filterwarnings("ignore:inputs. examples:UserWarning")
EMBEDDINGS = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


# --- targets that fit ---------------------------------------------------------


@every_method
def test_the_map_follows_its_target(method: Method) -> None:
    attribution = method.shared()
    ours, other = (explain(attribution, target=target) for target in (1, 2))
    assert torch.equal(ours, other) == (not method.facts.follows_target)


ROWS = torch.arange(3)
FORMS_OF_ONE_CLASS: list[Any] = [
    (1,),
    torch.tensor(1),
    torch.tensor([1]),
    [1, 1, 1],
    lambda outputs: outputs[:, 1:2],
]
FORMS_OF_SEVERAL: list[Any] = [
    torch.tensor(TARGETS),
    torch.tensor(TARGETS, dtype=torch.int32),
    [(target,) for target in TARGETS],
    lambda outputs: outputs[ROWS, torch.tensor(TARGETS)],
]


@every_method
def test_forms_of_a_target(method: Method) -> None:
    attribution = method.shared()
    for target, forms in ((1, FORMS_OF_ONE_CLASS), (TARGETS, FORMS_OF_SEVERAL)):
        expected = explain(attribution, target=target)
        for form in forms:
            assert_same_maps(explain(attribution, target=form), expected)


@every_method
def test_a_text_embedding_is_explained_by_its_similarity(method: Method) -> None:
    attribution = method.shared()
    alone = [
        explain(attribution, IMAGES[row : row + 1], target=EMBEDDINGS[row])
        for row in range(3)
    ]

    def similarity(outputs: Tensor) -> Tensor:
        return F.cosine_similarity(outputs, EMBEDDINGS[:1].to(outputs))

    first = explain(attribution, IMAGES[:1], target=similarity)
    assert_same_maps(alone[0], first)
    together = explain(attribution, target=EMBEDDINGS)
    assert_same_maps(together, torch.cat(alone))
    chunked = explain(attribution, target=EMBEDDINGS, internal_batch_size=2)
    assert_same_maps(chunked, together)
    longer = explain(attribution, target=3.0 * EMBEDDINGS.double())
    assert_same_maps(longer, together)  # its direction counts


@every_method
def test_a_tuple_of_one_gets_a_tuple(method: Method) -> None:
    attribution = method.shared()
    for mode in (None, "bilinear"):
        expected = explain(attribution, interpolate_mode=mode)
        found = explain(attribution, (IMAGES,), interpolate_mode=mode)  # type: ignore[arg-type]
        assert isinstance(found, tuple) and len(found) == 1
        assert torch.equal(found[0], expected)


def reshaped(pick: Callable[[Tensor], Tensor]) -> ViTAdapter:
    """The small model, with outputs of another shape."""
    adapter = resolve(small_model())
    return replace(
        adapter,
        select_output=pick,  # type: ignore[arg-type]
        tail=lambda tokens: pick(adapter.tail(tokens)),
    )


@every_method
def test_one_output_for_each_example_needs_no_target(method: Method) -> None:
    expected = explain(method.shared(), target=1)
    for pick in (lambda outputs: outputs[:, 1], lambda outputs: outputs[:, 1:2]):
        assert_same_maps(explain(method(reshaped(pick)), target=None), expected)


@every_method
def test_a_tuple_points_into_outputs_of_more_dimensions(method: Method) -> None:
    attribution = method(reshaped(lambda outputs: outputs[:, :4].unflatten(1, (2, 2))))
    plain = method.shared()
    assert_same_maps(
        explain(attribution, target=(1, 0)), explain(plain, target=[2, 2, 2])
    )
    assert_same_maps(
        explain(attribution, target=[(0, 1), (1, 0), (1, 1)]),
        explain(plain, target=[1, 2, 3]),
    )


@every_class_method
def test_scores(method: Method) -> None:
    softmax = explain(method(small_model(), score="softmax"))

    def probability(outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)[ROWS, torch.tensor(TARGETS)]

    called = explain(method(small_model(), score=lambda outputs: outputs.softmax(1)))
    assert_same_maps(called, softmax)
    if method.constructor is TransformerAttribution:
        # Relevance starts at a class; a probability's slopes sum to 0.
        with pytest.raises(ValueError, match="slopes of example 0's score"):
            explain(method.shared(), target=probability)
        return
    assert_same_maps(explain(method.shared(), target=probability), softmax)


# --- what is refused before the first forward ---------------------------------

NAN = torch.where(torch.arange(3)[:, None, None, None] == 1, torch.nan, IMAGES)
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"target": 1.5}, TypeError, "target: got 1.5"),
    ({"target": True}, TypeError, "target: got True"),
    ({"target": "cat"}, TypeError, "target: got 'cat'"),
    ({"target": [1.0, 2.0, 0.0]}, TypeError, "target: got 1.0"),
    ({"target": torch.tensor([True, False, True])}, TypeError, "target: got dtype"),
    ({"target": -1}, ValueError, "target: got -1"),
    ({"target": 5}, ValueError, "target: 5 is out of range"),
    ({"target": [0, 1, 5]}, ValueError, "target: 5 is out of range"),
    ({"target": [0, 1]}, ValueError, "target: got 2 entries for 3 examples"),
    ({"target": torch.tensor([0, 1])}, ValueError, "target: got 2 entries"),
    ({"target": torch.zeros(3, 2, dtype=torch.int64)}, ValueError, "target: got a"),
    ({"target": (0, 1)}, ValueError, "target: has 2 entries"),
    ({"target": ()}, ValueError, "target: got an empty tuple"),
    ({"target": torch.ones(4)}, ValueError, "target: got an embedding of 4 numbers"),
    ({"target": torch.ones(2, 5)}, ValueError, "target: got an embedding of shape"),
    ({"target": EMBEDDINGS / 0}, ValueError, "target: NaN or infinite"),
    ({"inputs": [IMAGES]}, TypeError, "inputs: got list"),
    ({"inputs": (IMAGES, IMAGES)}, TypeError, "inputs: got tuple"),
    ({"inputs": IMAGES[0]}, ValueError, r"inputs: got shape \(3, 32, 48\)"),
    ({"inputs": IMAGES[:0]}, ValueError, "inputs: got shape"),
    ({"inputs": IMAGES.long()}, ValueError, "torch.int64"),
    ({"inputs": NAN}, ValueError, "inputs: NaN or infinite values in example 1"),
    ({"interpolate_mode": "cubic"}, ValueError, "interpolate_mode: got 'cubic'"),
    ({"interpolate_mode": True}, ValueError, "interpolate_mode: got True"),
    ({"internal_batch_size": 0}, ValueError, "internal_batch_size: got 0"),
    ({"internal_batch_size": 1.5}, TypeError, "internal_batch_size: got 1.5"),
    ({"interpolate_modes": None}, TypeError, "interpolate_modes"),
    ({"n_samples": 3}, TypeError, "n_samples"),
]


@every_method
def test_wrong_arguments_are_found_before_the_first_forward(method: Method) -> None:
    attribution = method.shared()
    refused = [*REFUSED]
    if method.facts.follows_target:
        refused.append(({"target": None}, ValueError, "target: None"))
    if few_steps(attribution):
        refused.append(({"n_steps": 1}, ValueError, "n_steps: got 1"))
        refused.append(({"n_steps": 2.0}, TypeError, "n_steps: got 2.0"))
    with counted_rows(small_model()) as rows:
        for arguments, error, message in refused:
            with pytest.raises(error, match=message):
                explain(attribution, **({"inputs": IMAGES} | arguments))
            assert not rows, arguments
        explain(attribution)
    assert rows


@every_class_method
def test_a_callable_must_return_one_score_for_each_example(method: Method) -> None:
    attribution = method.shared()
    for wrong in (lambda outputs: outputs, lambda outputs: outputs.sum()):
        with pytest.raises(ValueError, match="target"):
            explain(attribution, target=wrong)


@pytest.mark.parametrize("size", [None, 1])
@every_method
def test_outputs_that_are_nan_are_refused_with_the_example(
    method: Method, size: int | None
) -> None:
    attribution = method.shared()
    marked = IMAGES.clone()
    marked[1, 0, 0, 0] = 7.0

    def spoil(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        is_marked = arguments[0][:, 0, 0, 0] == 7.0
        return output.masked_fill(is_marked[:, None], torch.nan)

    handle = small_model().register_forward_hook(spoil)
    try:
        with pytest.raises(ValueError, match="output for example 1 is NaN"):
            explain(attribution, marked, internal_batch_size=size)
    finally:
        handle.remove()


# --- models and constructors --------------------------------------------------


@cache
def unknown_models() -> list[nn.Module]:
    from torchvision.models import resnet18

    convolution = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(96, 5))
    return [convolution.eval(), resnet18().eval()]


@every_method
def test_a_model_of_no_known_family_is_refused_with_what_it_lacks(
    method: Method,
) -> None:
    for model in unknown_models():
        with pytest.raises(ValueError, match="of no known family") as raised:
            method(model)
        message = str(raised.value)
        assert f"got {type(model).__name__}" in message
        lacking = re.search(r"it lacks ([\w.|]+)", message)
        assert lacking is not None
        for path in lacking[1].split("|"):
            assert not hasattr(model, path.split(".")[0])
        assert "ViTAdapter" in message  # the way out


@every_method
def test_wrong_constructor_arguments(method: Method) -> None:
    with pytest.raises(TypeError, match="model: got function"):
        method(lambda images: images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="score: got 'logits'"):
        method(small_model(), score="logits")
    with pytest.raises(TypeError, match="scores"):
        method(small_model(), scores="softmax")


def test_a_misspelt_word_of_metric_driven_attribution_is_refused() -> None:
    method = MetricDrivenAttribution(small_model())
    with pytest.raises(TypeError, match="baseline"):
        method.attribute(IMAGES, target=1, **{"baseline": 0})
    with pytest.raises(TypeError, match="scores"):
        MetricDrivenAttribution(small_model(), **{"scores": "identity"})


# --- what is shown and documented ---------------------------------------------


@every_method
def test_the_bar_ends_full_under_the_name_of_the_method(
    method: Method, capsys: pytest.CaptureFixture[str]
) -> None:
    attribution = method.shared()
    explain(attribution)
    assert capsys.readouterr().err == ""
    with counted_rows(small_model()) as rows:
        explain(attribution, internal_batch_size=2, show_progress=True)
    shown = capsys.readouterr().err
    assert attribution.get_name() in shown
    done, total = re.findall(r"(\d+)/(\d+) ", shown)[-1]
    assert done == total
    if method.facts.differentiates:  # others run parts of the model, or count images
        assert int(total) == sum(rows)


def test_names_are_words_and_differ() -> None:
    names = {method.constructor: method.shared().get_name() for method in METHODS}
    for name in names.values():
        assert re.fullmatch(r"[A-Z][a-z]*( [A-Z][a-z]*)+", name), name
    assert len(set(names.values())) == len(names)


CLASSES = [
    pytest.param(value, id=name)
    for name in captum_mda.__all__
    if isinstance(value := getattr(captum_mda, name), type)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_documentation_of_a_class(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    # A class that only inherits its text documents another one.
    assert kind.__doc__, "no docstring of its own"
    assert "Args:" in text
    assert any(word in text for word in ("Reference:", ".. math::", ":math:")), (
        "neither a paper nor a formula"
    )
    assert ">>> " in text, "no example"
    for name in list(inspect.signature(kind).parameters):
        assert re.search(rf"^ +{name} \(", text, re.MULTILINE), name


@pytest.mark.parametrize("kind", CLASSES)
def test_documentation_of_attribute(kind: type) -> None:
    if not issubclass(kind, Attribution):
        pytest.skip("explains nothing itself")
    text = inspect.getdoc(kind.attribute) or ""
    for name in list(inspect.signature(kind.attribute).parameters)[1:]:
        assert re.search(rf"^ +{name} \(", text, re.MULTILINE), name
    assert "Returns:" in text
    assert "Raises:" in text
