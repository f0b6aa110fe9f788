"""Metrics that take patches away from a Vision Transformer."""

from captum_mda.metrics.tokens.deletion import (
    lif_deletion,
    mif_deletion,
    token_deletion,
    TokenDeletion,
)

__all__ = ["TokenDeletion", "lif_deletion", "mif_deletion", "token_deletion"]
