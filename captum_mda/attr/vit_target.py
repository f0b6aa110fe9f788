"""Targets: from a target to one score per row of outputs."""

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Scorer:
    """Functions from outputs (R, ...) to one score per row.

    Args:
        score (callable): Takes outputs and the example of each row, int64 (R,).
        check (callable): Takes an example of the model's outputs; raises a ValueError
            if the target does not fit them.
        whole_batch (bool, optional): Whether rows must be all examples in order, as a
            callable target may expect. Default: False
        output (callable, optional): Like ``score``, but returns the chosen outputs
            before a softmax or another function is applied. Default: None
        callable_name (str, optional): The argument that was a callable, "target" or
            "score". Default: None
    """

    score: Callable[[Tensor, Tensor], Tensor]
    check: Callable[[Tensor], None]
    whole_batch: bool = False
    output: Callable[[Tensor, Tensor], Tensor] | None = None
    callable_name: str | None = None


def make_scorer(target: Target, score: Score, n_examples: int) -> Scorer:
    """Read a target before the first forward.

    Args:
        target (any): See `ViTAttribution.attribute`.
        score (str or callable): The function of the outputs that the class is chosen
            from.
        n_examples (int): The number of examples.

    Returns:
        *Scorer*: from outputs to scores.

    Raises:
        TypeError: The target has an unknown form.
        ValueError: It has a wrong number of entries.
    """
    if isinstance(target, Tensor) and target.is_floating_point():
        require_real("target", target)
        return _similarity_scorer(target.detach(), n_examples)
    if callable(target):

        def call(outputs: Tensor, examples: Tensor) -> Tensor:
            return score_by_callable(target, outputs)

        return Scorer(
            score=call,
            check=lambda example: None,
            whole_batch=True,
            callable_name="target",
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
        """Choose all targets from copies of the example."""
        with torch.no_grad():
            rows = example.expand(n_examples, *example.shape[1:])
            choose(rows, torch.arange(n_examples))

    return Scorer(
        score=choose,
        check=check,
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
    """Score by the cosine similarity with an embedding, such as that of a text."""
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

    return Scorer(score=similarity, check=check)


def _may_be_labels(embedding: Tensor, n_examples: int) -> bool:
    """Tell whether an embedding looks like labels as used in training.

    Labels are one row of numbers in [0, 1], or of whole numbers, per example; or one
    whole number per example. One row for several examples can only be an embedding.
    """
    one_row = embedding.dim() == 1 or len(embedding) == 1
    if one_row and n_examples > 1 and embedding.numel() != n_examples:
        return False
    whole = bool((embedding == embedding.round()).all())
    if one_row and n_examples > 1:
        return whole and bool((embedding >= 0).all())
    return whole or bool(((embedding >= 0) & (embedding <= 1)).all())
