"""LeGrad: its formula, layers, text targets, and a model solved by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal_vit import (
    class_score,
    legrad,
    linear_vit,
    LITERAL_CASES,
    LiteralVit,
    min_max,
    shared_vit,
)
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, images

from captum_mda import LeGrad

DEPTH, CLASSES = 3, 5


def grids(model: nn.Module, x: Tensor, target: Any, **options: Any) -> Tensor:
    return LeGrad(model, **options).attribute(x, target, interpolate_mode=None)


def inputs(case: str = "timm ViT", n: int = 2) -> Tensor:
    return images(BY_NAME[case], n).double()


def test_a_model_of_one_block_is_explained_by_it() -> None:
    """The default takes the last two blocks, where there are two."""
    model: Any = linear_vit((2, 2), depth=1)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    x = torch.randn(2, *LeGrad(model).adapter.example_size, dtype=torch.float64)
    ours = grids(model, x, 0)
    assert ours.any()
    assert torch.equal(ours, grids(model, x, 0, layers=0))
    with pytest.raises(ValueError, match="layers: got -3"):
        LeGrad(model, layers=-3)


# --- the formula -------------------------------------------------------------------


@pytest.mark.parametrize("case", LITERAL_CASES)
@settings(deadline=None, max_examples=4)
@given(
    seed=st.integers(0, 2**16),
    targets=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=2),
    layers=st.sets(st.integers(0, DEPTH - 1), min_size=1),
    normalize=st.booleans(),
)
def test_a_map_is_the_formula(
    case: str, seed: int, targets: list[int], layers: set[int], normalize: bool
) -> None:
    model, vit = shared_vit(case), LiteralVit(shared_vit(case))
    x = images(BY_NAME[case], len(targets), seed).double()
    ours = grids(model, x, targets, layers=list(layers), normalize=normalize)
    for row, image, target in zip(ours, x, targets, strict=True):
        expected = legrad(vit, image, class_score(target), sorted(layers))
        expected = expected[vit.n_prefix :].detach()
        expected = min_max(expected) if normalize else expected
        torch.testing.assert_close(row.flatten(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", LITERAL_CASES)
@pytest.mark.parametrize("each", [False, True])
def test_a_texts_embedding_is_explained_by_cosine_similarity(
    case: str, each: bool
) -> None:
    """One text for all images, or one for each."""
    model, vit, x = shared_vit(case), LiteralVit(shared_vit(case)), inputs(case)
    texts = torch.randn(2, CLASSES, generator=torch.Generator().manual_seed(5)).double()
    ours = grids(model, x, texts if each else texts[0], layers=0)
    for index in range(2):
        text = texts[index if each else 0]

        def cosine(outputs: Tensor, text: Tensor = text) -> Tensor:
            return outputs @ text / (outputs.norm() * text.norm())

        expected = legrad(vit, x[index], cosine, [0, 1, 2])[vit.n_prefix :].detach()
        torch.testing.assert_close(
            ours[index].flatten(), expected, rtol=1e-10, atol=1e-12
        )
    assert ours.any()


@pytest.mark.parametrize("to_self", [1.0, 30.0])
def test_one_block_by_hand_asks_values_not_attention(to_self: float) -> None:
    """With identity norms and projection G_ij = w . v_j / T, whatever A is."""
    model: Any = linear_vit((2, 3))
    with torch.no_grad():
        model.blocks[0].attn.proj.weight.copy_(torch.eye(4))
        model.blocks[0].attn.qkv.weight[:8] = to_self * torch.eye(4).repeat(2, 1)
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)).double()
    values = model.patch_embed(x) @ model.blocks[0].attn.qkv.weight[8:].T  # (B, P, D)
    expected = (values @ model.head.weight[3]).clamp(min=0).detach() / 7
    assert (expected == 0).any() and (expected > 0).any()
    for layers in (0, -1, [0]):
        ours = grids(model, x, 3, layers=layers).flatten(1)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


def test_heads_and_query_rows_are_averaged_behind_the_positive_part() -> None:
    """Two heads that ask for opposite things do not cancel."""
    model: Any = linear_vit((2, 2), num_heads=2)
    with torch.no_grad():
        model.blocks[0].attn.proj.weight.copy_(
            torch.cat([torch.eye(4)[:, :2], -torch.eye(4)[:, :2]], dim=1)
        )
        model.blocks[0].attn.qkv.weight[10:] = model.blocks[0].attn.qkv.weight[8:10]
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    values = model.patch_embed(x)[0] @ model.blocks[0].attn.qkv.weight[8:10].T
    wanted = (values @ model.head.weight[0, :2]).detach()
    ours = grids(model, x, 0, layers=0).flatten()
    torch.testing.assert_close(ours, wanted.abs() / 2 / 5, rtol=0, atol=1e-14)


def test_an_example_does_not_depend_on_its_batch() -> None:
    for case in ("timm ViT", "timm SigLIP"):
        model, x, order = shared_vit(case), inputs(case, 4), [2, 0, 3, 1]
        targets = [3, 0, 4, 1]
        whole = grids(model, x, targets, layers=0)
        moved = grids(model, x[order], [targets[i] for i in order], layers=0)
        alone = grids(model, x[3:], targets[3:], layers=0)
        torch.testing.assert_close(moved, whole[order], rtol=0, atol=1e-13)
        torch.testing.assert_close(alone, whole[3:], rtol=0, atol=1e-13)


# --- text targets --------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["timm ViT", "timm SigLIP", "open_clip QuickGELU", "open_clip CoCa pooler"]
)
def test_the_length_of_a_text_embedding_does_not_matter(case: str) -> None:
    model, x = build_model(BY_NAME[case], torch.float64), inputs(case)
    text = torch.tensor([0.3, -1.0, 0.2, 0.7, -0.4], dtype=torch.float64)
    ours = grids(model, x, text)
    assert ours.any()
    torch.testing.assert_close(grids(model, x, 7.3 * text), ours)
    assert not torch.allclose(grids(model, x, -text), ours)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("case", ["timm ViT", "timm SigLIP"])
def test_a_target_that_no_feature_reaches_has_an_empty_map(
    case: str, normalize: bool
) -> None:
    model: Any = build_model(BY_NAME[case], torch.float64)
    with torch.no_grad():
        model.head.weight[4] = 0
        model.head.bias[4] = 0
    text = 3 * torch.eye(CLASSES)[4]
    ours = grids(model, inputs(case), text, normalize=normalize, layers=0)
    assert not ours.any()
    assert grids(model, inputs(case), torch.eye(CLASSES)[3], layers=0).any()


# --- layers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (-2, [1, 2]),
        (0, [0, 1, 2]),
        (2, [2]),
        (-3, [0, 1, 2]),
        (slice(None), [0, 1, 2]),
        (slice(0, 2), [0, 1]),
        (slice(None, None, 2), [0, 2]),
        (slice(-1, None), [2]),
        ([0, 2], [0, 2]),
        ((2, -3), [0, 2]),
        ([1, 1, -2], [1]),
        (range(2), [0, 1]),
    ],
)
def test_layers_are_a_first_one_a_slice_or_indices(
    layers: Any, expected: list[int]
) -> None:
    model, x = shared_vit("timm ViT"), inputs()
    ours = grids(model, x, 1, layers=layers)
    one_by_one = [grids(model, x, 1, layers=[layer]) for layer in expected]
    torch.testing.assert_close(ours, torch.stack(one_by_one).sum(dim=0))
    singles = [grids(model, x, 1, layers=[layer]) for layer in range(DEPTH)]
    assert not any(torch.allclose(one, next_) for one, next_ in pairwise(singles))


def test_the_last_two_layers_are_the_default() -> None:
    model, x = shared_vit("timm ViT"), inputs()
    torch.testing.assert_close(grids(model, x, 1), grids(model, x, 1, layers=[1, 2]))


@pytest.mark.parametrize(
    ("layers", "error"),
    [
        (3, ValueError),
        (-4, ValueError),
        ([0, 3], ValueError),
        ([], ValueError),
        (slice(3, None), ValueError),
        (True, TypeError),
        ([True], TypeError),
        (1.0, TypeError),
        ([0.5], TypeError),
        ("all", TypeError),
        (None, TypeError),
    ],
)
def test_layers_that_do_not_exist_are_refused(
    layers: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="layers: got"):
        LeGrad(shared_vit("timm ViT"), layers=layers)


def test_a_layers_map_does_not_depend_on_later_blocks() -> None:
    """The way leads from a block's attention out of the same block to the tail."""
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    x = inputs()
    before = [grids(model, x, 1, layers=[layer]) for layer in range(DEPTH)]
    with torch.no_grad():
        model.blocks[2].mlp.fc1.weight.mul_(-1)
    after = [grids(model, x, 1, layers=[layer]) for layer in range(DEPTH)]
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, True, False]


# --- sums and scales -----------------------------------------------------------------


@pytest.mark.parametrize(("layers", "n"), [(0, 3), (-2, 2), ([1], 1)])
def test_the_mean_is_the_sum_over_the_number_of_layers(layers: Any, n: int) -> None:
    model, x = shared_vit("timm ViT"), inputs()
    mean = grids(model, x, 1, layers=layers, aggregate="mean")
    torch.testing.assert_close(mean * n, grids(model, x, 1, layers=layers))
    with pytest.raises(ValueError, match="aggregate: got 'max'"):
        LeGrad(model, aggregate="max")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["timm ViT", "timm DINOv2 registers", "timm SigLIP"])
def test_normalized_maps_reach_from_zero_to_one_in_each_image(case: str) -> None:
    model, x = shared_vit(case), inputs(case)
    scaled = grids(model, x, [0, 1], normalize=True)
    assert scaled.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert scaled.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    # The prefix tokens take no part in the scale, and the ranks stay.
    raw = grids(model, x, [0, 1]).flatten(1)
    order = raw.argsort(dim=1, stable=True)
    assert torch.equal(scaled.flatten(1).argsort(dim=1, stable=True), order)


@pytest.mark.parametrize("score", ["softmax", lambda outputs: outputs.softmax(dim=1)])
def test_probabilities_of_each_layer_can_be_explained(score: Any) -> None:
    model, vit, x = shared_vit("timm ViT"), LiteralVit(shared_vit("timm ViT")), inputs()
    ours = grids(model, x, 2, score=score)
    for row, image in zip(ours, x, strict=True):
        expected = legrad(vit, image, lambda outputs: outputs.softmax(0)[2], [1, 2])
        torch.testing.assert_close(
            row.flatten(), expected[1:].detach(), rtol=1e-10, atol=1e-12
        )
