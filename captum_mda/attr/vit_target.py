"""What is explained: from a target to one score for each row of outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda._checks import require_real
from captum_mda.perturbation.scores import Score, score_by_callable, to_scores
from captum_mda.perturbation.targets import select_target, Target, target_indices


@dataclass(frozen=True, eq=False)
class Scorer:
    """From outputs (R, ...) to one score for each row.

    Args:
        score (callable): Takes outputs and the example of each row, int64 (R,).
        check (callable): Takes an example of the model's outputs; raises a ValueError
            if the target does not fit them.
        whole_batch (bool): Whether rows must be all examples in order, as a callable
            target may expect.
        output (callable, optional): As ``score``, the chosen outputs themselves, where
            the score is made of them. Default: None
        callable_name (str, optional): The argument that brought a callable to make
            scores by: "target" or "score". Default: None
    """

    score: Callable[[Tensor, Tensor], Tensor]
    check: Callable[[Tensor], None]
    whole_batch: bool = False
    output: Callable[[Tensor, Tensor], Tensor] | None = None
    callable_name: str | None = None


def make_scorer(target: Target, score: Score, n_examples: int) -> Scorer:
    """Read a target before the first forward.

    Args:
        target: As `ViTAttribution.attribute` takes it.
        score (str or callable): What is made of outputs before a class is chosen.
        n_examples (int): The number of examples.

    Returns:
        *Scorer*: from outputs to scores.

    Raises:
        TypeError: The target is of no form that is known.
        ValueError: It has another number of entries.
    """
    if isinstance(target, Tensor) and target.is_floating_point():
        require_real("target", target)
        return _similarity_scorer(target.detach(), n_examples)
    if callable(target):

        def call(outputs: Tensor, examples: Tensor) -> Tensor:
            return score_by_callable(target, outputs)

        return Scorer(
            call, lambda example: None, whole_batch=True, callable_name="target"
        )
    indices = target_indices(target, n_examples)
    if indices is not None:
        with torch.inference_mode(False):  # a graph may hold it
            indices = indices.clone()

    def choose(outputs: Tensor, examples: Tensor, score: Score = score) -> Tensor:
        one_each = indices is not None and len(indices) > 1
        chosen = indices[examples] if one_each and indices is not None else indices
        return select_target(to_scores(outputs, score), chosen)

    def check(example: Tensor) -> None:
        """All targets must be there; the example stands for every output."""
        with torch.no_grad():
            rows = example.expand(n_examples, *example.shape[1:])
            choose(rows, torch.arange(n_examples))

    return Scorer(
        choose,
        check,
        output=partial(choose, score="identity"),
        callable_name="score" if callable(score) else None,
    )


_HOW_TO_PASS = (
    "pass class indices as integers, target.long() or one_hot.argmax(1); several or "
    "soft labels as target=lambda outputs: (outputs * labels).sum(1); an embedding "
    "(E,) or (B, E) as wide as the output, E, or as "
    "target=lambda outputs: torch.cosine_similarity(outputs, embedding)"
)


def _similarity_scorer(embedding: Tensor, n_examples: int) -> Scorer:
    """Explain the cosine similarity with an embedding, of a text for example."""
    shape = tuple(embedding.shape)
    rows = embedding if embedding.dim() == 2 else embedding[None]
    if not torch.isfinite(rows).all():
        raise ValueError("target: NaN or infinite values in the embedding")

    def similarity(outputs: Tensor, examples: Tensor) -> Tensor:
        wanted = rows.to(outputs)
        wanted = wanted if len(wanted) == 1 else wanted[examples.to(outputs.device)]
        return F.cosine_similarity(outputs, wanted, dim=1)

    def check(example: Tensor) -> None:
        if example.numel() == 1:
            raise ValueError(
                f"target: got floating-point numbers of shape {shape} for a model with "
                "one output, whose cosine similarity with anything is 1 or -1; to "
                "explain the output pass target=None, with score='sigmoid' its "
                "probability; for labels of 0 pass target=lambda outputs: "
                "-outputs.flatten()"
            )
        if rows.dim() != 2 or len(rows) not in (1, n_examples):
            raise ValueError(
                f"target: got an embedding of shape {shape}, takes (E,) or one for "
                f"each example, ({n_examples}, E); {_HOW_TO_PASS}"
            )
        if example.dim() != 2 or example.shape[1] != rows.shape[1]:
            raise ValueError(
                f"target: got an embedding of {rows.shape[1]} numbers, the model's "
                f"output has shape {tuple(example.shape)}; {_HOW_TO_PASS}"
            )
        if _may_be_labels(embedding, n_examples):
            raise ValueError(
                f"target: got floating-point numbers of shape {shape}, all in [0, 1] "
                "or whole: labels, or an embedding? Both fit the model's output of "
                f"{rows.shape[1]} values; {_HOW_TO_PASS}"
            )

    return Scorer(similarity, check)


def _may_be_labels(embedding: Tensor, n_examples: int) -> bool:
    """Tell whether an embedding may as well be what training takes as labels.

    Those are one row of numbers in [0, 1], or of whole ones, for each example; or one
    whole number for each. One row for several examples can only be an embedding.
    """
    one_row = embedding.dim() == 1 or len(embedding) == 1
    if one_row and n_examples > 1 and embedding.numel() != n_examples:
        return False
    whole = bool((embedding == embedding.round()).all())
    if one_row and n_examples > 1:
        return whole and bool((embedding >= 0).all())
    return whole or bool(((embedding >= 0) & (embedding <= 1)).all())
