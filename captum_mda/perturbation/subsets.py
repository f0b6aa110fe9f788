"""Scores inputs of which only a subset of the features is present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from captum_mda.perturbation.features import Features, look_up
from captum_mda.perturbation.response import (
    differentiable,
    Progress,
    Response,
    ScoredRows,
    WITHOUT_GRADIENTS,
)


class SubsetResponses:
    """Builds inputs from subsets of their features, and scores them.

    Rows of different examples and of different baselines share forwards, so one call
    with many rows fills the chunks.

    Args:
        response (Response): Scores rows.
        inputs (tuple[Tensor, ...]): The inputs, where all features are present.
        baselines (sequence of tuple[Tensor, ...]): One or more baselines, chosen by
            their index, each with one tensor per input, which broadcasts to it: what
            stands where a feature is absent.
        features (Features): The features of the inputs.
    """

    def __init__(
        self,
        response: Response,
        inputs: tuple[Tensor, ...],
        baselines: Sequence[tuple[Tensor, ...]],
        features: Features,
    ) -> None:
        """Join the baselines, one after the other: (number of baselines * B, ...)."""
        self.response = response
        self.features = features
        self._inputs = inputs
        self._baselines = tuple(
            torch.cat([each[index].expand(tensor.shape) for each in baselines])
            for index, tensor in enumerate(inputs)
        )

    def of_positions(self) -> SubsetResponses:
        """Return the same inputs and baselines, with every position a feature."""
        changed = copy(self)
        changed.features = Features.positions(self._inputs)
        return changed

    def with_progress(self, progress: Progress) -> SubsetResponses:
        """Return the same, with a bar that counts forwards."""
        changed = copy(self)
        changed.response = self.response.with_progress(progress)
        return changed

    @property
    def n_features(self) -> int:
        """The number of features of every example."""
        return self.features.n_features

    @property
    def n_examples(self) -> int:
        """The number of examples."""
        return self.features.batch_size

    def __call__(
        self,
        subsets: Tensor | Callable[[slice], Tensor],
        examples: Tensor,
        baseline_indices: Tensor | int = 0,
        in_bf16: bool = False,
    ) -> Tensor:
        """Score one input per subset: `evaluate`'s values, (R,)."""
        return self.evaluate(subsets, examples, baseline_indices, in_bf16).values

    def evaluate(
        self,
        subsets: Tensor | Callable[[slice], Tensor],
        examples: Tensor,
        baseline_indices: Tensor | int = 0,
        in_bf16: bool = False,
    ) -> ScoredRows:
        """Score one input per subset, and tell what the scores are made of.

        Args:
            subsets (Tensor or callable): bool (R, N), True where a feature is present;
                or a function that makes the subsets of a slice of the rows, where all
                of them at once would be too large.
            examples (Tensor): int64 (R,) on the CPU, the example of each row.
            baseline_indices (Tensor or int, optional): int64 (R,) on the CPU, or one
                int for all: the baseline that stands for the absent features.
                Default: 0
            in_bf16 (bool, optional): Run the forwards in bfloat16 instead of as the
                caller's context has them. Default: False

        Returns:
            *ScoredRows*: (R,) scores, float32, or float64 where the outputs are.
        """
        if isinstance(subsets, Tensor):
            subsets = subsets.to(self._inputs[0].device).__getitem__
        if isinstance(baseline_indices, int):
            baseline_indices = torch.full_like(examples, baseline_indices)
        make_subsets = subsets
        baseline_rows = baseline_indices * self.n_examples + examples

        def make_rows(rows: slice) -> tuple[Tensor, ...]:
            return self._compose(
                make_subsets(rows), examples[rows], baseline_rows[rows]
            )

        device = self._inputs[0].device if in_bf16 else None
        return self.response.evaluate(make_rows, examples, device)

    def gradients(
        self, shares: Tensor, examples: Tensor, baseline_indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score inputs with partly present features, and differentiate by the shares.

        Each row counts as two forwards, for its forward and its backward pass.

        Args:
            shares (Tensor): float64 (R, N), the place of each feature on the line from
                the baseline, 0, to the input, 1.
            examples (Tensor): int64 (R,) on the CPU, the example of each row.
            baseline_indices (Tensor): int64 (R,) on the CPU, the baseline of each row.

        Returns:
            *tuple[Tensor, Tensor]*: (R,) scores and float64 (R, N) gradients of each by
            its shares.

        Raises:
            ValueError: Inputs are not of a floating-point dtype, the model's scores
                have no gradient, or they or their gradients are not finite.
        """
        require_differentiable(self._inputs)
        baseline_rows = baseline_indices * self.n_examples + examples
        with torch.inference_mode(False):
            plain = copy(self)
            plain._inputs = differentiable(self._inputs)
            plain._baselines = differentiable(self._baselines)
            masks = differentiable(self.features.masks)
            plain.features = replace(self.features, masks=masks)

        def make_rows(shares: Tensor, rows: slice) -> tuple[Tensor, ...]:
            return plain._compose(shares, examples[rows], baseline_rows[rows])

        shares = shares.to(self._inputs[0].device)
        return self.response.gradients(make_rows, shares, examples)

    def _compose(
        self, present: Tensor, examples: Tensor, baseline_rows: Tensor
    ) -> tuple[Tensor, ...]:
        """Combine inputs where features are present and baselines elsewhere.

        Presence is bool (R, N), or shares of the way from baseline to input, (R, N).
        """
        composed = []
        for tensor, baseline, mask in zip(
            self._inputs, self._baselines, self.features.masks, strict=True
        ):
            if mask.shape[0] > 1:
                mask = mask.index_select(0, examples.to(mask.device))
            where = look_up(present.to(tensor.device), mask)
            full, absent = (
                take_rows(tensor, examples),
                take_rows(baseline, baseline_rows),
            )
            composed.append(
                torch.where(where, full, absent)
                if where.dtype == torch.bool
                else absent + where.to(full.dtype) * (full - absent)
            )
        return tuple(composed)


def require_differentiable(inputs: Sequence[Tensor]) -> None:
    """Raise a ValueError unless inputs are of floating-point numbers."""
    for number, tensor in enumerate(inputs):
        if not tensor.is_floating_point():
            raise ValueError(
                f"inputs: tensor {number} is {tensor.dtype}, of which nothing lies "
                "between baseline and input; pass floating-point inputs, or "
                f"{WITHOUT_GRADIENTS}"
            )


def take_rows(tensor: Tensor, indices: Tensor) -> Tensor:
    """Take rows, or a single one to broadcast where all are the same, without a copy.

    Args:
        tensor (Tensor): (K, ...).
        indices (Tensor): int64 (R,) on the CPU, rows of the tensor.

    Returns:
        *Tensor*: (R, ...), or (1, ...) where all indices are equal.
    """
    first = int(indices[0])
    if bool((indices == first).all()):
        return tensor[first : first + 1]
    return tensor.index_select(0, indices.to(tensor.device))
