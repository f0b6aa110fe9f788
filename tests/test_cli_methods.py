"""The option ``--methods`` and what its names stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn, Tensor
from typer.testing import CliRunner
from vit_models import BY_NAME, images, PATCH, shared_model, SIDE

from captum_mda import attr, LibraGrad
from captum_mda._cli.app import app
from captum_mda._cli.method_option import (
    chosen_methods,
    DEFAULT_METHODS,
    join_methods,
    MINUTES,
    SECONDS,
    TITLES,
)
from captum_mda.evaluate.maps import compute_map, METHODS
from captum_mda.evaluate.models import Classifier
from captum_mda.evaluate.case import Case

CASE = BY_NAME["timm ViT"]


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ("", ""),
        ("dog.png --out maps", "dog.png --out maps"),
        ("--methods mda", "--methods=mda"),
        ("--methods mda legrad caap", "--methods=mda,legrad,caap"),
        ("--methods mda legrad --out maps", "--methods=mda,legrad --out maps"),
        ("--methods mda, legrad,caap", "--methods=mda,,legrad,caap"),
        ("--methods mda -- legrad", "--methods=mda -- legrad"),
        ("-- --methods mda legrad", "-- --methods mda legrad"),
        ("a.png --methods mda legrad b.png", "a.png --methods=mda,legrad b.png"),
        ("--methods mda ./dog legrad", "--methods=mda ./dog legrad"),
        ("--methods mda photos/dog", "--methods=mda photos/dog"),
        ("--methods dog.png", "--methods= dog.png"),
        ("--methods --out maps", "--methods= --out maps"),
        ("--methods=mda legrad", "--methods=mda,legrad"),
        ("--methods=mda legrad a.png", "--methods=mda,legrad a.png"),
        (
            "--methods mda caap --out x --methods tis ig",
            "--methods=mda,caap --out x --methods=tis,ig",
        ),
        ("--methods mda --methods tis", "--methods=mda --methods=tis"),
        ("--target 3 mda", "--target 3 mda"),
        ("--methods mda --target=3 mda", "--methods=mda --target=3 mda"),
        ("--methods mda --no-progress legrad", "--methods=mda --no-progress legrad"),
    ],
)
def test_words_of_the_option(given: str, joined: str) -> None:
    assert join_methods(given.split()) == joined.split()


def test_names_end_at_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "mda"):
        (tmp_path / name).mkdir()
    words = ["--methods", "legrad", "mda", "photos", "--out", "x"]
    assert join_methods(words) == ["--methods=legrad,mda", "photos", "--out", "x"]


@pytest.mark.parametrize(
    ("values", "methods"),
    [
        ((), DEFAULT_METHODS),
        (("caap",), ("caap",)),
        (("mda,,legrad, caap,",), ("mda", "legrad", "caap")),
        (("MDA,LeGrad",), ("mda", "legrad")),
        (("tis,ig", "mda"), ("tis", "ig", "mda")),
        (("ig,mda,ig", "mda"), ("ig", "mda")),
        (("all",), tuple(TITLES)),
        (("mda,all",), ("mda", *(name for name in TITLES if name != "mda"))),
    ],
)
def test_chosen_methods(values: Sequence[str], methods: tuple[str, ...]) -> None:
    assert chosen_methods(values) == methods


@pytest.mark.parametrize(
    ("values", "got"), [(("mda,grad",), "got 'grad'"), (("",), "got none")]
)
def test_unknown_methods(values: Sequence[str], got: str) -> None:
    with pytest.raises(ValueError, match=rf"^--methods: {got}, takes .*\ball\b") as e:
        chosen_methods(values)
    assert ", ".join(TITLES) in str(e.value)


def test_every_name_has_a_method_and_a_title_of_one_line() -> None:
    assert set(METHODS) == set(TITLES) == {*SECONDS, *MINUTES}
    assert not set(SECONDS) & set(MINUTES)
    assert len(set(TITLES.values())) == len(TITLES)
    assert all(0 < len(title) <= 25 for title in TITLES.values())
    assert set(DEFAULT_METHODS) <= set(SECONDS)


def test_help_lists_all_names_unbroken() -> None:
    result = CliRunner().invoke(app, ["compare", "--help"])
    lines = [line.split() for line in result.output.splitlines()]
    start = next(n for n, words in enumerate(lines) if words[:1] == ["Methods,"])
    listed = " ".join(" ".join(words) for words in lines[start + 1 :])
    assert f"seconds {' '.join(SECONDS)} minutes {' '.join(MINUTES)}" in listed
    assert f"default {' '.join(DEFAULT_METHODS)}" in listed
    for option in ("--methods", "--weights", "--target", "--device", "--samples"):
        assert option in result.output


def question(
    model: nn.Module, batch_size: int | None = None, colour: str = "mean"
) -> Case:
    classifier = Classifier(
        model=model,
        transform=lambda image: torch.zeros(3, SIDE, SIDE),
        size=(SIDE, SIDE),
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.5, 0.5),
        patch_size=(PATCH, PATCH),
        n_classes=5,
        class_names=(),
        device=torch.device("cpu"),
    )
    return Case(classifier, images(CASE, 1), 2, 0.5, colour, batch_size)


@pytest.mark.parametrize("name", list(METHODS))
def test_all_methods_answer_in_batches_of_the_wanted_size(name: str) -> None:
    model = shared_model(CASE.name)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with hook:
        values = compute_map(name, question(model, batch_size=3))
    assert values.shape == (1, 1, SIDE, SIDE) and not values.requires_grad
    assert bool(torch.isfinite(values).all()) and float(values.abs().max()) > 0.0
    assert 1 <= max(sizes) <= 3


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("legrad", attr.LeGrad),
        ("bi-attn-token", lambda model: attr.BidirectionalAttention(model, "token")),
        (
            "caap",
            lambda model: attr.CausalActivationPatching(model, subtract_blank=True),
        ),
    ],
)
def test_maps_are_those_of_the_library(
    name: str, make: Callable[[nn.Module], attr.ViTAttribution]
) -> None:
    model = shared_model(CASE.name)
    wanted = make(model).attribute(images(CASE, 1), target=2)
    torch.testing.assert_close(compute_map(name, question(model)), wanted)


def test_libra_methods_run_within_libragrad() -> None:
    model = shared_model(CASE.name)
    plain = attr.TokenInputXGradient(model).attribute(images(CASE, 1), target=2)
    with LibraGrad(model):
        wanted = attr.TokenInputXGradient(model).attribute(images(CASE, 1), target=2)
    values = compute_map("libra-ixg", question(model))
    torch.testing.assert_close(values, wanted)
    assert not torch.allclose(values, plain)


def test_patches_are_deleted_as_asked() -> None:
    """Occlusion of the first patch is what its replacement costs."""
    model = shared_model(CASE.name)
    black = question(model, colour="black")
    without = black.images.clone()
    without[:, :, :PATCH, :PATCH] = torch.tensor([-1.0, -0.8, -0.6]).view(3, 1, 1)
    with torch.no_grad():
        wanted = (model(black.images) - model(without))[0, 2]
    values = compute_map("occlusion", black)
    torch.testing.assert_close(values[0, 0, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    mean = compute_map("occlusion", question(model))
    assert not torch.allclose(values, mean)


def test_small_maps_are_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    monkeypatch.setitem(METHODS, "legrad", lambda model: lambda question: grid)
    values = compute_map("legrad", question(shared_model(CASE.name)))
    assert values.shape == (1, 1, SIDE, SIDE)
    corners = values[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_what_is_random_repeats_and_leaves_the_generator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def draw(question: Case) -> Tensor:
        return torch.rand(1, 1, SIDE, SIDE)

    monkeypatch.setitem(METHODS, "shapley", lambda model: draw)
    asked = question(shared_model(CASE.name))
    before = torch.get_rng_state()
    first, second = compute_map("shapley", asked), compute_map("shapley", asked)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
