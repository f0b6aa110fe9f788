"""Models are complete under LibraGrad (Mehri et al., Def. 1 and Cor. 3)."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from vit_models import build_model, Case, images, PARAMETERS

from captum_mda.backward import LibraGrad
from captum_mda.vit import find_adapter


def numbers(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# Everything that is added: biases, positions, and tokens put before the patches.
ADDITIVE = re.compile(
    r"(bias|beta|tokens?|class_embedding|pos(ition|itional)?_embed(ding)?s?(\.weight)?)$"
)


def completeness_error(model: nn.Module, outputs: Tensor, x: Tensor) -> float:
    """How far input and constants times gradients are from a score, relatively."""
    model.zero_grad()
    x.grad = None
    score = (outputs * numbers(*outputs.shape, seed=9)).sum()
    score.backward()
    total = (x * x.grad).sum()
    for name, parameter in model.named_parameters():
        if ADDITIVE.search(name) and parameter.grad is not None:
            total = total + (parameter * parameter.grad).sum()
    return float((total - score).detach().abs() / score.detach().abs())


@pytest.mark.parametrize("case", PARAMETERS)
def test_models_are_complete(case: Case) -> None:
    """Def. 1 and Cor. 3, where plain gradients miss; outputs stay what they are."""
    model = build_model(case, torch.float64)
    adapter = find_adapter(model)
    x = images(case).double().requires_grad_()
    plain = adapter(x)
    with LibraGrad(model):
        outputs = adapter(x)
    assert (outputs - plain).abs().max() <= 1e-12 * plain.abs().max()
    assert completeness_error(model, plain, x) > 1e-3
    assert completeness_error(model, outputs, x) < 1e-10


@pytest.mark.parametrize("name", ["MlpMixer", "gMixer", "gMLP", "ResMLP"])
def test_models_without_attention_are_complete(name: str) -> None:
    from timm import layers
    from timm.models import mlp_mixer

    options: dict[str, Any] = {
        "MlpMixer": {},
        "gMixer": {
            "mlp_layer": layers.GluMlp,
            "act_layer": nn.SiLU,
            "mlp_ratio": (1, 4),
        },
        "gMLP": {
            "block_layer": mlp_mixer.SpatialGatingBlock,
            "mlp_layer": layers.GatedMlp,
            "mlp_ratio": 4,
        },
        "ResMLP": {
            "block_layer": mlp_mixer.ResBlock,
            "norm_layer": mlp_mixer.Affine,
            "mlp_ratio": 4,
        },
    }[name]
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_blocks": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp_mixer.MlpMixer(num_classes=5, **sizes, **options).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.15)
    x = numbers(2, 3, 32, 32, seed=0).requires_grad_()
    with LibraGrad(model):
        outputs = model(x)
    assert completeness_error(model, model(x), x) > 1e-3
    assert completeness_error(model, outputs, x) < 1e-10
