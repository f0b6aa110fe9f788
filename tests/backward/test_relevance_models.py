"""Relevance through whole models: nothing is lost, and nothing remains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda.backward import LibraGrad, RelevancePropagation
from captum_mda.vit import ConstantParameters, find_adapter, observe

VIT = BY_NAME["timm ViT"]


def relevance_of_tokens(
    model: nn.Module, x: Tensor, starts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Relevance at the first block's input, and where it started."""
    with RelevancePropagation(model):
        seen = observe(find_adapter(model), x, attention=False)
    if starts is None:
        # At the largest output, to which something contributes for certain.
        starts = F.one_hot(seen.outputs.argmax(dim=1), seen.outputs.shape[1]).double()
        starts = starts * torch.arange(1.0, len(x) + 1)[:, None]
    (found,) = torch.autograd.grad(seen.outputs, seen.tokens[0], starts)
    return found, starts


def _coca() -> nn.Module:
    """With 48 outputs: of 5 numbers, none may contribute (see the linear rule)."""
    from open_clip.transformer import VisionTransformer

    sizes = (32, 8, 24, 3, 3, 2.0)
    pooler = {"attn_pooler_queries": 4, "attn_pooler_heads": 1, "output_dim": 48}
    return VisionTransformer(*sizes, attentional_pool=True, **pooler)


@pytest.mark.parametrize("case", PARAMETERS)
def test_nothing_is_lost(case: Case) -> None:
    """What left each example's output arrives at its tokens, whatever the batch."""
    if case.name == "open_clip CoCa pooler":
        case = replace(case, build=_coca)
    model, x = build_model(case), images(case, 3)
    before = Snapshot(model)
    found, starts = relevance_of_tokens(model, x)
    before.assert_unchanged()
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found.sum(dim=(1, 2)), starts.sum(dim=1), rtol=1e-6, atol=0
    )
    for index in range(3):
        one = slice(index, index + 1)
        alone, _ = relevance_of_tokens(model, x[one], starts[one])
        torch.testing.assert_close(found[one], alone, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", PARAMETERS)
def test_outputs_stay_what_they_are(case: Case) -> None:
    model, x = shared_model(case.name), images(case)
    adapter = find_adapter(model)
    with ConstantParameters(torch.float64):
        wanted = adapter(x)
    with RelevancePropagation(model):
        torch.testing.assert_close(adapter(x), wanted, rtol=1e-12, atol=1e-12)
        x.requires_grad_()
        torch.testing.assert_close(adapter(x), wanted, rtol=1e-12, atol=1e-12)
    with RelevancePropagation(model, dtype=None):
        torch.testing.assert_close(adapter(x), adapter(x), rtol=2e-5, atol=2e-5)
        assert adapter(x).dtype == torch.float32


@pytest.mark.parametrize("name", ["timm ViT", "torchvision ViT", "transformers DINOv2"])
def test_parameters_get_no_gradient(name: str) -> None:
    model, x = build_model(BY_NAME[name]), images(BY_NAME[name]).requires_grad_()
    adapter = find_adapter(model)
    with RelevancePropagation(model):
        adapter(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_precision() -> None:
    """float32 is asked for by itself, float64 whatever the parameters are."""
    model, x = build_model(VIT), images(VIT).requires_grad_()
    for dtype in (torch.float32, torch.float64):
        with RelevancePropagation(model, dtype):
            outputs = model(x)
        assert outputs.dtype == dtype
        (found,) = torch.autograd.grad(outputs[:, 0].sum(), x)
        assert found.dtype == torch.float32  # the inputs' own


# The context --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_remains(error: type[BaseException]) -> None:
    model, x = build_model(VIT), images(VIT).requires_grad_()
    (plain,) = torch.autograd.grad(model(x)[:, 0].sum(), x)

    def fail(module: nn.Module, args: Any, output: Any) -> None:
        raise error("stopped in the middle")

    handle = model.blocks[1].register_forward_hook(fail)
    before = Snapshot(model)
    with pytest.raises(error, match="stopped"), RelevancePropagation(model):
        model(x)
    handle.remove()
    before.assert_unchanged()
    outputs = model(x)
    assert outputs.dtype == torch.float32
    assert torch.equal(torch.autograd.grad(outputs[:, 0].sum(), x)[0], plain)


def test_entered_again_and_within_itself() -> None:
    model, x = shared_model("timm ViT"), images(VIT)
    wanted, starts = relevance_of_tokens(model, x)
    context = RelevancePropagation(model)
    for _ in range(2):
        with context, context:
            found, _ = relevance_of_tokens(model, x, starts)
        torch.testing.assert_close(found, wanted)
    assert relevance_of_tokens(model, x, starts)[0].equal(wanted)


def test_models_that_do_not_fit() -> None:
    with pytest.raises(
        TypeError, match=r"^model: got function, takes a torch.nn.Module"
    ):
        RelevancePropagation(lambda x: x)  # type: ignore[arg-type]
    model = build_model(VIT)
    model.set_grad_checkpointing(True)
    with pytest.raises(ValueError, match="gradient checkpointing"):
        RelevancePropagation(model).__enter__()
    x = torch.ones(1, requires_grad=True)
    assert torch.autograd.grad(3.0 * x, x)[0] == 3.0  # no rule is left


def test_libragrad_meanwhile_changes_outputs_no_more() -> None:
    """Contexts for backward passes compose in the forward pass."""
    model, x = shared_model("timm ViT"), images(VIT)
    with RelevancePropagation(model, dtype=None), LibraGrad(model):
        torch.testing.assert_close(model(x), shared_model("timm ViT")(x))
