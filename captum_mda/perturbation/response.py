"""From a forward function and a target to one score for each row, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from captum_mda._captum import (
    format_additional_forward_args,
    NullProgress,
)
from captum_mda._checks import (
    require_positive_integer_or_none,
)
from captum_mda.perturbation.chunks import default_rows, in_chunks
from captum_mda.perturbation.failures import (
    failures_explained,
    module_of,
)
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


class Response:
    """A model's score of its target, for any number of rows, and what it cost.

    Args:
        forward_func (callable): The model or any function of the inputs. It returns one
            output for each row, rows along dimension 0.
        n_examples (int): How many examples the rows stem from.
        target (int, tuple, Tensor, list, callable, optional): Captum's forms; or a
            callable that maps outputs (R, ...), in float32 or float64, to one score for
            each row, (R,), each by its own output alone, in place of ``score``.
            Default: None
        additional_forward_args (any, optional): Passed on behind the inputs; a tensor
            whose first dimension is ``n_examples`` is taken to hold one entry for each
            example and follows the rows. Default: None
        score (str or callable, optional): "softmax" over dimension 1 of the outputs;
            "sigmoid" of each of them; "identity" for the outputs as they are; or a
            callable that maps outputs to scores of the same first dimension. Outputs
            with one value for each row have no classes and are their own score under
            "softmax". Default: "softmax"
        rows_per_forward (int, optional): The most rows in one forward. None: as many as
            fit, halved and tried again when memory runs out. Default: None
        progress (optional): A bar with an ``update`` method; counts rows.
        rows_argument (str, optional): What the caller calls ``rows_per_forward``.
            Default: "perturbations_per_eval"

    Raises:
        TypeError: An argument is of the wrong kind.
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
        progress: Any = None,
        rows_argument: str = "perturbations_per_eval",
    ) -> None:
        """Check everything that can be checked before the first forward."""
        require_scorer(forward_func, score)
        rows_per_forward = require_positive_integer_or_none(
            rows_argument, rows_per_forward
        )
        self.forward_func = forward_func
        self.n_examples = n_examples
        self.forwards = torch.zeros(n_examples, dtype=torch.int64)  # (B,)
        self.forwards_bf16 = torch.zeros_like(self.forwards)  # of those, in bfloat16
        self.scored_as: ScoredAs = "value"
        """What the last scores were made of."""
        self._target = read_target(target, n_examples)  # (1 or B, d), or a callable
        self._arguments: tuple[Any, ...] = (
            format_additional_forward_args(additional_forward_args) or ()
        )
        self._score = score
        self._rows_per_forward = rows_per_forward
        self._may_shrink = rows_per_forward is None
        self.progress = progress if progress is not None else NullProgress()

    @property
    def gives_probabilities(self) -> bool:
        """Whether the last scores were a softmax over classes, or a sigmoid."""
        return self.scored_as in ("softmax", "sigmoid")

    @property
    def n_forwards(self) -> int:
        """How many rows the model has seen so far."""
        return int(self.forwards.sum())

    def __call__(
        self,
        make_rows: Callable[[slice], tuple[Tensor, ...]],
        examples: Tensor,
        bf16_device: torch.device | None = None,
    ) -> Tensor:
        """Score rows.

        Args:
            make_rows (callable): Builds the inputs of a slice of the rows.
            examples (Tensor): int64 (R,) on the CPU, the example each row stems from.
            bf16_device (torch.device, optional): Where the rows are, if the forwards
                shall be in bfloat16; scores are made outside of autocast then. None:
                forwards as the caller's context has them. Default: None

        Returns:
            *Tensor*: (R,) scores without gradient, float32, or float64 where the
            outputs are.

        Raises:
            TypeError: The forward function returns no tensor.
            ValueError: It returns another number of rows, NaN or infinity.
        """

        def ask(rows: slice) -> tuple[Tensor, ...]:
            return (self._forward(make_rows(rows), examples[rows], bf16_device),)

        # One context for all chunks, so that weights are cast once.
        context = nullcontext() if bf16_device is None else bfloat16_on(bf16_device)
        with torch.no_grad(), context:
            size = self._chunk_size(make_rows)
            (values,) = self._in_chunks(ask, examples, size, bf16_device is not None)
        if bf16_device is None:
            require_finite_rows(values, examples, "its output")
        else:
            mend = f'{CHECK_THE_MODEL}, or pass precision=None in place of "bf16"'
            require_finite_rows(values, examples, "its output", " in bfloat16", mend)
        return values

    def gradients(
        self,
        make_rows: Callable[[Tensor, slice], tuple[Tensor, ...]],
        points: Tensor,
        examples: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Score rows, and differentiate each row's score by what the row is made of.

        Each row counts as two forwards: one there, and one back. Gradients of the
        model's parameters are neither computed nor touched.

        Args:
            make_rows (callable): Builds the inputs of a slice of the rows, of that
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
        def ask(rows: slice) -> tuple[Tensor, ...]:
            leaf = points[rows].detach().clone().requires_grad_()
            values = self._forward(make_rows(leaf, rows), examples[rows], None)
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

        size = self._chunk_size(lambda rows: make_rows(points[rows], rows))
        values, gradients = self._in_chunks(ask, examples, size, n_each=2)
        require_finite_rows(values, examples, "its output")
        require_finite_rows(
            gradients, examples, "the score's gradient", mend=WITHOUT_GRADIENTS
        )
        return values, gradients

    def _in_chunks(
        self,
        ask: Callable[[slice], tuple[Tensor, ...]],
        examples: Tensor,
        size: int,
        in_bf16: bool = False,
        n_each: int = 1,
    ) -> tuple[Tensor, ...]:
        """Ask chunk by chunk, with smaller ones where memory runs out, and count.

        Answers are copied into tensors (R, ...) that are made once: thousands of small
        ones, made between large ones that are freed again, would hold on to gigabytes.
        """
        found: tuple[Tensor, ...] = ()

        def work(rows: slice, size: int) -> None:
            nonlocal found
            found = _put(ask(rows), rows, found, len(examples))
            self._count(examples[rows], in_bf16, n_each)

        _, fits = in_chunks(work, len(examples), size, self._may_shrink)
        if fits < size and n_each == 1:  # gradients need more than forwards alone
            self._rows_per_forward = fits
        return found

    def _forward(
        self,
        rows: tuple[Tensor, ...],
        examples: Tensor,
        bf16_device: torch.device | None,
    ) -> Tensor:
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
        self.scored_as = scored_as(outputs, self._score, self._target)
        require_scores(outputs, rows)
        if bf16_device is None:
            return self._scores(outputs, examples)
        with torch.autocast(bf16_device.type, enabled=False):
            return self._scores(outputs, examples)

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

    def _chunk_size(self, make_rows: Callable[[slice], tuple[Tensor, ...]]) -> int:
        if self._rows_per_forward is None:
            device = make_rows(slice(0, 1))[0].device
            self._rows_per_forward = default_rows(device)
        return self._rows_per_forward

    def _count(self, examples: Tensor, in_bf16: bool, n_each: int) -> None:
        counts = n_each * torch.bincount(examples, minlength=self.n_examples)
        self.forwards += counts
        if in_bf16:
            self.forwards_bf16 += counts
        self.progress.update(n_each * len(examples))


def _copied(value: Any) -> Any:
    """Copy a tensor, and the tensors in plain containers."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(_copied(entry) for entry in value)
    if type(value) is dict:
        return {name: _copied(entry) for name, entry in value.items()}
    return value


def _put(
    answers: tuple[Tensor, ...], rows: slice, found: tuple[Tensor, ...], n_rows: int
) -> tuple[Tensor, ...]:
    """Copy the answers for some rows into what is found for all, made by the first."""
    answers = tuple(answer.detach() for answer in answers)
    if not found:
        found = tuple(answer.new_empty(n_rows, *answer.shape[1:]) for answer in answers)
    kinds = [
        torch.promote_types(of_all.dtype, answer.dtype)
        for of_all, answer in zip(found, answers, strict=True)
    ]
    found = tuple(of_all.to(kind) for of_all, kind in zip(found, kinds, strict=True))
    for of_all, answer in zip(found, answers, strict=True):
        of_all[rows] = answer
    return found


def require_finite_rows(
    values: Tensor,
    examples: Tensor,
    what: str,
    where: str = "",
    mend: str = CHECK_THE_MODEL,
) -> None:
    """Raise, with the example's number, if a row (R, ...) is NaN or infinite."""
    bad = examples[~torch.isfinite(values).view(len(values), -1).all(dim=1).cpu()]
    if len(bad):
        raise ValueError(
            f"forward_func: {what} is NaN or infinite{where} for {len(bad)} of "
            f"{len(values)} perturbed inputs, first for one of example {int(bad[0])}; "
            f"{mend}"
        )


def differentiable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy tensors that were made in inference mode, which autograd does not take."""
    return tuple(
        value.clone() if isinstance(value, Tensor) and value.is_inference() else value
        for value in values
    )


def arguments_of_rows(
    arguments: Sequence[Any], examples: Tensor, n_examples: int
) -> tuple[Any, ...]:
    """Let arguments that hold one entry for each example follow their rows.

    The model may write on what it gets: all tensors are copies.

    Args:
        arguments (sequence): What is passed to a model behind its inputs.
        examples (Tensor): int64 (R,) on the CPU, the example each row stems from.
        n_examples (int): How many examples there are.

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
