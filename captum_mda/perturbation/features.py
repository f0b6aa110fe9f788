"""What a feature is: a group of input elements that are present or absent together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TYPE_CHECKING

import torch
from torch import Tensor

from captum_mda._checks import (
    broadcasts_to,
    is_integer,
    require_integers,
)
from captum_mda._summaries import Brief

if TYPE_CHECKING:
    from jaxtyping import Int64

MAX_IMPLICIT_FEATURES = 4096
"""The most features that a missing feature mask may stand for."""


@dataclass(frozen=True, repr=False)
class Features(Brief):
    """The features of a batch of inputs, numbered 0 to ``n_features - 1``.

    Args:
        masks (tuple[Tensor, ...]): One int64 mask for each input tensor, with the
            number of dimensions of its input; it broadcasts to the input. The first
            dimension is 1 where all examples share their features, else the batch's.
        n_features (int): How many features every example has.
        shapes (tuple[torch.Size, ...]): The shapes of the input tensors.
    """

    masks: tuple[Tensor, ...]
    n_features: int
    shapes: tuple[torch.Size, ...]

    @classmethod
    def from_mask(
        cls,
        inputs: tuple[Tensor, ...],
        feature_mask: Tensor | tuple[Tensor, ...] | None,
    ) -> Features:
        """Read a Captum feature mask.

        Args:
            inputs (tuple[Tensor, ...]): The inputs, examples along dimension 0.
            feature_mask (Tensor, tuple[Tensor, ...], or None): Integers from 0 on;
                equal numbers are one feature, also across the tensors of a tuple
                (Captum 0.9). Each mask broadcasts to its input; a first dimension equal
                to the batch size gives every example features of its own, and every
                example must hold all of them. Gaps in the numbering are closed. None:
                every scalar is a feature.

        Returns:
            *Features*: the validated features, on the inputs' devices.

        Raises:
            TypeError: A mask is no tensor, or its numbers are no integers.
            ValueError: The masks do not fit the inputs, or describe fewer than two
                features.

        Example::

            >>> import torch
            >>> mask = torch.tensor([[0, 0, 7, 7]])
            >>> Features.from_mask((torch.zeros(2, 4),), mask).masks[0]
            tensor([[0, 0, 1, 1]])
        """
        shapes = tuple(tensor.shape for tensor in inputs)
        if feature_mask is None:
            masks = _one_feature_per_scalar(inputs)
        else:
            masks = tuple(
                _validated_mask(mask, tensor)
                for mask, tensor in zip(
                    _as_mask_tuple(feature_mask, len(inputs)), inputs, strict=True
                )
            )
        masks, numbers = _renumbered(masks)
        n_features = len(numbers)
        if n_features < 2:
            raise ValueError(
                "feature_mask: describes one feature only, and a ranking needs at "
                "least two; pass a mask with more groups, for example "
                "patch_feature_mask(inputs, patch_size)"
            )
        features = cls(masks, n_features, shapes)
        features._check_every_example_has_every_feature(numbers)
        return features

    @classmethod
    def positions(cls, inputs: tuple[Tensor, ...]) -> Features:
        """Make every position of an input one feature, its channels together.

        Args:
            inputs (tuple[Tensor, ...]): The inputs. Of a tensor with three dimensions
                or more, dimension 1 holds the channels of a position.

        Returns:
            *Features*: features in raster order, one tensor's after the other's.
        """
        one_channel = [
            tensor[:1, :1] if tensor.dim() > 2 else tensor[:1] for tensor in inputs
        ]
        masks = _numbered(one_channel)
        n_features = sum(mask.numel() for mask in masks)
        return cls(masks, n_features, tuple(tensor.shape for tensor in inputs))

    @property
    def batch_size(self) -> int:
        """The number of examples."""
        return self.shapes[0][0]

    @cached_property
    def sizes(self) -> Tensor:
        """How many positions of the masks each feature covers: float64 (1 or B, N).

        Dimensions along which a mask broadcasts count once, so a patch of an image
        counts its pixels and not their channels.
        """
        return self._add(
            tuple(torch.ones_like(m, dtype=torch.float64) for m in self.masks)
        )

    def paint(self, values: Tensor) -> tuple[Tensor, ...]:
        """Write each feature's value to all its elements.

        Args:
            values (Tensor): (B, N), one value for each feature of each example.

        Returns:
            *tuple[Tensor, ...]*: shaped like the inputs, with ``values``' dtype.
        """
        return tuple(
            look_up(values.to(mask.device), mask).expand(shape).contiguous()
            for mask, shape in zip(self.masks, self.shapes, strict=True)
        )

    def sum(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Sum maps over the elements of each feature.

        Args:
            maps (tuple[Tensor, ...]): One map for each input; it broadcasts to it.

        Returns:
            *Tensor*: float64 (B, N), on the first mask's device.
        """
        return self._add(
            tuple(
                value.to(mask.device, torch.float64).expand(shape)
                for value, mask, shape in zip(
                    maps, self.masks, self.shapes, strict=True
                )
            )
        )

    def mean(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Average maps over the elements of each feature.

        Args:
            maps (tuple[Tensor, ...]): One map for each input; it broadcasts to it.

        Returns:
            *Tensor*: float64 (B, N), on the first mask's device.
        """
        ones = tuple(torch.ones((1,) * len(shape)) for shape in self.shapes)
        return self.sum(maps) / self.sum(ones)

    def of_examples(self, rows: Tensor) -> Features:
        """Take the features of some examples.

        Args:
            rows (Tensor): int64 (K,), which of the examples; at least one.
        """
        masks = tuple(
            mask if mask.shape[0] == 1 else mask[rows.to(mask.device)]
            for mask in self.masks
        )
        shapes = tuple(torch.Size((len(rows), *shape[1:])) for shape in self.shapes)
        return Features(masks, self.n_features, shapes)

    def to(self, device: torch.device) -> Features:
        """Move the masks, and what is painted with them."""
        masks = tuple(mask.to(device) for mask in self.masks)
        return Features(masks, self.n_features, self.shapes)

    def _add(self, values: tuple[Tensor, ...]) -> Tensor:
        """Sum values of the masks' own, or the inputs' full, shapes over features."""
        device = self.masks[0].device
        rows = max(value.shape[0] for value in values)
        total = torch.zeros(rows, self.n_features, dtype=torch.float64, device=device)
        for value, mask in zip(values, self.masks, strict=True):
            index = mask.expand(value.shape).flatten(1)  # (1 or B, elements)
            part = torch.zeros(
                index.shape[0], self.n_features, dtype=torch.float64, device=mask.device
            )
            part.scatter_add_(1, index, value.flatten(1))
            total += part.to(device)
        return total

    def _check_every_example_has_every_feature(self, numbers: Tensor) -> None:
        missing = (self.sizes == 0).nonzero()
        if len(missing):
            example, feature = missing[0].tolist()
            raise ValueError(
                f"feature_mask: example {example} has no element of feature "
                f"{int(numbers[feature])}; all examples of a batch must hold the same "
                "features. Explain examples with different partitions in calls of "
                "their own"
            )


def patch_feature_mask(
    inputs_or_size: Tensor | Sequence[int], patch_size: int | Sequence[int]
) -> Int64[Tensor, "1 1 H W"]:
    """Number the patches of an image in raster order: a Vision Transformer's tokens.

    Args:
        inputs_or_size (Tensor or tuple[int, int]): Images (..., H, W), or (H, W).
        patch_size (int or tuple[int, int]): The patch's side, or its height and width,
            in pixels; they must divide H and W.

    Returns:
        *Tensor*: int64 (1, 1, H, W), values from 0 to (H / height) * (W / width) - 1,
        on the images' device.

    Raises:
        TypeError: A size is no integer.
        ValueError: The patch does not divide the image, or a size is not positive.

    Example::

        >>> patch_feature_mask((4, 6), 2)[0, 0]
        tensor([[0, 0, 1, 1, 2, 2],
                [0, 0, 1, 1, 2, 2],
                [3, 3, 4, 4, 5, 5],
                [3, 3, 4, 4, 5, 5]])
    """
    if isinstance(inputs_or_size, Tensor):
        if inputs_or_size.dim() < 2:
            raise ValueError(
                "inputs_or_size: got a tensor of shape "
                f"{tuple(inputs_or_size.shape)}, takes images (..., H, W)"
            )
        height, width = inputs_or_size.shape[-2:]
        device = inputs_or_size.device
    else:
        height, width = _pair("inputs_or_size", inputs_or_size)
        device = torch.device("cpu")
    patch_height, patch_width = _pair("patch_size", patch_size)
    for name, side, patch in (("H", height, patch_height), ("W", width, patch_width)):
        if side % patch:
            raise ValueError(
                f"patch_size: {patch} does not divide {name} = {side}; resize or crop "
                f"the image to a multiple, for example {max(1, side // patch) * patch}"
            )
    rows = torch.arange(height, device=device) // patch_height
    columns = torch.arange(width, device=device) // patch_width
    mask = rows[:, None] * (width // patch_width) + columns  # (H, W)
    return mask[None, None]


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair: Any = (value, value) if is_integer(value) else value
    if isinstance(pair, str) or not isinstance(pair, Sequence):
        raise TypeError(f"{name}: got {value!r}, takes one integer or a pair")
    if len(pair) != 2:
        raise ValueError(f"{name}: got {value!r}, takes one integer or a pair")
    if not all(map(is_integer, pair)):
        raise TypeError(f"{name}: got {value!r}, takes integers")
    if min(pair) < 1:
        raise ValueError(f"{name}: got {value!r}, takes positive integers")
    return int(pair[0]), int(pair[1])


def look_up(values: Tensor, mask: Tensor) -> Tensor:
    """Replace each number of a mask by that feature's value.

    Args:
        values (Tensor): (R, N).
        mask (Tensor): (1 or R, ...), numbers below N.

    Returns:
        *Tensor*: (R, ...), ``values[r, mask[r]]``.
    """
    if mask.shape[0] == 1:
        flat = values.index_select(1, mask.flatten())
    else:
        flat = values.gather(1, mask.flatten(1))
    return flat.view(values.shape[0], *mask.shape[1:])


def _one_feature_per_scalar(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    n_scalars = sum(tensor[0].numel() for tensor in inputs)
    if n_scalars > MAX_IMPLICIT_FEATURES:
        raise ValueError(
            "feature_mask: None makes every scalar a feature, here "
            f"{n_scalars} of them, and at most {MAX_IMPLICIT_FEATURES} are taken for "
            "meant; pass the groups, for a Vision Transformer "
            "patch_feature_mask(inputs, patch_size)"
        )
    return _numbered([tensor[:1] for tensor in inputs])


def _numbered(examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Number the elements of one example's tensors in a row, from 0."""
    masks, start = [], 0
    for example in examples:
        stop = start + example.numel()
        mask = torch.arange(start, stop, device=example.device)
        masks.append(mask.view(example.shape))
        start = stop
    return tuple(masks)


def _as_mask_tuple(
    feature_mask: Tensor | tuple[Tensor, ...], n_inputs: int
) -> tuple[Tensor, ...]:
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    if len(masks) != n_inputs:
        raise ValueError(
            f"feature_mask: got {len(masks)} masks for {n_inputs} input tensors, "
            "takes one for each"
        )
    return masks


def _validated_mask(mask: Tensor, tensor: Tensor) -> Tensor:
    """Check one mask against its input and give it the input's number of dimensions."""
    mask = require_integers("feature_mask", mask)
    if not broadcasts_to(mask, tensor) or mask.numel() == 0:
        raise ValueError(
            f"feature_mask: shape {tuple(mask.shape)} does not broadcast to the "
            f"input's {tuple(tensor.shape)}; give 1 or the input's size in each "
            "dimension"
        )
    if int(mask.min()) < 0:
        raise ValueError(
            f"feature_mask: the smallest number is {int(mask.min())}, takes numbers "
            "from 0 on"
        )
    mask = mask.to(tensor.device, torch.int64)
    return mask.reshape((1,) * (tensor.dim() - mask.dim()) + tuple(mask.shape))


def _renumbered(masks: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Close the gaps in the numbering that all masks share; also return the numbers."""
    numbers = torch.cat([torch.unique(mask).cpu() for mask in masks]).unique()
    if len(numbers) == int(numbers[-1]) + 1:
        return masks, numbers
    return (
        tuple(torch.searchsorted(numbers.to(mask.device), mask) for mask in masks),
        numbers,
    )
