"""A prior found by gradients: the order in which partly present features matter."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn, Tensor

from captum_mda._checks import require_positive_integer
from captum_mda.ordering.base import (
    DELETION,
    Described,
    expected_forwards,
    INSERTION,
    Ordering,
    require_ordering,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast import FastOrdering

# benchmarks/ordering.py measures the whole: eight photos, 1,097 forwards, +.0591 in
# Ins-Del on the published search, and +.0380 with 15 steps instead of 40. Of the single
# constants below no figure is on record; they were not tuned one by one.
DEFAULT_BUDGET = 3.5
"""Forwards per feature of the search that follows."""
LEVELS = 3
"""Numbers of features whose soft images a step evaluates, each from both ends."""
FORWARDS_OF_A_STEP = 4 * LEVELS
"""Insertion and deletion at each level; a differentiated row counts two forwards."""
LARGEST_SHARE = 0.8
"""The largest number of features of a level, as a share of all."""
REACH = 1.0
"""The largest total change of a score over all steps; scores span 1 at first."""
FIRST_SOFTNESS, LAST_SOFTNESS = 0.1, 0.02
"""Unit of the sigmoid from absent to present, in scores, at the first and last step."""
GOLDEN_RATIO = 0.6180339887498949
"""Its multiples modulo 1 fill the space between 0 and 1 evenly."""
BISECTIONS = 40
"""Halvings of the border's range, which reach rounding."""
TINY = 1e-300
"""Replaces a divisor of 0 where all features are wholly present or absent."""


class RelaxedOrdering(Described):
    """Finds a prior by gradient ascent on both metrics, and runs a search with it.

    Every feature has a score, at first its rank in the task's prior. For a number k of
    features, sigmoids of the scores make each feature partly present, k in all: a soft
    version of the first k features of the order. A step evaluates a few such images,
    with features inserted and with features deleted by these shares, and moves the
    scores along the gradient of insertion less deletion, by Adam. The border between
    present and absent gets sharper from step to step. The final scores are the prior of
    the search that follows.

    Greedy searches look one feature ahead, and their candidates are as good as their
    prior. The gradient covers all features, at all lengths of the curves. The model
    must be differentiable with respect to its inputs, which are of a floating-point
    dtype.

    A step takes 12 forwards: a differentiated row counts as two, for its forward and
    its backward pass. Rows of one example are evaluated together and apart from those
    of others, so that results depend neither on the other examples nor on chunk sizes
    of 6 and more.

    Args:
        ordering (Ordering, optional): The search that follows. None: `FastOrdering`
            with a budget of 3.5 forwards per feature. Default: None
        steps (int, optional): The number of steps. Default: 40

    Raises:
        TypeError: The ordering is not callable, or ``steps`` is no integer.
        ValueError: ``steps`` is not positive. On a call: the inputs are not of a
            floating-point dtype, or the scores have no finite gradient.

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> from captum_mda.ordering import RelaxedOrdering
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> mda = MetricDrivenAttribution(
        ...     demo.load_model(), ordering=RelaxedOrdering(steps=5)
        ... )
        >>> mda.explain(images, target=labels, feature_mask=mask).order.shape
        torch.Size([1, 64])
    """

    def __init__(self, ordering: Ordering | None = None, steps: int = 40) -> None:
        """Check the number of steps."""
        if ordering is None:
            ordering = FastOrdering(forwards_per_feature=DEFAULT_BUDGET)
        require_ordering(ordering)
        self.steps = require_positive_integer("steps", steps)
        self.ordering = ordering

    def expected_forwards(self, n_features: int, has_seed: bool) -> int | None:
        """Estimate the forwards of an example: those of the steps and of the search."""
        search = expected_forwards(self.ordering, n_features, has_seed=True)
        if search is None:
            return None
        return self.steps * FORWARDS_OF_A_STEP + search

    def __call__(self, task: SearchTask) -> SearchResult:
        """Find a prior, and order the features of all of a task's examples by it."""
        return self.ordering(replace(task, seed=relaxed_prior(task, self.steps)))


def relaxed_prior(task: SearchTask, steps: int) -> Tensor:
    """Find scores by gradient ascent on insertion less deletion.

    Args:
        task (SearchTask): The task; its prior, if any, is the start.
        steps (int): The number of steps.

    Returns:
        *Tensor*: float64 (B, N) on the CPU, higher for features that come earlier; 0
        for examples that are not the task's.

    Raises:
        ValueError: The model's scores have no gradient, or it is not finite.
    """
    n = task.responses.n_features
    found = torch.zeros(task.responses.n_examples, n, dtype=torch.float64)
    for example in task.examples.tolist():
        # 1 for the prior's first, 0 for its last; one half for all without a prior.
        scores = torch.full((n,), 0.5, dtype=torch.float64)
        if task.prior is not None:
            ranking = (-task.prior[example]).argsort(stable=True)
            scores[ranking] = torch.linspace(1.0, 0.0, n, dtype=torch.float64)
        found[example] = _ascend(task, example, scores, steps)
    return found


def _ascend(task: SearchTask, example: int, scores: Tensor, steps: int) -> Tensor:
    """Improve the scores (N,) of one example."""
    scores = nn.Parameter(scores)
    adam = torch.optim.Adam([scores])
    for step in range(steps):
        done = step / steps
        adam.param_groups[0]["lr"] = 2 * REACH / steps * (1 - done)  # falls to 0
        softness = FIRST_SOFTNESS * (LAST_SOFTNESS / FIRST_SOFTNESS) ** done
        # One number of features from each third of the range, another one each step.
        within = torch.arange(LEVELS) + (0.5 + step * GOLDEN_RATIO) % 1.0
        counts = (within / LEVELS * LARGEST_SHARE * len(scores)).clamp(min=1.0)
        presence = _presence(scores.detach(), counts.double(), softness)
        scores.grad = -_through_presence(
            presence, _gain_by_presence(task, example, presence), softness
        )
        adam.step()
    return scores.detach()


def _presence(scores: Tensor, counts: Tensor, softness: float) -> Tensor:
    """Make features partly present, by sigmoids of their scores with given sums.

    Args:
        scores (Tensor): float64 (N,).
        counts (Tensor): float64 (K,), the sums of the presences.
        softness (float): The sigmoid's unit.

    Returns:
        *Tensor*: float64 (K, N) in [0, 1].
    """
    margin = 40 * softness  # where a sigmoid is 0 or 1
    low = (scores.min() - margin).expand(counts.shape)
    high = (scores.max() + margin).expand(counts.shape)
    for _ in range(BISECTIONS):
        border = (low + high) / 2
        is_low = ((scores - border[:, None]) / softness).sigmoid().sum(1) > counts
        low, high = torch.where(is_low, border, low), torch.where(is_low, high, border)
    return ((scores - border[:, None]) / softness).sigmoid()


def _through_presence(presence: Tensor, gain: Tensor, softness: float) -> Tensor:
    """Convert the gradient by presences (K, N) to that by scores (N,).

    The border moves with the scores, as the sum of each row's presences is fixed.
    """
    slope = presence * (1 - presence)
    total = slope.sum(1, keepdim=True).clamp(min=TINY)
    by_border = (gain * slope).sum(1, keepdim=True) / total
    by_score: Tensor = (slope * (gain - by_border)).sum(0) / softness
    return by_score


def _gain_by_presence(task: SearchTask, example: int, presence: Tensor) -> Tensor:
    """Differentiate normalised insertion less deletion by presences: (K, N)."""
    ends, k = task.end_points, len(presence)
    full = ends.full[example]
    rows = torch.full((2 * k,), example)
    baseline_indices = torch.tensor([INSERTION, DELETION]).repeat_interleave(k)
    values, gradients = (
        each.cpu().double()
        for each in task.responses.gradients(
            torch.cat([presence, 1 - presence]), rows, baseline_indices
        )
    )
    base, zero = ends.insertion_baseline[example], ends.deletion_baseline[example]
    # The metrics clip responses beyond the ends, where nothing is gained.
    counts = torch.cat([values[:k] < full, values[k:] > zero])[:, None]
    inserted, deleted = (gradients * counts).split(k)
    gain: Tensor = (inserted / (full - base) + deleted / (full - zero)) / k
    return gain
