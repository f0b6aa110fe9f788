"""From the responses along the order to an explanation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_mda.attr.explanation import MDAExplanation
from captum_mda.attr.provenance import Provenance
from captum_mda.curves import monotone_response
from captum_mda.magnitude import (
    align_density,
    fit_density,
    MagnitudeRule,
    mean_response,
    resampled,
    Solver,
)
from captum_mda.ordering import DELETION, INSERTION, SearchResult, SearchTask
from captum_mda.perturbation import Path, Ranking, SubsetResponses, Sweep
from captum_mda.perturbation.precision import Precision

PIXEL_STEPS = 224
"""Number of steps of the authors' metrics, and of mean curves of single positions."""


class MeanCurves(NamedTuple):
    """The raw responses that the mean curve is computed from.

    Args:
        insertion (Tensor): float64 (B, n + 1).
        deletion (Tensor): float64 (B, n + 1).
        points (Tensor or None): float64 (n + 1,), the share of all elements that have
            moved at each point; None where one feature moves per step.
    """

    insertion: Tensor
    deletion: Tensor
    points: Tensor | None


def curves_of_mean(
    found: SearchResult, responses: SubsetResponses, mean_steps: str
) -> MeanCurves:
    """Take the order's own curves, or sweep single positions along the order.

    Args:
        found (SearchResult): The order and its curves, of all examples.
        responses (SubsetResponses): Scores subsets.
        mean_steps (str): "patch" or "pixel".
    """
    if mean_steps == "patch":
        return MeanCurves(found.insertion, found.deletion, None)
    fine = responses.of_positions()
    # Positions of one feature move from its last to its first, as in the metrics.
    rank = -found.order.argsort(dim=1).double()
    height = fine.features.mean(responses.features.paint(rank))  # (B, positions)
    ranking = Ranking.of(height.argsort(dim=1, stable=True).flip(1), PIXEL_STEPS)
    insertion, deletion = Sweep(
        [Path(ranking, False, INSERTION), Path(ranking, True, DELETION)]
    ).run(fine)
    counts = ranking.counts.double()
    return MeanCurves(insertion, deletion, counts / counts[-1])


def explanation_of(
    found: SearchResult,
    mean_curves: MeanCurves,
    task: SearchTask,
    *,
    solver: Solver,
    magnitude: MagnitudeRule,
    precision: Precision,
    dtype: torch.dtype,
    is_tuple: bool,
    provenance: Provenance,
) -> MDAExplanation:
    """Fit the density to the mean of the curves, and join the parts.

    Args:
        found (SearchResult): The order and its curves, of all examples.
        mean_curves (MeanCurves): The raw responses of the mean curve.
        task (SearchTask): The task; the examples that it leaves out are degenerate.
        solver (str or callable): Fits the density to the mean curve.
        magnitude (str): "mas" aligns the density; the other rules leave it.
        precision (str or None): As for `MDAExplanation`, as all further arguments.
        dtype (torch.dtype): As there.
        is_tuple (bool): As there.
        provenance (mapping): As there.
    """
    features, response = task.responses.features, task.responses.response
    kept = torch.zeros(features.batch_size, dtype=torch.bool)
    kept[task.examples] = True
    insertion, deletion = _monotone(found.insertion, found.deletion, task, kept)
    rising, falling = _monotone(mean_curves.insertion, mean_curves.deletion, task, kept)
    mean = resampled(mean_response(rising, falling), features.n_features)
    mean = torch.where(kept[:, None], mean, 0.0)
    density = torch.zeros_like(mean)
    if bool(kept.any()):
        density[kept] = fit_density(mean[kept], solver)
        if magnitude == "mas":
            sizes = features.sizes.cpu().expand(found.order.shape)
            sizes = sizes.gather(1, found.order)[kept].double()
            density[kept] = align_density(
                density[kept], sizes, rising[kept], falling[kept], mean_curves.points
            )
    margins = [screening.margin for screening in task.screenings]
    return MDAExplanation(
        order=found.order,
        n_inserted=found.n_inserted,
        insertion_curve=insertion,
        deletion_curve=deletion,
        mean_curve=mean,
        density_curve=density,
        insertion_responses=found.insertion,
        deletion_responses=found.deletion,
        forwards=response.forwards.clone(),
        degenerate=~kept,
        features=features,
        magnitude=magnitude,
        dtype=dtype,
        is_tuple=is_tuple,
        precision=precision,
        forwards_bf16=response.forwards_bf16.clone(),
        margin=torch.tensor(margins, dtype=torch.float64),
        provenance=provenance,
    )


def _monotone(
    insertion: Tensor, deletion: Tensor, task: SearchTask, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Normalise both responses, each (B, n + 1), to 0 where an example is not kept."""
    ends = task.end_points
    rising = monotone_response(
        insertion, ends.insertion_baseline, ends.full, "insertion"
    )
    falling = monotone_response(deletion, ends.deletion_baseline, ends.full, "deletion")
    kept = kept[:, None]
    return torch.where(kept, rising, 0.0), torch.where(kept, falling, 0.0)
