"""LibraGrad's rules, one by one and in whole models (Mehri et al., Sec. 3.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda.backward import LibraGrad

FLAGS = ("attention", "layer_norm", "activation", "gate")
NOTHING = nn.Identity()  # the rules hold for all that is computed inside


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def slopes(
    func: Callable[..., Tensor], *tensors: Tensor, libra: LibraGrad | None = None
) -> tuple[Tensor, ...]:
    """The value of a function under the rules, and its sum's gradients."""
    untouched = func(*tensors)
    with LibraGrad(NOTHING) if libra is None else libra:
        value = func(*tensors)
    torch.testing.assert_close(value, untouched, rtol=1e-13, atol=1e-13)
    gradients = torch.autograd.grad(
        (value * weights_like(value)).sum(), tensors, allow_unused=True
    )
    return value.detach(), *gradients


def weights_like(value: Tensor) -> Tensor:
    """What a value is weighed with before it is summed: no plain sum hides zeros."""
    return numbers(*value.shape, seed=9).detach()


# Activations --------------------------------------------------------------------------


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def new_gelu(x: Tensor) -> Tensor:
    """As transformers writes it."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
    return 0.5 * x * (1.0 + torch.tanh(inner))


def written_gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def normal_cdf(x: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).cdf(x)


ACTIVATIONS: list[tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = [
    (F.gelu, normal_cdf),
    (written_gelu, normal_cdf),
    (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh") / x),
    (new_gelu, lambda x: F.gelu(x, approximate="tanh") / x),
    (F.silu, torch.sigmoid),
    (nn.SiLU(inplace=False), torch.sigmoid),
    (lambda x: x * x.sigmoid(), torch.sigmoid),
    (quick_gelu, lambda x: torch.sigmoid(1.702 * x)),
    (F.hardswish, lambda x: (x + 3).clamp(0, 6) / 6),
    (F.mish, lambda x: torch.tanh(F.softplus(x))),
    (torch.tanh, lambda x: torch.tanh(x) / x),
    (F.relu, lambda x: (x > 0).double()),  # locally linear: no rule needed
]


@pytest.mark.parametrize(("activation", "share"), ACTIVATIONS)
def test_activations(
    activation: Callable[..., Tensor], share: Callable[[Tensor], Tensor]
) -> None:
    """Of x g(x) the gradient g(x) remains, so that x times it is the value."""
    x = numbers(40) if activation is F.relu else 3 * numbers(40).detach()
    x.requires_grad_()
    value, gradient = slopes(activation, x)
    torch.testing.assert_close(gradient, weights_like(value) * share(x).detach())
    torch.testing.assert_close(x * gradient, weights_like(value) * value)


def test_activations_at_zero_and_in_place() -> None:
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with LibraGrad(NOTHING):
        for activation in (torch.tanh, F.gelu, F.silu):
            (gradient,) = torch.autograd.grad(activation(zero), zero)
            assert gradient == (1.0 if activation is torch.tanh else 0.5)
        (gradient,) = torch.autograd.grad(F.silu(2 * zero, inplace=True), zero)
    assert gradient == 1.0


# Norms --------------------------------------------------------------------------------


def literal_norm(
    x: Tensor, weight: Tensor, bias: Tensor | float, dims: Any, center: bool
) -> Tensor:
    """The formula, with a denominator that is constant."""
    centred = x - x.mean(dim=dims, keepdim=True) if center else x
    deviation = (centred.detach().square().mean(dim=dims, keepdim=True) + 1e-3).sqrt()
    return centred / deviation * weight + bias


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.group_norm(x, 2, weight, bias, 1e-3)


def literal_group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    normed = literal_norm(x.unflatten(1, (2, -1)), x.new_ones(1), 0.0, (2, 3, 4), True)
    return normed.flatten(1, 2) * weight[:, None, None] + bias[:, None, None]


NORMS = {
    "layer": (
        lambda x, weight, bias: F.layer_norm(x, (4,), weight, bias, 1e-3),
        lambda x, weight, bias: literal_norm(x, weight, bias, -1, True),
        [(2, 3, 4), (4,), (4,)],
    ),
    "layer over two dimensions": (
        lambda x, weight, bias: F.layer_norm(x, (3, 4), weight, bias, 1e-3),
        lambda x, weight, bias: literal_norm(x, weight, bias, (-2, -1), True),
        [(2, 3, 4), (3, 4), (3, 4)],
    ),
    "layer without parameters": (
        lambda x: F.layer_norm(x, (4,), eps=1e-3),
        lambda x: literal_norm(x, torch.ones(1), 0.0, -1, True),
        [(2, 3, 4)],
    ),
    "RMS written out": (
        lambda x, weight: x * torch.rsqrt(x.pow(2).mean(-1, True) + 1e-3) * weight,
        lambda x, weight: literal_norm(x, weight, 0.0, -1, False),
        [(2, 3, 4), (4,)],
    ),
    "group": (group_norm, literal_group_norm, [(2, 4, 3, 3), (4,), (4,)]),
}
if hasattr(F, "rms_norm"):
    NORMS["RMS"] = (
        lambda x, weight: F.rms_norm(x, (4,), weight, 1e-3),
        lambda x, weight: literal_norm(x, weight, 0.0, -1, False),
        [(2, 3, 4), (4,)],
    )


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    """Gradients of inputs and parameters, against autograd of the formula."""
    norm, literal, shapes = NORMS[name]
    tensors = [numbers(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    value, *gradients = slopes(norm, *tensors)
    wanted = literal(*tensors)
    torch.testing.assert_close(value, wanted)
    score = (wanted * weights_like(wanted)).sum()
    torch.testing.assert_close(gradients, list(torch.autograd.grad(score, tensors)))


def test_layer_norm_is_linear_in_what_differs_from_the_mean() -> None:
    x = numbers(5, 8)
    value, gradient = slopes(lambda x: F.layer_norm(x, (8,)), x)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(5).double())
    torch.testing.assert_close(
        (x * gradient).sum(dim=1), (weights_like(value) * value).sum(dim=1)
    )


def test_frozen_norm_parameters_get_no_gradient() -> None:
    norm = nn.LayerNorm(4).double().requires_grad_(False)
    _, gradient = slopes(norm, numbers(2, 4))
    assert gradient.any()
    norm.bias.requires_grad_()
    with LibraGrad(norm):
        norm(numbers(2, 4).detach()).sum().backward()
    assert norm.weight.grad is None
    torch.testing.assert_close(norm.bias.grad, torch.full((4,), 2.0).double())


# Attention and gates ------------------------------------------------------------------


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v


@pytest.mark.parametrize(
    "attention",
    [
        F.scaled_dot_product_attention,
        explicit,
        lambda q, k, v: (q @ k.transpose(-2, -1)).softmax(-1) @ v,
    ],
)
def test_attention(attention: Callable[..., Tensor]) -> None:
    """Through the values only; queries and keys get nothing."""
    q, k, v = (numbers(2, 3, 5, 4, seed=seed) for seed in range(3))
    value, to_q, to_k, to_v = slopes(attention, q, k, v)
    plain = torch.autograd.grad((attention(q, k, v) * weights_like(value)).sum(), v)
    assert to_q is None
    assert to_k is None
    torch.testing.assert_close(to_v, plain[0])


def test_attention_with_a_learned_mask() -> None:
    """Relative positions say how much, as queries and keys do."""
    q, mask = numbers(1, 1, 3, 2), numbers(3, 3)
    _, *gradients = slopes(
        lambda q, mask: F.scaled_dot_product_attention(q, q, q, mask), q, mask
    )
    assert gradients[0].any()
    assert gradients[1] is None


@pytest.mark.parametrize("gate", [torch.tanh, torch.sigmoid])
@pytest.mark.parametrize("as_constant", [Tensor.detach, nn.Parameter])
def test_what_is_scaled_is_no_gate(
    gate: Callable[[Tensor], Tensor], as_constant: Callable[[Tensor], Tensor]
) -> None:
    """A pooler's tanh may be weighed with numbers, and is still what was asked for."""
    x, constant = numbers(2, 4), as_constant(numbers(4, seed=1).detach())
    with LibraGrad(NOTHING):
        alone, scaled = gate(x), gate(x) * constant
    (wanted,) = torch.autograd.grad(alone.sum(), x)
    (gradient,) = torch.autograd.grad(scaled.sum(), x)
    torch.testing.assert_close(gradient, wanted * constant.detach())


def test_softmax_over_classes_is_left_alone() -> None:
    x = numbers(2, 3)
    _, gradient = slopes(lambda x: torch.softmax(x, dim=-1), x)
    weights = weights_like(x)
    (plain,) = torch.autograd.grad((torch.softmax(x, dim=-1) * weights).sum(), x)
    torch.testing.assert_close(gradient, plain)


def swiglu(x: Tensor) -> Tensor:
    w1, w2 = (numbers(6, 4, seed=seed).detach() for seed in (1, 2))
    return F.silu(F.linear(x, w1)) * F.linear(x, w2)


def test_swiglu() -> None:
    """Complete with a half of each branch; without, twice the value (Prop. 1)."""
    x = numbers(3, 4)
    value, gradient = slopes(swiglu, x)
    wanted = (weights_like(value) * value).sum(dim=1)
    torch.testing.assert_close((x * gradient).sum(dim=1), wanted)
    _, gradient = slopes(swiglu, x, libra=LibraGrad(NOTHING, gate=False))
    torch.testing.assert_close((x * gradient).sum(dim=1), 2 * wanted)


@pytest.mark.parametrize(
    "scaled",
    [
        lambda x, gamma: x * gamma,
        lambda x, gamma: gamma * x,
        lambda x, gamma: torch.mul(x, gamma),
        lambda x, gamma: (1.0 * x).mul_(gamma),
        lambda x, gamma: x * gamma.view(1, 1, -1),
        lambda x, gamma: x * ((2.0 * gamma) * (1.0 + gamma)),
        lambda x, gamma: x * 3.0,
    ],
)
def test_a_scale_is_no_gate(scaled: Callable[..., Tensor]) -> None:
    """LayerScale is linear in its input, and its gamma has its own gradient."""
    x, gamma = numbers(2, 3, 4), numbers(4, seed=1)
    value, *gradients = slopes(lambda x, g: scaled(2.0 * x, g), x, gamma)
    score = (scaled(2.0 * x, gamma) * weights_like(value)).sum()
    plain = torch.autograd.grad(score, [x, gamma], allow_unused=True)
    torch.testing.assert_close(gradients, list(plain))


UNITS: dict[str, tuple[str | None, Callable[[Tensor], Tensor]]] = {
    "attention": (
        "attention",
        lambda x: F.scaled_dot_product_attention(x, 2 * x, 3 * x),
    ),
    "explicit attention": ("attention", lambda x: explicit(x, 2 * x, 3 * x)),
    "layer norm": ("layer_norm", lambda x: F.layer_norm(x, (4,))),
    "group norm": ("layer_norm", lambda x: F.group_norm(x, 3)),
    "RMS norm": ("layer_norm", lambda x: x * x.square().mean(-1, True).rsqrt()),
    "GELU": ("activation", F.gelu),
    "QuickGELU": ("activation", quick_gelu),
    "NewGELU": ("activation", new_gelu),
    "tanh": ("activation", torch.tanh),
    "product": ("gate", lambda x: (2.0 * x) * (3.0 + x)),
    "linear": (None, lambda x: F.linear(x, x.detach()[0, 0])),
}


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("unit", UNITS)
def test_each_option_switches_its_rule_only(unit: str, flag: str) -> None:
    ruled_by, func = UNITS[unit]
    x = numbers(2, 3, 5, 4)
    _, alone = slopes(
        func, x, libra=LibraGrad(NOTHING, **{f: f == flag for f in FLAGS})
    )
    _, others = slopes(
        func, x, libra=LibraGrad(NOTHING, **{f: f != flag for f in FLAGS})
    )
    _, libra = slopes(func, x)
    value = func(x)
    (plain,) = torch.autograd.grad((value * weights_like(value)).sum(), x)
    torch.testing.assert_close(alone, libra if flag == ruled_by else plain)
    torch.testing.assert_close(others, plain if flag == ruled_by else libra)
    assert torch.allclose(libra, plain) == (ruled_by is None)


@pytest.mark.parametrize(
    "func",
    [
        lambda x: F.gelu(input=x),
        lambda x: torch.tanh(input=x),
        lambda x: F.layer_norm(input=x, normalized_shape=[4]),
        lambda x: torch.softmax(input=x[None], dim=-1),
        lambda x: torch.mul(input=x, other=x + 1),
        lambda x: torch.add(input=x, other=1.0),
    ],
)
def test_arguments_by_name(func: Callable[[Tensor], Tensor]) -> None:
    x = numbers(3, 4)
    with LibraGrad(NOTHING):
        value = func(x)
    assert torch.equal(value, func(x))
