"""Pages that say what was measured: filled from the results, and current."""

from __future__ import annotations

import re

import pytest

from benchmarks import index, pages
from benchmarks.results import ROOT

TEXTS = {path: path.read_text(encoding="utf-8") for path in pages.PAGES}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_page_says_what_was_measured(path: object) -> None:
    assert pages.filled(TEXTS[path]) == TEXTS[path]  # type: ignore[index]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_mark_of_a_page_is_read(path: object) -> None:
    text = TEXTS[path]  # type: ignore[index]
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
