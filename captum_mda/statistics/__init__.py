"""Confidence intervals of mean scores, and comparisons of methods on the same examples.

Intervals and tests are over examples: they say what another sample of examples could
have given. A NaN score, as of a degenerate example, is left out and counted.
"""

from captum_mda.statistics.comparison import compare, Comparison
from captum_mda.statistics.intervals import mean_interval, MeanInterval
from captum_mda.statistics.signed_ranks import holm
from captum_mda.statistics.table import comparison_table

__all__ = [
    "Comparison",
    "MeanInterval",
    "compare",
    "comparison_table",
    "holm",
    "mean_interval",
]
