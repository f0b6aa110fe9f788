"""One image of ``captum-mda explain``: the search, the scores and the files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor

from captum_mda._captum import bars_about
from captum_mda._cli.facts import Facts, figure_caption
from captum_mda._cli.models import Classifier
from captum_mda._cli.preparation import CommonOptions, Picture
from captum_mda._cli.question import (
    ask,
    FAILURES,
    in_one_line,
    Question,
    without_warnings,
)
from captum_mda._cli.seeds import Seed
from captum_mda._cli.table import Row, score_fields
from captum_mda.attr import MDAExplanation, MetricDrivenAttribution
from captum_mda.magnitude import MAGNITUDE_RULES, MagnitudeRule, SOLVERS
from captum_mda.metrics import PerturbationScores
from captum_mda.ordering import ORDERINGS
from captum_mda.perturbation.inputs import (
    require_choice,
    require_count,
    require_in_unit_interval,
)
from captum_mda.perturbation.precision import Precision, PRECISIONS
from captum_mda.visualize import explanation_figure, save_figure


@dataclass(frozen=True)
class Search:
    """How every image is searched; see ``captum-mda explain --help``."""

    tau: float
    gamma: float
    kappa: float
    solver: str
    magnitude: str
    ordering: str
    precision: str | None
    refine: int

    @property
    def facts(self) -> dict[str, Any]:
        """The settings by name; of the ordering, what ran is told elsewhere."""
        settings = vars(self).copy()
        del settings["ordering"]
        return settings

    def check(self) -> None:
        """Raise a ValueError if one of the settings is out of its range."""
        for name in ("tau", "gamma", "kappa"):
            require_in_unit_interval(f"--{name}", getattr(self, name))
        require_choice("--solver", self.solver, tuple(SOLVERS))
        require_choice("--magnitude", self.magnitude, MAGNITUDE_RULES)
        require_choice("--ordering", self.ordering, tuple(ORDERINGS))
        if self.precision is not None:
            require_choice("--precision", self.precision, PRECISIONS)
        require_count("--refine", self.refine)


ENDINGS = (".png", ".safetensors")
"""Of the figure and the explanation that are written of each image."""


@dataclass(frozen=True)
class ImageJob:
    """A picture with all that is needed to explain it.

    Args:
        options (CommonOptions): What was asked for.
        search (Search): How the order is found.
        classifier (Classifier): The model.
        picture (Picture): What to explain.
        target (int, optional): The class. None: the likeliest.
        seed (Seed): What the candidates are chosen by.
        facts (mapping): What all results are made with, by columns' names.
    """

    options: CommonOptions
    search: Search
    classifier: Classifier
    picture: Picture
    target: int | None
    seed: Seed
    facts: Facts

    def run(self) -> Row:
        """Explain the picture, score the map and write the files.

        Returns:
            *Row*: the figures, or what kept them from being computed.
        """
        row = Row(
            self.picture.origin,
            self.picture.name,
            self.options.model.name,
            self.options.model.weights_name,
            facts=self.facts,
        )
        with bars_about(self.picture.short_name):
            return self._tried(row)

    def _tried(self, row: Row) -> Row:
        """Explain the picture, or tell why it cannot be explained."""
        try:
            question = ask(
                self.classifier,
                self.picture.read(),
                self.target,
                self.options.deletion_baseline,
                self.options.batch_size,
            )
            row = replace(
                row,
                class_index=question.target,
                class_name=self.classifier.class_name(question.target),
                probability=question.probability,
                score=question.score_name,
                seed=self.seed.name,
            )
            return self._explained(row, question)
        except FAILURES as error:
            # One image's failure shall not cost the results of the others.
            return replace(row, error=in_one_line(error))

    def _explained(self, row: Row, question: Question) -> Row:
        row = replace(
            row,
            kernel=question.kernel,  # makes the blur, which the search's time is not of
            max_confidence=self.classifier.max_confidence,
        )
        seed = self.seed.compute(question)
        start = time.perf_counter()
        explanation = self._explanation(question, seed)
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
            return replace(row, error=question.too_low(blurred, deleted))
        row = replace(row, ordering=str(explanation.provenance["ordering"]))
        scores = question.scores(
            explanation.attributions(self.search.gamma, self.search.kappa),
            self.options.show_progress,
        )
        self._write(question, explanation, scores, row)
        return replace(row, **score_fields(scores))

    def _explanation(self, question: Question, seed: Tensor | None) -> MDAExplanation:
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
                question.images,
                baselines=question.deleted,
                target=question.target,
                feature_mask=question.mask,
                insertion_baselines=question.blurred,
                seed_attributions=seed,
                tau=self.search.tau,
                perturbations_per_eval=question.batch_size,
                show_progress=self.options.show_progress,
            )

    def _write(
        self,
        question: Question,
        explanation: MDAExplanation,
        scores: PerturbationScores,
        row: Row,
    ) -> None:
        gamma = self.search.gamma
        figure_path, explanation_path = (
            self.options.out / f"{self.picture.name}{ending}" for ending in ENDINGS
        )
        figure = explanation_figure(
            question.photo,
            explanation,
            title=question.title(self.picture.name),
            caption=figure_caption(
                self.options, self.classifier, row, self._method(row)
            ),
            # The map that is scored is among those shown.
            gammas=(0.0, gamma, 1.0) if 0.0 < gamma < 1.0 else (0.0, 1.0),
            kappa=self.search.kappa,
            scores=scores,
            insertion_baseline=question.in_colours(question.blurred),
            deletion_baseline=question.in_colours(question.deleted),
        )
        save_figure(figure, figure_path)
        replace(explanation, provenance=self._provenance(explanation, row)).save(
            explanation_path
        )

    def _method(self, row: Row) -> str:
        """Describe the method for the figure's caption."""
        seed = {"none": "without a seed", "file": "seed from a file"}
        refined = f", {self.search.refine} refining passes" * bool(self.search.refine)
        return (
            f"method MDA, ordering {row.ordering}{refined}, "
            f"{seed.get(self.seed.name, f'seed {self.seed.name}')}, magnitude "
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
