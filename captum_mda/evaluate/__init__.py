"""Many images, methods and metrics: the tables that name them, and what runs them.

`METHODS` names the attribution methods and `METRICS` the metrics; a `Classifier` is a
model with what belongs to it; a `Case` is one image with its target and baselines. The
command line runs on these.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from captum_mda.evaluate.case import Case, make_case
    from captum_mda.evaluate.cost import Cost, counted
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
    from captum_mda.evaluate.metrics import (
        get_metric,
        list_metrics,
        Metric,
        METRICS,
        register_metric,
    )
    from captum_mda.evaluate.models import Classifier, load_classifier

# Imported when they are first read: the table of methods does without PyTorch.
_HOMES = {
    "Case": "case",
    "Classifier": "models",
    "ComputedMap": "maps",
    "Cost": "cost",
    "ImageSource": "images",
    "METHODS": "methods",
    "METRICS": "metrics",
    "Method": "methods",
    "Metric": "metrics",
    "build_method": "maps",
    "compute_map": "maps",
    "counted": "cost",
    "demo_samples": "images",
    "find_images": "images",
    "get_method": "methods",
    "get_metric": "metrics",
    "image_files": "images",
    "list_methods": "methods",
    "list_metrics": "metrics",
    "load_classifier": "models",
    "make_case": "case",
    "read_image": "images",
    "register_method": "methods",
    "register_metric": "metrics",
}

__all__ = [
    "METHODS",
    "METRICS",
    "Case",
    "Classifier",
    "ComputedMap",
    "Cost",
    "ImageSource",
    "Method",
    "Metric",
    "build_method",
    "compute_map",
    "counted",
    "demo_samples",
    "find_images",
    "get_method",
    "get_metric",
    "image_files",
    "list_methods",
    "list_metrics",
    "load_classifier",
    "make_case",
    "read_image",
    "register_method",
    "register_metric",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first read (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"captum_mda.evaluate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List what the module has, imported or not."""
    return sorted({*globals(), *_HOMES})
