"""Explain images by MDA: the search, the scores, a figure and a file for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from torch import Tensor

from captum_mda._captum import bars_about
from captum_mda._checks import (
    require_choice,
    require_count,
    require_in_unit_interval,
)
from captum_mda.attr import MDAExplanation, MetricDrivenAttribution
from captum_mda.evaluate._facts import common_facts, figure_caption, figure_title
from captum_mda.evaluate._notes import Note, silent
from captum_mda.evaluate._rows import EXPLAIN_COLUMNS, Row, score_fields, table_of
from captum_mda.evaluate._runs import FAILURES, first_row, RunSettings, with_case
from captum_mda.evaluate.case import Case, too_low, without_warnings
from captum_mda.evaluate.images import ImageSource
from captum_mda.evaluate.models import Classifier
from captum_mda.evaluate.prior import Prior
from captum_mda.magnitude import MAGNITUDE_RULES, MagnitudeRule, SOLVERS
from captum_mda.metrics import PerturbationScores
from captum_mda.ordering import ORDERINGS
from captum_mda.perturbation.precision import Precision, PRECISIONS
from captum_mda.visualize import explanation_figure, save_figure

TABLE = "scores.csv"
ENDINGS = (".png", ".safetensors")
"""Of the figure and the explanation that are written for each image."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How every image is searched; as `captum_mda.MetricDrivenAttribution` takes it."""

    tau: float = 0.9
    gamma: float = 0.0
    kappa: float = 0.005
    solver: str = "nnls"
    magnitude: str = "reference"
    ordering: str = "auto"
    precision: str | None = None
    refine: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The settings by name; the ordering that ran is told elsewhere."""
        return {
            name: value for name, value in asdict(self).items() if name != "ordering"
        }

    def check(self, prefix: str = "") -> None:
        """Raise a ValueError if one of the settings is out of its range.

        Args:
            prefix (str, optional): What errors write before a name. Default: nothing
        """
        for name in ("tau", "gamma", "kappa"):
            require_in_unit_interval(f"{prefix}{name}", getattr(self, name))
        require_choice(f"{prefix}solver", self.solver, tuple(SOLVERS))
        require_choice(f"{prefix}magnitude", self.magnitude, MAGNITUDE_RULES)
        require_choice(f"{prefix}ordering", self.ordering, tuple(ORDERINGS))
        if self.precision is not None:
            require_choice(f"{prefix}precision", self.precision, PRECISIONS)
        require_count(f"{prefix}refine", self.refine)


def explain_images(
    classifier: Classifier,
    sources: Sequence[ImageSource],
    priors: Sequence[Prior],
    search: SearchSettings,
    settings: RunSettings,
    facts: dict[str, Any] | None = None,
    note: Note = silent,
) -> list[Row]:
    """Explain all images and write their files.

    Args:
        classifier (Classifier): The model.
        sources (sequence of ImageSource): The images.
        priors (sequence of Prior): What narrows the search of each.
        search (SearchSettings): How the orders are found.
        settings (RunSettings): The target, the baseline, the folder.
        facts (dict, optional): Further columns of the table. Default: None
        note (callable, optional): Told which image is explained. Default: tells nobody

    Returns:
        *list[Row]*: one for each image; those that cannot be explained have an error.
    """
    job = _Explain(
        classifier=classifier,
        search=search,
        settings=settings,
        facts={
            **common_facts(classifier, settings.deletion_baseline),
            **search.facts,
            **(facts or {}),
        },
    )
    rows: list[Row] = []
    for number, (source, prior) in enumerate(zip(sources, priors, strict=True), 1):
        note(f"[{number}/{len(sources)}] {source.origin}")
        rows.append(job.run(source, prior))
        # An interrupted run keeps these.
        table_of(EXPLAIN_COLUMNS, rows).write(settings.out / TABLE)
    return rows


@dataclass(frozen=True, kw_only=True)
class _Explain:
    """The model and the settings that all images share."""

    classifier: Classifier
    search: SearchSettings
    settings: RunSettings
    facts: dict[str, Any]

    def run(self, source: ImageSource, prior: Prior) -> Row:
        """Explain the image, score the map and write the files, or tell the error."""
        row = first_row(source, self.classifier, self.facts)
        with bars_about(source.short_name):
            try:
                case = self.settings.case(self.classifier, source.read())
                row = replace(with_case(row, case), seed=prior.name)
                return self._explained(row, case, source, prior)
            except FAILURES as error:
                # One image's failure shall not cost the results of the others.
                return replace(row, error=self.settings.error_of(error))

    def _explained(
        self, row: Row, case: Case, source: ImageSource, prior: Prior
    ) -> Row:
        row = replace(
            row,
            kernel=case.kernel,  # makes the blur, which the search's time is not of
            max_confidence=self.classifier.max_confidence,
        )
        values = prior.compute(case)
        start = time.perf_counter()
        explanation = self._explanation(case, values)
        blurred = float(explanation.insertion_responses[0, 0])
        deleted = float(explanation.deletion_responses[0, -1])
        row = replace(
            row,
            forwards=explanation.n_forwards,
            forwards_bf16=int(explanation.forwards_bf16),
            seconds=time.perf_counter() - start,
            insertion_baseline_probability=blurred,
            deletion_baseline_probability=deleted,
        )
        if bool(explanation.degenerate[0]):
            error = too_low(case, blurred, deleted)
            return replace(row, error=self.settings.error_of(error))
        row = replace(row, ordering=str(explanation.provenance["ordering"]))
        scores = case.scores(
            explanation.attributions(self.search.gamma, self.search.kappa),
            self.settings.show_progress,
        )
        self._draw(case, source, explanation, scores, row)
        replace(explanation, provenance=self._provenance(explanation, row)).save(
            self.settings.out / f"{source.name}{ENDINGS[1]}"
        )
        return replace(row, **score_fields(scores))

    def _explanation(self, case: Case, prior: Tensor | None) -> MDAExplanation:
        mda = MetricDrivenAttribution(
            self.classifier.model,
            score=self.classifier.score,
            solver=self.search.solver,
            ordering=self.search.ordering,
            magnitude=cast(MagnitudeRule, self.search.magnitude),
            on_degenerate="zero",
            precision=cast(Precision, self.search.precision),
            refine=self.search.refine,
        )
        with without_warnings("inputs: example"):
            return mda.explain(
                case.images,
                baselines=case.deleted,
                target=case.target,
                feature_mask=case.mask,
                insertion_baselines=case.blurred,
                seed_attributions=prior,
                tau=self.search.tau,
                perturbations_per_eval=case.batch_size,
                show_progress=self.settings.show_progress,
            )

    def _draw(
        self,
        case: Case,
        source: ImageSource,
        explanation: MDAExplanation,
        scores: PerturbationScores,
        row: Row,
    ) -> None:
        gamma = self.search.gamma
        figure = explanation_figure(
            case.in_colours(case.images),
            explanation,
            title=figure_title(case, source.name),
            caption=figure_caption(case, source, row, self._method(row)),
            # The map that is scored is among those shown.
            gammas=(0.0, gamma, 1.0) if 0.0 < gamma < 1.0 else (0.0, 1.0),
            kappa=self.search.kappa,
            scores=scores,
            insertion_baseline=case.in_colours(case.blurred),
            deletion_baseline=case.in_colours(case.deleted),
        )
        save_figure(figure, self.settings.out / f"{source.name}{ENDINGS[0]}")

    def _method(self, row: Row) -> str:
        """Describe the method for the figure's caption."""
        named = {"none": "without a seed", "file": "seed from a file"}
        refined = f", {self.search.refine} refining passes" * bool(self.search.refine)
        return (
            f"method MDA, ordering {row.ordering}{refined}, "
            f"{named.get(str(row.seed), f'seed {row.seed}')}, magnitude "
            f"{self.search.magnitude}, tau {self.search.tau:g}"
        )

    def _provenance(self, explanation: MDAExplanation, row: Row) -> dict[str, Any]:
        """Tell what the explanation's file keeps of how it was made."""
        return {
            **explanation.provenance,
            **self.facts,
            "image": row.image,
            "model": row.model,
            "weights": row.weights,
            "target": row.class_index,
            "class_name": row.class_name,
            "probability": row.probability,
            "score": row.score,
            "seed": row.seed,
            "insertion_baseline": f"blur, kernel {row.kernel}",
        }
