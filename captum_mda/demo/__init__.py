"""A small Vision Transformer and endless labelled pictures, for examples and tests.

The pictures show one of ten shapes on a cluttered background and come with the shape's
exact mask, so that an explanation can be compared with what decides the class. Model
and pictures are in the package: nothing is downloaded.
"""

from __future__ import annotations

from captum_mda.demo._model import load_model
from captum_mda.demo._samples import (
    DemoSamples,
    denormalize,
    make_samples,
    MEAN,
    STD,
    to_pil,
)
from captum_mda.demo._shapes import CLASS_NAMES
from captum_mda.demo.generator import IMAGE_SIZE, PATCH_SIZE

__all__ = [
    "CLASS_NAMES",
    "IMAGE_SIZE",
    "MEAN",
    "PATCH_SIZE",
    "STD",
    "DemoSamples",
    "denormalize",
    "load_model",
    "make_samples",
    "to_pil",
]
