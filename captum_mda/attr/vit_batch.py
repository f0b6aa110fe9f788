"""Some examples, what is asked about them, and how values of tokens are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._captum import NullProgress
from captum_mda.attr.vit_target import Scorer
from captum_mda.perturbation.differentiation import (
    callable_without_gradient,
    flat_callable,
    FLAT_MODEL,
    gradient_end,
    is_flat,
    lacks_gradient,
    model_without_gradient,
    require_unquantized,
)
from captum_mda.perturbation.failures import failures_explained
from captum_mda.perturbation.response import arguments_of_rows
from captum_mda.perturbation.scores import validated_outputs
from captum_mda.vit import (
    BiasCapture,
    ConstantParameters,
    Observation,
    observe,
    TokenStream,
    ViTAdapter,
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some of the examples, and what is asked of the model about them.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W), detached.
        arguments (tuple): Passed to the model behind the inputs.
        scorer (Scorer): From outputs to scores.
        examples (Tensor): int64 (B,), which of all examples these are.
        n_examples (int): How many there are in all.
        max_rows (int): The most rows in one forward.
        progress: A bar with an ``update`` method; counts forwards.
        as_called (callable): Makes the context that the model is run in: the caller's
            autocast. All other arithmetic is done without.
    """

    adapter: ViTAdapter
    inputs: Tensor
    arguments: tuple[Any, ...]
    scorer: Scorer
    examples: Tensor
    n_examples: int
    max_rows: int
    progress: Any
    as_called: Callable[[], Any] = nullcontext

    def __len__(self) -> int:
        """How many examples."""
        return len(self.inputs)

    def select(self, rows: slice) -> Batch:
        """Take some of the examples."""
        return replace(self, inputs=self.inputs[rows], examples=self.examples[rows])

    def observe(
        self,
        scales: Sequence[float] = (1.0,),
        attention: bool = True,
        first_block: int = 0,
        biases: BiasCapture | None = None,
    ) -> Observation:
        """Run the model on the inputs, times each of the scales, and watch it.

        Args:
            scales (sequence of float, optional): Factors of the inputs; rows are all
                examples times the first, then times the second, ... Default: (1.0,)
            attention (bool, optional): Whether to record attention. Default: True
            first_block (int, optional): Where to begin, negative from the end.
                Default: 0
            biases (BiasCapture, optional): Records what is added. Default: None

        Returns:
            *Observation*: the outputs are finite.

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        # Not the caller's own: the model may work on its inputs in place.
        inputs = torch.cat([self.inputs * scale for scale in scales])
        examples = self.examples.repeat(len(scales))
        arguments = arguments_of_rows(self.arguments, examples, self.n_examples)
        if torch.is_grad_enabled():
            require_unquantized(self.adapter.model)
        with self.as_called(), self._failures_explained(inputs):
            seen = observe(
                self.adapter,
                inputs,
                *arguments,
                attention=attention,
                first_block=first_block % self.adapter.depth,
                biases=biases,
            )
        self._require_finite(seen.outputs, examples)
        self.progress.update(len(inputs))
        return seen

    def finish(self, tokens: Tensor) -> Tensor:
        """Make the model's outputs of the last block's tokens (B, T, D): (B, ...)."""
        arguments = arguments_of_rows(self.arguments, self.examples, self.n_examples)
        return self.adapter.finish(tokens, self.inputs, *arguments)

    def stream(self, inputs: Tensor, places: Collection[int] = ()) -> TokenStream:
        """Run the model on inputs in these examples' place, keeping its tokens.

        Args:
            inputs (Tensor): (B, C, H, W), the examples or what stands for them.
            places (collection of int, optional): See `TokenStream`. Default: ()

        Returns:
            *TokenStream*: its outputs are finite.

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        arguments = arguments_of_rows(self.arguments, self.examples, self.n_examples)
        with self.as_called(), self._failures_explained(inputs):
            stream = TokenStream(self.adapter, inputs, *arguments, places=places)
        self._require_finite(stream.outputs, self.examples)
        self.progress.update(len(inputs))
        return stream

    def require_own_outputs(
        self,
        stream: TokenStream,
        place: int,
        like: TokenStream | None = None,
        dropping: bool = False,
    ) -> None:
        """Check that a stream with nothing changed gives the model's outputs.

        Args:
            stream (TokenStream): Of these examples.
            place (int): As the other arguments, see `TokenStream.require_own_outputs`.
            like (TokenStream, optional): Default: None
            dropping (bool, optional): Default: False

        Raises:
            ValueError: It does not, with the example.
        """
        with self.as_called():
            stream.require_own_outputs(place, self.examples, like, dropping)
        if like is None:
            self.progress.update(len(self))

    def score_each(
        self, counts: Sequence[int], run: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """Score many rows of each example, as many in a forward as fit.

        A callable target wants all examples in order: every forward then holds one row
        of each, and an example that has fewer rows repeats its last one.

        Args:
            counts (sequence of int): (B,), how many rows each example has, at least 1.
            run (callable): Takes int64 (R,) twice, both on the CPU: which example, and
                which of its rows. Returns the model's outputs (R, ...); runs under the
                caller's autocast.

        Returns:
            *list[Tensor]*: of each example its rows' scores, (counts[i],).

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        quiet = replace(self, progress=NullProgress())
        # One tensor for all: many small ones between large ones hold on to memory.
        found = torch.empty(0)
        is_new = torch.ones(len(counts), max(counts), dtype=torch.bool)
        for examples, rows in self._row_chunks(torch.tensor(counts)):
            with self.as_called():
                outputs = run(examples, rows)
            scores = quiet.score_rows(outputs, examples).detach()
            if not len(found):
                found = scores.new_empty(is_new.shape)
            found[examples.to(found.device), rows.to(found.device)] = scores
            self.progress.update(int(is_new[examples, rows].sum()))
            is_new[examples, rows] = False
        return [of_one[:count] for of_one, count in zip(found, counts, strict=True)]

    def _row_chunks(self, counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Divide rows into forwards: int64 (R,) twice, the example and its row."""
        if self.scorer.whole_batch:
            everyone = torch.arange(len(self))
            for row in range(int(counts.max())):
                yield everyone, (counts - 1).clamp(max=row)
            return
        examples = torch.arange(len(self)).repeat_interleave(counts)
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        rows = torch.arange(len(examples)) - starts
        yield from zip(
            examples.split(self.max_rows), rows.split(self.max_rows), strict=True
        )

    def outputs(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Run the model on inputs (R, C, H, W) that stem from some of these examples.

        Args:
            inputs (Tensor): (R, C, H, W).
            rows (Tensor): int64 (R,) on the CPU, which of these examples.

        Returns:
            *Tensor*: (R, ...).
        """
        examples = self.examples[rows]
        arguments = arguments_of_rows(self.arguments, examples, self.n_examples)
        with self._failures_explained(inputs):
            return self.adapter(inputs, *arguments)

    def score_rows(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Score outputs that stem from some of these examples, and count them.

        Args:
            outputs (Tensor): (R, ...).
            rows (Tensor): int64 (R,) on the CPU, which of these examples.

        Returns:
            *Tensor*: (R,).

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        examples = self.examples[rows]
        self._require_finite(outputs, examples)
        self.progress.update(len(outputs))
        return self.scorer.score(outputs, examples)

    def _failures_explained(self, inputs: Tensor) -> AbstractContextManager[None]:
        return failures_explained(
            self.adapter.model, (inputs,), self.arguments, self.n_examples
        )

    def _require_finite(self, outputs: Tensor, examples: Tensor) -> None:
        validated_outputs(outputs, len(examples), "model")
        finite = torch.isfinite(outputs.detach()).reshape(len(examples), -1).all(1)
        if not bool(finite.all()):
            bad = int(examples[~finite.cpu()][0])
            raise ValueError(
                f"model: its output for example {bad} is NaN or infinite; check the "
                "inputs' normalisation and the model's precision"
            )

    def scores(self, outputs: Tensor) -> Tensor:
        """Score outputs of these examples, or of several copies of them: (R,)."""
        copies = len(outputs) // len(self.inputs)
        return self.scorer.score(outputs, self.examples.repeat(copies))

    def gradients(
        self,
        outputs: Tensor,
        of: Sequence[Tensor],
        keep_graph: bool = False,
        may_lack: Sequence[Tensor] = (),
        may_be_zero: bool = False,
    ) -> list[Tensor]:
        """Differentiate the scores of outputs; examples do not interact.

        Args:
            outputs (Tensor): (R, ...), with a graph.
            of (sequence of Tensor): What to differentiate with respect to: what the
                blocks, up to the last one, hold.
            keep_graph (bool, optional): Whether another call follows. Default: False
            may_lack (sequence of Tensor, optional): What else; the score need not
                depend on all of it. Default: ()
            may_be_zero (bool, optional): Whether gradients may be 0 for all rows, for
                reasons that `require_slopes` refuses. Default: False

        Returns:
            *list[Tensor]*: shaped like ``of`` and then ``may_lack``; zeros where the
            score does not depend on one of the latter.

        Raises:
            ValueError: The score does not depend differentiably on one of ``of``, or
                is constant piece by piece; the message says what it looks like.
        """
        scores, tensors = self.scores(outputs), [*of, *may_lack]
        found: Sequence[Tensor | None] = [None] * len(tensors)
        if scores.requires_grad:
            found = torch.autograd.grad(
                scores.sum(), tensors, retain_graph=keep_graph, allow_unused=True
            )
        if any(gradient is None for gradient in found[: len(of)]):
            raise ValueError(self._why_none(outputs, found[: len(of)]))
        gradients = [
            torch.zeros_like(tensor) if gradient is None else gradient
            for tensor, gradient in zip(tensors, found, strict=True)
        ]
        if not may_be_zero and not any(bool(g.any()) for g in gradients[: len(of)]):
            self.require_slopes(outputs)
        return gradients

    def _why_none(self, outputs: Tensor, found: Sequence[Tensor | None]) -> str:
        """Say why the score has no gradient: the target's fault, or the model's."""
        named = self.scorer.callable_name
        if named is not None and lacks_gradient(self.scores, outputs):
            return callable_without_gradient(named)
        lost = [index for index, each in enumerate(found) if each is None]
        where = f"behind block {self.adapter.depth - len(found) + lost[-1]}"
        if len(lost) == len(found):
            where = self._gradient_end() or where
        return model_without_gradient(self.adapter.model, outputs, where)

    def _gradient_end(self) -> str | None:
        """Run one example again, to see in which module the gradient ends."""
        one = replace(self.select(slice(0, 1)), progress=NullProgress())

        def run() -> None:
            with ConstantParameters():
                one.observe(attention=False)

        return gradient_end(self.adapter.model, run)

    def require_slopes(self, outputs: Tensor) -> None:
        """Raise a ValueError if a callable target, a score or the model is flat.

        To be called where gradients are all 0. A probability that is saturated passes,
        and so does a class or a whole head whose weights are 0, as torchvision begins
        with: their examples have maps of zeros.
        """
        named = self.scorer.callable_name
        if named is not None and is_flat(self.scores, outputs):
            raise ValueError(flat_callable(named))
        if self._outputs_are_flat() and not _has_fresh_head(self.adapter.model):
            raise ValueError(FLAT_MODEL)

    def _outputs_are_flat(self) -> bool:
        """Tell whether no output has a slope, at an example or dimmer ones."""
        one = replace(self.select(slice(0, 1)), progress=NullProgress())
        with ConstantParameters():
            seen = one.observe((1.0, 0.5, 0.0), attention=False)
        outputs = seen.outputs.flatten()
        # Weights of their own, so that probabilities, which sum to 1, do not cancel.
        weights = (torch.arange(len(outputs)).to(outputs) * 0.7 + 1).sin()
        if not outputs.requires_grad:
            return False
        slopes = torch.autograd.grad(
            (outputs * weights).sum(), seen.tokens, allow_unused=True
        )
        return not any(each is not None and bool(each.any()) for each in slopes)

    def read_row(self, matrix: Tensor, seen: Observation | None = None) -> Tensor:
        """Read the row of a matrix (B, T, T) that feeds the model's head: (B, T).

        That is the class token's; without one, the mean over the pooled tokens, or by
        the pooler's attention, for which the observation is needed.
        """
        pooler = None
        if seen is not None and seen.pooler is not None:
            pooler = seen.pooler.probabilities.detach()
        weights = self.adapter.readout(matrix.shape[-1], pooler, matrix)
        return (weights[:, None] @ matrix)[:, 0]


def _has_fresh_head(model: nn.Module) -> bool:
    """Tell whether a linear layer's weights are all 0, as before any training."""
    return any(
        isinstance(part, nn.Linear) and not bool(part.weight.any())
        for part in model.modules()
    )


def scale_patches(tokens: Tensor, n_prefix_tokens: int) -> tuple[Tensor, Tensor]:
    """Scale the patches of each image to [0, 1].

    Args:
        tokens (Tensor): (B, T).
        n_prefix_tokens (int): How many of them are no patches.

    Returns:
        *Tensor*, *Tensor*: the scaled tokens (B, T), all zero where all patches are
        equal, and where that is so, bool (B,).
    """
    patches = tokens[:, n_prefix_tokens:]
    low, high = patches.amin(dim=1, keepdim=True), patches.amax(dim=1, keepdim=True)
    flat = high == low
    scaled = (tokens - low) / torch.where(flat, torch.ones_like(low), high - low)
    return torch.where(flat, torch.zeros_like(scaled), scaled), flat[:, 0]


def full_precision(tensor: Tensor) -> Tensor:
    """Detach, and leave half precision, in which long products overflow."""
    tensor = tensor.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()
