"""``captum-mda compare``: the maps of several methods, side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_mda._captum import progress_bar
from captum_mda._cli.comparison import caption, ComparisonRow
from captum_mda._cli.method_option import TITLES
from captum_mda._cli.methods import compute_map
from captum_mda._cli.models import Classifier
from captum_mda._cli.preparation import CommonOptions, find_pictures, Picture
from captum_mda._cli.question import ask, in_one_line, Question
from captum_mda._cli.table import score_fields, write_csv
from captum_mda.visualize import denormalize, maps_figure, save_figure

# What a method, or an image, may fail with without costing the others' results.
_FAILURES = (ImportError, RuntimeError, TypeError, ValueError)

_MAX_NAME = 20  # characters of a file's name beside the bar


@dataclass(frozen=True)
class CompareOptions:
    """What ``captum-mda compare`` was asked for; see its ``--help``."""

    common: CommonOptions
    methods: tuple[str, ...]


def compare_images(options: CompareOptions) -> list[ComparisonRow]:
    """Compute and score the maps of all images, and write their files.

    Args:
        options (CompareOptions): What was asked for.

    Returns:
        *list[ComparisonRow]*: one for each image and method, with an error where there
        is no map; a single one for an image that no method can explain.

    Raises:
        TypeError, ValueError, OSError: The command cannot be run as it was given.
    """
    common = options.common
    common.check()
    classifier = common.load()
    pictures = find_pictures(common, classifier)
    table = common.out / "comparison.csv"
    common.require_nothing_read_is_written(
        [table, *(figure_of(picture, common.out) for picture in pictures)]
    )
    common.out.mkdir(parents=True, exist_ok=True)
    rows: list[ComparisonRow] = []
    total = len(pictures) * len(options.methods)
    with progress_bar(total, "Comparison", common.show_progress) as bar:
        for picture in pictures:
            rows += Comparison(options, classifier, picture, bar).run()
            write_csv(ComparisonRow, rows, table)  # an interrupted run keeps these
    return rows


def figure_of(picture: Picture, folder: Path) -> Path:
    """Name the figure that is written."""
    return folder / f"{picture.name}-compare.png"


@dataclass(frozen=True)
class Comparison:
    """A picture with all that is needed to compare its maps.

    Args:
        options (CompareOptions): What was asked for.
        classifier (Classifier): The model.
        picture (Picture): What to explain.
        bar: Captum's progress bar; counts maps.
    """

    options: CompareOptions
    classifier: Classifier
    picture: Picture
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
        except _FAILURES as error:
            self.bar.update(len(self.options.methods))
            return [replace(row, error=in_one_line(error))]
        rows, maps = [], {}
        for name in self.options.methods:
            self._announce(name)
            method_row, values = _scored(replace(row, method=name), name, question)
            rows.append(method_row)
            if values is not None:
                maps[name] = values
            self.bar.update()
        if maps:
            self._draw(question, rows, maps)
        return rows

    def _question(self) -> Question:
        common = self.options.common
        return ask(
            self.classifier,
            self.picture.read(),
            common.target,
            common.deletion_baseline,
            common.batch_size,
        )

    def _described(self, row: ComparisonRow, question: Question) -> ComparisonRow:
        """Tell of the image what all methods share."""
        blurred, deleted = question.baseline_probabilities
        return replace(
            row,
            class_index=question.target,
            class_name=self.classifier.class_name(question.target),
            probability=question.probability,
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
            denormalize(question.images[0], self.classifier.mean, self.classifier.std),
            {TITLES[name]: values for name, values in maps.items()},
            title=question.title(self.picture.name),
            captions={
                TITLES[row.method]: caption(row) for row in rows if row.method in maps
            },
        )
        save_figure(figure, figure_of(self.picture, self.options.common.out))


def _scored(
    row: ComparisonRow, name: str, question: Question
) -> tuple[ComparisonRow, Tensor | None]:
    """Compute and score one map; None where the method fails."""
    start = time.perf_counter()
    try:
        values = compute_map(name, question)
        row = replace(row, seconds=time.perf_counter() - start)
        return replace(row, **score_fields(question.scores(values))), values
    except _FAILURES as error:
        return replace(row, error=in_one_line(error)), None
