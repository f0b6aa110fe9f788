"""Sums over a data set, batch by batch, that merge across shards to the same bits.

Each accumulator is updated with batches, merged with those of other shards, and
computed at the end. All sums are exact, in integers and fractions, so neither the order
nor the batches nor the shards change a result. A state is of strings and integers, and
goes through JSON unharmed.
"""

from captum_mda.metrics.exact_means import MeanAccumulator, MeanAndDeviation
from captum_mda.metrics.segmentation_sums import (
    BatchOfSegmentationScores,
    SegmentationAccumulator,
    SegmentationSummary,
)
from captum_mda.metrics.threshold_histograms import HistogramAccumulator, ThresholdCurve

__all__ = [
    "BatchOfSegmentationScores",
    "HistogramAccumulator",
    "MeanAccumulator",
    "MeanAndDeviation",
    "SegmentationAccumulator",
    "SegmentationSummary",
    "ThresholdCurve",
]
