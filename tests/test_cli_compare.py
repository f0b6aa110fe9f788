"""``captum-mda compare``, on the demo model and on one that looks at brightness."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn, Tensor
from typer.testing import CliRunner

from captum_mda import confidence_blur_baseline, demo, LeGrad, metrics
from captum_mda._cli.app import app
from captum_mda.evaluate import compare as module
from captum_mda.evaluate._rows import format_compared, Row, SCORES
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.methods import METHODS
from captum_mda.evaluate.models import Classifier

SIDE, PATCH = 32, 8


class Brightness(nn.Module):
    """Class 1 is how bright the upper half is; no Vision Transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {
            "input_size": (3, SIDE, SIDE),
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "crop_pct": 1.0,
            "label_names": ["night", "morning"],
        }
        self.patch_embed = nn.AvgPool2d(PATCH)
        self.patch_embed.patch_size = (PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.patch_embed(images.mean(1)).mean(2)  # (B, 4)
        bright = 3.0 * rows[:, 0] + rows[:, 1]
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two bright pictures; and let timm know one model, "bright"."""
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: Brightness())
    monkeypatch.setattr("timm.is_model", lambda name: name == "bright")
    rng = np.random.default_rng(0)
    paths = (tmp_path / "a.png", tmp_path / "b.png")
    for path in paths:
        pixels = rng.integers(180, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, method: Any) -> None:
    """Let a name stand for a callable from a case to a map."""
    built_by(monkeypatch, name, lambda classifier: method)


def built_by(monkeypatch: pytest.MonkeyPatch, name: str, constructor: Any) -> None:
    """Let a name stand for what a constructor makes of the classifier."""
    method = replace(
        METHODS[name], constructor=constructor, interface="case", options={}
    )
    monkeypatch.setitem(METHODS, name, method)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three names stand for maps that cost nothing."""
    maps = {
        "legrad": lambda images: images.abs().mean(1, keepdim=True),
        "rollout": lambda images: (images - images.mean()).mean(1, keepdim=True),
        "caap": lambda images: torch.arange(float(SIDE**2)).view(1, 1, SIDE, SIDE),
    }
    for name, make in maps.items():
        stand_in(monkeypatch, name, lambda q, make=make: make(q.images))


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Any]:
    """Run ``captum-mda compare --model bright`` with output into tmp_path/out."""

    def run(*arguments: object, model: str = "bright") -> Any:
        command = [
            "compare",
            "--model",
            model,
            "--out",
            tmp_path / "out",
            "--overwrite",
        ]
        return CliRunner().invoke(app, [str(word) for word in (*command, *arguments)])

    return run


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note the figures that are drawn."""
    drawn: list[Any] = []
    draw = module.maps_figure

    def note(*arguments: Any, **options: Any) -> Any:
        drawn.append(draw(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(module, "maps_figure", note)
    return drawn


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").iterdir())


def rows_of(tmp_path: Path) -> list[dict[str, str]]:
    path = tmp_path / "out" / "comparison.csv"
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def titles(figure: Any) -> list[str]:
    """The panels' titles; legends have none."""
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_demo_files_table_csv_and_figure(
    compare: Callable[..., Any], figures: list[Any], tmp_path: Path
) -> None:
    names = ("raw-attention", "legrad", "libra-fullgrad")
    result = compare("--methods", ",".join(names), "--samples", 2, model="demo")
    assert result.exit_code == 0, result.output
    files = ["comparison.csv", "demo-2-0-compare.png", "demo-2-1-compare.png"]
    assert written(tmp_path) == files
    rows = rows_of(tmp_path)
    wanted = [(f"demo-2-{index}", name) for index in range(2) for name in names]
    assert [(row["name"], row["method"]) for row in rows] == wanted
    header, rule, *lines, model = result.stdout.splitlines()
    titles_of_columns = ["image", "class", "method", "prob.", "seconds", "Ins"]
    assert header.split()[:6] == titles_of_columns and model == "model demo"
    assert set(rule) == {"-"} and len(lines) == 6
    for line, row in zip(lines, rows, strict=True):
        name, classified, method, probability, _, *cells = re.split(r" {2,}", line)
        assert (name, method) == (row["name"], row["method"]) and row["error"] == ""
        assert classified == f"{row['class_index']} {row['class_name']}"
        assert probability == f"{float(row['probability']):.4f}"
        assert cells == [f"{float(row[name]):.4f}" for name in SCORES]
        assert float(row["seconds"]) > 0.0
    first = rows[0]
    head = f"demo-2-0: {first['class_name']} ({first['class_index']}), probability "
    assert figures[0].get_suptitle() == f"{head}{float(first['probability']):.3f}"
    panels = ["Image", "Raw attention", "LeGrad", "Libra FullGrad+"]
    assert [titles(figure) for figure in figures] == [panels] * 2
    insertion, deletion, mas = (
        f"{float(rows[1][name]):.3f}"
        for name in ("insertion", "deletion", "mas_insertion")
    )
    caption = figures[0].axes[2].get_xlabel().splitlines()
    assert caption[0].startswith(f"Ins {insertion}, Del {deletion}, Δ ")
    assert caption[1].startswith(f"MAS {mas}, ") and len(caption) == 2


def test_scores_are_those_of_the_library(
    compare: Callable[..., Any], tmp_path: Path
) -> None:
    options = ("--deletion-baseline", "black", "--target", 0, "--samples", 1)
    compare("--methods", "legrad", *options, "--no-progress", model="demo")
    (row,) = rows_of(tmp_path)
    model = demo.load_model()
    image = demo.make_samples(1, 2).images
    kernels = [int(row["kernel"])]
    blurred = confidence_blur_baseline(
        model, image, 0, kernel_sizes=kernels, max_confidence=1.0
    )
    scores = metrics.perturbation_scores(
        model,
        image,
        LeGrad(model).attribute(image, 0),
        blurred,
        -2.0,
        target=0,
        n_steps=64,
    )
    assert row["class_index"] == "0" and row["error"] == ""
    for name in SCORES:
        assert float(row[name]) == pytest.approx(float(getattr(scores, name)), abs=1e-5)


def test_mda_is_what_explain_finds_and_needs_no_transformer(
    compare: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    """Two images around --methods, on a model that LeGrad cannot know."""
    words = (photos[0], "--methods", "mda,legrad,occlusion", photos[1])
    result = compare(*words, "--batch-size", 5, "--target", 1)
    assert result.exit_code == 1, result.output
    rows = rows_of(tmp_path)
    assert [row["method"] for row in rows] == ["mda", "legrad", "occlusion"] * 2
    assert [row["image"] for row in rows] == [str(photos[0])] * 3 + [str(photos[1])] * 3
    assert "which is of no known family" in rows[1]["error"]
    assert rows[0]["error"] == rows[2]["error"] == ""
    folder = tmp_path / "explained"
    command = ["explain", "--model", "bright", "--target", "1", "--out", folder]
    CliRunner().invoke(app, [str(word) for word in (*command, *photos)])
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        explained = list(csv.DictReader(file))
    for mda, line in zip(rows[::3], explained, strict=True):
        for name in (*SCORES, "kernel", "probability"):
            assert float(mda[name]) == pytest.approx(float(line[name]), abs=1e-6)
        for name in ("insertion_baseline_probability", "deletion_baseline_probability"):
            assert float(mda[name]) == pytest.approx(float(line[name]), abs=1e-6)


@pytest.mark.parametrize("error", [ValueError, TypeError, RuntimeError, ImportError])
@pytest.mark.usefixtures("cheap")
def test_a_method_that_fails_is_left_out(
    error: type[Exception],
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    figures: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(case: Case) -> Tensor:
        raise error("no map\nhere")

    stand_in(monkeypatch, "rollout", fail)
    result = compare(photos[0], "--methods", "legrad,rollout,caap")
    assert result.exit_code == 1
    assert "\na*     1      rollout  error: no map here\n" in result.stdout
    assert [row["error"] for row in rows_of(tmp_path)] == ["", "no map here", ""]
    assert [titles(figure) for figure in figures] == [["Image", "LeGrad", "CAAP"]]


@pytest.mark.usefixtures("cheap")
def test_a_map_that_cannot_be_scored_is_left_out(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = torch.zeros(1, 1, SIDE, SIDE)
    stand_in(monkeypatch, "rollout", lambda case: empty)
    assert compare(photos[0], "--methods", "rollout").exit_code == 1
    (row,) = rows_of(tmp_path)
    assert row["error"].startswith("attributions: constant map") and row["seconds"]
    assert written(tmp_path) == ["comparison.csv"]  # without a map, no figure


def test_other_errors_show_where_they_come_from(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(case: Case) -> Tensor:
        raise KeyError("a mistake")

    stand_in(monkeypatch, "rollout", fail)
    result = compare(photos[0], "--methods", "rollout")
    assert isinstance(result.exception, KeyError)


@pytest.mark.usefixtures("cheap")
def test_an_image_without_a_response_does_not_stop_the_others(
    compare: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    Image.new("RGB", (SIDE, SIDE), "black").save(tmp_path / "dark.png")
    words = (tmp_path / "dark.png", photos[0], "--target", 1)
    result = compare(*words, "--methods", "legrad,caap")
    assert result.exit_code == 1
    dark, first, second = rows_of(tmp_path)
    assert dark["error"].startswith("class 1 scores") and dark["method"] == ""
    assert [first["method"], second["method"]] == ["legrad", "caap"]
    assert "dark   error: class 1 scores" in result.stdout
    assert written(tmp_path) == ["a-compare.png", "comparison.csv"]


@pytest.mark.usefixtures("cheap")
def test_an_interrupted_run_keeps_what_is_done(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: Iterator[Tensor] = iter([torch.ones(1, 1, SIDE, SIDE)])

    def stop(case: Case) -> Tensor:
        for answer in answers:
            return answer
        raise KeyboardInterrupt

    stand_in(monkeypatch, "rollout", stop)
    result = compare(*photos, "--methods", "legrad,rollout")
    assert result.exit_code == 130
    assert "captum-mda: stopped; 2 files are in " in result.stderr
    assert [row["name"] for row in rows_of(tmp_path)] == ["a", "a"]
    assert written(tmp_path) == ["a-compare.png", "comparison.csv"]


class Bar:
    """Notes what a progress bar is told."""

    def __init__(self, total: int, description: str, show: bool) -> None:
        self.total, self.show = total, show
        self.done, self.descriptions = 0, [description]

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        self.done += n

    def set_description(self, text: str) -> None:
        self.descriptions.append(text)


@pytest.mark.usefixtures("cheap")
def test_one_bar_counts_all_maps(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of an image without a response and of a method that fails as well."""
    Image.new("RGB", (SIDE, SIDE), "black").save(tmp_path / "dark.png")
    bars: list[Bar] = []

    def note(*arguments: Any) -> Bar:
        bars.append(Bar(*arguments))
        return bars[-1]

    monkeypatch.setattr(module, "progress_bar", note)
    words = (photos[0], tmp_path / "dark.png", "--target", 1)
    compare(*words, "--methods", "legrad,raw-attention,caap")
    compare(photos[1], "--no-progress", "--methods", "legrad")
    first, second = bars
    assert first.done == first.total == 6 and second.total == 1
    named = ["a: LeGrad", "a: Raw attention", "a: CAAP"]
    assert first.descriptions == ["Comparison", *named]
    assert first.show and not second.show


def test_bars_on_the_terminal(
    compare: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    shown = compare(photos[0], "--methods", "mda")
    assert "a: MDA" in shown.stderr and "1/1" in shown.stderr
    assert "attribution" not in shown.stderr and "curves" not in shown.stderr
    silent = compare(photos[0], "--methods", "mda", "--no-progress")
    headings, line = silent.stderr.splitlines()
    assert headings.startswith("Ins and MAS Ins: higher is better; Del and MAS Del:")
    assert line == f"figures and comparison.csv are in {tmp_path / 'out'}"


@pytest.mark.usefixtures("cheap")
def test_seconds_are_those_of_the_map(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, score = [0.0], Case.scores

    def slow_map(case: Case) -> Tensor:
        clock[0] += 5.0
        return case.images

    def slow_scores(self: Case, *arguments: Any) -> Any:
        clock[0] += 100.0
        return score(self, *arguments)

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    stand_in(monkeypatch, "rollout", slow_map)
    monkeypatch.setattr(Case, "scores", slow_scores)
    compare(photos[0], "--methods", "rollout,caap")
    assert [float(row["seconds"]) for row in rows_of(tmp_path)] == [5.0, 0.0]


def test_methods_are_built_once_for_all_images(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Building is no part of a map's seconds; where it fails, each image says so."""
    clock, built = [0.0], []

    def build(classifier: Classifier) -> Callable[[Case], Tensor]:
        clock[0] += 100.0
        built.append(classifier)

        def attribute(case: Case) -> Tensor:
            clock[0] += 5.0
            return case.images

        return attribute

    def refuse(classifier: Classifier) -> Callable[[Case], Tensor]:
        built.append(classifier)
        raise ValueError("no such\nmodel")

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    built_by(monkeypatch, "rollout", build)
    built_by(monkeypatch, "caap", refuse)
    result = compare(*photos, "--methods", "rollout,caap")
    rows = rows_of(tmp_path)
    assert result.exit_code == 1 and len(built) == 2
    assert [row["seconds"] for row in rows] == ["5.0", ""] * 2
    assert [row["error"] for row in rows] == ["", "no such model"] * 2


def test_a_cheap_method_runs_the_model_once_an_image(
    compare: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, compute, forwards = demo.load_model(), module.compute_map, []
    monkeypatch.setattr(demo, "load_model", lambda: model)

    def count(*arguments: Any) -> Tensor:
        forwards.append(0)

        def note(*_: object) -> None:
            forwards[-1] += 1

        with model.register_forward_pre_hook(note):
            return compute(*arguments)

    monkeypatch.setattr(module, "compute_map", count)
    names = ("raw-attention", "rollout", "legrad", "libra-fullgrad")
    compare("--methods", ",".join(names), "--samples", 2, model="demo")
    assert forwards == [1] * 8


@pytest.mark.usefixtures("cheap")
def test_signed_maps_are_scored_by_their_absolute_value(
    compare: Callable[..., Any],
    photos: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed = torch.arange(-500.0, SIDE**2 - 500).view(1, 1, SIDE, SIDE)
    for name, values in {"ig": signed, "lime": signed.abs(), "tis": -signed}.items():
        stand_in(monkeypatch, name, lambda q, values=values: values)
    compare(photos[0], "--methods", "ig,lime,tis,caap")
    *equal, other = [[row[name] for name in SCORES] for row in rows_of(tmp_path)]
    assert equal[0] == equal[1] == equal[2] != other


def errors() -> dict[str, tuple[list[str], str]]:
    """Commands that cannot be run, and what is said; {} is the test's folder."""
    return {
        "method": (["{}/a.png", "--methods", "mda,x"], "--methods: got 'x', takes"),
        "no method": (
            ["{}/a.png", "--methods", "", "--target", "1"],
            "--methods: got none",
        ),
        "no image": ([], "IMAGE: got none, and bright needs at least one"),
        "no file": (["{}/none.png"], "IMAGE: there is no file"),
        "target": (["{}/a.png", "--target", "2"], "--target: got 2, takes a class"),
        "colour": (
            ["{}/a.png", "--deletion-baseline", "x"],
            "--deletion-baseline: got",
        ),
        "batch": (["{}/a.png", "--batch-size", "0"], "--batch-size: got 0"),
        "samples": (["--samples", "0"], "--samples: got 0"),
        "model": (["{}/a.png", "--model", "x"], "timm has no model 'x'"),
        "out": (["{}/a.png", "--out", "{}/b.png"], "is a file, takes a folder"),
    }


@pytest.mark.parametrize("case", list(errors()))
def test_errors_are_one_line(
    case: str, compare: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    arguments, message = errors()[case]
    result = compare(*(word.format(tmp_path) for word in arguments))
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit) and result.stdout == ""
    assert len(result.output.splitlines()) == 1 and message in result.output
    assert sorted(tmp_path.iterdir()) == before  # not even an empty folder


@pytest.mark.usefixtures("cheap")
def test_inputs_are_not_overwritten(
    compare: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path
) -> None:
    other = photos[1].rename(tmp_path / "a-compare.png")
    before = other.read_bytes()
    words = (photos[0], other, "--methods", "caap", "--out", tmp_path)
    result = compare(*words)
    assert result.exit_code == 2 and "--out" in result.output
    assert other.read_bytes() == before


def test_weak_blurs_are_marked_and_errors_widen_no_column() -> None:
    scores = dict.fromkeys((*SCORES, "seconds"), 0.5)
    weak = {"max_confidence": 0.01, "insertion_baseline_probability": 0.02}
    strong = {"max_confidence": 0.01, "insertion_baseline_probability": 0.01}
    rows = [
        Row(image="a.png", name="a", method="mda", **scores, **weak),
        Row(image="a.png", name="a", method="lime", error="x" * 99, **weak),
        Row(image="b.png", name="b", method="mda", **scores, **strong),
        Row(image="c.png", name="c", error="y" * 99),
    ]
    text = format_compared(rows)
    header, rule, *lines, footnote = text.splitlines()
    starts = [line.split("  ")[0] for line in lines]
    assert starts == ["a*", "a*", "b", "c"]
    assert len(lines[0]) == len(lines[2]) == len(header) == len(rule)
    assert footnote.startswith("* no kernel brings the probability down to 0.01")
    assert "*" not in format_compared(rows[2:])
