"""Another name of `captum_mda.statistics`, with the same objects."""

from captum_mda.statistics import (
    compare,
    Comparison,
    comparison_table,
    holm,
    mean_interval,
    MeanInterval,
)

__all__ = [
    "Comparison",
    "MeanInterval",
    "compare",
    "comparison_table",
    "holm",
    "mean_interval",
]
