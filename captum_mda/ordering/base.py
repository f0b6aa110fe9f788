"""The protocol of an ordering: what a search is given, and what it returns.

The way of a query through the engine, one step of the search of B images::

    MetricDrivenAttribution.explain
      |  SearchTask: responses, end points, examples, prior, tau, screenings
      v
    ordering(task)                      one generator per image: its search
      |  each search yields a SubsetQuery: subsets bool (K, N), a baseline's index,
      |  and whether bfloat16 will do
      v
    lockstep.run_in_lockstep            joins the pending queries of all images
      |  subsets (R, N), examples (R,), baseline indices (R,)
      v
    SubsetResponses                     composes inputs: present features from the
      |  a function that makes a        image, absent ones from the baseline
      |  slice of the rows' inputs
      v
    Response                            cuts the rows into chunks that fit into memory
      |  inputs (r, ...), arguments     (halved where memory runs out), counts forwards
      v
    forward_func                        the user's model
      |  outputs (r, ...)
      v
    Response                            outputs -> scores of the target, checked: (R,)
      v
    lockstep.run_in_lockstep            sends float64 (K,) back into each search, which
      |                                 goes on to its next query
      v
    SearchResult                        order, number inserted, both response curves

Searches that differentiate (`RelaxedOrdering`) call ``SubsetResponses.gradients``
directly; the chunks, the model and the count below it are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from captum_mda._summaries import Brief
from captum_mda.curves import area, monotone_response
from captum_mda.ordering.lockstep import Floats
from captum_mda.ordering.screening import Screening
from captum_mda.perturbation import SubsetResponses
from captum_mda.perturbation.scores import ScoredAs

INSERTION = 0
"""Index of the baseline that stands for features not yet inserted."""
DELETION = 1
"""Index of the baseline that stands for deleted features."""


# Positional, as in version 0.1.
@dataclass(frozen=True, repr=False)
class EndPoints(Brief):
    """The three responses that every curve starts or ends with.

    Args:
        full (Tensor): float64 (B,), p0: of the inputs.
        insertion_baseline (Tensor): float64 (B,), pb: of the insertion baselines.
        deletion_baseline (Tensor): float64 (B,), pz: of the deletion baselines.
        scored_as (str, optional): What responses are made of, see
            `captum_mda.perturbation.scores.scored_as`. Default: "value"
    """

    full: Tensor
    insertion_baseline: Tensor
    deletion_baseline: Tensor
    scored_as: ScoredAs = "value"


@dataclass(frozen=True, kw_only=True, repr=False)
class SearchTask(Brief):
    """Everything that an ordering may use.

    Args:
        responses (SubsetResponses): Scores subsets of features on one of two baselines,
            whose indices are `INSERTION` and `DELETION`.
        end_points (EndPoints): The responses that are known already.
        examples (Tensor): int64 (K,), the examples to order. Each scores higher than
            both of its baselines.
        seed (Tensor or None): float64 (B, N) on the CPU, the prior: the scores that
            narrow the search, as the candidates of a step are the features they rank
            next. Named as in ``seed_attributions``, the paper's term.
        tau (float): The normalised response in [0, 1] at which insertion hands over to
            deletion.
        screenings (sequence of Screening): One per example of the batch, which decides
            between its candidates.
    """

    responses: SubsetResponses
    end_points: EndPoints
    examples: Tensor
    seed: Tensor | None
    tau: float
    screenings: Sequence[Screening]

    @property
    def prior(self) -> Tensor | None:
        """The prior, by the name that the code has for it."""
        return self.seed


# Positional, as in version 0.1: orderings of users build it.
@dataclass(frozen=True, repr=False)
class SearchResult(Brief):
    """An order for each of a task's K examples, with the responses met on the way.

    Args:
        order (Tensor): int64 (K, N), features from most to least important.
        n_inserted (Tensor): int64 (K,), C: the number of features ordered by insertion.
        insertion (Tensor): float64 (K, N + 1), raw response with the first k features
            of the order inserted; NaN where it is not known.
        deletion (Tensor): float64 (K, N + 1), raw response with the first k features of
            the order deleted; NaN where it is not known.
    """

    order: Tensor
    n_inserted: Tensor
    insertion: Tensor
    deletion: Tensor


class Ordering(Protocol):
    """MDA's first step: a callable that finds the order of the features."""

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the features of all of a task's examples."""
        ...


def expected_forwards(
    ordering: Ordering, n_features: int, has_seed: bool
) -> int | None:
    """Estimate the number of forwards that one example will take.

    Args:
        ordering (Ordering): The ordering.
        n_features (int): N.
        has_seed (bool): Whether the search has a prior.

    Returns:
        *int* or None: the result of the ordering's own ``expected_forwards``; None
        where it has no such method, as rounds end when the score stops rising.
    """
    estimate = getattr(ordering, "expected_forwards", None)
    return estimate(n_features, has_seed=has_seed) if callable(estimate) else None


def require_ordering(ordering: object) -> None:
    """Raise a TypeError unless an ordering that another one builds on is callable."""
    if not callable(ordering):
        raise TypeError(
            f"ordering: got {type(ordering).__name__}, takes an ordering, such as "
            "FastOrdering()"
        )


def joint_score(
    insertion: Floats, deletion: Floats, end_points: EndPoints, example: int
) -> float:
    """Compute insertion less deletion, the areas of one example's monotone responses.

    Args:
        insertion (ndarray): float64 (N + 1,), raw.
        deletion (ndarray): float64 (N + 1,), raw.
        end_points (EndPoints): Of all examples.
        example (int): The index of the example.

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
    """Shows the settings it was made with in its ``repr``."""

    def __repr__(self) -> str:
        """Write the class and its settings."""
        names = filter(partial(hasattr, self), inspect.signature(type(self)).parameters)
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({settings})"


def complete(task: SearchTask, result: SearchResult) -> SearchResult:
    """Evaluate the points of both curves that a search left unknown.

    Args:
        task (SearchTask): The task that was searched.
        result (SearchResult): Its outcome, with NaN where a response is unknown.

    Returns:
        *SearchResult*: the same without NaN.
    """
    place = result.order.argsort(dim=1)  # (K, N): each feature's position in the order
    insertion, deletion = result.insertion.clone(), result.deletion.clone()
    row_in, step_in = insertion.isnan().nonzero(as_tuple=True)
    row_del, step_del = deletion.isnan().nonzero(as_tuple=True)
    rows = torch.cat([row_in, row_del])
    if len(rows) == 0:
        return result
    subsets = torch.cat(
        [place[row_in] < step_in[:, None], place[row_del] >= step_del[:, None]]
    )
    baseline_indices = torch.cat(
        [torch.full_like(row_in, INSERTION), torch.full_like(row_del, DELETION)]
    )
    values = task.responses(subsets, task.examples[rows], baseline_indices)
    insertion[row_in, step_in], deletion[row_del, step_del] = (
        values.cpu().double().split([len(row_in), len(row_del)])
    )
    return replace(result, insertion=insertion, deletion=deletion)
