"""Damaged files: an explanation that holds what it promises, or a ValueError."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy_models import interacting_model

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda.magnitude import MAGNITUDE_RULES


@cache
def whole(magnitude: str = "reference") -> MDAExplanation:
    mda = MetricDrivenAttribution(
        interacting_model(9, 1),
        score="identity",
        magnitude=magnitude,  # type: ignore[arg-type]
    )
    return mda.explain(torch.ones(2, 9) * torch.tensor([[1.0], [2.0]]))


@cache
def whole_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        whole().save(f"{folder}/mda.safetensors")
        return Path(folder, "mda.safetensors").read_bytes()


def changed(
    path: Path, tensors: dict[str, Tensor] | None = None, **header: object
) -> MDAExplanation:
    """Load the file with other tensors and another header."""
    path.write_bytes(whole_bytes())
    with safe_open(path, framework="pt") as file:
        ((name, text),) = file.metadata().items()
    save_file(
        load_file(path) | (tensors or {}),
        path,
        metadata={name: json.dumps(json.loads(text) | header)},
    )
    return MDAExplanation.load(path)


def ramp(*values: float) -> Tensor:
    """A curve of both examples through some values."""
    row = torch.tensor(values, dtype=torch.float64)
    old = torch.linspace(0, 1, len(row), dtype=torch.float64)
    new = torch.linspace(0, 1, 10, dtype=torch.float64)
    place = torch.searchsorted(old, new).clamp(1, len(row) - 1)
    share = (new - old[place - 1]) / (old[place] - old[place - 1])
    return torch.lerp(row[place - 1], row[place], share).repeat(2, 1)


DAMAGED_TENSORS: list[tuple[str, Tensor, str]] = [
    ("density_curve", ramp(0, 0), "density_curve must run from 0 to 1, not 0 to 0"),
    ("density_curve", -ramp(0, 1), "density_curve runs from -1 to -?0, takes"),
    ("density_curve", ramp(1, 0), "density_curve must rise"),
    ("density_curve", ramp(0, 1e30, 1), "density_curve runs from 0 to 8.*, takes 0"),
    ("density_curve", ramp(0, 0, 1), "density_curve must be concave"),
    ("density_curve", ramp(0.2, 1), "density_curve must run from 0 to 1, not 0.2 to 1"),
    ("insertion_curve", ramp(0, 1.5, 1), "insertion_curve runs from 0 to 1"),
    ("insertion_curve", ramp(0, 0.9, 0.5, 1), "insertion_curve must rise"),
    ("insertion_curve", ramp(0, 0.5), "insertion_curve must run from 0 to 1, not 0 to"),
    ("deletion_curve", ramp(0, 1), "deletion_curve must fall"),
    ("deletion_curve", ramp(1, 0.3), "deletion_curve must run from 1 to 0"),
    ("mean_curve", ramp(0, -0.1, 1), "mean_curve runs from -0"),
    ("mean_curve", ramp(0, 0.8, 0.2, 1), "mean_curve must rise"),
    ("insertion_responses", ramp(0, torch.inf), "insertion_responses has NaN or inf"),
    ("n_inserted", torch.tensor([3, 10]), "n_inserted holds 3 to 10, takes .* 0 to 9"),
    ("n_inserted", torch.tensor([-1, 2]), "n_inserted holds -1 to 2"),
    ("forwards", torch.tensor([-5, 2]), "forwards holds -5 to 2, takes .* 0 on"),
    ("forwards_bf16", torch.tensor([10**9, 0]), "forwards_bf16 counts more"),
    ("margin", torch.tensor([-0.5, 0.0]).double(), "margin holds -0.5 to 0.0"),
    ("degenerate", torch.tensor([True, False]), "insertion_curve is not 0"),
    ("feature_mask.0", torch.zeros(1, 9, dtype=torch.int32), "no element of some feat"),
    ("feature_mask.0", torch.zeros(1, 9), "feature_mask.0 is torch.float32"),
    ("feature_mask.0", torch.zeros(9, dtype=torch.int32), "feature_mask.0 has shape"),
    ("feature_mask.0", torch.zeros(1, 0, dtype=torch.int32), "feature_mask.0 is torch"),
]


@pytest.mark.parametrize(("name", "value", "message"), DAMAGED_TENSORS)
def test_a_tensor_that_no_search_makes_is_refused(
    tmp_path: Path, name: str, value: Tensor, message: str
) -> None:
    path = tmp_path / "mda.safetensors"
    with pytest.raises(ValueError, match=message) as caught:
        changed(path, {name: value})
    assert str(caught.value).startswith(f"path: {path} is no consistent explanation: ")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [entry for entry in DAMAGED_TENSORS if not entry[0].startswith("feature")],
)
def test_the_class_refuses_it_too(name: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(whole(), **{name: value})


@pytest.mark.parametrize("magnitude", MAGNITUDE_RULES)
def test_what_searches_make_is_taken(magnitude: str) -> None:
    replace(whole(magnitude))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"input_shapes": []}, r"input_shapes: got \[\]"),
        ({"input_shapes": [[]]}, r"input_shapes: got \[\], takes integers"),
        ({"input_shapes": "all"}, "input_shapes: got 'all'"),
        ({"input_shapes": [[2, 9.0]]}, r"input_shapes: got \[2, 9.0\]"),
        ({"input_shapes": [[2, -9]]}, r"input_shapes: got \[2, -9\], takes sizes"),
        ({"input_shapes": [[2, 0]]}, "input_shapes: .* takes sizes from 1 on"),
        ({"input_shapes": [[2, 10**12]]}, "input_shapes: .* a file of .* can describe"),
        ({"input_shapes": [[2, 10**40]]}, "input_shapes: .* a file of"),
        ({"input_shapes": [[2] + [2] * 60]}, "input_shapes: .* a file of"),
        ({"input_shapes": [[3, 9]]}, r"order is torch.int64 \(2, 9\), not .* \(3, 9\)"),
        ({"input_shapes": [[2, 9], [2, 9]]}, "feature_mask.1 is missing"),
        ({"n_features": float("inf")}, "n_features: got inf"),
        ({"n_features": float("nan")}, "n_features: got nan"),
        ({"n_features": 1e30}, "n_features: got 1e"),
        ({"n_features": 10**30}, "n_features: got 1000"),
        ({"n_features": "nine"}, "n_features: got 'nine'"),
        ({"n_features": None}, "n_features: got None"),
        ({"n_features": -9}, "n_features: got -9"),
        ({"n_features": True}, "n_features: got True"),
        ({"magnitude": "loud"}, "magnitude: unknown magnitude rule 'loud'"),
        ({"magnitude": ["mas"]}, "magnitude: got"),
        ({"magnitude": None}, "magnitude: unknown magnitude rule None"),
        ({"dtype": "int8"}, "dtype: unknown dtype 'int8'"),
        ({"dtype": ["float32"]}, "dtype: unknown dtype"),
        ({"is_tuple": "no"}, "is_tuple: got 'no', takes True or False"),
        ({"precision": {}}, "precision: got {}"),
        ({"provenance": [1]}, "provenance: got list, takes an object"),
        ({"provenance": {"tau": {}}}, "provenance: got 'tau' with dict, takes names"),
        ({"provenance": {"target": [1]}}, "provenance: target has 1 entries for 2"),
        ({"version": 2}, "version: format version 2, this release reads 1"),
        ({"version": True}, "version: format version True"),
        ({"version": None}, "version: format version None"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tmp_path: Path, header: dict[str, object], message: str
) -> None:
    path = tmp_path / "mda.safetensors"
    with pytest.raises(ValueError, match=message) as caught:
        changed(path, **header)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[]", "7", "null", '"x"', "{", "", "[" * 100_000, '{"version": 1}']
)
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mda.safetensors"
    path.write_bytes(whole_bytes())
    with safe_open(path, framework="pt") as file:
        (name,) = file.metadata()
    save_file(load_file(path), path, metadata={name: text})
    with pytest.raises(ValueError, match=r"path: .*no consistent explanation"):
        MDAExplanation.load(path)


@pytest.mark.parametrize("path", [None, 3, b""])
def test_a_path_that_is_none_is_named(path: Any) -> None:
    with pytest.raises((TypeError, FileNotFoundError), match=r"^path: "):
        MDAExplanation.load(path)


def keeps_its_promises_or_names_the_path(path: Path) -> None:
    try:
        explanation = MDAExplanation.load(path)
    except ValueError as error:
        assert str(error).startswith(f"path: {path} ")
        return
    for gamma in (0.0, 0.5, 1.0):
        maps = explanation.feature_attributions(gamma)
        assert maps.isfinite().all() and (maps >= 0).all()
    painted = explanation.attributions()
    assert sum(each.numel() for each in _as_tuple(painted)) < 2**24


def _as_tuple(maps: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return maps if isinstance(maps, tuple) else (maps,)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bytes_end_in_a_value_error_or_an_explanation(
    data: st.DataObject,
) -> None:
    content = bytearray(whole_bytes())
    n_header = 8 + int.from_bytes(content[:8], "little")
    # The header is where most is at stake, and the file's smaller part.
    places = st.one_of(
        st.integers(0, n_header - 1), st.integers(n_header, len(content) - 1)
    )
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    keep = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    with TemporaryDirectory() as folder:
        path = Path(folder, "mda.safetensors")
        path.write_bytes(content[:keep])
        keeps_its_promises_or_names_the_path(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
FIELDS = [
    "version",
    "n_features",
    "input_shapes",
    "magnitude",
    "dtype",
    "is_tuple",
    "precision",
    "provenance",
]


@settings(max_examples=100, deadline=None)
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_value_of_a_header_field_is_taken_or_refused(
    field: str, value: object
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "mda.safetensors")
        try:
            changed(path, **{field: value})
        except ValueError:
            keeps_its_promises_or_names_the_path(path)


DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(
        [entry[0] for entry in DAMAGED_TENSORS] + ["order", "deletion_responses"]
    ),
    shape=st.lists(st.integers(0, 10), max_size=3),
    dtype=st.sampled_from(DTYPES),
    fill=st.sampled_from([0.0, 1.0, -1.0, 9.0, 1e30, float("inf"), float("nan")]),
)
def test_any_tensor_in_a_fields_place_is_taken_or_refused(
    name: str, shape: list[int], dtype: torch.dtype, fill: float
) -> None:
    value = torch.full(shape, fill, dtype=torch.float64).to(dtype)
    with TemporaryDirectory() as folder:
        path = Path(folder, "mda.safetensors")
        try:
            changed(path, {name: value})
        except ValueError:
            keeps_its_promises_or_names_the_path(path)
