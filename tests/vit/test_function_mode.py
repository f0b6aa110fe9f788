"""Rules for PyTorch's functions, parameters as constants, and attention taken apart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import Snapshot
from hypothesis import given, settings, strategies as st
from torch import nn, Tensor
from torch.nn import functional as F
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS

from captum_mda.vit import AttentionCapture, ConstantParameters, find_adapter
from captum_mda.vit.function_mode import RuleMode
from captum_mda.vit.multihead import multi_head_attention

ONE = torch.ones(2)


def plus(number: float) -> Callable[..., Tensor]:
    """A rule that adds a number to what the function returns."""
    return lambda func, *args, **kwargs: func(*args, **kwargs).add_(number)


def test_rules_hold_inside_only() -> None:
    mode = RuleMode({torch.exp: plus(1)})
    with mode:
        assert torch.exp(ONE * 0).tolist() == [2, 2]
        assert ONE.exp().tolist() == torch.exp(ONE).sub(1).tolist()  # another function
    assert torch.exp(ONE * 0).tolist() == [1, 1]
    with pytest.raises(KeyError), mode:
        raise KeyError("stopped")
    assert torch.exp(ONE * 0).tolist() == [1, 1]


def test_modes_can_be_entered_again_and_within_each_other() -> None:
    """A rule's own call reaches the modes entered before."""
    mode, other = RuleMode({torch.exp: plus(1)}), RuleMode({torch.exp: plus(10)})
    zero = torch.zeros(1)
    for _ in range(2):
        with mode:
            assert torch.exp(zero) == 2
    with mode, mode:
        assert torch.exp(zero) == 3
    with mode, other:
        assert torch.exp(zero) == 12
        with mode:
            assert torch.exp(zero) == 13
        assert torch.exp(zero) == 12
    assert torch.exp(zero) == 1


def test_modes_are_local_to_their_thread() -> None:
    found: list[Tensor] = []
    with RuleMode({torch.exp: plus(1)}):
        thread = threading.Thread(target=lambda: found.append(torch.exp(ONE * 0)))
        thread.start()
        thread.join()
    assert found[0].tolist() == [1, 1]


def test_multihead_attention_is_taken_apart() -> None:
    """A function mode sees the original as one call, without the maps inside."""
    module = nn.MultiheadAttention(4, 2, batch_first=True)
    seen: list[int] = []

    def count(func: Any, x: Tensor, *args: Any) -> Tensor:
        seen.append(x.shape[-1])
        return func(x, *args)

    x = torch.randn(2, 3, 4)
    with RuleMode({F.linear: count}):
        output, _ = module(x, x, x, need_weights=False)
    assert seen == [4, 4, 4, 4]
    torch.testing.assert_close(output, module(x, x, x, need_weights=False)[0])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_multihead_attention_computes_what_pytorch_does(data: st.DataObject) -> None:
    """Self- and cross-attention, in all shapes, masks and options a module has."""
    torch.manual_seed(0)
    flag = st.booleans()
    n_heads = data.draw(st.integers(1, 3), "heads")
    batch_size, n_queries = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    cross = data.draw(flag, "cross-attention")
    n_keys = data.draw(st.integers(1, 4), "keys") if cross else n_queries
    sizes = {"kdim": 5, "vdim": 7} if cross and data.draw(flag, "kdim") else {}
    module = nn.MultiheadAttention(
        2 * n_heads,
        n_heads,
        bias=data.draw(flag, "bias"),
        batch_first=data.draw(flag, "batch first"),
        dtype=torch.float64,
        **sizes,
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    shapes = [(batch_size, n_queries), (batch_size, n_keys), (batch_size, n_keys)]
    widths = [2 * n_heads, module.kdim, module.vdim]
    q, k, v = (
        torch.randn(*(shape if module.batch_first else shape[::-1]), width).double()
        for shape, width in zip(shapes, widths, strict=True)
    )
    options: dict[str, Any] = {
        "need_weights": data.draw(flag, "need_weights"),
        "average_attn_weights": data.draw(flag, "average_attn_weights"),
    }
    mask = data.draw(st.sampled_from(["none", "float", "bool"]), "mask")
    if mask == "float":
        options["attn_mask"] = torch.randn(n_queries, n_keys).double()
    elif mask == "bool":
        options["attn_mask"] = torch.eye(n_queries, n_keys, dtype=torch.bool)
        options["attn_mask"][:, 0] = False  # True hides; a row needs something to see
    q, k, v = (q, k, v) if cross else (q, q, q)
    wanted, weights = module(q, k, v, **options)
    for mode in (RuleMode({}), AttentionCapture()):
        with mode:
            output, found = module(q, k, v, **options)
        torch.testing.assert_close(output, wanted)
        torch.testing.assert_close(found, weights)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("mask", ["causal", "of each head"])
def test_masks_of_multihead_attention(mask: str, need_weights: bool) -> None:
    module = nn.MultiheadAttention(4, 2, batch_first=True)
    x, options = torch.randn(3, 5, 4), {"need_weights": need_weights}
    if mask == "causal":
        options |= {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True}
    else:
        options |= {"attn_mask": torch.randn(3 * 2, 5, 5)}
    wanted, weights = module(x, x, x, **options)
    with RuleMode({}):
        output, found = module(x, x, x, **options)
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(found, weights)


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"add_bias_kv": True}, {}),
        ({"add_zero_attn": True}, {}),
        ({}, {"key_padding_mask": torch.tensor([[False, False, True]])}),
        ({"bias": False}, {"unbatched": True}),
    ],
)
def test_multihead_attention_that_is_not_supported(
    settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    module = nn.MultiheadAttention(4, 2, batch_first=True, **settings)
    x = torch.randn(3, 4) if arguments.pop("unbatched", False) else torch.randn(1, 3, 4)
    with (
        pytest.raises(NotImplementedError, match=r"^model: its nn.MultiheadAttention"),
        RuleMode({}),
    ):
        module(x, x, x, **arguments)


def test_static_keys_are_not_supported() -> None:
    x = torch.randn(3, 1, 4)
    weight, bias = torch.randn(12, 4), torch.randn(12)
    static = torch.randn(2, 3, 2)
    with pytest.raises(NotImplementedError, match="static_k"):
        multi_head_attention(
            *(x, x, x, 4, 2, weight, bias, None, None, False, 0.0),
            *(torch.eye(4), None),
            static_k=static,
        )


# Parameters as constants --------------------------------------------------------------


@pytest.mark.parametrize("case", PARAMETERS)
def test_float64_of_float32_parameters(case: Case) -> None:
    """As if the model were converted, which it is not."""
    model = build_model(case)
    adapter = find_adapter(model)
    before = Snapshot(model)
    with ConstantParameters(torch.float64):
        outputs = adapter(images(case))
    before.assert_unchanged()
    assert outputs.dtype == torch.float64
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    wanted = find_adapter(model.double())(images(case).double())
    # transformers' eager attention takes the softmax in float32 whatever the model is;
    # here it is taken in float64, too.
    eager = "eager" in case.name or "classifier" in case.name
    eager = eager or case.name == "transformers DINOv2 registers"
    # So does DINOv3 its rotary positions.
    single = eager or case.name == "transformers DINOv3"
    tolerance = 1e-5 if single else 1e-12
    torch.testing.assert_close(outputs, wanted, rtol=tolerance, atol=tolerance)


def test_eager_attention_is_exact_in_float64() -> None:
    """Fused and eager attention agree, though eager ones ask for float32."""
    model = build_model(BY_NAME["transformers ViT"])
    outputs = []
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        with ConstantParameters(torch.float64):
            outputs.append(find_adapter(model)(images(BY_NAME["transformers ViT"])))
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_parameters_get_no_gradient(dtype: torch.dtype | None) -> None:
    model = build_model(BY_NAME["timm SigLIP"])
    x = images(BY_NAME["timm SigLIP"]).requires_grad_()
    with ConstantParameters(dtype):
        outputs = model(x)
    outputs.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert all(parameter.grad is None for parameter in model.parameters())
    if dtype is None:
        assert torch.equal(outputs, model(x))
    model(x).sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_what_is_converted() -> None:
    """Tensors and dtypes of floating point in any place; nothing else."""
    weight = nn.Parameter(torch.ones(2))
    with ConstantParameters(torch.float64):
        assert torch.zeros(2, dtype=torch.float16).dtype == torch.float64
        assert torch.zeros(2, dtype=torch.int32).dtype == torch.int32
        assert torch.cat([weight, weight]).dtype == torch.float64
        assert torch.add(input=weight, other=1).dtype == torch.float64
        assert weight.float().dtype == weight.half().dtype == torch.float64
        assert weight.to(torch.bfloat16).dtype == torch.float64
        assert weight.long().dtype == torch.int64
        assert torch.arange(2)[torch.tensor([True, False])].tolist() == [0]
        assert weight.shape == (2,)
    assert torch.zeros(2, dtype=torch.float16).dtype == torch.float16
    assert weight.requires_grad
    with ConstantParameters():
        assert not (weight * 1).requires_grad
        assert weight.half().dtype == torch.float16
