"""The rows that runs over images give: their fields, columns and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from captum_mda._table import Cell, Column, Table
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

SEARCH_NOTE = (
    "forwards and seconds: of the search; kernel: side of the blur that insertion "
    "starts from, in pixels."
)

_IMAGE = (
    "image",
    "name",
    "model",
    "weights",
    "class_index",
    "class_name",
    "probability",
    "score",
)
_SEARCH = ("seed", "ordering", "forwards", "forwards_bf16", "seconds")
_BASELINES = (
    "kernel",
    "max_confidence",
    "insertion_baseline_probability",
    "deletion_baseline_probability",
)
EXPLAIN_COLUMNS = (*_IMAGE, *_SEARCH, *_BASELINES, *SCORES, "error")
"""The columns of ``captum-mda explain``'s CSV, before those of the rows' facts."""

COMPARE_COLUMNS = (
    *(*_IMAGE, *_BASELINES),
    *("method", "ordering", "seconds"),
    *(*SCORES, "error"),
)
"""The columns of ``captum-mda compare``'s CSV, before those of the rows' facts."""

_MAX_CLASS_NAME = 28  # characters; the longest of ImageNet's have a hundred


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image's line, or that of one method; what is not known is None.

    Args:
        image (str): Where the image comes from.
        name (str): What its files are called, without their endings.
        model (str): The model's name.
        weights (str): The name of the file of its weights, "pretrained", or "random".
        class_index (int): The explained class.
        class_name (str): Its name.
        probability (float): Its score, which is a probability but under "identity".
        score (str): What was made of the model's outputs, "softmax" for example.
        method (str): The method, by its name in `METHODS`.
        seed (str): The prior of MDA's search.
        ordering (str): The search that ran, which "auto" has chosen.
        forwards (int): How many inputs the model has seen in the search.
        forwards_bf16 (int): How many of them in bfloat16.
        seconds (float): How long the search, or the map, took.
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
    method: str | None = None
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

    @property
    def has_weak_blur(self) -> bool:
        """Whether the blur has left a higher probability than it was to."""
        left, limit = self.insertion_baseline_probability, self.max_confidence
        return left is not None and limit is not None and left > limit


def score_fields(scores: PerturbationScores) -> dict[str, Any]:
    """Take the six numbers of the first example, by the names of a row's fields."""
    return {name: float(getattr(scores, name)[0]) for name in SCORES}


def table_of(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """Make the table that is written as CSV: some fields, and the rows' facts."""
    return Table(
        columns=tuple(Column(name=name) for name in columns),
        rows=tuple(
            {name: getattr(row, name) for name in columns} | dict(row.facts)
            for row in rows
        ),
    )


def model_words(row: Row) -> str:
    """Name the model and its weights, as for a table or a figure.

    Example::

        >>> row = Row(image="a.png", name="a", model="deit_tiny", weights="best.pth")
        >>> model_words(row)
        'model deit_tiny, weights best.pth'
        >>> model_words(Row(image="a.png", name="a", model="demo", weights="demo"))
        'model demo'
    """
    if not row.weights or row.weights == row.model:
        return f"model {row.model}"
    return f"model {row.model}, weights {row.weights}"


def format_explained(rows: Sequence[Row]) -> str:
    """Set the rows of ``captum-mda explain`` in columns.

    Args:
        rows (sequence of Row): One for each image. Kernels whose blur has left too high
            a probability get a mark and a footnote. Forwards in bfloat16 have a column
            if there are any.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> row = Row(image="a/dog.png", name="dog", error="scores too low")
        >>> print(format_explained([row]))
        image  class  seed  prob.  forwards  ...
        ------------...
        dog    error: scores too low
    """
    in_bf16 = any(row.forwards_bf16 for row in rows)
    kernel = Column(name="kernel")
    columns = (
        *_WORDS,
        Column(name="seed", align="left"),
        Column(name="probability", heading=_probability_heading(rows), format=".4f"),
        Column(name="forwards", format=","),
        *((Column(name="forwards_bf16", heading="in bf16", format=","),) * in_bf16),
        _SECONDS,
        kernel,
        *_SCORE_COLUMNS,
    )

    def cells(row: Row) -> dict[str, Any]:
        if row.error is not None:
            error = Cell(f"error: {row.error}", spans=True)
            return {"name": row.name, "class": error}
        marked = f"{row.kernel}{'*' if row.has_weak_blur else ' '}"
        return vars(row) | {"class": _class_cell(row), kernel.name: marked}

    marked = any(row.error is None and row.has_weak_blur for row in rows)
    return _text(columns, [cells(row) for row in rows], _footnotes(rows, marked))


def format_compared(rows: Sequence[Row]) -> str:
    """Set the rows of ``captum-mda compare`` in columns.

    Args:
        rows (sequence of Row): One for each image and method. Images whose blur has
            left too high a probability get a mark and a footnote. Scores have columns
            if a row has some, or if all have errors.

    Returns:
        *str*: lines without a trailing newline.

    Example::

        >>> row = Row(
        ...     image="a/dog.png",
        ...     name="dog",
        ...     class_index=3,
        ...     class_name="collie",
        ...     method="lime",
        ...     error="no samples",
        ... )
        >>> print(format_compared([row]))
        image  class     method  prob.  seconds  ...
        ----------------------------------------...
        dog    3 collie  lime    error: no samples
    """
    scored = any(row.insertion is not None for row in rows)
    scored = scored or all(row.error is not None for row in rows)
    columns = (
        *_WORDS,
        Column(name="method", align="left"),
        Column(name="probability", heading=_probability_heading(rows), format=".4f"),
        _SECONDS,
        *(_SCORE_COLUMNS if scored else ()),
    )

    def is_marked(row: Row) -> bool:
        return row.method is not None and row.has_weak_blur

    def cells(row: Row) -> dict[str, Any]:
        found = vars(row) | {"name": f"{row.name}*" if is_marked(row) else row.name}
        error = Cell(f"error: {row.error}", spans=True)
        if row.method is None and row.error is not None:
            return found | {"class": error}
        found["class"] = _class_cell(row)
        return found if row.error is None else found | {"probability": error}

    notes = _footnotes(rows, any(map(is_marked, rows)))
    return _text(columns, [cells(row) for row in rows], notes)


_WORDS = (
    Column(name="name", heading="image", align="left"),
    Column(name="class", align="left"),
)
_SECONDS = Column(name="seconds", format=".1f")
_SCORE_COLUMNS = tuple(
    Column(name=name, heading=METRICS[name].heading, format=".4f") for name in SCORES
)


def _text(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    return Table(columns=tuple(columns), rows=tuple(rows), notes=tuple(notes)).to_text()


def _footnotes(rows: Sequence[Row], marked: bool) -> list[str]:
    """Write the lines below a table: the model, orderings, and what a mark means."""
    lines = []
    if rows and rows[0].model is not None:
        found = dict.fromkeys(row.ordering for row in rows if row.ordering is not None)
        ordering = f"; ordering of MDA: {', '.join(found)}" if found else ""
        lines.append(f"{model_words(rows[0])}{ordering}")
    if marked:
        limit = max(row.max_confidence or 0.0 for row in rows)
        what = "score" if _is_identity(rows) else "probability"
        lines.append(
            f"* no kernel brings the {what} down to {limit:g}; this one comes nearest"
        )
    return lines


def caption(row: Row) -> str:
    """Write a method's scores as they stand below its map, or its time without them.

    Example::

        >>> scores = {"insertion": 0.75, "deletion": 0.5, "insertion_deletion": 0.25}
        >>> mas = {f"mas_{name}": value / 2 for name, value in scores.items()}
        >>> print(caption(Row(image="dog.png", name="dog", **scores, **mas)))
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


def _is_identity(rows: Sequence[Row]) -> bool:
    return any(row.score == "identity" for row in rows)


def _class_cell(row: Row) -> str:
    """Write a row's class, by index and name."""
    return shortened(f"{row.class_index} {row.class_name}".rstrip(), _MAX_CLASS_NAME)


def _probability_heading(rows: Sequence[Row]) -> str:
    """Name the column of the class's score."""
    return "score" if _is_identity(rows) else "prob."


def shortened(text: str, most: int) -> str:
    """Cut a text, with an ellipsis for what is left out, at some length."""
    return text if len(text) <= most else text[: most - 1] + "…"
