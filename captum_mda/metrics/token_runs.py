"""Runs of a Vision Transformer with patches taken away, dropped or masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_mda._captum import FORWARDS, progress_bar, TargetType
from captum_mda._checks import require_finite_rows
from captum_mda._state import preserved_state
from captum_mda.metrics.masked_accuracy import is_first
from captum_mda.metrics.questions import Question
from captum_mda.perturbation import (
    Features,
    patch_feature_mask,
    Path,
    Ranking,
)
from captum_mda.perturbation.chunks import ChunkSize, in_chunks
from captum_mda.perturbation.failures import failures_explained
from captum_mda.perturbation.response import arguments_of_rows
from captum_mda.perturbation.scores import validated_outputs
from captum_mda.perturbation.targets import select_target, target_indices
from captum_mda.vit import eager_execution, patch_numbers, TokenStream, ViTAdapter


@dataclass(frozen=True, eq=False)
class TokenQuestion:
    """What is asked of the model."""

    adapter: ViTAdapter
    images: Tensor
    arguments: tuple[Any, ...]
    target: TargetType
    max_rows: int | None
    show_progress: bool


def drop_tokens(question: TokenQuestion, order: Tensor, counts: Tensor) -> Tensor:
    """Drop tokens: float64 (B, K + 1) on the CPU, as `probability_and_hit` says.

    Args:
        question (TokenQuestion): The question.
        order (Tensor): int64 (B, P), patches in the order in which they go.
        counts (Tensor): int64 (K,), how many go at each step.

    Raises:
        CannotDropError: The model's attention needs every token.
        ValueError: Its blocks and the adapter's tail, with no token dropped, do not
            give its own output.
    """
    images, adapter = question.images, question.adapter
    targets = target_indices(question.target, len(images))
    total = len(images) * (len(counts) + 2)
    bar = progress_bar(total, "Token deletion", question.show_progress, None, FORWARDS)

    def answer(chunk: slice, size: int) -> Tensor:
        rows = torch.arange(len(images))[chunk]
        arguments = arguments_of_rows(question.arguments, rows, len(images))
        with failures_explained(
            adapter.model, (images,), question.arguments, len(images)
        ):
            stream = TokenStream(adapter, images[rows], *arguments, places=[0])
        target = targets if targets is None or len(targets) == 1 else targets[rows]
        _require_patches(adapter, stream, images)
        values = [_value(stream.outputs, target, rows)]
        stream.require_own_outputs(0, rows, dropping=True)
        for count in counts.tolist():
            patches = order[rows][:, count:].sort(dim=1).values
            kept = stream.keep(patches)
            tokens = stream.tokens[0].gather(
                1, kept[:, :, None].expand(-1, -1, stream.tokens[0].shape[2])
            )
            outputs = stream.run(tokens, 0, torch.arange(len(rows)), kept=kept)
            values.append(_value(outputs, target, rows))
        bar.update(len(rows) * (len(values) + 1))
        return torch.stack(values, dim=1)

    size = ChunkSize.of(question.max_rows, images.device)
    model = adapter.model
    with (
        bar,
        eager_execution(model),
        preserved_state(model, "model"),
        torch.no_grad(),
    ):
        parts, _ = in_chunks(answer, len(images), size)
    return torch.cat(parts)


def _require_patches(adapter: ViTAdapter, stream: TokenStream, images: Tensor) -> None:
    """Raise unless the tokens are the adapter's prefix and patches."""
    adapter.patch_map(stream.tokens[0][..., 0], images)


def mask_patches(
    question: TokenQuestion,
    order: Tensor,
    counts: Tensor,
    baselines: tuple[Tensor, ...],
) -> Tensor:
    """Set patches to the baselines: float64 (B, K + 1), as `drop_tokens`."""
    images = question.images
    features = Features.from_mask((images,), _patch_mask(question.adapter, images))
    masking = Question(
        question.adapter,
        images,
        None,
        question.arguments or None,
        question.target,
        1,
        question.max_rows,
        question.show_progress,
        "rise",
        probability_and_hit,
    )
    ranking = Ranking(order, torch.cat([torch.zeros(1, dtype=torch.int64), counts]))
    path = Path(ranking, deletes=True)
    model = question.adapter.model
    with eager_execution(model), preserved_state(model, "model"):
        return masking.run([path], [baselines], features)[0][0]


def _patch_mask(adapter: ViTAdapter, images: Tensor) -> Tensor:
    """Number the pixels by the patch that reads them: int64 (1, 1, H, W)."""
    (height, width), layout = adapter.patch_grid(images), adapter.layout(images)
    if layout is not None:
        numbers = patch_numbers((height, width), images.shape[-2:], layout)
        return numbers.to(images.device)
    size = images.shape[-2] // height, images.shape[-1] // width
    return patch_feature_mask(images, size)


def _value(outputs: Tensor, target: Tensor | None, rows: Tensor) -> Tensor:
    validated_outputs(outputs, len(rows), "model")
    require_finite_rows(
        outputs,
        "model: its output for example {example} is NaN or infinite with patches taken "
        "away",
        rows,
    )
    return select_target(probability_and_hit(outputs), target).cpu()


# A probability is below it, so that one number holds both.
FIRST = 2.0


def probability_and_hit(outputs: Tensor) -> Tensor:
    """Score classes (R, classes) float64: probabilities, the first one's more by 2."""
    first = is_first(outputs)
    return outputs.double().softmax(dim=1) + FIRST * first
