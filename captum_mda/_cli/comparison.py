"""The table of ``captum-mda compare``, and the captions of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captum_mda._cli.table import (
    HEADINGS,
    is_weak,
    SCORES,
    set_in_columns,
    weak_note,
)

_WORDS = ("image", "method")


@dataclass(frozen=True)
class ComparisonRow:
    """A method's line of an image; what an error has kept from being known is None.

    Args:
        image (str): Where the image comes from.
        name (str): What its files are called, without their endings.
        class_index (int): The explained class.
        class_name (str): Its name.
        probability (float): Its score, which is a probability but under "identity".
        score (str): What was made of the model's outputs, "softmax" for example.
        kernel (int): Side of the blur of the insertion baseline, in pixels.
        max_confidence (float): The probability that the blur was to bring it down to.
        insertion_baseline_probability (float): What the blurred image scores.
        deletion_baseline_probability (float): What the deletion baseline scores.
        method (str): The method; None where the image itself is the error's cause.
        seconds (float): How long its map took, without the scores.
        insertion, deletion, insertion_deletion, mas_insertion, mas_deletion,
            mas_insertion_deletion (float): The scores.
        error (str): Why there are none.
    """

    image: str
    name: str
    class_index: int | None = None
    class_name: str | None = None
    probability: float | None = None
    score: str | None = None
    kernel: int | None = None
    max_confidence: float | None = None
    insertion_baseline_probability: float | None = None
    deletion_baseline_probability: float | None = None
    method: str | None = None
    seconds: float | None = None
    insertion: float | None = None
    deletion: float | None = None
    insertion_deletion: float | None = None
    mas_insertion: float | None = None
    mas_deletion: float | None = None
    mas_insertion_deletion: float | None = None
    error: str | None = None


def format_comparison(rows: Sequence[ComparisonRow]) -> str:
    """Set rows in columns.

    Args:
        rows (sequence of ComparisonRow): One for each image and method. Images whose
            blur has left too high a probability get a mark and a footnote.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> row = ComparisonRow("a/dog.png", "dog", method="lime", error="no samples")
        >>> print(format_comparison([row]))
        image  method  seconds  ...
        -----------------------...
        dog    lime    error: no samples
    """
    header = (*_WORDS, "seconds", *HEADINGS)
    text = set_in_columns(header, [_cells(row) for row in rows], len(_WORDS))
    if any(_is_marked(row) for row in rows):
        text.append(weak_note(rows))
    return "\n".join(text)


def caption(row: ComparisonRow) -> str:
    """Write a method's scores as they stand below its map, on two lines.

    Example::

        >>> scores = {"insertion": 0.75, "deletion": 0.5, "insertion_deletion": 0.25}
        >>> mas = {f"mas_{name}": value / 2 for name, value in scores.items()}
        >>> print(caption(ComparisonRow("dog.png", "dog", **scores, **mas)))
        Ins 0.750, Del 0.500, Δ 0.250
        MAS 0.375, 0.250, Δ 0.125
    """
    insertion, deletion, difference, *mas = (
        f"{getattr(row, name):.3f}".replace("-", "\N{MINUS SIGN}") for name in SCORES
    )
    return (
        f"Ins {insertion}, Del {deletion}, Δ {difference}\n"
        f"MAS {mas[0]}, {mas[1]}, Δ {mas[2]}"
    )


def _is_marked(row: ComparisonRow) -> bool:
    return row.method is not None and is_weak(
        row.insertion_baseline_probability, row.max_confidence
    )


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    name = f"{row.name}*" if _is_marked(row) else row.name
    if row.error is not None:
        words = (name,) if row.method is None else (name, row.method)
        return *words, f"error: {row.error}"
    return (
        name,
        f"{row.method}",
        f"{row.seconds:.1f}",
        *(f"{getattr(row, score):.4f}" for score in SCORES),
    )
