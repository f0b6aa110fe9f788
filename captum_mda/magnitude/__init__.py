"""MDA's second step: how much each patch counts, given the order and its curves."""

from captum_mda.magnitude.alignment import (
    align_density,
    aligned_difference,
    density_of,
    mean_penalty,
)
from captum_mda.magnitude.density import (
    fit_density,
    mean_response,
    resampled,
    Solver,
    SOLVER_TOLERANCE,
)
from captum_mda.magnitude.rules import (
    blended_magnitudes,
    dense_magnitudes,
    FITTED_RULES,
    FittedRule,
    MAGNITUDE_RULES,
    MagnitudeRule,
    relative_sizes,
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
    "FITTED_RULES",
    "MAGNITUDE_RULES",
    "SOLVERS",
    "SOLVER_TOLERANCE",
    "DensitySolver",
    "FittedRule",
    "MagnitudeRule",
    "Solver",
    "align_density",
    "aligned_difference",
    "blended_magnitudes",
    "dense_magnitudes",
    "density_of",
    "fit_density",
    "mean_penalty",
    "mean_response",
    "relative_sizes",
    "resampled",
    "solve_by_nnls",
    "solve_by_osqp",
    "sparse_magnitudes",
    "strictly_decreasing",
]
