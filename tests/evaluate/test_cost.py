"""Forwards are counted by block and token, and nothing stays behind in the model."""

from __future__ import annotations

import pytest
import torch

from captum_mda import demo, evaluate, LeGrad
from captum_mda.evaluate import Cost, counted


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return demo.load_model()


@pytest.fixture(scope="module")
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels, _ = demo.make_samples(2, 77)
    return images, labels


def test_forwards_are_counted_by_block_and_token(
    model: torch.nn.Module, samples: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = samples
    with counted(model, images) as cost:
        assert isinstance(cost, Cost) and cost.forwards == 0
        with torch.no_grad():
            model(images)
        assert cost.forwards == 2
        with torch.no_grad():
            model.blocks[0](torch.zeros(1, 13, 128))
        assert cost.forwards == pytest.approx(2 + 13 / (65 * 5))
    method = LeGrad(model)
    with counted(model, images) as cost:
        method.attribute(images, labels)
    assert 2 < cost.forwards <= 4  # a forward and a backward for each image


def test_a_gradient_counts_as_the_blocks_that_it_comes_through(
    model: torch.nn.Module, samples: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = samples
    with counted(model, images) as cost:
        scores = model(images.clone().requires_grad_()).gather(1, labels[:, None])
        assert cost.forwards == 2
        scores.sum().backward()
    assert cost.forwards == 4


def test_counts_do_not_see_each_other_and_end_with_their_context(
    model: torch.nn.Module, samples: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, _ = samples
    with torch.no_grad(), counted(model, images) as outer:
        with counted(model, images) as inner:
            before = outer.forwards
            model(images[:1])
        model(images)
    assert (outer.forwards - before, inner.forwards) == (3, 1)
    with torch.no_grad():
        model(images)
    assert (outer.forwards - before, inner.forwards) == (3, 1)


def test_no_hook_stays_after_an_error(
    model: torch.nn.Module, samples: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with pytest.raises(ZeroDivisionError), counted(model, samples[0]):
        raise ZeroDivisionError
    assert not any(block._forward_hooks for block in model.blocks)


def test_a_model_without_blocks_is_refused(
    samples: tuple[torch.Tensor, torch.Tensor],
) -> None:
    with pytest.raises((TypeError, ValueError), match="model"):
        with counted(torch.nn.Flatten(), samples[0]):
            pass


def test_the_names_are_public() -> None:
    assert {"Cost", "counted"} <= set(evaluate.__all__) & set(dir(evaluate))
