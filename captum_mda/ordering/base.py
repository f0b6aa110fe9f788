"""What an ordering is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_mda._summaries import Brief
from captum_mda.curves import area, monotone_response
from captum_mda.ordering.screening import Screening
from captum_mda.perturbation import SubsetResponses

INSERTION = 0
"""The kind of baseline that stands for patches not yet inserted."""
DELETION = 1
"""The kind of baseline that stands for deleted patches."""


@dataclass(frozen=True, repr=False)
class EndPoints(Brief):
    """The three responses that every curve starts or ends with, each float64 (B,)."""

    full: Tensor  # p0
    insertion_baseline: Tensor  # pb
    deletion_baseline: Tensor  # pz


@dataclass(frozen=True, repr=False)
class SearchTask(Brief):
    """All that an ordering may use.

    Args:
        responses (SubsetResponses): Scores subsets; its two kinds of baseline are
            `INSERTION` and `DELETION`.
        end_points (EndPoints): The responses known already.
        examples (Tensor): int64 (K,), the examples to order, all of them with a full
            response above both baselines'.
        seed (Tensor or None): float64 (B, N) on the CPU, an attribution to start from.
        tau (float): The normalised response in [0, 1] at which insertion hands over to
            deletion.
        screenings (sequence of Screening): One for each of the B examples; says what
            its candidates are screened in.
    """

    responses: SubsetResponses
    end_points: EndPoints
    examples: Tensor
    seed: Tensor | None
    tau: float
    screenings: Sequence[Screening]


@dataclass(frozen=True, repr=False)
class SearchResult(Brief):
    """An order for each of a task's K examples, and the responses met on the way.

    Args:
        order (Tensor): int64 (K, N), features from most to least important.
        n_inserted (Tensor): int64 (K,), C: how many were ordered by insertion.
        insertion (Tensor): float64 (K, N + 1), raw response with the first k features
            of the order inserted; NaN where it was not met.
        deletion (Tensor): float64 (K, N + 1), raw response with the first k features of
            the order deleted; NaN where it was not met.
    """

    order: Tensor
    n_inserted: Tensor
    insertion: Tensor
    deletion: Tensor


class Ordering(Protocol):
    """MDA's first step: find the order of the patches."""

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the patches of all of a task's examples."""
        ...


def expected_forwards(
    ordering: Ordering, n_features: int, has_seed: bool
) -> int | None:
    """Ask an ordering how many forwards an example will take.

    Args:
        ordering (Ordering): The ordering.
        n_features (int): N.
        has_seed (bool): Whether the task has a seed.

    Returns:
        *int* or None: what its own ``expected_forwards`` says; None where it has none,
        as its rounds end when nothing more is gained.
    """
    tell = getattr(ordering, "expected_forwards", None)
    return tell(n_features, has_seed=has_seed) if callable(tell) else None


def require_ordering(ordering: object) -> None:
    """Raise unless this is an ordering that another one can build on."""
    if not callable(ordering):
        raise TypeError(
            f"ordering: got {type(ordering).__name__}, takes an ordering, such as "
            "FastOrdering()"
        )


def joint_score(
    insertion: NDArray[np.float64],
    deletion: NDArray[np.float64],
    end_points: EndPoints,
    example: int,
) -> float:
    """Compute insertion less deletion, the areas of one example's monotone responses.

    Args:
        insertion (ndarray): float64 (N + 1,), raw.
        deletion (ndarray): float64 (N + 1,), raw.
        end_points (EndPoints): Of all examples.
        example (int): Which one it is.

    Returns:
        *float*: in [-1, 1].
    """
    full = end_points.full[example]
    base = end_points.insertion_baseline[example]
    zero = end_points.deletion_baseline[example]
    rise = monotone_response(torch.from_numpy(insertion), base, full, "insertion")
    fall = monotone_response(torch.from_numpy(deletion), zero, full, "deletion")
    return float(area(rise) - area(fall))


class Described:
    """Says in its ``repr`` what it was made with."""

    def __repr__(self) -> str:
        """Write the class and its settings."""
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


def complete(task: SearchTask, result: SearchResult) -> SearchResult:
    """Ask the model for the points of both curves that the search did not meet.

    Args:
        task (SearchTask): The task that was searched.
        result (SearchResult): Its outcome, with NaN where a response is unknown.

    Returns:
        *SearchResult*: the same without NaN.
    """
    place = result.order.argsort(dim=1)  # (K, N): where in the order a feature stands
    insertion, deletion = result.insertion.clone(), result.deletion.clone()
    row_in, step_in = insertion.isnan().nonzero(as_tuple=True)
    row_del, step_del = deletion.isnan().nonzero(as_tuple=True)
    rows = torch.cat([row_in, row_del])
    if len(rows) == 0:
        return result
    subsets = torch.cat(
        [place[row_in] < step_in[:, None], place[row_del] >= step_del[:, None]]
    )
    kinds = torch.cat(
        [torch.full_like(row_in, INSERTION), torch.full_like(row_del, DELETION)]
    )
    values = task.responses(subsets, task.examples[rows], kinds).cpu().double()
    insertion[row_in, step_in], deletion[row_del, step_del] = values.split(
        [len(row_in), len(row_del)]
    )
    return SearchResult(result.order, result.n_inserted, insertion, deletion)
