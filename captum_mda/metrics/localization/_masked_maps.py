"""Checks of maps, and of masks that mark an object in an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_mda._checks import require_examples, require_tensor
from captum_mda.metrics._degenerate import OK
from captum_mda.perturbation.maps import AnyMaps, as_tensors, over_cells

NO_MAP = "it tells no pixel from another; drop such examples"
"""The remedy for a map that is the same everywhere."""


def require_values(name: str, value: object) -> None:
    """Raise unless ``value`` is a dense tensor of finite real numbers, not empty."""
    require_examples(name, require_tensor(name, value))


def maps_and_masks(attributions: AnyMaps, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Check attributions and masks, and bring a grid to the masks' size.

    Args:
        attributions (Tensor, tuple of one, or MDAExplanation): (B, C, H, W), whose
            channels are summed, or (B, H, W); or a grid of patches, (B, C, h, w) or
            (B, h, w), which is painted onto equal cells.
        masks (Tensor): bool, or integers 0 and 1, (B, H, W) or (B, 1, H, W).

    Returns:
        *tuple[Tensor, Tensor]*: maps, float64 (B, H, W), and masks, bool (B, H, W), on
        the attributions' device.
    """
    maps = _as_maps(attributions)
    require_values("masks", masks)
    if masks.dim() in (3, 4):
        painted = over_cells(maps, masks.shape[-2:])
        maps = maps if painted is None else painted
    return maps, _as_masks(masks, maps)


def _as_maps(attributions: AnyMaps) -> Tensor:
    """Check attributions of images and sum their channels.

    Args:
        attributions (Tensor, tuple of one, or MDAExplanation): (B, C, H, W) or
            (B, H, W).

    Returns:
        *Tensor*: float64 (B, H, W), on the attributions' device.
    """
    given, *others = as_tensors("attributions", attributions)
    if others:
        raise ValueError(
            f"attributions: got {1 + len(others)} tensors, takes one map of each image"
        )
    require_examples("attributions", given)
    if given.dim() not in (3, 4):
        raise ValueError(
            f"attributions: got shape {tuple(given.shape)}, takes (B, C, H, W) "
            "or (B, H, W); give a single map its batch with unsqueeze(0)"
        )
    maps = given.double()
    return maps.sum(dim=1) if maps.dim() == 4 else maps


def _as_masks(masks: Tensor, maps: Tensor) -> Tensor:
    """Check masks against the maps they belong to.

    Args:
        masks (Tensor): bool, or integers 0 and 1, (B, H, W) or (B, 1, H, W).
        maps (Tensor): (B, H, W).

    Returns:
        *Tensor*: bool (B, H, W), on the maps' device.
    """
    if masks.is_floating_point():
        raise TypeError(
            f"masks: got dtype {masks.dtype}, takes booleans, or integers 0 and 1; "
            "convert them with masks > 0.5"
        )
    one_channel = masks.dim() == 4 and masks.shape[1] == 1
    flat = masks.detach().squeeze(1) if one_channel else masks.detach()
    if flat.shape != maps.shape:
        examples, height, width = maps.shape
        raise ValueError(
            f"masks: got shape {tuple(masks.shape)}, takes one mask for each map, "
            f"{tuple(maps.shape)} or {(examples, 1, height, width)}, or maps of "
            "patches whose rows and columns divide the masks'; bring others to the "
            "size of the masks with torch.nn.functional.interpolate"
        )
    other = (flat != 0) & (flat != 1)
    if bool(other.any()):
        raise ValueError(
            f"masks: got the value {int(flat[other][0])}, takes booleans, or integers "
            "0 and 1; compare with the object's number, as in masks == 1"
        )
    return flat.to(maps.device, torch.bool)


def mask_status(masks: Tensor) -> list[str]:
    """Tell which masks (B, H, W) have no foreground, or no background."""
    flat = masks.flatten(1)
    full, some = flat.all(dim=1).tolist(), flat.any(dim=1).tolist()
    words = {(True, True): "full mask", (False, False): "empty mask"}
    return [words.get(each, OK) for each in zip(full, some, strict=True)]


def joined_status(of_maps: Sequence[str], of_masks: Sequence[str]) -> tuple[str, ...]:
    """Join the status of each example's map, where it is not "ok", with its mask's."""
    return tuple(
        of_mask if of_map == OK else of_map
        for of_map, of_mask in zip(of_maps, of_masks, strict=True)
    )


def not_scored(status: Sequence[str]) -> Tensor:
    """Tell which examples are degenerate: bool (B,)."""
    return torch.tensor([word != OK for word in status])
