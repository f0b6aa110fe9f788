"""The demo model: how it is built, saved and loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

import torch
from safetensors import safe_open, SafetensorError

from captum_mda.demo._shapes import CLASS_NAMES
from captum_mda.demo.generator import IMAGE_SIZE, PATCH_SIZE

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

ARCHITECTURE: dict[str, Any] = {
    "img_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "num_classes": len(CLASS_NAMES),
    "embed_dim": 128,
    "depth": 5,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "qkv_bias": True,
    "class_token": True,
}
"""Keyword arguments of the demo model's `timm` VisionTransformer."""

WEIGHTS_PATH = Path(__file__).with_name("weights.safetensors")
"""The packaged weights."""


def build_model(architecture: dict[str, Any]) -> VisionTransformer:
    """Build a VisionTransformer with random weights.

    The global random number generators are not changed.

    Args:
        architecture (dict): Keyword arguments of `timm`'s VisionTransformer.

    Returns:
        *VisionTransformer*: the model, in training mode.
    """
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        return VisionTransformer(**architecture)


def load_model() -> VisionTransformer:
    """Load the small Vision Transformer that comes with the package.

    It classifies the ten shapes of `make_samples`. Nothing is downloaded, and the
    global random number generators are not changed.

    Returns:
        *VisionTransformer*: a plain `timm` model in evaluation mode on the CPU, with
        float32 parameters; it maps normalised images of shape (n, 3, H, W) to logits
        of shape (n, 10).

    Raises:
        ValueError: If the packaged file is damaged.
        FileNotFoundError: If it is missing.

    Example:
        >>> model = load_model()
        >>> model.training, model.num_classes
        (False, 10)
    """
    return load_weights(WEIGHTS_PATH)


def load_weights(path: str | os.PathLike[str]) -> VisionTransformer:
    """Load a model from a file like the packaged one.

    Args:
        path (path): The safetensors file.

    Returns:
        *VisionTransformer*: the model, in evaluation mode, with float32 parameters.

    Raises:
        ValueError: If the file is damaged or has other contents.
        FileNotFoundError: If there is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture = json.loads(file.metadata()["architecture"])
            weights = {name: file.get_tensor(name).float() for name in file.keys()}
        model = build_model(architecture)
        model.load_state_dict(weights)
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"path: got {os.fspath(path)!r}, which is damaged or no demo model; "
            "install the package again to mend its own"
        ) from error
    return model.eval()
