"""The table of ``captum-mda explain``, and what the tables of all commands share."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from captum_mda._files import replacing
from captum_mda.metrics import METRICS, PerturbationScores

SCORES = (
    "insertion",
    "deletion",
    "insertion_deletion",
    "mas_insertion",
    "mas_deletion",
    "mas_insertion_deletion",
)
"""The six scores, by their fields' names in `PerturbationScores`."""

SCORES_NOTE = (
    "Ins and MAS Ins: higher is better; Del and MAS Del: lower; their differences: "
    "higher. MAS: Ins and Del, less where a map's magnitudes miss the response."
)
"""What the columns are, in one line."""

HEADINGS = tuple(METRICS[name].heading for name in SCORES)
"""What stands above their columns."""

SEARCH_NOTE = (
    "forwards and seconds: of the search; kernel: side of the blur that insertion "
    "starts from, in pixels."
)
_WORDS = ("image", "class", "seed")
_MAX_CLASS_NAME = 28  # characters; the longest of ImageNet's have a hundred


@dataclass(frozen=True)
class Row:
    """One image's line; what an error has kept from being known is None.

    Args:
        image (str): Where the image comes from.
        name (str): What its files are called, without their endings.
        model (str): The model's name.
        weights (str): The name of the file of its weights, "pretrained", or "random".
        class_index (int): The explained class.
        class_name (str): Its name.
        probability (float): Its score, which is a probability but under "identity".
        score (str): What was made of the model's outputs, "softmax" for example.
        seed (str): What the search's candidates were chosen by.
        ordering (str): The search that ran, which "auto" has chosen.
        forwards (int): How many inputs the model has seen in the search.
        forwards_bf16 (int): How many of them in bfloat16.
        seconds (float): How long the search took.
        kernel (int): Side of the blur of the insertion baseline, in pixels.
        max_confidence (float): The probability that the blur was to bring it down to.
        insertion_baseline_probability (float): What the blurred image scores.
        deletion_baseline_probability (float): What the deletion baseline scores.
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
    seed: str | None = None
    ordering: str | None = None
    forwards: int | None = None
    forwards_bf16: int | None = None
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
    facts: Mapping[str, Any] = field(default_factory=dict)


def score_fields(scores: PerturbationScores) -> dict[str, Any]:
    """Take the six numbers of the first example, by the names of a row's fields."""
    return {name: float(getattr(scores, name)[0]) for name in SCORES}


def write_csv(kind: type, rows: Sequence[Any], path: Path) -> None:
    """Write rows with all their digits; the file is whole, or not there.

    Args:
        kind (type): The dataclass that they are of, whose fields are the columns;
            behind them stand those of the rows' ``facts``.
        rows (sequence of dataclass instances): The lines.
        path (Path): Where to.
    """
    names = [each.name for each in fields(kind) if each.name != "facts"]
    further = dict.fromkeys(name for row in rows for name in row.facts)
    with replacing(path) as beside:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*names, *further])
            for row in rows:
                values = [getattr(row, name) for name in names]
                writer.writerow([*values, *(row.facts.get(name) for name in further)])


def set_in_columns(
    header: Sequence[str], lines: Sequence[Sequence[str]], n_words: int
) -> list[str]:
    r"""Set cells in columns as wide as they need, whatever the terminal's width.

    Args:
        header (sequence of str): What stands above the columns.
        lines (sequence of sequence of str): The cells of each line. The last one of a
            line that is shorter than the header, an error, fills the rest of it.
        n_words (int): How many columns are words, which are set to the left.

    Returns:
        *list[str]*: the lines, header and rule included.

    Example::

        >>> cells = [("dog", "legrad", "0.3"), ("cat", "error: none to be seen")]
        >>> print("\n".join(set_in_columns(("image", "method", "score"), cells, 2)))
        image  method  score
        --------------------
        dog    legrad    0.3
        cat    error: none to be seen
    """
    table = [header, *lines]
    widths = [
        max(
            len(cells[column])
            for cells in table
            if column < (len(header) if len(cells) == len(header) else len(cells) - 1)
        )
        for column in range(len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if column < n_words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=False))
        ]
        return "  ".join(placed).rstrip()

    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return [line(header), rule, *map(line, lines)]


def is_weak(left: float | None, limit: float | None) -> bool:
    """Tell whether a blur has left a higher probability than it was to."""
    return left is not None and limit is not None and left > limit


def weak_note(rows: Sequence[Any]) -> str:
    """Write the footnote of the marks of weak blurs.

    Args:
        rows (sequence of Row or ComparisonRow): Their ``max_confidence`` is what blurs
            were to bring the score down to.
    """
    limit = max(row.max_confidence or 0.0 for row in rows)
    what = "score" if _is_identity(rows) else "probability"
    return f"* no kernel brings the {what} down to {limit:g}; this one comes nearest"


def _is_identity(rows: Sequence[Any]) -> bool:
    return any(row.score == "identity" for row in rows)


def model_words(model: str | None, weights: str | None) -> str:
    """Name a model and its weights, as for a table or a figure.

    Example::

        >>> model_words("deit_tiny_patch16_224", "best.pth")
        'model deit_tiny_patch16_224, weights best.pth'
        >>> model_words("demo", "demo")
        'model demo'
    """
    if weights is None or weights == model:
        return f"model {model}"
    return f"model {model}, weights {weights}"


def model_line(rows: Sequence[Any]) -> list[str]:
    """Write the line below a table: the model, and the orderings that ran.

    Args:
        rows (sequence of Row or ComparisonRow): All of one model; without a name, there
            is no line.
    """
    if not rows or rows[0].model is None:
        return []
    words = model_words(rows[0].model, rows[0].weights)
    orderings = dict.fromkeys(row.ordering for row in rows if row.ordering is not None)
    if orderings:
        words += f"; ordering of MDA: {', '.join(orderings)}"
    return [words]


def format_table(rows: Sequence[Row]) -> str:
    """Set rows in columns.

    Args:
        rows (sequence of Row): One for each image. Kernels whose blur has left too high
            a probability get a mark and a footnote. Forwards in bfloat16 have a column
            if there are any.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> print(format_table([Row("a/dog.png", "dog", error="scores too low")]))
        image  class  seed  prob.  forwards  ...
        ------------...
        dog    error: scores too low
    """
    in_bf16 = ("in bf16",) if any(row.forwards_bf16 for row in rows) else ()
    heading = probability_heading(rows)
    header = (*_WORDS, heading, "forwards", *in_bf16, "seconds", "kernel", *HEADINGS)
    cells = [_cells(row, bool(in_bf16)) for row in rows]
    text = set_in_columns(header, cells, len(_WORDS))
    text += model_line(rows)
    if any(_is_marked(row) for row in rows):
        text.append(weak_note(rows))
    return "\n".join(text)


def _is_marked(row: Row) -> bool:
    return row.error is None and is_weak(
        row.insertion_baseline_probability, row.max_confidence
    )


def _cells(row: Row, with_bf16: bool) -> tuple[str, ...]:
    if row.error is not None:
        return row.name, f"error: {row.error}"
    return (
        row.name,
        class_cell(row),
        f"{row.seed}",
        f"{row.probability:.4f}",
        f"{row.forwards:,}",
        *((f"{row.forwards_bf16:,}",) if with_bf16 else ()),
        f"{row.seconds:.1f}",
        f"{row.kernel}{'*' if _is_marked(row) else ' '}",
        *(f"{getattr(row, name):.4f}" for name in SCORES),
    )


def class_cell(row: Any) -> str:
    """Write a row's class, by index and name."""
    return _shortened(f"{row.class_index} {row.class_name}".rstrip())


def probability_heading(rows: Sequence[Any]) -> str:
    """Name the column of the class's score."""
    return "score" if _is_identity(rows) else "prob."


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CLASS_NAME else text[: _MAX_CLASS_NAME - 1] + "…"
