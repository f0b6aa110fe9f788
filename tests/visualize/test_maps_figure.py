"""Figures of many maps: their values, their colours and where they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum_mda.visualize import maps_figure, save_figure

PHOTO = torch.linspace(0, 1, 3 * 12 * 16).view(3, 12, 16)
POSITIVE = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
SIGNED = torch.tensor([[0.0, 1.0], [-2.0, 0.5]])


def panels(figure: Figure) -> list[Axes]:
    """The photo's and the maps' axes, without the legends."""
    return [axes for axes in figure.axes if axes.get_title()]


def drawn(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[-1].get_array())


@pytest.mark.parametrize(
    ("maps", "labels"),
    [
        ({"a": POSITIVE}, ["attribution / largest"]),
        ({"a": SIGNED}, ["attribution / largest |attribution|"]),
        (
            {"a": SIGNED, "b": POSITIVE, "c": SIGNED},
            ["attribution / largest", "attribution / largest |attribution|"],
        ),
    ],
)
def test_panels_follow_the_maps_and_legends_the_signs(
    maps: dict[str, torch.Tensor], labels: list[str]
) -> None:
    figure = maps_figure(PHOTO, maps, title="squares")
    assert [axes.get_title() for axes in panels(figure)] == ["Image", *maps]
    legends = figure.axes[1 + len(maps) :]
    assert [axes.get_xlabel() for axes in legends] == labels
    assert figure.get_suptitle() == "squares"
    np.testing.assert_allclose(drawn(figure.axes[0]), PHOTO.permute(1, 2, 0))


def test_maps_are_relative_to_their_largest_size() -> None:
    figure = maps_figure(PHOTO, {"a": POSITIVE, "b": SIGNED})
    _, positive, signed = panels(figure)
    np.testing.assert_array_equal(drawn(positive), POSITIVE / 4)
    np.testing.assert_array_equal(drawn(signed), SIGNED / 2)
    for axes in (positive, signed):
        photo, overlay = axes.images
        assert photo.get_extent() == overlay.get_extent() == [0.0, 16.0, 12.0, 0.0]
        assert overlay.get_interpolation() == "nearest"


def test_signed_colours_are_centred_on_zero() -> None:
    legend = maps_figure(PHOTO, {"a": SIGNED}).axes[-1]
    assert [text.get_text() for text in legend.get_xticklabels()] == [
        "\N{MINUS SIGN}1, against",
        "0",
        "1, for",
    ]
    overlay = maps_figure(PHOTO, {"a": SIGNED}).axes[1].images[-1]
    assert overlay.get_clim() == (-1.0, 1.0)
    red, _, blue = overlay.to_rgba(np.ones((1, 1)))[0, 0, :3]
    assert red > 2 * blue
    red, _, blue = overlay.to_rgba(-np.ones((1, 1)))[0, 0, :3]
    assert blue > 2 * red
    assert overlay.to_rgba(np.zeros((1, 1)))[0, 0, :3].min() > 0.95  # white
    assert maps_figure(PHOTO, {"a": POSITIVE}).axes[1].images[-1].get_clim() == (0, 1)


@pytest.mark.parametrize(
    "values",
    [
        SIGNED[None],
        SIGNED[None, None],
        SIGNED.clone().requires_grad_(),
        SIGNED.half(),
        SIGNED.bfloat16(),
        SIGNED.numpy(),
        (2 * SIGNED).to(torch.int64),
        torch.stack([SIGNED, 2 * SIGNED, -SIGNED])[None],  # channels are summed
        SIGNED.expand(3, 2, 2).numpy(),
    ],
)
def test_forms_of_a_map_are_equal(values: Any) -> None:
    before = values.copy() if isinstance(values, np.ndarray) else values.clone()
    figure = maps_figure(PHOTO, {"a": values})
    np.testing.assert_array_equal(drawn(figure.axes[1]), SIGNED / 2)
    assert bool((values == before).all())


def test_a_map_of_zeros_is_drawn() -> None:
    figure = maps_figure(PHOTO, {"a": torch.zeros(2, 2), "b": -POSITIVE})
    np.testing.assert_array_equal(drawn(figure.axes[1]), np.zeros((2, 2)))
    np.testing.assert_array_equal(drawn(figure.axes[2]), -POSITIVE / 4)


@pytest.mark.parametrize(
    ("n_maps", "n_columns", "rows"),
    [
        (1, None, [2]),
        (4, None, [5]),
        (5, None, [3, 3]),
        (6, None, [4, 3]),
        (16, None, [5, 5, 5, 2]),
        (4, 2, [2, 2, 1]),
        (2, 8, [3]),
        (1, 1, [1, 1]),
    ],
)
def test_rows_are_about_equally_long(
    n_maps: int, n_columns: int | None, rows: list[int]
) -> None:
    maps = {f"map {index}": POSITIVE for index in range(n_maps)}
    figure = maps_figure(PHOTO, maps, n_columns=n_columns)
    places = [axes.get_position() for axes in panels(figure)]
    heights = [round(place.y0, 6) for place in places]
    assert [heights.count(y) for y in sorted(set(heights), reverse=True)] == rows
    assert heights == sorted(heights, reverse=True)  # read row by row
    sizes = [place.size * figure.get_size_inches() for place in places]
    np.testing.assert_allclose(sizes, np.tile([2.0, 1.5], (len(sizes), 1)))


def test_captions_stand_below_their_maps() -> None:
    captions = {"b": "Ins-Del 0.762\nMAS Ins-Del 0.653"}
    figure = maps_figure(PHOTO, {"a": POSITIVE, "b": SIGNED}, captions=captions)
    assert [axes.get_xlabel() for axes in panels(figure)] == ["", "", captions["b"]]


@pytest.mark.parametrize("photo", [PHOTO, PHOTO.mT, PHOTO[:, :2]])
@pytest.mark.parametrize(
    ("n_maps", "n_columns"), [(1, None), (11, None), (1, 1), (2, 1)]
)
def test_nothing_overlaps_or_leaves_the_figure(
    photo: torch.Tensor, n_maps: int, n_columns: int | None
) -> None:
    name = "A method with a rather long name and its variant"
    maps = {
        f"{name} {index}": POSITIVE if index % 2 else SIGNED for index in range(n_maps)
    }
    captions = {name: f"below: {name}\nand one more line" for name in maps}
    title = "A photo with a title that is wider than two panels are, as it may happen"
    foot = "a model, its target, $5 of ordering and $6 of baselines; " * 4
    figure = maps_figure(photo, maps, title, captions, n_columns, foot)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == len(figure.axes) + 2
    assert " ".join(figure.texts[-1].get_text().split()) == foot.strip()
    for index, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[:index]:
            apart = (
                box.x0 >= other.x1
                or other.x0 >= box.x1
                or box.y0 >= other.y1
                or other.y0 >= box.y1
            )
            assert apart, (index, box, other)


def test_formulas_are_not_broken() -> None:
    name = r"a map with the blend $\gamma = 0.25$ between sparse and dense"
    figure = maps_figure(PHOTO, {name: POSITIVE})
    assert figure.axes[1].get_title() == name


def test_pyplot_is_left_alone(tmp_path: Any) -> None:
    from matplotlib import pyplot, rcParams

    before, settings = pyplot.get_fignums(), dict(rcParams)
    save_figure(maps_figure(PHOTO, {"a": SIGNED}), tmp_path / "maps.png")
    assert (tmp_path / "maps.png").is_file()
    assert pyplot.get_fignums() == before and dict(rcParams) == settings


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": torch.ones(2, 2)}, ValueError, r"image: got shape \(2, 2\)"),
        ({"image": 2 * PHOTO}, ValueError, "denormalize"),
        ({"maps": {}}, ValueError, "maps: got none"),
        ({"maps": [POSITIVE]}, TypeError, "maps: got list, takes a mapping"),
        ({"maps": {"a": "b"}}, TypeError, "maps: 'a' is of str, takes a tensor"),
        ({"maps": {"a": [[1.0]]}}, TypeError, "maps: 'a' is of list"),
        ({"maps": {"a": POSITIVE * 1j}}, TypeError, "'a' is of torch.complex64"),
        ({"maps": {"a": torch.ones(2)}}, ValueError, r"maps: 'a' has shape \(2,\)"),
        ({"maps": {"a": torch.ones(2, 2, 2)}}, ValueError, r"shape \(2, 2, 2\)"),
        ({"maps": {"a": torch.ones(2, 1, 2, 2)}}, ValueError, "takes one map"),
        ({"maps": {"a": torch.ones(0, 2)}}, ValueError, r"shape \(0, 2\)"),
        ({"maps": {"a": POSITIVE / 0}}, ValueError, "'a' has NaN or infinite"),
        ({"captions": {"b": "?"}}, ValueError, "captions: got 'b', takes .*, a"),
        ({"n_columns": 0}, ValueError, "n_columns: got 0"),
        ({"n_columns": 2.0}, TypeError, "n_columns: got 2.0"),
    ],
)
def test_wrong_arguments_are_named(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"image": PHOTO, "maps": {"a": POSITIVE}, **changes}
    with pytest.raises(error, match=message):
        maps_figure(**arguments)


@pytest.mark.parametrize("values", [POSITIVE, SIGNED])
def test_drawn_colours_are_those_of_the_bar(values: torch.Tensor) -> None:
    figure = maps_figure(torch.rand(1, 1, 1).expand(3, 40, 40), {"a": values})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1]  # rows upwards
    _, panel, bar = figure.axes
    inside, along = panel.get_window_extent(), bar.get_window_extent()
    low, high = bar.get_xlim()
    for (row, column), value in np.ndenumerate(values.numpy()):
        relative = value / np.abs(values.numpy()).max()
        x = inside.x0 + (column + 0.5) * inside.width / 2
        y = inside.y1 - (row + 0.5) * inside.height / 2
        part = np.clip((relative - low) / (high - low), 0.01, 0.99)
        legend = pixels[
            int((along.y0 + along.y1) / 2), int(along.x0 + part * along.width)
        ]
        np.testing.assert_allclose(pixels[int(y), int(x)], legend, atol=8)
