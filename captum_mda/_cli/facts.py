"""What results were made with, as tables, figures and files say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch

from captum_mda._cli.images import left_out
from captum_mda._cli.models import Classifier, DEMO
from captum_mda._cli.preparation import CommonOptions
from captum_mda._cli.table import model_words

Facts = Mapping[str, Any]
"""Names of columns, and their values."""


def common_facts(options: CommonOptions, classifier: Classifier) -> dict[str, Any]:
    """Collect what all images and methods of a command share."""
    from captum_mda import __version__

    return {
        "deletion_baseline": options.deletion_baseline,
        "patch_size": _by(classifier.patch_size),
        "image_size": _by(classifier.size),
        "device": classifier.device.type,
        "captum_mda_version": __version__,
        "torch_version": str(torch.__version__),
        "timm_version": str(timm.__version__),
    }


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]}" if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def figure_caption(
    options: CommonOptions, classifier: Classifier, row: Any, method: str | None
) -> str:
    """Write what stands at the foot of a figure.

    Args:
        options (CommonOptions): What was asked for.
        classifier (Classifier): The model.
        row (Row or ComparisonRow): The image's line, with its baselines.
        method (str, optional): What made all of the figure's maps. None: several.
    """
    model = model_words(row.model, row.weights)
    parts = [model[0].upper() + model[1:]]
    if method is not None:
        parts.append(method)
    if row.kernel is not None:
        parts.append(
            f"insertion starts from a blur of {row.kernel} x {row.kernel} pixels, "
            f"deletion ends in {COLOURS[options.deletion_baseline]}"
        )
    parts.append(_crop(options, classifier))
    return "; ".join(parts) + "."


COLOURS = {"mean": "the data's mean colour", "black": "black"}
"""What ``--deletion-baseline`` stands for, in words."""


def _crop(options: CommonOptions, classifier: Classifier) -> str:
    height, width = classifier.size
    if not options.images:
        return f"a sample of {width} x {height} pixels, whole"
    steps = getattr(classifier.transform, "transforms", ())
    crops = any("CenterCrop" in type(step).__name__ for step in steps)
    how = "resized, and its centre cropped," if crops else "resized"
    return f"the image as the model sees it: {how} to {width} x {height} pixels"


def notes_on(options: CommonOptions) -> list[str]:
    """Say what a user should know of the model and the images, a line each."""
    notes = left_out(options.images)
    if options.model.name == DEMO and options.images:
        from captum_mda import demo

        notes.append(
            "note: the demo model knows only the shapes of its samples "
            f"({', '.join(demo.CLASS_NAMES)}) and calls any photo one of them; name a "
            "model of photos with --model, such as deit_tiny_patch16_224"
        )
    return notes
