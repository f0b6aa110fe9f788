"""Many images, methods and metrics: the tables that name them, and what runs them.

`METHODS` names the attribution methods; a `Classifier` is a model with what belongs to
it; a `Case` is one image with its target and baselines. The command line runs on these.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from captum_mda.evaluate.case import Case, make_case
    from captum_mda.evaluate.images import (
        demo_samples,
        find_images,
        image_files,
        ImageSource,
        read_image,
    )
    from captum_mda.evaluate.maps import build_method, compute_map, ComputedMap
    from captum_mda.evaluate.methods import (
        get_method,
        list_methods,
        Method,
        METHODS,
        register_method,
    )
    from captum_mda.evaluate.models import Classifier, load_classifier

# Imported when they are first read: the table of methods does without PyTorch.
_HOMES = {
    "Case": "case",
    "Classifier": "models",
    "ComputedMap": "maps",
    "ImageSource": "images",
    "METHODS": "methods",
    "Method": "methods",
    "build_method": "maps",
    "compute_map": "maps",
    "demo_samples": "images",
    "find_images": "images",
    "get_method": "methods",
    "image_files": "images",
    "list_methods": "methods",
    "load_classifier": "models",
    "make_case": "case",
    "read_image": "images",
    "register_method": "methods",
}

__all__ = [
    "METHODS",
    "Case",
    "Classifier",
    "ComputedMap",
    "ImageSource",
    "Method",
    "build_method",
    "compute_map",
    "demo_samples",
    "find_images",
    "get_method",
    "image_files",
    "list_methods",
    "load_classifier",
    "make_case",
    "read_image",
    "register_method",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first read (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"captum_mda.evaluate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List what the module has, imported or not."""
    return sorted({*globals(), *_HOMES})
