"""Measurements of the demo model on samples that it was not trained on."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.demo_training_data import blur
from captum_mda.demo import CLASS_NAMES, make_samples

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["measure_model"]

_BATCH_SIZE = 250
_BLUR_SIGMA = 10.0


@torch.no_grad()
def measure_model(model: VisionTransformer, n: int, seed: int) -> dict[str, Any]:
    """Measure a model on `make_samples(n, seed)`.

    Args:
        model: The model, in evaluation mode.
        n: The number of samples.
        seed: A seed that was not trained on.

    Returns:
        Accuracies, and mean probabilities of the true class for the samples, for the
        samples blurred beyond recognition, and for an image of zeros.
    """
    images, labels, _ = make_samples(n, seed)
    probabilities = _probabilities(model, images)  # (n, classes)
    blurred = _probabilities(model, blur(images, _BLUR_SIGMA))
    zeros = _probabilities(model, torch.zeros_like(images[:1]))
    hits = (probabilities.argmax(1) == labels).double()
    rows = torch.arange(n)
    return {
        "accuracy": round(hits.mean().item(), 4),
        "accuracy_per_class": {
            name: round(hits[labels == label].mean().item(), 4)
            for label, name in enumerate(CLASS_NAMES)
        },
        "true_class_probability": {
            "samples": round(probabilities[rows, labels].mean().item(), 4),
            f"samples_blurred_sigma_{_BLUR_SIGMA:g}": round(
                blurred[rows, labels].mean().item(), 4
            ),
            "zeros": round(zeros[0, labels].mean().item(), 4),
        },
        "highest_probability_of_zeros": round(zeros.max().item(), 4),
        "measured_samples": n,
        "measured_seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _probabilities(model: VisionTransformer, images: Tensor) -> Tensor:
    parts = [model(part).softmax(1) for part in torch.split(images, _BATCH_SIZE)]
    return torch.cat(parts).double()
