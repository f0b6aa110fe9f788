"""Priors, the attributions that narrow the search of MDA's order.

The paper calls such a map a seed, and so do the arguments ``seed_attributions``,
``--seed-method`` and ``--seed-map``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn, Tensor

from captum_mda.attr import BidirectionalAttention, LeGrad, ViTAttribution
from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._prior_files import FloatArray, maps_of_images
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.models import Classifier
from captum_mda.ordering.greedy import LARGEST_DEFAULT_WINDOW

# Without a prior the search evaluates some N * N / 2 responses; worth a word from here.
_MANY_PATCHES = 150

_METHODS: Mapping[str, Callable[[nn.Module], ViTAttribution]] = {
    "bi-attn": BidirectionalAttention,  # by heads, as in the MDA tables
    "legrad": LeGrad,
}
_DEFAULT = "bi-attn"

PRIOR_METHODS = ("auto", *_METHODS, "none")
"""What ``--seed-method`` takes."""


@dataclass(frozen=True)
class Prior:
    """Where the prior of an image comes from.

    Args:
        name (str): "bi-attn", "legrad", "file" or "none".
        compute (callable): From a case to the prior as `MetricDrivenAttribution` takes
            it, (1, N) or (1, 1, H, W); None for none.
    """

    name: str
    compute: Callable[[Case], Tensor | None]


def require_one_prior(method: str, has_file: bool) -> None:
    """Raise a ValueError if a prior is both computed and read."""
    if has_file and method in _METHODS:
        raise ArgumentError(
            f"{{seed_map}}: got a file and {{seed_method={method}}}, takes one of the "
            "two"
        )


def make_priors(
    method: str,
    values: FloatArray | None,
    n_images: int,
    classifier: Classifier,
    note: Callable[[str], None],
    needs_one: bool = True,
) -> Sequence[Prior]:
    """Decide where the priors of all images come from.

    Args:
        method (str): One of `PRIOR_METHODS`. "auto" is Bi-Attn where the model is a
            Vision Transformer that `captum_mda.vit.resolve` knows, else none.
        values (ndarray, optional): What a file holds, instead of a method.
        n_images (int): How many images there are.
        classifier (Classifier): The model.
        note (callable): Told when there is no prior and the search takes long.
        needs_one (bool, optional): Whether the search takes long without a prior, as
            the published one does; the others compute one. Default: True

    Returns:
        *sequence of Prior*: one for each image.

    Raises:
        ValueError: The method cannot look inside the model, or the file's shape does
            not fit.
    """
    if values is not None:
        maps = maps_of_images(values, n_images, classifier.grid, classifier.size)
        return [_read(values) for values in maps]
    attribution = None if method == "none" else _attribution(method, classifier.model)
    if attribution is None:
        if needs_one:
            _note_cost(classifier, note)
        return [Prior("none", lambda case: None)] * n_images
    name = _DEFAULT if method == "auto" else method
    return [_computed(name, attribution, classifier.grid)] * n_images


def _attribution(method: str, model: nn.Module) -> ViTAttribution | None:
    if method == "auto":
        try:
            return _METHODS[_DEFAULT](model)
        except ValueError:  # any model can be explained, priors are for those known
            return None
    try:
        return _METHODS[method](model)
    except ValueError as error:
        raise ArgumentError(
            f"{{seed_method}}: {method} cannot look inside this model ({error}); pass "
            "{seed_map=FILE}, or {seed_method=none}"
        ) from error


def _read(values: FloatArray) -> Prior:
    prior = torch.from_numpy(values)
    return Prior("file", lambda case: prior)


def _computed(
    name: str,
    attribution: ViTAttribution,
    grid: tuple[int, int],
) -> Prior:
    def compute(case: Case) -> Tensor:
        # Features that are the model's own patches are ranked by its own values, in
        # the same raster order; any others by the mean of the map over each.
        own = attribution.adapter.patch_grid(case.images) == grid
        values = attribution.attribute(
            case.images,
            target=case.target,
            interpolate_mode=None if own else "bilinear",
            internal_batch_size=case.batch_size,
        )
        return values.flatten(1) if own else values

    return Prior(name, compute)


def _note_cost(classifier: Classifier, note: Callable[[str], None]) -> None:
    n = classifier.grid[0] * classifier.grid[1]
    if n >= _MANY_PATCHES:
        note(
            f"note: without a seed all {n} patches are candidates, some "
            f"{n * (n + 1) // 2:,} forwards an image; a seed, such as that of Bi-Attn, "
            f"leaves some {LARGEST_DEFAULT_WINDOW * n:,}"
        )
