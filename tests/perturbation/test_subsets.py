"""Subsets of features, against a loop that builds every row by itself."""

from __future__ import annotations

import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.perturbation import Features, Response, SubsetResponses

B, N = 3, 4
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(B, 2, 2, 4, generator=GENERATOR, dtype=torch.float64)
WORDS = torch.randn(B, 5, generator=GENERATOR, dtype=torch.float64)
SHARED = torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]])  # (H, W)
OWN = torch.stack([SHARED, SHARED.flip(0), SHARED.flip(1)])[:, None]  # (B, 1, H, W)
WORD_MASKS = [torch.tensor([0, 3, 3, 2, 1]), torch.tensor([[3, 3, 1, 0, 2]] * B)]
BASELINES = [
    (torch.zeros(1, 1, 1, 1).double(), torch.full((1, 5), -1.0).double()),
    (IMAGES.flip(0), torch.randn(B, 1, generator=GENERATOR, dtype=torch.float64)),
    (torch.randn(1, 2, 1, 1, generator=GENERATOR).double(), WORDS * 2),
]


def model(images: Tensor, words: Tensor | None = None) -> Tensor:
    """A value in which every element has a weight of its own."""
    value = torch.zeros(len(images), dtype=torch.float64)
    for tensor in (images, words):
        if tensor is not None:
            flat = tensor.flatten(1)
            weights = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64)
            value = 1.7 * value + flat.sin() @ weights
    return value


def row_by_hand(
    inputs: tuple[Tensor, ...],
    baseline: tuple[Tensor, ...],
    masks: tuple[Tensor, ...],
    subset: list[bool],
    example: int,
) -> float:
    """Score one row whose elements are copied one at a time."""
    row = []
    for tensor, absent, mask in zip(inputs, baseline, masks, strict=True):
        filled = absent.expand(tensor.shape)[example].clone()
        numbers = mask.expand(tensor.shape)[example]
        for place in torch.cartesian_prod(*(torch.arange(n) for n in filled.shape)):
            index = tuple(place.reshape(-1).tolist())
            if subset[int(numbers[index])]:
                filled[index] = tensor[(example, *index)]
        row.append(filled[None])
    return float(model(*row))


@settings(deadline=None, max_examples=30)
@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3, None]),
    st.lists(
        st.tuples(
            st.lists(st.booleans(), min_size=N, max_size=N),
            st.integers(0, B - 1),
            st.integers(0, len(BASELINES) - 1),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_every_row_is_the_one_built_by_hand(
    own_masks: bool,
    two_inputs: bool,
    lazily: bool,
    rows_per_forward: int | None,
    rows: list[tuple[list[bool], int, int]],
) -> None:
    inputs = (IMAGES, WORDS) if two_inputs else (IMAGES,)
    masks = (OWN if own_masks else SHARED, WORD_MASKS[own_masks])[: len(inputs)]
    features = Features.from_mask(inputs, masks)
    baselines = [each[: len(inputs)] for each in BASELINES]
    response = Response(Recorder(model), B, rows_per_forward=rows_per_forward)
    responses = SubsetResponses(response, inputs, baselines, features)
    subsets = torch.tensor([subset for subset, _, _ in rows])
    examples = torch.tensor([example for _, example, _ in rows])
    chosen = torch.tensor([index for _, _, index in rows])
    values = responses(
        (lambda part: subsets[part]) if lazily else subsets, examples, chosen
    )
    expected = [
        row_by_hand(inputs, baselines[index], features.masks, subset, example)
        for subset, example, index in rows
    ]
    torch.testing.assert_close(values, torch.tensor(expected).double())
    counted = torch.bincount(examples, minlength=B)
    assert torch.equal(response.forwards, counted)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_baseline_may_be_given_once_for_all_rows(index: int) -> None:
    features = Features.from_mask((IMAGES,), SHARED)
    responses = SubsetResponses(
        Response(model, B), (IMAGES,), [each[:1] for each in BASELINES], features
    )
    nothing = torch.zeros(B, N, dtype=torch.bool)
    values = responses(nothing, torch.arange(B), index)
    assert torch.equal(values, model(BASELINES[index][0].expand(IMAGES.shape)))
    everything = responses(~nothing, torch.arange(B), index)
    assert torch.equal(everything, model(IMAGES))


def test_the_first_baseline_is_the_default() -> None:
    features = Features.from_mask((IMAGES,), SHARED)
    responses = SubsetResponses(
        Response(model, B), (IMAGES,), [BASELINES[1][:1], BASELINES[0][:1]], features
    )
    nothing = torch.zeros(B, N, dtype=torch.bool)
    assert torch.equal(responses(nothing, torch.arange(B)), model(IMAGES.flip(0)))


def test_lazy_subsets_are_made_chunk_by_chunk() -> None:
    features = Features.from_mask((IMAGES,), SHARED)
    responses = SubsetResponses(
        Response(model, B, rows_per_forward=2), (IMAGES,), [BASELINES[0][:1]], features
    )
    made = []

    def subsets(rows: slice) -> Tensor:
        made.append((rows.start, rows.stop))
        return torch.ones(min(rows.stop, 5) - rows.start, N, dtype=torch.bool)

    responses(subsets, torch.tensor([0, 1, 2, 0, 1]))
    assert made == [(0, 2), (2, 4), (4, 6)]


def test_sizes_are_known() -> None:
    features = Features.from_mask((IMAGES,), SHARED)
    absent = [BASELINES[0][:1]]
    responses = SubsetResponses(Response(model, B), (IMAGES,), absent, features)
    assert (responses.n_features, responses.n_examples) == (N, B)


@settings(deadline=None, max_examples=20)
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2, None]),
    st.integers(0, 10**6),
)
def test_gradients_are_the_slopes_between_baseline_and_input(
    own_masks: bool, two_inputs: bool, rows_per_forward: int | None, seed: int
) -> None:
    inputs = (IMAGES, WORDS) if two_inputs else (IMAGES,)
    masks = (OWN if own_masks else SHARED, WORD_MASKS[own_masks])[: len(inputs)]
    features = Features.from_mask(inputs, masks)
    baselines = [each[: len(inputs)] for each in BASELINES]
    response = Response(model, B, rows_per_forward=rows_per_forward)
    responses = SubsetResponses(response, inputs, baselines, features)
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(5, N, generator=generator, dtype=torch.float64)
    examples = torch.tensor([2, 0, 0, 1, 2])
    chosen = torch.tensor([0, 1, 2, 1, 2])

    def by_hand(moved: Tensor) -> Tensor:
        values = []
        for row, example, index in zip(moved, examples, chosen, strict=True):
            made = []
            for tensor, absent, mask in zip(
                inputs, baselines[index], features.masks, strict=True
            ):
                full = tensor[example]
                empty = absent.expand(tensor.shape)[example]
                where = row[mask.expand(tensor.shape)[example]]
                made.append((empty + where * (full - empty))[None])
            values.append(model(*made))
        return torch.cat(values)

    values, gradients = responses.gradients(shares, examples, chosen)
    torch.testing.assert_close(values, by_hand(shares))
    assert not values.requires_grad and not gradients.requires_grad
    step = 1e-6
    for feature in range(N):
        moved = torch.zeros_like(shares)
        moved[:, feature] = step
        slope = (by_hand(shares + moved) - by_hand(shares - moved)) / (2 * step)
        torch.testing.assert_close(gradients[:, feature], slope, rtol=1e-5, atol=1e-6)
    assert response.forwards.tolist() == [4, 2, 4]


def test_at_the_ends_the_shares_are_the_subsets() -> None:
    features = Features.from_mask((IMAGES,), SHARED)
    responses = SubsetResponses(
        Response(model, B), (IMAGES,), [each[:1] for each in BASELINES], features
    )
    generator = torch.Generator().manual_seed(3)
    subsets = torch.rand(B, N, generator=generator) < 0.5
    examples, baselines = torch.arange(B), torch.tensor([2, 1, 0])
    values, _ = responses.gradients(subsets.double(), examples, baselines)
    torch.testing.assert_close(values, responses(subsets, examples, baselines))
