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
from captum_mda._cli.method_option import chosen_methods, completed_methods
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.maps import build_method, compute_map
from captum_mda.evaluate.methods import (
    DEFAULT_METHODS,
    list_methods,
    Method,
    METHODS,
    register_method,
)
from captum_mda.evaluate.models import Classifier

CASE = BY_NAME["timm ViT"]


@pytest.mark.parametrize(
    ("values", "methods"),
    [
        ((), DEFAULT_METHODS),
        (("caap",), ("caap",)),
        (("mda,,legrad, caap,",), ("mda", "legrad", "caap")),
        (("MDA,LeGrad",), ("mda", "legrad")),
        (("tis,ig", "mda"), ("tis", "ig", "mda")),
        (("ig,mda,ig", "mda"), ("ig", "mda")),
        (("all",), tuple(METHODS)),
        (("mda,all",), ("mda", *(name for name in METHODS if name != "mda"))),
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
    assert ", ".join(METHODS) in str(e.value)


def test_every_method_has_a_title_of_one_line() -> None:
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)
    assert all(0 < len(title) <= 25 for title in titles)
    assert all(name == method.name for name, method in METHODS.items())
    assert set(DEFAULT_METHODS) <= set(list_methods("seconds"))
    assert [*list_methods("seconds"), *list_methods("minutes")] == sorted(
        METHODS, key=lambda name: METHODS[name].cost == "minutes"
    )


def test_names_behind_commas_are_completed() -> None:
    assert completed_methods("libra") == ["libra-fullgrad", "libra-ixg"]
    assert completed_methods("mda,libra-ixg,libra") == ["mda,libra-ixg,libra-fullgrad"]


@pytest.mark.parametrize("words", [("mda", "legrad"), ("mda,", "legrad")])
def test_names_behind_spaces_are_no_images(words: tuple[str, ...]) -> None:
    command = ["compare", "--model", "demo", "--methods", *words]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "IMAGE: there is no file legrad; separate the names of" in result.output
    assert "--methods raw-attention,legrad" in result.output


def test_help_lists_all_names_unbroken() -> None:
    result = CliRunner().invoke(app, ["compare", "--help"])
    lines = [line.split() for line in result.output.splitlines()]
    start = next(n for n, words in enumerate(lines) if words[:1] == ["Methods,"])
    listed = " ".join(" ".join(words) for words in lines[start + 1 :])
    seconds, minutes = (" ".join(list_methods(cost)) for cost in ("seconds", "minutes"))
    assert f"seconds {seconds} minutes {minutes}" in listed
    assert f"default {' '.join(DEFAULT_METHODS)}" in listed
    for option in ("--methods", "--weights", "--target", "--device", "--samples"):
        assert option in result.output


def case_of(
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
    return Case(
        classifier=classifier,
        images=images(CASE, 1),
        target=2,
        probability=0.5,
        deletion_baseline=colour,
        batch_size=batch_size,
    )


def map_of(name: str, case: Case) -> Tensor:
    return compute_map(build_method(name, case.classifier), case).values


def stand_in(
    monkeypatch: pytest.MonkeyPatch, name: str, compute: Callable[[Case], Tensor]
) -> None:
    """Let a name of the table stand for a callable from a case to a map."""
    method = Method(
        name=name,
        title=METHODS[name].title,
        constructor=lambda classifier: compute,
        cost="seconds",
        interface="case",
    )
    monkeypatch.setitem(METHODS, name, method)


@pytest.mark.parametrize("name", list(METHODS))
def test_all_methods_answer_in_batches_of_the_wanted_size(name: str) -> None:
    model = shared_model(CASE.name)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with hook:
        values = map_of(name, case_of(model, batch_size=3))
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
    torch.testing.assert_close(map_of(name, case_of(model)), wanted)


def test_libra_methods_run_within_libragrad() -> None:
    model = shared_model(CASE.name)
    plain = attr.TokenInputXGradient(model).attribute(images(CASE, 1), target=2)
    with LibraGrad(model):
        wanted = attr.TokenInputXGradient(model).attribute(images(CASE, 1), target=2)
    values = map_of("libra-ixg", case_of(model))
    torch.testing.assert_close(values, wanted)
    assert not torch.allclose(values, plain)


def test_patches_are_deleted_as_asked() -> None:
    """Occlusion of the first patch is what its replacement costs."""
    model = shared_model(CASE.name)
    black = case_of(model, colour="black")
    without = black.images.clone()
    without[:, :, :PATCH, :PATCH] = torch.tensor([-1.0, -0.8, -0.6]).view(3, 1, 1)
    with torch.no_grad():
        wanted = (model(black.images) - model(without))[0, 2]
    values = map_of("occlusion", black)
    torch.testing.assert_close(values[0, 0, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    mean = map_of("occlusion", case_of(model))
    assert not torch.allclose(values, mean)


def test_small_maps_are_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    stand_in(monkeypatch, "legrad", lambda case: grid)
    values = map_of("legrad", case_of(shared_model(CASE.name)))
    assert values.shape == (1, 1, SIDE, SIDE)
    corners = values[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_what_is_random_repeats_and_leaves_the_generator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(monkeypatch, "shapley", lambda case: torch.rand(1, 1, SIDE, SIDE))
    case = case_of(shared_model(CASE.name))
    before = torch.get_rng_state()
    first, second = map_of("shapley", case), map_of("shapley", case)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


class Toy(attr.LeGrad):
    """A method of someone else's."""


def test_a_registered_method_is_everywhere(tmp_path: Path) -> None:
    """One line adds a method to the table, the command line and its help."""
    before = dict(METHODS)
    try:
        register_method(
            Method(name="toy", title="A toy", constructor=Toy, cost="seconds")
        )
        assert list_methods("seconds")[-1] == "toy" and "toy" in METHODS
        command = ["compare", "--methods", "toy,legrad", "--samples", "1"]
        out = str(tmp_path / "out")
        result = CliRunner().invoke(app, [*command, "--out", out])
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()[2:4]
        assert [line.split()[3] for line in lines] == ["toy", "legrad"]
        cells = [line.split()[-6:] for line in lines]
        assert cells[0] == cells[1]
        assert "toy" in completed_methods("t")
        with pytest.raises(ValueError, match="name 'toy' already"):
            register_method(METHODS["toy"])
    finally:
        METHODS.clear()
        METHODS.update(before)
