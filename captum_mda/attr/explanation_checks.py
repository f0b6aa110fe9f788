"""What every explanation guarantees, whether a search or a file has made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_mda._checks import FLOATING_DTYPES, require_flag, require_type
from captum_mda.attr.provenance import require_provenance
from captum_mda.magnitude import MAGNITUDE_RULES, relative_sizes, SOLVER_TOLERANCE
from captum_mda.perturbation import Features
from captum_mda.perturbation.precision import PRECISIONS

if TYPE_CHECKING:
    from captum_mda.attr.explanation import MDAExplanation

CURVES = (
    "insertion_curve",
    "deletion_curve",
    "mean_curve",
    "density_curve",
    "insertion_responses",
    "deletion_responses",
)
_BY_EXAMPLE = {
    "n_inserted": torch.int64,
    "forwards": torch.int64,
    "degenerate": torch.bool,
    "forwards_bf16": torch.int64,
    "margin": torch.float64,
}
_ENDS = {
    "insertion_curve": (0.0, 1.0),
    "deletion_curve": (1.0, 0.0),
    "mean_curve": None,  # of other steps, whose ends were scored again
    "density_curve": (0.0, 1.0),
}
# Solvers are off by as much, and those written by others are taken at their word.
_TOLERANCE = 1.01 * SOLVER_TOLERANCE


def require_consistent(explanation: MDAExplanation) -> None:
    """Raise a ValueError, or a TypeError, that names the field that does not fit."""
    _require_words(explanation)
    features = explanation.features
    _require_masks(features)
    n_examples, n_features = features.batch_size, features.n_features
    require_provenance(explanation.provenance, n_examples)
    _require("order", explanation.order, torch.int64, (n_examples, n_features))
    _require_permutations(explanation.order)
    for name in CURVES:
        value = getattr(explanation, name)
        _require(name, value, torch.float64, (n_examples, n_features + 1))
    for name, dtype in _BY_EXAMPLE.items():
        _require(name, getattr(explanation, name), dtype, (n_examples,))
    _require_range("n_inserted", explanation.n_inserted, n_features)
    _require_range("forwards", explanation.forwards, None)
    _require_range("margin", explanation.margin, None)
    _require_range("forwards_bf16", explanation.forwards_bf16, None)
    if bool((explanation.forwards_bf16 > explanation.forwards).any()):
        raise ValueError("forwards_bf16 counts more forwards than there were")
    for name in _ENDS:
        _require_curve(name, getattr(explanation, name), explanation.degenerate)
    _require_falling_magnitudes(explanation)


def _require_words(explanation: MDAExplanation) -> None:
    if explanation.magnitude not in MAGNITUDE_RULES:
        raise ValueError(
            f"magnitude: unknown magnitude rule {explanation.magnitude!r}, takes one "
            f"of {', '.join(MAGNITUDE_RULES)}"
        )
    if explanation.dtype not in FLOATING_DTYPES[2:]:
        raise ValueError(
            f"dtype: unknown dtype {explanation.dtype!r}, takes float32 or float64"
        )
    if explanation.precision is not None and explanation.precision not in PRECISIONS:
        raise ValueError(
            f"precision: unknown precision {explanation.precision!r}, takes "
            f"{', '.join(PRECISIONS)} or None"
        )
    require_flag("is_tuple", explanation.is_tuple)
    require_type("features", explanation.features, Features, "Features")
    if not explanation.is_tuple and len(explanation.features.shapes) != 1:
        raise ValueError(
            f"is_tuple is False for {len(explanation.features.shapes)} inputs"
        )


def _require_masks(features: Features) -> None:
    """Check that masks fit shapes, and give every example all of the features."""
    if not features.shapes or len(features.masks) != len(features.shapes):
        raise ValueError(
            f"feature_mask: {len(features.masks)} masks for {len(features.shapes)} "
            "input_shapes"
        )
    n_examples = features.shapes[0][0] if features.shapes[0] else 0
    for index, (mask, shape) in enumerate(
        zip(features.masks, features.shapes, strict=True)
    ):
        name = f"feature_mask.{index}"
        if not shape or min(shape) < 1 or shape[0] != n_examples:
            raise ValueError(
                f"input_shapes: {tuple(shape)} is no shape of {n_examples} examples"
            )
        fits = mask.dim() == len(shape) and all(
            size in (1, wanted) for size, wanted in zip(mask.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{name} has shape {tuple(mask.shape)}, which does not broadcast to "
                f"the input's {tuple(shape)}"
            )
        if int(mask.min()) < 0 or int(mask.max()) >= features.n_features:
            raise ValueError(
                f"{name}: the feature masks do not fit n_features = "
                f"{features.n_features}: numbers from {int(mask.min())} to "
                f"{int(mask.max())}"
            )
    if bool((features.sizes == 0).any()):
        raise ValueError("feature_mask: an example has no element of some feature")


def _require(
    name: str, tensor: object, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, not a tensor")
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {shape}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} has NaN or infinite values")


def _require_permutations(order: Tensor) -> None:
    ranked = torch.arange(order.shape[1], device=order.device).expand_as(order)
    if not torch.equal(order.sort(dim=1).values, ranked):
        raise ValueError("order does not rank every feature once")


def _require_range(name: str, values: Tensor, most: int | None) -> None:
    low, high = values.min().item(), values.max().item()
    if low < 0 or (most is not None and high > most):
        upper = "on" if most is None else f"to {most}"
        raise ValueError(f"{name} holds {low} to {high}, takes numbers from 0 {upper}")


def _require_curve(name: str, curve: Tensor, degenerate: Tensor) -> None:
    """Check a curve's range, ends and direction; degenerate examples have zeros."""
    if bool(degenerate.any()) and bool(curve[degenerate].any()):
        raise ValueError(f"{name} is not 0 for an example that is degenerate")
    curve = curve[~degenerate]
    if not len(curve):
        return
    low, high = float(curve.min()), float(curve.max())
    if low < -_TOLERANCE or high > 1.0 + _TOLERANCE:
        raise ValueError(f"{name} runs from {low:g} to {high:g}, takes 0 to 1")
    steps = curve.diff(dim=1)
    falls = name == "deletion_curve"
    if float((steps if falls else -steps).max()) > _TOLERANCE:
        raise ValueError(f"{name} must {'fall' if falls else 'rise'}, or stay")
    ends = _ENDS[name]
    if ends is None:
        return
    for place, end in zip((0, -1), ends, strict=True):
        off = (curve[:, place] - end).abs()
        if float(off.max()) > _TOLERANCE:
            raise ValueError(
                f"{name} must run from {ends[0]:g} to {ends[1]:g}, not "
                f"{float(curve[off.argmax(), 0]):g} to "
                f"{float(curve[off.argmax(), -1]):g}"
            )


def _require_falling_magnitudes(explanation: MDAExplanation) -> None:
    """Check that the density gives no patch less than the next one of the order."""
    kept = ~explanation.degenerate
    increments = explanation.density_curve[kept].diff(dim=1)
    if explanation.magnitude == "mas":  # the density of a map, whatever the sizes are
        sizes = explanation.features.sizes.cpu().expand(explanation.order.shape)
        ranked = sizes.gather(1, explanation.order)[kept]
        increments = increments / relative_sizes(ranked)
    steps = increments.diff(dim=1)
    if steps.numel() and float(steps.max()) > _TOLERANCE:
        raise ValueError(
            "density_curve must be concave: no patch may weigh less than the next one"
        )
