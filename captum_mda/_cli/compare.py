"""``captum-mda compare``: the maps of several methods, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from captum_mda._captum import progress_bar
from captum_mda._cli.comparison import caption, ComparisonRow
from captum_mda._cli.facts import common_facts, figure_caption, notes_on
from captum_mda._cli.method_option import TITLES
from captum_mda._cli.methods import build, compute_map, Map, MDA, MdaMap
from captum_mda._cli.models import Classifier
from captum_mda._cli.notes import Note
from captum_mda._cli.preparation import CommonOptions, find_pictures, Picture
from captum_mda._cli.question import ask, FAILURES, in_one_line, Question
from captum_mda._cli.table import score_fields, write_csv
from captum_mda.ordering import ORDERINGS
from captum_mda.perturbation.inputs import require_choice
from captum_mda.visualize import maps_figure, save_figure

TABLE = "comparison.csv"
ENDING = "-compare.png"
"""Of the figure that is written of each image."""

_SEARCH_FACTS = ("magnitude", "tau", "solver", "seed", "refine", "precision")
"""What of MDA's provenance becomes columns."""


@dataclass(frozen=True)
class CompareOptions:
    """What ``captum-mda compare`` was asked for; see its ``--help``."""

    common: CommonOptions
    methods: tuple[str, ...]
    ordering: str | None = None  # of MDA; None: "auto"
    scores: bool = True

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or no image can be read.
        """
        if self.ordering is not None:
            require_choice("--ordering", self.ordering, tuple(ORDERINGS))
            if MDA not in self.methods:
                raise ValueError(
                    f"--ordering: is for {MDA}, which is none of the --methods "
                    f"{' '.join(self.methods)}; add it to them"
                )
        self.common.check()


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
    options.check()
    common = options.common
    common.check_outputs(TABLE, [ENDING])
    classifier = common.model.load(note)
    target = common.target_of(classifier)
    pictures = find_pictures(common, classifier, note)
    for text in notes_on(common):
        note(text)
    common.out.mkdir(parents=True, exist_ok=True)
    ordering = options.ordering or "auto"
    methods = {name: _built(name, classifier, ordering) for name in options.methods}
    rows: list[ComparisonRow] = []
    total = len(pictures) * len(options.methods)
    with progress_bar(total, "Comparison", common.show_progress) as bar:
        for picture in pictures:
            job = Comparison(
                common, methods, classifier, picture, target, bar, options.scores
            )
            rows += job.run()
            # An interrupted run keeps these.
            write_csv(ComparisonRow, rows, common.out / TABLE)
    return rows


def _built(name: str, classifier: Classifier, ordering: str) -> Map | str:
    """Build a method for the model, once for all images."""
    try:
        return build(name, classifier, ordering)
    except FAILURES as error:
        return in_one_line(error)


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
        scores (bool): Whether maps are scored, or only drawn.
    """

    options: CommonOptions
    methods: Built
    classifier: Classifier
    picture: Picture
    target: int | None
    bar: Any
    scores: bool

    def run(self) -> list[ComparisonRow]:
        """Compute and score all maps and draw the figure.

        Returns:
            *list[ComparisonRow]*: one for each method, or one with the image's error.
        """
        row = ComparisonRow(
            self.picture.origin,
            self.picture.name,
            self.options.model.name,
            self.options.model.weights_name,
            facts=common_facts(self.options, self.classifier),
        )
        try:
            question = self._question()
            row = self._described(row, question)
            if self.scores or MDA in self.methods:  # these alone need the baselines
                row = self._with_baselines(row, question)
            if self.scores:
                question.require_response()
        except FAILURES as error:
            self.bar.update(len(self.methods))
            return [replace(row, error=in_one_line(error))]
        rows, maps = [], {}
        for name, method in self.methods.items():
            self._announce(name)
            method_row, values = _scored(
                replace(row, method=name), method, question, self.scores
            )
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
        return replace(
            row,
            class_index=question.target,
            class_name=self.classifier.class_name(question.target),
            probability=question.probability,
            score=question.score_name,
        )

    def _with_baselines(self, row: ComparisonRow, question: Question) -> ComparisonRow:
        """Tell of the baselines, which cost forwards."""
        blurred, deleted = question.baseline_probabilities
        return replace(
            row,
            kernel=question.kernel,
            max_confidence=self.classifier.max_confidence,
            insertion_baseline_probability=blurred,
            deletion_baseline_probability=deleted,
        )

    def _announce(self, name: str) -> None:
        """Write beside the bar what is being computed."""
        announce = getattr(self.bar, "set_description", None)  # a silent bar has none
        if announce is not None:
            announce(f"{self.picture.short_name}: {TITLES[name]}")

    def _draw(
        self, question: Question, rows: list[ComparisonRow], maps: dict[str, Tensor]
    ) -> None:
        figure = maps_figure(
            question.photo,
            # MDA stands first, whatever the order of the names was.
            {TITLES[name]: maps[name] for name in sorted(maps, key=MDA.__ne__)},
            title=question.title(self.picture.name),
            caption=figure_caption(self.options, self.classifier, rows[0], None),
            captions={
                TITLES[row.method]: caption(row) for row in rows if row.method in maps
            },
        )
        save_figure(figure, self.options.out / f"{self.picture.name}{ENDING}")


def _scored(
    row: ComparisonRow, method: Map | str, question: Question, with_scores: bool
) -> tuple[ComparisonRow, Tensor | None]:
    """Compute and score one map; None where the method fails."""
    if isinstance(method, str):
        return replace(row, error=method), None
    start = time.perf_counter()
    try:
        values = compute_map(method, question)
        row = replace(row, seconds=time.perf_counter() - start)
        if isinstance(method, MdaMap):
            row = _with_search(row, method.provenance)
        if not with_scores:
            return row, values
        return replace(row, **score_fields(question.scores(values))), values
    except FAILURES as error:
        return replace(row, error=in_one_line(error)), None


def _with_search(row: ComparisonRow, provenance: Mapping[str, Any]) -> ComparisonRow:
    """Tell of MDA what its search was."""
    further = {name: provenance[name] for name in _SEARCH_FACTS}
    return replace(
        row,
        ordering=str(provenance["ordering"]),
        facts={**row.facts, **further, "gamma": 0.0, "kappa": 0.005},
    )
