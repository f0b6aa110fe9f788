"""Figures: what they show, what they refuse, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_mda import (
    MDAExplanation,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.visualize import denormalize, explanation_figure, save_figure
from captum_mda.visualize._curves import draw_curves, draw_legend, DrawnCurve


def brightness(images: Tensor) -> Tensor:
    """Score (B, 3, 8, 8) images: the upper left patch counts most."""
    weights = torch.ones(8, 8)
    weights[:4, :4] = 5.0
    return (images * weights).sum((1, 2, 3))


@pytest.fixture(scope="module")
def images() -> Tensor:
    images = torch.ones(2, 3, 8, 8)
    images[1, :, :, 4:] = 0.5
    return images


@pytest.fixture(scope="module")
def explanation(images: Tensor) -> MDAExplanation:
    mda = MetricDrivenAttribution(brightness)
    return mda.explain(images, feature_mask=patch_feature_mask(images, 4))


@pytest.fixture(scope="module")
def scores(images: Tensor, explanation: MDAExplanation) -> metrics.PerturbationScores:
    maps = explanation.attributions()
    return metrics.perturbation_scores(brightness, images, maps)


def legend_texts(figure: Figure, place: int) -> list[str]:
    """The entries of a legend, without their breaks of lines."""
    texts = figure.axes[place].get_legend().get_texts()
    return [text.get_text().replace("\n", " ") for text in texts]


def test_panels_follow_the_gammas(images: Tensor, explanation: MDAExplanation) -> None:
    figure = explanation_figure(images[0], explanation, title="squares")
    titles = [axes.get_title() for axes in figure.axes]
    count = int(explanation.sufficient_patches()[0])
    assert titles == [
        "Image",
        r"Sparse map ($\gamma$ = 0)",
        r"Dense map ($\gamma$ = 1)",
        f"Only {count} of 4 patches",
        f"Without these {count}",
        "",  # the colour bar
        "Insertion",
        "Deletion",
    ]
    assert figure.get_suptitle() == "squares"
    figure = explanation_figure(images[0], explanation, gammas=(0.2,))
    assert figure.axes[1].get_title() == r"Blended map ($\gamma$ = 0.2)"


def test_maps_are_relative_to_their_largest_value(
    images: Tensor, explanation: MDAExplanation
) -> None:
    figure = explanation_figure(images[0], explanation, gammas=(0.0, 0.5, 1.0))
    for axes, gamma in zip(figure.axes[1:4], (0.0, 0.5, 1.0), strict=True):
        drawn = np.asarray(axes.images[-1].get_array())
        wanted = explanation.attributions(gamma)[0].mean(0)
        np.testing.assert_allclose(drawn, wanted / wanted.max(), rtol=1e-6)
        assert axes.images[-1].get_interpolation() == "nearest"


def test_curves_are_those_of_the_search(
    images: Tensor, explanation: MDAExplanation
) -> None:
    figure = explanation_figure(images[1], explanation, index=1)
    insertion, deletion = figure.axes[-2:]
    response, density, _ = (line.get_ydata() for line in insertion.lines[:3])
    np.testing.assert_allclose(response, explanation.insertion_curve[1])
    assert density[0] == 0.0 and density[-1] == 1.0 and (np.diff(density) > 0).all()
    response, density, _ = (line.get_ydata() for line in deletion.lines)
    np.testing.assert_allclose(response, explanation.deletion_curve[1])
    assert density[0] == 1.0 and density[-1] == 0.0
    words = (
        f"search: {int(explanation.n_inserted[1])} of 4 patches ordered by insertion"
    )
    assert any(text.startswith(words) for text in legend_texts(figure, -1))


def test_curves_of_scores_are_theirs(
    images: Tensor, explanation: MDAExplanation, scores: metrics.PerturbationScores
) -> None:
    figure = explanation_figure(images[1], explanation, index=1, scores=scores)
    for place, curve in ((-2, scores.insertion_curve), (-1, scores.deletion_curve)):
        response, density, _ = (
            line.get_ydata() for line in figure.axes[place].lines[:3]
        )
        np.testing.assert_array_equal(response, curve.response[1])
        np.testing.assert_array_equal(density, curve.density[1])
        assert f"response, area {curve.area[1]:.3f}" in legend_texts(figure, place)
        assert f"{curve.mas_area[1]:.3f}" in figure.axes[place].get_title()


def test_a_legend_leaves_a_slow_curve_free() -> None:
    """A turtle's deletion: much of the score hangs on the second half of patches."""
    steps = np.linspace(0.0, 1.0, 197)
    known = [(0, 1), (0.1, 0.86), (0.13, 0.75), (0.23, 0.67), (0.32, 0.6), (0.34, 0.46)]
    x, y = zip(*known, (0.45, 0.45), (0.47, 0.13), (0.55, 0.03), (1, 0), strict=True)
    density = np.interp(steps, [0.0, 0.14, 0.6, 1.0], [1.0, 0.44, 0.02, 0.0])
    response = np.interp(steps, x, y)
    figure = Figure(figsize=(12.0, 3.4))
    axes = figure.add_axes((0.52, 0.15, 0.43, 0.69))  # as in `explanation_figure`
    curve = DrawnCurve(
        mode="deletion",
        response=response,
        density=density,
        area=0.3,
        mas_area=0.4,
        steps_of="",
    )
    draw_curves(axes, curve, 64, 196)
    draw_legend(axes)
    figure.canvas.draw()
    legend = axes.get_legend().get_window_extent()
    for values in (response, density):
        points = axes.transData.transform(np.stack([steps, values], 1))
        assert not legend.count_contains(points)


def test_image_forms_are_equal(explanation: MDAExplanation) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = torch.from_numpy(pixels).double() / 255
    forms = [photo, photo.permute(2, 0, 1), photo.numpy(), Image.fromarray(pixels)]
    for form in forms:
        drawn = explanation_figure(form, explanation).axes[0].images[0].get_array()
        np.testing.assert_allclose(np.asarray(drawn), photo.numpy())


def test_a_larger_photo_lies_under_the_same_map(explanation: MDAExplanation) -> None:
    figure = explanation_figure(torch.rand(3, 30, 20), explanation)
    photo, overlay = figure.axes[1].images
    assert photo.get_extent() == overlay.get_extent() == [0.0, 20.0, 30.0, 0.0]


def test_patches_of_unequal_size_weigh_by_their_mass() -> None:
    mask = torch.tensor([0, 1, 1, 1]).view(1, 1, 1, 4)
    image = torch.ones(1, 3, 1, 4)
    mda = MetricDrivenAttribution(lambda x: x.sum((1, 2, 3)))
    explanation = mda.explain(image, feature_mask=mask)
    density = explanation_figure(image[0], explanation).axes[-2].lines[1].get_ydata()
    per_pixel = explanation.attributions()[0, 0, 0]
    first = 1 if int(explanation.order[0, 0]) else 0
    share = per_pixel[mask[0, 0, 0] == first].sum() / per_pixel.sum()
    assert density[1] == pytest.approx(float(share))


@pytest.mark.filterwarnings("ignore:inputs")
def test_a_degenerate_example_is_drawn(tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 8, 8)
    mda = MetricDrivenAttribution(brightness, on_degenerate="zero")
    explanation = mda.explain(image, feature_mask=patch_feature_mask(image, 4))
    save_figure(explanation_figure(image[0], explanation), tmp_path / "zero.png")
    assert (tmp_path / "zero.png").is_file()


def test_pyplot_is_left_alone(
    images: Tensor, explanation: MDAExplanation, tmp_path: Path
) -> None:
    from matplotlib import pyplot, rcParams

    before, settings = pyplot.get_fignums(), dict(rcParams)
    save_figure(explanation_figure(images[0], explanation), tmp_path / "mda.png")
    assert pyplot.get_fignums() == before and dict(rcParams) == settings


@pytest.mark.parametrize("ending", ["png", "pdf", "SVG"])
def test_saved_figures_are_whole(ending: str, tmp_path: Path) -> None:
    save_figure(Figure(figsize=(2, 1)), tmp_path / f"empty.{ending}", dpi=50)
    assert [path.name for path in tmp_path.iterdir()] == [f"empty.{ending}"]
    if ending == "png":
        assert Image.open(tmp_path / "empty.png").size == (100, 50)


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    figure = Figure()
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_save_refuses_unknown_formats_and_folders(tmp_path: Path) -> None:
    for name in ("mda.safetensors", "mda"):
        with pytest.raises(ValueError, match=r"path: .*\.png"):
            save_figure(Figure(), tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save_figure(Figure(), tmp_path / "missing" / "mda.png")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"index": 2}, IndexError, "index: got 2, takes 0 to 1"),
        ({"index": -1}, IndexError, "index: got -1"),
        ({"index": 0.0}, TypeError, "index: got 0.0"),
        ({"gammas": ()}, ValueError, "gammas: got none"),
        ({"gammas": (0.0, 2.0)}, ValueError, "gammas: got 2.0"),
        ({"kappa": -1.0}, ValueError, "kappa: got -1.0"),
        ({"explanation": "mda"}, TypeError, "explanation: got str"),
        ({"image": "photo.png"}, TypeError, "image: got str"),
        ({"image": torch.ones(8, 8)}, ValueError, r"image: got shape \(8, 8\)"),
        ({"image": torch.ones(1, 3, 8, 8)}, ValueError, "takes one image"),
        ({"image": 3 * torch.ones(3, 8, 8)}, ValueError, "denormalize"),
        ({"image": torch.full((3, 8, 8), torch.nan)}, ValueError, "image: got values"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, TypeError, "divide bytes by 255"),
    ],
)
def test_wrong_arguments_are_named(
    changes: dict[str, object],
    error: type[Exception],
    message: str,
    images: Tensor,
    explanation: MDAExplanation,
) -> None:
    arguments = {"image": images[0], "explanation": explanation, **changes}
    with pytest.raises(error, match=message):
        explanation_figure(**arguments)  # type: ignore[arg-type]


def test_scores_of_another_batch_are_refused(
    images: Tensor, explanation: MDAExplanation
) -> None:
    ramp = torch.arange(192.0).reshape(1, 3, 8, 8)
    one = metrics.perturbation_scores(brightness, images[:1], ramp)
    with pytest.raises(ValueError, match="scores: of 1 examples"):
        explanation_figure(images[0], explanation, scores=one)


def test_only_images_are_drawn() -> None:
    rows = torch.tensor([[3.0, 1.0, 2.0]])
    explanation = MetricDrivenAttribution(lambda x: x.sum(1)).explain(rows)
    with pytest.raises(ValueError, match="figures are drawn of images"):
        explanation_figure(torch.ones(3, 8, 8), explanation)


def test_denormalize_undoes_a_normalisation() -> None:
    colours = torch.rand(2, 3, 4, 4)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalised = (colours - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )
    torch.testing.assert_close(denormalize(normalised, mean, std), colours)
    assert denormalize(9 * normalised, mean, std).max() == 1.0
    with pytest.raises(ValueError, match="3 means and 1 standard"):
        denormalize(normalised, mean, (1.0,))
    with pytest.raises(TypeError, match="images: got"):
        denormalize(normalised.long(), mean, std)


def test_sufficient_patches_are_the_first_that_restore_the_share() -> None:
    rows = torch.tensor([[6.0, 1.0, 3.0], [-1.0, -4.0, 5.0]])
    mda = MetricDrivenAttribution(lambda x: x.sum(1) + 10, score="identity")
    explanation = mda.explain(rows[:1])
    # 10, 16, 19, 20: half of 20 is there from the start, 0.8 with the first.
    for share, count in ((0.5, 0), (0.8, 1), (0.9, 2), (0.951, 3), (1.0, 3)):
        assert explanation.sufficient_patches(share).tolist() == [count]
    below = MetricDrivenAttribution(lambda x: x.sum(1) - 20, score="identity")
    # -20, -14, -11, -10: within a tenth of -10 with the second.
    assert below.explain(rows[:1]).sufficient_patches().tolist() == [2]
    with pytest.raises(ValueError, match=r"share: got 1\.5"):
        explanation.sufficient_patches(1.5)


def test_kept_and_removed_patches_share_the_image(explanation: MDAExplanation) -> None:
    photo = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    black, white = torch.zeros_like(photo), torch.ones_like(photo)
    figure = explanation_figure(
        photo, explanation, insertion_baseline=black, deletion_baseline=black
    )
    kept, removed = (
        np.asarray(axes.images[0].get_array()) for axes in figure.axes[3:5]
    )
    np.testing.assert_allclose(kept + removed, photo.permute(1, 2, 0))
    count = int(explanation.sufficient_patches()[0])
    assert (kept > 0).all(-1).sum() == count * 64  # patches of 4, at twice the size
    first = int(explanation.order[0, 0])
    row, column = 8 * (first // 2), 8 * (first % 2)
    block = (slice(row, row + 8), slice(column, column + 8))
    np.testing.assert_allclose(kept[block], photo.permute(1, 2, 0)[block])
    with pytest.raises(ValueError, match=r"deletion_baseline: got \(8, 8\) pixels"):
        explanation_figure(photo, explanation, deletion_baseline=white[:, :8, :8])


@pytest.mark.parametrize("size", [(8, 8), (40, 8), (8, 40)])
def test_captions_are_drawn_at_the_foot_and_literally(
    explanation: MDAExplanation, size: tuple[int, int], tmp_path: Path
) -> None:
    caption = "deit_tiny for $5 and _x^ for $6; " * 12
    title = r"cost $5 \frac and $6"
    figure = explanation_figure(
        torch.rand(3, *size), explanation, title=title, caption=caption
    )
    save_figure(figure, tmp_path / "a.png", dpi=40)
    (foot,) = [text for text in figure.texts if "deit" in text.get_text()]
    assert " ".join(foot.get_text().split()) == " ".join(caption.split())
    box = foot.get_window_extent()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
    assert all(box.y1 <= axes.get_tightbbox().y0 for axes in figure.axes)
