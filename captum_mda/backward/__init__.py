"""Contexts that rewrite the backward pass of a model and nothing else."""

from captum_mda.backward.libragrad import LibraGrad
from captum_mda.backward.relevance import RelevancePropagation

__all__ = ["LibraGrad", "RelevancePropagation"]
