"""Families of models, and functions that find the parts of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.layout import conv_grid as conv_grid, conv_layout as conv_layout


class UnknownModelError(ValueError):
    """A model is of no known family, though a part of it may be."""


def _any_output(model: Any) -> None:
    """Accept every model of a family."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that have the same parts.

    Args:
        name (str): The family's name in messages.
        parts (tuple[str, ...]): Paths of attributes that all its models have;
            alternative paths are divided by "|".
        build (callable): From a model to its adapter.
        require_output (callable, optional): Raises a ValueError for a model that has
            the parts but no output that can be explained. Default: accepts all
    """

    name: str
    parts: tuple[str, ...]
    build: Callable[[Any], ViTAdapter]
    require_output: Callable[[Any], None] = _any_output

    def missing(self, model: nn.Module) -> list[str]:
        """List the parts that a model lacks."""
        return [part for part in self.parts if not has(model, part)]


def look_up(owner: Any, paths: str) -> Any:
    """Look an attribute up by the first of several paths that exists."""
    for path in paths.split("|"):
        found = owner
        for name in path.split("."):
            found = getattr(found, name, None)
            if found is None:
                break
        else:
            return found
    raise AttributeError(f"{type(owner).__name__} has none of {paths}")


def has(owner: Any, paths: str) -> bool:
    """Tell whether one of several paths exists."""
    try:
        look_up(owner, paths)
    except AttributeError:
        return False
    return True


def pair(value: Any) -> tuple[int, int]:
    """Read a height and a width, or one number for both."""
    height, width = (value, value) if isinstance(value, int) else tuple(value)[-2:]
    return int(height), int(width)


def first_convolution(embedding: nn.Module) -> nn.Conv2d:
    """Find the convolution that takes the images.

    Raises:
        ValueError: There is none.
    """
    for part in embedding.modules():
        if isinstance(part, nn.Conv2d):
            return part
    raise ValueError(
        f"model: its patches are made by {type(embedding).__name__}, which has no "
        "nn.Conv2d, so that the number of channels of its images is not known; write "
        "an adapter, see docs/adapters.md"
    )


def linear_weight(module: nn.Module) -> Tensor:
    """Read the weight (out, in) of a linear map.

    An `nn.Linear` has it as a parameter. Other modules (LoRA and similar ones,
    quantised layers) are applied to unit vectors.
    """
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        return module.weight
    like = next(module.parameters(), torch.empty(0))
    n_inputs = getattr(module, "in_features", None)
    if n_inputs is None:
        n_inputs = weight.shape[-1] if isinstance(weight, Tensor) else like.shape[-1]
    dtype = like.dtype if like.is_floating_point() else torch.float32
    units = torch.eye(int(n_inputs), dtype=dtype, device=like.device)
    with torch.no_grad():
        difference: Tensor = module(units) - module(torch.zeros_like(units[:1]))
    return difference.T
