"""How sure a mean score is, and whether methods differ on the same examples.

Intervals and tests are over examples: they tell what another sample of examples could
have given. A NaN score, as of a degenerate example, is left out and counted.
"""

from captum_mda.metrics.comparisons import compare, Comparison, comparison_table
from captum_mda.metrics.intervals import mean_interval, MeanInterval
from captum_mda.metrics.signed_ranks import holm

__all__ = [
    "Comparison",
    "MeanInterval",
    "compare",
    "comparison_table",
    "holm",
    "mean_interval",
]
