"""What holds for the maps of every white-box method, on every family of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from captum.attr import NoiseTunnel
from torch import nn, Tensor
from torch.nn import functional as F
from vit_methods import (
    assert_same_maps,
    CASE,
    counted_rows,
    every_method,
    every_patch_method,
    explain,
    few_steps,
    IMAGES,
    Method,
    METHODS,
    small_model,
    TARGETS,
    ways,
)
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

import captum_mda
from captum_mda.attr import ViTAttribution
from captum_mda.evaluate import methods
from captum_mda.vit import resolve

# Grad-CAM says so where an example has no positive gradient.
pytestmark = pytest.mark.filterwarnings("ignore:inputs. examples:UserWarning")
SIZE, GRID = (3, 1, *CASE.size), (3, 1, *CASE.grid)


def test_the_table_holds_every_method() -> None:
    public = {
        name
        for name in captum_mda.__all__
        if isinstance(value := getattr(captum_mda, name), type)
        and issubclass(value, ViTAttribution)
    }
    assert {method.constructor.__name__ for method in METHODS} == public


def test_a_method_that_the_table_gains_is_tested_without_a_line_here() -> None:
    entry = methods.Method(
        name="toy", title="A toy", constructor=captum_mda.LeGrad, cost="seconds"
    )
    (way,) = ways(entry)
    assert_same_maps(explain(way.shared()), explain(captum_mda.LeGrad(small_model())))


@pytest.mark.parametrize("case", PARAMETERS)
@every_method
def test_every_family_of_models(method: Method, case: Case) -> None:
    attribution = method.shared(case.name)
    if case.name in method.facts.refuses:
        with pytest.raises(ValueError, match=r"^model: "):
            explain(attribution, images(case), target=[1, 2])
        return
    grid = explain(attribution, images(case), target=[1, 2])
    assert grid.shape == (2, 1, *case.grid)
    assert grid.dtype == torch.float32
    assert torch.isfinite(grid).all()


# --- how maps are laid out ----------------------------------------------------


@every_method
def test_shapes(method: Method) -> None:
    attribution = method.shared()
    grid = explain(attribution)
    assert grid.shape == GRID
    options = few_steps(attribution)
    full = attribution.attribute(IMAGES, target=TARGETS, **options)
    assert full.shape == SIZE
    for attributions in (grid, full):
        assert attributions.dtype == torch.float32
        assert not attributions.requires_grad
        assert attributions.grad_fn is None
    if method.facts.of_pixels:
        patches = F.adaptive_avg_pool2d(full, CASE.grid)
        assert_same_maps(grid, patches, tolerance=1e-6)
        return
    # A bilinear map is the default.
    resized = F.interpolate(grid, CASE.size, mode="bilinear", align_corners=False)
    assert_same_maps(full, resized, tolerance=1e-6)


@every_patch_method
def test_nearest_repeats_the_value_of_each_patch(method: Method) -> None:
    attribution = method.shared()
    grid = explain(attribution)
    repeated = grid.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    for mode in ("nearest", "nearest-exact"):
        full = explain(attribution, interpolate_mode=mode)
        assert_same_maps(full, repeated, tolerance=1e-6)
    bicubic = F.interpolate(grid, CASE.size, mode="bicubic", align_corners=False)
    full = explain(attribution, interpolate_mode="bicubic")
    assert_same_maps(full, bicubic, tolerance=1e-6)


@every_patch_method
def test_the_map_moves_with_the_image(method: Method) -> None:
    """Without positions, patches may change places: the map has them in its rows."""
    model = build_model(CASE)
    assert isinstance(model.pos_embed, nn.Parameter)
    nn.init.zeros_(model.pos_embed)
    attribution = method(model)
    moved = torch.roll(IMAGES, (8, 24), dims=(2, 3))  # one row, three columns
    expected = torch.roll(explain(attribution), (1, 3), dims=(2, 3))
    assert_same_maps(explain(attribution, moved), expected)


# --- examples do not mix ------------------------------------------------------

FAMILIES = [
    CASE.name,
    "timm SigLIP",
    "open_clip CoCa pooler",
    "transformers DINOv2 registers",
]


@pytest.mark.parametrize("name", FAMILIES)
@every_method
def test_a_batch_equals_each_example_with_its_own_target(
    method: Method, name: str
) -> None:
    attribution = method.shared(name)
    inputs = images(BY_NAME[name], 3)
    together = explain(attribution, inputs)
    alone = [
        explain(attribution, inputs[row : row + 1], target=TARGETS[row])
        for row in range(3)
    ]
    assert_same_maps(together, torch.cat(alone))


@pytest.mark.parametrize("name", [CASE.name, "open_clip CoCa pooler"])
@every_method
def test_small_chunks_change_nothing(method: Method, name: str) -> None:
    model = shared_model(name)
    attribution = method(model)
    inputs = images(BY_NAME[name], 3)
    together = explain(attribution, inputs)
    for size in (1, 2):
        with counted_rows(model) as rows:
            chunked = explain(attribution, inputs, internal_batch_size=size)
        assert_same_maps(chunked, together)
        assert max(rows) <= size


class LittleMemory(nn.Module):
    """A Vision Transformer that runs out of memory on more than some rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.model = small_model()
        self.most = most

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > self.most:
            raise RuntimeError("CUDA out of memory: not really")
        outputs: Tensor = self.model(inputs)
        return outputs


@pytest.mark.parametrize("n_images", [3, 1])
@every_method
def test_chunks_shrink_when_memory_runs_out(method: Method, n_images: int) -> None:
    adapter = replace(resolve(small_model()), model=LittleMemory(most=1))
    inputs, target = IMAGES[:n_images], TARGETS[:n_images]
    expected = explain(method.shared(), inputs, target)
    assert_same_maps(explain(method(adapter), inputs, target), expected)


@every_method
def test_chunks_of_a_given_size_do_not_shrink(method: Method) -> None:
    adapter = replace(resolve(small_model()), model=LittleMemory(most=1))
    with pytest.raises(RuntimeError, match="out of memory"):
        explain(method(adapter), internal_batch_size=2)


class Brightened(nn.Module):
    """A Vision Transformer that takes a factor for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.model = small_model()

    def forward(self, inputs: Tensor, factor: Tensor | float = 1.0) -> Tensor:
        if isinstance(factor, Tensor):
            factor = factor[:, None, None, None]
        outputs: Tensor = self.model(inputs * factor)
        return outputs


@every_method
def test_additional_arguments_follow_their_examples(method: Method) -> None:
    attribution = method(replace(resolve(small_model()), model=Brightened()))
    factors = torch.tensor([0.5, 1.0, 2.0])
    expected = explain(method.shared(), IMAGES * factors[:, None, None, None])
    for size in (None, 1, 2):
        ours = explain(
            attribution, additional_forward_args=factors, internal_batch_size=size
        )
        assert_same_maps(ours, expected)


# --- precision ----------------------------------------------------------------


@every_method
def test_a_model_in_double_precision(method: Method) -> None:
    model = deepcopy(small_model()).double()
    ours = explain(method(model), IMAGES.double())
    assert ours.dtype == torch.float64
    assert_same_maps(ours, explain(method.shared()), tolerance=1e-3)


@every_method
def test_autocast_around_the_call(method: Method) -> None:
    expected = explain(method.shared())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attribution = method(small_model())
        ours = explain(attribution)
        full = explain(attribution, interpolate_mode="bilinear")
    assert_same_maps(ours, expected, tolerance=0.08)
    assert ours.dtype == full.dtype == torch.float32


@every_method
def test_a_model_in_half_precision(method: Method) -> None:
    half = deepcopy(small_model()).bfloat16()
    inputs = IMAGES.bfloat16()
    expected = explain(method(deepcopy(half).float()), inputs.float())
    ours = explain(method(half), inputs)
    assert ours.dtype == torch.float32
    assert_same_maps(ours, expected, tolerance=0.08)


# --- what does not matter -----------------------------------------------------


@pytest.mark.parametrize("name", [CASE.name, "torchvision ViT"])
@every_method
def test_frozen_parameters(method: Method, name: str) -> None:
    frozen = deepcopy(shared_model(name)).requires_grad_(False)
    inputs = images(BY_NAME[name], 3)
    expected = explain(method.shared(name), inputs)
    assert_same_maps(explain(method(frozen), inputs), expected, tolerance=1e-5)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@every_method
def test_two_calls_are_equal_bit_by_bit(method: Method) -> None:
    attribution = method.shared()
    first = explain(attribution)
    assert torch.equal(explain(attribution), first)
    assert torch.equal(explain(method(small_model())), first)


@pytest.mark.parametrize(
    ("mode", "target"),
    [
        (torch.no_grad, "each"),
        (torch.inference_mode, "each"),
        (torch.inference_mode, "one"),
        (torch.inference_mode, "embedding"),
    ],
)
@every_method
def test_modes_without_gradients(
    method: Method, mode: Callable[[], Any], target: str
) -> None:
    embedding = torch.linspace(-1, 1, 5)
    targets = {"each": TARGETS, "one": 1, "embedding": embedding}
    expected = explain(method.shared(), target=targets[target])
    with mode():
        # In inference mode these are tensors that no graph may hold.
        inputs, targets["embedding"] = IMAGES.clone(), embedding.clone()
        ours = explain(method(small_model()), inputs, target=targets[target])
    assert torch.equal(ours, expected)


@every_method
def test_a_noise_tunnel_without_noise_changes_nothing(method: Method) -> None:
    attribution = method.shared()
    expected = explain(attribution, interpolate_mode="bilinear")
    ours = NoiseTunnel(attribution).attribute(
        IMAGES,
        nt_samples=2,
        stdevs=0.0,
        target=torch.tensor(TARGETS),
        **few_steps(attribution),
    )
    assert_same_maps(ours, expected)


@pytest.mark.parametrize("seeded", [False, True])
@every_method
def test_equal_images_have_equal_maps(method: Method, seeded: bool) -> None:
    """Also where a method draws: each example begins at the same state."""
    options = {}
    if "generator" in inspect.signature(method.constructor.attribute).parameters:
        if seeded:
            options["generator"] = torch.Generator().manual_seed(7)
    elif seeded:
        return
    chosen = {"noise": 0.1} if method.constructor.__name__ == "VitCx" else {}
    chosen |= (
        {"n_masks": 16, "empty_clusters": "keep"}
        if "n_masks" in (method.options)
        else {}
    )
    attribution = method(small_model(), **chosen)
    grid = explain(attribution, IMAGES[[0, 1, 0]], target=1, **options)
    assert_same_maps(grid[2:], grid[:1])
