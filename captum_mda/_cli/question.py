"""One image and what is asked about it: its class, its baselines and its scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_mda._cli.models import Classifier
from captum_mda.metrics import perturbation_scores, PerturbationScores
from captum_mda.perturbation import confidence_blur_baseline, patch_feature_mask
from captum_mda.perturbation.baselines import KERNEL_SIZES

DELETION_BASELINES = ("mean", "black")
"""What ``--deletion-baseline`` takes."""

# As in the MDA tables: one step for each of the 224 rows of pixels.
_MAX_STEPS = 224

_MAX_NAME = 60  # characters of a file's name in a figure's title


@dataclass(frozen=True, eq=False)
class Question:
    """One image and what is asked about it.

    The baselines cost forwards; they are made when they are first asked for.

    Args:
        classifier (Classifier): The model.
        images (Tensor): (1, C, H, W), as the model takes them, on its device.
        target (int): The class.
        probability (float): The model's softmax probability of it.
        deletion_baseline (str): One of `DELETION_BASELINES`.
        batch_size (int, optional): The most images in one forward.
    """

    classifier: Classifier
    images: Tensor
    target: int
    probability: float
    deletion_baseline: str
    batch_size: int | None

    @property
    def mask(self) -> Tensor:
        """The patches, as Captum's feature mask."""
        return patch_feature_mask(self.images, self.classifier.patch_size)

    @cached_property
    def deleted(self) -> Tensor:
        """The mean colour, which is 0 in normalised space, or black: (1, C, 1, 1)."""
        colour = self.images.new_zeros(1, 3, 1, 1)
        if self.deletion_baseline == "black":
            mean, std = self.classifier.mean, self.classifier.std
            colour -= (colour.new_tensor(mean) / colour.new_tensor(std)).view(
                1, 3, 1, 1
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
        side = min(self.classifier.size)
        # The published kernels are for 224 pixels and make small images all one colour.
        fits = side > KERNEL_SIZES[-1]
        with without_warnings("kernel_sizes: none of"):  # the tables have a mark
            blurred, kernels = confidence_blur_baseline(
                self.classifier.model,
                self.images,
                self.target,
                kernel_sizes=KERNEL_SIZES if fits else range(3, max(side, 4), 2),
                max_confidence=self.classifier.max_confidence,
                on_failure="lowest",
                perturbations_per_eval=self.batch_size,
                return_kernel_sizes=True,
            )
        return blurred, int(kernels[0])

    @cached_property
    def baseline_probabilities(self) -> tuple[float, float]:
        """What the model says of the blurred image and of the deletion baseline."""
        deleted = self.deleted.expand_as(self.images)
        blurred, deleted = (
            _probabilities(self.classifier, images)[self.target]
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
            f"both baselines, blurred {blurred:.4g} and deleted {deleted:.4g}; explain "
            "another --target"
        )

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
        )

    def title(self, name: str) -> str:
        """Write what stands over the image's figure.

        Args:
            name (str): What the image is called.
        """
        shown = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"
        title = (
            f"{shown}: {self.classifier.class_name(self.target) or 'class'} "
            f"({self.target}), probability {self.probability:.3f}"
        )
        return title.replace("$", r"\$")  # a file's name is no formula


def ask(
    classifier: Classifier,
    image: Tensor,
    target: int | None,
    deletion_baseline: str,
    batch_size: int | None,
) -> Question:
    """Find the class to explain.

    Args:
        classifier (Classifier): The model.
        image (Tensor): (C, H, W), as the model takes it.
        target (int, optional): The class. None: the likeliest.
        deletion_baseline (str): One of `DELETION_BASELINES`.
        batch_size (int, optional): The most images in one forward.
    """
    images = image[None].to(classifier.device)
    probabilities = _probabilities(classifier, images)
    if target is None:
        target = int(probabilities.argmax())
    probability = float(probabilities[target])
    return Question(
        classifier, images, target, probability, deletion_baseline, batch_size
    )


def in_one_line(error: Exception) -> str:
    """Write an error as it fits into a table."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def without_warnings(message: str) -> Iterator[None]:
    """Hide a warning whose content the user is told in another way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


@torch.no_grad()
def _probabilities(classifier: Classifier, images: Tensor) -> Tensor:
    """Ask the model for the classes' probabilities of one image, (classes,)."""
    logits: Tensor = classifier.model(images)
    return logits.softmax(dim=1)[0]
