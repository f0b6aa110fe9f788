"""What results were made with, as tables, figures and files say it."""

from __future__ import annotations

from typing import Any

import timm
import torch

from captum_mda.evaluate._file_names import showable
from captum_mda.evaluate._rows import model_words, Row
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.images import ImageSource
from captum_mda.evaluate.models import Classifier

_MAX_NAME = 60  # characters of a file's name, or a class's, in a figure's title

_COLOURS = {"mean": "the data's mean colour", "black": "black"}


def common_facts(classifier: Classifier, deletion_baseline: str) -> dict[str, Any]:
    """Collect what all images and methods of a run share, by columns' names."""
    from captum_mda import __version__

    return {
        "deletion_baseline": deletion_baseline,
        "patch_size": _by(classifier.patch_size),
        "image_size": _by(classifier.size),
        "device": classifier.device.type,
        "captum_mda_version": __version__,
        "torch_version": str(torch.__version__),
        "timm_version": str(timm.__version__),
    }


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]}" if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def figure_title(case: Case, name: str) -> str:
    """Write what stands over a case's figure.

    Args:
        case (Case): The image with its target.
        name (str): What the image is called.
    """
    what = "score" if case.classifier.score == "identity" else "probability"
    class_name = case.classifier.class_name(case.target) or "class"
    title = (
        f"{_cut(name)}: {_cut(class_name)} ({case.target}), {what} "
        f"{case.probability:.3f}"
    )
    return showable(title).replace("$", r"\$")  # a name is no formula


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"


def figure_caption(
    case: Case, source: ImageSource, row: Row, method: str | None = None
) -> str:
    """Write what stands at the foot of a figure.

    Args:
        case (Case): The image with its target and baselines.
        source (ImageSource): Where the image is from.
        row (Row): The image's line, with its baselines.
        method (str, optional): What made all of the figure's maps. None: several.
            Default: None
    """
    model = model_words(row)
    parts = [model[0].upper() + model[1:]]
    if method is not None:
        parts.append(method)
    if row.kernel is not None:
        parts.append(
            f"insertion starts from a blur of {row.kernel} x {row.kernel} pixels, "
            f"deletion ends in {_COLOURS[case.deletion_baseline]}"
        )
    parts.append(_crop(case.classifier, source))
    return "; ".join(parts) + "."


def _crop(classifier: Classifier, source: ImageSource) -> str:
    height, width = classifier.size
    if source.is_sample:
        return f"a sample of {width} x {height} pixels, whole"
    steps = getattr(classifier.transform, "transforms", ())
    crops = any("CenterCrop" in type(step).__name__ for step in steps)
    how = "resized, and its centre cropped," if crops else "resized"
    return f"the image as the model sees it: {how} to {width} x {height} pixels"
