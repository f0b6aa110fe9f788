"""The seeds of the command line, on a small Vision Transformer in place of timm's."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn, Tensor
from typer.testing import CliRunner
from vit_models import BY_NAME, PATCH, shared_model, SIDE

from captum_mda import BidirectionalAttention, LeGrad, MetricDrivenAttribution
from captum_mda._cli.app import app
from captum_mda.evaluate.case import make_case
from captum_mda.evaluate.models import load_classifier
from captum_mda.evaluate.prior import make_priors

CASE = BY_NAME["timm ViT"]
N_PATCHES = (SIDE // PATCH) ** 2


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Let timm know one model, "small"."""
    model = shared_model(CASE.name)
    config: dict[str, Any] = {
        "input_size": (3, SIDE, SIDE),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    config["crop_pct"] = 1.0
    monkeypatch.setattr(model, "pretrained_cfg", config, raising=False)
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: model)
    monkeypatch.setattr("timm.is_model", lambda name: True)
    return model


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two pictures of noise."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """Note the seed of each search, and leave out the search."""
    seen: list[Tensor | None] = []

    def note(self: MetricDrivenAttribution, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["seed_attributions"])
        raise ValueError("no search here")

    monkeypatch.setattr(MetricDrivenAttribution, "explain", note)
    return seen


def run(tmp_path: Path, *arguments: object) -> Any:
    command = ["explain", "--model", "small", "--no-progress", "--overwrite"]
    command += ["--out", tmp_path / "o"]
    return CliRunner().invoke(app, [str(word) for word in (*command, *arguments)])


def rows_of(tmp_path: Path) -> list[dict[str, str]]:
    with open(tmp_path / "o" / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_input(path: Path) -> Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    return (pixels / 255 * 2 - 1)[None]


@pytest.mark.parametrize(
    ("options", "name", "method"),
    [
        ((), "bi-attn", BidirectionalAttention),
        (("--seed-method", "auto"), "bi-attn", BidirectionalAttention),
        (("--seed-method", "bi-attn"), "bi-attn", BidirectionalAttention),
        (("--seed-method", "legrad"), "legrad", LeGrad),
        (("--seed-method", "legrad", "--batch-size", 1), "legrad", LeGrad),
    ],
    ids=["default", "auto", "bi-attn", "legrad", "legrad one by one"],
)
@pytest.mark.parametrize("patch_size", [PATCH, PATCH // 2])
def test_seeds_are_each_images_attributions(
    options: Sequence[object],
    name: str,
    method: Callable[..., Any],
    patch_size: int,
    model: nn.Module,
    photos: list[Path],
    seeds: list[Tensor | None],
    tmp_path: Path,
) -> None:
    # One class for both, so that it is not each image's likeliest.
    more = ("--target", 3, "--patch-size", patch_size)
    result = run(tmp_path, *photos, *options, *more)
    rows = rows_of(tmp_path)
    assert [row["error"] for row in rows] == ["no search here"] * 2, result.output
    own = patch_size == PATCH
    for row, path, seed in zip(rows, photos, seeds, strict=True):
        wanted = method(model).attribute(
            as_input(path), target=3, interpolate_mode=None if own else "bilinear"
        )
        assert seed is not None and row["seed"] == name
        assert seed.shape == ((1, N_PATCHES) if own else (1, 1, SIDE, SIDE))
        torch.testing.assert_close(seed, wanted.flatten(1) if own else wanted)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--seed-method", "none"), "none"),
        (("--seed-map", "{}/seed.npy"), "file"),
        (("--seed-map", "{}/seed.npy", "--seed-method", "auto"), "file"),
        (("--seed-map", "{}/seed.npy", "--seed-method", "none"), "file"),
    ],
)
def test_seeds_that_are_not_computed(
    options: Sequence[str],
    name: str,
    model: nn.Module,
    photos: list[Path],
    seeds: list[Tensor | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> Tensor:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(BidirectionalAttention, "attribute", fail)
    ranking = np.arange(float(N_PATCHES))
    np.save(tmp_path / "seed.npy", ranking)
    run(tmp_path, photos[0], *(word.format(tmp_path) for word in options))
    (row,), (seed,) = rows_of(tmp_path), seeds
    assert row["seed"] == name
    if name == "file":
        assert seed is not None and seed.flatten().tolist() == ranking.tolist()
    else:
        assert seed is None


def test_the_search_alone_is_counted(
    model: nn.Module, photos: list[Path], tmp_path: Path
) -> None:
    """The forwards of a seed that is computed and of the same one read are equal."""
    first = run(tmp_path, photos[0])
    (computed,) = rows_of(tmp_path)
    assert first.exit_code == 0 and computed["seed"] in first.stdout.splitlines()[2]
    seed = BidirectionalAttention(model).attribute(
        as_input(photos[0]),
        target=int(computed["class_index"]),
        interpolate_mode=None,
    )
    np.save(tmp_path / "seed.npy", seed.flatten().numpy())
    run(tmp_path, photos[0], "--seed-map", tmp_path / "seed.npy")
    (read,) = rows_of(tmp_path)
    assert computed.pop("seed") == "bi-attn" and read.pop("seed") == "file"
    assert computed.pop("seed_map") == "" and read.pop("seed_map") == "seed.npy"
    del computed["seconds"], read["seconds"]
    assert computed == read
    forwards = []
    for method in ("auto", "none"):
        run(tmp_path, photos[0], "--seed-method", method, "--ordering", "paper")
        forwards.append(int(rows_of(tmp_path)[0]["forwards"]))
    assert forwards[0] < forwards[1]


@pytest.mark.parametrize(("method", "noted"), [("none", True), ("auto", False)])
def test_only_a_search_without_a_seed_is_warned_of(
    method: str,
    noted: bool,
    model: nn.Module,
    photos: list[Path],
    seeds: list[Tensor | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--patch-size", 2, "--seed-method", method, "--ordering", "paper")
    result = run(tmp_path, photos[0], *words)
    note = "note: without a seed all 256 patches are candidates, some 32,896 forwards"
    assert (note in result.stderr) == noted
    assert len(seeds) == 1


def test_hybrids_have_patches_of_pixels() -> None:
    """An 8 x 8 patch of features that a network made at a quarter of the size."""
    classifier = load_classifier(
        "vit_tiny_r_s16_p8_224", pretrained=False, device="cpu"
    )
    assert classifier.patch_size == (32, 32)
    (seed,) = make_priors("legrad", None, 1, classifier, print)
    case = make_case(classifier, torch.ones(3, 224, 224), 0)
    values = seed.compute(case)
    assert values is not None and values.shape == (1, 49)
