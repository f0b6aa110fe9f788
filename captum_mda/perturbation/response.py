"""Scores rows of inputs by a forward function and a target, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_mda._captum import format_additional_forward_args, NullProgress
from captum_mda._checks import non_finite_rows, require_positive_integer_or_none
from captum_mda.perturbation.chunks import ChunkSize, scored_in_chunks
from captum_mda.perturbation.failures import failures_explained, module_of
from captum_mda.perturbation.precision import bfloat16_on
from captum_mda.perturbation.scores import (
    in_full_precision,
    nan_where_infinite,
    require_scorer,
    require_scores,
    Score,
    score_rows_by_callable,
    scored_as,
    ScoredAs,
    to_scores,
    validated_outputs,
)
from captum_mda.perturbation.targets import read_target, select_target, Target

CHECK_THE_MODEL = (
    "check the model on inputs whose features are partly replaced by the baseline"
)
WITHOUT_GRADIENTS = 'take an ordering that asks for responses alone, such as "fast"'


class Progress(Protocol):
    """A progress bar that counts forwards."""

    def update(self, amount: int) -> object:
        """Count."""
        ...


@dataclass(frozen=True)
class ScoredRows:
    """Scores of rows, and what they were made of.

    Args:
        values (Tensor): (R,) scores without gradient, float32, or float64 where the
            outputs are.
        scored_as (str): "softmax", "sigmoid", "value", "identity", "score" or
            "target", see `captum_mda.perturbation.scores.scored_as`.
    """

    values: Tensor
    scored_as: ScoredAs


class Response:
    """Scores the target of a model for any number of rows, and counts its forwards.

    Args:
        forward_func (callable): The model or any function of the inputs. It returns one
            output per row, rows along dimension 0.
        n_examples (int): The number of examples that the rows stem from.
        target (int, tuple, Tensor, list, callable, optional): Captum's forms; or a
            callable that maps outputs (R, ...), in float32 or float64, to one score per
            row, (R,), each by its own output alone, in place of ``score``.
            Default: None
        additional_forward_args (any, optional): Passed on behind the inputs; a tensor
            whose first dimension is ``n_examples`` is taken to hold one entry per
            example and follows the rows. Default: None
        score (str or callable, optional): "softmax" over dimension 1 of the outputs;
            "sigmoid" of each of them; "identity" for the outputs as they are; or a
            callable that maps outputs to scores of the same first dimension. Outputs
            with one value per row have no classes and are their own score under
            "softmax". Default: "softmax"
        rows_per_forward (int, optional): The largest number of rows in one forward.
            None: as many as fit, halved and tried again where memory runs out.
            Default: None
        progress (optional): A bar with an ``update`` method, which counts forwards.
            Default: None
        rows_argument (str, optional): The caller's name for ``rows_per_forward``, for
            messages. Default: "perturbations_per_eval"

    Attributes:
        forwards (Tensor): int64 (B,), the number of rows the model has seen of each
            example.
        forwards_bf16 (Tensor): int64 (B,), those of them in bfloat16.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: The target, the score or the number of rows is out of its range.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        n_examples: int,
        target: Target = None,
        additional_forward_args: object = None,
        score: Score = "softmax",
        rows_per_forward: int | None = None,
        progress: Progress | None = None,
        rows_argument: str = "perturbations_per_eval",
    ) -> None:
        """Check everything that can be checked before the first forward."""
        require_scorer(forward_func, score)
        self.forward_func = forward_func
        self.n_examples = n_examples
        self.forwards = torch.zeros(n_examples, dtype=torch.int64)
        self.forwards_bf16 = torch.zeros_like(self.forwards)
        self._target = read_target(target, n_examples)  # (1 or B, d), or a callable
        self._arguments: tuple[Any, ...] = (
            format_additional_forward_args(additional_forward_args) or ()
        )
        self._score = score
        rows = require_positive_integer_or_none(rows_argument, rows_per_forward)
        # The caller's, or the size that fitted last time.
        self._size = None if rows is None else ChunkSize(rows, may_shrink=False)
        self._progress: Progress = progress or NullProgress()

    def with_progress(self, progress: Progress) -> Response:
        """Return the same, with a bar; both count the forwards of both."""
        changed = copy(self)
        changed._progress = progress
        return changed

    @property
    def n_forwards(self) -> int:
        """The number of rows that the model has seen so far."""
        return int(self.forwards.sum())

    def __call__(
        self,
        make_rows: Callable[[slice], tuple[Tensor, ...]],
        examples: Tensor,
        bf16_device: torch.device | None = None,
    ) -> Tensor:
        """Score rows: `evaluate`'s values, (R,)."""
        return self.evaluate(make_rows, examples, bf16_device).values

    def evaluate(
        self,
        make_rows: Callable[[slice], tuple[Tensor, ...]],
        examples: Tensor,
        bf16_device: torch.device | None = None,
    ) -> ScoredRows:
        """Score rows, and tell what the scores are made of.

        Args:
            make_rows (callable): Builds the inputs of a slice of the rows.
            examples (Tensor): int64 (R,) on the CPU, the example each row stems from;
                at least one.
            bf16_device (torch.device, optional): The device of the rows, to run the
                forwards in bfloat16; scores are made outside of autocast then. None:
                forwards run as the caller's context has them. Default: None

        Returns:
            *ScoredRows*: the scores.

        Raises:
            TypeError: The forward function returns no tensor.
            ValueError: It returns another number of rows, NaN or infinity.
        """
        made_of: ScoredAs = "value"

        def score(rows: slice) -> tuple[Tensor, ...]:
            nonlocal made_of
            scored = self._forward(make_rows(rows), examples[rows], bf16_device)
            made_of = scored.scored_as
            return (scored.values,)

        # One context for all chunks, so that weights are cast once.
        context = nullcontext() if bf16_device is None else bfloat16_on(bf16_device)
        in_bf16 = bf16_device is not None
        with torch.no_grad(), context:
            size = self._chunk_size(make_rows)
            count = partial(self._count, in_bf16=in_bf16, n_each=1)
            (values,), fits = scored_in_chunks(score, examples, size, count)
        self._size = fits
        if bf16_device is None:
            require_finite_scores(values, examples, "its output")
        else:
            mend = f'{CHECK_THE_MODEL}, or pass precision=None in place of "bf16"'
            require_finite_scores(values, examples, "its output", " in bfloat16", mend)
        return ScoredRows(values, made_of)

    def gradients(
        self,
        make_rows: Callable[[Tensor, slice], tuple[Tensor, ...]],
        points: Tensor,
        examples: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Score rows, and differentiate each row's score by the point it is made of.

        Each row counts as two forwards, for its forward and its backward pass.
        Gradients of the model's parameters are neither computed nor touched.

        Args:
            make_rows (callable): Builds the inputs of a slice of the rows from that
                slice of the points.
            points (Tensor): (R, K), of a floating-point dtype.
            examples (Tensor): int64 (R,) on the CPU, the example each row stems from.

        Returns:
            *tuple[Tensor, Tensor]*: (R,) scores and (R, K) gradients, both detached.

        Raises:
            TypeError: The forward function returns no tensor.
            ValueError: Its scores have no gradient, or they or their gradients are not
                finite.
        """

        @torch.inference_mode(False)
        @torch.enable_grad()
        def score(rows: slice) -> tuple[Tensor, ...]:
            leaf = points[rows].detach().clone().requires_grad_()
            values = self._forward(make_rows(leaf, rows), examples[rows], None).values
            gradient = None
            if values.requires_grad:  # by the inputs, or by parameters alone
                (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
            if gradient is None:
                what = "or the scores that the callable target makes of them "
                raise ValueError(
                    "forward_func: its outputs "
                    f"{what if callable(self._target) else ''}have no gradient with "
                    f"respect to the inputs, which this ordering needs; "
                    f"{WITHOUT_GRADIENTS}"
                )
            return values, gradient

        # The size that fits is not kept: gradients need more than forwards alone.
        size = self._chunk_size(lambda rows: make_rows(points[rows], rows))
        count = partial(self._count, in_bf16=False, n_each=2)
        (values, gradients), _ = scored_in_chunks(score, examples, size, count)
        require_finite_scores(values, examples, "its output")
        require_finite_scores(
            gradients, examples, "the score's gradient", mend=WITHOUT_GRADIENTS
        )
        return values, gradients

    def _forward(
        self,
        rows: tuple[Tensor, ...],
        examples: Tensor,
        bf16_device: torch.device | None,
    ) -> ScoredRows:
        """Run the model on the rows of one chunk, and score its outputs."""
        arguments = arguments_of_rows(self._arguments, examples, self.n_examples)
        if torch.is_grad_enabled():
            arguments = differentiable(arguments)
        with failures_explained(
            module_of(self.forward_func),
            rows,
            self._arguments,
            self.n_examples,
            in_bf16=bf16_device is not None,
        ):
            outputs = self.forward_func(*rows, *arguments)
        outputs = validated_outputs(outputs, len(examples))
        made_of = scored_as(outputs, self._score, self._target)
        require_scores(outputs, rows)
        if bf16_device is None:
            return ScoredRows(self._scores(outputs, examples), made_of)
        with torch.autocast(bf16_device.type, enabled=False):
            return ScoredRows(self._scores(outputs, examples), made_of)

    def _scores(self, outputs: Tensor, examples: Tensor) -> Tensor:
        target = self._target
        if callable(target):
            values = score_rows_by_callable(target, in_full_precision(outputs))
            return nan_where_infinite(values, outputs)
        scores = to_scores(outputs, self._score)
        if target is not None and len(target) > 1:
            target = target[examples]
        values = select_target(scores, target)
        if callable(self._score):
            return nan_where_infinite(values, outputs)
        if self._score == "sigmoid":
            return nan_where_infinite(values, select_target(outputs, target))
        return values

    def _chunk_size(
        self, make_rows: Callable[[slice], tuple[Tensor, ...]]
    ) -> ChunkSize:
        """Choose the caller's size, the one that fitted last, or the device's."""
        if self._size is not None:
            return self._size
        return ChunkSize.of(None, make_rows(slice(0, 1))[0].device)

    def _count(self, examples: Tensor, in_bf16: bool, n_each: int) -> None:
        counts = n_each * torch.bincount(examples, minlength=self.n_examples)
        self.forwards += counts
        if in_bf16:
            self.forwards_bf16 += counts
        self._progress.update(n_each * len(examples))


def _copied(value: Any) -> Any:
    """Copy a tensor, and the tensors in plain containers."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(_copied(entry) for entry in value)
    if type(value) is dict:
        return {name: _copied(entry) for name, entry in value.items()}
    return value


def require_finite_scores(
    values: Tensor,
    examples: Tensor,
    what: str,
    where: str = "",
    mend: str = CHECK_THE_MODEL,
) -> None:
    """Raise, with the example's number, if a row (R, ...) is NaN or infinite."""
    bad = non_finite_rows(values)
    if bad:
        raise ValueError(
            f"forward_func: {what} is NaN or infinite{where} for {len(bad)} of "
            f"{len(values)} perturbed inputs, first for one of example "
            f"{int(examples[bad[0]])}; {mend}"
        )


def differentiable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy tensors made in inference mode, which autograd does not take."""
    return tuple(
        value.clone() if isinstance(value, Tensor) and value.is_inference() else value
        for value in values
    )


def arguments_of_rows(
    arguments: Sequence[Any], examples: Tensor, n_examples: int
) -> tuple[Any, ...]:
    """Index the arguments that hold one entry per example by the examples of rows.

    All tensors are copied, as the model may write to its arguments.

    Args:
        arguments (sequence): What is passed to a model behind its inputs.
        examples (Tensor): int64 (R,) on the CPU, the example each row stems from.
        n_examples (int): The number of examples.

    Returns:
        *tuple*: the arguments, tensors of that many entries indexed by the rows.
    """
    return tuple(
        argument[examples.to(argument.device)]
        if isinstance(argument, Tensor)
        and argument.dim() > 0
        and argument.shape[0] == n_examples
        else _copied(argument)
        for argument in arguments
    )
