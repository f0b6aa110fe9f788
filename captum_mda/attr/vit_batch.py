"""Runs of a model on some examples, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TYPE_CHECKING

import torch
from torch import Tensor

from captum_mda._captum import NullProgress
from captum_mda._checks import require_finite_rows
from captum_mda.attr.vit_target import Scorer
from captum_mda.perturbation.differentiation import require_unquantized
from captum_mda.perturbation.failures import failures_explained
from captum_mda.perturbation.response import arguments_of_rows
from captum_mda.perturbation.scores import validated_outputs
from captum_mda.vit import (
    BiasCapture,
    Observation,
    observe,
    TokenStream,
    ViTAdapter,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelBatch:
    """Some of the examples, with the model to run on them and the score to explain.

    Args:
        adapter (ViTAdapter): The model.
        inputs (Tensor): (B, C, H, W), detached.
        arguments (tuple): Passed to the model after the inputs.
        scorer (Scorer): From outputs to scores.
        examples (Tensor): int64 (B,), the indices of these examples among all.
        n_examples (int): The number of all examples.
        max_rows (int): The largest number of rows in one forward.
        progress (any): A bar with an ``update`` method; counts forwards.
        as_called (callable, optional): Makes the context that the model runs in: the
            caller's autocast, which holds for nothing else. Default: no context
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
        """Count the examples."""
        return len(self.inputs)

    def select(self, rows: slice) -> ModelBatch:
        """Take some of the examples."""
        return replace(self, inputs=self.inputs[rows], examples=self.examples[rows])

    def without_progress(self) -> ModelBatch:
        """Take the same examples, whose forwards are not counted."""
        return replace(self, progress=NullProgress())

    def observe(
        self,
        scales: Sequence[float] = (1.0,),
        attention: bool = True,
        first_block: int = 0,
        biases: BiasCapture | None = None,
    ) -> Observation:
        """Observe the model on the inputs, multiplied by each of the scales.

        Args:
            scales (sequence of float, optional): Factors of the inputs; rows are all
                examples times the first, then times the second, ... Default: (1.0,)
            attention (bool, optional): Whether to record attention. Default: True
            first_block (int, optional): The first block to observe, negative from the
                end. Default: 0
            biases (BiasCapture, optional): Records added constants. Default: None

        Returns:
            *Observation*: with finite outputs.

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        # A copy: the model may change its inputs in place.
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
        _require_finite(seen.outputs, examples)
        self.progress.update(len(inputs))
        return seen

    def finish(self, tokens: Tensor) -> Tensor:
        """Compute the model's outputs (B, ...) from the last block's tokens."""
        arguments = arguments_of_rows(self.arguments, self.examples, self.n_examples)
        return self.adapter.finish(tokens, self.inputs, *arguments)

    def stream(self, inputs: Tensor, places: Collection[int] = ()) -> TokenStream:
        """Run the model on inputs in the place of these examples, and keep its tokens.

        Args:
            inputs (Tensor): (B, C, H, W), the examples or their replacements.
            places (collection of int, optional): See `TokenStream`. Default: ()

        Returns:
            *TokenStream*: with finite outputs.

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        arguments = arguments_of_rows(self.arguments, self.examples, self.n_examples)
        with self.as_called(), self._failures_explained(inputs):
            stream = TokenStream(self.adapter, inputs, *arguments, places=places)
        _require_finite(stream.outputs, self.examples)
        self.progress.update(len(inputs))
        return stream

    def require_own_outputs(
        self,
        stream: TokenStream,
        place: int,
        like: TokenStream | None = None,
        dropping: bool = False,
    ) -> None:
        """Check that an unchanged stream gives the model's own outputs.

        Args:
            stream (TokenStream): Of these examples.
            place (int): As the other arguments, see `TokenStream.require_own_outputs`.
            like (TokenStream, optional): Default: None
            dropping (bool, optional): Default: False

        Raises:
            ValueError: It does not; the message names the example.
        """
        with self.as_called():
            stream.require_own_outputs(place, self.examples, like, dropping)
        if like is None:
            self.progress.update(len(self))

    def score_each(
        self, counts: Sequence[int], run: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """Score several rows of each example, with as many rows per forward as fit.

        A callable target expects all examples in order: every forward then holds one
        row of each, and an example that has fewer rows repeats its last one.

        Args:
            counts (sequence of int): (B,), the number of rows of each example, at least
                1.
            run (callable): Takes int64 (R,) twice, both on the CPU: the example, and
                its row. Returns the model's outputs (R, ...); runs under the caller's
                autocast.

        Returns:
            *list[Tensor]*: per example the scores of its rows, (counts[i],).

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        quiet = self.without_progress()
        # One tensor for all scores: small ones between large ones fragment memory.
        found = torch.empty(0)
        is_new = torch.ones(len(counts), max(counts), dtype=torch.bool)
        chunks = _row_chunks(
            torch.tensor(counts), self.scorer.whole_batch, self.max_rows
        )
        for examples, rows in chunks:
            with self.as_called():
                outputs = run(examples, rows)
            scores = quiet.score_rows(outputs, examples).detach()
            if not len(found):
                found = scores.new_empty(is_new.shape)
            found[examples.to(found.device), rows.to(found.device)] = scores
            self.progress.update(int(is_new[examples, rows].sum()))
            is_new[examples, rows] = False
        return [of_one[:count] for of_one, count in zip(found, counts, strict=True)]

    def outputs(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Run the model on inputs (R, C, H, W) that stem from some of these examples.

        Args:
            inputs (Tensor): (R, C, H, W).
            rows (Tensor): int64 (R,) on the CPU, the indices of these examples.

        Returns:
            *Tensor*: (R, ...).
        """
        examples = self.examples[rows]
        arguments = arguments_of_rows(self.arguments, examples, self.n_examples)
        with self._failures_explained(inputs):
            return self.adapter(inputs, *arguments)

    def score_rows(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Score outputs that stem from some of these examples, and count the forwards.

        Args:
            outputs (Tensor): (R, ...).
            rows (Tensor): int64 (R,) on the CPU, the indices of these examples.

        Returns:
            *Tensor*: (R,).

        Raises:
            ValueError: An output is NaN or infinite, with the example.
        """
        examples = self.examples[rows]
        _require_finite(outputs, examples)
        self.progress.update(len(outputs))
        return self.scorer.score(outputs, examples)

    def _failures_explained(self, inputs: Tensor) -> AbstractContextManager[None]:
        return failures_explained(
            self.adapter.model, (inputs,), self.arguments, self.n_examples
        )

    def scores(self, outputs: Tensor) -> Tensor:
        """Score outputs of these examples, or of several copies of them: (R,)."""
        copies = len(outputs) // len(self.inputs)
        return self.scorer.score(outputs, self.examples.repeat(copies))


def _row_chunks(
    counts: Tensor, whole_batch: bool, max_rows: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide rows into forwards: int64 (R,) twice, the example and its row.

    Args:
        counts (Tensor): int64 (B,), the number of rows of each example.
        whole_batch (bool): Whether each forward holds one row of every example.
        max_rows (int): The largest number of rows in one forward otherwise.
    """
    everyone = torch.arange(len(counts))
    if whole_batch:
        for row in range(int(counts.max())):
            yield everyone, (counts - 1).clamp(max=row)
        return
    examples = everyone.repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rows = torch.arange(len(examples)) - starts
    yield from zip(examples.split(max_rows), rows.split(max_rows), strict=True)


def _require_finite(outputs: Tensor, examples: Tensor) -> None:
    """Raise a ValueError that names the first example whose output is not finite."""
    validated_outputs(outputs, len(examples), "model")
    require_finite_rows(
        outputs,
        "model: its output for example {example} is NaN or infinite; check the inputs' "
        "normalisation and the model's precision",
        examples,
    )


def scale_patches(
    tokens: Float[Tensor, "B T"], n_prefix_tokens: int
) -> tuple[Float[Tensor, "B T"], Bool[Tensor, " B"]]:
    """Scale the patches of each image to [0, 1].

    Args:
        tokens (Tensor): (B, T).
        n_prefix_tokens (int): The number of tokens before the patches.

    Returns:
        *Tensor*, *Tensor*: the scaled tokens (B, T), all zero for an image whose
        patches are equal, and which images these are, bool (B,).
    """
    patches = tokens[:, n_prefix_tokens:]
    low, high = patches.amin(dim=1, keepdim=True), patches.amax(dim=1, keepdim=True)
    flat = high == low
    scaled = (tokens - low) / torch.where(flat, torch.ones_like(low), high - low)
    return torch.where(flat, torch.zeros_like(scaled), scaled), flat[:, 0]


def full_precision(tensor: Tensor) -> Tensor:
    """Detach, and convert half precision to float32, as long products may overflow."""
    tensor = tensor.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()
