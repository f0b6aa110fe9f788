"""Raw attention, rollout, GC, IG, T-Attn and Bi-Attn: formulas and hand cases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal_vit import (
    class_score,
    grad_cam,
    linear_vit,
    LITERAL_CASES,
    LiteralVit,
    min_max,
    path_gradient,
    perception_by_heads,
    perception_by_tokens,
    raw_attention,
    rollout_matrix,
    shared_vit,
    transition_row,
)
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, CASES, images

from captum_mda import (
    AttentionGradCam,
    AttentionIntegratedGradients,
    AttentionRollout,
    BidirectionalAttention,
    RawAttention,
    TransitionAttention,
)
from captum_mda.attr import ViTAttribution

DEPTH, CLASSES = 3, 5


def by_gradients(
    variant: str,
    normalize: bool,
    vit: LiteralVit,
    x: Tensor,
    c: int,
    start: int,
    steps: int,
) -> Tensor:
    worth = grad_cam(vit, x, class_score(c), variant)[vit.n_prefix :]
    return min_max(worth) if normalize else worth


def on_a_path(
    kind: str, vit: LiteralVit, x: Tensor, c: int, start: int, steps: int
) -> Tensor:
    """The four methods that use the mean path gradient W."""
    score = class_score(c)
    decision, seen = path_gradient(vit, x, score, steps), vit(x)
    worth = {
        "ig": lambda: seen.read @ decision,
        "mda": lambda: transition_row(seen, "mda", start) * (seen.read @ decision),
        "original": lambda: (
            transition_row(seen, "original", start) * (seen.read @ decision)
        ),
        "head": lambda: (
            seen.read @ (decision * perception_by_heads(seen, score, start))
        ),
        "token": lambda: (
            seen.read @ (decision * perception_by_tokens(vit, seen, start))
        ),
    }[kind]()
    return worth[vit.n_prefix :]


def by_attention(
    rollout: bool, vit: LiteralVit, x: Tensor, c: int, start: int, steps: int
) -> Tensor:
    seen = vit(x)
    if rollout:
        return (seen.read @ rollout_matrix(seen.maps[start:]))[vit.n_prefix :]
    return raw_attention(seen)[vit.n_prefix :]


Build = Callable[[nn.Module, int], ViTAttribution]
Literal = Callable[[LiteralVit, Tensor, int, int, int], Tensor]
METHODS: dict[str, tuple[Build, Literal]] = {
    "raw": (lambda model, start: RawAttention(model), partial(by_attention, False)),
    "rollout": (AttentionRollout, partial(by_attention, True)),
    "GC mda": (
        lambda model, start: AttentionGradCam(model),
        partial(by_gradients, "mda", True),
    ),
    "GC chefer": (
        lambda model, start: AttentionGradCam(model, "chefer", normalize=False),
        partial(by_gradients, "chefer", False),
    ),
    "IG": (
        lambda model, start: AttentionIntegratedGradients(model),
        partial(on_a_path, "ig"),
    ),
    "T-Attn mda": (
        lambda model, start: TransitionAttention(model, "mda", start),
        partial(on_a_path, "mda"),
    ),
    "T-Attn original": (
        lambda model, start: TransitionAttention(model, "original", start),
        partial(on_a_path, "original"),
    ),
    "Bi-Attn head": (
        lambda model, start: BidirectionalAttention(model, "head", start),
        partial(on_a_path, "head"),
    ),
    "Bi-Attn token": (
        lambda model, start: BidirectionalAttention(model, "token", start),
        partial(on_a_path, "token"),
    ),
}
PATH_METHODS = ("IG", "T-Attn mda", "T-Attn original", "Bi-Attn head", "Bi-Attn token")


def grids(
    name: str, method: ViTAttribution, x: Tensor, target: Any, steps: int = 4
) -> Tensor:
    options = {"n_steps": steps} if name in PATH_METHODS else {}
    return method.attribute(x, target, interpolate_mode=None, **options)


@pytest.mark.parametrize("case", LITERAL_CASES)
def test_the_literal_model_is_the_stock_one(case: str) -> None:
    """Else the literal methods would be an oracle for another model."""
    model, x = shared_vit(case), images(BY_NAME[case]).double()
    for image, outputs in zip(x, model(x), strict=True):
        torch.testing.assert_close(
            LiteralVit(model)(image).outputs, outputs, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("case", LITERAL_CASES)
@pytest.mark.parametrize("name", METHODS)
@settings(deadline=None, max_examples=2)
@given(
    seed=st.integers(0, 2**16),
    targets=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=2),
    start=st.integers(0, DEPTH - 1),
    steps=st.integers(2, 6),
)
def test_a_method_is_its_formula(
    name: str, case: str, seed: int, targets: list[int], start: int, steps: int
) -> None:
    build, literal = METHODS[name]
    model = shared_vit(case)
    x = images(BY_NAME[case], len(targets), seed).double()
    ours = grids(name, build(model, start), x, targets, steps)
    assert ours.dtype == torch.float64
    assert ours.shape == (len(x), 1, *BY_NAME[case].grid)
    vit = LiteralVit(model)
    for row, image, target in zip(ours, x, targets, strict=True):
        expected = literal(vit, image, target, start, steps).detach()
        torch.testing.assert_close(row.flatten(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_an_example_does_not_depend_on_its_batch(name: str) -> None:
    method = METHODS[name][0](shared_vit("timm ViT"), 0)
    x, targets = images(BY_NAME["timm ViT"], 4).double(), [3, 0, 4, 1]
    order = [2, 0, 3, 1]
    whole = grids(name, method, x, targets)
    moved = grids(name, method, x[order], [targets[index] for index in order])
    torch.testing.assert_close(moved, whole[order], rtol=0, atol=1e-12)
    alone = grids(name, method, x[3:], targets[3:])
    torch.testing.assert_close(alone, whole[3:], rtol=0, atol=1e-12)


# --- attention alone ---------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.n_prefix_tokens], ids=lambda c: c.name
)
def test_attention_is_shared_out_among_all_patches(case: Any) -> None:
    """Rows stay stochastic; without prefix tokens patches hold all of it."""
    model = build_model(case, torch.float64)
    x = images(case).double()
    methods = [RawAttention(model)]
    methods += [AttentionRollout(model, start_layer=start) for start in range(DEPTH)]
    for method in methods:
        grid = method.attribute(x, interpolate_mode=None)
        assert (grid > 0).all()
        # Some models take the softmax in float32 whatever they compute in.
        assert grid.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("kind", ["ViT eager", "CLIP classifier", "SigLIP classifier"])
def test_attributions_are_as_precise_as_outputs(kind: str) -> None:
    """Also where the model takes its softmax in float32."""
    case = BY_NAME[f"transformers {kind}"]
    model, x = build_model(case, torch.float64), images(case).double()
    assert RawAttention(model).attribute(x).dtype == torch.float64


@pytest.mark.parametrize(("start", "expected"), [(0, 0.375), (1, 0.25), (-1, 0.25)])
def test_rollout_of_two_tokens_by_hand(start: int, expected: float) -> None:
    """Attention is a half everywhere: rows [3/4, 1/4], and [5/8, 3/8] multiplied."""
    method = AttentionRollout(linear_vit((1, 1), depth=2), start_layer=start)
    grid = method.attribute(images_of(method), interpolate_mode=None)
    assert grid.flatten().tolist() == pytest.approx([expected], abs=1e-15)


def test_sharp_attention_of_tokens_to_themselves_rolls_out_to_the_identity() -> None:
    """The class token then knows nothing of any patch."""
    model: Any = linear_vit((2, 2), depth=3, embed_dim=5, no_embed_class=False)
    with torch.no_grad():
        model.pos_embed.copy_(torch.eye(5)[None] * 1e3)
        for block in model.blocks:
            block.attn.qkv.weight[:10] = torch.eye(5).repeat(2, 1)
            block.attn.qkv.weight[10:] = 0
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    grid = AttentionRollout(model).attribute(x, interpolate_mode=None)
    assert not grid.any()


def images_of(method: ViTAttribution, n: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = method.adapter.example_size
    return torch.randn(n, *size, generator=generator, dtype=torch.float64)


# --- GC ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["mda", "chefer"])
@pytest.mark.parametrize("rows", [None, 1])
def test_grad_cam_warns_of_images_without_a_positive_gradient(
    variant: str, rows: int | None
) -> None:
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    with torch.no_grad():
        model.head.weight[2] = 0  # its logit is a constant
    method = AttentionGradCam(model, variant)  # type: ignore[arg-type]
    x = images(BY_NAME["timm ViT"], 3).double()
    with pytest.warns(UserWarning) as caught:
        grid = method.attribute(x, [3, 2, 3], internal_batch_size=rows)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1 and "inputs: examples [1] have no positive" in messages[0]
    assert [bool(row.any()) for row in grid] == [True, False, True]


def test_grad_cam_is_scaled_to_one_for_each_image_unless_told_otherwise() -> None:
    model = shared_vit("timm ViT")
    x = images(BY_NAME["timm ViT"]).double()
    scaled = AttentionGradCam(model).attribute(x, [0, 1], interpolate_mode=None)
    raw = AttentionGradCam(model, normalize=False).attribute(
        x, [0, 1], interpolate_mode=None
    )
    assert scaled.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert scaled.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    assert (raw >= 0).all() and (raw.amax(dim=(1, 2, 3)) != 1).all()


# --- the mean path gradient ----------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_integrated_gradients_of_a_linear_gradient_are_half_of_it(steps: int) -> None:
    """G(alpha x) = alpha G(x), whose mean over both ends and between is a half."""
    model: Any = linear_vit((2, 3), num_heads=2)
    method = AttentionIntegratedGradients(model)
    x = images_of(method)
    grid = method.attribute(x, 1, n_steps=steps, interpolate_mode=None)
    # By hand: the score is c . Wo . sum_j A_0j v_j, linear in the attention.
    tokens = model.patch_embed(x)[0]
    value = model.blocks[0].attn.qkv.weight[8:]
    wanted = model.head.weight[1] @ model.blocks[0].attn.proj.weight
    by_channel = (tokens @ value.T) * wanted
    gradient = by_channel.unflatten(1, (2, 2)).sum(dim=2)  # (P, heads)
    expected = (gradient / 2).clamp(min=0).mean(dim=1).detach()
    assert (expected > 0).any() and (gradient < 0).any()
    torch.testing.assert_close(grid.flatten(), expected, rtol=0, atol=1e-14)


def test_transitions_and_perception_of_two_tokens_by_hand() -> None:
    """Attention is a half everywhere; W is the same for all, so the rest is a factor.

    The row is (1/2, 1/2), and doubles at each block it goes back through; R goes
    I, I + A = [[3/2, 1/2], ...], then [[5/2, 3/2], ...].
    """
    model = linear_vit((1, 1), depth=2)
    ig = AttentionIntegratedGradients(model)
    x = images_of(ig)

    def factor(method: ViTAttribution) -> float:
        grid = method.attribute(x, 0, interpolate_mode=None)
        return float(grid / ig.attribute(x, 0, interpolate_mode=None))

    assert float(ig.attribute(x, 0, interpolate_mode=None)) > 0
    for method, expected in [
        (TransitionAttention(model), 2.0),
        (TransitionAttention(model, start_layer=1), 1.0),
        (TransitionAttention(model, "original"), 1.0),
        (TransitionAttention(model, "original", start_layer=1), 0.5),
        (BidirectionalAttention(model, start_layer=0), 1.5),
        (BidirectionalAttention(model, start_layer=1), 0.5),
    ]:
        assert factor(method) == pytest.approx(expected, rel=1e-12)


def test_transitions_through_one_block_are_attention_times_gradient() -> None:
    model: Any = linear_vit((2, 2))
    with torch.no_grad():  # attention that is not uniform
        model.cls_token.fill_(1.0)
        model.blocks[0].attn.qkv.weight[:8] = torch.eye(4).repeat(2, 1)
    x = images_of(RawAttention(model))
    attention = RawAttention(model).attribute(x, interpolate_mode=None)
    assert attention.std() > 1e-3
    decision = AttentionIntegratedGradients(model).attribute(
        x, 1, interpolate_mode=None
    )
    once = TransitionAttention(model, "original").attribute(x, 1, interpolate_mode=None)
    torch.testing.assert_close(once, attention * decision, rtol=0, atol=1e-15)
    assert once.any()


# --- Bi-Attn ----------------------------------------------------------------------


def test_with_one_head_perception_is_plain_additive_rollout() -> None:
    """Its importance is 1, whatever the target asks of it."""
    model = linear_vit((2, 2), depth=3, embed_dim=6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "qkv" in name or "pos_embed" in name:
                generator = torch.Generator().manual_seed(len(name))
                parameter.normal_(generator=generator)
    method = BidirectionalAttention(model, start_layer=0)
    x = images_of(method, 2)
    ours = method.attribute(x, 2, n_steps=3, interpolate_mode=None)
    vit = LiteralVit(model)
    for row, image in zip(ours, x, strict=True):
        perception = torch.eye(5, dtype=torch.float64)
        for attention in vit(image).maps:
            perception = perception + attention[0] @ perception
        decision = path_gradient(vit, image, class_score(2), 3)
        expected = (decision * perception)[0, 1:].detach()
        torch.testing.assert_close(row.flatten(), expected, rtol=0, atol=1e-12)
    assert ours.any()


@pytest.mark.parametrize("dead_heads", [3, 2])
def test_blocks_of_which_nothing_is_asked_are_read_evenly(dead_heads: int) -> None:
    """Importance would be 0 / 0 where no head of a block reaches the score."""
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    with torch.no_grad():
        model.blocks[1].attn.proj.weight[:, : 8 * dead_heads] = 0
    x = images(BY_NAME["timm ViT"], 1).double()
    method = BidirectionalAttention(model, start_layer=1)
    ours = method.attribute(x, 1, n_steps=3, interpolate_mode=None)
    vit = LiteralVit(model)
    seen = vit(x[0])
    heads = seen.maps[1][-1:] if dead_heads == 2 else seen.maps[1]
    first = torch.eye(len(seen.read), dtype=torch.float64) + heads.mean(0)
    last = perception_by_heads(seen, class_score(1), 2)
    decision = path_gradient(vit, x[0], class_score(1), 3)
    expected = (seen.read @ (decision * (last @ first)))[1:].detach()
    torch.testing.assert_close(ours.flatten(), expected, rtol=0, atol=1e-12)
    assert ours.any()


def test_without_any_gradient_the_map_is_zero_and_no_nan() -> None:
    model: Any = build_model(BY_NAME["timm ViT"], torch.float64)
    with torch.no_grad():
        model.head.weight[2] = 0
    x = images(BY_NAME["timm ViT"], 1).double()
    for mode in ("head", "token"):
        method = BidirectionalAttention(model, mode)  # type: ignore[arg-type]
        assert not method.attribute(x, 2, n_steps=2).any()


def test_the_first_block_is_the_published_one() -> None:
    deep, shallow = linear_vit(depth=8), linear_vit(depth=2)
    assert BidirectionalAttention(deep).start_layer == 3
    assert BidirectionalAttention(deep, mode="token").start_layer == 5
    assert BidirectionalAttention(shallow).start_layer == 1
    assert BidirectionalAttention(shallow, mode="token").start_layer == 1


# --- arguments --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda m: AttentionRollout(m, start_layer=3), ValueError, "start_layer: got"),
        (lambda m: AttentionRollout(m, start_layer=True), TypeError, "start_layer"),
        (lambda m: TransitionAttention(m, start_layer=-4), ValueError, "start_layer"),
        (lambda m: BidirectionalAttention(m, start_layer=9), ValueError, "start_lay"),
        (lambda m: AttentionGradCam(m, variant="cam"), ValueError, "variant: got"),
        (lambda m: TransitionAttention(m, variant="new"), ValueError, "variant: got"),
        (lambda m: BidirectionalAttention(m, mode="both"), ValueError, "mode: got"),
    ],
)
def test_settings_that_do_not_exist_are_refused(
    build: Callable[[nn.Module], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(shared_vit("timm ViT"))


@pytest.mark.parametrize("steps", [1, 0, 2.0, True])
def test_a_path_has_two_points_at_least(steps: Any) -> None:
    method = AttentionIntegratedGradients(shared_vit("timm ViT"))
    x = images(BY_NAME["timm ViT"], 1).double()
    with pytest.raises((TypeError, ValueError), match="n_steps: got"):
        method.attribute(x, 0, n_steps=steps)
