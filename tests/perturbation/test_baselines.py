"""Baselines: Captum's forms, the blur, and the blur chosen for each image."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn, Tensor
from torch.nn.functional import conv2d

from captum_mda.perturbation import (
    blur_baseline,
    confidence_blur_baseline,
    format_baselines,
)
from captum_mda.perturbation.baselines import KERNEL_SIZES

IMAGES = torch.zeros(2, 3, 4, 5)


# --- format_baselines -------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "value"),
    [
        (None, 0.0),
        (2, 2.0),
        (0.5, 0.5),
        (True, 1.0),
        (torch.tensor(3.0), 3.0),
        (torch.full((2, 3, 4, 5), 4.0), 4.0),
        (torch.full((1, 3, 4, 5), 5.0), 5.0),
        (torch.full((3, 1, 1), 6.0), 6.0),
        (torch.full((5,), 7, dtype=torch.int32), 7.0),
        ((8.0,), 8.0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_baseline_broadcasts_to_its_input_in_its_type(
    baseline: object, value: float, dtype: torch.dtype
) -> None:
    images = IMAGES.to(dtype)
    (formatted,) = format_baselines((images,), baseline)
    assert formatted.dtype == dtype and formatted.dim() == images.dim()
    assert torch.equal(formatted.expand(images.shape), torch.full_like(images, value))


def test_leading_dimensions_are_added_in_front() -> None:
    colours = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    (formatted,) = format_baselines((IMAGES,), colours)
    assert formatted.shape == (1, 3, 1, 1)
    assert formatted.flatten().tolist() == [1.0, 2.0, 3.0]


def test_every_input_gets_the_baseline_of_its_place() -> None:
    inputs = torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.float64)
    rows = torch.tensor([[1.0], [2.0]])
    first, second = format_baselines(inputs, (rows, 7))
    assert first.tolist() == [[1.0], [2.0]]
    assert second.dtype == torch.float64 and second.tolist() == [[7.0]]
    zeros = format_baselines(inputs, None)
    assert [float(zero) for zero in zeros] == [0.0, 0.0]


def test_a_number_keeps_its_precision_in_float64() -> None:
    (formatted,) = format_baselines((torch.zeros(1, 2, dtype=torch.float64),), 0.1)
    assert formatted.item() == 0.1


@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ((0, 0), ValueError, "mine: got 2 for 1 input tensors, takes a tuple"),
        ((), ValueError, "mine: got 0 for 1 input tensors"),
        ("black", TypeError, "mine: got str, takes a number, a tensor"),
        ([0.0], TypeError, "mine: got list, takes a number"),
        (np.zeros(5), TypeError, "mine: got ndarray, takes a number"),
        (torch.zeros(4), ValueError, r"mine: shape \(4,\) does not broadcast to .*5\)"),
        (torch.zeros(3, 3, 4, 5), ValueError, r"shape \(3, 3, 4, 5\) does not broad"),
        (torch.zeros(1, 2, 3, 4, 5), ValueError, "does not broadcast"),
        (float("nan"), ValueError, "mine: NaN or infinite values in example 0"),
        (float("inf"), ValueError, "mine: NaN or infinite"),
        (
            torch.tensor([[0.0], [float("nan")]]).view(2, 1, 1, 1),
            ValueError,
            "mine: NaN or infinite values in example 1;",
        ),
    ],
)
def test_baselines_that_do_not_fit_are_refused_by_the_arguments_name(
    baseline: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        format_baselines((IMAGES,), baseline, name="mine")


@pytest.mark.parametrize("baseline", [None, 0.5, torch.ones(1, 3), torch.ones(2, 3)])
def test_captum_reads_the_same_forms_alike(baseline: object) -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 8.0]])
    ablation = FeatureAblation(lambda rows: rows.sum(dim=1))
    expected = ablation.attribute(inputs, baselines=baseline)
    (formatted,) = format_baselines((inputs,), baseline)
    torch.testing.assert_close(inputs - formatted, expected)


# --- blur_baseline ----------------------------------------------------------


def blurred_as_published(images: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """Spec MDA.md, section 2: a filtered 2-D delta, zero padding, each channel."""
    delta = np.zeros((kernel_size, kernel_size))
    delta[kernel_size // 2, kernel_size // 2] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, sigma)).to(images.dtype)
    channels = images.shape[1]
    weights = torch.zeros(channels, channels, kernel_size, kernel_size).to(images)
    for channel in range(channels):
        weights[channel, channel] = kernel
    return conv2d(images, weights, padding=kernel_size // 2)


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (2, 1, 17, 33), (3, 2, 9, 8)])
@pytest.mark.parametrize("kernel_size", [1, 3, 9, 31])
@pytest.mark.parametrize("sigma", [None, 0.7, 12.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)]
)
def test_the_blur_is_the_published_one(
    shape: tuple[int, ...],
    kernel_size: int,
    sigma: float | None,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    expected = blurred_as_published(images, kernel_size, sigma or kernel_size)
    blurred = blur_baseline(images, kernel_size, sigma)
    assert blurred.dtype == dtype
    torch.testing.assert_close(blurred, expected, rtol=0, atol=tolerance)


def test_the_largest_kernel_of_the_authors_is_the_published_one() -> None:
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    images = images.double()
    expected = blurred_as_published(images, 101, 101)
    blurred = blur_baseline(images, 101)
    torch.testing.assert_close(blurred, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 8))
def test_blurring_is_linear_and_never_amplifies(
    height: int, width: int, half: int
) -> None:
    generator = torch.Generator().manual_seed(height * 100 + width)
    one, two = torch.rand(2, 1, 3, height, width, generator=generator).double()
    size = 2 * half + 1
    parts = 2 * blur_baseline(one, size) - blur_baseline(two, size)
    torch.testing.assert_close(blur_baseline(2 * one - two, size), parts)
    blurred = blur_baseline(one, size)
    assert blurred.min() >= 0 and blurred.max() <= one.max() + 1e-12


def test_a_kernel_of_one_pixel_changes_nothing() -> None:
    images = torch.randn(2, 3, 7, 5)
    assert torch.equal(blur_baseline(images, 1), images)


def test_the_blur_carries_no_gradient_and_leaves_its_input_alone() -> None:
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    before = images.detach().clone()
    blurred = blur_baseline(images, 3)
    assert not blurred.requires_grad and images.grad is None
    assert torch.equal(images.detach(), before)


@pytest.mark.parametrize(
    ("images", "kernel_size", "sigma", "error", "message"),
    [
        (IMAGES, 4, None, ValueError, "kernel_size: got 4, takes an odd number"),
        (IMAGES, 0, None, ValueError, "kernel_size: got 0, takes a positive integer"),
        (IMAGES, -3, None, ValueError, "kernel_size: got -3, takes a positive"),
        (IMAGES, 3.0, None, TypeError, "kernel_size: got 3.0, takes a positive"),
        (IMAGES, True, None, TypeError, "kernel_size: got True, takes a positive"),
        (IMAGES, 3, 0.0, ValueError, "sigma: got 0.0, takes a positive number"),
        (IMAGES, 3, float("nan"), ValueError, "sigma: got nan, takes a positive"),
        (IMAGES.int(), 3, None, TypeError, "inputs: got dtype torch.int32, takes flo"),
        ("photo.jpg", 3, None, TypeError, "inputs: got str, takes a tensor"),
        (torch.zeros(4, 5), 3, None, ValueError, r"inputs: got shape \(4, 5\), takes"),
        (torch.zeros(0, 3, 4, 5), 3, None, ValueError, r"inputs: got shape \(0, 3, 4"),
    ],
)
def test_what_cannot_be_blurred_is_refused(
    images: object,
    kernel_size: object,
    sigma: float | None,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        blur_baseline(images, kernel_size, sigma)  # type: ignore[arg-type]


# --- confidence_blur_baseline -----------------------------------------------


def contrast(images: Tensor) -> Tensor:
    """One value for each image that falls as it is blurred."""
    return images.abs().mean(dim=(1, 2, 3))


def two_logits(images: Tensor) -> Tensor:
    """Class 0 wins on bright images, class 1 on dark ones."""
    bright = contrast(images)
    return torch.stack([bright, -bright], dim=1)


def checks(cell: int) -> Tensor:
    """A checkerboard of +-1 that a blur of some ``2 * cell`` pixels levels."""
    cells = torch.arange(24) // cell % 2
    return 1.0 - 2.0 * (cells[:, None] ^ cells)[None].float()


BATCH = torch.stack([checks(1), checks(6), checks(3), torch.zeros(1, 24, 24)])
SIZES = list(range(1, 24, 2))


def smallest_kernel(image: Tensor, limit: float) -> int:
    for size in SIZES:
        if float(contrast(blur_baseline(image[None], size))) <= limit:
            return size
    raise AssertionError("the test's own image keeps its contrast")


@pytest.mark.parametrize("rows", [None, 1, 3])
def test_every_image_gets_the_smallest_kernel_that_does(rows: int | None) -> None:
    expected = [smallest_kernel(image, 0.2) for image in BATCH]
    assert len(set(expected)) == 4 and expected[3] == 1
    blurred, kernels = confidence_blur_baseline(
        contrast,
        BATCH,
        kernel_sizes=SIZES,
        max_confidence=0.2,
        perturbations_per_eval=rows,
        return_kernel_sizes=True,
    )
    assert kernels.tolist() == expected and kernels.dtype == torch.int64
    for image, size, result in zip(BATCH, expected, blurred, strict=True):
        single = blur_baseline(image[None], size)[0]
        torch.testing.assert_close(result, single, rtol=0, atol=1e-6)


def test_images_that_are_done_are_not_asked_about_again() -> None:
    expected = [SIZES.index(smallest_kernel(image, 0.2)) + 1 for image in BATCH]
    model = Recorder(contrast)
    confidence_blur_baseline(model, BATCH, kernel_sizes=SIZES, max_confidence=0.2)
    assert model.rows == sum(expected)


def test_only_the_images_are_returned_unless_the_kernels_are_asked_for() -> None:
    blurred = confidence_blur_baseline(
        contrast, BATCH, kernel_sizes=[23], max_confidence=0.02
    )
    assert isinstance(blurred, Tensor) and blurred.shape == BATCH.shape
    torch.testing.assert_close(blurred, blur_baseline(BATCH, 23), rtol=0, atol=1e-6)


def test_targets_and_arguments_belong_to_their_image() -> None:
    offset = torch.tensor([0.0, 0.0, 9.0])

    def logits(images: Tensor, added: Tensor, factor: int) -> Tensor:
        bright = factor * contrast(images) + added
        return torch.stack([bright, -bright], dim=1)

    images = checks(6).expand(3, 1, 24, 24)
    _, kernels = confidence_blur_baseline(
        logits,
        images,
        target=[0, 1, 1],
        additional_forward_args=(offset, 5),
        kernel_sizes=SIZES,
        max_confidence=0.9,
        return_kernel_sizes=True,
    )
    # softmax of (5 c, -5 c) at class 0 is 0.9 where c = log(9)/10; class 1 is low.
    assert kernels.tolist() == [smallest_kernel(images[0], np.log(9) / 10), 1, 1]


def test_a_confidence_that_equals_the_limit_is_low_enough() -> None:
    _, kernels = confidence_blur_baseline(
        lambda images: images[:, 0, 0, 0],
        torch.full((1, 1, 1, 1), 0.25),
        kernel_sizes=[1, 3],
        max_confidence=0.25,
        return_kernel_sizes=True,
    )
    assert kernels.tolist() == [1]


def test_images_for_which_no_kernel_does_are_an_error_that_names_them() -> None:
    message = (
        r"none of 1 to 3 pixels brings the score down to 0.2 for 2 images; examples "
        r"with their lowest score: 1 \(0\.\d+\), 2 \(0\.\d+\)\. Offer larger kernels"
    )
    with pytest.raises(ValueError, match=f"kernel_sizes: {message}"):
        confidence_blur_baseline(
            contrast, BATCH, kernel_sizes=[1, 3], max_confidence=0.2
        )


def test_images_for_which_no_kernel_does_may_take_the_best_one() -> None:
    # Brighter and darker again: the kernel of 3 pixels is the best, and not the last.
    answers = iter([0.9, 0.9, 0.3, 0.05, 0.5])

    def scripted(images: Tensor) -> Tensor:
        return torch.tensor([next(answers) for _ in images])

    with pytest.warns(UserWarning, match=r"none of 1 to 5 .* for 1 images.*: 0 \(0.3"):
        blurred, kernels = confidence_blur_baseline(
            scripted,
            BATCH[:2],
            kernel_sizes=[1, 3, 5],
            max_confidence=0.1,
            on_failure="lowest",
            return_kernel_sizes=True,
        )
    assert kernels.tolist() == [3, 3]
    torch.testing.assert_close(blurred, blur_baseline(BATCH[:2], 3), rtol=0, atol=1e-6)


def test_the_lowest_score_is_no_warning_where_a_kernel_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confidence_blur_baseline(
            contrast,
            BATCH,
            kernel_sizes=[23],
            max_confidence=0.02,
            on_failure="lowest",
        )


def test_the_warning_points_at_the_caller() -> None:
    with pytest.warns(UserWarning) as caught:
        confidence_blur_baseline(contrast, BATCH, kernel_sizes=[1], on_failure="lowest")
    assert [warning.filename for warning in caught] == [__file__]


def test_the_authors_kernels_are_the_default() -> None:
    assert list(KERNEL_SIZES) == [31 + 2 * i for i in range(36)]
    assert KERNEL_SIZES[-1] == 101


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel_sizes": []}, ValueError, r"kernel_sizes: got \[\], takes ascending"),
        ({"kernel_sizes": [5, 3]}, ValueError, "kernel_sizes: .* takes ascending odd"),
        ({"kernel_sizes": [3, 3]}, ValueError, "kernel_sizes: .* takes ascending odd"),
        ({"kernel_sizes": [3, 4]}, ValueError, "kernel_sizes: got 4, takes odd"),
        ({"kernel_sizes": [-1, 3]}, ValueError, "kernel_sizes: got -1, takes a posit"),
        ({"kernel_sizes": [1.5]}, TypeError, "kernel_sizes: got 1.5, takes a positive"),
        (
            {"max_confidence": 1.5},
            ValueError,
            "max_confidence: got 1.5, takes a num",
        ),
        ({"max_confidence": "1"}, TypeError, "max_confidence: got '1', takes a number"),
        ({"max_confidence": True}, TypeError, "max_confidence: got True, takes a num"),
        ({"on_failure": "skip"}, ValueError, "on_failure: .* 'raise', 'lowest'"),
        ({"score": "logit"}, ValueError, "score: .* 'softmax', 'identity'"),
        ({"forward_func": None}, TypeError, "forward_func: got NoneType, takes a call"),
        ({"inputs": IMAGES.int()}, TypeError, "inputs: got dtype torch.int32"),
        ({"inputs": IMAGES[0, 0]}, ValueError, r"inputs: got shape \(4, 5\)"),
        ({"inputs": IMAGES * torch.nan}, ValueError, "inputs: NaN or infinite values"),
        ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval: got 0"),
        ({"target": [0]}, ValueError, "target: got 1 entries for 2 examples"),
        ({"inputs": (IMAGES, IMAGES)}, TypeError, "inputs: got tuple"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_first_forward(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    model = Recorder(two_logits)
    arguments = {"forward_func": model, "inputs": IMAGES, "target": 0} | changes
    with pytest.raises(error, match=message):
        confidence_blur_baseline(**arguments)  # type: ignore[call-overload]
    assert model.calls == []


# --- the real model ---------------------------------------------------------

CLASSES = (1, 207, 281, 291, 340, 386, 812, 937)


@pytest.mark.real_model
def test_the_stored_kernels_are_found_for_a_batch_of_photos(
    deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    def stored(name: str) -> Tensor:
        values = [np.asarray(oracle_maps[f"{label}/{name}"]) for label in CLASSES]
        return torch.from_numpy(np.stack(values))

    images, targets, expected = stored("x"), stored("target"), stored("klen")
    assert len(set(expected.tolist())) == 3  # kernels differ within the batch
    blurred, kernels = confidence_blur_baseline(
        deit_tiny, images, target=targets, return_kernel_sizes=True
    )
    assert kernels.tolist() == expected.tolist()
    subsampled = blurred[:, :, ::16, ::16]
    torch.testing.assert_close(subsampled, stored("blurred_sub"), rtol=0, atol=1e-5)
    with torch.no_grad():
        confidence = deit_tiny(blurred).softmax(dim=1)[range(8), targets]
    wanted = stored("blur_prob").to(confidence.dtype)
    torch.testing.assert_close(confidence, wanted, rtol=1e-3, atol=1e-7)


def test_integer_inputs_refuse_baselines_they_cannot_hold() -> None:
    inputs = (torch.zeros(1, 2, dtype=torch.int64),)
    assert format_baselines(inputs, 2.0)[0].tolist() == [[2]]
    with pytest.raises(ValueError, match=r"baselines: .* torch\.int64 cannot hold"):
        format_baselines(inputs, 0.5)


def test_a_model_that_normalises_in_place_does_not_change_the_blurred_images() -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(3)) + 1

    def in_place(rows: Tensor) -> Tensor:
        return rows.sub_(0.5).mean(dim=(1, 2, 3))

    before = images.clone()
    blurred = confidence_blur_baseline(
        in_place, images, kernel_sizes=[3], max_confidence=1.0, on_failure="lowest"
    )
    assert torch.equal(images, before)
    torch.testing.assert_close(blurred, blur_baseline(images, 3), rtol=0, atol=0)
