"""What the commands write: for which model, into which folder, and made with what."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli_compare import (
    Brightness,
    figures as figures,
    photos as photos,
    stand_in,
)
from typer.testing import CliRunner

import captum_mda
from captum_mda import MDAExplanation
from captum_mda._cli.app import app
from captum_mda.evaluate import explain as image_module
from captum_mda.evaluate._arguments import require_file

COMMANDS = ("explain", "compare")
TABLES = {"explain": "scores.csv", "compare": "comparison.csv"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command on what costs little, with output into tmp_path/out."""
    for name in ("legrad", "caap"):
        stand_in(monkeypatch, name, lambda q: q.images.abs().mean(1, keepdim=True))

    def invoke(command: str, *arguments: object) -> Any:
        words: list[object] = [command, "--no-progress", *arguments]
        if command == "compare" and "--methods" not in words:
            words += ["--methods", "legrad"]
        if "--out" not in words:
            words += ["--out", tmp_path / "out"]
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


def rows_of(tmp_path: Path, command: str) -> list[dict[str, str]]:
    path = tmp_path / "out" / TABLES[command]
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def must_not_load(*arguments: object, **options: object) -> None:
    raise AssertionError("a model was loaded")


@pytest.fixture
def unloaded(photos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model is made."""
    monkeypatch.setattr("timm.create_model", must_not_load)
    monkeypatch.setattr("captum_mda.demo.load_model", must_not_load)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("options", [(), ("--weights", "{}/a.png"), ("--target", "1")])
def test_images_need_a_model(
    command: str, options: tuple[str, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    words = [word.format(tmp_path) for word in options]
    result = run(command, tmp_path / "a.png", *words)
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    for hint in ("--model deit_tiny_patch16_224", "--model demo", "--weights"):
        assert hint in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_labels_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "labels"
    os.mkfifo(pipe)
    require_file("labels", pipe)
    with pytest.raises(ValueError, match=r"^labels: there is no file "):
        require_file("labels", tmp_path / "other")


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "options",
    [
        ("--weights", "{}/a.png"),
        ("--labels", "{}/a.png"),
        ("--num-classes", "3"),
        ("--model-arg", "img_size=64"),
        ("--pretrained",),
        ("--no-pretrained",),
        ("--weights-key", "ema"),
    ],
)
def test_options_of_a_model_need_its_name(
    command: str, options: tuple[str, ...], run: Callable[..., Any], tmp_path: Path
) -> None:
    result = run(command, *(word.format(tmp_path) for word in options))
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert options[0] in result.output and "--model NAME" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_photos_of_the_demo_model_come_with_a_note(
    command: str, run: Callable[..., Any], photos: tuple[Path, Path]
) -> None:
    result = run(command, photos[0], "--model", "demo", "--target", 1)
    assert "note: the demo model knows only the shapes" in result.stderr
    assert "crescent" in result.stderr and "model demo" in result.stdout
    alone = run(command, "--samples", 1, "--overwrite")
    assert alone.exit_code == 0 and "note: " not in alone.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_earlier_results_are_not_lost(
    command: str,
    run: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--model", "bright", "--target", 1)
    assert run(command, photos[0], *words).exit_code == 0
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("timm.create_model", must_not_load)
        for again in (photos[:1], photos[1:], photos):  # one table for all of them
            result = run(command, *again, *words, "--deletion-baseline", "black")
            assert result.exit_code == 2 and len(result.output.splitlines()) == 1
            assert TABLES[command] in result.output and "--overwrite" in result.output
            assert contents(tmp_path) == before
    assert run(command, *photos, *words, "--overwrite").exit_code == 0
    assert [row["name"] for row in rows_of(tmp_path, command)] == ["a", "b"]
    other = run(command, photos[0], *words, "--out", tmp_path / "new" / "folder")
    assert other.exit_code == 0 and (tmp_path / "new" / "folder").is_dir()


def test_both_commands_share_a_folder(
    run: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    for command in COMMANDS:
        result = run(command, photos[0], "--model", "bright", "--target", 1)
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").iterdir())) == 5


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.png/out", "--out: nothing can be written into {}/a.png/out"),
        ("n" * 300, "--out: nothing can be written into {}/nnn"),
        ("taken", "--out: {}/taken/{table} is a folder, where a file"),
        ("a.png", "--out: {}/a.png is a file, takes a folder"),
    ],
)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_folder_that_cannot_be_written_to(
    command: str,
    out: str,
    message: str,
    overwrite: tuple[str, ...],
    run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "taken" / TABLES[command]).mkdir(parents=True)
    before = contents(tmp_path)
    words = (tmp_path / "a.png", "--model", "bright", "--out", tmp_path / out)
    result = run(command, *words, *overwrite)
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert message.format(tmp_path, table=TABLES[command]) in result.output
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("unloaded")
def test_a_full_disk_is_found_out_before_the_work(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = contents(tmp_path)
    monkeypatch.setattr("os.write", full)
    result = run("explain", tmp_path / "a.png", "--model", "bright")
    assert result.exit_code == 2
    assert "(No space left on device); name another folder" in result.output
    assert contents(tmp_path) == before


def test_results_say_what_they_were_made_with(
    run: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions: list[str] = []
    draw = image_module.explanation_figure

    def note(*arguments: Any, **options: Any) -> Any:
        captions.append(options["caption"])
        return draw(*arguments, **options)

    monkeypatch.setattr(image_module, "explanation_figure", note)
    words = (photos[0], "--model", "bright", "--no-pretrained", "--target", 1)
    words += ("--tau", 0.8, "--magnitude", "paper", "--deletion-baseline", "black")
    result = run("explain", *words, "--gamma", 0.25, "--refine", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "model bright, weights random; ordering of MDA: joint" in lines
    (row,) = rows_of(tmp_path, "explain")
    wanted = {
        "model": "bright",
        "weights": "random",
        "class_index": "1",
        "score": "softmax",
        "seed": "none",
        "ordering": "joint",
        "tau": "0.8",
        "gamma": "0.25",
        "kappa": "0.005",
        "magnitude": "paper",
        "solver": "nnls",
        "refine": "1",
        "precision": "",
        "deletion_baseline": "black",
        "patch_size": "8",
        "image_size": "32",
        "captum_mda_version": captum_mda.__version__,
        "torch_version": str(torch.__version__),
    }
    assert {name: row[name] for name in wanted} == wanted
    assert row["timm_version"] and row["kernel"] and row["probability"]
    found = MDAExplanation.load(tmp_path / "out" / "a.safetensors")
    facts = found.provenance
    assert (facts["model"], facts["target"], facts["ordering"]) == (
        "bright",
        1,
        "joint",
    )
    assert facts["insertion_baseline"] == f"blur, kernel {row['kernel']}"
    assert facts["probability"] == float(row["probability"])
    for name in ("tau", "gamma", "deletion_baseline", "timm_version", "image"):
        assert f"{facts[name]}" == row[name]
    (caption,) = captions
    for words_of in (
        "Model bright, weights random",
        "ordering joint, 1 refining passes, without a seed, magnitude paper, tau 0.8",
        f"a blur of {row['kernel']} x {row['kernel']} pixels",
        "deletion ends in black",
        "its centre cropped, to 32 x 32 pixels",
    ):
        assert words_of in caption


def test_compare_tells_the_search_of_mda(
    run: Callable[..., Any],
    photos: tuple[Path, Path],
    figures: list[Any],
    tmp_path: Path,
) -> None:
    words = (
        photos[0],
        "--model",
        "bright",
        "--target",
        1,
        "--methods",
        "mda,legrad",
    )
    for ordering, ran in ((None, "joint"), ("auto", "joint"), ("fast", "fast")):
        option = () if ordering is None else ("--ordering", ordering)
        result = run("compare", *words, *option, "--overwrite")
        assert result.exit_code == 0, result.output
        mda, legrad = rows_of(tmp_path, "compare")
        assert (mda["ordering"], legrad["ordering"]) == (ran, "")
        assert (mda["tau"], mda["magnitude"]) == ("0.9", "reference")
        assert legrad["tau"] == "" and legrad["deletion_baseline"] == "mean"
        assert f"ordering of MDA: {ran}" in result.stdout
        labels = [axes.get_xlabel() for axes in figures[-1].axes]
        assert [f"ordering {ran}" in label for label in labels[:3]] == [
            False,
            True,
            False,
        ]
        assert "Model bright" in figures[-1].texts[-1].get_text()
        assert "class (1), probability" in figures[-1].get_suptitle()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ordering", "best"), "--ordering: got 'best', takes one of"),
        (("--ordering", "fast"), "--ordering: is for mda, which is none of"),
    ],
)
@pytest.mark.usefixtures("unloaded")
def test_orderings_of_compare(
    options: tuple[str, ...], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    methods = ("mda",) if "best" in options else ("legrad", "caap")
    words = (tmp_path / "a.png", "--model", "bright", "--methods", ",".join(methods))
    result = run("compare", *words, *options)
    assert result.exit_code == 2 and message in result.output


def test_maps_without_scores(
    run: Callable[..., Any],
    photos: tuple[Path, Path],
    figures: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One forward an image tells the class; the maps of these methods take none."""
    forwards: list[int] = []
    forward = Brightness.forward

    def count(self: Brightness, images: torch.Tensor) -> torch.Tensor:
        forwards.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Brightness, "forward", count)
    words = (photos[0], "--model", "bright", "--methods", "legrad,caap")
    result = run("compare", *words, "--no-scores")
    assert result.exit_code == 0, result.output
    assert sum(forwards) == 2  # with the one that finds out how many classes there are
    header, _, *lines = result.stdout.splitlines()
    assert header.split() == ["image", "class", "method", "prob.", "seconds"]
    assert [line.split()[:3] for line in lines[:2]] == [
        ["a", "1", "legrad"],
        ["a", "1", "caap"],
    ]
    assert lines[2:] == ["model bright, weights pretrained"]
    rows = rows_of(tmp_path, "compare")
    assert all(row["insertion"] == row["kernel"] == "" for row in rows)
    assert all(float(row["probability"]) > 0.5 and row["seconds"] for row in rows)
    (figure,) = figures
    assert figure.axes[1].get_xlabel().endswith(" s")
    assert "blur" not in figure.texts[-1].get_text()


def test_mda_without_scores_still_has_its_baselines(
    run: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    words = (photos[0], "--model", "bright", "--methods", "mda,legrad")
    result = run("compare", *words, "--no-scores", "--target", 1)
    assert result.exit_code == 0, result.output
    assert all(row["kernel"] for row in rows_of(tmp_path, "compare"))
    # Class 0 falls with brightness: nothing speaks for it, which maps do not mind.
    flat = run("compare", *words, "--no-scores", "--target", 0, "--overwrite")
    assert flat.exit_code == 1
    mda, legrad = rows_of(tmp_path, "compare")
    assert "no feature can be credited" in mda["error"] and legrad["error"] == ""


@pytest.mark.parametrize("option", ["--samples", "--sample-seed"])
def test_options_of_samples_are_refused_beside_photos(
    option: str, run: Callable[..., Any], photos: Any
) -> None:
    result = run("compare", photos[0], "--model", "demo", option, 1)
    assert result.exit_code == 2
    assert f"{option}: is for the demo model's own samples" in result.output
