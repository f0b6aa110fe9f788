"""``captum-mda compare``: the maps of several methods, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from captum_mda._captum import progress_bar
from captum_mda._cli.comparison import caption, ComparisonRow
from captum_mda._cli.method_option import TITLES
from captum_mda._cli.methods import compute_map, Map, METHODS
from captum_mda._cli.models import Classifier
from captum_mda._cli.notes import Note
from captum_mda._cli.preparation import CommonOptions, find_pictures, Picture
from captum_mda._cli.question import ask, FAILURES, in_one_line, Question
from captum_mda._cli.table import score_fields, write_csv
from captum_mda.visualize import maps_figure, save_figure

_MAX_NAME = 20  # characters of a file's name beside the bar


@dataclass(frozen=True)
class CompareOptions:
    """What ``captum-mda compare`` was asked for; see its ``--help``."""

    common: CommonOptions
    methods: tuple[str, ...]


Built: TypeAlias = Mapping[str, Map | str]
"""The methods for a model, by name; in place of one that it does not take, why."""


def compare_images(options: CompareOptions, note: Note) -> list[ComparisonRow]:
    """Compute and score the maps of all images, and write their files.

    Args:
        options (CompareOptions): What was asked for.
        note (callable): Tells the user how things stand.

    Returns:
        *list[ComparisonRow]*: one for each image and method, with an error where there
        is no map; a single one for an image that no method can explain.

    Raises:
        TypeError, ValueError, OSError: The command cannot be run as it was given.
    """
    common = options.common
    common.check()
    classifier = common.model.load(note)
    target = common.target_of(classifier)
    pictures = find_pictures(common, classifier, note)
    table = common.out / "comparison.csv"
    common.require_nothing_read_is_written(
        [table, *(figure_of(picture, common.out) for picture in pictures)]
    )
    common.out.mkdir(parents=True, exist_ok=True)
    methods = {name: _built(name, classifier) for name in options.methods}
    rows: list[ComparisonRow] = []
    total = len(pictures) * len(options.methods)
    with progress_bar(total, "Comparison", common.show_progress) as bar:
        for picture in pictures:
            job = Comparison(common, methods, classifier, picture, target, bar)
            rows += job.run()
            write_csv(ComparisonRow, rows, table)  # an interrupted run keeps these
    return rows


def _built(name: str, classifier: Classifier) -> Map | str:
    """Build a method for the model, once for all images."""
    try:
        return METHODS[name](classifier)
    except FAILURES as error:
        return in_one_line(error)


def figure_of(picture: Picture, folder: Path) -> Path:
    """Name the figure that is written."""
    return folder / f"{picture.name}-compare.png"


@dataclass(frozen=True)
class Comparison:
    """A picture with all that is needed to compare its maps.

    Args:
        options (CommonOptions): What was asked for.
        methods (mapping): The methods, built for the model.
        classifier (Classifier): The model.
        picture (Picture): What to explain.
        target (int, optional): The class. None: the likeliest.
        bar: Captum's progress bar; counts maps.
    """

    options: CommonOptions
    methods: Built
    classifier: Classifier
    picture: Picture
    target: int | None
    bar: Any

    def run(self) -> list[ComparisonRow]:
        """Compute and score all maps and draw the figure.

        Returns:
            *list[ComparisonRow]*: one for each method, or one with the image's error.
        """
        row = ComparisonRow(self.picture.origin, self.picture.name)
        try:
            question = self._question()
            row = self._described(row, question)
            question.require_response()
        except FAILURES as error:
            self.bar.update(len(self.methods))
            return [replace(row, error=in_one_line(error))]
        rows, maps = [], {}
        for name, method in self.methods.items():
            self._announce(name)
            method_row, values = _scored(replace(row, method=name), method, question)
            rows.append(method_row)
            if values is not None:
                maps[name] = values
            self.bar.update()
        if maps:
            self._draw(question, rows, maps)
        return rows

    def _question(self) -> Question:
        return ask(
            self.classifier,
            self.picture.read(),
            self.target,
            self.options.deletion_baseline,
            self.options.batch_size,
        )

    def _described(self, row: ComparisonRow, question: Question) -> ComparisonRow:
        """Tell of the image what all methods share."""
        blurred, deleted = question.baseline_probabilities
        return replace(
            row,
            class_index=question.target,
            class_name=self.classifier.class_name(question.target),
            probability=question.probability,
            score=question.score_name,
            kernel=question.kernel,
            max_confidence=self.classifier.max_confidence,
            insertion_baseline_probability=blurred,
            deletion_baseline_probability=deleted,
        )

    def _announce(self, name: str) -> None:
        """Write beside the bar what is being computed."""
        announce = getattr(self.bar, "set_description", None)  # a silent bar has none
        if announce is not None:
            announce(f"{self.picture.name[:_MAX_NAME]}: {TITLES[name]}")

    def _draw(
        self, question: Question, rows: list[ComparisonRow], maps: dict[str, Tensor]
    ) -> None:
        figure = maps_figure(
            question.photo,
            # MDA stands first, whatever the order of the names was.
            {TITLES[name]: maps[name] for name in sorted(maps, key="mda".__ne__)},
            title=question.title(self.picture.name),
            captions={
                TITLES[row.method]: caption(row) for row in rows if row.method in maps
            },
        )
        save_figure(figure, figure_of(self.picture, self.options.out))


def _scored(
    row: ComparisonRow, method: Map | str, question: Question
) -> tuple[ComparisonRow, Tensor | None]:
    """Compute and score one map; None where the method fails."""
    if isinstance(method, str):
        return replace(row, error=method), None
    start = time.perf_counter()
    try:
        values = compute_map(method, question)
        row = replace(row, seconds=time.perf_counter() - start)
        return replace(row, **score_fields(question.scores(values))), values
    except FAILURES as error:
        return replace(row, error=in_one_line(error)), None
