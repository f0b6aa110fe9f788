"""What all attribution methods for Vision Transformers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from captum.attr import Attribution
from torch import nn, Tensor

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
from captum_mda._checks import (
    require_choice,
    require_flag,
    require_positive_integer,
    require_positive_integer_or_none,
)
from captum_mda._state import preserved_state, warn_caller
from captum_mda.attr.vit_batch import Batch
from captum_mda.attr.vit_target import make_scorer, Scorer
from captum_mda.perturbation.chunks import default_rows, in_chunks
from captum_mda.perturbation.inputs import require_images, validate_inputs
from captum_mda.perturbation.scores import require_scorer, Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import (
    check_adapter,
    eager_execution,
    find_adapter,
    gradients_enabled,
    ViTAdapter,
)
from captum_mda.vit.execution import autocast_of_caller

INTERPOLATE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")


class ViTAttribution(MadeByCall, Attribution):
    """Base of the methods that look inside a Vision Transformer.

    A subclass says in `_token_map` what each token is worth; inputs, targets, chunks,
    the grid of patches and the state of the model are dealt with here.

    Args:
        model (nn.Module or ViTAdapter): A stock model of timm, torchvision,
            transformers or open_clip (`captum_mda.vit.resolve` says which), or an
            adapter.
        score (str or callable, optional): What is made of the outputs before the target
            is chosen: "identity" for logits, "softmax", "sigmoid", or a callable. Not
            used where the target is a callable. Default: "identity"

    Raises:
        TypeError: ``model`` is neither.
        ValueError: The model's family is not known, or its check fails.
    """

    _uses_target = True  # whether the map depends on what is explained
    _forwards_per_example = 1
    _zeros_are_news = True  # whether a map of zeros has not been warned of before

    def __init__(
        self, model: nn.Module | ViTAdapter, score: Score = "identity"
    ) -> None:
        """Find and check the parts of the model."""
        require_scorer(lambda: None, score)
        self._subject = model
        self.adapter = find_adapter(model)
        self._example_output = check_adapter(
            self.adapter, attention=self._reads_attention()
        )
        Attribution.__init__(self, self.adapter)
        self.score = score

    def _reads_attention(self) -> bool:
        """Tell whether attention maps are read, so that a model must show them."""
        return True

    @abstractmethod
    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        """Say what each token of a batch is worth: (B, T), prefix included."""

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        interpolate_mode: str | None = "bilinear",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        r"""Attribute the score of the target to the patches of the inputs.

        Args:
            inputs (Tensor): (B, C, H, W), as the model takes them. In a tuple of one,
                as Captum's metrics pass them, the map comes in one, too.
            target (int, tuple, Tensor, list, callable, optional): What is explained.
                Captum's forms of classes, for all examples or for each; a
                floating-point tensor (E,) or (B, E), whose cosine similarity with the
                model's embedding is explained (labels, which are in [0, 1] or whole,
                are refused: pass class indices as integers); or a callable that maps
                outputs (B, ...) to one score for each example (B,). None where the
                model returns one value for each example. Default: None
            additional_forward_args (any, optional): Passed to the model behind the
                inputs; tensors whose first dimension is the batch's hold one entry for
                each example. Default: None
            interpolate_mode (str, optional): How the grid of patches is resized to the
                inputs: "nearest", "nearest-exact", "bilinear" or "bicubic". Each patch
                is painted where the model reads it; pixels that no patch reads get the
                value at the map's edge. None: the grid itself is returned.
                Default: "bilinear"
            internal_batch_size (int, optional): The most images in one forward. None:
                as many as fit, halved when memory runs out. Default: None
            show_progress (bool, optional): Show a bar of the images passed forward.
                Default: False

        Returns:
            *Tensor* of **attributions**: float32 (float64 where the model's outputs
            are), detached, on the inputs' device.
                - **attributions**: (B, 1, H, W), or the patch grid (B, 1, h, w) with
                  ``interpolate_mode=None``; of spectrograms (B, time, frequency) maps
                  of their shape.

        Raises:
            TypeError, ValueError: An argument does not fit (before the first forward),
                outputs are NaN or infinite, with the example, or the score does not
                depend differentiably on the model where the method takes gradients.
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
        """Raise: a model that is watched does not answer later."""
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
        forwards_per_example: int | None = None,
        **options: Any,
    ) -> Tensor:
        """Answer chunk by chunk, and resize the grids."""
        if interpolate_mode is not None:
            require_choice("interpolate_mode", interpolate_mode, INTERPOLATE_MODES)
        images = self.adapter.as_images(unwrapped(inputs))
        grids = self._ask(
            partial(self._grid, **options),
            images,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
            forwards_per_example or self._forwards_per_example,
        )
        self._warn_of_zeros(grids)
        if interpolate_mode is not None:
            grids = self.adapter.paint(grids, images, interpolate_mode)
            grids = like_inputs(grids, unwrapped(inputs))
        return wrapped(grids, inputs)

    def _warn_of_zeros(self, grids: Tensor) -> None:
        """Warn where a map says nothing."""
        empty = (~grids.flatten(1).any(dim=1)).nonzero().flatten().tolist()
        if empty and self._zeros_are_news:
            warn_caller(
                f"inputs: the attributions of examples {empty[:10]} ({len(empty)} of "
                f"{len(grids)}) are 0 everywhere: either no patch raises the score, or "
                "the score has no slope there, as a saturated probability has none "
                '(take score="identity"), nor have weights of 0 or rounding in the '
                "model"
            )

    def _grid(self, batch: Batch, **options: Any) -> Tensor:
        """Lay the tokens' values out on the grid of patches: (B, 1, h, w)."""
        tokens = self._token_map(batch, **options).detach()
        grid = self.adapter.patch_map(tokens, batch.inputs)
        is_double = self._example_output.dtype == torch.float64
        dtype = torch.float64 if is_double else torch.float32
        return _finite(grid.to(dtype), batch.examples)

    def _ask(
        self,
        answer: Callable[[Batch], Tensor],
        inputs: Tensor,
        target: Target,
        additional_forward_args: object,
        internal_batch_size: int | None,
        show_progress: bool,
        forwards_per_example: int,
    ) -> Tensor:
        """Check the question, and collect the answers for chunks of the examples."""
        images = _images(self.adapter.as_images(inputs))
        internal_batch_size = require_positive_integer_or_none(
            "internal_batch_size", internal_batch_size
        )
        show_progress = require_flag("show_progress", show_progress)
        question = self._question(images, target, additional_forward_args)
        total = len(images) * forwards_per_example
        title = f"{self.get_name()} attribution"
        with (
            eager_execution(self.adapter.model),
            preserved_state(self.adapter.model, "model"),
            progress_bar(total, title, show_progress, None, FORWARDS) as bar,
            gradients_enabled(),
            no_autocast(images.device),
        ):
            batch = replace(question, progress=bar)
            return _in_chunks(answer, batch, internal_batch_size)

    def _question(
        self, images: Tensor, target: Target, additional_forward_args: object
    ) -> Batch:
        if target is None and not self._uses_target:
            scorer = Scorer(lambda outputs, examples: outputs, lambda example: None)
        else:
            scorer = make_scorer(target, self.score, len(images))
        scorer.check(self._example_output)
        arguments = format_additional_forward_args(additional_forward_args) or ()
        return Batch(
            self.adapter,
            images,
            tuple(arguments),
            scorer,
            torch.arange(len(images)),
            n_examples=len(images),
            max_rows=len(images),
            progress=None,
            as_called=autocast_of_caller(images.device),
        )


class PathAttribution(ViTAttribution):
    """Base of the methods that average gradients on the way from black to the image."""

    @log_usage(part_of_slo=True)
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
            inputs (Tensor): (B, C, H, W), as the model takes them.
            target (int, tuple, Tensor, list, callable, optional): As all arguments but
                the next, see `ViTAttribution.attribute`. Default: None
            additional_forward_args (any, optional): Default: None
            n_steps (int, optional): How many points from all zeros to the input, both
                included, gradients are averaged over; at least 2. Default: 20
            interpolate_mode (str, optional): Default: "bilinear"
            internal_batch_size (int, optional): Default: None
            show_progress (bool, optional): Default: False

        Returns:
            *Tensor* of **attributions**: float32, detached, (B, 1, H, W), or the patch
            grid (B, 1, h, w) with ``interpolate_mode=None``.

        Raises:
            TypeError, ValueError, RuntimeError: As `ViTAttribution.attribute`.
        """
        n_steps = require_positive_integer("n_steps", n_steps)
        if n_steps < 2:
            raise ValueError(f"n_steps: got {n_steps}, takes at least 2")
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            interpolate_mode,
            internal_batch_size,
            show_progress,
            forwards_per_example=n_steps + self._further_forwards,
            n_steps=n_steps,
        )

    @property
    def _further_forwards(self) -> int:
        """How many forwards of each example there are besides the path's."""
        return 1


def _in_chunks(
    answer: Callable[[Batch], Tensor], batch: Batch, size: int | None
) -> Tensor:
    """Ask about some examples at a time; about fewer when memory runs out."""
    may_shrink = size is None
    if size is None:
        size = default_rows(batch.inputs.device)
        if batch.scorer.whole_batch:
            size = max(size, len(batch))

    def work(rows: slice, size: int) -> Tensor:
        return answer(replace(batch.select(rows), max_rows=size)).detach()

    parts, _ = in_chunks(work, len(batch), size, may_shrink, fills_forwards=True)
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
    """Take the channel away from maps (B, 1, H, W) of inputs that have none."""
    return maps[:, 0] if inputs.dim() == 3 else maps


def _images(inputs: Tensor) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs: got {type(inputs).__name__}, takes one tensor of images "
            "(B, C, H, W)"
        )
    (images,) = validate_inputs(inputs)
    require_images(images)
    return images


def _finite(grid: Tensor, examples: Tensor) -> Tensor:
    bad = examples[~torch.isfinite(grid).flatten(1).all(dim=1).cpu()]
    if len(bad):
        raise ValueError(
            f"model: the attribution of example {int(bad[0])} is NaN or infinite, "
            "though its output is finite; run the model in float32 or float64"
        )
    return grid
