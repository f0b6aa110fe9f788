"""A seed for a search: the order that gradients find with patches partly present."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn, Tensor

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
from captum_mda.perturbation.inputs import require_positive_integer

# What the measurements of benchmarks/ordering.py settled, and nobody need set.
DEFAULT_BUDGET = 3.5
"""Forwards for each feature of the ordering proper."""
LEVELS = 3
"""How many numbers of patches a step asks about, each from both ends."""
FORWARDS_OF_A_STEP = 4 * LEVELS
"""Both ways from each number of patches, and each row there and back."""
LARGEST_SHARE = 0.8
"""The largest of them, as a share of the patches."""
REACH = 1.0
"""How far all steps together can move a score; at first scores span 1."""
FIRST_SOFTNESS, LAST_SOFTNESS = 0.1, 0.02
"""Over which difference of scores a patch goes from absent to present."""
GOLDEN_RATIO = 0.6180339887498949
"""Multiples of it, less whole numbers, fill the space between 0 and 1 evenly."""
BISECTIONS = 40
"""How often the border's range is halved: to rounding."""
TINY = 1e-300
"""Where all patches are wholly present or absent, 0 is divided by this, not by 0."""


class RelaxedOrdering(Described):
    """Seeds another ordering by gradient ascent on both metrics at once.

    Every patch has a score, at first its rank in the task's seed. For a number of
    patches k, those with higher scores are more, those with lower ones less present, k
    in all: a soft version of the first k patches of the order. A step asks for the
    responses to a few such images, where patches are inserted by as much as they are
    present and where they are deleted by as much, and moves the scores along the
    gradient of insertion less deletion, by Adam; the border between present and absent
    gets sharper from step to step. The scores are the seed of the ordering proper.

    Greedy searches see one patch ahead, and their candidates are as good as their seed.
    The gradient sees all patches, at all lengths of the curves. The model must be
    differentiable with respect to its inputs, which are of a floating-point dtype.

    A step takes 12 forwards: a row that is differentiated counts as two, one there and
    one back. Rows of one example are asked together, and not with those of others, so
    that results depend neither on the other examples nor on chunk sizes of 6 and more.

    Args:
        ordering (Ordering, optional): Orders by the seed found. None: `FastOrdering`
            with a budget of 3.5 forwards for each feature. Default: None
        steps (int, optional): How many steps to take. Default: 40

    Raises:
        TypeError: The ordering is not callable, or ``steps`` is no integer.
        ValueError: ``steps`` is not positive. When called: the inputs are not of a
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
        steps = require_positive_integer("steps", steps)
        self.ordering = ordering
        self.steps = steps

    def expected_forwards(self, n_features: int, has_seed: bool) -> int | None:
        """Tell about how many forwards an example takes: its steps, and the search."""
        search = expected_forwards(self.ordering, n_features, has_seed=True)
        if search is None:
            return None
        return self.steps * FORWARDS_OF_A_STEP + search

    def __call__(self, task: SearchTask) -> SearchResult:
        """Find a seed, and order the patches of all of a task's examples by it."""
        return self.ordering(replace(task, seed=relaxed_seed(task, self.steps)))


def relaxed_seed(task: SearchTask, steps: int) -> Tensor:
    """Find scores by gradient ascent on insertion less deletion.

    Args:
        task (SearchTask): What is to be ordered; its seed, if any, is where to start.
        steps (int): How many steps to take.

    Returns:
        *Tensor*: float64 (B, N) on the CPU, higher for patches that come earlier; 0 for
        examples that are not the task's.

    Raises:
        ValueError: The model's scores have no gradient, or it is not finite.
    """
    n = task.responses.n_features
    found = torch.zeros(task.responses.n_examples, n, dtype=torch.float64)
    for example in task.examples.tolist():
        # 1 for the first of the seed, 0 for its last; one half for all without a seed.
        scores = torch.full((n,), 0.5, dtype=torch.float64)
        if task.seed is not None:
            ranking = (-task.seed[example]).argsort(stable=True)
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
        # One number of patches from each of as many parts, another one each step.
        within = torch.arange(LEVELS) + (0.5 + step * GOLDEN_RATIO) % 1.0
        counts = (within / LEVELS * LARGEST_SHARE * len(scores)).clamp(min=1.0)
        presence = _presence(scores.detach(), counts.double(), softness)
        scores.grad = -_through_presence(
            presence, _gain_by_presence(task, example, presence), softness
        )
        adam.step()
    return scores.detach()


def _presence(scores: Tensor, counts: Tensor, softness: float) -> Tensor:
    """Let as many patches be present as asked for: sigmoids of their scores.

    Args:
        scores (Tensor): float64 (N,).
        counts (Tensor): float64 (K,), sums of the presences.
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
    """Turn the gradient by presences (K, N) into that by scores (N,).

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
    kinds = torch.tensor([INSERTION, DELETION]).repeat_interleave(k)
    values, gradients = (
        each.cpu().double()
        for each in task.responses.gradients(
            torch.cat([presence, 1 - presence]), rows, kinds
        )
    )
    base, zero = ends.insertion_baseline[example], ends.deletion_baseline[example]
    # Beyond the ends the metrics clip, and nothing is gained.
    counts = torch.cat([values[:k] < full, values[k:] > zero])[:, None]
    inserted, deleted = (gradients * counts).split(k)
    gain: Tensor = (inserted / (full - base) + deleted / (full - zero)) / k
    return gain
