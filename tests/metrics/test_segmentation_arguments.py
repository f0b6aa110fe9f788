"""What segmentation metrics take and refuse, and the examples they cannot score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from captum_mda.metrics import pointing_game
from captum_mda.metrics.localization._thresholds import Threshold
from captum_mda.metrics.localization.segmentation import (
    MaskConvention,
    segmentation_scores,
    SegmentationScores,
)

CONVENTIONS: tuple[MaskConvention, ...] = ("exact", "mda")
THRESHOLDS: tuple[float | Threshold, ...] = ("mean", "oracle", 0.25)
SCORES = ("iou", "average_precision", "f1", "pixel_accuracy")
COUNTS = ("intersection", "union", "correct", "pixels")

MAP = torch.tensor([[[9.0, 0.0, 3.0], [1.0, 4.0, 4.0]]])
MASK = torch.tensor([[[True, False, True], [True, False, False]]])


def check(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def check_equal(first: SegmentationScores, second: SegmentationScores) -> None:
    for name in (*SCORES, *COUNTS):
        check(getattr(first, name), getattr(second, name))


# --- forms of the arguments -------------------------------------------------


def test_channels_are_summed() -> None:
    signed = MAP - 6  # whose absolute values rank the pixels otherwise
    channels = torch.stack([signed * 2, signed * -1.5, signed * 0.5], dim=1)
    check_equal(segmentation_scores(channels, MASK), segmentation_scores(MAP, MASK))
    assert pointing_game(channels, MASK).tolist() == [1]
    assert pointing_game(-channels, MASK).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_masks_may_be_integers_and_have_a_channel(dtype: torch.dtype) -> None:
    expected = segmentation_scores(MAP, MASK)
    for masks in (MASK.to(dtype), MASK.to(dtype)[:, None]):
        check_equal(segmentation_scores(MAP, masks), expected)
        assert pointing_game(MAP, masks).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int16])
def test_maps_of_any_real_type_are_left_as_they_are(dtype: torch.dtype) -> None:
    maps = MAP.to(dtype)
    if dtype.is_floating_point:
        maps.requires_grad_()
    before, masks = maps.detach().clone(), MASK.clone()
    for threshold in THRESHOLDS:
        scores = segmentation_scores(maps, masks, threshold)
        check_equal(scores, segmentation_scores(MAP, MASK, threshold))
        assert not scores.average_precision.requires_grad
    assert not pointing_game(maps, masks).requires_grad
    assert torch.equal(maps.detach(), before) and torch.equal(masks, MASK)


def test_an_image_of_one_row_and_a_view_are_scored() -> None:
    check_equal(
        segmentation_scores(MAP.transpose(1, 2), MASK.transpose(1, 2)),
        segmentation_scores(
            MAP.transpose(1, 2).contiguous(), MASK.transpose(1, 2).contiguous()
        ),
    )
    row = segmentation_scores(MAP[:, :1], MASK[:, :1], convention="mda")
    assert row.f1.item() == pytest.approx(2 / 3, abs=1e-15)


# --- degenerate examples ----------------------------------------------------

FLAT, NONE, ALL = MAP * 0 + 3, MASK & False, MASK | True
DEGENERATE = [
    (FLAT, MASK, "attributions", "constant map"),
    (MAP, NONE, "masks", "empty mask"),
    (MAP, ALL, "masks", "full mask"),
]


@pytest.mark.parametrize(("maps", "masks", "name", "word"), DEGENERATE)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_degenerate_example_is_an_error_or_nan(
    maps: Tensor,
    masks: Tensor,
    name: str,
    word: str,
    threshold: float | Threshold,
    convention: MaskConvention,
) -> None:
    maps, masks = torch.cat([MAP, maps]), torch.cat([MASK, masks])
    message = rf'^{name}: {word} in example 1; .*; drop such .*on_degenerate="nan"$'
    with pytest.raises(ValueError, match=message):
        segmentation_scores(maps, masks, threshold, convention)
    with pytest.warns(UserWarning, match=rf"^{name}: .* examples 1 \({word}\);") as log:
        scores = segmentation_scores(maps, masks, threshold, convention, "nan")
    assert len(log) == 1 and log[0].filename == __file__
    assert scores.status == ("ok", word)
    alone = segmentation_scores(MAP, MASK, threshold, convention)
    for score in SCORES:
        assert getattr(scores, score)[1].isnan()
        check(getattr(scores, score)[:1], getattr(alone, score))
    for count in COUNTS:
        assert getattr(scores, count)[1].tolist() == [0, 0]
        check(getattr(scores, count)[:1], getattr(alone, count))
    assert scores.mean_iou == alone.mean_iou


def test_channels_that_cancel_are_a_constant_map() -> None:
    with pytest.raises(ValueError, match=r"^attributions: constant map in example 0"):
        segmentation_scores(torch.stack([MAP, -MAP], dim=1), MASK)


def test_maps_and_masks_are_reported_on_their_own() -> None:
    maps = torch.cat([FLAT, MAP, FLAT, MAP])
    masks = torch.cat([NONE, ALL, MASK, NONE])
    with pytest.raises(
        ValueError, match=r"^attributions: constant map in example 0 and 1 more"
    ):
        segmentation_scores(maps, masks)
    with pytest.warns(UserWarning) as log:
        scores = segmentation_scores(maps, masks, on_degenerate="nan")
    assert [str(each.message).partition(";")[0] for each in log] == [
        "attributions: cannot score examples 0 (constant map), 2 (constant map)",
        "masks: cannot score examples 0 (empty mask), 1 (full mask), 3 (empty mask)",
    ]
    assert scores.status == ("constant map", "full mask", "constant map", "empty mask")
    assert math.isnan(scores.mean_iou)


def test_a_long_list_of_degenerate_examples_is_cut() -> None:
    with pytest.warns(UserWarning, match=r"9 \(constant map\) and 3 more; their"):
        segmentation_scores(
            FLAT.repeat(13, 1, 1), MASK.repeat(13, 1, 1), on_degenerate="nan"
        )


@pytest.mark.parametrize(("maps", "masks", "name", "word"), DEGENERATE[:2])
def test_the_pointing_game_needs_a_peak_and_an_object(
    maps: Tensor, masks: Tensor, name: str, word: str
) -> None:
    maps, masks = torch.cat([maps, MAP]), torch.cat([masks, MASK])
    with pytest.raises(ValueError, match=rf"^{name}: {word} in example 0; "):
        pointing_game(maps, masks)
    with pytest.warns(UserWarning, match=rf"^{name}: .* examples 0 \({word}\)") as log:
        hits = pointing_game(maps, masks, tolerance=100, on_degenerate="nan")
    assert len(log) == 1 and log[0].filename == __file__
    assert hits.isnan().tolist() == [True, False] and hits[1] == 1


# --- what is refused --------------------------------------------------------

BAD: Sequence[tuple[dict[str, object], type[Exception], str]] = [
    (
        {"attributions": (MAP, MAP)},
        ValueError,
        "attributions: got 2 tensors, takes one",
    ),
    ({"attributions": None}, TypeError, "attributions: got NoneType, takes a tensor"),
    ({"attributions": MAP.cfloat()}, TypeError, "attributions: got dtype torch.comp"),
    ({"attributions": MAP.to_sparse()}, TypeError, r"attributions: .*to_dense\(\)"),
    ({"attributions": MAP.to("meta")}, TypeError, "attributions: .* on meta, takes"),
    ({"attributions": MAP[:0]}, ValueError, r"attributions: got shape \(0, 2, 3\), "),
    ({"attributions": MAP[0]}, ValueError, r"attributions: got .* unsqueeze\(0\)"),
    ({"attributions": MAP[None, None]}, ValueError, r"got shape \(1, 1, 1, 2, 3\)"),
    ({"attributions": MAP * math.nan}, ValueError, "attributions: NaN or infinite"),
    ({"attributions": MAP.repeat(2, 1, 1)}, ValueError, r"masks: .* \(2, 1, 2, 3\)"),
    ({"masks": MASK[0]}, ValueError, r"masks: got shape \(2, 3\), takes one mask for"),
    ({"masks": MASK[:, None].repeat(1, 3, 1, 1)}, ValueError, r"masks: .*\(1, 3, 2, "),
    ({"masks": MASK.repeat(1, 2, 3)[..., :8]}, ValueError, r"masks: .*interpolat"),
    ({"masks": MASK.double()}, TypeError, r"masks: .*float64, takes .* masks > 0.5"),
    ({"masks": MASK * 255}, ValueError, "masks: got the value 255, .* masks == 1"),
    ({"masks": MASK * 2 - 1}, ValueError, "masks: got the value -1, takes booleans"),
    ({"masks": [[[1]]]}, TypeError, "masks: got list, takes a tensor"),
    ({"on_degenerate": "zero"}, ValueError, "on_degenerate: got 'zero', .*'nan'"),
    ({"treshold": 0.5}, TypeError, "unexpected keyword argument 'treshold'"),
]


@pytest.mark.parametrize("metric", [segmentation_scores, pointing_game])
@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_what_does_not_fit_is_refused(
    metric: object, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"attributions": MAP, "masks": MASK} | changes
    with pytest.raises(error, match=message):
        metric(**arguments)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"threshold": "otsu"}, ValueError, "threshold: got 'otsu', takes 'mean', 'or"),
        ({"threshold": 1.5}, ValueError, "threshold: got 1.5, takes a number from 0"),
        ({"threshold": math.nan}, ValueError, "threshold: got nan, takes a number"),
        ({"threshold": None}, TypeError, "threshold: got None, takes a number from"),
        ({"threshold": True}, TypeError, "threshold: got True, takes a number from 0"),
        ({"convention": "mas"}, ValueError, "convention: got 'mas', .*'exact', 'mda'"),
    ],
)
def test_options_of_the_scores_that_do_not_fit_are_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        segmentation_scores(MAP, MASK, **changes)


@pytest.mark.parametrize(
    ("tolerance", "error"),
    [
        (-1, ValueError),
        (math.inf, ValueError),
        (math.nan, ValueError),
        ("15", TypeError),
        (True, TypeError),
    ],
)
def test_a_tolerance_is_a_number_of_pixels(
    tolerance: float, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^tolerance: got .*pixels$"):
        pointing_game(MAP, MASK, tolerance)
