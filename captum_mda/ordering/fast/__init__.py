"""A search for the order of the features at a fraction of the paper's forwards.

``settings`` holds its numbers, ``state`` the order and the curves under construction,
``insertion`` finds the front of the order, ``deletion`` its back, and ``completion``
the rest of the curves; ``evaluation`` and ``budget`` are what they share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from captum_mda._checks import (
    require_count,
    require_in_unit_interval,
    require_positive_integer_or_none,
    require_positive_number,
)
from captum_mda.ordering.base import (
    DELETION,
    Described,
    INSERTION,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast.budget import Budget
from captum_mda.ordering.fast.completion import follow_insertion, interpolated
from captum_mda.ordering.fast.deletion import DeletionPhase
from captum_mda.ordering.fast.evaluation import Evaluator
from captum_mda.ordering.fast.insertion import InsertionPhase
from captum_mda.ordering.fast.settings import FastSettings, FEW, FEW_FEATURES, MANY
from captum_mda.ordering.fast.state import CurveState
from captum_mda.ordering.greedy import Found, order_side_by_side, ranked_both_ways
from captum_mda.ordering.lockstep import Floats, Search


class FastOrdering(Described):
    """Orders features by both metrics for a seventh of the forwards of `PaperOrdering`.

    It evaluates subsets where the outcome depends on them:

    - Insertion goes on until the normalised response reaches tau, as in the paper, but
      a step evaluates part of the window only: candidates that were never evaluated,
      those with the largest most recent gain, and those whose last evaluation is
      longest ago. Steps begin with the whole window and narrow as the budget is spent.
    - Among the candidates with the highest responses to insertion, the one with the
      highest insertion response less deletion response is taken. The paper looks at
      insertion alone here, and so loses in deletion.
    - Insertion goes on past tau while both scores gain by it, and hands over where the
      outlook was best. The paper stops at tau, and loses in insertion where the
      response then stays below the whole image's for long.
    - Deletion begins with the features that the prior ranks last, in blocks, while the
      response stays quiet: so near the baseline's that no score can change. Then its
      steps choose candidates as those of insertion do, and share the rest of the
      budget.
    - Behind its last inserted feature, the insertion curve is evaluated at some points
      and near each new maximum, as its running maximum changes seldom.

    The other points of the curves are interpolated between their neighbours. Where the
    budget runs short, steps place several features at once, and insertion ends at four
    fifths of it, whether tau is reached or not. Without a prior the search makes one,
    for 2 N forwards beyond the budget: what inserting each feature alone adds, plus
    what deleting each alone takes away. With tau = 1, insertion alone is evaluated, and
    takes more.

    With up to 54 features, which are large, each weighs more. The first step then
    evaluates the deletion of every candidate, and later ones that of a few: those that
    are expected to be best if deleting them has the same effect as at its last
    evaluation. Once deleting the front leaves a quiet response, deletion is evaluated
    for its curve alone, and insertion has four fifths of the budget.

    Args:
        window (int, optional): As for `PaperOrdering`. Default: None
        forwards_per_feature (float, optional): The budget: the largest number of
            forwards for an example with N features, divided by N; where responses are
            quiet the search takes less. It may take a few more, and more than a few
            under 3 per feature where insertion is slow to reach tau. None: 4.5, and 245
            forwards in all where that is more. Default: None
        deletion_checks (int, optional): Number of insertion candidates whose deletion
            response is also evaluated per step; with up to 54 features the first step
            evaluates those of a whole window, unless this is 1. None: 5; 3 with up to
            54 features. Default: None
        quiet_level (float, optional): The normalised response, in [0, 1], below which
            deletion is quiet. Default: 0.01
        oldest_share (float, optional): The share of a step, in [0, 1], for the
            candidates whose last evaluation is longest ago. Default: 0.3
        patience (int, optional): Number of features that insertion goes on past tau
            without a better outlook; 0 stops at tau, as the paper does. None: 4; 2 with
            up to 54 features. Default: None

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> from captum_mda.ordering import FastOrdering
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> model, frugal = demo.load_model(), FastOrdering(forwards_per_feature=2.5)
        >>> mda = MetricDrivenAttribution(model, ordering=frugal)
        >>> found = mda.explain(images, target=labels, feature_mask=mask)
        >>> found.n_forwards < 5 * 64  # 2.5 for each patch, and 2 for the prior
        True
    """

    def __init__(
        self,
        window: int | None = None,
        forwards_per_feature: float | None = None,
        deletion_checks: int | None = None,
        quiet_level: float = MANY.quiet_level,
        oldest_share: float = MANY.oldest_share,
        patience: int | None = None,
    ) -> None:
        """Check the numbers."""
        self.window = require_positive_integer_or_none("window", window)
        if forwards_per_feature is not None:
            forwards_per_feature = require_positive_number(
                "forwards_per_feature", forwards_per_feature
            )
        self.deletion_checks = require_positive_integer_or_none(
            "deletion_checks", deletion_checks
        )
        self.quiet_level = require_in_unit_interval("quiet_level", quiet_level)
        self.oldest_share = require_in_unit_interval("oldest_share", oldest_share)
        if patience is not None:
            patience = require_count("patience", patience)
        self.forwards_per_feature = forwards_per_feature
        self.patience = patience

    def settings(self, n_features: int) -> FastSettings:
        """Choose a preset by the number of features, and replace what is given."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if self.forwards_per_feature is not None:
            given["least_forwards"] = 0.0  # a budget that was given holds as it is
        return replace(FEW if n_features <= FEW_FEATURES else MANY, **given)

    def budget(self, n_features: int) -> float:
        """Compute the number of forwards that the search of N features may take."""
        return self.settings(n_features).budget(n_features)

    def expected_forwards(self, n_features: int, has_seed: bool) -> int:
        """Estimate the forwards of an example; without a prior they are 2 N more."""
        return int(self.budget(n_features)) + (0 if has_seed else 2 * n_features)

    def __call__(self, task: SearchTask) -> SearchResult:
        """Order the features of all of a task's examples, side by side."""
        return order_side_by_side(task, self.search)

    def search(
        self, task: SearchTask, example: int, prior: Floats | None = None
    ) -> Search[Found]:
        """Search the order of one example, by the task's prior or by another (N,)."""
        if prior is None and task.prior is not None:
            prior = task.prior[example].numpy()
        settings = self.settings(task.responses.n_features)
        budget = Budget(settings.budget(task.responses.n_features))
        return budget.count(_search(task, example, settings, budget, prior))


def _search(
    task: SearchTask,
    example: int,
    settings: FastSettings,
    budget: Budget,
    prior: Floats | None,
) -> Search[Found]:
    """Order the features of one example, phase by phase."""
    state = CurveState(task, example, settings.quiet_level)
    evaluate = Evaluator(state, task.screenings[example])
    if prior is None:
        prior = yield from _own_prior(state, evaluate)
        budget.reset()  # the budget is for the search
    best_first, worst_first = ranked_both_ways(prior)
    yield from InsertionPhase(
        settings=settings,
        state=state,
        budget=budget,
        evaluate=evaluate,
        best_first=best_first,
        tau=task.tau,
    ).run()
    yield from DeletionPhase(
        settings=settings,
        state=state,
        budget=budget,
        evaluate=evaluate,
        worst_first=worst_first,
    ).run()
    yield from follow_insertion(state, budget, evaluate, settings.quiet_level)
    curves = interpolated(state.insertion), interpolated(state.deletion)
    return state.order, len(state.front), *curves


def _own_prior(state: CurveState, evaluate: Evaluator) -> Search[Floats]:
    """Score each feature by its response alone, inserted and deleted: (N,)."""
    alone = np.eye(state.n, dtype=bool)
    inserted = yield from evaluate.screen(alone, INSERTION, 1)
    deleted = yield from evaluate.screen(~alone, DELETION, -1)
    prior = (inserted.responses - state.base) / abs(state.full - state.base)
    lost = state.full - deleted.responses
    return prior + lost / abs(state.full - state.zero)


__all__ = ["FastOrdering"]
