"""The table of ``captum-mda compare``, and the captions of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from captum_mda._cli.table import (
    class_cell,
    HEADINGS,
    is_weak,
    model_line,
    probability_heading,
    SCORES,
    set_in_columns,
    weak_note,
)

_WORDS = ("image", "class", "method")


@dataclass(frozen=True)
class ComparisonRow:
    """A method's line of an image; what an error has kept from being known is None.

    Args:
        image (str): Where the image comes from.
        name (str): What its files are called, without their endings.
        model (str): The model's name.
        weights (str): The name of the file of its weights, "pretrained", or "random".
        class_index (int): The explained class.
        class_name (str): Its name.
        probability (float): Its score, which is a probability but under "identity".
        score (str): What was made of the model's outputs, "softmax" for example.
        kernel (int): Side of the blur of the insertion baseline, in pixels.
        max_confidence (float): The probability that the blur was to bring it down to.
        insertion_baseline_probability (float): What the blurred image scores.
        deletion_baseline_probability (float): What the deletion baseline scores.
        method (str): The method; None where the image itself is the error's cause.
        ordering (str): MDA's search, which "auto" has chosen; None for other methods.
        seconds (float): How long its map took, without the scores.
        insertion, deletion, insertion_deletion, mas_insertion, mas_deletion,
            mas_insertion_deletion (float): The scores.
        error (str): Why there are none.
        facts (mapping): What the results were made with, each a column of the CSV.
    """

    image: str
    name: str
    model: str | None = None
    weights: str | None = None
    class_index: int | None = None
    class_name: str | None = None
    probability: float | None = None
    score: str | None = None
    kernel: int | None = None
    max_confidence: float | None = None
    insertion_baseline_probability: float | None = None
    deletion_baseline_probability: float | None = None
    method: str | None = None
    ordering: str | None = None
    seconds: float | None = None
    insertion: float | None = None
    deletion: float | None = None
    insertion_deletion: float | None = None
    mas_insertion: float | None = None
    mas_deletion: float | None = None
    mas_insertion_deletion: float | None = None
    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def format_comparison(rows: Sequence[ComparisonRow]) -> str:
    """Set rows in columns.

    Args:
        rows (sequence of ComparisonRow): One for each image and method. Images whose
            blur has left too high a probability get a mark and a footnote. Without
            scores in any, they have no columns.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> row = ComparisonRow(
        ...     "a/dog.png",
        ...     "dog",
        ...     class_index=3,
        ...     class_name="collie",
        ...     method="lime",
        ...     error="no samples",
        ... )
        >>> print(format_comparison([row]))
        image  class     method  prob.  seconds  ...
        ----------------------------------------...
        dog    3 collie  lime    error: no samples
    """
    scored = any(row.insertion is not None for row in rows)
    scored = scored or all(row.error is not None for row in rows)
    header = (
        *_WORDS,
        probability_heading(rows),
        "seconds",
        *(HEADINGS if scored else ()),
    )
    text = set_in_columns(header, [_cells(row) for row in rows], len(_WORDS))
    text += model_line(rows)
    if any(_is_marked(row) for row in rows):
        text.append(weak_note(rows))
    return "\n".join(text)


def caption(row: ComparisonRow) -> str:
    """Write a method's scores as they stand below its map, or its time without them.

    Example::

        >>> scores = {"insertion": 0.75, "deletion": 0.5, "insertion_deletion": 0.25}
        >>> mas = {f"mas_{name}": value / 2 for name, value in scores.items()}
        >>> print(caption(ComparisonRow("dog.png", "dog", **scores, **mas)))
        Ins 0.750, Del 0.500, Δ 0.250
        MAS 0.375, 0.250, Δ 0.125
    """
    ordering = [] if row.ordering is None else [f"ordering {row.ordering}"]
    if row.insertion is None:
        return "\n".join([f"{row.seconds:.1f} s", *ordering])
    insertion, deletion, difference, *mas = (
        f"{getattr(row, name):.3f}".replace("-", "\N{MINUS SIGN}") for name in SCORES
    )
    lines = (
        f"Ins {insertion}, Del {deletion}, Δ {difference}",
        f"MAS {mas[0]}, {mas[1]}, Δ {mas[2]}",
        *ordering,
    )
    return "\n".join(lines)


def _is_marked(row: ComparisonRow) -> bool:
    return row.method is not None and is_weak(
        row.insertion_baseline_probability, row.max_confidence
    )


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    name = f"{row.name}*" if _is_marked(row) else row.name
    if row.error is not None:
        known = () if row.method is None else (class_cell(row), row.method)
        return name, *known, f"error: {row.error}"
    scores = () if row.insertion is None else SCORES
    return (
        name,
        class_cell(row),
        f"{row.method}",
        "" if row.probability is None else f"{row.probability:.4f}",
        f"{row.seconds:.1f}",
        *(f"{getattr(row, score):.4f}" for score in scores),
    )
