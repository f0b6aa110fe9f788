"""Panels of curves: responses, densities and the gap between them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from captum_mda import curves
from captum_mda.attr import MDAExplanation
from captum_mda.curves import Mode
from captum_mda.metrics import PerturbationScores, ResponseCurve
from captum_mda.visualize._images import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that colour-blind readers can distinguish (Okabe and Ito).
_SUFFICIENT_COLOUR = "#009E73"
RESPONSE_COLOUR, DENSITY_COLOUR = "#0072B2", "#D55E00"

_LEGEND_LETTERS = 42  # less than half of a panel's width


@dataclass(frozen=True, kw_only=True)
class DrawnCurve:
    """One panel: (n + 1,) points of the response and of the density response.

    Args:
        mode (str): "insertion" or "deletion".
        response (ndarray): (n + 1,).
        density (ndarray): (n + 1,).
        area (float): The area under the response.
        mas_area (float, optional): The magnitude-aligned area; None without scores.
        steps_of (str): The plural name of what a step inserts or deletes.
    """

    mode: Mode
    response: FloatArray
    density: FloatArray
    area: float
    mas_area: float | None
    steps_of: str


def explanation_curves(
    explanation: MDAExplanation, index: int, gamma: float, kappa: float
) -> tuple[DrawnCurve, DrawnCurve]:
    """Read the curves that the search has computed, patch by patch.

    Args:
        explanation (MDAExplanation): The explanation of a batch.
        index (int): The index of the example.
        gamma (float): The map whose density is drawn.
        kappa (float): See `MDAExplanation.feature_attributions`.

    Returns:
        *tuple[DrawnCurve, DrawnCurve]*: insertion and deletion.
    """
    order = explanation.order[index]
    attributions = explanation.feature_attributions(gamma, kappa)[index].cpu().double()
    # Mass and not height: larger patches have a larger share of the map.
    sizes = explanation.features.sizes.cpu()
    mass = (attributions * sizes[index if len(sizes) > 1 else 0])[order]
    return _without_scores(
        "insertion", explanation.insertion_curve[index], mass
    ), _without_scores("deletion", explanation.deletion_curve[index], mass)


def _without_scores(
    mode: Mode, response: torch.Tensor, mass: torch.Tensor
) -> DrawnCurve:
    density = (
        curves.density_response(mass, mode)
        if bool(mass.sum() > 0)
        else torch.zeros_like(response)  # a degenerate example has no density
    )
    return DrawnCurve(
        mode=mode,
        response=response.numpy(),
        density=density.numpy(),
        area=float(curves.area(response)),
        mas_area=None,
        steps_of="patches",
    )


def scored_curves(
    scores: PerturbationScores, index: int
) -> tuple[DrawnCurve, DrawnCurve]:
    """Read the curves whose areas are the scores of a map.

    Args:
        scores (PerturbationScores): The scores of a batch.
        index (int): The index of the example.

    Returns:
        *tuple[DrawnCurve, DrawnCurve]*: insertion and deletion.
    """
    inserted, deleted = (
        scored_curve(curve, index, "pixels")
        for curve in (scores.insertion_curve, scores.deletion_curve)
    )
    return inserted, deleted


def scored_curve(curve: ResponseCurve, index: int, steps_of: str) -> DrawnCurve:
    """Read one example of a response curve with steps of pixels or features."""
    return DrawnCurve(
        mode=curve.mode,
        response=curve.response[index].cpu().numpy(),
        density=curve.density[index].cpu().numpy(),
        area=float(curve.area[index]),
        mas_area=float(curve.mas_area[index]),
        steps_of=steps_of,
    )


def draw_curves(
    axes: Axes, curve: DrawnCurve, n_inserted: int | None = None, n_features: int = 1
) -> None:
    """Draw one panel of curves.

    Args:
        axes (Axes): The axes to draw on.
        curve (DrawnCurve): The curves.
        n_inserted (int, optional): The number of features that the search ordered by
            insertion (C). None: there was no search. Default: None
        n_features (int, optional): The number of all features (N). Default: 1
    """
    fraction = np.linspace(0.0, 1.0, len(curve.response))
    axes.fill_between(
        fraction,
        curve.response,
        curve.density,
        color="0.88",
        linewidth=0.0,
        label="gap that the magnitude-aligned score (MAS) penalises",
    )
    axes.plot(
        fraction,
        curve.response,
        color=RESPONSE_COLOUR,
        linewidth=1.8,
        label=f"response, area {curve.area:.3f}",
    )
    axes.plot(
        fraction,
        curve.density,
        color=DENSITY_COLOUR,
        linewidth=1.5,
        linestyle=(0, (4, 2)),
        label=f"share of the map's total that is {_present(curve)}",
    )
    if n_inserted is not None:
        axes.axvline(
            n_inserted / n_features,
            color="0.5",
            linewidth=0.9,
            linestyle=":",
            label=f"search: {n_inserted} of {n_features} patches ordered by insertion, "
            "the rest by deletion",
        )
    _label(axes, curve)


def _present(curve: DrawnCurve) -> str:
    return "inserted" if curve.mode == "insertion" else "left"


def draw_sufficient(axes: Axes, count: int, n_features: int, share: float) -> None:
    """Mark the smallest sufficient patches on the panel of insertion.

    Args:
        axes (Axes): The axes to draw on.
        count (int): The number of sufficient patches.
        n_features (int): The number of all patches (N).
        share (float): The share of the score that they restore.
    """
    axes.axvline(
        count / n_features,
        color=_SUFFICIENT_COLOUR,
        linewidth=1.2,
        linestyle=(0, (1, 1)),
        label=f"patches that restore {100 * share:g} % of the score: {count}",
    )


def _label(axes: Axes, curve: DrawnCurve) -> None:
    verb = "inserted" if curve.mode == "insertion" else "deleted"
    mas = (
        ""
        if curve.mas_area is None
        else f", magnitude-aligned area {curve.mas_area:.3f}"
    )
    title, below = f"{curve.mode.capitalize()}{mas}", curve.steps_of
    beside = "response (0 baseline, 1 whole image)"
    frame_curves(axes, title, f"fraction of {below} {verb}", beside)


def frame_curves(axes: Axes, title: str, below: str, beside: str) -> None:
    """Write a panel's title and the labels of its axes, which run from 0 to 1."""
    axes.set_title(title, size=10, pad=5)
    axes.set_xlabel(below, size=9)
    axes.set_ylabel(beside, size=9)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(-0.03, 1.03)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_legend(axes: Axes) -> None:
    """Draw a narrow legend where the lines leave room."""
    lines, names = axes.get_legend_handles_labels()
    axes.legend(
        lines,
        [textwrap.fill(name, _LEGEND_LETTERS) for name in names],
        loc="best",  # curves may go through any corner
        fontsize=8,
        framealpha=0.9,
        edgecolor="none",
    )
