"""Input times gradient, FullGrad and FullGrad+: formulas, sums and completeness."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal_vit import (
    class_score,
    full_grad,
    linear_vit,
    LITERAL_CASES,
    LiteralVit,
    shared_vit,
)
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS

from captum_mda import FullGradPlus, LibraGrad, TokenInputXGradient
from captum_mda.attr import ViTAttribution

DEPTH, CLASSES = 3, 5


def backward(model: nn.Module, libra: bool) -> AbstractContextManager[object]:
    return LibraGrad(model) if libra else nullcontext()


def grids(method: ViTAttribution, x: Tensor, target: Any) -> Tensor:
    return method.attribute(x, target, interpolate_mode=None)


# --- formulas ----------------------------------------------------------------------


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("libra", [False, True])
@pytest.mark.parametrize("case", LITERAL_CASES)
@settings(deadline=None, max_examples=2)
@given(
    seed=st.integers(0, 2**16),
    targets=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=2),
    start=st.integers(0, DEPTH - 1),
)
def test_a_method_is_its_formula(
    case: str, libra: bool, biases: bool, seed: int, targets: list[int], start: int
) -> None:
    model, vit = shared_vit(case), LiteralVit(shared_vit(case), libra)
    x = images(BY_NAME[case], len(targets), seed).double()
    for method, blocks in [
        (TokenInputXGradient(model, biases), [0]),
        (FullGradPlus(model, biases, start), list(range(start, DEPTH))),
    ]:
        with backward(model, libra):
            ours = grids(method, x, targets)
        for row, image, target in zip(ours, x, targets, strict=True):
            expected = full_grad(vit, image, class_score(target), blocks, biases)
            torch.testing.assert_close(
                row.flatten(), expected[vit.n_prefix :], rtol=1e-10, atol=1e-12
            )


def test_an_example_does_not_depend_on_its_batch() -> None:
    model, x = shared_vit("timm ViT"), images(BY_NAME["timm ViT"], 4).double()
    targets, order = [3, 0, 4, 1], [2, 0, 3, 1]
    for method in (TokenInputXGradient(model, biases=True), FullGradPlus(model)):
        with LibraGrad(model):
            whole = grids(method, x, targets)
            moved = grids(method, x[order], [targets[index] for index in order])
            alone = grids(method, x[3:], targets[3:])
        torch.testing.assert_close(moved, whole[order], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone, whole[3:], rtol=0, atol=1e-12)


def test_in_a_linear_model_the_patches_hold_the_whole_score() -> None:
    """Each row of attention is uniform: two blocks' worth, by hand."""
    model: Any = linear_vit((1, 2), depth=2)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, 8, 16, generator=generator, dtype=torch.float64)
    mixers = [
        block.attn.proj.weight @ block.attn.qkv.weight[8:] for block in model.blocks
    ]
    # z -> z + mean(z) M', twice; the class token starts as zero.
    tokens = torch.cat([torch.zeros(1, 4), model.patch_embed(x)[0]])
    identity = torch.eye(4).double()
    by_token = [
        model.head.weight[2]
        @ (mixers[1] @ (identity + mixers[0]) + mixers[0])
        @ token
        / 3
        for token in tokens
    ]
    ours = grids(TokenInputXGradient(model), x, 2).flatten()
    expected = torch.stack(by_token)[1:].detach()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)
    logit = model(x)[0, 2].item()
    assert float(ours.sum()) == pytest.approx(logit, abs=1e-14) and abs(logit) > 1e-3
    # At the second block's input the class token has its share.
    streams = [token + mixers[0] @ tokens.mean(dim=0) for token in tokens]
    second = torch.stack(
        [model.head.weight[2] @ mixers[1] @ stream / 3 for stream in streams]
    )
    plus = grids(FullGradPlus(model), x, 2).flatten()
    torch.testing.assert_close(plus, expected + second[1:].detach(), rtol=0, atol=1e-14)


# --- completeness ------------------------------------------------------------------


def outputs_of(model: nn.Module, x: Tensor) -> Tensor:
    """What a model's user takes for its output."""
    returned = model(x)
    for name in ("logits", "image_embeds", "pooler_output"):
        returned = getattr(returned, name, returned)
    return returned.detach()


@pytest.mark.parametrize("case", PARAMETERS)
def test_balanced_gradients_account_for_the_score_and_plain_ones_do_not(
    case: Case,
) -> None:
    model, x = build_model(case, torch.float64), images(case).double()
    outputs = outputs_of(model, x)
    targets = [outputs.shape[1] - 1, 1]
    # Where the map of FullGrad+ begins changes nothing: this is about FullGrad.
    for method in (TokenInputXGradient(model), FullGradPlus(model, False, 1)):
        with LibraGrad(model):
            balanced = method.completeness(x, targets)
        plain = method.completeness(x, targets)
        for found in (balanced, plain):
            torch.testing.assert_close(
                found.score, outputs[[0, 1], targets], rtol=1e-6, atol=1e-6
            )
            assert torch.equal(found.error, (found.score - found.total).abs())
        assert balanced.error.max().item() <= 1e-10
        assert plain.error.min().item() > 1e-3


def test_completeness_does_not_depend_on_chunks_and_takes_any_target() -> None:
    model, x = shared_vit("timm ViT"), images(BY_NAME["timm ViT"], 3).double()
    method = FullGradPlus(model)

    def difference(outputs: Tensor) -> Tensor:
        return outputs[:, 2] - outputs[:, 0]

    with LibraGrad(model):
        whole = method.completeness(x, [0, 3, 1])
        parts = method.completeness(x, [0, 3, 1], internal_batch_size=2)
        contrast = method.completeness(x, difference)
        two, zero = (method.completeness(x, target) for target in (2, 0))
    for found, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert contrast.error.max() < 1e-12
    torch.testing.assert_close(contrast.score, two.score - zero.score)
    assert (two.score - zero.score).abs().min() > 1e-2


@pytest.mark.parametrize("libra", [False, True])
@pytest.mark.parametrize("name", ["timm ViT average", "timm SigLIP"])
def test_without_prefix_tokens_the_map_of_full_grad_is_the_total(
    name: str, libra: bool
) -> None:
    model, x = shared_vit(name), images(BY_NAME[name]).double()
    method = TokenInputXGradient(model, biases=True)
    with backward(model, libra):
        total = method.completeness(x, [3, 0]).total
        grid = grids(method, x, [3, 0])
    torch.testing.assert_close(grid.sum(dim=(1, 2, 3)), total, rtol=0, atol=1e-12)


# --- layers and scores ---------------------------------------------------------------


@pytest.mark.parametrize("libra", [False, True])
def test_full_grad_plus_is_a_sum_over_blocks_and_biases(libra: bool) -> None:
    model, x = shared_vit("timm ViT"), images(BY_NAME["timm ViT"]).double()
    with backward(model, libra):
        first = grids(TokenInputXGradient(model), x, 1)
        with_biases = grids(TokenInputXGradient(model, biases=True), x, 1)
        whole = grids(FullGradPlus(model), x, 1)
        from_block = [
            grids(FullGradPlus(model, biases=False, start_layer=start), x, 1)
            for start in range(DEPTH)
        ]
        last = grids(FullGradPlus(model, biases=False, start_layer=-1), x, 1)
    torch.testing.assert_close(from_block[0] - from_block[1], first)
    torch.testing.assert_close(whole - from_block[0], with_biases - first)
    assert torch.equal(last, from_block[-1])
    # Plain gradients of a norm are orthogonal to its input, so that little remains.
    visible = 1e-3 if libra else 1e-9
    for part in (first, with_biases - first, from_block[1] - from_block[2], last):
        assert part.min() < -visible and part.max() > visible  # signed


@pytest.mark.parametrize("libra", [False, True])
@pytest.mark.parametrize("build", [TokenInputXGradient, FullGradPlus])
def test_probabilities_contrast_the_class_with_all_others(
    build: Callable[..., ViTAttribution], libra: bool
) -> None:
    """dp_c = p_c (ds_c - sum_k p_k ds_k): the same combination of the logits' maps."""
    model, x = shared_vit("timm ViT"), images(BY_NAME["timm ViT"], 1).double()
    p = model(x).softmax(dim=1)[0].detach()
    with backward(model, libra):
        ours = grids(build(model, score="softmax"), x, 3)
        logits = [grids(build(model), x, target) for target in range(CLASSES)]
    mean = sum(share * grid for share, grid in zip(p, logits, strict=True))
    torch.testing.assert_close(ours, p[3] * (logits[3] - mean), rtol=0, atol=1e-12)
    assert (ours - logits[3]).abs().max() > 1e-2


@pytest.mark.parametrize(("start", "error"), [(3, ValueError), (True, TypeError)])
def test_a_layer_that_does_not_exist_is_refused(
    start: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match="start_layer: got"):
        FullGradPlus(shared_vit("timm ViT"), start_layer=start)
