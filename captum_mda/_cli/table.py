"""The table of scores: as text for a terminal or a pipe, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from captum_mda._files import replacing
from captum_mda.metrics import PerturbationScores

SCORES = (
    "insertion",
    "deletion",
    "insertion_deletion",
    "mas_insertion",
    "mas_deletion",
    "mas_insertion_deletion",
)
"""The six scores, by their fields' names in `PerturbationScores`."""

_WORDS = ("image", "class", "seed")  # set to the left
_HEADINGS = ("Ins", "Del", "Ins-Del", "MAS Ins", "MAS Del", "MAS Ins-Del")
_MAX_CLASS_NAME = 28  # characters; the longest of ImageNet's have a hundred


@dataclass(frozen=True)
class Row:
    """One image's line; what an error has kept from being known is None.

    Args:
        image (str): Where the image comes from.
        name (str): What its files are called, without their endings.
        class_index (int): The explained class.
        class_name (str): Its name.
        probability (float): The model's softmax probability of it.
        seed (str): What the search's candidates were chosen by.
        forwards (int): How many inputs the model has seen in the search.
        seconds (float): How long the search took.
        kernel (int): Side of the blur of the insertion baseline, in pixels.
        max_confidence (float): The probability that the blur was to bring it down to.
        insertion_baseline_probability (float): What the blurred image scores.
        deletion_baseline_probability (float): What the deletion baseline scores.
        insertion, deletion, insertion_deletion, mas_insertion, mas_deletion,
            mas_insertion_deletion (float): The scores.
        error (str): Why there are none.
    """

    image: str
    name: str
    class_index: int | None = None
    class_name: str | None = None
    probability: float | None = None
    seed: str | None = None
    forwards: int | None = None
    seconds: float | None = None
    kernel: int | None = None
    max_confidence: float | None = None
    insertion_baseline_probability: float | None = None
    deletion_baseline_probability: float | None = None
    insertion: float | None = None
    deletion: float | None = None
    insertion_deletion: float | None = None
    mas_insertion: float | None = None
    mas_deletion: float | None = None
    mas_insertion_deletion: float | None = None
    error: str | None = None


def score_fields(scores: PerturbationScores) -> dict[str, Any]:
    """Take the six numbers of the first example, by the names of a row's fields."""
    return {name: float(getattr(scores, name)[0]) for name in SCORES}


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows with all their digits; the file is whole, or not there."""
    names = [field.name for field in fields(Row)]
    with replacing(path) as beside:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([getattr(row, name) for name in names] for row in rows)


def format_table(rows: Sequence[Row]) -> str:
    """Set rows in columns as wide as they need, whatever the terminal's width.

    Args:
        rows (sequence of Row): One for each image. Kernels whose blur has left too high
            a probability get a mark and a footnote.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> print(format_table([Row("a/dog.png", "dog", error="scores too low")]))
        image  class  seed  prob.  forwards  ...
        ------------...
        dog    error: scores too low
    """
    header = (*_WORDS, "prob.", "forwards", "seconds", "kernel", *_HEADINGS)
    weak = [_is_weak(row) for row in rows]
    lines = [_cells(row, mark) for row, mark in zip(rows, weak, strict=True)]
    whole = [header, *(cells for cells in lines if len(cells) == len(header))]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    widths[0] = max(len(cells[0]) for cells in (header, *lines))
    text = [_line(header, widths), "-" * (sum(widths) + 2 * len(widths) - 2)]
    text += [_line(cells, widths) for cells in lines]
    if any(weak):
        limit = max(row.max_confidence or 0.0 for row in rows)
        text.append(
            f"* no kernel brings the probability down to {limit:g}; this one comes "
            "nearest"
        )
    return "\n".join(text)


def _is_weak(row: Row) -> bool:
    left, limit = row.insertion_baseline_probability, row.max_confidence
    if row.error is not None or left is None or limit is None:
        return False
    return left > limit


def _cells(row: Row, is_weak: bool) -> tuple[str, ...]:
    if row.error is not None:
        return row.name, f"error: {row.error}"
    return (
        row.name,
        _shortened(f"{row.class_index} {row.class_name}"),
        f"{row.seed}",
        f"{row.probability:.4f}",
        f"{row.forwards:,}",
        f"{row.seconds:.1f}",
        f"{row.kernel}{'*' if is_weak else ' '}",
        *(f"{getattr(row, name):.4f}" for name in SCORES),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CLASS_NAME else text[: _MAX_CLASS_NAME - 1] + "…"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right; an error fills the rest of its line."""
    placed = [
        cell.ljust(width) if column < len(_WORDS) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    return "  ".join(placed).rstrip()
