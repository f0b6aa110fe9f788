"""Figures of explanations; matplotlib is imported when one is drawn."""

from captum_mda._colours import denormalize
from captum_mda.visualize.figures import explanation_figure, save_figure
from captum_mda.visualize.maps import maps_figure
from captum_mda.visualize.scores import scores_figure

__all__ = [
    "denormalize",
    "explanation_figure",
    "maps_figure",
    "save_figure",
    "scores_figure",
]
