"""Runs the searches of many images side by side, so that they share forwards.

A search is a generator: it yields the subsets it wants to know about and is sent their
responses. It reads like the algorithm for one image; the batching happens here.
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


@dataclass(frozen=True)
class Query:
    """Subsets of one image, bool (K, N), and the kind of baseline they are put on.

    ``in_bf16`` says that an answer in bfloat16 will do.
    """

    subsets: NDArray[np.bool_]
    kind: int
    in_bf16: bool = False


Search = Generator[Query, NDArray[np.float64], Outcome]


def answered_by(
    answer: Callable[[Query], Search[NDArray[np.float64]]], search: Search[Outcome]
) -> Search[Outcome]:
    """Run a search, and let another generator answer each of its queries.

    Args:
        answer (callable): Makes the generator of a query, which may ask in its turn,
            and returns float64 (K,).
        search (generator): Whose queries are answered.

    Returns:
        *Outcome*: what the search returns.
    """
    responses: NDArray[np.float64] | None = None
    while True:
        try:
            # The first "answer" is None, which starts a generator.
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
    """Advance all searches together, one query of each at a time.

    Args:
        searches (sequence of generators): One for each example.
        examples (Tensor): int64 (K,), the example that each search belongs to.
        responses (SubsetResponses): Answers the queries.

    Returns:
        *list*: what each search returned.
    """
    outcomes: dict[int, Outcome] = {}
    answers: dict[int, NDArray[np.float64] | None] = dict.fromkeys(range(len(searches)))
    while answers:
        queries: dict[int, Query] = {}
        for index, answer in answers.items():
            try:
                # The first "answer" is None, which starts a generator.
                queries[index] = searches[index].send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                outcomes[index] = stop.value
        answers = _answer(queries, examples, responses)
    return [outcomes[index] for index in range(len(searches))]


def _answer(
    queries: dict[int, Query], examples: Tensor, responses: SubsetResponses
) -> dict[int, NDArray[np.float64] | None]:
    """Ask for the responses of all queries, those of one precision at once."""
    answers: dict[int, NDArray[np.float64] | None] = {}
    for in_bf16 in (True, False):
        alike = {i: query for i, query in queries.items() if query.in_bf16 is in_bf16}
        if not alike:
            continue
        lengths = [len(query.subsets) for query in alike.values()]
        repeats = torch.tensor(lengths)
        subsets = np.concatenate([query.subsets for query in alike.values()])
        kinds = torch.tensor([query.kind for query in alike.values()])
        values = responses(
            torch.from_numpy(subsets),
            examples[list(alike)].repeat_interleave(repeats),
            kinds.repeat_interleave(repeats),
            in_bf16,
        )
        parts = np.split(values.cpu().double().numpy(), np.cumsum(lengths)[:-1])
        answers |= zip(alike, parts, strict=True)
    return answers
