"""Runs the searches of several images side by side, so that they share forwards.

A search is a generator: it yields a `SubsetQuery` and is sent the responses. Its code
reads like the algorithm for one image; the batching happens here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_mda.perturbation import SubsetResponses

Outcome = TypeVar("Outcome")
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SubsetQuery:
    """Subsets of one image's features whose responses a search needs.

    Args:
        subsets (NDArray): bool (K, N), True where a feature is present.
        baseline_index (int): The baseline that stands for the absent features.
        in_bf16 (bool, optional): Whether to run the forwards in bfloat16.
            Default: False
    """

    subsets: Bools
    baseline_index: int
    in_bf16: bool = False


Search = Generator[SubsetQuery, Floats, Outcome]


def answered_by(
    answer: Callable[[SubsetQuery], Search[Floats]],
    search: Search[Outcome],
) -> Search[Outcome]:
    """Run a search, and pass each of its queries through another generator.

    Args:
        answer (callable): Makes the generator that answers a query: it may yield
            queries itself, and returns float64 (K,).
        search (generator): The search.

    Returns:
        *Outcome*: what the search returns.
    """
    responses: Floats | None = None
    while True:
        try:
            # The first value sent is None, which starts a generator.
            query = search.send(responses)  # type: ignore[arg-type]
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        responses = yield from answer(query)


def run_in_lockstep(
    searches: Sequence[Search[Outcome]],
    examples: Tensor,
    responses: SubsetResponses,
) -> list[Outcome]:
    """Advance all searches together, by one query each at a time.

    Args:
        searches (sequence of generators): One per example.
        examples (Tensor): int64 (K,), the example that each search belongs to.
        responses (SubsetResponses): Evaluates the queries.

    Returns:
        *list*: what each search returned.
    """
    outcomes: dict[int, Outcome] = {}
    answers: dict[int, Floats | None] = dict.fromkeys(range(len(searches)))
    while answers:
        queries: dict[int, SubsetQuery] = {}
        for index, answer in answers.items():
            try:
                # The first value sent is None, which starts a generator.
                queries[index] = searches[index].send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                outcomes[index] = stop.value
        answers = _evaluated(queries, examples, responses)
    return [outcomes[index] for index in range(len(searches))]


def _evaluated(
    queries: dict[int, SubsetQuery], examples: Tensor, responses: SubsetResponses
) -> dict[int, Floats | None]:
    """Evaluate all queries, those of one precision in one call."""
    answers: dict[int, Floats | None] = {}
    for in_bf16 in (True, False):
        alike = {i: query for i, query in queries.items() if query.in_bf16 is in_bf16}
        if not alike:
            continue
        lengths = [len(query.subsets) for query in alike.values()]
        repeats = torch.tensor(lengths)
        subsets = np.concatenate([query.subsets for query in alike.values()])
        baselines = torch.tensor([query.baseline_index for query in alike.values()])
        values = responses(
            torch.from_numpy(subsets),
            examples[list(alike)].repeat_interleave(repeats),
            baselines.repeat_interleave(repeats),
            in_bf16,
        )
        parts = np.split(values.cpu().double().numpy(), np.cumsum(lengths)[:-1])
        answers |= zip(alike, parts, strict=True)
    return answers
