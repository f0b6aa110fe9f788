"""Compare the maps of several methods on each image: a figure and rows of scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from captum_mda._captum import progress_bar
from captum_mda.evaluate import _rows
from captum_mda.evaluate._facts import common_facts, figure_caption, figure_title
from captum_mda.evaluate._runs import FAILURES, first_row, RunSettings, with_case
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.images import ImageSource
from captum_mda.evaluate.maps import build_method, compute_map, ComputeMap
from captum_mda.evaluate.methods import MDA, METHODS
from captum_mda.evaluate.models import Classifier
from captum_mda.visualize import maps_figure, save_figure

TABLE = "comparison.csv"
ENDING = "-compare.png"
"""Of the figure that is written of each image."""

_SEARCH_FACTS = ("magnitude", "tau", "solver", "seed", "refine", "precision")
"""What of MDA's provenance becomes columns."""

_Built: TypeAlias = Mapping[str, ComputeMap | str]
"""The methods for a model, by name; in place of one that it does not take, why."""


def compare_images(
    classifier: Classifier,
    sources: Sequence[ImageSource],
    methods: Sequence[str],
    settings: RunSettings,
    ordering: str = "auto",
    scores: bool = True,
) -> list[_rows.Row]:
    """Compute and score the maps of all images, and write their files.

    Args:
        classifier (Classifier): The model.
        sources (sequence of ImageSource): The images.
        methods (sequence of str): Names of `METHODS`.
        settings (RunSettings): The target, the baseline, the folder.
        ordering (str, optional): The search of MDA. Default: "auto"
        scores (bool, optional): Whether maps are scored, or only drawn. Default: True

    Returns:
        *list[Row]*: one for each image and method, with an error where there is no map;
        a single one for an image that no method can explain.
    """
    built: dict[str, ComputeMap | str] = {}
    for name in methods:  # once for all images
        try:
            built[name] = build_method(name, classifier, ordering)
        except FAILURES as error:
            built[name] = settings.error_of(error)
    rows: list[_rows.Row] = []
    total = len(sources) * len(methods)
    with progress_bar(total, "Comparison", settings.show_progress) as bar:
        job = _Comparison(
            classifier=classifier,
            methods=built,
            settings=settings,
            bar=bar,
            scores=scores,
        )
        for source in sources:
            rows += job.run(source)
            # An interrupted run keeps these.
            _rows.table_of(_rows.COMPARE_COLUMNS, rows).write(settings.out / TABLE)
    return rows


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """The model, the methods and the settings that all images share.

    Args:
        classifier (Classifier): The model.
        methods (mapping): The methods, built for the model.
        settings (RunSettings): The target, the baseline, the folder.
        bar: Captum's progress bar; counts maps.
        scores (bool): Whether maps are scored, or only drawn.
    """

    classifier: Classifier
    methods: _Built
    settings: RunSettings
    bar: Any
    scores: bool

    def run(self, source: ImageSource) -> list[_rows.Row]:
        """Compute and score all maps of an image and draw the figure.

        Returns:
            *list[Row]*: one for each method, or one with the image's error.
        """
        facts = common_facts(self.classifier, self.settings.deletion_baseline)
        row = first_row(source, self.classifier, facts)
        try:
            case = self.settings.case(self.classifier, source.read())
            row = with_case(row, case)
            if self.scores or MDA in self.methods:  # these alone need the baselines
                row = self._with_baselines(row, case)
            if self.scores:
                case.require_response()
        except FAILURES as error:
            self.bar.update(len(self.methods))
            return [replace(row, error=self.settings.error_of(error))]
        rows, maps = [], {}
        for name in self.methods:
            self._announce(source, name)
            method_row, values = self._scored(replace(row, method=name), case)
            rows.append(method_row)
            if values is not None:
                maps[name] = values
            self.bar.update()
        if maps:
            self._draw(case, source, rows, maps)
        return rows

    def _with_baselines(self, row: _rows.Row, case: Case) -> _rows.Row:
        """Fill in the baselines, which cost forwards."""
        blurred, deleted = case.baseline_probabilities
        return replace(
            row,
            kernel=case.kernel,
            max_confidence=self.classifier.max_confidence,
            insertion_baseline_probability=blurred,
            deletion_baseline_probability=deleted,
        )

    def _announce(self, source: ImageSource, name: str) -> None:
        """Write beside the bar what is being computed."""
        announce = getattr(self.bar, "set_description", None)  # a silent bar has none
        if announce is not None:
            announce(f"{source.short_name}: {METHODS[name].title}")

    def _scored(self, row: _rows.Row, case: Case) -> tuple[_rows.Row, Tensor | None]:
        """Compute and score one map; None where the method fails."""
        compute = self.methods[str(row.method)]
        if isinstance(compute, str):
            return replace(row, error=compute), None
        start = time.perf_counter()
        try:
            values, provenance = compute_map(compute, case)
            row = replace(row, seconds=time.perf_counter() - start)
            if provenance:
                row = _with_search(row, provenance)
            if not self.scores:
                return row, values
            return replace(row, **_rows.score_fields(case.scores(values))), values
        except FAILURES as error:
            return replace(row, error=self.settings.error_of(error)), None

    def _draw(
        self,
        case: Case,
        source: ImageSource,
        rows: Sequence[_rows.Row],
        maps: Mapping[str, Tensor],
    ) -> None:
        title = {name: METHODS[name].title for name in maps}
        figure = maps_figure(
            case.in_colours(case.images),
            # MDA stands first, whatever the order of the names was.
            {title[name]: maps[name] for name in sorted(maps, key=MDA.__ne__)},
            title=figure_title(case, source.name),
            caption=figure_caption(case, source, rows[0]),
            captions={
                title[str(row.method)]: _rows.caption(row)
                for row in rows
                if row.method in maps
            },
        )
        save_figure(figure, self.settings.out / f"{source.name}{ENDING}")


def _with_search(row: _rows.Row, provenance: Mapping[str, Any]) -> _rows.Row:
    """Fill in what MDA's search was."""
    further = {name: provenance[name] for name in _SEARCH_FACTS}
    return replace(
        row,
        ordering=str(provenance["ordering"]),
        facts={**row.facts, **further, "gamma": 0.0, "kappa": 0.005},
    )
