"""MDA's second step: how much each patch counts, given the order and its curves."""

from captum_mda.magnitude.density import fit_density, mean_response, resampled, Solver
from captum_mda.magnitude.rules import (
    blended_magnitudes,
    dense_magnitudes,
    MAGNITUDE_RULES,
    MagnitudeRule,
    sparse_magnitudes,
    strictly_decreasing,
)
from captum_mda.magnitude.solvers import (
    DensitySolver,
    solve_by_nnls,
    solve_by_osqp,
    SOLVERS,
)

__all__ = [
    "MAGNITUDE_RULES",
    "SOLVERS",
    "DensitySolver",
    "MagnitudeRule",
    "Solver",
    "blended_magnitudes",
    "dense_magnitudes",
    "fit_density",
    "mean_response",
    "resampled",
    "solve_by_nnls",
    "solve_by_osqp",
    "sparse_magnitudes",
    "strictly_decreasing",
]
