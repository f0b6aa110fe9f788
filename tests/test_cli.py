"""The command line, on a small model in place of timm's."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn, Tensor
from typer.testing import CliRunner

from captum_mda import cli, MDAExplanation
from captum_mda._cli.app import app
from captum_mda.evaluate._prior_files import maps_of_images, read_prior_map
from captum_mda.evaluate._rows import SCORES

SIDE, PATCH, N_PATCHES = 32, 8, 16


class PatchClassifier(nn.Module):
    """Classifies images by the brightness of their patches, as timm's models look."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 3
        self.pretrained_cfg = {
            "input_size": (3, SIDE, SIDE),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "crop_pct": 1.0,
            "label_names": ["night, darkness", "morning", "evening"],
        }
        self.patch_embed = nn.AvgPool2d(PATCH)
        self.patch_embed.patch_size = (PATCH, PATCH)
        self.head = nn.Linear(N_PATCHES, self.num_classes, bias=False)
        weights = torch.zeros(self.num_classes, N_PATCHES)
        weights[1, :4] = torch.tensor([2.0, 1.5, 1.0, 0.5])  # the upper row
        weights[2, -4:] = 1.0
        self.head.weight = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.patch_embed(images.mean(1, keepdim=True)).flatten(1))


@pytest.fixture(autouse=True)
def timm_model(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let timm know one model, "patches", and note how it was asked for it."""
    asked: list[bool] = []

    def create_model(name: str, pretrained: bool = False) -> nn.Module:
        assert name == "patches"
        asked.append(pretrained)
        return PatchClassifier()

    monkeypatch.setattr("timm.create_model", create_model)
    monkeypatch.setattr("timm.is_model", lambda name: name == "patches")
    return asked


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture that is bright above and dark below: class 1."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[: SIDE // 2] = 250
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """A picture that is its own baseline."""
    Image.new("RGB", (SIDE, SIDE), (0, 0, 0)).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


@pytest.fixture
def explain(tmp_path: Path) -> Callable[..., Any]:
    """Run ``captum-mda explain --model patches`` with output into tmp_path/out."""

    def run(*arguments: object, model: str = "patches") -> Any:
        command = [
            "explain",
            "--model",
            model,
            "--out",
            tmp_path / "out",
            "--overwrite",
        ]
        return CliRunner().invoke(app, [str(word) for word in (*command, *arguments)])

    return run


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").iterdir())


def rows_of(tmp_path: Path) -> list[dict[str, str]]:
    with open(tmp_path / "out" / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_table_and_csv(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    result = explain(photo)
    assert result.exit_code == 0, result.output
    assert written(tmp_path) == ["photo.png", "photo.safetensors", "scores.csv"]
    assert Image.open(tmp_path / "out" / "photo.png").size[0] == 1800
    explanation = MDAExplanation.load(tmp_path / "out" / "photo.safetensors")
    assert explanation.order[0, :4].tolist() == [0, 1, 2, 3]
    header, rule, line = result.stdout.splitlines()[:3]
    titles = ["image", "class", "seed", "prob.", "forwards", "seconds", "kernel"]
    titles += ["Ins", "Del", "Ins-Del", "MAS Ins", "MAS Del", "MAS Ins-Del"]
    assert re.split(r"\s{2,}", header) == titles
    assert set(rule) == {"-"} and len(line) <= len(rule)
    (row,) = rows_of(tmp_path)
    words = ["photo", "1", "morning", "none", "0.9917", row["forwards"]]
    assert line.split()[:6] == words and row["seed"] == "none"
    assert row["image"] == str(photo) and row["name"] == "photo"
    assert (row["class_index"], row["class_name"]) == ("1", "morning")
    assert int(row["forwards"]) == explanation.n_forwards
    for text, name in zip(line.split()[-6:], SCORES, strict=True):
        assert text == f"{float(row[name]):.4f}"
    assert row["error"] == "" and len(row["insertion"]) > 10


def test_forwards_in_bfloat16_have_a_column(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    result = explain(photo, "--precision", "bf16", "--no-progress")
    assert result.exit_code == 0, result.output
    header, _, line = result.stdout.splitlines()[:3]
    (row,) = rows_of(tmp_path)
    assert re.split(r"\s{2,}", header)[4:6] == ["forwards", "in bf16"]
    assert line.split()[5:7] == [row["forwards"], row["forwards_bf16"]]
    assert 0 < int(row["forwards_bf16"]) < int(row["forwards"])
    explanation = MDAExplanation.load(tmp_path / "out" / "photo.safetensors")
    assert explanation.precision == "bf16"
    assert explanation.forwards_bf16.tolist() == [int(row["forwards_bf16"])]


def test_the_fast_search_asks_less(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    forwards = {}
    for ordering in ("paper", "fast", "joint", "relaxed", "auto"):
        explain(photo, "--ordering", ordering, "--no-progress")
        (row,) = rows_of(tmp_path)
        forwards[ordering] = int(row["forwards"])
        assert row["ordering"] == ("joint" if ordering == "auto" else ordering)
    assert forwards["fast"] < min(forwards["paper"], forwards["relaxed"])
    assert forwards["auto"] == forwards["joint"]


def test_csv_scores_are_those_of_the_library(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    from captum_mda import confidence_blur_baseline, metrics

    explain(photo, "--gamma", 1, "--deletion-baseline", "black", "--no-progress")
    (row,) = rows_of(tmp_path)
    explanation = MDAExplanation.load(tmp_path / "out" / "photo.safetensors")
    image = -torch.ones(1, 3, SIDE, SIDE)
    image[:, :, : SIDE // 2] = 250 / 255 * 2 - 1
    model = PatchClassifier()
    blurred = confidence_blur_baseline(
        model, image, 1, kernel_sizes=[int(row["kernel"])], max_confidence=1.0
    )
    scores = metrics.perturbation_scores(
        model,
        image,
        explanation.attributions(1.0),
        blurred,
        -1.0,
        target=1,
        n_steps=SIDE,
    )
    for name in SCORES:
        wanted = float(getattr(scores, name))
        assert float(row[name]) == pytest.approx(wanted, abs=1e-6)


def test_a_target_is_explained(
    explain: Callable[..., Any], grey: Path, tmp_path: Path
) -> None:
    result = explain(grey, "--target", 0, "--solver", "osqp", "--batch-size", 5)
    assert result.exit_code == 0, result.output
    assert "0 night" in result.stdout  # without the synonym
    assert rows_of(tmp_path)[0]["class_index"] == "0"


def test_kernels_that_leave_the_class_are_marked(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    result = explain(photo)
    (row,) = rows_of(tmp_path)
    assert float(row["insertion_baseline_probability"]) > 0.01
    assert f" {row['kernel']}*" in result.stdout
    assert "* no kernel brings" in result.stdout.splitlines()[-1]


def test_names_with_dollars_are_no_formulas(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    path = photo.rename(tmp_path / f"5$ or 6$ {'x' * 80}.png")
    result = explain(path)
    assert result.exit_code == 0, result.output
    assert f"{path.stem}.png" in written(tmp_path)


def test_equal_names_do_not_overwrite(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for name in ("other/Photo.png", "photo-2.png"):
        (tmp_path / name).write_bytes(photo.read_bytes())
    result = explain(photo, tmp_path / "other" / "Photo.png", tmp_path / "photo-2.png")
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in rows_of(tmp_path)] == ["photo", "Photo-3", "photo-2"]
    assert len(written(tmp_path)) == 7


def test_inputs_are_not_overwritten(explain: Callable[..., Any], photo: Path) -> None:
    before = photo.read_bytes()
    result = explain(photo, "--out", photo.parent)
    assert result.exit_code == 2 and "--out" in result.output
    assert photo.read_bytes() == before


def test_a_degenerate_image_does_not_stop_the_others(
    explain: Callable[..., Any], grey: Path, photo: Path, tmp_path: Path
) -> None:
    result = explain(grey, photo, "--target", 1)
    assert result.exit_code == 1
    assert "grey   error: class 1 scores" in result.stdout
    assert written(tmp_path) == ["photo.png", "photo.safetensors", "scores.csv"]
    first, second = rows_of(tmp_path)
    assert "class 1 scores" in first["error"] and first["insertion"] == ""
    assert first["ordering"] == "" and second["ordering"] == "joint"  # nothing ran
    assert second["error"] == "" and 0.0 < float(second["insertion"]) < 1.0


def test_exif_orientation_is_respected(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    turned = Image.open(photo).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    explain(photo, tmp_path / "turned.png")
    first, second = rows_of(tmp_path)
    assert first["insertion"] == second["insertion"]


@pytest.mark.parametrize(
    "shape", [(N_PATCHES,), (4, 4), (SIDE, SIDE), (1, N_PATCHES), (1, 4, 4)]
)
def test_forms_of_a_seed_map(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "seed.npy", values)
    save_file({"seed": torch.from_numpy(values)}, tmp_path / "seed.safetensors")
    for name in ("seed.npy", "seed.safetensors"):
        read = read_prior_map(tmp_path / name)
        (seed,) = maps_of_images(read, 1, (4, 4), (SIDE, SIDE))
        is_map = shape == (SIDE, SIDE)
        assert seed.shape == ((1, 1, *shape) if is_map else (1, N_PATCHES))
        np.testing.assert_array_equal(seed.flatten(), values.flatten())


def test_a_seed_map_saves_forwards(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    seed = np.arange(N_PATCHES, 0.0, -1.0)
    np.save(tmp_path / "grid.npy", seed.reshape(4, 4))
    np.save(tmp_path / "map.npy", seed.reshape(4, 4).repeat(8, 0).repeat(8, 1))
    explain(photo, "--ordering", "paper")
    (without,) = rows_of(tmp_path)
    for name in ("grid.npy", "map.npy"):
        words = ("--ordering", "paper", "--seed-map", tmp_path / name)
        result = explain(photo, *words)
        assert result.exit_code == 0, result.output
        assert int(rows_of(tmp_path)[0]["forwards"]) < int(without["forwards"])


def test_one_seed_map_for_each_image(
    explain: Callable[..., Any], photo: Path, grey: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "seed.npy", np.ones((2, 4, 4)))
    arguments = (photo, grey, "--target", 0, "--seed-map", tmp_path / "seed.npy")
    assert "--seed-map: got shape" in explain(photo, *arguments).output
    explain(*arguments)
    assert len(rows_of(tmp_path)) == 2


def test_weights_and_pretrained(
    explain: Callable[..., Any], photo: Path, tmp_path: Path, timm_model: list[bool]
) -> None:
    state = PatchClassifier().state_dict()
    state["head.weight"] = -state["head.weight"]
    save_file(state, tmp_path / "weights.safetensors")
    explain(photo, "--no-pretrained")
    explain(photo)
    explain(photo, "--weights", tmp_path / "weights.safetensors")
    assert timm_model == [False, True, False]
    assert rows_of(tmp_path)[0]["class_index"] == "2"  # by the negative weights


def test_weights_that_do_not_fit(
    explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"neck.weight": torch.zeros(2)}, path)
    result = explain(photo, "--weights", path)
    assert result.exit_code == 2
    assert "1 tensors missing, such as 'head.weight'" in result.output
    assert "1 tensors unknown, such as 'neck.weight'" in result.output
    save_file({"head.weight": torch.zeros(2)}, path)
    assert "of another shape" in explain(photo, "--weights", path).output
    path.write_bytes(b"no safetensors")
    assert "--weights: " in explain(photo, "--weights", path).output


def errors() -> dict[str, tuple[list[str], str]]:
    """Commands that cannot be run, and what is said; {} is the test's folder."""
    return {
        "no image": ([], "IMAGE: got none, and patches needs at least one"),
        "no file": (["{}/none.png"], "IMAGE: there is no file"),
        "an empty folder": (["{}/empty"], "IMAGE: the folder {}/empty has no images"),
        "text": (["{}/text.png"], "text.png is no image"),
        "no image can be read": (
            ["{}/text.png", "{}/none.png"],
            "text.png is no image, or a damaged one",
        ),
        "target": (["{}/photo.png", "--target", "3"], "--target: got 3, takes a class"),
        "target below": (["{}/photo.png", "--target", "-1"], "--target: got -1"),
        "tau": (["{}/photo.png", "--tau", "1.5"], "--tau: got 1.5, takes a number"),
        "gamma": (["{}/photo.png", "--gamma", "-1"], "--gamma: got -1.0"),
        "kappa": (["{}/photo.png", "--kappa", "nan"], "--kappa: got nan"),
        "solver": (["{}/photo.png", "--solver", "magic"], "--solver: got 'magic'"),
        "magnitude": (["{}/photo.png", "--magnitude", "x"], "--magnitude: got 'x'"),
        "ordering": (["{}/photo.png", "--ordering", "x"], "--ordering: got 'x'"),
        "precision": (["{}/photo.png", "--precision", "x"], "--precision: got 'x'"),
        "baseline": (["{}/photo.png", "--deletion-baseline", "x"], "--deletion-base"),
        "batch": (["{}/photo.png", "--batch-size", "0"], "--batch-size: got 0"),
        "device": (["{}/photo.png", "--device", "abacus"], "--device: got 'abacus'"),
        "patch": (["{}/photo.png", "--patch-size", "5"], "--patch-size: got 5 x 5"),
        "weights": (["{}/photo.png", "--weights", "{}/w"], "--weights: there is no"),
        "no seed": (["{}/photo.png", "--seed-map", "{}/s.npy"], "there is no file"),
        "seed shape": (
            ["{}/photo.png", "--seed-map", "{}/wrong.npy"],
            "--seed-map: got shape (5, 5), takes one number for each patch, (16) or "
            "(4, 4), or for each pixel, (32, 32)",
        ),
        "seed pickle": (["{}/photo.png", "--seed-map", "{}/object.npy"], "--seed-map"),
        "seed nan": (["{}/photo.png", "--seed-map", "{}/nan.npy"], "NaN or infinite"),
        "seed scalar": (["{}/photo.png", "--seed-map", "{}/0d.npy"], "got shape ()"),
        "seed twice": (
            ["{}/photo.png", "--seed-map", "{}/0d.npy", "--seed-method", "legrad"],
            "--seed-map: got a file and --seed-method legrad, takes one of the two",
        ),
        "seed method": (["{}/photo.png", "--seed-method", "x"], "--seed-method: got"),
        "seed of an unknown model": (
            ["{}/photo.png", "--seed-method", "bi-attn"],
            "--seed-method: bi-attn cannot look inside this model (model: got "
            "PatchClassifier, which is of no known family",
        ),
        "seed ending": (["{}/photo.png", "--seed-map", "{}/text.png"], "'.png'"),
        "unknown model": (["{}/photo.png", "--model", "x"], "timm has no model 'x'"),
        "demo weights": (["--model", "demo", "--pretrained"], "has its own weights"),
        "out is a file": (
            ["{}/photo.png", "--out", "{}/text.png"],
            "is a file, takes a",
        ),
    }


@pytest.mark.parametrize("case", list(errors()))
def test_errors_are_one_line(
    case: str, explain: Callable[..., Any], photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "wrong.npy", np.ones((5, 5)))
    np.save(tmp_path / "nan.npy", np.full(N_PATCHES, math.nan))
    np.save(tmp_path / "0d.npy", np.float64(1.0))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    before = sorted(tmp_path.iterdir())
    arguments, message = errors()[case]
    result = explain(*(word.format(tmp_path) for word in arguments))
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert len(result.output.splitlines()) == 1
    assert message.format(tmp_path) in result.output
    assert sorted(tmp_path.iterdir()) == before  # not even an empty folder


def test_a_model_without_patches(
    explain: Callable[..., Any], photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoPatches(PatchClassifier):
        def __init__(self) -> None:
            super().__init__()
            del self.patch_embed.patch_size

    monkeypatch.setattr("timm.create_model", lambda name, pretrained: NoPatches())
    result = explain(photo)
    assert result.exit_code == 2 and "--patch-size PIXELS" in result.output
    assert explain(photo, "--patch-size", 16).exit_code == 0


def test_failed_downloads_are_explained(
    explain: Callable[..., Any], photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, pretrained: bool) -> nn.Module:
        raise OSError("no connection\nat all")

    monkeypatch.setattr("timm.create_model", offline)
    result = explain(photo)
    assert result.exit_code == 2
    assert "no connection at all" in result.output and "--weights" in result.output


def test_no_temporary_files_after_an_error(
    explain: Callable[..., Any],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matplotlib.figure import Figure

    def fail(self: Figure, path: Path, **options: object) -> None:
        path.write_bytes(b"half a figure")
        raise OSError("no space left on the device")

    monkeypatch.setattr(Figure, "savefig", fail)
    result = explain(photo)
    assert result.exit_code == 2 and "no space left" in result.output
    assert written(tmp_path) == []


def test_many_patches_are_warned_of(explain: Callable[..., Any], photo: Path) -> None:
    words = (photo, "--patch-size", 2, "--tau", 0)
    assert "without a seed" not in explain(*words).stderr
    result = explain(*words, "--ordering", "paper")
    assert "note: without a seed all 256 patches" in result.stderr


def test_an_unreadable_response_is_one_images_error(
    explain: Callable[..., Any],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fragile(PatchClassifier):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(images.std() < 0.5, torch.nan * logits, logits)

    monkeypatch.setattr("timm.create_model", lambda name, pretrained: Fragile())
    Image.new("RGB", (SIDE, SIDE), "white").save(tmp_path / "white.png")
    result = explain(tmp_path / "white.png", "--target", 1)
    assert result.exit_code == 1
    assert "NaN" in rows_of(tmp_path)[0]["error"]


def test_demo_samples(explain: Callable[..., Any], tmp_path: Path) -> None:
    result = explain("--samples", 2, "--sample-seed", 3, model="demo")
    assert result.exit_code == 0, result.output
    assert written(tmp_path) == [
        "demo-3-0.png",
        "demo-3-0.safetensors",
        "demo-3-1.png",
        "demo-3-1.safetensors",
        "scores.csv",
    ]


def test_main_runs_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import captum_mda

    monkeypatch.setattr(sys, "argv", ["captum-mda", "--version"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"captum-mda {captum_mda.__version__}\n"


def test_help_names_every_option() -> None:
    result = CliRunner().invoke(app, ["explain", "--help"])
    options = ["--weights", "--seed-method", "--seed-map", "--tau", "--gamma"]
    for option in (*options, "--kappa", "--out"):
        assert option in result.output


def test_main_without_typer_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r'pip install "captum_mda\[cli\]"'):
        cli.main()


def test_commands_of_the_pages_are_commands() -> None:
    """Every option of a command in README and docs is one that it has."""
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    commands = re.findall(
        r"captum-mda (explain|compare)([^`\n]*(?:\\\n[^`\n]*)*)", text
    )
    assert len(commands) >= 6
    for command, words in commands:
        usage = CliRunner().invoke(app, [command, "--help"]).output
        for option in re.findall(r"--[a-z][a-z-]*", words):
            assert option in usage, (command, option)
