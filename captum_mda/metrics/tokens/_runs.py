"""Runs of a Vision Transformer with patches taken away, dropped or masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_mda._captum import FORWARDS, progress_bar, TargetType
from captum_mda._checks import require_finite_rows
from captum_mda._state import preserved_state
from captum_mda.metrics._arguments import MetricArguments
from captum_mda.metrics.perturbation_accuracy import is_first
from captum_mda.perturbation import (
    Features,
    patch_feature_mask,
    Path,
    Ranking,
    validate_inputs,
)
from captum_mda.perturbation.chunks import ChunkSize, in_chunks
from captum_mda.perturbation.failures import failures_explained
from captum_mda.perturbation.inputs import require_images
from captum_mda.perturbation.maps import AnyMaps, as_tensors
from captum_mda.perturbation.response import arguments_of_rows
from captum_mda.perturbation.scores import validated_outputs
from captum_mda.perturbation.targets import select_target, target_indices
from captum_mda.vit import eager_execution, patch_numbers, TokenStream, ViTAdapter


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchRemoval:
    """A model, its images, and which patches are taken away at each step.

    Args:
        adapter (ViTAdapter): Of the model.
        images (Tensor): (B, C, H, W).
        order (Tensor): int64 (B, P), patches in the order in which they go.
        counts (Tensor): int64 (K,), how many are gone at each step.
        arguments (tuple): Passed to the model behind the images.
        target (int, tuple, Tensor, list, optional): The class.
        max_rows (int, optional): The most inputs in one forward. None: as many as fit.
        show_progress (bool): Whether to show a bar.
    """

    adapter: ViTAdapter
    images: Tensor
    order: Tensor
    counts: Tensor
    arguments: tuple[Any, ...]
    target: TargetType
    max_rows: int | None
    show_progress: bool


def drop_tokens(removal: PatchRemoval) -> Tensor:
    """Drop tokens: float64 (B, K + 1) on the CPU, see `probability_and_hit`.

    Raises:
        CannotDropError: The model's attention needs every token.
        ValueError: Its blocks and the adapter's tail, with no token dropped, do not
            give its own output.
    """
    images, adapter = removal.images, removal.adapter
    targets = target_indices(removal.target, len(images))
    total = len(images) * (len(removal.counts) + 2)
    bar = progress_bar(total, "Token deletion", removal.show_progress, None, FORWARDS)

    def score(chunk: slice, size: int) -> Tensor:
        rows = torch.arange(len(images))[chunk]
        arguments = arguments_of_rows(removal.arguments, rows, len(images))
        with failures_explained(
            adapter.model, (images,), removal.arguments, len(images)
        ):
            stream = TokenStream(adapter, images[rows], *arguments, places=[0])
        target = targets if targets is None or len(targets) == 1 else targets[rows]
        _require_patches(adapter, stream, images)
        values = [_value(stream.outputs, target, rows)]
        stream.require_own_outputs(0, rows, dropping=True)
        for count in removal.counts.tolist():
            patches = removal.order[rows][:, count:].sort(dim=1).values
            kept = stream.keep(patches)
            tokens = stream.tokens[0].gather(
                1, kept[:, :, None].expand(-1, -1, stream.tokens[0].shape[2])
            )
            outputs = stream.run(tokens, 0, torch.arange(len(rows)), kept=kept)
            values.append(_value(outputs, target, rows))
        bar.update(len(rows) * (len(values) + 1))
        return torch.stack(values, dim=1)

    size = ChunkSize.of(removal.max_rows, images.device)
    model = adapter.model
    with (
        bar,
        eager_execution(model),
        preserved_state(model, "model"),
        torch.no_grad(),
    ):
        parts, _ = in_chunks(score, len(images), size)
    return torch.cat(parts)


def _require_patches(adapter: ViTAdapter, stream: TokenStream, images: Tensor) -> None:
    """Raise unless the tokens are the adapter's prefix and patches."""
    adapter.patch_map(stream.tokens[0][..., 0], images)


def mask_patches(removal: PatchRemoval, baselines: tuple[Tensor, ...]) -> Tensor:
    """Set patches to the baselines: float64 (B, K + 1), as `drop_tokens`."""
    images = removal.images
    features = Features.from_mask((images,), _patch_mask(removal.adapter, images))
    masking = MetricArguments(
        forward_func=removal.adapter,
        inputs=images,
        additional_forward_args=removal.arguments or None,
        target=removal.target,
        max_examples_per_batch=removal.max_rows,
        show_progress=removal.show_progress,
        convention="rise",
        score=probability_and_hit,
    )
    whole = torch.zeros(1, dtype=torch.int64)
    ranking = Ranking(removal.order, torch.cat([whole, removal.counts]))
    path = Path(ranking, deletes=True)
    model = removal.adapter.model
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


def read_images(inputs: Tensor) -> Tensor:
    """Check the images, alone or in a tuple of one, as Captum passes them."""
    images, *others = validate_inputs(inputs)
    if others:
        raise ValueError(
            f"inputs: got {1 + len(others)} tensors, takes one of images (B, C, H, W)"
        )
    require_images(images)
    return images


def patch_scores(attributions: AnyMaps, images: Tensor, adapter: ViTAdapter) -> Tensor:
    """Average a map over patches: float64 (B, P)."""
    given, *others = as_tensors("attributions", attributions)
    grid = adapter.patch_grid(images)
    size, n = tuple(images.shape[-2:]), len(images)
    values = given
    if given.shape == (n, grid[0] * grid[1]):  # one number for each patch
        values = given.reshape(n, 1, *grid)
    elif given.dim() == 3:
        values = given[:, None]
    fits = values.dim() == 4 and len(values) == n and not others
    if not fits or tuple(values.shape[-2:]) not in (size, grid):
        got = f"{1 + len(others)} tensors" if others else f"shape {tuple(given.shape)}"
        raise ValueError(
            f"attributions: got {got}, takes a map of each of {n} images, {size} "
            f"pixels or {grid} patches: (B, 1, H, W), (B, H, W), or one number for "
            f"each patch, {(n, grid[0] * grid[1])}"
        )
    values = values.double().sum(dim=1, keepdim=True)
    if values.shape[-2:] != grid:
        values = adapter.patch_means(values, images)
    return values.flatten(1)
