"""scikit-learn's clustering, an optional dependency."""

from __future__ import annotations

from typing import Any

from captum_mda._state import undone
from captum_mda._state.generators import GeneratorStates


def require_scikit_learn(method: str) -> Any:
    """Import `sklearn.cluster`, or raise an error that says how to install it."""
    try:
        with undone(GeneratorStates().restore):  # the import draws random numbers
            from sklearn import cluster
    except ImportError as error:
        raise ImportError(
            f"{method} clusters with scikit-learn, which is not installed; "
            'pip install "captum_mda[methods]"'
        ) from error
    return cluster
