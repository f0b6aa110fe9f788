"""Another name of `captum_mda.statistics`, with the same objects."""

from captum_mda.statistics import *  # noqa: F403
from captum_mda.statistics import __all__ as __all__
