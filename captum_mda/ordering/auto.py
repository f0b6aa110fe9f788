"""The choice of an ordering by the number of features and by gradients."""

from __future__ import annotations

import torch

from captum_mda.ordering import base
from captum_mda.ordering.joint import JointOrdering
from captum_mda.ordering.refine import RefinedOrdering
from captum_mda.ordering.relaxed import RelaxedOrdering

FEW_FEATURES = 100
"""Number of features up to which the joint search takes no more forwards than the
relaxed one; not tuned: 64 and 196 features are measured, in docs/attribution.md."""


class AutoOrdering(base.Described):
    """Chooses between `RelaxedOrdering` and `JointOrdering`.

    It takes the relaxed search for more than 100 features and a model that can be
    differentiated with respect to its inputs: on the reference photos, of 196 patches,
    it scores as well as the joint one for half of its forwards, a fifth of those of
    `PaperOrdering`. With fewer features the joint search is as cheap, and without
    gradients it is the best.

    Whether there are gradients is tested at two soft images of the first example, which
    costs 4 forwards.

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> mda = MetricDrivenAttribution(demo.load_model(), ordering="auto")
        >>> found = mda.explain(images, target=labels, feature_mask=mask)
        >>> found.provenance["ordering"]  # of 64 patches
        'joint'
    """

    def choose(self, task: base.SearchTask) -> base.Ordering:
        """Choose the ordering of a task.

        Args:
            task (SearchTask): What is to be ordered.

        Returns:
            *Ordering*: a `RelaxedOrdering` or a `JointOrdering`.
        """
        if task.responses.n_features <= FEW_FEATURES or not _has_gradients(task):
            return JointOrdering()
        return RelaxedOrdering()

    def __call__(self, task: base.SearchTask) -> base.SearchResult:
        """Order the features of all of a task's examples by the ordering chosen."""
        return self.choose(task)(task)


def resolved(ordering: base.Ordering, task: base.SearchTask) -> base.Ordering:
    """Replace an `AutoOrdering` by the ordering it chooses for a task.

    Args:
        ordering (Ordering): Any ordering; a `RefinedOrdering` is resolved within.
        task (SearchTask): What is to be ordered.
    """
    if isinstance(ordering, AutoOrdering):
        return ordering.choose(task)
    if isinstance(ordering, RefinedOrdering):
        return RefinedOrdering(resolved(ordering.ordering, task), ordering.passes)
    return ordering


def _has_gradients(task: base.SearchTask) -> bool:
    """Try to compute the gradient at two images whose features are half present."""
    if len(task.examples) == 0:
        return False
    shares = torch.full((2, task.responses.n_features), 0.5, dtype=torch.float64)
    both = torch.tensor([base.INSERTION, base.DELETION])
    try:
        task.responses.gradients(shares, task.examples[:1].repeat(2), both)
    # Integer inputs, outputs without a graph, NumPy inside, too little memory.
    except (RuntimeError, TypeError, ValueError):
        return False
    return True
