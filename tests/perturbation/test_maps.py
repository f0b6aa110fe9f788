"""Which shapes are maps of which inputs, and where their numbers are painted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_mda import patch_feature_mask
from captum_mda.ordering import seed_scores
from captum_mda.perturbation import Features
from captum_mda.perturbation.maps import as_tensors, of_features, over_inputs

IMAGES = torch.zeros(2, 3, 4, 6)
PATCHES = Features.from_mask((IMAGES,), patch_feature_mask(IMAGES, 2))  # 2 x 3
PIXELS = Features.positions((IMAGES,))
GRID = torch.arange(12.0).view(2, 1, 2, 3)


def laid(maps: Tensor, features: Features) -> Tensor:
    (found,) = over_inputs("maps", (maps,), features)
    return found.expand(features.shapes[0])


@pytest.mark.parametrize("features", [PATCHES, PIXELS], ids=["patches", "pixels"])
def test_a_grid_is_painted_by_rows(features: Features) -> None:
    expected = torch.tensor([[0.0, 0, 1, 1, 2, 2]] * 2 + [[3.0, 3, 4, 4, 5, 5]] * 2)
    for grid in (GRID, GRID[:, 0]):
        assert torch.equal(laid(grid, features)[0, 1], expected)
        assert torch.equal(laid(grid, features)[1, 2], expected + 6)
    one = laid(GRID[:1], features)
    assert torch.equal(one[1], one[0])


def test_a_mask_says_where_uneven_patches_lie() -> None:
    """Rows 0 to 2 and 3, columns 0, 1 to 3 and 4 to 5: no size divides the image."""
    rows, columns = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1, 2, 2])
    mask = (rows[:, None] * 3 + columns)[None, None]
    features = Features.from_mask((IMAGES,), mask)
    painted = laid(GRID, features)
    assert torch.equal(painted[1, 0], GRID[1].flatten()[mask[0, 0]])
    assert torch.equal(of_features((GRID,), features), GRID.flatten(1))  # type: ignore[arg-type]


def test_each_example_has_patches_of_its_own() -> None:
    one = patch_feature_mask(IMAGES, 2)
    rows, columns = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 1, 1, 2])
    other = (rows[:, None] * 3 + columns)[None, None]
    mask = torch.cat([one, other])
    painted = laid(GRID, Features.from_mask((IMAGES,), mask))
    for example in range(2):
        expected = GRID[example].flatten()[mask[example, 0]]
        assert torch.equal(painted[example, 0], expected)


def test_features_numbered_by_columns_get_the_cell_they_lie_in() -> None:
    by_columns = torch.tensor([0, 2, 4, 1, 3, 5])[patch_feature_mask(IMAGES, 2)]
    features = Features.from_mask((IMAGES,), by_columns)
    assert of_features((GRID,), features) is None
    assert torch.equal(laid(GRID, features), laid(GRID, PATCHES))
    found = seed_scores(GRID, features)
    assert found is not None
    assert found[0].tolist() == [0, 3, 1, 4, 2, 5]


def test_coarser_and_finer_patches_that_do_not_cut_cells() -> None:
    assert torch.equal(
        laid(GRID[..., :1, :], PATCHES)[0, 0, 3], torch.tensor([0.0, 0, 1, 1, 2, 2])
    )
    fine = torch.arange(48.0).view(2, 1, 4, 6)
    assert torch.equal(laid(fine, PATCHES)[:, :1], fine)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 1, 3, 3), r"maps: shape \(2, 1, 3, 3\) does not broadcast .*feature_mask"),
        ((2, 1, 2, 2), "lies across its cells"),
        ((3, 1, 2, 3), r"does not broadcast to the input's \(2, 3, 4, 6\)"),
        ((2, 2, 2, 3), "does not broadcast"),
        ((2, 5), r"one number for each of the 6 features of feature_mask, \(2, 6\)"),
        ((6,), "does not broadcast"),
        ((2, 3, 1, 4, 6), "does not broadcast"),
        ((2, 0, 2, 3), "does not broadcast"),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], match: str) -> None:
    mask = patch_feature_mask(IMAGES, (4, 2)) if shape == (2, 1, 2, 2) else None
    features = PATCHES if mask is None else Features.from_mask((IMAGES,), mask)
    with pytest.raises(ValueError, match=match):
        over_inputs("maps", (torch.zeros(shape),), features)


def test_without_a_mask_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"with a feature_mask .*patch_feature_mask"):
        over_inputs("maps", (torch.zeros(2, 6),), PIXELS)


def test_numbers_of_features() -> None:
    values = torch.arange(12.0).view(2, 6)
    assert torch.equal(laid(values, PATCHES), laid(GRID, PATCHES))
    assert torch.equal(laid(values[:1], PATCHES)[1], laid(GRID, PATCHES)[0])
    (table,) = over_inputs(
        "maps", (values,), Features.from_mask((torch.zeros(2, 6),), None)
    )
    assert table is values


def test_numbers_of_features_of_several_inputs() -> None:
    inputs = (torch.zeros(1, 2), torch.zeros(1, 2))
    mask = (torch.tensor([[0, 1]]), torch.tensor([[2, 1]]))
    values = torch.tensor([[5.0, 6.0, 7.0]])
    one, two = over_inputs("maps", (values,), Features.from_mask(inputs, mask))
    assert one.tolist() == [[5.0, 6.0]] and two.tolist() == [[7.0, 6.0]]


def test_inputs_without_channels_and_volumes() -> None:
    pixels = torch.arange(24).view(1, 4, 6)
    planes = Features.from_mask((torch.zeros(2, 4, 6),), pixels)
    painted = over_inputs("maps", (GRID,), planes)[0]
    assert torch.equal(painted, laid(GRID, PIXELS)[:, 0])
    with pytest.raises(ValueError, match="does not broadcast"):  # columns are features
        over_inputs("maps", (GRID,), Features.positions((torch.zeros(2, 4, 6),)))
    volume = Features.positions((torch.zeros(1, 1, 4, 4, 4),))
    cells = torch.arange(8.0).view(1, 1, 2, 2, 2)
    painted = over_inputs("maps", (cells,), volume)[0]
    assert painted.shape == (1, 1, 4, 4, 4)
    assert torch.equal(painted[..., ::2, ::2, ::2], cells)


def test_three_dimensions_begin_with_the_examples() -> None:
    """(3, H, W) of three images in colours is of the images, not of the colours."""
    images = torch.zeros(3, 3, 4, 6)
    features = Features.from_mask((images,), patch_feature_mask(images, 2))
    maps = torch.arange(3.0).view(3, 1, 1).expand(3, 4, 6)
    found = seed_scores(maps, features)
    assert found is not None and found[:, 0].tolist() == [0.0, 1.0, 2.0]
    colours = seed_scores(maps, PATCHES)  # of two images: it broadcasts
    assert colours is not None and colours.tolist() == [[1.0] * 6] * 2


def test_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="maps: got list, takes a tensor"):
        as_tensors("maps", [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="maps: got an empty tuple"):
        as_tensors("maps", ())
    with pytest.raises(ValueError, match="maps: got 2 tensors for 1 inputs"):
        over_inputs("maps", (GRID, GRID), PIXELS)
