"""The frame of a search: its prior, its end points, and the examples it orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from captum_mda._captum import end_bar, FORWARDS, progress_bar
from captum_mda._state import warn_caller
from captum_mda.ordering import base
from captum_mda.ordering.relaxed import RelaxedOrdering
from captum_mda.ordering.screening import Screening
from captum_mda.ordering.validation import validated_result
from captum_mda.perturbation import Features, SubsetResponses
from captum_mda.perturbation.maps import AnyMaps, as_tensors, of_features, over_inputs
from captum_mda.perturbation.precision import Precision
from captum_mda.perturbation.scores import how_to_credit, PROBABILITIES
from captum_mda.perturbation.subsets import require_differentiable


def prior_scores(prior: AnyMaps | None, features: Features) -> Tensor | None:
    """Read the prior of a search, which users pass as ``seed_attributions``.

    Args:
        prior (Tensor, tuple[Tensor, ...] or MDAExplanation, optional): One score per
            feature, (B, N); or maps laid out over the inputs, see `over_inputs`, which
            are averaged over each feature.
        features (Features): The features of the inputs.

    Returns:
        *Tensor* or None: float64 (B, N) on the CPU.

    Raises:
        TypeError: The prior is no tensor.
        ValueError: It has another shape, or NaN or infinite values.
    """
    if prior is None:
        return None
    maps = as_tensors("seed_attributions", prior)
    values = of_features(maps, features)
    if values is not None:
        shape = (features.batch_size, features.n_features)
        return values.double().cpu().expand(shape)
    laid = over_inputs("seed_attributions", maps, features, broadcasts=True)
    return features.mean(laid).cpu()


def seed_scores(seed: AnyMaps | None, features: Features) -> Tensor | None:
    """Read the prior of a search: `prior_scores` by its name of version 0.1."""
    return prior_scores(seed, features)


def measure_end_points(
    responses: SubsetResponses,
) -> tuple[base.EndPoints, torch.dtype]:
    """Score the inputs and both of their baselines in one call.

    Args:
        responses (SubsetResponses): With the two baselines of a search.

    Returns:
        *tuple[EndPoints, torch.dtype]*: the responses, and the dtype of the scores.
    """
    n, b = responses.n_features, responses.n_examples
    subsets = torch.zeros(3 * b, n, dtype=torch.bool)
    subsets[:b] = True
    baselines = torch.tensor(
        [base.INSERTION, base.INSERTION, base.DELETION]
    ).repeat_interleave(b)
    scored = responses.evaluate(subsets, torch.arange(b).repeat(3), baselines)
    values = scored.values.cpu()
    full, insertion_baseline, deletion_baseline = values.double().view(3, b)
    return (
        base.EndPoints(full, insertion_baseline, deletion_baseline, scored.scored_as),
        values.dtype,
    )


def make_task(
    responses: SubsetResponses,
    prior: Tensor | None,
    tau: float,
    precision: Precision = None,
    on_degenerate: Literal["raise", "zero"] = "raise",
) -> tuple[base.SearchTask, torch.dtype]:
    """Score the end points, and state what is to be ordered.

    Args:
        responses (SubsetResponses): With the two baselines of a search.
        prior (Tensor, optional): From `prior_scores`.
        tau (float): As for `SearchTask`.
        precision (str, optional): As for `Screening`. Default: None
        on_degenerate (str, optional): "raise" a ValueError about the first example
            that scores no higher than a baseline, or warn of it and give it "zero"
            attributions. Default: "raise"

    Returns:
        *tuple[SearchTask, torch.dtype]*: the task, and the dtype of the scores.
    """
    end_points, dtype = measure_end_points(responses)
    baseline = torch.maximum(
        end_points.insertion_baseline, end_points.deletion_baseline
    )
    degenerate = end_points.full <= baseline
    bad = degenerate.nonzero().flatten().tolist()
    if bad:
        full, low = float(end_points.full[bad[0]]), float(baseline[bad[0]])
        message = (
            f"inputs: example {bad[0]} scores {full:.6g} on the target and its "
            f"baseline {low:.6g}, so no feature can be credited ({len(bad)} such "
            f"examples: {bad[:10]})"
        )
        if on_degenerate == "raise":
            raise ValueError(
                f"{message}; {how_to_credit(end_points.scored_as, full, low)}; or "
                'choose another baseline, or pass on_degenerate="zero"'
            )
        warn_caller(f"{message}; their attributions are 0")
    of_probabilities = end_points.scored_as in PROBABILITIES
    task = base.SearchTask(
        responses=responses,
        end_points=end_points,
        examples=(~degenerate).nonzero().flatten(),
        seed=prior,
        tau=tau,
        screenings=[Screening(precision, of_probabilities) for _ in degenerate],
    )
    return task, dtype


def require_inputs_for(ordering: object, inputs: Sequence[Tensor]) -> None:
    """Raise a ValueError where an ordering needs gradients of inputs without any."""
    while ordering is not None:
        if isinstance(ordering, RelaxedOrdering):
            require_differentiable(inputs)
        ordering = getattr(ordering, "ordering", None)  # the one it builds on


def order_examples(task: base.SearchTask, ordering: base.Ordering) -> base.SearchResult:
    """Order the task's examples; all others keep the order of their features.

    Args:
        task (SearchTask): The task.
        ordering (Ordering): The search to run.

    Returns:
        *SearchResult*: orders and complete curves of all B examples; those that are not
        the task's have curves of 0 between their end points.
    """
    n, b = task.responses.n_features, task.responses.n_examples
    order = torch.arange(n).repeat(b, 1)
    n_inserted = torch.zeros(b, dtype=torch.int64)
    insertion, deletion = torch.zeros(2, b, n + 1, dtype=torch.float64)
    insertion[:, 0] = task.end_points.insertion_baseline
    deletion[:, -1] = task.end_points.deletion_baseline
    insertion[:, -1] = deletion[:, 0] = task.end_points.full
    if len(task.examples):
        found = base.complete(task, validated_result(ordering(task), task))
        order[task.examples] = found.order
        n_inserted[task.examples] = found.n_inserted
        # The ends stay, to the bit: responses are normalised by them.
        insertion[task.examples, 1:-1] = found.insertion[:, 1:-1]
        deletion[task.examples, 1:-1] = found.deletion[:, 1:-1]
    return base.SearchResult(
        order=order, n_inserted=n_inserted, insertion=insertion, deletion=deletion
    )


def order_with_bar(
    task: base.SearchTask, ordering: base.Ordering, title: str, shows: bool
) -> base.SearchResult:
    """Order the task's examples, as `order_examples`, with a bar of the forwards."""
    n, has_prior = task.responses.n_features, task.prior is not None
    each = base.expected_forwards(ordering, n, has_prior)
    total = None if each is None else each * len(task.examples)
    with progress_bar(total, title, shows, "search", FORWARDS) as bar:
        counted = replace(task, responses=task.responses.with_progress(bar))
        found = order_examples(counted, ordering)
        end_bar(bar)
    return found
