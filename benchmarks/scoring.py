"""What the tables of scores share: columns, coarse metrics, names, pages with marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda import metrics
from captum_mda._files import replacing

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

ARROWS = {True: "\N{UPWARDS ARROW}", False: "\N{DOWNWARDS ARROW}"}


@dataclass(frozen=True)
class Column:
    """A metric: its heading, whether higher is better, and where it applies."""

    heading: str
    higher_is_better: bool
    sets: tuple[str, ...] = (PHOTOS, SAMPLES)

    @property
    def head(self) -> str:
        """The heading, with the direction that is better."""
        return f"{self.heading} {ARROWS[self.higher_is_better]}"


MASKED_COLUMNS = {
    "positive_perturbation": Column("Positive", False),
    "negative_perturbation": Column("Negative", True),
    "mif_deletion": Column("MIF", False),
    "lif_deletion": Column("LIF", True),
}
OBJECT_COLUMNS = {
    "average_precision": Column("AP", True, (SAMPLES,)),
    "iou": Column("IoU", True, (SAMPLES,)),
    "pointing_game": Column("Pointing", True, (SAMPLES,)),
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


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows of cells, the header first, as a table."""
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def fill_page(page: Path, parts: Mapping[str, str]) -> None:
    """Fill in what stands between the page's marks; what is said of it stays."""
    text = page.read_text(encoding="utf-8")
    for mark, made in parts.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end {mark} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n\n{made}\n\n{end}{after}"
    with replacing(page) as beside:
        beside.write_text(text, encoding="utf-8")
