"""What the tables of scores share: columns, coarse metrics, names, how cells look."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn, Tensor

from captum_mda import metrics
from captum_mda.evaluate import Metric
from captum_mda.evaluate.tables import Column, Table
from captum_mda.statistics.table import DOWN, UP

MODEL = "deit_tiny_patch16_224"
"""The model of the reference photos."""
PHOTOS, SAMPLES = "photos", "samples"
STEPS = {PHOTOS: 28, SAMPLES: 32}
"""The steps of a sweep in which the model's patches are the features."""

PHOTO_NAMES = {
    "1": "goldfish",
    "207": "golden retriever",
    "281": "tabby",
    "291": "baboon",
    "340": "zebra",
    "386": "African elephant",
    "812": "space shuttle",
    "937": "broccoli",
}
"""The reference photos: the class that a file shows, and the name of the one that
DeiT-Tiny predicts, for which it is explained. They are the same but for 291, a lion
that the model takes for a baboon."""

MASKED = (
    "positive_perturbation",
    "negative_perturbation",
    "mif_deletion",
    "lif_deletion",
)
OBJECTS = ("average_precision", "iou", "pointing_game")
"""Metrics of the package's table, in the order of the pages' columns."""


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the benchmarks alone, with what columns show of a `Metric`."""

    heading: str
    higher_is_better: bool
    needs: str | None = None

    @property
    def head(self) -> str:
        """The heading with an arrow towards better scores."""
        return f"{self.heading} {UP if self.higher_is_better else DOWN}"


AnyMetric: TypeAlias = Metric | OwnMetric
M = TypeVar("M", bound=AnyMetric)


def shown_for(kind: str, columns: Mapping[str, M]) -> dict[str, M]:
    """Leave out the metrics that need masks where there are none."""
    return {
        name: metric
        for name, metric in columns.items()
        if kind == SAMPLES or metric.needs != "masks"
    }


def black(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return what black is after normalisation: (1, 3, 1, 1)."""
    return -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1)


def masked_scores(
    model: nn.Module,
    images: Tensor,
    attributions: Tensor,
    masked: Tensor,
    mask: Tensor,
    target: int | Tensor,
) -> dict[str, Tensor]:
    """Score whether the class survives masks and missing tokens, each (B,).

    Args:
        model (nn.Module): A Vision Transformer.
        images (Tensor): (B, 3, H, W).
        attributions (Tensor): (B, 1 or 3, H, W).
        masked (Tensor): What masked patches are set to; broadcasts to the images.
        mask (Tensor): The patches, as Captum's feature mask.
        target (int or Tensor): The class, or that of each image.
    """
    few: dict[str, Any] = {"target": target, "on_degenerate": "nan"}
    per_patch = few | {"feature_mask": mask}
    to_masked = (model, images, attributions, masked.expand_as(images))
    dropped = (model, images, attributions)
    return {
        "positive_perturbation": metrics.positive_perturbation(*to_masked, **per_patch),
        "negative_perturbation": metrics.negative_perturbation(*to_masked, **per_patch),
        "mif_deletion": metrics.mif_deletion(*dropped, **few),
        "lif_deletion": metrics.lif_deletion(*dropped, **few),
    }


def object_scores(attributions: Tensor, objects: Tensor) -> dict[str, Tensor]:
    """Score how well maps find the objects of exact masks (B, H, W), each (B,)."""
    found = metrics.segmentation_scores(attributions, objects, on_degenerate="nan")
    return {
        "average_precision": found.average_precision,
        "iou": found.iou,
        "pointing_game": metrics.pointing_game(
            attributions, objects, on_degenerate="nan"
        ),
    }


def markdown(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write a table whose columns are all flush left."""
    flush = tuple(replace(column, align="left") for column in columns)
    return Table(columns=flush, rows=tuple(rows)).to_markdown()


def short(value: float, digits: int = 3, sign: str = "") -> str:
    """Write a number for prose, without a 0 before the point: ``.022``."""
    return re.sub(r"^([+-]?)0\.", r"\1.", format(value, f"{sign}.{digits}f"))
