"""Methods of the table, built for a model, and the maps that they compute.

A method is built once for a model and then maps any number of images: each gets the
image, the class and the baselines of a `Case`. Its options are the defaults of its
class, which are the papers', unless the table has others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda import LibraGrad
from captum_mda.attr import MetricDrivenAttribution
from captum_mda.evaluate._notes import silent
from captum_mda.evaluate.case import Case
from captum_mda.evaluate.methods import get_method, Interface, MDA, Method
from captum_mda.evaluate.models import Classifier
from captum_mda.evaluate.prior import make_priors
from captum_mda.perturbation.chunks import default_rows

ComputeMap: TypeAlias = Callable[[Case], "Tensor | ComputedMap"]
"""Computes the map of a case, (1, 1 or C, h, w), perhaps with what it was made with."""


class ComputedMap(NamedTuple):
    """A map, and what a search says of how it was made.

    Args:
        values (Tensor): (1, 1 or C, H, W).
        provenance (mapping): Of MDA, that of its `MDAExplanation`; of others, empty.
    """

    values: Tensor
    provenance: Mapping[str, Any] = {}


def build_method(
    method: str | Method, classifier: Classifier, ordering: str | None = None
) -> ComputeMap:
    """Build a method for a model.

    Args:
        method (str or Method): One of the table, or its name.
        classifier (Classifier): The model.
        ordering (str, optional): The search of MDA. None: the published one.
            Default: None

    Returns:
        *callable*: from a `Case` to a map, (1, 1 or C, h, w), which `compute_map` runs.

    Raises:
        ImportError, RuntimeError, TypeError, ValueError: The method does not take this
            model.
    """
    method = get_method(method) if isinstance(method, str) else method
    make, options = _constructor(method), dict(method.options)
    if method.name == MDA and ordering is not None:
        options["ordering"] = ordering
    if method.interface == "case":
        built: ComputeMap = make(classifier, **options)
        return built
    model = classifier.model
    attribution = make(model, **options)  # runs the model, to check what it has seen
    attribute = _ATTRIBUTE[method.interface]

    def compute(case: Case) -> Tensor:
        with LibraGrad(model) if method.libra else nullcontext():
            return attribute(attribution, case, **method.attribute_options)

    return compute


def _constructor(method: Method) -> Callable[..., Any]:
    if not isinstance(method.constructor, str):
        return method.constructor
    module, _, name = method.constructor.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def compute_map(compute: ComputeMap, case: Case) -> ComputedMap:
    """Compute the map of a method; what is drawn at random is the same each time.

    Args:
        compute (callable): What `build_method` returns.
        case (Case): What is explained.

    Returns:
        *ComputedMap*: the map, (1, 1 or C, H, W), detached, and its provenance; a map
        of another size is resized to the image's.

    Raises:
        ImportError, RuntimeError, TypeError, ValueError: The method cannot explain this
            image.
    """
    device = case.images.device
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.manual_seed(0)
        found = compute(case)
    made = found if isinstance(found, ComputedMap) else ComputedMap(found)
    values = made.values.detach()
    if on_cuda:
        torch.cuda.synchronize(device)  # whoever measures time measures the work
    size = case.images.shape[-2:]
    if values.shape[-2:] != size:
        values = F.interpolate(values, size, mode="bilinear", align_corners=False)
    return ComputedMap(values, made.provenance)


def _vit(attribution: Any, case: Case) -> Tensor:
    values: Tensor = attribution.attribute(
        case.images, case.target, internal_batch_size=case.batch_size
    )
    return values


def _perturbed(attribution: Any, case: Case, **options: Any) -> Tensor:
    values: Tensor = attribution.attribute(
        case.images,
        baselines=case.deleted.expand_as(case.images),
        target=case.target,
        perturbations_per_eval=_rows(case),
        **options,
    )
    return values[:, :1]  # one value for all channels of a patch


def _features(attribution: Any, case: Case, **options: Any) -> Tensor:
    return _perturbed(attribution, case, feature_mask=case.mask, **options)


def _windows(attribution: Any, case: Case) -> Tensor:
    window = (case.images.shape[1], *case.classifier.patch_size)
    return _perturbed(attribution, case, sliding_window_shapes=window, strides=window)


def _gradients(attribution: Any, case: Case) -> Tensor:
    values: Tensor = attribution.attribute(
        case.images,
        baselines=case.deleted.expand_as(case.images),
        target=case.target,
        internal_batch_size=_rows(case),
    )
    return values.sum(dim=1, keepdim=True)


def _rows(case: Case) -> int:
    """Captum evaluates one perturbed image at a time unless told otherwise."""
    return case.batch_size or default_rows(case.images.device)


_ATTRIBUTE: Mapping[Interface, Callable[..., Tensor]] = {
    "vit": _vit,
    "features": _features,
    "windows": _windows,
    "gradients": _gradients,
}


class MdaMap:
    """MDA's sparse map, searched as ``captum-mda explain`` does.

    Args:
        classifier (Classifier): The model.
        ordering (str, optional): The search. Default: "paper", that of the published
            tables
    """

    def __init__(self, classifier: Classifier, ordering: str = "paper") -> None:
        """Build the prior's method once."""
        self.classifier, self.ordering = classifier, ordering
        (self.prior,) = make_priors("auto", None, 1, classifier, silent)

    def __call__(self, case: Case) -> ComputedMap:
        """Search the order, and return the map, (1, 1, H, W)."""
        mda = MetricDrivenAttribution(
            self.classifier.model, score=self.classifier.score, ordering=self.ordering
        )
        explanation = mda.explain(
            case.images,
            baselines=case.deleted,
            target=case.target,
            feature_mask=case.mask,
            insertion_baselines=case.blurred,
            seed_attributions=self.prior.compute(case),
            perturbations_per_eval=case.batch_size,
        )
        painted = explanation.attributions()
        assert isinstance(painted, Tensor)  # as the images are
        provenance = {**explanation.provenance, "seed": self.prior.name}
        return ComputedMap(painted[:, :1], provenance)
