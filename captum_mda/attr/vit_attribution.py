"""The base classes of the attribution methods for Vision Transformers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from captum.attr import Attribution
from torch import nn, Tensor

from captum_mda import _checks
from captum_mda._autocast import no_autocast
from captum_mda._calls import MadeByCall
from captum_mda._captum import (
    format_additional_forward_args,
    format_output,
    FORWARDS,
    is_tuple,
    log_usage,
    progress_bar,
)
from captum_mda._docstrings import documented
from captum_mda._state import preserved_state, warn_caller
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_batch import ModelBatch
from captum_mda.attr.vit_target import make_scorer, Scorer
from captum_mda.perturbation.chunks import ChunkSize, in_chunks
from captum_mda.perturbation.inputs import require_images, validate_inputs
from captum_mda.perturbation.scores import require_scorer, Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import (
    check_adapter,
    eager_execution,
    find_adapter,
    gradients_enabled,
    Observation,
    ViTAdapter,
)
from captum_mda.vit.execution import autocast_of_caller

if TYPE_CHECKING:
    from jaxtyping import Float

INTERPOLATE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")


@documented(vit_arguments)
class ViTAttribution(MadeByCall, Attribution):
    """Base of the methods that read the blocks of a Vision Transformer.

    A subclass computes one value per token in `_token_map`. This class checks inputs
    and targets, works in chunks, lays values out on the grid of patches, and restores
    the state of the model.

    Args:
        model: ...
        score: ...

    Raises:
        TypeError: ``model`` is no model and no adapter.
        ValueError: The model's family is not known, or its check fails.
    """

    _uses_target = True  # whether the map depends on the target
    _warns_of_zeros = True  # whether maps of zeros are warned of here
    _reads_attention = True  # whether the model has to show its attention maps

    def __init__(
        self, model: nn.Module | ViTAdapter, score: Score = "identity"
    ) -> None:
        """Find and check the parts of the model."""
        require_scorer(lambda: None, score)
        self._subject = model
        self.adapter = find_adapter(model)
        self._example_output = check_adapter(
            self.adapter, attention=self._reads_attention
        )
        Attribution.__init__(self, self.adapter)
        self.score = score

    def _n_forwards(self, images: Tensor) -> int:
        """Count the forwards per example, for the progress bar."""
        return 1

    @abstractmethod
    def _token_map(self, batch: ModelBatch) -> Tensor:
        """Compute one value per token, prefix included: (B, T)."""

    def _head_row(self, matrix: Tensor, seen: Observation | None = None) -> Tensor:
        """Read the row of a matrix (B, T, T) that feeds the model's head: (B, T).

        That is the row of the class token; without one, the mean over the pooled
        tokens, or the mean weighted by the pooler's attention, which is taken from the
        observation.
        """
        pooler = None
        if seen is not None and seen.pooler is not None:
            pooler = seen.pooler.probabilities.detach()
        weights = self.adapter.readout(matrix.shape[-1], pooler, matrix)
        return (weights[:, None] @ matrix)[:, 0]

    @log_usage(part_of_slo=True)
    @documented(vit_arguments)
    def attribute(
        self,
        inputs: Float[Tensor, "B C *size"],
        target: Target = None,
        additional_forward_args: object = None,
        interpolate_mode: str | None = "bilinear",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Float[Tensor, "B M *grid"]:
        r"""Attribute the score of the target to the patches of the inputs.

        Args:
            inputs: ...
            target: ...
            additional_forward_args: ...
            interpolate_mode: ...
            internal_batch_size: ...
            show_progress: ...

        Returns:
            *Tensor* of **attributions**: float32 (float64 where the model's outputs
            are), detached, on the inputs' device.
                - **attributions**: (B, 1, H, W), or the patch grid (B, 1, h, w) with
                  ``interpolate_mode=None``; of spectrograms (B, time, frequency) maps
                  of their shape.

        Raises:
            TypeError, ValueError: An argument does not fit (before the first forward);
                an output is NaN or infinite (the message names the example); or the
                score does not depend differentiably on the model where the method
                takes gradients.
            RuntimeError: Attention maps could not be read.
        """
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            interpolate_mode,
            internal_batch_size,
            show_progress,
        )

    def attribute_future(self) -> None:
        """Raise: the methods observe the model and cannot wait for its output."""
        raise NotImplementedError(
            f"attribute_future is not implemented for {type(self).__name__}"
        )

    def _attribute(
        self,
        inputs: Tensor,
        target: Target,
        additional_forward_args: object,
        interpolate_mode: str | None,
        internal_batch_size: int | None,
        show_progress: bool,
        token_map: Callable[[ModelBatch], Tensor] | None = None,
        n_forwards: int | None = None,
    ) -> Tensor:
        """Compute grids chunk by chunk, and resize them.

        Args:
            inputs (Tensor): As all arguments up to ``show_progress``, see `attribute`.
            target (any): See there.
            additional_forward_args (any): See there.
            interpolate_mode (str, optional): See there.
            internal_batch_size (int, optional): See there.
            show_progress (bool): See there.
            token_map (callable, optional): From a batch to values of its tokens (B, T).
                None: `_token_map`. Default: None
            n_forwards (int, optional): Forwards per example. None: `_n_forwards`.
                Default: None
        """
        if interpolate_mode is not None:
            _checks.require_choice(
                "interpolate_mode", interpolate_mode, INTERPOLATE_MODES
            )
        images = self.adapter.as_images(unwrapped(inputs))
        grids = self._in_batches(
            partial(self._grid, token_map or self._token_map),
            images,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
            n_forwards,
        )
        self._warn_of_zeros(grids)
        if interpolate_mode is not None:
            grids = self.adapter.paint(grids, images, interpolate_mode)
            grids = like_inputs(grids, unwrapped(inputs))
        return wrapped(grids, inputs)

    def _warn_of_zeros(self, grids: Tensor) -> None:
        """Warn of maps that are 0 everywhere."""
        empty = (~grids.flatten(1).any(dim=1)).nonzero().flatten().tolist()
        if empty and self._warns_of_zeros:
            warn_caller(
                f"inputs: the attributions of examples {empty[:10]} ({len(empty)} of "
                f"{len(grids)}) are 0 everywhere: either no patch raises the score, or "
                "the score has no slope there, as a saturated probability has none "
                '(take score="identity"), nor have weights of 0 or rounding in the '
                "model"
            )

    def _grid(
        self, token_map: Callable[[ModelBatch], Tensor], batch: ModelBatch
    ) -> Tensor:
        """Lay the tokens' values out on the grid of patches: (B, 1, h, w)."""
        tokens = token_map(batch).detach()
        grid = self.adapter.patch_map(tokens, batch.inputs)
        is_double = self._example_output.dtype == torch.float64
        dtype = torch.float64 if is_double else torch.float32
        return _finite(grid.to(dtype), batch.examples)

    def _in_batches(
        self,
        work: Callable[[ModelBatch], Tensor],
        inputs: Tensor,
        target: Target,
        additional_forward_args: object,
        internal_batch_size: int | None,
        show_progress: bool,
        n_forwards: int | None = None,
    ) -> Tensor:
        """Check the arguments, run ``work`` on chunks of examples, and join results."""
        images = _images(self.adapter.as_images(inputs))
        internal_batch_size = _checks.require_positive_integer_or_none(
            "internal_batch_size", internal_batch_size
        )
        show_progress = _checks.require_flag("show_progress", show_progress)
        batch = self._batch(images, target, additional_forward_args)
        if n_forwards is None:
            n_forwards = self._n_forwards(images)
        total = len(images) * n_forwards
        title = f"{self.get_name()} attribution"
        with (
            eager_execution(self.adapter.model),
            preserved_state(self.adapter.model, "model"),
            progress_bar(total, title, show_progress, None, FORWARDS) as bar,
            gradients_enabled(),
            no_autocast(images.device),
        ):
            return _in_chunks(work, replace(batch, progress=bar), internal_batch_size)

    def _batch(
        self, images: Tensor, target: Target, additional_forward_args: object
    ) -> ModelBatch:
        if target is None and not self._uses_target:
            scorer = Scorer(
                score=lambda outputs, examples: outputs, check=lambda example: None
            )
        else:
            scorer = make_scorer(target, self.score, len(images))
        scorer.check(self._example_output)
        arguments = format_additional_forward_args(additional_forward_args) or ()
        return ModelBatch(
            adapter=self.adapter,
            inputs=images,
            arguments=tuple(arguments),
            scorer=scorer,
            examples=torch.arange(len(images)),
            n_examples=len(images),
            max_rows=len(images),
            progress=None,
            as_called=autocast_of_caller(images.device),
        )


class PathAttribution(ViTAttribution):
    """Base of the methods that average gradients from a black image to the input."""

    @abstractmethod
    def _token_map(self, batch: ModelBatch, n_steps: int = 20) -> Tensor:
        """Compute one value per token, prefix included: (B, T)."""

    @log_usage(part_of_slo=True)
    @documented(vit_arguments)
    def attribute(  # type: ignore[override]
        self,
        inputs: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int = 20,
        interpolate_mode: str | None = "bilinear",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        r"""Attribute the score of the target to the patches of the inputs.

        Args:
            inputs: ...
            target: ...
            additional_forward_args: ...
            n_steps (int, optional): The number of points from all zeros to the input,
                both included, that gradients are averaged over; at least 2.
                Default: 20
            interpolate_mode: ...
            internal_batch_size: ...
            show_progress: ...

        Returns:
            *Tensor* of **attributions**: float32, detached, (B, 1, H, W), or the patch
            grid (B, 1, h, w) with ``interpolate_mode=None``.

        Raises:
            TypeError, ValueError, RuntimeError: As `ViTAttribution.attribute`.
        """
        n_steps = _checks.require_positive_integer("n_steps", n_steps)
        if n_steps < 2:
            raise ValueError(f"n_steps: got {n_steps}, takes at least 2")
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            interpolate_mode,
            internal_batch_size,
            show_progress,
            partial(self._token_map, n_steps=n_steps),
            n_steps + self._further_forwards,
        )

    @property
    def _further_forwards(self) -> int:
        """The number of forwards per example besides the path's."""
        return 1


def _in_chunks(
    work: Callable[[ModelBatch], Tensor], batch: ModelBatch, size: int | None
) -> Tensor:
    """Work on some examples at a time, on fewer when memory runs out."""
    at_least = len(batch) if batch.scorer.whole_batch else 1
    first = ChunkSize.of(size, batch.inputs.device, at_least)

    def work_on(rows: slice, size: int) -> Tensor:
        return work(replace(batch.select(rows), max_rows=size)).detach()

    parts, _ = in_chunks(work_on, len(batch), first, fills_forwards=True)
    return torch.cat(parts)


def unwrapped(inputs: Tensor) -> Tensor:
    """Take the images out of a tuple of one, as Captum's metrics pass them."""
    if isinstance(inputs, tuple) and len(inputs) == 1:
        only: Tensor = inputs[0]
        return only
    return inputs


def wrapped(attributions: Tensor, inputs: Tensor) -> Tensor:
    """Put attributions into a tuple where the inputs are in one."""
    output: Tensor = format_output(is_tuple(inputs), (attributions,))
    return output


def like_inputs(maps: Tensor, inputs: Tensor) -> Tensor:
    """Remove the channel of maps (B, 1, H, W) of inputs that have no channels."""
    return maps[:, 0] if inputs.dim() == 3 else maps


def _images(inputs: Tensor) -> Tensor:
    takes = "one tensor of images (B, C, H, W)"
    _checks.require_type("inputs", inputs, Tensor, takes)
    (images,) = validate_inputs(inputs)
    require_images(images)
    return images


def _finite(grid: Tensor, examples: Tensor) -> Tensor:
    _checks.require_finite_rows(
        grid,
        "model: the attribution of example {example} is NaN or infinite, though its "
        "output is finite; run the model in float32 or float64",
        examples,
    )
    return grid
