"""LibraGrad as a context: what it composes with, and that nothing of it remains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from helpers import Snapshot
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda.backward import LibraGrad
from captum_mda.backward._functions import frozen_norm
from captum_mda.vit import AttentionCapture, find_adapter, observe

VIT = BY_NAME["timm ViT"]
SWIGLU = BY_NAME["timm ViT SwiGLU qk-norm"]


def gradient(model: nn.Module, x: Tensor, target: int = 1) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


def libra_gradient(model: nn.Module, x: Tensor) -> Tensor:
    with LibraGrad(model):
        return gradient(model, x)


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.modules()
    )


def test_captums_methods_see_the_balanced_gradients() -> None:
    model, x = shared_model("timm ViT"), images(VIT).requires_grad_()
    balanced = libra_gradient(model, x)
    halfway = libra_gradient(model, x / 2)
    with LibraGrad(model):
        saliency = Saliency(model).attribute(x, target=1)
        product = InputXGradient(model).attribute(x, target=1)
        integrated = IntegratedGradients(model).attribute(
            x, target=1, n_steps=2, method="riemann_right"
        )
    torch.testing.assert_close(saliency, balanced.abs())
    torch.testing.assert_close(product, x * balanced)
    torch.testing.assert_close(integrated, x * (balanced + halfway) / 2)
    assert not torch.allclose(balanced, gradient(model, x), rtol=0.1)


def test_a_graph_keeps_its_rules() -> None:
    """What was computed inside is balanced, also when it is differentiated outside."""
    model, x = shared_model("timm ViT"), images(VIT).requires_grad_()
    with LibraGrad(model):
        outputs = model(x)
    (after,) = torch.autograd.grad(outputs[:, 1].sum(), x)
    assert torch.equal(after, libra_gradient(model, x))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_remains(error: type[BaseException]) -> None:
    model, x = build_model(SWIGLU), images(SWIGLU)
    plain = gradient(model, x)
    before = Snapshot(model)
    balanced = libra_gradient(model, x)
    assert not torch.allclose(plain, balanced, rtol=0.1)
    before.assert_unchanged()
    assert hooks_of(model) == 0
    assert torch.equal(gradient(model, x), plain)

    def fail(module: nn.Module, args: Any, output: Any) -> None:
        raise error("stopped in the middle")

    handle = model.blocks[1].mlp.register_forward_hook(fail)
    with pytest.raises(error, match="stopped in the middle"), LibraGrad(model):
        gradient(model, x)
    handle.remove()
    before.assert_unchanged()
    assert hooks_of(model) == 0
    assert torch.equal(gradient(model, x), plain)
    assert torch.equal(libra_gradient(model, x), balanced)


@contextmanager
def _same_twice(model: nn.Module) -> Iterator[None]:
    libra = LibraGrad(model)
    with libra, libra:
        yield


@contextmanager
def _two(model: nn.Module) -> Iterator[None]:
    with LibraGrad(model), LibraGrad(model):
        yield


@contextmanager
def _again(model: nn.Module) -> Iterator[None]:
    libra = LibraGrad(model)
    with libra:
        model(images(SWIGLU))
    with libra:
        yield


@contextmanager
def _inner_left(model: nn.Module) -> Iterator[None]:
    libra = LibraGrad(model)
    with libra:
        with libra:
            model(images(SWIGLU))
        yield


@pytest.mark.parametrize("entered", [_same_twice, _two, _again, _inner_left])
@pytest.mark.parametrize("case", [SWIGLU, BY_NAME["open_clip QuickGELU"]])
def test_entered_more_than_once(case: Case, entered: Callable[..., Any]) -> None:
    """Rules that hold already change nothing."""
    model, x = build_model(case), images(case)
    plain, balanced = gradient(model, x), libra_gradient(model, x)
    with entered(model):
        torch.testing.assert_close(gradient(model, x), balanced)
    assert hooks_of(model) == 0
    assert torch.equal(gradient(model, x), plain)


def test_other_threads() -> None:
    """The model refuses to run where rules do not hold; other models do not care."""
    model, other = build_model(VIT), build_model(VIT)
    x = images(VIT)
    plain = gradient(model, x)
    with ThreadPoolExecutor(1) as pool, LibraGrad(model):
        with pytest.raises(RuntimeError, match=r"^model: it runs on another thread"):
            pool.submit(gradient, model, x).result()
        assert torch.equal(pool.submit(gradient, other, x).result(), plain)
        torch.testing.assert_close(gradient(other, x), libra_gradient(other, x))
    assert torch.equal(gradient(model, x), plain)


@pytest.mark.parametrize("option", ["attention", "layer_norm", "activation", "gate"])
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_options_are_bools(option: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{option}: got {value!r}, takes True or"):
        LibraGrad(nn.Identity(), **{option: value})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        LibraGrad(nn.Identity(), norm=True)  # type: ignore[call-arg]


def test_models_are_modules() -> None:
    with pytest.raises(
        TypeError, match=r"^model: got function, takes a torch.nn.Module"
    ):
        LibraGrad(lambda x: x)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["jit", "checkpoint", "data parallel"])
def test_models_that_hide_what_they_do(kind: str) -> None:
    model: nn.Module = nn.Sequential(nn.Linear(2, 2))
    if kind == "jit":
        model = torch.jit.script(model)
    elif kind == "checkpoint":
        model.grad_checkpointing = True
    else:
        model = nn.DataParallel(model)
    libra = LibraGrad(model)
    with pytest.raises(ValueError, match=r"^model: "):
        libra.__enter__()
    assert hooks_of(model) == 0
    assert not libra._stacks
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(  # no rule is left: GELU's own gradient
        torch.autograd.grad(F.gelu(x).sum(), x)[0],
        torch.autograd.functional.jacobian(F.gelu, x).diagonal(),
    )


@pytest.mark.parametrize(
    "case", [VIT, SWIGLU, BY_NAME["torchvision ViT"], BY_NAME["timm EVA-02"]]
)
def test_autocast(case: Case) -> None:
    """In bfloat16 the forward is autocast's own, the gradients those of float32."""
    model, x = build_model(case), images(case)
    exact = libra_gradient(model, x)
    plain = gradient(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        untouched = model(x)
        with LibraGrad(model):
            outputs = model(x)
            rounded = gradient(model, x)
    assert outputs.dtype == untouched.dtype
    torch.testing.assert_close(outputs, untouched, rtol=0.05, atol=0.05)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    assert (plain - exact).norm() > 0.2 * exact.norm()


def test_norms_that_compute_in_float32() -> None:
    """As they do on CUDA under autocast: the gradient is of another precision."""
    x = torch.randn(5, 8).bfloat16().requires_grad_()
    exact = x.detach().float().requires_grad_()
    weight, bias = (torch.randn(8, requires_grad=True) for _ in range(2))

    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), (8,), weight, bias)

    def score(outputs: Tensor) -> Tensor:
        return outputs.square().sum()

    value = frozen_norm(x, norm, weight, bias, 1, 1e-5, center=True)
    found = torch.autograd.grad(score(value), [x, weight, bias])
    with LibraGrad(nn.Identity()):
        value = norm(exact)
    wanted = torch.autograd.grad(score(value), [exact, weight, bias])
    assert found[0].dtype == torch.bfloat16
    torch.testing.assert_close(found[0].float(), wanted[0], rtol=0.01, atol=0.01)
    torch.testing.assert_close(found[1:], wanted[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="PyTorch 2.6 can hold compilation"
)
@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_models(in_place: bool) -> None:
    model, x = build_model(VIT), images(VIT)
    plain, balanced = gradient(model, x), libra_gradient(model, x)
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    torch.testing.assert_close(gradient(model, x), plain)  # compiled by now
    torch.testing.assert_close(libra_gradient(model, x), balanced)
    torch.testing.assert_close(gradient(model, x), plain)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("capture_outside", [False, True])
@pytest.mark.parametrize("case", PARAMETERS)
def test_captured_maps_have_gradients(case: Case, capture_outside: bool) -> None:
    """Though the rule for attention makes constants of them."""
    model = shared_model(case.name)
    adapter = find_adapter(model)
    x = images(case, 1).requires_grad_()
    capture = AttentionCapture()
    nothing = nullcontext()
    outer, inner = (capture, nothing) if capture_outside else (nothing, capture)
    with outer, LibraGrad(model), inner:
        outputs = adapter(x)
    maps = [record.probabilities for record in capture.records[: adapter.depth]]
    assert len(maps) == adapter.depth
    for part in torch.autograd.grad(outputs[:, 0].sum(), maps):
        assert part.any()
    torch.testing.assert_close(outputs, adapter(x))


def test_gradients_of_captured_maps() -> None:
    """They are those of leaves that hooks make of un-fused maps."""
    case = BY_NAME["timm ViT un-fused"]
    model, x = build_model(case, torch.float64), images(case).double()
    with LibraGrad(model):
        seen = observe(find_adapter(model), x)
    gradients = torch.autograd.grad(seen.outputs[:, 0].sum(), seen.maps)
    wanted: list[Tensor] = []

    def note(module: nn.Module, args: Any, attention: Tensor) -> None:
        wanted.append(attention.requires_grad_())

    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(note)
    with LibraGrad(model):
        outputs = model(x)
    torch.testing.assert_close(
        list(gradients), list(torch.autograd.grad(outputs[:, 0].sum(), wanted))
    )
