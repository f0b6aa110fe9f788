"""A table of values: how its cells look, and its four formats."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, KW_ONLY
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from captum_mda._files import replacing

_LATEX = {ord(sign): rf"\{sign}" for sign in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("\N{UPWARDS ARROW}"): r"$\uparrow$",
    ord("\N{DOWNWARDS ARROW}"): r"$\downarrow$",
    ord("\N{ASTERISK OPERATOR}"): r"$^\ast$",
    ord("\N{MINUS SIGN}"): "$-$",
    ord("\N{MULTIPLICATION SIGN}"): r"$\times$",
    ord("\N{GREEK CAPITAL LETTER DELTA}"): r"$\Delta$",
    ord("\N{HORIZONTAL ELLIPSIS}"): r"\ldots{}",
    ord("\n"): " ",
}
_MARKDOWN = {ord(sign): rf"\{sign}" for sign in r"\`*_|<"} | {ord("\n"): " "}


@runtime_checkable
class Interval(Protocol):
    """A mean with an interval, such as a `MeanInterval`."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


@dataclass(frozen=True)
class Cell:
    """A value with a style; CSV ignores the style.

    Args:
        value (object): What a column formats.
        bold (bool, optional): Set in bold; of an interval, the mean. Default: False
        code (bool, optional): Set as code. Default: False
        mark (str, optional): Stands behind the value, of an interval behind the mean,
            as for a footnote. Default: ""
        spans (bool, optional): Fill the rest of the line, such as by an error message;
            the row's further columns are not shown. Default: False
    """

    value: Any
    _: KW_ONLY
    bold: bool = False
    code: bool = False
    mark: str = ""
    spans: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """How the values of one key of the rows are shown.

    Args:
        name (str): The key, and the heading in a CSV file.
        heading (str, optional): Stands above the column elsewhere. "": the name.
            Default: ""
        align (str, optional): "left" or "right". Default: "right"
        format (str or callable, optional): A format specification such as ``".3f"``, or
            a function from the value to a string. An interval is written ``0.812
            [0.790, 0.834]``; ``".3f [.2f]"`` formats its ends in another way. Strings
            stay as they are. Default: "", as `str`
        missing (str, optional): Stands for None and for a key that a row lacks.
            Default: ""
    """

    name: str
    heading: str = ""
    align: Literal["left", "right"] = "right"
    format: str | Callable[[Any], str] = ""
    missing: str = ""

    @property
    def head(self) -> str:
        """What stands above the column."""
        return self.heading or self.name

    def parts(self, value: Any) -> tuple[str, str]:
        """Format a value: what a style applies to, and what stands behind it."""
        if value is None:
            return self.missing, ""
        if callable(self.format):
            return self.format(value), ""
        if isinstance(value, str):
            return value, ""
        spec, _, of_ends = self.format.removesuffix("]").partition(" [")
        if not isinstance(value, Interval):
            return format(value, spec), ""
        if not self.format:
            mean, space, ends = str(value).partition(" ")
            return mean, space + ends
        low, high = (format(each, of_ends or spec) for each in (value.low, value.high))
        return format(value.mean, spec), f" [{low}, {high}]"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under columns; see the module for an example.

    Args:
        columns (tuple[Column, ...]): What text, Markdown and LaTeX show, in order.
        rows (tuple[Mapping[str, object], ...]): Each row's values, or `Cell`s, by the
            names of the columns. CSV has further columns for further keys.
        caption (str, optional): Stands above the table. Default: ""
        notes (tuple[str, ...], optional): Lines below the table. Default: ()
    """

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Set the table in columns as wide as they need, without a trailing newline."""
        cells = [[_text(*each) for each in self._shown(row)] for row in self.rows]
        heads = [column.head for column in self.columns]
        widths = [
            max(len(line[place]) for line in (heads, *cells) if self._sets(line, place))
            for place in range(len(heads))
        ]
        lines = [self._text_line(line, widths) for line in (heads, *cells)]
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        caption = [self.caption] if self.caption else []
        return "\n".join([*caption, lines[0], rule, *lines[1:], *self.notes])

    def to_markdown(self) -> str:
        """Write the table in Markdown as GitHub has it, without a trailing newline."""
        rules = ["---" if each.align == "left" else "---:" for each in self.columns]
        lines = [[column.head.translate(_MARKDOWN) for column in self.columns], rules]
        for row in self.rows:
            cells = [_markdown(*each) for each in self._shown(row)]
            lines.append(cells + [""] * (len(self.columns) - len(cells)))
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        around = [self.caption] if self.caption else []
        return "\n\n".join([*around, table, *self.notes])

    def to_csv(self) -> str:
        """Write all values with all digits; lines end in CR LF, as CSV has it.

        None is empty. An interval has two more columns, such as ``insertion_low`` and
        ``insertion_high``. Keys of the rows that are no column stand behind them.
        """
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows]
        names: dict[str, None] = {}
        for name in (*(column.name for column in self.columns), *_keys(rows)):
            names[name] = None
            if any(isinstance(row.get(name), Interval) for row in rows):
                names |= {f"{name}_low": None, f"{name}_high": None}
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            values = dict(row)
            for name, value in row.items():
                if isinstance(value, Interval):
                    values[name] = value.mean
                    values |= {f"{name}_low": value.low, f"{name}_high": value.high}
            writer.writerow([values.get(name) for name in names])
        return file.getvalue()

    def to_latex(self) -> str:
        r"""Write a ``tabular`` with rules of booktabs, without a trailing newline.

        A caption puts it into a ``table``. The document needs
        ``\usepackage{booktabs}``.
        """
        places = "".join(column.align[0] for column in self.columns)
        heads = [column.head.translate(_LATEX) for column in self.columns]
        lines = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", _latex_line(heads)]
        lines.append(r"\midrule")
        for row in self.rows:
            cells = [_latex(*each) for each in self._shown(row)]
            n_left = len(self.columns) - len(cells)
            if n_left:
                cells[-1] = rf"\multicolumn{{{n_left + 1}}}{{l}}{{{cells[-1]}}}"
            lines.append(_latex_line(cells))
        lines += [r"\bottomrule", r"\end{tabular}"]
        notes = [rf"\par {{\footnotesize {n.translate(_LATEX)}}}" for n in self.notes]
        if not self.caption:
            return "\n".join(lines + notes)
        caption = rf"\caption{{{self.caption.translate(_LATEX)}}}"
        begin = [r"\begin{table}", r"\centering", caption]
        return "\n".join([*begin, *lines, *notes, r"\end{table}"])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a file in the format of its ending; it is whole, or not there.

        Args:
            path (str or PathLike): Ends in .txt, .md, .csv or .tex.

        Raises:
            ValueError: Another ending, or what is at ``path`` is not a file.
            FileNotFoundError: The folder does not exist.
        """
        formats = {
            ".txt": self.to_text,
            ".md": self.to_markdown,
            ".csv": self.to_csv,
            ".tex": self.to_latex,
        }
        suffix = Path(path).suffix.lower()
        if suffix not in formats:
            raise ValueError(
                f"path: got {os.fspath(path)!r}, takes a name that ends in "
                f"{', '.join(formats)}"
            )
        text = formats[suffix]()
        with replacing(path) as beside:
            with open(beside, "w", encoding="utf-8", newline="") as file:
                file.write(text if text.endswith("\n") else text + "\n")

    def _shown(self, row: Mapping[str, Any]) -> list[tuple[str, str, Cell]]:
        """Format a row's cells, up to one that fills the rest of the line."""
        shown = []
        for column in self.columns:
            value = row.get(column.name)
            cell = value if isinstance(value, Cell) else Cell(value)
            shown.append((*column.parts(cell.value), cell))
            if cell.spans:
                break
        return shown

    def _sets(self, line: Sequence[str], place: int) -> bool:
        """Tell whether a line's cell counts for the width of its column."""
        n_columns = len(self.columns)
        return place < (n_columns if len(line) == n_columns else len(line) - 1)

    def _text_line(self, line: Sequence[str], widths: Sequence[int]) -> str:
        placed = [
            cell.ljust(width) if column.align == "left" else cell.rjust(width)
            for column, cell, width in zip(self.columns, line, widths, strict=False)
        ]
        return "  ".join(placed).rstrip()


def _text(main: str, rest: str, cell: Cell) -> str:
    return f"{main}{cell.mark}{rest}"


def _markdown(main: str, rest: str, cell: Cell) -> str:
    if cell.code:
        styled = f"`{main}`".replace("|", r"\|")
    else:
        styled = main.translate(_MARKDOWN)
    styled = f"**{styled}**" if cell.bold and styled else styled
    return f"{styled}{cell.mark.translate(_MARKDOWN)}{rest.translate(_MARKDOWN)}"


def _latex(main: str, rest: str, cell: Cell) -> str:
    escaped = [each.translate(_LATEX) for each in (main, cell.mark, rest)]
    if not isinstance(cell.value, str):  # a number's hyphen is a minus
        escaped = [re.sub(r"(?<!\w)-(?=\d)", "$-$", each) for each in escaped]
    if cell.code and main:
        escaped[0] = rf"\texttt{{{escaped[0]}}}"
    if cell.bold and main:
        escaped[0] = rf"\textbf{{{escaped[0]}}}"
    return "".join(escaped)


def _latex_line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Cell) else value


def _keys(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for row in rows for key in row)
