"""README.md: its Python and its commands run as printed; links and the sdist hold."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pages import blocks_of, commands_of, run
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from typer.testing import CliRunner

from captum_mda._cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands_of(README)
EXPLAINING = [words for words in COMMANDS if words[0] == "captum-mda"]
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}

real_create_model = timm.create_model


def create_small(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
    """Make the model of that name with few weights, drawn in place of downloaded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = real_create_model(name, pretrained=False, **SMALL, **options)
    head = model.get_classifier()
    if isinstance(head, nn.Linear):  # a backbone without classes has none
        with torch.no_grad():
            head.weight.mul_(100)  # confident, so blurring tells
    return model


def make_photo(path: Path) -> None:
    """Write squares of random colours."""
    squares = np.random.default_rng(0).integers(0, 2, (16, 20, 3), np.uint8)
    pixels = squares.repeat(16, axis=0).repeat(16, axis=1)
    Image.fromarray(pixels * 255).save(path)


def clearest_class(model: nn.Module, photo: Path) -> int:
    """Find the class that a photo raises most above a plain image of its mean."""
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    image = transform(Image.open(photo)).unsqueeze(0)
    plain = torch.zeros_like(image)
    with torch.no_grad():
        scores = model.eval()(torch.cat([image, plain])).softmax(dim=1)
    return int((scores[0] - scores[1]).argmax())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What README calls photo.jpg, photos/ and weights, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("timm.create_model", create_small)
    (tmp_path / "photos").mkdir()
    for photo in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        make_photo(tmp_path / photo)
    stock = create_small("deit_tiny_patch16_224")
    save_file(stock.state_dict(), tmp_path / "deit_tiny.safetensors")
    tuned = create_small("vit_small_patch16_dinov3", num_classes=3)
    torch.save({"state_dict": tuned.state_dict()}, tmp_path / "last.ckpt")
    names = ["tabby", "beagle", "crane"]
    names[clearest_class(tuned, tmp_path / "photo.jpg")] = "golden retriever"
    (tmp_path / "classes.txt").write_text("\n".join(names))
    return tmp_path


def test_python_of_the_readme_runs_from_top_to_bottom(folder: Path) -> None:
    blocks = blocks_of(README)
    assert len(blocks) >= 5 and all(block.runs for block in blocks)
    namespace: dict[str, object] = {"__name__": "readme"}
    printed = [run(block, namespace, str(ROOT / "README.md")) for block in blocks]
    assert "mda" in printed[-1]
    assert (folder / "explanation.safetensors").exists()


@pytest.mark.parametrize("words", EXPLAINING, ids=" ".join)
def test_command_of_the_readme_runs(words: list[str], folder: Path) -> None:
    result = CliRunner().invoke(app, [*words[1:], "--no-progress"])
    assert result.exit_code == 0, result.output
    out = folder / words[words.index("--out") + 1]
    assert list(out.glob("*.png"))


def test_photos_of_ones_own_come_with_a_model() -> None:
    assert EXPLAINING
    assert all("--model" in words and "--weights" in words for words in EXPLAINING)
    # A command in the prose would not be run above.
    assert not re.search(r"`captum-mda [a-z]", README)


def settings(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / name, encoding="utf-8")
    return parser


def extra_exists(words: list[str]) -> None:
    extras = settings("setup.cfg")["options.extras_require"]
    for named in re.findall(r"\[([\w,]+)\]", words[-1]):
        assert all(name in extras for name in named.split(","))


def environment_exists(words: list[str]) -> None:
    if "-e" in words:
        assert f"testenv:{words[words.index('-e') + 1]}" in settings("tox.ini")


def script_starts(words: list[str]) -> None:
    """Run a benchmark as far as its options, as what it measures takes hours."""
    _, module, *options = words[words.index("python") + 1 :]
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert all(name in done.stdout for name in options if name.startswith("--"))


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "captum-mda": lambda words: None,  # run above
    "python": extra_exists,
    "tox": environment_exists,
    "CAPTUM_MDA_DATA=DATA": script_starts,
}


def test_command_of_the_demo_environment_runs(folder: Path) -> None:
    command = settings("tox.ini")["testenv:demo"]["commands"]
    program, *words = command.replace("{posargs}", "--samples 1").split()
    assert program == "captum-mda"
    result = CliRunner().invoke(app, [*words, "--no-progress"])
    assert result.exit_code == 0, result.output
    assert list((folder / "demo-output").glob("*.png"))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_command_names_exists(words: list[str]) -> None:
    CHECKS[words[0]](words)


def test_install_of_the_readme_brings_what_its_methods_need() -> None:
    extras = settings("setup.cfg")["options.extras_require"]
    assert "methods" in extras["cli"] and "methods" in extras["cluster"]
    assert "scikit-learn" in extras["methods"]


def test_extras_that_messages_name_exist() -> None:
    extras = settings("setup.cfg")["options.extras_require"]
    for path in (ROOT / "captum_mda").rglob("*.py"):
        named = re.findall(r"captum_mda\[(\w+)\]", path.read_text(encoding="utf-8"))
        assert all(name in extras for name in named), path


def link_targets(page: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", page)


def test_links_of_the_readme_lead_somewhere_also_on_a_package_index() -> None:
    spec = importlib.util.spec_from_file_location("its_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    relative = [link for link in link_targets(README) if "://" not in link]
    assert relative
    for link in relative:
        assert (ROOT / link.split("#")[0]).exists(), link
    shown = script.for_an_index(README)
    assert link_targets(shown)
    assert all(link.startswith("https://") for link in link_targets(shown))
    page = "![A map](docs/a.png) [docs/b.md](docs/b.md) [why?](docs/b.md#why)"
    assert script.for_an_index(page) == (
        "*A map (`docs/a.png` in the source distribution).* `docs/b.md` "
        "why? (`docs/b.md`)"
    )


NOT_IN_SDIST = shutil.ignore_patterns(
    *(".git", ".tox", ".venv", ".*_cache", "__pycache__", "*.egg-info", "shared"),
    *("build", "dist", "demo-output", "captum-mda-output"),
)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution in a copy of the tree, and unpack it."""
    setuptools = pytest.importorskip("setuptools", "77")
    assert setuptools
    place = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, place / "tree", ignore=NOT_IN_SDIST)
    code = "import sys; from setuptools import build_meta as b; b.build_sdist('..')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=place / "tree",
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(place / "tree")},
    )
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(place / "unpacked", filter="data")
    (root,) = (place / "unpacked").iterdir()
    return root


def test_sdist_holds_what_the_tests_and_pages_need(sdist: Path) -> None:
    wanted = [
        path.relative_to(ROOT)
        for folder in ("tests", "benchmarks", "docs", "captum_mda")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    names = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "setup.cfg")
    wanted += map(Path, (*names, "setup.py", "pyproject.toml", "tox.ini", ".ci/run"))
    missing = [str(path) for path in wanted if not (sdist / path).exists()]
    assert not missing
    text = (sdist / "PKG-INFO").read_text(encoding="utf-8")
    assert "## Five lines" in text and "](docs/" not in text
