"""One image and what is asked about it: its class, its baselines and its scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_mda._cli.file_names import showable
from captum_mda._cli.models import Classifier
from captum_mda.metrics import perturbation_scores, PerturbationScores
from captum_mda.perturbation import confidence_blur_baseline, patch_feature_mask
from captum_mda.perturbation.baselines import KERNEL_SIZES
from captum_mda.visualize import denormalize

DELETION_BASELINES = ("mean", "black")
"""What ``--deletion-baseline`` takes."""

FAILURES = (ImportError, RuntimeError, TypeError, ValueError)
"""What an image, or a method, may fail with without costing the others' results."""

# As in the MDA tables: one step for each of the 224 rows of pixels.
_MAX_STEPS = 224

_MAX_NAME = 60  # characters of a file's name, or a class's, in a figure's title


@dataclass(frozen=True, eq=False)
class Question:
    """One image and what is asked about it.

    The baselines cost forwards; they are made when they are first asked for.

    Args:
        classifier (Classifier): The model.
        images (Tensor): (1, C, H, W), as the model takes them, on its device.
        target (int): The class.
        probability (float): Its score: under softmax and sigmoid, a probability.
        deletion_baseline (str): One of `DELETION_BASELINES`.
        batch_size (int, optional): The most images in one forward.
        likeliest (int, optional): The class that scores most. Default: None
        kernel_sizes (sequence of int, optional): The sides of blurs to choose from.
            None: those that suit the image's size. Default: None
    """

    classifier: Classifier
    images: Tensor
    target: int
    probability: float
    deletion_baseline: str
    batch_size: int | None
    likeliest: int | None = None
    kernel_sizes: Sequence[int] | None = None

    @property
    def score_name(self) -> str:
        """What is made of the model's outputs, as ``--score`` names it."""
        return str(self.classifier.score)

    @property
    def photo(self) -> Tensor:
        """The image in colours, (3, H, W) in [0, 1]."""
        return self.in_colours(self.images)

    def in_colours(self, images: Tensor) -> Tensor:
        """Bring the image, or what replaces it, to colours: (3, H, W) in [0, 1]."""
        mean, std = self.classifier.mean, self.classifier.std
        whole = images.expand_as(self.images)[0]
        return denormalize(whole, mean, std).expand(3, -1, -1)

    @property
    def mask(self) -> Tensor:
        """The patches, as Captum's feature mask."""
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
        """What the blurred image and the deletion baseline score."""
        deleted = self.deleted.expand_as(self.images)
        blurred, deleted = (
            self.classifier.scores(images)[0, self.target]
            for images in (self.blurred, deleted)
        )
        return float(blurred), float(deleted)

    def require_response(self) -> None:
        """Raise a ValueError if the image scores no more than a baseline."""
        if not self.probability > max(self.baseline_probabilities):  # nor if it is NaN
            raise ValueError(self.too_low(*self.baseline_probabilities))

    def too_low(self, blurred: float, deleted: float) -> str:
        """Say why nothing can be scored.

        Args:
            blurred (float): What the blurred image scores.
            deleted (float): What the deletion baseline scores.
        """
        return (
            f"class {self.target} scores {self.probability:.4g}, which must be above "
            f"both baselines, blurred {blurred:.4g} and deleted {deleted:.4g}; "
            f"{self._way_out(blurred, deleted)}"
        )

    def _way_out(self, blurred: float, deleted: float) -> str:
        """Say what to do about a score below its baselines, for the case at hand."""
        other = {"mean": "black", "black": "mean"}[self.deletion_baseline]
        if self.probability == blurred == deleted:
            way = (
                "the score does not change at all: it is saturated, or does not depend "
                "on the image"
            )
        elif self.classifier.n_classes == 1:
            way = (
                "the model has this one output, and the image lowers it: nothing in it "
                "can be inserted that speaks for it"
            )
        elif self.likeliest is not None and self.likeliest != self.target:
            name = self.classifier.class_name(self.likeliest)
            called = f" ({name})" if name else ""
            way = f"explain its likeliest class, --target {self.likeliest}{called}"
        elif self.classifier.score == "sigmoid":
            way = "no class of it scores more; explain an image that shows one"
        else:
            way = "explain another --target"
        # Where the blur alone is below, the colour of deleted patches is to blame.
        if blurred < self.probability <= deleted:
            way += f", or pass --deletion-baseline {other}"
        return way

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

    def title(self, name: str) -> str:
        """Write what stands over the image's figure.

        Args:
            name (str): What the image is called.
        """
        what = "score" if self.classifier.score == "identity" else "probability"
        class_name = self.classifier.class_name(self.target) or "class"
        title = (
            f"{_shortened(name)}: {_shortened(class_name)} "
            f"({self.target}), {what} {self.probability:.3f}"
        )
        return showable(title).replace("$", r"\$")  # a name is no formula


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"


def ask(
    classifier: Classifier,
    image: Tensor,
    target: int | None,
    deletion_baseline: str,
    batch_size: int | None,
    kernel_sizes: Sequence[int] | None = None,
) -> Question:
    """Find the class to explain.

    Args:
        classifier (Classifier): The model.
        image (Tensor): (C, H, W), as the model takes it.
        target (int, optional): The class. None: the likeliest.
        deletion_baseline (str): One of `DELETION_BASELINES`.
        batch_size (int, optional): The most images in one forward.
        kernel_sizes (sequence of int, optional): The sides of blurs to choose from.
            Default: None, those that suit the image's size

    Raises:
        ValueError: The model returns NaN or infinite values.
    """
    images = image[None].to(classifier.device)
    scores = classifier.scores(images)[0]  # (classes,)
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("the model's output for this image is NaN or infinite")
    likeliest = int(scores.argmax())
    if target is None:
        target = likeliest
    return Question(
        classifier,
        images,
        target,
        float(scores[target]),
        deletion_baseline,
        batch_size,
        likeliest,
        kernel_sizes,
    )


def in_one_line(error: Exception) -> str:
    """Write an error as it fits into a table."""
    return showable(" ".join(str(error).split())) or type(error).__name__


@contextmanager
def without_warnings(message: str) -> Iterator[None]:
    """Hide a warning whose content the user is told in another way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
