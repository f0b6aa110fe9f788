"""MDA's first step: search for the order of the features by the metrics themselves.

`base` holds the protocol, and shows the way of a query through the engine.
"""

from collections.abc import Callable

from captum_mda.ordering.auto import AutoOrdering, resolved
from captum_mda.ordering.base import (
    complete,
    DELETION,
    Described,
    EndPoints,
    expected_forwards,
    INSERTION,
    Ordering,
    SearchResult,
    SearchTask,
)
from captum_mda.ordering.fast import FastOrdering
from captum_mda.ordering.joint import JointOrdering
from captum_mda.ordering.paper import forwards_of_paper, PaperOrdering, warn_of_cost
from captum_mda.ordering.refine import RefinedOrdering
from captum_mda.ordering.relaxed import RelaxedOrdering
from captum_mda.ordering.run import (
    make_task,
    measure_end_points,
    order_examples,
    order_with_bar,
    prior_scores,
    require_inputs_for,
    seed_scores,
)
from captum_mda.ordering.screening import Screening

ORDERINGS: dict[str, Callable[[], Ordering]] = {
    "paper": PaperOrdering,
    "fast": FastOrdering,
    "joint": JointOrdering,
    "relaxed": RelaxedOrdering,
    "auto": AutoOrdering,
}
"""The orderings by name; "auto" chooses by the features and the model."""


def ordering_name(ordering: Ordering) -> str:
    """Name an ordering: as in `ORDERINGS`, or by its class and settings.

    Args:
        ordering (Ordering): The ordering; a `RefinedOrdering` has the name of what it
            refines.

    Example::

        >>> ordering_name(FastOrdering()), ordering_name(FastOrdering(window=9))[:22]
        ('fast', 'FastOrdering(window=9,')
    """
    if isinstance(ordering, RefinedOrdering):
        return ordering_name(ordering.ordering)
    for known, make in ORDERINGS.items():
        if type(ordering) is make and repr(ordering) == repr(make()):
            return known
    if isinstance(ordering, Described):
        return repr(ordering)
    name = getattr(ordering, "__qualname__", None)
    return name if isinstance(name, str) else type(ordering).__name__


__all__ = [
    "DELETION",
    "INSERTION",
    "ORDERINGS",
    "AutoOrdering",
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
    "expected_forwards",
    "forwards_of_paper",
    "make_task",
    "measure_end_points",
    "order_examples",
    "order_with_bar",
    "ordering_name",
    "prior_scores",
    "require_inputs_for",
    "resolved",
    "seed_scores",
    "warn_of_cost",
]
