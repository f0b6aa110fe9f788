"""A small Vision Transformer and a generator of labelled images.

Each image shows one of ten shapes on a cluttered background and has the shape's exact
mask, so that an explanation can be compared with the shape that decides the class. The
package contains the model's weights; nothing is downloaded.
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
