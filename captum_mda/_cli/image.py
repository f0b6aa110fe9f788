"""One image of ``captum-mda explain``: the search, the scores and the files."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from captum_mda._cli.models import Classifier
from captum_mda._cli.seeds import Seed
from captum_mda._cli.table import Row, score_fields
from captum_mda.attr import MDAExplanation, MetricDrivenAttribution
from captum_mda.magnitude import MAGNITUDE_RULES, MagnitudeRule, SOLVERS
from captum_mda.metrics import perturbation_scores, PerturbationScores
from captum_mda.perturbation import confidence_blur_baseline, patch_feature_mask
from captum_mda.perturbation.baselines import KERNEL_SIZES
from captum_mda.perturbation.inputs import (
    require_choice,
    require_in_unit_interval,
    require_positive_integer,
)
from captum_mda.visualize import denormalize, explanation_figure, save_figure

# As in the MDA tables: one step for each of the 224 rows of pixels.
_MAX_STEPS = 224

_MAX_NAME = 60  # characters of a file's name in a figure's title


@dataclass(frozen=True)
class Settings:
    """How every image is explained; see ``captum-mda explain --help``."""

    target: int | None
    tau: float
    gamma: float
    kappa: float
    solver: str
    magnitude: str
    deletion_baseline: str
    batch_size: int | None
    show_progress: bool
    out: Path

    def check(self) -> None:
        """Find what is wrong with the settings before any work.

        Raises:
            ValueError: One of them is out of its range.
        """
        for name in ("tau", "gamma", "kappa"):
            require_in_unit_interval(f"--{name}", getattr(self, name))
        require_choice("--solver", self.solver, tuple(SOLVERS))
        require_choice("--magnitude", self.magnitude, MAGNITUDE_RULES)
        require_choice("--deletion-baseline", self.deletion_baseline, ("mean", "black"))
        if self.batch_size is not None:
            require_positive_integer("--batch-size", self.batch_size)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out: {self.out} is a file, takes a folder")


@dataclass(frozen=True)
class Picture:
    """Where a picture is from, what its files are called, and how to get it."""

    origin: str
    name: str
    read: Callable[[], Tensor]  # (3, H, W), as the model takes it

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Name the figure and the explanation that are written."""
        return folder / f"{self.name}.png", folder / f"{self.name}.safetensors"


@dataclass(frozen=True)
class ImageJob:
    """A picture with all that is needed to explain it.

    Args:
        settings (Settings): What was asked for.
        classifier (Classifier): The model.
        picture (Picture): What to explain.
        seed (Seed): What the candidates are chosen by.
    """

    settings: Settings
    classifier: Classifier
    picture: Picture
    seed: Seed

    def run(self) -> Row:
        """Explain the picture, score the map and write the files.

        Returns:
            *Row*: the figures, or what kept them from being computed.
        """
        row = Row(self.picture.origin, self.picture.name)
        try:
            images = self.picture.read()[None].to(self.classifier.device)
            with torch.no_grad():
                probabilities = self.classifier.model(images).softmax(dim=1)[0]
            target = self.settings.target
            if target is None:
                target = int(probabilities.argmax())
            row = replace(
                row,
                class_index=target,
                class_name=self.classifier.class_name(target),
                probability=float(probabilities[target]),
                seed=self.seed.name,
            )
            return self._explained(row, images, target)
        except ValueError as error:
            # One image's failure shall not cost the results of the others.
            return replace(row, error=" ".join(str(error).split()))

    def _explained(self, row: Row, images: Tensor, target: int) -> Row:
        blurred, kernel = self._blurred(images, target)
        deleted = self._deletion_baseline(images)
        seed = self.seed.compute(images, target)
        start = time.perf_counter()
        explanation = self._explanation(images, target, blurred, deleted, seed)
        row = replace(
            row,
            forwards=explanation.n_forwards,
            seconds=time.perf_counter() - start,
            kernel=kernel,
            max_confidence=self.classifier.max_confidence,
            insertion_baseline_probability=float(explanation.insertion_responses[0, 0]),
            deletion_baseline_probability=float(explanation.deletion_responses[0, -1]),
        )
        if bool(explanation.degenerate[0]):
            return replace(row, error=_degenerate(row))
        scores = self._scores(explanation, images, target, blurred, deleted)
        self._write(row, images, explanation, scores)
        return replace(row, **score_fields(scores))

    def _blurred(self, images: Tensor, target: int) -> tuple[Tensor, int]:
        """Blur until the class is gone; where it never is, as well as can be."""
        side = min(self.classifier.size)
        # The published kernels are for 224 pixels and make small images all one colour.
        fits = side > KERNEL_SIZES[-1]
        with _without_warnings("kernel_sizes: none of"):
            blurred, kernels = confidence_blur_baseline(
                self.classifier.model,
                images,
                target,
                kernel_sizes=KERNEL_SIZES if fits else range(3, max(side, 4), 2),
                max_confidence=self.classifier.max_confidence,
                on_failure="lowest",
                perturbations_per_eval=self.settings.batch_size,
                return_kernel_sizes=True,
            )
        return blurred, int(kernels[0])

    def _deletion_baseline(self, images: Tensor) -> Tensor:
        """The mean colour, which is 0 in normalised space, or black: (1, 3, 1, 1)."""
        colour = images.new_zeros(1, 3, 1, 1)
        if self.settings.deletion_baseline == "black":
            mean, std = self.classifier.mean, self.classifier.std
            colour -= (colour.new_tensor(mean) / colour.new_tensor(std)).view(
                1, 3, 1, 1
            )
        return colour

    def _explanation(
        self,
        images: Tensor,
        target: int,
        blurred: Tensor,
        deleted: Tensor,
        seed: Tensor | None,
    ) -> MDAExplanation:
        mda = MetricDrivenAttribution(
            self.classifier.model,
            solver=self.settings.solver,
            magnitude=cast(MagnitudeRule, self.settings.magnitude),
            on_degenerate="zero",
        )
        with _without_warnings("inputs: example"):
            return mda.explain(
                images,
                baselines=deleted,
                target=target,
                feature_mask=patch_feature_mask(images, self.classifier.patch_size),
                insertion_baselines=blurred,
                seed_attributions=seed,
                tau=self.settings.tau,
                perturbations_per_eval=self.settings.batch_size,
                show_progress=self.settings.show_progress,
            )

    def _scores(
        self,
        explanation: MDAExplanation,
        images: Tensor,
        target: int,
        blurred: Tensor,
        deleted: Tensor,
    ) -> PerturbationScores:
        return perturbation_scores(
            self.classifier.model,
            images,
            explanation.attributions(self.settings.gamma, self.settings.kappa),
            insertion_baselines=blurred,
            deletion_baselines=deleted,
            target=target,
            n_steps=min(_MAX_STEPS, images.shape[-2]),
            max_examples_per_batch=self.settings.batch_size,
            show_progress=self.settings.show_progress,
        )

    def _write(
        self,
        row: Row,
        images: Tensor,
        explanation: MDAExplanation,
        scores: PerturbationScores,
    ) -> None:
        gamma = self.settings.gamma
        figure_path, explanation_path = self.picture.files(self.settings.out)
        figure = explanation_figure(
            denormalize(images[0], self.classifier.mean, self.classifier.std),
            explanation,
            title=_title(row),
            # The map that is scored is among those shown.
            gammas=(0.0, gamma if 0.0 < gamma < 1.0 else 0.5, 1.0),
            kappa=self.settings.kappa,
            scores=scores,
        )
        save_figure(figure, figure_path)
        explanation.save(explanation_path)


def _title(row: Row) -> str:
    name = row.name if len(row.name) <= _MAX_NAME else f"{row.name[:_MAX_NAME]}…"
    title = (
        f"{name}: {row.class_name or 'class'} ({row.class_index}), "
        f"probability {row.probability:.3f}"
    )
    return title.replace("$", r"\$")  # a file's name is no formula


def _degenerate(row: Row) -> str:
    return (
        f"class {row.class_index} scores {row.probability:.4g}, which must be above "
        f"both baselines, blurred {row.insertion_baseline_probability:.4g} and deleted "
        f"{row.deletion_baseline_probability:.4g}; explain another --target"
    )


@contextmanager
def _without_warnings(message: str) -> Iterator[None]:
    """Hide a warning whose content the table tells."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
