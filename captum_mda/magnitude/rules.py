"""From AD's increments to the magnitudes of the patches, sparse, dense and blended."""

from __future__ import annotations

from typing import get_args, Literal, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float64

FittedRule = Literal["reference", "paper", "increment"]
MagnitudeRule = FittedRule | Literal["mas"]
FITTED_RULES: tuple[FittedRule, ...] = get_args(FittedRule)
MAGNITUDE_RULES: tuple[MagnitudeRule, ...] = (*FITTED_RULES, "mas")

# Keeps the order strict where AD is flat; far below the noise of any response curve.
ORDER_TERM = 1e-6


def sparse_magnitudes(
    density_curve: Float64[Tensor, "B points"],
    sizes: Float64[Tensor, "B N"],
    rule: MagnitudeRule,
) -> Float64[Tensor, "B N"]:
    """Give each patch, most important first, its magnitude (Eq. 10).

    With D_i the i-th increment of AD and f_i = (N - i)/N:
    "reference" is D_i/size_i + D_i f_i, what made the published tables; "paper" is
    D_i + D_i f_i, as printed; "increment" is D_i alone, so that the density response of
    the map is AD itself. These get ``1e-6 * f_i`` on top. "mas" is D_i over the patch's
    size, in units of the mean size: the map whose density response is the given one,
    patches of unequal size included; it falls strictly where `align_density` made it.

    Args:
        density_curve (Tensor): float64 (B, N + 1), AD.
        sizes (Tensor): float64 (B, N), how many pixels each patch of the order covers.
        rule (str): "reference", "paper", "increment" or "mas".

    Returns:
        *Tensor*: float64 (B, N), not negative and strictly decreasing.
    """
    increments = density_curve.diff(dim=1).clamp(min=0.0)  # D, (B, N)
    if rule == "mas":
        magnitudes = increments / relative_sizes(sizes)
        return strictly_decreasing(magnitudes.cummin(dim=1).values)
    increments = increments.cummin(dim=1).values  # a solver's noise may let them rise
    factor = _order_factor(increments.shape[1])
    if rule == "reference":
        magnitudes = increments / sizes + increments * factor
    elif rule == "paper":
        magnitudes = increments + increments * factor
    else:
        magnitudes = increments
    return strictly_decreasing(magnitudes + ORDER_TERM * factor)


def dense_magnitudes(
    sparse: Float64[Tensor, "B N"], kappa: float
) -> Float64[Tensor, "B N"]:
    """Spread the patches that matter over the whole range (Eq. 11).

    Patches whose sparse magnitude reaches ``kappa`` get (N - i)/N, the others keep
    theirs; the result is scaled to the sparse maximum, as in the published code, so
    that both maps share a range.

    Args:
        sparse (Tensor): float64 (B, N), strictly decreasing.
        kappa (float): The threshold, in [0, 1].

    Returns:
        *Tensor*: float64 (B, N).
    """
    dense = torch.where(sparse >= kappa, _order_factor(sparse.shape[1]), sparse)
    highest = dense.amax(dim=1, keepdim=True)
    scale = sparse.amax(dim=1, keepdim=True) / highest
    return torch.where(highest > 0, dense * scale, sparse)


def blended_magnitudes(
    sparse: Float64[Tensor, "B N"], gamma: float, kappa: float
) -> Float64[Tensor, "B N"]:
    """Blend the sparse and the dense magnitudes (Eq. 12).

    Args:
        sparse (Tensor): float64 (B, N), strictly decreasing.
        gamma (float): 0 is sparse, 1 is dense.
        kappa (float): The threshold of the dense magnitudes, in [0, 1].

    Returns:
        *Tensor*: float64 (B, N), strictly decreasing.
    """
    dense = dense_magnitudes(sparse, kappa)
    return strictly_decreasing((1.0 - gamma) * sparse + gamma * dense)


def strictly_decreasing(values: Tensor) -> Tensor:
    """Raise values, by no more than needed, until each is above the next.

    Rounding to a narrower type, patches of very different size, or an extreme ``kappa``
    can let neighbours meet or cross; the order is what the search found, and stays.

    Args:
        values (Tensor): (B, N), floating point, not negative.

    Returns:
        *Tensor*: (B, N), of the same dtype and device.
    """
    # What is above all that follows stays; the few others are lifted one by one.
    rows = values.cpu().numpy().copy()
    for row in rows:
        for i in np.flatnonzero(row[:-1] <= row[1:])[::-1]:
            while i >= 0 and row[i] <= row[i + 1]:
                row[i] = np.nextafter(row[i + 1], np.inf, dtype=row.dtype)
                i -= 1
    return torch.from_numpy(rows).to(values.device)


def relative_sizes(sizes: Tensor) -> Tensor:
    """Divide sizes (..., N) by their mean: float64 (..., N), exactly 1 if all agree."""
    return sizes / sizes.mean(dim=-1, keepdim=True)


def _order_factor(n_features: int) -> Tensor:
    """Compute (N - i)/N for i = 1, ..., N: float64 (N,), from just below 1 to 0."""
    places = torch.arange(1, n_features + 1, dtype=torch.float64)
    return (n_features - places) / n_features
