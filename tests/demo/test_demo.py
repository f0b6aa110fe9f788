"""The embedded model and its procedural samples."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import captum_mda
from captum_mda import demo
from captum_mda.demo import generator
from captum_mda.demo._model import ARCHITECTURE, load_weights, WEIGHTS_PATH
from captum_mda.demo._shapes import SHAPES
from captum_mda.demo._textures import pixel_grid

FRESH_SEED = 2_024


@pytest.fixture(scope="module")
def samples() -> demo.DemoSamples:
    return demo.make_samples(500, FRESH_SEED)


@pytest.fixture(scope="module")
def model() -> Any:
    return demo.load_model()


@pytest.fixture
def same_global_randomness() -> Iterator[None]:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    yield
    assert torch.equal(torch_state, torch.get_rng_state())
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):
        assert np.array_equal(before, after)


# --- samples ----------------------------------------------------------------


def test_samples_have_their_documented_form(samples: demo.DemoSamples) -> None:
    images, labels, masks = samples
    side = demo.IMAGE_SIZE
    assert images.shape == (500, 3, side, side) and images.dtype == torch.float32
    assert labels.shape == (500,) and labels.dtype == torch.int64
    assert masks.shape == (500, 1, side, side) and masks.dtype == torch.bool
    assert images.is_contiguous() and images.abs().max() <= 2.0


def test_a_seed_gives_the_same_bits_and_prefixes_agree() -> None:
    few, again = demo.make_samples(3, 5), demo.make_samples(3, 5)
    more = demo.make_samples(5, 5)
    for first, second, longer in zip(few, again, more, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, longer[:3])


def test_seeds_differ() -> None:
    first, second = demo.make_samples(2, 5), demo.make_samples(2, 6)
    assert not torch.equal(first.images, second.images)


def test_zero_samples_are_empty() -> None:
    assert [len(part) for part in demo.make_samples(0, 0)] == [0, 0, 0]


def test_numpy_integers_are_integers() -> None:
    assert len(demo.make_samples(np.int64(1), np.uint8(3)).labels) == 1


@pytest.mark.parametrize(
    ("n", "seed", "error", "name"),
    [
        (-1, 0, ValueError, "n"),
        (1, -1, ValueError, "seed"),
        (1.0, 0, TypeError, "n"),
        (True, 0, TypeError, "n"),
        (1, "0", TypeError, "seed"),
        (1, None, TypeError, "seed"),
    ],
)
def test_bad_arguments_are_named(
    n: Any, seed: Any, error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=rf"^{name}: got .*, takes an integer"):
        demo.make_samples(n, seed)


def test_labels_are_balanced(samples: demo.DemoSamples) -> None:
    assert torch.bincount(samples.labels).tolist() == [50] * len(demo.CLASS_NAMES)
    for block in samples.labels.split(10):
        assert sorted(block.tolist()) == list(range(10))


def test_objects_are_several_patches_large_and_wholly_inside(
    samples: demo.DemoSamples,
) -> None:
    masks = samples.masks
    assert masks.flatten(1).sum(1).min() >= 1.5 * demo.PATCH_SIZE**2
    for edge in (masks[..., 0], masks[..., -1], masks[..., 0, :], masks[..., -1, :]):
        assert not edge.any()


@pytest.mark.usefixtures("same_global_randomness")
def test_making_samples_leaves_global_randomness_alone() -> None:
    demo.make_samples(2, 0)


# --- scenes -----------------------------------------------------------------


@pytest.mark.parametrize("index", range(20))
def test_the_object_changes_its_own_pixels_only(index: int) -> None:
    scene = generator.render_scene(3, index)
    changed = (scene.image != scene.background).any(axis=2)
    assert not changed[scene.coverage == 0.0].any()
    # The contrast that is promised makes nearly every covered pixel another one.
    assert changed[scene.mask].mean() > 0.98
    assert np.array_equal(scene.mask, scene.coverage >= 0.5)


@pytest.mark.parametrize("index", range(10))
def test_the_object_stands_out(index: int) -> None:
    scene = generator.render_scene(4, index)
    luminance = scene.image / 255.0 @ np.array([0.299, 0.587, 0.114])
    y, x = np.nonzero(scene.coverage == 1.0)
    grid_x, grid_y = pixel_grid(demo.IMAGE_SIZE)
    near = np.hypot(grid_x - x.mean(), grid_y - y.mean()) < 20
    around = luminance[near & (scene.coverage == 0.0)].mean()
    assert abs(luminance[scene.mask].mean() - around) > 0.1


def test_background_and_place_do_not_depend_on_the_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenes = []
    for label in range(len(demo.CLASS_NAMES)):
        monkeypatch.setattr(generator, "label_of", lambda *_, label=label: label)
        scenes.append(generator.render_scene(1, 0))
    for scene in scenes:
        assert np.array_equal(scene.background, scenes[0].background)
    disc = next(scene.coverage for scene in scenes if scene.label == 0)
    y, x = np.nonzero(disc)
    center, radius = np.array([x.mean(), y.mean()]) + 0.5, np.ptp(x) / 1.8 + 1.0
    for scene in scenes:
        y, x = np.nonzero(scene.mask)
        assert (np.hypot(x + 0.5 - center[0], y + 0.5 - center[1]) < radius).all()


def test_background_colours_say_nothing_of_the_label() -> None:
    scenes = [generator.render_scene(2, index) for index in range(300)]
    labels = np.array([scene.label for scene in scenes])
    statistics = np.array(
        [
            [*scene.background.mean((0, 1)), *scene.background.std((0, 1))]
            for scene in scenes
        ]
    )  # (300, 6)
    between = [statistics[labels == label].mean(0) for label in range(10)]
    # Thirty scenes a class: class means spread as samples of one distribution do.
    expected = statistics.std(0) / np.sqrt(30)
    assert (np.std(between, axis=0) < 1.8 * expected).all()


@pytest.mark.parametrize("name", demo.CLASS_NAMES)
def test_shapes_fill_a_fair_part_of_the_unit_disc_only(name: str) -> None:
    axis = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = SHAPES[name](x, y)
    assert not inside[np.hypot(x, y) > 1.0].any()
    assert inside.sum() / (np.hypot(x, y) <= 1.0).sum() > 0.25


# --- pictures ---------------------------------------------------------------


def test_denormalize_undoes_the_normalisation() -> None:
    scene = generator.render_scene(6, 0)
    images = demo.make_samples(1, 6).images
    colours = demo.denormalize(images)
    assert torch.equal(
        (255.0 * colours[0]).round().to(torch.uint8).permute(1, 2, 0),
        torch.from_numpy(scene.image),
    )
    assert np.array_equal(np.asarray(demo.to_pil(images[0])), scene.image)


def test_denormalize_clips_and_keeps_the_dtype() -> None:
    colours = demo.denormalize(torch.full((3, 2, 2), 9.0, dtype=torch.float64))
    assert colours.dtype == torch.float64 and (colours == 1.0).all()


@pytest.mark.parametrize(
    ("function", "argument", "error"),
    [
        (demo.denormalize, torch.zeros(4, 8, 8), ValueError),
        (demo.denormalize, torch.zeros(3, 8, 8, dtype=torch.uint8), TypeError),
        (demo.denormalize, np.zeros((3, 8, 8)), TypeError),
        (demo.to_pil, torch.zeros(1, 3, 8, 8), ValueError),
        (demo.to_pil, [0.0], TypeError),
    ],
)
def test_bad_images_are_named(
    function: Any, argument: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^images?: got .*, takes"):
        function(argument)


# --- model ------------------------------------------------------------------


def test_the_model_is_right_on_fresh_samples(
    model: Any, samples: demo.DemoSamples
) -> None:
    with torch.no_grad():
        probabilities = model(samples.images).softmax(1)
    accuracy = (probabilities.argmax(1) == samples.labels).double().mean().item()
    assert accuracy >= 0.95
    true_class = probabilities[torch.arange(500), samples.labels]
    assert true_class.mean() > 0.9


def test_the_model_sees_no_class_where_nothing_is(model: Any) -> None:
    nothing = torch.zeros(1, 3, demo.IMAGE_SIZE, demo.IMAGE_SIZE)
    with torch.no_grad():
        assert model(nothing).softmax(1).max() < 0.3


def test_the_model_is_a_plain_one_in_evaluation_mode(model: Any) -> None:
    from timm.models.vision_transformer import VisionTransformer

    assert type(model) is VisionTransformer
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.usefixtures("same_global_randomness")
def test_loading_needs_no_network_and_leaves_global_randomness_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    first, second = demo.load_model(), demo.load_model()
    assert first is not second
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)


def test_the_weights_file_is_small_and_describes_itself(model: Any) -> None:
    assert WEIGHTS_PATH.stat().st_size <= 3_000_000
    with safe_open(WEIGHTS_PATH, framework="pt") as file:
        metadata = file.metadata()
        dtypes = {file.get_tensor(name).dtype for name in file.keys()}
    assert dtypes == {torch.float16}
    assert json.loads(metadata["architecture"]) == ARCHITECTURE
    assert tuple(json.loads(metadata["class_names"])) == demo.CLASS_NAMES
    figures = json.loads(WEIGHTS_PATH.with_name("figures.json").read_text("utf-8"))
    assert figures["file_bytes"] == WEIGHTS_PATH.stat().st_size
    assert figures["parameters"] == sum(p.numel() for p in model.parameters())
    assert figures["accuracy"] >= 0.95 and figures["measured_samples"] >= 2_000
    del figures["file_bytes"]
    assert json.loads(metadata["figures"]) == figures


@pytest.mark.parametrize("kept", [0, 4, 1_000, 100_000])
def test_a_damaged_weights_file_is_named(tmp_path: Path, kept: int) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(WEIGHTS_PATH.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^path: got .*damaged\.safetensors"):
        load_weights(damaged)


def test_a_missing_weights_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "none.safetensors")


def test_importing_the_demo_does_not_import_timm() -> None:
    # An empty parent package stands in for the library, whose imports are its own.
    code = (
        "import sys, types; parent = types.ModuleType('captum_mda'); "
        f"parent.__path__ = {list(captum_mda.__path__)!r}; "
        "sys.modules['captum_mda'] = parent; import captum_mda.demo; "
        "assert not {'timm', 'PIL', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
