"""The pointing game: whether the largest value of a map lies on the object."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from captum_mda._captum import log_usage
from captum_mda._checks import is_number, require_choice
from captum_mda.metrics._degenerate import (
    map_status,
    OK,
    OnDegenerate,
    report_degenerate,
)
from captum_mda.metrics.localization._masked_maps import (
    joined_status,
    maps_and_masks,
    mask_status,
    NO_MAP,
    not_scored,
)
from captum_mda.perturbation.maps import AnyMaps


@log_usage(part_of_slo=True)
def pointing_game(
    attributions: AnyMaps,
    masks: Tensor,
    tolerance: float = 0,
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Pointing game; higher is better, 0 or 1 (Zhang et al. 2018).

    Args:
        attributions (Tensor): Maps (B, C, H, W), whose channels are summed, or
            (B, H, W), of the masks' height and width; or grids of patches, which are
            painted onto equal cells of the masks. Of several largest values the first
            in raster order counts.
        masks (Tensor): Where the object is: bool, or integers 0 and 1, (B, H, W) or
            (B, 1, H, W). A mask without background is always hit.
        tolerance (float, optional): How far from the object, in pixels between centres,
            a hit may lie; the paper takes 15. Default: 0
        on_degenerate (str, optional): What becomes of a constant map or a mask without
            foreground: "raise", or "nan" to score it NaN and warn. Default: "raise"

    Returns:
        *Tensor*: float64 (B,), on the CPU, 1 for a hit and 0 for a miss.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or a value does not fit, or under "raise" an example is
            degenerate.

    Reference:
        Zhang, Bargal, Lin, Brandt, Shen, Sclaroff, "Top-down Neural Attention by
        Excitation Backprop", IJCV 2018.

    Example::

        >>> import torch
        >>> from captum_mda.metrics import pointing_game
        >>> maps, masks = torch.tensor([[[0.0, 0.2, 0.9]]]), torch.tensor([[[1, 1, 0]]])
        >>> pointing_game(maps, masks), pointing_game(maps, masks, tolerance=1)
        (tensor([0.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    require_choice("on_degenerate", on_degenerate, get_args(OnDegenerate))
    _require_tolerance(tolerance)
    maps, truth = maps_and_masks(attributions, masks)
    of_maps = map_status(maps.flatten(1))
    of_masks = [OK if word == "full mask" else word for word in mask_status(truth)]
    report_degenerate("attributions", of_maps, on_degenerate, NO_MAP)
    report_degenerate("masks", of_masks, on_degenerate, "drop such examples")
    hits = (_distance_to_object(maps, truth) <= tolerance).double().cpu()
    hits[not_scored(joined_status(of_maps, of_masks))] = torch.nan
    return hits


def _require_tolerance(tolerance: float) -> None:
    if not is_number(tolerance):
        raise TypeError(f"tolerance: got {tolerance!r}, takes a number of pixels")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: got {tolerance!r}, takes 0 or more pixels")


def _distance_to_object(maps: Tensor, masks: Tensor) -> Tensor:
    """Measure how far each map's largest value lies from its mask, in pixels.

    Args:
        maps (Tensor): (B, H, W); of several largest values the first counts.
        masks (Tensor): bool (B, H, W).

    Returns:
        *Tensor*: float64 (B,), Euclidean; infinite where a mask is empty.
    """
    height, width = maps.shape[1:]
    peak = maps.flatten(1).argmax(dim=1)[:, None, None]
    rows = torch.arange(height, device=maps.device)[:, None] - peak // width
    columns = torch.arange(width, device=maps.device) - peak % width
    distance = (rows**2 + columns**2).double().sqrt()  # (B, H, W)
    return distance.masked_fill(~masks, torch.inf).amin(dim=(1, 2))
