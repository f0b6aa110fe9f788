"""One image with its target and baselines, and the scores of maps for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate.models import Classifier
from captum_mda.metrics import perturbation_scores, PerturbationScores
from captum_mda.perturbation import confidence_blur_baseline, patch_feature_mask
from captum_mda.perturbation.baselines import KERNEL_SIZES
from captum_mda.visualize import denormalize

DELETION_BASELINES = ("mean", "black")
"""The colours that a deleted patch can have."""

# As in the MDA tables: one step for each of the 224 rows of pixels.
_MAX_STEPS = 224


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """One image with its target and baselines.

    The baselines cost forwards; they are computed when they are first read, and kept.

    Args:
        classifier (Classifier): The model.
        images (Tensor): (1, C, H, W), as the model takes them, on its device.
        target (int): The class.
        probability (float): Its score: under softmax and sigmoid, a probability.
        deletion_baseline (str): One of `DELETION_BASELINES`.
        batch_size (int, optional): The most images in one forward. None: as many as
            fit. Default: None
        likeliest (int, optional): The class that scores most. Default: None
        kernel_sizes (sequence of int, optional): The sides of blurs to choose from.
            None: those that suit the image's size. Default: None
    """

    classifier: Classifier
    images: Tensor
    target: int
    probability: float
    deletion_baseline: str = "mean"
    batch_size: int | None = None
    likeliest: int | None = None
    kernel_sizes: Sequence[int] | None = None

    def in_colours(self, images: Tensor) -> Tensor:
        """Bring the image, or a baseline, to colours: (3, H, W) in [0, 1]."""
        mean, std = self.classifier.mean, self.classifier.std
        whole = images.expand_as(self.images)[0]
        return denormalize(whole, mean, std).expand(3, -1, -1)

    @property
    def mask(self) -> Tensor:
        """The patches, as Captum's feature mask: int64 (1, 1, H, W)."""
        return patch_feature_mask(self.images, self.classifier.patch_size)

    @cached_property
    def deleted(self) -> Tensor:
        """The mean colour, which is 0 in normalised space, or black: (1, C, 1, 1)."""
        channels = self.images.shape[1]
        colour = self.images.new_zeros(1, channels, 1, 1)
        if self.deletion_baseline == "black":
            mean, std = self.classifier.mean, self.classifier.std
            colour -= (colour.new_tensor(mean) / colour.new_tensor(std)).view(
                1, channels, 1, 1
            )
        return colour

    @property
    def blurred(self) -> Tensor:
        """The blurred image, (1, C, H, W), which insertion starts from."""
        return self._blur[0]

    @property
    def kernel(self) -> int:
        """The side of the blur in pixels."""
        return self._blur[1]

    @cached_property
    def _blur(self) -> tuple[Tensor, int]:
        """Blur until the class is gone; where it never is, as well as can be."""
        sizes = self.kernel_sizes
        if sizes is None:
            side = min(self.classifier.size)
            # The published kernels are for 224 pixels: small images get one colour.
            fits = side > KERNEL_SIZES[-1]
            sizes = KERNEL_SIZES if fits else range(3, max(side, 4), 2)
        with without_warnings("kernel_sizes: none of"):  # the tables have a mark
            blurred, kernels = confidence_blur_baseline(
                self.classifier.model,
                self.images,
                self.target,
                kernel_sizes=sizes,
                max_confidence=self.classifier.max_confidence,
                score=self.classifier.score,
                on_failure="lowest",
                perturbations_per_eval=self.batch_size,
                return_kernel_sizes=True,
            )
        return blurred, int(kernels[0])

    @cached_property
    def baseline_probabilities(self) -> tuple[float, float]:
        """The scores of the blurred image and of the deletion baseline."""
        deleted = self.deleted.expand_as(self.images)
        blurred, deleted = (
            self.classifier.scores(images)[0, self.target]
            for images in (self.blurred, deleted)
        )
        return float(blurred), float(deleted)

    def require_response(self) -> None:
        """Raise a ValueError if the image scores no more than a baseline."""
        if not self.probability > max(self.baseline_probabilities):  # nor if it is NaN
            raise too_low(self, *self.baseline_probabilities)

    def scores(
        self, attributions: Tensor | tuple[Tensor, ...], show_progress: bool = False
    ) -> PerturbationScores:
        """Score a map (1, 1 or C, H, W) by both sweeps."""
        return perturbation_scores(
            self.classifier.model,
            self.images,
            attributions,
            insertion_baselines=self.blurred,
            deletion_baselines=self.deleted,
            target=self.target,
            n_steps=min(_MAX_STEPS, self.images.shape[-2]),
            max_examples_per_batch=self.batch_size,
            show_progress=show_progress,
            score=self.classifier.score,
        )


def make_case(
    classifier: Classifier,
    image: Tensor,
    target: int | None = None,
    *,
    deletion_baseline: str = "mean",
    batch_size: int | None = None,
    kernel_sizes: Sequence[int] | None = None,
) -> Case:
    """Run the model on an image, and find the class to explain.

    Args:
        classifier (Classifier): The model.
        image (Tensor): (C, H, W), as the model takes it.
        target (int, optional): The class. None: the likeliest. Default: None
        deletion_baseline (str, optional): One of `DELETION_BASELINES`. Default: "mean"
        batch_size (int, optional): The most images in one forward. None: as many as
            fit. Default: None
        kernel_sizes (sequence of int, optional): The sides of blurs to choose from.
            None: those that suit the image's size. Default: None

    Returns:
        *Case*: the image with its target; baselines are computed when they are read.

    Raises:
        ValueError: The model returns NaN or infinite values, or has no such class.

    Example::

        >>> from captum_mda import demo
        >>> from captum_mda.evaluate.models import load_classifier
        >>> classifier = load_classifier("demo", device="cpu")
        >>> case = make_case(classifier, demo.make_samples(1, seed=2).images[0])
        >>> case.images.shape, case.target == case.likeliest
        (torch.Size([1, 3, 64, 64]), True)
    """
    images = image[None].to(classifier.device)
    scores = classifier.scores(images)[0]  # (classes,)
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("the model's output for this image is NaN or infinite")
    likeliest = int(scores.argmax())
    if target is None:
        target = likeliest
    elif not 0 <= target < len(scores):
        raise ArgumentError(
            f"{{target}}: got {target}, takes a class from 0 to {len(scores) - 1}"
        )
    return Case(
        classifier=classifier,
        images=images,
        target=target,
        probability=float(scores[target]),
        deletion_baseline=deletion_baseline,
        batch_size=batch_size,
        likeliest=likeliest,
        kernel_sizes=kernel_sizes,
    )


def too_low(case: Case, blurred: float, deleted: float) -> ArgumentError:
    """Make the error of a class that scores no more than a baseline.

    Args:
        case (Case): The image.
        blurred (float): The score of the blurred image.
        deleted (float): The score of the deletion baseline.
    """
    return ArgumentError(
        f"class {case.target} scores {case.probability:.4g}, which must be above "
        f"both baselines, blurred {blurred:.4g} and deleted {deleted:.4g}; "
        f"{_way_out(case, blurred, deleted)}"
    )


def _way_out(case: Case, blurred: float, deleted: float) -> str:
    """Say what to do about a score below its baselines, for the case at hand."""
    other = {"mean": "black", "black": "mean"}[case.deletion_baseline]
    if case.probability == blurred == deleted:
        way = (
            "the score does not change at all: it is saturated, or does not depend "
            "on the image"
        )
    elif case.classifier.n_classes == 1:
        way = (
            "the model has this one output, and the image lowers it: nothing in it "
            "can be inserted that speaks for it"
        )
    elif case.likeliest is not None and case.likeliest != case.target:
        name = case.classifier.class_name(case.likeliest)
        called = f" ({name})" if name else ""
        way = f"explain its likeliest class, {{target={case.likeliest}}}{called}"
    elif case.classifier.score == "sigmoid":
        way = "no class of it scores more; explain an image that shows one"
    else:
        way = "explain another {target}"
    # Where the blur alone is below, the colour of deleted patches is to blame.
    if blurred < case.probability <= deleted:
        way += f", or pass {{deletion_baseline={other}}}"
    return way


@contextmanager
def without_warnings(message: str) -> Iterator[None]:
    """Hide a warning whose content the user is told in another way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
