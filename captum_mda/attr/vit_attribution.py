"""What all attribution methods for Vision Transformers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from captum.attr import Attribution
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda._captum import (
    format_additional_forward_args,
    log_usage,
    progress_bar,
    TargetType,
)
from captum_mda._state import preserved_state
from captum_mda.perturbation.inputs import (
    require_choice,
    require_positive_integer,
    validate_inputs,
)
from captum_mda.perturbation.response import (
    arguments_of_rows,
    default_rows,
    ran_out_of_memory,
    require_scorer,
    Score,
    to_scores,
    validated_outputs,
)
from captum_mda.perturbation.targets import select_target, target_indices
from captum_mda.vit import (
    BiasCapture,
    check_adapter,
    eager_execution,
    find_adapter,
    gradients_enabled,
    Observation,
    observe,
    ViTAdapter,
)
from captum_mda.vit.execution import warn_if_random

Target = TargetType | Callable[[Tensor], Tensor]
"""Captum's forms, a text embedding as a floating-point tensor, or a callable."""

INTERPOLATE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")


class ViTAttribution(Attribution):
    """Base of the methods that look inside a Vision Transformer.

    A subclass says in `_token_map` what each token is worth; inputs, targets, chunks,
    the grid of patches and the state of the model are dealt with here.

    Args:
        model (nn.Module or ViTAdapter): A stock model of timm, torchvision,
            transformers or open_clip (`captum_mda.vit.resolve` says which), or an
            adapter.
        score (str or callable, optional): What is made of the outputs before the target
            is chosen: "identity" for logits, "softmax", or a callable. Not used where
            the target is a callable. Default: "identity"

    Raises:
        TypeError: ``model`` is neither.
        ValueError: The model's family is not known, or its check fails.
    """

    def __init__(
        self, model: nn.Module | ViTAdapter, score: Score = "identity"
    ) -> None:
        """Find and check the parts of the model."""
        require_scorer(lambda: None, score)
        self.adapter = find_adapter(model)
        self._example_output = check_adapter(self.adapter)
        Attribution.__init__(self, self.adapter)
        self.score = score

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
            inputs (Tensor): (B, C, H, W), as the model takes them.
            target (int, tuple, Tensor, list, callable, optional): What is explained.
                Captum's forms of classes, for all examples or for each; a
                floating-point tensor (E,) or (B, E), whose cosine similarity with the
                model's embedding is explained; or a callable that maps outputs
                (B, ...) to one score for each example (B,). None where the model
                returns one value for each example. Default: None
            additional_forward_args (any, optional): Passed to the model behind the
                inputs; tensors whose first dimension is the batch's hold one entry for
                each example. Default: None
            interpolate_mode (str, optional): How the grid of patches is resized to the
                inputs: "nearest", "nearest-exact", "bilinear" or "bicubic". None: the
                grid itself is returned. Default: "bilinear"
            internal_batch_size (int, optional): The most images in one forward. None:
                as many as fit, halved when memory runs out. Default: None
            show_progress (bool, optional): Show a bar of the images passed forward.
                Default: False

        Returns:
            *Tensor* of **attributions**: float32 (float64 where the model's outputs
            are), detached, on the inputs' device.
                - **attributions**: (B, 1, H, W), or the patch grid (B, 1, h, w) with
                  ``interpolate_mode=None``.

        Raises:
            TypeError, ValueError: An argument does not fit (before the first forward),
                or outputs are NaN or infinite, with the example.
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

    def _attribute(
        self,
        inputs: Tensor,
        target: Target,
        additional_forward_args: object,
        interpolate_mode: str | None,
        internal_batch_size: int | None,
        show_progress: bool,
        forwards_per_example: int = 1,
        **options: Any,
    ) -> Tensor:
        """Check the question, ask it chunk by chunk, and lay the answers out."""
        images = _images(inputs)
        if interpolate_mode is not None:
            require_choice("interpolate_mode", interpolate_mode, INTERPOLATE_MODES)
        if internal_batch_size is not None:
            require_positive_integer("internal_batch_size", internal_batch_size)
        question = self._question(images, target, additional_forward_args)
        total = len(images) * forwards_per_example
        title = f"{self.get_name()} attribution"
        with (
            eager_execution(self.adapter.model),
            preserved_state(self.adapter.model, (images,)),
            progress_bar(total, title, show_progress) as bar,
        ):
            batch = replace(question, progress=bar)
            grids = self._in_chunks(batch, internal_batch_size, options)
        if interpolate_mode is None:
            return grids
        align = None if interpolate_mode.startswith("nearest") else False
        size = images.shape[-2:]
        return F.interpolate(grids, size, mode=interpolate_mode, align_corners=align)

    def _question(
        self, images: Tensor, target: Target, additional_forward_args: object
    ) -> Batch:
        warn_if_random(self.adapter.model)
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
        )

    def _in_chunks(
        self, batch: Batch, size: int | None, options: dict[str, Any]
    ) -> Tensor:
        may_shrink = size is None
        if size is None:
            size = default_rows(batch.inputs.device)
            if batch.scorer.whole_batch:
                size = max(size, len(batch))
        grids, start = [], 0
        while start < len(batch):
            rows = replace(batch.select(slice(start, start + size)), max_rows=size)
            try:
                with gradients_enabled():
                    tokens = self._token_map(rows, **options)
            except RuntimeError as error:
                if not (may_shrink and len(rows) > 1 and ran_out_of_memory(error)):
                    raise
                size = len(rows) // 2
                continue
            grid = self.adapter.patch_map(tokens.detach(), rows.inputs)
            grids.append(_finite(grid, rows.examples))
            start += len(rows)
        return torch.cat(grids)


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
        require_positive_integer("n_steps", n_steps)
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


@dataclass(frozen=True, eq=False)
class Scorer:
    """From outputs (R, ...) to one score for each row.

    Args:
        score (callable): Takes outputs and the example of each row, int64 (R,).
        check (callable): Takes an example of the model's outputs; raises a ValueError
            if the target does not fit them.
        whole_batch (bool): Whether rows must be all examples in order, as a callable
            target may expect.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    check: Callable[[Tensor], None]
    whole_batch: bool = False


def make_scorer(target: Target, score: Score, n_examples: int) -> Scorer:
    """Read a target before the first forward.

    Args:
        target: As `ViTAttribution.attribute` takes it.
        score (str or callable): What is made of outputs before a class is chosen.
        n_examples (int): The number of examples.

    Returns:
        *Scorer*: from outputs to scores.

    Raises:
        TypeError: The target is of no form that is known.
        ValueError: It has another number of entries.
    """
    if isinstance(target, Tensor) and target.is_floating_point():
        return _similarity_scorer(target.detach(), n_examples)
    if callable(target):

        def call(outputs: Tensor, examples: Tensor) -> Tensor:
            values = validated_outputs(target(outputs), len(outputs), "target")
            if values.numel() != len(outputs):
                raise ValueError(
                    f"target: it returned shape {tuple(values.shape)} for "
                    f"{len(outputs)} examples, takes a callable that returns one score "
                    "for each"
                )
            return values.flatten()

        return Scorer(call, lambda example: None, whole_batch=True)
    indices = target_indices(target, n_examples)

    def choose(outputs: Tensor, examples: Tensor) -> Tensor:
        one_each = indices is not None and len(indices) > 1
        chosen = indices[examples] if one_each and indices is not None else indices
        return select_target(to_scores(outputs, score), chosen)

    def check(example: Tensor) -> None:
        """All targets must be there; the example stands for every output."""
        with torch.no_grad():
            rows = example.expand(n_examples, *example.shape[1:])
            choose(rows, torch.arange(n_examples))

    return Scorer(choose, check)


def _similarity_scorer(embedding: Tensor, n_examples: int) -> Scorer:
    """Explain the cosine similarity with an embedding, of a text for example."""
    rows = embedding if embedding.dim() == 2 else embedding[None]
    if rows.dim() != 2 or len(rows) not in (1, n_examples):
        raise ValueError(
            f"target: got an embedding of shape {tuple(embedding.shape)}, takes (E,) "
            f"or one for each example, ({n_examples}, E)"
        )
    if not torch.isfinite(rows).all():
        raise ValueError("target: NaN or infinite values in the embedding")

    def similarity(outputs: Tensor, examples: Tensor) -> Tensor:
        wanted = rows.to(outputs)
        wanted = wanted if len(wanted) == 1 else wanted[examples.to(outputs.device)]
        return F.cosine_similarity(outputs, wanted, dim=1)

    def check(example: Tensor) -> None:
        if example.dim() != 2 or example.shape[1] != rows.shape[1]:
            raise ValueError(
                f"target: got an embedding of {rows.shape[1]} numbers, the model's "
                f"output has shape {tuple(example.shape)}"
            )

    return Scorer(similarity, check)


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
    """

    adapter: ViTAdapter
    inputs: Tensor
    arguments: tuple[Any, ...]
    scorer: Scorer
    examples: Tensor
    n_examples: int
    max_rows: int
    progress: Any

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
        inputs = self.inputs
        if tuple(scales) != (1.0,):
            inputs = torch.cat([inputs * scale for scale in scales])
        elif inputs.is_inference():
            inputs = inputs.clone()
        examples = self.examples.repeat(len(scales))
        arguments = arguments_of_rows(self.arguments, examples, self.n_examples)
        seen = observe(
            self.adapter,
            inputs,
            *arguments,
            attention=attention,
            first_block=first_block % self.adapter.depth,
            biases=biases,
        )
        validated_outputs(seen.outputs, len(inputs), "model")
        finite = torch.isfinite(seen.outputs.detach()).reshape(len(inputs), -1).all(1)
        if not bool(finite.all()):
            bad = int(examples[~finite.cpu()][0])
            raise ValueError(
                f"model: its output for example {bad} is NaN or infinite; check the "
                "inputs' normalisation and the model's precision"
            )
        self.progress.update(len(inputs))
        return seen

    def scores(self, outputs: Tensor) -> Tensor:
        """Score outputs of these examples, or of several copies of them: (R,)."""
        copies = len(outputs) // len(self.inputs)
        return self.scorer.score(outputs, self.examples.repeat(copies))

    def gradients(
        self, outputs: Tensor, of: Sequence[Tensor], keep_graph: bool = False
    ) -> list[Tensor]:
        """Differentiate the scores of outputs; examples do not interact.

        Args:
            outputs (Tensor): (R, ...), with a graph.
            of (sequence of Tensor): What to differentiate with respect to.
            keep_graph (bool, optional): Whether another call follows. Default: False

        Returns:
            *list[Tensor]*: shaped like ``of``; zeros where the score does not depend
            on it.
        """
        total = self.scores(outputs).sum()
        if not total.requires_grad:
            return [torch.zeros_like(tensor) for tensor in of]
        gradients = torch.autograd.grad(
            total, list(of), retain_graph=keep_graph, allow_unused=True
        )
        return [
            torch.zeros_like(tensor) if gradient is None else gradient
            for tensor, gradient in zip(of, gradients, strict=True)
        ]

    def read_row(self, matrix: Tensor, seen: Observation) -> Tensor:
        """Read the row of a matrix (B, T, T) that feeds the model's head: (B, T).

        That is the class token's; without one, the mean over the pooled tokens, or by
        the pooler's attention.
        """
        pooler = None if seen.pooler is None else seen.pooler.probabilities.detach()
        weights = self.adapter.readout(matrix.shape[-1], pooler, matrix)
        if len(weights) not in (1, len(matrix)):
            weights = weights[-len(matrix) :]
        return (weights[:, None] @ matrix)[:, 0]


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


def _images(inputs: Tensor) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs: got {type(inputs).__name__}, takes one tensor of images "
            "(B, C, H, W)"
        )
    (images,) = validate_inputs(inputs)
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"inputs: got shape {tuple(images.shape)} of {images.dtype}, takes images "
            "(B, C, H, W) of floating-point numbers, normalised as the model wants "
            "them; add a batch dimension with images[None]"
        )
    return images


def _finite(grid: Tensor, examples: Tensor) -> Tensor:
    bad = examples[~torch.isfinite(grid).flatten(1).all(dim=1).cpu()]
    if len(bad):
        raise ValueError(
            f"model: the attribution of example {int(bad[0])} is NaN or infinite, "
            "though its output is finite; run the model in float32 or float64"
        )
    return cast(Tensor, grid)
