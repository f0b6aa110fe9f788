"""The sweeps that response curves are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from captum_mda import curves
from captum_mda._checks import require_choice
from captum_mda._state import warn_caller
from captum_mda.curves import Mode
from captum_mda.metrics._arguments import Direction, MetricArguments
from captum_mda.metrics._degenerate import CONSTANT_MAP, OK
from captum_mda.metrics._ranked_maps import RankedMap
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.perturbation import format_baselines, Path, Ranking
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.scores import how_to_credit, ScoredAs

NO_CONTRAST = "input scores no higher than its baseline"


def sweep(
    arguments: MetricArguments,
    maps: Mapping[str, AnyMaps],
    directions: Sequence[Direction],
) -> list[list[ResponseCurve]]:
    """Compute response curves of one or more maps, in one job.

    Args:
        arguments (MetricArguments): The arguments of the metric.
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
    arguments.require_options()
    features = arguments.features
    baselines = [
        format_baselines(arguments.tensors, d.baselines, d.argument) for d in directions
    ]
    numbers = _equal_baselines(baselines)
    ranked = [
        RankedMap.of(attributions, features, arguments, name)
        for name, attributions in maps.items()
    ]
    paths = []
    for each in ranked:
        rankings = [
            Ranking.of(o, arguments.n_steps) for o in (each.order, each.order.flip(1))
        ]
        for direction, number in zip(directions, numbers, strict=True):
            ranking = rankings[direction.least_first]
            paths.append(Path(ranking, direction.mode == "deletion", number))
    scores, scored_as = arguments.run(paths, baselines, features)
    raw = iter(zip(paths, scores, strict=True))
    found = []
    for each in ranked:
        found.append(
            [_curve(*next(raw), each, d, arguments, scored_as) for d in directions]
        )
    return found


def _equal_baselines(baselines: Sequence[tuple[Tensor, ...]]) -> list[int]:
    """Number baselines, equal ones alike, so that they share perturbed inputs."""
    return [
        next(
            index
            for index, other in enumerate(baselines)
            if all(map(torch.equal, each, other))
        )
        for each in baselines
    ]


def _curve(
    path: Path,
    raw: Tensor,
    ranked: RankedMap,
    direction: Direction,
    arguments: MetricArguments,
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
    if arguments.convention == "mas" and arguments.normalizes:
        _report_no_contrast(
            no_contrast, full, baseline, direction, arguments, scored_as
        )
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
        response=monotone if arguments.convention == "mas" else response,
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
    arguments: MetricArguments,
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
    if arguments.on_degenerate == "raise":
        raise ValueError(
            f"{message}; {how_to_credit(scored_as, high, low)}; or "
            'drop it, choose another baseline, or take convention="rise" or '
            'on_degenerate="nan"'
        )
    warn_caller(message + "; its scores are NaN")
