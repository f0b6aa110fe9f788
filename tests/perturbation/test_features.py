"""Feature masks: which forms are read, which are refused, and sums over features."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.perturbation import Features, patch_feature_mask
from captum_mda.perturbation.features import MAX_IMPLICIT_FEATURES

IMAGES = torch.zeros(2, 3, 4, 6)
QUADRANTS = patch_feature_mask((4, 6), (2, 3))[0, 0]  # (4, 6), numbers 0 to 3

# --- patch_feature_mask -----------------------------------------------------


@pytest.mark.parametrize(
    ("size", "patch", "pair"),
    [
        ((4, 6), 2, (2, 2)),
        ((6, 4), (3, 2), (3, 2)),
        (torch.zeros(5, 3, 4, 6), [4, 1], (4, 1)),
        (torch.zeros(6, 6), 6, (6, 6)),
    ],
)
def test_patches_are_numbered_in_raster_order(
    size: Tensor | tuple[int, int], patch: int | tuple[int, int], pair: tuple[int, int]
) -> None:
    mask = patch_feature_mask(size, patch)
    height, width = size.shape[-2:] if isinstance(size, Tensor) else size
    assert mask.shape == (1, 1, height, width) and mask.dtype == torch.int64
    for row in range(height):
        for column in range(width):
            number = row // pair[0] * (width // pair[1]) + column // pair[1]
            assert mask[0, 0, row, column] == number


@pytest.mark.parametrize(
    ("size", "patch", "message"),
    [
        ((5, 4), 2, "patch_size: 2 does not divide H = 5; .* for example 4"),
        ((4, 7), 2, "patch_size: 2 does not divide W = 7; .* for example 6"),
        (torch.zeros(1, 3, 8, 9), (8, 6), "patch_size: 6 does not divide W = 9"),
        ((4, 4), 8, "patch_size: 8 does not divide H = 4; .* for example 8"),
        ((4, 4), 0, "patch_size: got 0, takes positive integers"),
        ((4, 4), (2, -2), r"patch_size: got \(2, -2\), takes positive integers"),
        ((0, 4), 2, r"inputs_or_size: got \(0, 4\), takes positive integers"),
        ((4, 4), (2, 2, 2), "patch_size: .* one integer or a pair"),
        ((3, 4, 4), 2, "inputs_or_size: .* one integer or a pair"),
        (torch.zeros(4), 2, r"inputs_or_size: got a tensor of shape \(4,\)"),
    ],
)
def test_sizes_that_do_not_fit_are_value_errors(
    size: Tensor | tuple[int, ...], patch: int | tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        patch_feature_mask(size, patch)


@pytest.mark.parametrize(
    ("size", "patch", "name"),
    [
        ((4, 4), (2.0, 2), "patch_size"),
        ((4, 4), True, "patch_size"),
        ((4.0, 4), 2, "inputs_or_size"),
        ("ab", 2, "inputs_or_size"),
        ((4, 4), 2.0, "patch_size"),
        ((4, 4), None, "patch_size"),
        (4.5, 2, "inputs_or_size"),
    ],
)
def test_sizes_of_a_wrong_type_are_type_errors(
    size: object, patch: object, name: str
) -> None:
    with pytest.raises(TypeError, match=f"{name}: got .*, takes"):
        patch_feature_mask(size, patch)  # type: ignore[arg-type]


# --- Features.from_mask: forms ----------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (1, 1, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_a_shared_mask_may_leave_out_leading_dimensions(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    mask = QUADRANTS.view(shape).to(dtype)
    features = Features.from_mask((IMAGES,), mask)
    assert features.n_features == 4 and features.batch_size == 2
    assert features.masks[0].dtype == torch.int64
    assert torch.equal(features.masks[0], QUADRANTS.view(1, 1, 4, 6))
    assert features.sizes.tolist() == [[6.0, 6.0, 6.0, 6.0]]


def test_every_example_may_have_a_mask_of_its_own() -> None:
    mask = torch.stack([QUADRANTS, QUADRANTS.flip(0)])[:, None]  # (2, 1, 4, 6)
    features = Features.from_mask((IMAGES,), mask)
    assert torch.equal(features.masks[0], mask)
    painted = features.paint(torch.tensor([[0.0, 1, 2, 3], [4, 5, 6, 7]]))[0]
    assert painted.shape == IMAGES.shape
    assert torch.equal(painted[0, 2], QUADRANTS.float())
    assert torch.equal(painted[1, 0], QUADRANTS.flip(0).float() + 4)


def test_channels_may_be_features_of_their_own() -> None:
    mask = torch.tensor([2, 0, 1]).view(3, 1, 1)
    features = Features.from_mask((IMAGES,), mask)
    painted = features.paint(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))[0]
    assert painted[:, :, 0, 0].tolist() == [[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]
    assert features.sum((torch.ones(1, 1, 1, 1),)).tolist() == [[24.0] * 3] * 2
    assert features.sizes.tolist() == [[1.0, 1.0, 1.0]]  # broadcast sides count once


def test_a_number_shared_by_two_tensors_is_one_feature() -> None:
    inputs = torch.zeros(2, 3), torch.zeros(2, 2)
    masks = torch.tensor([[0, 0, 1]]), torch.tensor([[1, 2]])
    features = Features.from_mask(inputs, masks)
    assert features.n_features == 3
    assert features.sizes.tolist() == [[2.0, 2.0, 1.0]]
    first, second = features.paint(torch.tensor([[5.0, 6, 7], [8, 9, 10]]))
    assert first.tolist() == [[5, 5, 6], [8, 8, 9]]
    assert second.tolist() == [[6, 7], [9, 10]]


def test_a_shared_and_a_per_example_mask_go_together() -> None:
    inputs = torch.zeros(2, 2), torch.zeros(2, 2)
    masks = torch.tensor([0, 1]), torch.tensor([[1, 1], [0, 1]])
    features = Features.from_mask(inputs, masks)
    assert features.sizes.tolist() == [[1.0, 3.0], [2.0, 2.0]]


def test_gaps_in_the_numbering_are_closed_over_all_tensors() -> None:
    inputs = torch.zeros(1, 3), torch.zeros(1, 2)
    masks = torch.tensor([[30, 5, 30]]), torch.tensor([[5, 10**12]])
    features = Features.from_mask(inputs, masks)
    assert features.n_features == 3
    assert [mask.tolist() for mask in features.masks] == [[[1, 0, 1]], [[0, 2]]]


def test_without_a_mask_every_scalar_is_a_feature() -> None:
    features = Features.from_mask((torch.zeros(5, 2, 2), torch.zeros(5, 3)), None)
    assert features.n_features == 7
    assert features.masks[0].tolist() == [[[0, 1], [2, 3]]]
    assert features.masks[1].tolist() == [[4, 5, 6]]


def test_the_most_implicit_features_are_still_taken() -> None:
    features = Features.from_mask((torch.zeros(1, MAX_IMPLICIT_FEATURES),), None)
    assert features.n_features == MAX_IMPLICIT_FEATURES


def test_positions_are_pixels_with_their_channels() -> None:
    features = Features.positions((IMAGES, torch.zeros(2, 3), torch.zeros(2, 5, 4)))
    assert features.n_features == 24 + 3 + 4
    image, row, sequence = features.masks
    assert image.tolist() == [[torch.arange(24).view(4, 6).tolist()]]
    assert row.tolist() == [[24, 25, 26]]
    assert sequence.tolist() == [[[27, 28, 29, 30]]]


# --- Features.from_mask: refusals -------------------------------------------


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (QUADRANTS.float(), TypeError, r"dtype torch.float32.* mask.long\(\)"),
        (QUADRANTS > 1, TypeError, "dtype torch.bool, takes integers"),
        ([[0, 1]], TypeError, "feature_mask: got list, takes a tensor"),
        ((QUADRANTS.tolist(),), TypeError, "feature_mask: got list, takes a tensor"),
        (QUADRANTS - 1, ValueError, "smallest number is -1, takes numbers from 0"),
        (QUADRANTS[:, :5], ValueError, r"\(4, 5\) does not broadcast .*\(2, 3, 4, 6\)"),
        (QUADRANTS.expand(3, 1, 4, 6), ValueError, r"\(3, 1, 4, 6\) does not broad"),
        (QUADRANTS.view(1, 1, 1, 4, 6), ValueError, "does not broadcast"),
        (QUADRANTS[:0], ValueError, "does not broadcast"),
        ((QUADRANTS, QUADRANTS), ValueError, "got 2 masks for 1 input tensors"),
        (torch.full((4, 6), 7), ValueError, "one feature only, .* patch_feature_mask"),
        (None, ValueError, "None makes every scalar a feature, here 7500 of them"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    mask: object, error: type[Exception], message: str
) -> None:
    images = torch.zeros(2, 3, 50, 50) if mask is None else IMAGES
    with pytest.raises(error, match=message):
        Features.from_mask((images,), mask)  # type: ignore[arg-type]


def test_too_few_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 masks for 2 input tensors"):
        Features.from_mask((IMAGES, IMAGES), QUADRANTS)


def test_an_example_that_lacks_a_feature_is_named() -> None:
    mask = torch.tensor([[0, 1, 7], [0, 1, 1]])  # 7, although it is renumbered to 2
    with pytest.raises(ValueError, match=r"example 1 has no element of feature 7;"):
        Features.from_mask((torch.zeros(2, 3),), mask)


# --- sums over features, against loops --------------------------------------


@st.composite
def partitions(draw: st.DrawFn) -> tuple[Features, tuple[Tensor, ...], Tensor]:
    """Features of one or two tensors, maps that broadcast to them, and values."""
    n_examples, n_features = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    masks, maps, inputs = [], [], []
    for position in range(draw(st.integers(1, 2))):
        sides = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        shape = [n_examples, *sides, n_features]
        repeated = [draw(st.booleans()) for _ in range(len(sides) + 1)]
        mask_shape = [
            1 if one else size for one, size in zip(repeated, shape, strict=False)
        ]
        noise = torch.rand(*mask_shape, n_features, generator=generator)
        # The first tensor's mask holds every feature along its last dimension.
        numbers = noise.argsort(-1) if position == 0 else (noise * n_features).long()
        masks.append(numbers)
        inputs.append(torch.zeros(shape))
        map_shape = [1 if draw(st.booleans()) else size for size in shape]
        maps.append(torch.randn(map_shape, generator=generator))
    features = Features.from_mask(tuple(inputs), tuple(masks))
    values = torch.randn(n_examples, n_features, generator=generator)
    return features, tuple(maps), values


def elements(features: Features) -> list[tuple[int, tuple[int, ...], int]]:
    """Every element of the inputs: its tensor, its index, its feature."""
    found = []
    for number, (mask, shape) in enumerate(
        zip(features.masks, features.shapes, strict=True)
    ):
        full = mask.expand(shape)
        for index in torch.cartesian_prod(*(torch.arange(size) for size in shape)):
            place = tuple(index.tolist())
            found.append((number, place, int(full[place])))
    return found


@settings(deadline=None, max_examples=60)
@given(partitions())
def test_sums_and_means_agree_with_a_loop_over_elements(
    case: tuple[Features, tuple[Tensor, ...], Tensor],
) -> None:
    features, maps, _ = case
    total = torch.zeros(features.batch_size, features.n_features, dtype=torch.float64)
    count = torch.zeros_like(total)
    for number, place, feature in elements(features):
        full = maps[number].expand(features.shapes[number])
        total[place[0], feature] += full[place].double()
        count[place[0], feature] += 1
    assert features.sum(maps).dtype == torch.float64
    torch.testing.assert_close(features.sum(maps), total, rtol=0, atol=1e-12)
    torch.testing.assert_close(features.mean(maps), total / count, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(partitions())
def test_painting_agrees_with_a_loop_over_elements(
    case: tuple[Features, tuple[Tensor, ...], Tensor],
) -> None:
    features, _, values = case
    painted = features.paint(values)
    assert [value.shape for value in painted] == list(features.shapes)
    assert all(value.is_contiguous() for value in painted)
    for number, place, feature in elements(features):
        assert painted[number][place] == values[place[0], feature]


@settings(deadline=None, max_examples=60)
@given(partitions())
def test_sizes_count_the_elements_of_the_masks(
    case: tuple[Features, tuple[Tensor, ...], Tensor],
) -> None:
    features, _, _ = case
    rows = max(mask.shape[0] for mask in features.masks)
    for row in range(rows):
        for feature in range(features.n_features):
            count = sum(
                int((mask[row if mask.shape[0] > 1 else 0] == feature).sum())
                for mask in features.masks
            )
            assert features.sizes[row, feature] == count
    assert features.sizes.shape == (rows, features.n_features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_painting_keeps_the_type_of_the_values(dtype: torch.dtype) -> None:
    features = Features.from_mask((IMAGES,), QUADRANTS)
    assert features.paint(torch.ones(2, 4, dtype=dtype))[0].dtype == dtype


@pytest.mark.parametrize("method", [Features.sum, Features.mean])
def test_maps_of_any_type_are_added_in_float64(
    method: Callable[[Features, tuple[Tensor, ...]], Tensor],
) -> None:
    features = Features.from_mask((IMAGES,), QUADRANTS)
    ones = torch.ones(IMAGES.shape, dtype=torch.int32)
    result = method(features, (ones,))
    assert result.dtype == torch.float64
    assert (result == result[0, 0]).all() and result[0, 0] in (1.0, 18.0)
