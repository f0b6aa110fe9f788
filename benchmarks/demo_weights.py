"""The demo model's file: weights in half precision, with the data to load them."""

from __future__ import annotations

import json
import os
from typing import Any, TYPE_CHECKING

from safetensors import safe_open
from safetensors.torch import save

from captum_mda._files import replacing
from captum_mda.demo import CLASS_NAMES
from captum_mda.demo._model import ARCHITECTURE

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["read_figures", "save_weights"]


def read_figures(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the figures that `save_weights` wrote into a file's header.

    Args:
        path (path): The safetensors file.

    Returns:
        *dict*: the figures.
    """
    with safe_open(path, framework="pt") as file:
        figures: dict[str, Any] = json.loads(file.metadata()["figures"])
    return figures


def save_weights(
    path: str | os.PathLike[str], model: VisionTransformer, figures: dict[str, Any]
) -> None:
    """Write a model's weights in half precision, with the data needed to load them.

    Args:
        path (path): The safetensors file; a temporary file is written and renamed.
        model (VisionTransformer): A model built with `ARCHITECTURE`.
        figures (dict): Measured figures to keep in the file's header.
    """
    metadata = {
        "architecture": json.dumps(ARCHITECTURE),
        "class_names": json.dumps(CLASS_NAMES),
        "figures": json.dumps(figures),
    }
    halves = {name: value.half() for name, value in model.state_dict().items()}
    with replacing(path) as beside:
        beside.write_bytes(save(halves, metadata))
