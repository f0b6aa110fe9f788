"""Response curves: how a model's score changes as the features come or go in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args, Literal

import torch
from torch import Tensor

from captum_mda import curves
from captum_mda._captum import BaselineType, NullProgress, progress, TargetType
from captum_mda.curves import Mode
from captum_mda.perturbation import (
    Features,
    format_baselines,
    Response,
    Score,
    SubsetResponses,
    take_rows,
    validate_inputs,
)
from captum_mda.perturbation.inputs import (
    require_choice,
    require_finite,
    require_positive_integer,
)
from captum_mda.perturbation.state import preserved_state

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
    ranking = _Ranking.of(question, inputs, features)
    modes = [mode for mode, _, _ in directions]
    jobs = _Jobs.plan(features.batch_size, ranking.n_steps, modes)
    bar = (
        progress(total=len(jobs.examples), desc="Response curves")
        if question.show_progress
        else NullProgress()
    )
    with bar, preserved_state(question.forward_func, inputs):
        response = Response(
            question.forward_func,
            features.batch_size,
            question.target,
            question.additional_forward_args,
            question.score,
            question.max_examples_per_batch,
            bar,
        )
        responses = SubsetResponses(response, inputs, baselines, features)
        raw = jobs.run(responses, ranking)  # one (B, n + 1) for each direction
    return [
        _curve(values, ranking, mode, question.convention)
        for mode, values in zip(modes, raw, strict=True)
    ]


@dataclass(frozen=True)
class _Ranking:
    """Which features move at which step, and how much attribution moves with them.

    ``place`` is int32 (B, N), where in the ranking a feature stands; ``counts`` int64
    (n + 1,), how many features have moved after each step; ``mass`` float64 (B, n), the
    attribution that moves in each step.
    """

    place: Tensor
    counts: Tensor
    mass: Tensor

    @property
    def n_steps(self) -> int:
        return len(self.counts) - 1

    @classmethod
    def of(
        cls, question: Question, inputs: tuple[Tensor, ...], features: Features
    ) -> _Ranking:
        signed = _feature_scores(question.attributions, inputs, features)  # (B, N)
        magnitude = signed.abs()
        empty = (magnitude.sum(dim=1) == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"attributions: all zero for example {empty[0]}, which ranks nothing; "
                "drop such examples"
            )
        if question.convention == "mas":
            # As published: ascending and reversed, so ties go to the higher index.
            order = magnitude.argsort(dim=1, stable=True).flip(1)
        else:
            order = signed.argsort(dim=1, stable=True, descending=True)
        n_features = features.n_features
        n_steps = min(question.n_steps, n_features)
        counts = torch.arange(n_steps + 1) * n_features // n_steps
        moved = magnitude.gather(1, order).cumsum(dim=1).cpu()
        moved = torch.cat([torch.zeros(len(moved), 1, dtype=moved.dtype), moved], dim=1)
        return cls(order.argsort(dim=1).int(), counts, moved[:, counts].diff(dim=1))


@dataclass(frozen=True)
class _Jobs:
    """All perturbed inputs of all curves, as one flat list.

    The full input is the end of an insertion curve and the start of a deletion curve;
    it is asked for once.
    """

    examples: Tensor  # (R,)
    steps: Tensor  # (R,)
    kinds: Tensor  # (R,), which direction
    modes: Sequence[Mode]
    shape: tuple[int, int]

    @classmethod
    def plan(cls, n_examples: int, n_steps: int, modes: Sequence[Mode]) -> _Jobs:
        parts = []
        for kind, mode in enumerate(modes):
            known = kind > 0 and (
                _full_step(modes[0], n_steps),
                _full_step(mode, n_steps),
            )
            steps = [s for s in range(n_steps + 1) if not known or s != known[1]]
            grid = torch.cartesian_prod(torch.arange(n_examples), torch.tensor(steps))
            kinds = torch.full((len(grid), 1), kind)
            parts.append(torch.cat([grid, kinds], dim=1))
        examples, steps_, kinds_ = torch.cat(parts).unbind(dim=1)
        return cls(examples, steps_, kinds_, modes, (n_examples, n_steps + 1))

    def run(self, responses: SubsetResponses, ranking: _Ranking) -> list[Tensor]:
        deletes = torch.tensor([mode == "deletion" for mode in self.modes])[self.kinds]
        device = ranking.place.device
        moved = ranking.counts[self.steps]

        def subsets(rows: slice) -> Tensor:
            place = take_rows(ranking.place, self.examples[rows])  # (1 or r, N)
            has_moved = place < moved[rows, None].to(device)
            return has_moved ^ deletes[rows, None].to(device)

        values = responses(subsets, self.examples, self.kinds).cpu().double()
        raw = torch.full((len(self.modes), *self.shape), torch.nan, dtype=torch.float64)
        raw[self.kinds, self.examples, self.steps] = values
        n_steps = self.shape[1] - 1
        full = raw[0, :, _full_step(self.modes[0], n_steps)]
        for kind, mode in enumerate(self.modes):
            raw[kind, :, _full_step(mode, n_steps)] = full
        return list(raw)


def _full_step(mode: Mode, n_steps: int) -> int:
    """Find the step at which all features are present."""
    return n_steps if mode == "insertion" else 0


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
        sizes = tuple(value.shape)
        if len(sizes) != tensor.dim() or any(
            size not in (1, wanted)
            for size, wanted in zip(sizes, tensor.shape, strict=False)
        ):
            raise ValueError(
                f"attributions: shape {sizes} does not broadcast to the input's "
                f"{tuple(tensor.shape)}; give 1 or the input's size in each dimension"
            )
        require_finite("attributions", value)
    return features.sum(tuple(value.detach() for value in maps))


def _curve(
    raw: Tensor, ranking: _Ranking, mode: Mode, convention: Convention
) -> ResponseCurve:
    """Make everything that a curve shows of its raw scores."""
    full_step = _full_step(mode, ranking.n_steps)
    full, baseline = raw[:, full_step], raw[:, ranking.n_steps - full_step]
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
    density = curves.density_response(ranking.mass, mode)
    penalty = curves.alignment_penalty(monotone, density)
    return ResponseCurve(
        raw=raw,
        response=monotone if convention == "mas" else raw,
        density=density,
        penalty=penalty,
        mas=curves.mas_curve(monotone, penalty, mode),
        mode=mode,
    )
