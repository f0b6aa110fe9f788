"""The shapes in annotations are those of what functions take and return."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import jaxtyping
import pytest
import torch
from beartype import beartype
from torch import Tensor
from vit_methods import IMAGES, small_model, TARGETS

from captum_mda import curves, patch_feature_mask, RawAttention
from captum_mda.attr.vit_batch import scale_patches
from captum_mda.magnitude import density, rules
from captum_mda.vit import AttentionCapture, AttentionRecord, find_adapter, ViTAdapter
from captum_mda.vit.layout import paint, patch_means, patch_numbers, PatchLayout
from captum_mda.vit.multihead import attention_probabilities

# jaxtyping is no requirement: modules import its names for type checkers alone.
NAMES = {
    name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Float64", "Int64")
}
ADAPTER = find_adapter(small_model())
GRID = ADAPTER.patch_grid(IMAGES)
N_TOKENS = ADAPTER.n_prefix_tokens + GRID[0] * GRID[1]
RAW = torch.linspace(0.1, 0.9, 10).reshape(2, 5)
LOW, HIGH = torch.zeros(2), torch.ones(2)
RISING = torch.linspace(0, 1, 5, dtype=torch.float64).expand(2, 5)
SIZES = torch.ones(2, 4, dtype=torch.float64)
SPARSE = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function, all of its arguments, and one of another shape that is refused."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    wrong: dict[int, Any]


def call(function: Callable[..., Any], *arguments: Any, **wrong: Any) -> Call:
    places = {int(name.removeprefix("at_")): value for name, value in wrong.items()}
    return Call(function=function, arguments=arguments, wrong=places)


CALLS = [
    call(curves.normalized, RAW, LOW, HIGH, at_1=torch.zeros(3)),
    call(curves.monotone_response, RAW, LOW, HIGH, "deletion", at_2=torch.ones(2, 1)),
    call(curves.density_response, RAW, "insertion", at_0=RAW.long()),
    call(curves.alignment_penalty, RAW, RAW, at_1=RAW[:, :4]),
    call(curves.mas_curve, RISING, RISING, "insertion", at_1=RISING[:1]),
    call(curves.area, RAW, at_0=torch.ones(())),
    call(rules.sparse_magnitudes, RISING, SIZES, "reference", at_1=SIZES[:1]),
    call(rules.dense_magnitudes, SPARSE, 0.005, at_0=SPARSE[0]),
    call(rules.blended_magnitudes, SPARSE, 0.5, 0.005, at_0=SPARSE.float()),
    call(density.mean_response, RISING, 1 - RISING, at_1=RISING[:, :3]),
    call(density.resampled, RISING, 8, at_0=RISING[0]),
    call(density.fit_density, RISING, "nnls", at_0=RISING.float()),
    call(patch_feature_mask, (8, 12), 4, at_0=None),
    call(paint, torch.ones(2, 1, *GRID), (32, 48), "bilinear", None, at_0=RAW),
    call(patch_means, torch.ones(2, 1, 32, 48), GRID, None, at_0=RAW),
    call(patch_numbers, (2, 3), (8, 12), PatchLayout((4, 4)), at_1=None),
    call(
        attention_probabilities,
        *(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 5, 4), None, False, None),
        at_1=torch.ones(2, 2, 5, 4),
    ),
    call(scale_patches, torch.rand(2, N_TOKENS), 1, at_0=torch.rand(N_TOKENS)),
    call(ViTAdapter.readout, ADAPTER, N_TOKENS, None, RAW, at_2=RAW),
    call(
        ViTAdapter.patch_map, ADAPTER, torch.rand(3, N_TOKENS), IMAGES, at_2=IMAGES[:2]
    ),
    call(
        inspect.unwrap(RawAttention.attribute),
        *(RawAttention(small_model()), IMAGES, TARGETS, None, None, None, False),
        at_1=IMAGES[0, 0, 0],
    ),
]
every_call = pytest.mark.parametrize(
    "called", CALLS, ids=lambda called: called.function.__qualname__
)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Read annotations, whose names the module itself does not import."""
    module = vars(sys.modules[function.__module__])
    return get_type_hints(function, module | NAMES, include_extras=True)


def checked(
    function: Callable[..., Any], change: Callable[[Any], Any] = lambda result: result
) -> Callable[..., Any]:
    """Make a function of the same annotations whose shapes are checked in each call."""
    hints = hints_of(function)
    names = ", ".join(inspect.signature(function).parameters)
    namespace = {"function": function, "change": change}
    exec(f"def like({names}): return change(function({names}))", namespace)
    like: Any = namespace["like"]
    shapes = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    like.__annotations__ = shapes
    assert "return" in shapes
    return jaxtyping.jaxtyped(like, typechecker=beartype)


def _has_shape(hint: Any) -> bool:
    parts = getattr(hint, "__args__", (hint,))
    return any(
        isinstance(part, type) and issubclass(part, jaxtyping.AbstractArray)
        for part in parts
    )


@every_call
def test_good_calls_have_the_shapes(called: Call) -> None:
    checked(called.function)(*called.arguments)


@every_call
def test_a_result_of_another_shape_is_noticed(called: Call) -> None:
    def flattened(result: Any) -> Any:
        if isinstance(result, tuple):
            return (flattened(result[0]), *result[1:])
        return result[None].bool()

    with pytest.raises(jaxtyping.TypeCheckError, match="return"):
        checked(called.function, flattened)(*called.arguments)


@every_call
def test_an_argument_of_another_shape_is_noticed(called: Call) -> None:
    ((place, value),) = called.wrong.items()
    if not isinstance(value, Tensor) or value is called.arguments[place]:
        return  # its arguments are no tensors
    arguments = list(called.arguments)
    arguments[place] = value
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(called.function)(*arguments)


def test_records_of_attention_have_the_shapes() -> None:
    hints = hints_of(AttentionRecord)
    with AttentionCapture() as capture:
        ADAPTER(IMAGES)
    assert len(capture.records) == ADAPTER.depth
    for record in capture.records:
        assert isinstance(record.probabilities, hints["probabilities"])
        assert not isinstance(record.probabilities[0], hints["probabilities"])
        assert isinstance(record.values, hints["values"].__args__[0])


def test_the_package_does_not_need_jaxtyping() -> None:
    for each in CALLS:
        assert not hasattr(sys.modules[each.function.__module__], "Float")
