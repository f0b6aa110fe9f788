"""The training script, in small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import demo_training as train
from benchmarks.demo_training_data import batches, blur, render_pool
from captum_mda.demo import CLASS_NAMES, IMAGE_SIZE
from captum_mda.demo._model import load_weights


@pytest.fixture
def restored_torch() -> Iterator[None]:
    # The script sets its own process's threads and seed.
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.mark.usefixtures("restored_torch")
def test_training_writes_weights_and_figures_and_goes_on_from_them(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    words = "--samples 40 --epochs 1 --batch-size 16 --measured 10 --threads 1".split()
    train.main(["--out", str(first), *words])
    train.main(["--out", str(second), "--start", str(first), *words])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {first.name, second.name, "figures.json"}
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures["file_bytes"] == second.stat().st_size
    assert figures["training_samples"] == 80 and len(figures["commands"]) == 2
    assert not any(str(tmp_path) in command for command in figures["commands"])
    assert not load_weights(second).training


def test_batches_cover_the_pool_once_with_distributions_as_targets(
    tmp_path: Path,
) -> None:
    pool = render_pool(120, 0, tmp_path)
    assert len(pool.labels) == 126 and (pool.labels[120:] == -1).all()
    drawn = list(batches(pool, 64, np.random.default_rng(0)))
    assert len(drawn) == 1
    images, targets, masks = drawn[0]
    assert images.shape == (64, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert targets.shape == (64, len(CLASS_NAMES))
    assert masks.shape == (64, 1, IMAGE_SIZE, IMAGE_SIZE)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    assert (targets[:3] == 0.1).all() and not masks[:3].any()
    # Past the hidden and the partial images, a mask and a class come together.
    assert torch.equal(targets[11:].amax(1) == 1.0, masks[11:].flatten(1).any(1))


@pytest.mark.parametrize("padded", [False, True])
def test_blur_keeps_the_middle_of_a_flat_image(padded: bool) -> None:
    flat = torch.full((1, 3, IMAGE_SIZE, IMAGE_SIZE), 0.7)
    blurred = blur(flat, sigma=3.0, padded=padded)
    middle, corner = blurred[0, 0, 32, 32].item(), blurred[0, 0, 0, 0].item()
    assert middle == pytest.approx(0.7)
    assert corner == pytest.approx(0.7 if not padded else 0.7 * 0.5**2, rel=0.3)
