"""Seeds, the attributions by which the search chooses its candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn, Tensor

from captum_mda._cli.inputs import FloatArray, seeds_of_images
from captum_mda._cli.models import Classifier
from captum_mda._cli.question import Question
from captum_mda.attr import BidirectionalAttention, LeGrad, ViTAttribution
from captum_mda.ordering.greedy import LARGEST_DEFAULT_WINDOW

# Without a seed the search asks for some N * N / 2 responses; worth a word from here.
_MANY_PATCHES = 150

_METHODS: Mapping[str, Callable[[nn.Module], ViTAttribution]] = {
    "bi-attn": BidirectionalAttention,  # by heads, as in the MDA tables
    "legrad": LeGrad,
}
_DEFAULT = "bi-attn"

SEED_METHODS = ("auto", *_METHODS, "none")
"""What ``--seed-method`` takes."""


@dataclass(frozen=True)
class Seed:
    """Where an image's seed comes from.

    Args:
        name (str): "bi-attn", "legrad", "file" or "none".
        compute (callable): From a question to the seed as `MetricDrivenAttribution`
            takes it, (1, N) or (1, 1, H, W); None for none.
    """

    name: str
    compute: Callable[[Question], Tensor | None]


def require_one_seed(method: str, has_file: bool) -> None:
    """Raise a ValueError if a seed is both computed and read."""
    if has_file and method in _METHODS:
        raise ValueError(
            f"--seed-map: got a file and --seed-method {method}, takes one of the two"
        )


def make_seeds(
    method: str,
    values: FloatArray | None,
    n_images: int,
    classifier: Classifier,
    note: Callable[[str], None],
    needs_one: bool = True,
) -> Sequence[Seed]:
    """Decide where the seeds of all images come from.

    Args:
        method (str): One of `SEED_METHODS`. "auto" is Bi-Attn where the model is a
            Vision Transformer that `captum_mda.vit.resolve` knows, else none.
        values (ndarray, optional): What a file holds, instead of a method.
        n_images (int): How many images there are.
        classifier (Classifier): The model.
        note (callable): Told when there is no seed and the search takes long.
        needs_one (bool, optional): Whether the search takes long without a seed, as the
            published one does; the others make one. Default: True

    Returns:
        *sequence of Seed*: one for each image.

    Raises:
        ValueError: A method is asked for that cannot look inside the model, or the
            file's shape does not fit.
    """
    if values is not None:
        maps = seeds_of_images(values, n_images, classifier.grid, classifier.size)
        return [_read(values) for values in maps]
    attribution = None if method == "none" else _attribution(method, classifier.model)
    if attribution is None:
        if needs_one:
            _note_cost(classifier, note)
        return [Seed("none", lambda question: None)] * n_images
    name = _DEFAULT if method == "auto" else method
    return [_computed(name, attribution, classifier.grid)] * n_images


def _attribution(method: str, model: nn.Module) -> ViTAttribution | None:
    if method == "auto":
        try:
            return _METHODS[_DEFAULT](model)
        except ValueError:  # any model can be explained, seeds are for those known
            return None
    try:
        return _METHODS[method](model)
    except ValueError as error:
        raise ValueError(
            f"--seed-method: {method} cannot look inside this model ({error}); pass "
            "--seed-map FILE, or --seed-method none"
        ) from error


def _read(values: FloatArray) -> Seed:
    seed = torch.from_numpy(values)
    return Seed("file", lambda question: seed)


def _computed(
    name: str,
    attribution: ViTAttribution,
    grid: tuple[int, int],
) -> Seed:
    def compute(question: Question) -> Tensor:
        # Features that are the model's own patches are ranked by its own values, in
        # the same raster order; any others by the mean of the map over each.
        own = attribution.adapter.patch_grid(question.images) == grid
        values = attribution.attribute(
            question.images,
            target=question.target,
            interpolate_mode=None if own else "bilinear",
            internal_batch_size=question.batch_size,
        )
        return values.flatten(1) if own else values

    return Seed(name, compute)


def _note_cost(classifier: Classifier, note: Callable[[str], None]) -> None:
    n = classifier.grid[0] * classifier.grid[1]
    if n >= _MANY_PATCHES:
        note(
            f"note: without a seed all {n} patches are candidates, some "
            f"{n * (n + 1) // 2:,} forwards an image; a seed, by --seed-method bi-attn "
            f"or --seed-map, leaves some {LARGEST_DEFAULT_WINDOW * n:,}"
        )
