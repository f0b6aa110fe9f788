"""Seed maps that are damaged, foreign or claim too much are refused, not read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

from captum_mda.evaluate._prior_files import read_prior_map


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_header(shape: str, descr: str = "<f8", n_bytes: int = 32) -> bytes:
    file = io.BytesIO()
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little"))
    file.write(text.encode() + bytes(n_bytes))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header("(100000, 1000000)"), "header claims .* 800000000000 B, and 32 B"),
        (with_header("(5,)"), "header claims .* 40 B, and 32 B follow"),
        (with_header("(4294967296, 4294967296, 16)"), "header claims"),
        (with_header("(-4,)"), "header claims"),
        (with_header("('a',)"), "cannot be read"),
        (with_header("(4,)", "<c8"), "complex64, no real numbers"),
        (with_header("(4,)", "|O"), "no real numbers"),
        (with_header("(1,)", "<M8[s]"), "no real numbers"),
        (b"\x93NUMPY\x07\x00" + bytes(64), "7.0|version"),
        (b"\x93NUMPY", "cannot be read"),
        (b"PK\x03\x04" + bytes(64), "cannot be read"),
        (b"", "cannot be read"),
        (npy_bytes(np.array([1.0, np.inf])), "NaN or infinite"),
        (npy_bytes(np.array(["a"])), "no real numbers"),
    ],
)
def test_an_array_that_is_none_is_refused_before_memory_is_taken(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "seed.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_prior_map(path)
    assert str(caught.value).startswith(f"seed_map: {path}")


def test_whole_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "seed.npy"
    for array in (
        np.arange(4),
        np.ones((2, 3), np.float16),
        np.asfortranarray([[1.0]]),
    ):
        np.save(path, array)
        assert np.array_equal(read_prior_map(path), array)


def test_complex_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "seed.safetensors"
    try:
        save_file({"seed": torch.ones(4, dtype=torch.complex64)}, path)
    except Exception:  # older releases of safetensors hold no complex numbers
        pytest.skip("safetensors holds no complex numbers")
    with pytest.raises(ValueError, match="complex64"):
        read_prior_map(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".npy", ".safetensors"]))
def test_flipped_bytes_are_numbers_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("seed") / f"seed{suffix}"
    if suffix == ".npy":
        np.save(path, np.linspace(0, 1, 16))
    else:
        save_file({"seed": torch.linspace(0, 1, 16)}, path)
    content = bytearray(path.read_bytes())
    for place in data.draw(
        st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)
    ):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        values = read_prior_map(path)
    except ValueError as error:
        assert str(error).startswith(f"seed_map: {path}")
    else:
        assert np.isfinite(values).all() and values.size <= 8 * 16
