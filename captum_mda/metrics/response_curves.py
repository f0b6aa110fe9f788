"""Response curves: how a model's score changes as the features come or go in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args, Literal

import torch
from torch import Tensor

from captum_mda import curves
from captum_mda._captum import BaselineType, progress_bar, TargetType
from captum_mda._state import preserved_state
from captum_mda.curves import Mode
from captum_mda.perturbation import (
    Features,
    format_baselines,
    Ranking,
    Response,
    Score,
    SubsetResponses,
    Sweep,
    validate_inputs,
)
from captum_mda.perturbation.inputs import (
    broadcasts_to,
    require_choice,
    require_finite,
    require_positive_integer,
)

Convention = Literal["mas", "rise"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, eq=False)
class ResponseCurve:
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
    """

    raw: Tensor
    response: Tensor
    density: Tensor
    penalty: Tensor
    mas: Tensor
    mode: Mode

    @property
    def area(self) -> Tensor:
        """The insertion or deletion score, float64 (B,)."""
        return curves.area(self.response)

    @property
    def mas_area(self) -> Tensor:
        """The magnitude-aligned insertion or deletion score, float64 (B,) in [0, 1]."""
        return curves.area(self.mas)


@dataclass(frozen=True)
class Question:
    """What a response metric is asked: the arguments that all of them share."""

    forward_func: Callable[..., Tensor]
    inputs: Tensor | tuple[Tensor, ...]
    attributions: Tensor | tuple[Tensor, ...]
    feature_mask: Tensor | tuple[Tensor, ...] | None
    additional_forward_args: object
    target: TargetType
    n_steps: int
    max_examples_per_batch: int | None
    show_progress: bool
    convention: Convention
    score: Score


def sweep(
    question: Question, directions: Sequence[tuple[Mode, BaselineType, str]]
) -> list[ResponseCurve]:
    """Compute response curves in one or both directions, in one job.

    Args:
        question (Question): The arguments of the metric.
        directions (sequence): For each curve its mode, its baselines, and the name of
            the argument they came in.

    Returns:
        *list[ResponseCurve]*: one for each direction.

    Raises:
        TypeError, ValueError: An argument does not fit (before the first forward), the
            outputs are not finite, or an input scores no higher than its baseline under
            "mas".
    """
    require_choice("convention", question.convention, get_args(Convention))
    require_positive_integer("n_steps", question.n_steps)
    if question.max_examples_per_batch is not None:
        require_positive_integer(
            "max_examples_per_batch", question.max_examples_per_batch
        )
    inputs = validate_inputs(question.inputs)
    features = (
        Features.positions(inputs)
        if question.feature_mask is None
        else Features.from_mask(inputs, question.feature_mask)
    )
    baselines = [format_baselines(inputs, value, name) for _, value, name in directions]
    scores = _feature_scores(question.attributions, inputs, features)  # (B, N)
    order = _order(scores, question.convention)
    ranking = Ranking.of(order, question.n_steps)
    job = Sweep(ranking, [mode == "deletion" for mode, _, _ in directions])
    bar = progress_bar(job.n_rows, "Response curves", question.show_progress)
    response = Response(
        question.forward_func,
        features.batch_size,
        question.target,
        question.additional_forward_args,
        question.score,
        question.max_examples_per_batch,
        bar,
    )
    with bar, preserved_state(question.forward_func, inputs):
        raw = job.run(SubsetResponses(response, inputs, baselines, features))
    moved = scores.abs().gather(1, order).cpu()
    mass = _mass_of_steps(moved, ranking.counts)
    return [
        _curve(raw[kind], job.full_step(kind), mass, mode, question.convention)
        for kind, (mode, _, _) in enumerate(directions)
    ]


def _order(scores: Tensor, convention: Convention) -> Tensor:
    """Rank the features: int64 (B, N), the one that moves first first."""
    empty = (scores == 0).all(dim=1).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"attributions: all zero for example {empty[0]}, which ranks nothing; drop "
            "such examples"
        )
    if convention == "mas":
        # As published: ascending and reversed, so ties go to the higher index.
        return scores.abs().argsort(dim=1, stable=True).flip(1)
    return scores.argsort(dim=1, stable=True, descending=True)


def _mass_of_steps(moved: Tensor, counts: Tensor) -> Tensor:
    """Sum the attribution that moves in each step: (B, N) in order to (B, n)."""
    total = torch.cat([torch.zeros_like(moved[:, :1]), moved.cumsum(dim=1)], dim=1)
    return total[:, counts].diff(dim=1)


def _feature_scores(
    attributions: Tensor | tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    features: Features,
) -> Tensor:
    """Sum attributions over each feature's elements, channels included: (B, N)."""
    maps = attributions if isinstance(attributions, tuple) else (attributions,)
    if len(maps) != len(inputs):
        raise ValueError(
            f"attributions: got {len(maps)} tensors for {len(inputs)} inputs, takes "
            "one for each"
        )
    for value, tensor in zip(maps, inputs, strict=True):
        if not isinstance(value, Tensor):
            raise TypeError(f"attributions: got {type(value).__name__}, takes a tensor")
        if value.dim() != tensor.dim() or not broadcasts_to(value, tensor):
            raise ValueError(
                f"attributions: shape {tuple(value.shape)} does not broadcast to the "
                f"input's {tuple(tensor.shape)}; give 1 or the input's size in each "
                "dimension"
            )
        require_finite("attributions", value)
    return features.sum(tuple(value.detach() for value in maps))


def _curve(
    raw: Tensor, full_step: int, mass: Tensor, mode: Mode, convention: Convention
) -> ResponseCurve:
    """Make everything that a curve shows of its raw scores, (B, n + 1)."""
    n_steps = raw.shape[1] - 1
    full, baseline = raw[:, full_step], raw[:, n_steps - full_step]
    degenerate = full <= baseline
    if convention == "mas" and bool(degenerate.any()):
        example = int(degenerate.nonzero()[0])
        raise ValueError(
            f"inputs: example {example} scores {full[example]:.6g} on the target and "
            f"its {mode} baseline {baseline[example]:.6g}, so its responses cannot be "
            'normalised; drop it, choose another baseline, or take convention="rise"'
        )
    monotone = curves.monotone_response(raw, baseline, full, mode)
    monotone[degenerate] = torch.nan  # nothing to normalise by
    density = curves.density_response(mass, mode)
    penalty = curves.alignment_penalty(monotone, density)
    return ResponseCurve(
        raw=raw,
        response=monotone if convention == "mas" else raw,
        density=density,
        penalty=penalty,
        mas=curves.mas_curve(monotone, penalty, mode),
        mode=mode,
    )
