"""Response curves: how a model's score changes as the features come or go in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from captum_mda import curves
from captum_mda._checks import require_choice
from captum_mda._results import BatchResult
from captum_mda._state import warn_caller
from captum_mda._summaries import Columns, examples
from captum_mda.curves import Mode
from captum_mda.metrics.degenerate import CONSTANT_MAP, OK
from captum_mda.metrics.questions import Direction, Question
from captum_mda.metrics.ranked_maps import rank_correlation, RankedMap
from captum_mda.perturbation import format_baselines, Path, Ranking
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.scores import how_to_credit, ScoredAs

NO_CONTRAST = "input scores no higher than its baseline"


@dataclass(frozen=True, eq=False, repr=False)
class ResponseCurve(BatchResult):
    """The responses of a batch to inserting or deleting its features in their ranking.

    Args:
        raw (Tensor): float64 (B, n + 1), raw scores after 0, 1, ..., n steps.
        response (Tensor): float64 (B, n + 1), the curve whose area is the score: under
            "mas" the normalised monotone response MR in [0, 1], under "rise" ``raw``.
        density (Tensor): float64 (B, n + 1), density response DR in [0, 1].
        penalty (Tensor): float64 (B, n + 1), alignment penalty AP = abs(MR - DR); under
            "rise", NaN for an example that scores no higher than its baseline.
        mas (Tensor): float64 (B, n + 1), magnitude-aligned response in [0, 1]; NaN
            where the penalty is.
        mode (str): "insertion" or "deletion".
        status (tuple[str, ...]): Of each example "ok"; "constant map", which ranks
            nothing: all curves but the raw one are NaN; or "input scores no higher than
            its baseline": the normalised curves are.
    """

    raw: Tensor
    response: Tensor
    density: Tensor
    penalty: Tensor
    mas: Tensor
    mode: Mode
    status: tuple[str, ...] = ()

    @property
    def area(self) -> Tensor:
        """The insertion or deletion score, float64 (B,)."""
        return curves.area(self.response)

    @property
    def mas_area(self) -> Tensor:
        """The magnitude-aligned insertion or deletion score, float64 (B,) in [0, 1]."""
        return curves.area(self.mas)

    @property
    def raw_area(self) -> Tensor:
        """The area under the raw scores, float64 (B,), in the score's unit."""
        return curves.area(self._ranked(self.raw))

    @property
    def aopc(self) -> Tensor:
        """The mean fall of the raw score from the full input, float64 (B,).

        Over all points, the full input included. Higher is better for deletion, most
        important first. (Samek et al. 2017, Eq. 12.)
        """
        full = self.raw[:, 0 if self.mode == "deletion" else -1]
        return self._ranked(full[:, None] - self.raw).mean(dim=1)

    @property
    def monotonicity(self) -> Tensor:
        """Spearman's rank correlation of steps and raw scores, float64 (B,).

        In [-1, 1]; higher is better: insertion should raise the score, deletion lower
        it. NaN where the raw scores are all equal.
        """
        steps = torch.arange(self.raw.shape[1]).double().expand_as(self.raw)
        signed = steps if self.mode == "insertion" else -steps
        return rank_correlation(signed, self._ranked(self.raw))

    def _summary(self) -> tuple[str, Columns]:
        n = len(self.raw)
        title = f"{examples(n)} under {self.mode}, {self.raw.shape[1] - 1} steps"
        return title, {
            "first score": self.raw[:, 0],
            "last score": self.raw[:, -1],
            "area": self.area,
            "MAS area": self.mas_area,
            "status": self.status or ("ok",) * n,
        }

    def _ranked(self, values: Tensor) -> Tensor:
        """Leave values of examples that a map has not ranked out: NaN."""
        constant = [status == CONSTANT_MAP for status in self.status]
        return values.masked_fill(_mask(constant)[:, None].to(values.device), torch.nan)


def sweep(
    question: Question, maps: Mapping[str, AnyMaps], directions: Sequence[Direction]
) -> list[list[ResponseCurve]]:
    """Compute response curves of one or more maps, in one job.

    Args:
        question (Question): The arguments of the metric.
        maps (mapping of str to Tensor or tuple): Attributions, by what to call them in
            errors.
        directions (sequence of Direction): Which curves to compute of each map.

    Returns:
        *list[list[ResponseCurve]]*: of each map, one for each direction.

    Raises:
        TypeError, ValueError: An argument does not fit (before the first forward), the
            outputs are not finite, or an example is degenerate.
    """
    for direction in directions:
        require_choice("mode", direction.mode, get_args(Mode))
    question.require_options()
    features = question.features()
    kinds = [
        format_baselines(question.tensors, d.baselines, d.argument) for d in directions
    ]
    numbers = _equal_kinds(kinds)
    ranked = [
        RankedMap.of(attributions, features, question, name)
        for name, attributions in maps.items()
    ]
    paths = []
    for each in ranked:
        rankings = [
            Ranking.of(o, question.n_steps) for o in (each.order, each.order.flip(1))
        ]
        for direction, number in zip(directions, numbers, strict=True):
            ranking = rankings[direction.least_first]
            paths.append(Path(ranking, direction.mode == "deletion", number))
    scores, scored_as = question.run(paths, kinds, features)
    raw = iter(zip(paths, scores, strict=True))
    found = []
    for each in ranked:
        found.append(
            [_curve(*next(raw), each, d, question, scored_as) for d in directions]
        )
    return found


def _equal_kinds(kinds: Sequence[tuple[Tensor, ...]]) -> list[int]:
    """Number kinds of baseline, equal ones alike, so that they share inputs."""
    numbers: list[int] = []
    for kind in kinds:
        for number in numbers:
            other = kinds[number]
            if all(map(torch.equal, kind, other)):
                numbers.append(number)
                break
        else:
            numbers.append(len(numbers))
    return numbers


def _curve(
    path: Path,
    raw: Tensor,
    ranked: RankedMap,
    direction: Direction,
    question: Question,
    scored_as: ScoredAs,
) -> ResponseCurve:
    """Make everything that a curve shows of its raw scores, (B, n + 1)."""
    full = raw[:, path.full_point]
    baseline = raw[:, path.ranking.n_steps - path.full_point]
    status = list(ranked.status)
    for example, (high, low) in enumerate(zip(full, baseline, strict=True)):
        if high <= low and status[example] == OK:
            status[example] = NO_CONTRAST
    no_contrast = _mask([each == NO_CONTRAST for each in status])
    constant = _mask([each == CONSTANT_MAP for each in status])
    if question.convention == "mas" and question.normalizes:
        _report_no_contrast(no_contrast, full, baseline, direction, question, scored_as)
    moved = ranked.scores.abs().gather(1, path.ranking.order).cpu()
    density = curves.density_response(
        _mass_of_steps(moved, path.ranking.counts), direction.mode
    )
    monotone = curves.monotone_response(raw, baseline, full, direction.mode)
    monotone[no_contrast | constant] = torch.nan  # nothing to normalise by, or to rank
    penalty = curves.alignment_penalty(monotone, density)
    response = raw.masked_fill(constant[:, None], torch.nan)
    return ResponseCurve(
        raw=raw,
        response=monotone if question.convention == "mas" else response,
        density=density.masked_fill(constant[:, None], torch.nan),
        penalty=penalty,
        mas=curves.mas_curve(monotone, penalty, direction.mode),
        mode=direction.mode,
        status=tuple(status),
    )


def _mask(values: Sequence[bool]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.bool)


def _mass_of_steps(moved: Tensor, counts: Tensor) -> Tensor:
    """Sum the attribution that moves in each step: (B, N) in order to (B, n)."""
    total = torch.cat([torch.zeros_like(moved[:, :1]), moved.cumsum(dim=1)], dim=1)
    return total[:, counts].diff(dim=1)


def _report_no_contrast(
    no_contrast: Tensor,
    full: Tensor,
    baseline: Tensor,
    direction: Direction,
    question: Question,
    scored_as: ScoredAs,
) -> None:
    if not bool(no_contrast.any()):
        return
    example = int(no_contrast.nonzero()[0])
    high, low = float(full[example]), float(baseline[example])
    message = (
        f"inputs: example {example} scores {high:.6g} on the target and its "
        f"{direction.mode} baseline {low:.6g}, so its responses cannot be normalised"
    )
    if question.on_degenerate == "raise":
        raise ValueError(
            f"{message}; {how_to_credit(scored_as, high, low)}; or "
            'drop it, choose another baseline, or take convention="rise" or '
            'on_degenerate="nan"'
        )
    warn_caller(message + "; its scores are NaN")
