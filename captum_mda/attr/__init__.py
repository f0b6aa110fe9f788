"""Attribution methods."""

from captum_mda.attr.explanation import MDAExplanation
from captum_mda.attr.metric_driven import MetricDrivenAttribution

__all__ = ["MDAExplanation", "MetricDrivenAttribution"]
