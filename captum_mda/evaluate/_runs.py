"""What runs over images share: their settings, and what may fail without stopping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_mda.evaluate._arguments import message_of, Spelling
from captum_mda.evaluate._file_names import showable
from captum_mda.evaluate._rows import Row
from captum_mda.evaluate.case import Case, make_case
from captum_mda.evaluate.images import ImageSource
from captum_mda.evaluate.models import Classifier

FAILURES = (ImportError, RuntimeError, TypeError, ValueError)
"""What an image, or a method, may fail with without costing the others' results."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What all images of a run are explained and compared with.

    Args:
        out (Path): The folder of the files that are written; it exists.
        target (int, optional): The class to explain. None: each image's likeliest.
            Default: None
        deletion_baseline (str, optional): As for `Case`. Default: "mean"
        batch_size (int, optional): The most images in one forward. None: as many as
            fit. Default: None
        show_progress (bool, optional): Whether to show progress bars. Default: False
        spelling (callable, optional): How errors write the names of arguments. None: as
            in Python. Default: None
    """

    out: Path
    target: int | None = None
    deletion_baseline: str = "mean"
    batch_size: int | None = None
    show_progress: bool = False
    spelling: Spelling | None = None

    def case(self, classifier: Classifier, image: Tensor) -> Case:
        """Run the model on an image, and find its class."""
        return make_case(
            classifier,
            image,
            self.target,
            deletion_baseline=self.deletion_baseline,
            batch_size=self.batch_size,
        )

    def error_of(self, error: Exception) -> str:
        """Write an error as it fits into a table, in one line."""
        text = " ".join(message_of(error, self.spelling).split())
        return showable(text) or type(error).__name__


def first_row(
    source: ImageSource, classifier: Classifier, facts: Mapping[str, Any]
) -> Row:
    """Make a row of what is known of an image before it is read."""
    return Row(
        image=source.origin,
        name=source.name,
        model=classifier.name,
        weights=classifier.weights,
        facts=facts,
    )


def with_case(row: Row, case: Case) -> Row:
    """Fill in what all methods share for a case."""
    return replace(
        row,
        class_index=case.target,
        class_name=case.classifier.class_name(case.target),
        probability=case.probability,
        score=str(case.classifier.score),
    )
