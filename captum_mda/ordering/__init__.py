"""MDA's first step: find the order of the patches by asking the metrics."""

from collections.abc import Callable

from captum_mda.ordering.base import (
    complete,
    DELETION,
    EndPoints,
    INSERTION,
    Ordering,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast import FastOrdering
from captum_mda.ordering.joint import JointOrdering
from captum_mda.ordering.paper import PaperOrdering
from captum_mda.ordering.refine import RefinedOrdering
from captum_mda.ordering.relaxed import RelaxedOrdering
from captum_mda.ordering.run import (
    measure_end_points,
    order_examples,
    require_inputs_for,
    seed_scores,
)
from captum_mda.ordering.screening import Screening

ORDERINGS: dict[str, Callable[[], Ordering]] = {
    "paper": PaperOrdering,
    "fast": FastOrdering,
    "joint": JointOrdering,
    "relaxed": RelaxedOrdering,
    "auto": JointOrdering,
}
"""The orderings by name; "auto" is the best of those that need no gradients."""

__all__ = [
    "DELETION",
    "INSERTION",
    "ORDERINGS",
    "EndPoints",
    "FastOrdering",
    "JointOrdering",
    "Ordering",
    "PaperOrdering",
    "RefinedOrdering",
    "RelaxedOrdering",
    "Screening",
    "SearchResult",
    "SearchTask",
    "complete",
    "measure_end_points",
    "order_examples",
    "require_inputs_for",
    "seed_scores",
]
