"""Short texts of results: one line per example, without the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from html import escape
from itertools import zip_longest
from typing import Any

from torch import nn, Tensor

MOST_LINES = 10
"""The largest number of examples that are shown."""

_LONGEST = 60

Columns = Mapping[str, Tensor | Sequence[object]]
"""From headings to one value per example."""


class Summarized:
    """Shows a result as a table with one line per example.

    A subclass that is a dataclass needs ``repr=False``.
    """

    def _summary(self) -> tuple[str, Columns]:
        """Return the title after the name of the class, and the columns."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Write a title and one line per example, of the first examples."""
        title, columns = self._summary()
        return as_text(f"{type(self).__name__} of {title}", columns)

    def _repr_html_(self) -> str:
        """Write the same as a table, for notebooks."""
        title, columns = self._summary()
        return as_html(f"{type(self).__name__} of {title}", columns)


class Brief:
    """Shows the fields of a dataclass on one line, tensors by their shapes.

    A subclass needs ``repr=False``.
    """

    def __repr__(self) -> str:
        """Write each field's name and a short form of its value."""
        shown = [
            f"{each.name}={brief(getattr(self, each.name))}"
            for each in fields(self)  # type: ignore[arg-type]
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def examples(n: int) -> str:
    """Count examples in words."""
    return f"{n} example" if n == 1 else f"{n} examples"


def as_text(title: str, columns: Columns) -> str:
    """Write a title and a table of the first examples."""
    rows, n_more = _rows(columns)
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = [
        "  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True))
        for row in rows
    ]
    if n_more:
        lines.append(f"  ... and {n_more} more")
    return "\n".join([title, *lines])


def as_html(title: str, columns: Columns) -> str:
    """As `as_text`, in HTML."""
    (head, *body), n_more = _rows(columns)
    lines = [_html_row(head, "th"), *(_html_row(row, "td") for row in body)]
    more = f"<p>... and {n_more} more</p>" if n_more else ""
    return f"<p>{escape(title)}</p><table>{''.join(lines)}</table>{more}"


def _html_row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _rows(columns: Columns) -> tuple[list[list[str]], int]:
    """Write the headings and the first examples; count those left out."""
    n = max((len(column) for column in columns.values()), default=0)
    shown = min(n, MOST_LINES)
    cells = [
        [str(each) for each in range(shown)],
        *([_cell(each) for each in _first(c, shown)] for c in columns.values()),
    ]
    body = [list(row) for row in zip(*cells, strict=True)]
    return [["example", *columns], *body], n - shown


def _first(column: Tensor | Sequence[object], n: int) -> list[object]:
    chosen = column[:n]
    return chosen.tolist() if isinstance(chosen, Tensor) else list(chosen)


def _cell(value: object) -> str:
    """Write a value with four significant digits or four decimals."""
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"
    return str(value)


def brief(value: object) -> str:
    """Write a value in a few characters."""
    for types, write in _BRIEF:
        if isinstance(value, types):
            return write(value)
    shown = repr(value)
    short = len(shown) <= _LONGEST and "\n" not in shown
    return shown if short else f"<{type(value).__name__}>"


def _brief_tensor(value: Any) -> str:
    where = "" if value.device.type == "cpu" else f" on {value.device}"
    dtype = str(value.dtype).removeprefix("torch.")
    return f"<{dtype} {tuple(value.shape)}{where}>"


def _brief_sequence(value: Any) -> str:
    opening, closing = "[]" if isinstance(value, list) else "()"
    shown = ", ".join(map(brief, value))
    if len(shown) <= _LONGEST:
        comma = "," if len(value) == 1 and opening == "(" else ""
        return f"{opening}{shown}{comma}{closing}"
    return f"<{len(value)} of {type(value[0]).__name__}>"


_BRIEF: list[tuple[type | tuple[type, ...], Callable[[Any], str]]] = [
    (Tensor, _brief_tensor),
    (nn.Module, lambda value: f"<{type(value).__name__}>"),
    ((Summarized, Brief), lambda value: f"<{type(value).__name__}>"),
    ((list, tuple), _brief_sequence),
    (dict, lambda value: f"<dict of {len(value)}>"),
]
