"""Many images, methods and metrics: the tables that name them, and what runs them.

`METHODS` names the attribution methods and `METRICS` the metrics; a `Classifier` is a
model with what belongs to it; a `Case` is one image with its target and baselines. The
command line runs on these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_mda._lazy import lazy_names

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

# Imported when they are first read: the table of methods does without PyTorch.
_HOMES = {
    "case": ["Case", "make_case"],
    "cost": ["Cost", "counted"],
    "images": [
        "ImageSource",
        "demo_samples",
        "find_images",
        "image_files",
        "read_image",
    ],
    "maps": ["ComputedMap", "build_method", "compute_map"],
    "methods": ["METHODS", "Method", "get_method", "list_methods", "register_method"],
    "metrics": ["METRICS", "Metric", "get_metric", "list_metrics", "register_metric"],
    "models": ["Classifier", "load_classifier"],
}
__getattr__, __dir__ = lazy_names(
    __name__, {f"{__name__}.{module}": names for module, names in _HOMES.items()}
)
