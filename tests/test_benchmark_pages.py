"""Pages that say what was measured: filled from the results, and current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import index, metrics_table, pages
from benchmarks.results import DOCS, ROOT
from benchmarks.scoring import SAMPLES
from captum_mda.evaluate import METHODS

TEXTS = {path: path.read_text(encoding="utf-8") for path in pages.PAGES}


LONG = ("samples.table", "samples.verdicts")
"""Of metrics_table: exact tests of many ties, some 15 seconds each."""
TOLD = {
    "attribution.md": (
        *("ordering.photos", "ordering.settings", "ordering.worth-of-checks"),
        *("ordering.worth-of-patience", "magnitudes.photos", "magnitudes.samples"),
        *("magnitudes.patch-gain", "precision.table", "precision.most-loss"),
        *("caap_sweep.table", "caap_blank.0.gain", "capture.table"),
        *("capture.explicit-to-inputs", "capture.explicit-to-parameters"),
        *("capture.map-megabytes", "speed.few-patches.fast-forwards"),
        *("speed.few-patches.exact-forwards",),
        *("speed.few-patches.insertion_deletion-loss",),
        *("speed.few-patches.mas_insertion_deletion-loss",),
        *(
            f"perturbation_methods.{name}.{key}"
            for name in ("tis", "vit-cx", "caap")
            for key in ("forwards", "most", "peak_megabytes")
        ),
        "quality.photos.mda-relaxed-mas.mas_insertion_deletion",
        *(
            f"quality.photos.mda-{search}-refined.{key}"
            for search, keys in (
                ("fast", ("more-forwards", "gain4")),
                ("joint", ("more-forwards", "gain")),
            )
            for key in keys
        ),
    ),
    "quality.md": (
        *(
            f"quality.{kind}.{part}"
            for kind in ("photos", "samples")
            for part in (
                *("number", "searched", "searched-differences"),
                *("other", "other-differences"),
            )
        ),
        *(
            f"quality.photos.mda-relaxed.{metric}"
            for metric in ("insertion_deletion", "gaussian", "mean_colour")
        ),
    ),
    "speed.md": ("speed.table",),
    "metrics_table.md": tuple(
        f"metrics_table.{part}" for part in (*LONG, "photos.verdicts")
    ),
}
"""Figures that the pages must have, each from its mark."""


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_page_says_what_was_measured(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = {key: found for key, found in told(TEXTS[path]).items() if key in LONG}
    if stands:
        made = {**pages.figures("metrics_table"), **stands}
        real = pages.figures
        monkeypatch.setattr(
            pages,
            "figures",
            lambda name: made if name == "metrics_table" else real(name),
        )
    assert pages.filled(TEXTS[path]) == TEXTS[path]


@pytest.mark.extended
@pytest.mark.parametrize("key", LONG)
def test_long_tables_say_what_was_measured(key: str) -> None:
    figure = pages.figures("metrics_table")[key]
    assert told(TEXTS[DOCS / "metrics_table.md"])[key] == (
        figure if isinstance(figure, str) else figure()
    )


def test_means_of_the_long_table_are_those_that_were_measured() -> None:
    figures = pages.figures("metrics_table")
    heads, _, *lines = told(TEXTS[DOCS / "metrics_table.md"])[LONG[0]].splitlines()
    columns = metrics_table.columns(SAMPLES)
    assert heads.split("|")[2:-1] == [f" {each.head} " for each in columns.values()]
    assert len(lines) == len(METHODS)
    for line, (name, method) in zip(lines, METHODS.items(), strict=True):
        title, *cells = line.strip("| ").split(" | ")
        assert title == method.title
        for cell, metric in zip(cells, columns, strict=True):
            mean = cell.split(" [")[0].strip("*\N{ASTERISK OPERATOR}").lstrip("0")
            wanted = figures[f"samples.{name}.{metric}"]
            assert mean.replace("-0.", "-.") == wanted, (name, metric)


def told(text: str) -> dict[str, str]:
    """Read what stands between the marks, by the key of the last part's results."""
    return {
        found["key"]: found[0][len(found["begin"]) : -len(found["end"])].strip("\n")
        for found in pages._MARKED.finditer(text)
    }


@pytest.mark.parametrize("page", TOLD)
def test_what_a_page_must_say_has_its_mark(page: str) -> None:
    assert set(TOLD[page]) <= set(pages.names_of(TEXTS[DOCS / page]))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_mark_of_a_page_is_read(path: Path) -> None:
    text = TEXTS[path]
    n_marks = len(pages.names_of(text))
    assert text.count("<!-- from") == text.count("<!-- end") == n_marks
    assert all(
        "<!-- from" not in found[0][4:] for found in pages._MARKED.finditer(text)
    )


@pytest.mark.parametrize("script", index.SCRIPTS, ids=lambda each: each.name)
def test_results_are_told_on_the_pages_that_the_index_names(
    script: index.Script,
) -> None:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in script.pages)
    told = {name.split(".")[0] for name in pages.names_of(text)}
    assert set(script.results) <= told


def test_marks_in_a_line_and_round_blocks_are_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {"few": "12", "table": "| a |\n| --- |", "late": lambda: "3 of 4"}
    monkeypatch.setattr(pages, "figures", lambda name: made)
    page = (
        "It takes <!-- from benchmarks: some.few -->11<!-- end --> forwards, and in\n"
        "<!-- from benchmarks: some.late --><!-- end --> it gains.\n\n"
        "<!-- from benchmarks: some.table -->\n\nold\n\n<!-- end -->\n\n"
        "<!-- from benchmarks: some.few -->\n\nold\n\n<!-- end -->\n"
    )
    filled = pages.filled(page)
    assert filled == (
        "It takes <!-- from benchmarks: some.few -->12<!-- end --> forwards, and in\n"
        "<!-- from benchmarks: some.late -->3 of 4<!-- end --> it gains.\n\n"
        "<!-- from benchmarks: some.table -->\n\n| a |\n| --- |\n\n<!-- end -->\n\n"
        "<!-- from benchmarks: some.few -->\n\n12\n\n<!-- end -->\n"
    )
    assert pages.filled(filled) == filled
    assert pages.names_of(page) == ["some.few", "some.late", "some.table", "some.few"]


def test_a_figure_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "figures", lambda name: {"few": "12"})
    wanted = re.escape("some.fwe: there is no such figure, takes one of few")
    with pytest.raises(ValueError, match=wanted):
        pages.filled("<!-- from benchmarks: some.fwe -->11<!-- end -->")


def test_pages_of_stale_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import speed

    pages.figures.cache_clear()
    monkeypatch.setitem(speed.MEASURED, "blur", 31)
    with pytest.raises(ValueError, match=r"speed\.json: its rows have other settings"):
        pages.figures("speed")
