"""Runners of the metrics in the table, for several maps of the same inputs.

A runner computes metrics that share forwards. It gets the names of the wanted metrics
and skips the forwards that only others need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast, TypeAlias

import torch
from torch import Tensor

from captum_mda._captum import BaselineType, TargetType
from captum_mda.metrics._arguments import Convention, Direction, Maps, MetricArguments
from captum_mda.metrics._degenerate import OK, OnDegenerate
from captum_mda.metrics._sweep import sweep
from captum_mda.metrics.faithfulness import completeness_error
from captum_mda.metrics.localization import pointing_game, segmentation_scores
from captum_mda.metrics.localization._masked_maps import maps_and_masks, require_values
from captum_mda.metrics.perturbation_accuracy import First, masked_hits
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.metrics.sparseness import sparseness
from captum_mda.metrics.tokens.deletion import token_deletion
from captum_mda.perturbation import format_baselines, Score, Target
from captum_mda.perturbation.maps import AnyMaps, as_tensors, over_inputs
from captum_mda.vit import find_adapter, ViTAdapter


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one map under one metric.

    Args:
        values (Tensor): float64 (B,), NaN where an example cannot be scored.
        status (tuple[str, ...]): Of each example "ok", or why its score is NaN or says
            nothing.
    """

    values: Tensor
    status: tuple[str, ...]


Found: TypeAlias = dict[str, dict[str, Scored]]
"""Scores by the name of the metric, and then by that of the map."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(MetricArguments):
    """Maps, and all arguments that metrics share, see `captum_mda.metrics.evaluate`."""

    maps: Mapping[str, AnyMaps]
    n_steps: int = 224
    on_degenerate: OnDegenerate = "nan"
    insertion_baselines: BaselineType = None
    deletion_baselines: BaselineType = None
    masks: Tensor | None = None

    @cached_property
    def given(self) -> dict[str, tuple[Tensor, ...]]:
        """The maps as they were given, without what held them."""
        return {
            name: as_tensors(f"maps[{name!r}]", each)
            for name, each in self.maps.items()
        }

    @cached_property
    def laid(self) -> dict[str, tuple[Tensor, ...]]:
        """The maps over all positions of the inputs, of any number of channels."""
        return {
            name: tuple(
                _expanded(value, shape)
                for value, shape in zip(
                    over_inputs(f"maps[{name!r}]", each, self.features),
                    self.features.shapes,
                    strict=True,
                )
            )
            for name, each in self.given.items()
        }

    def check(self) -> None:
        """Check all arguments that can be checked before the first forward."""
        self.require_options()
        for name in ("insertion_baselines", "deletion_baselines"):
            format_baselines(self.tensors, getattr(self, name), name)
        _ = self.response, self.laid  # checked when they are made
        if self.masks is not None:
            require_values("masks", self.masks)
            images = self.tensors[0]
            if len(self.tensors) > 1 or images.dim() != 4:
                raise ValueError(
                    "masks: they mark objects in images; leave them out for inputs "
                    f"that are not one tensor (B, C, H, W), here {self._shapes}"
                )
            maps_and_masks(images[:, :1].isfinite().double(), self.masks)

    @property
    def _shapes(self) -> str:
        return ", ".join(str(tuple(shape)) for shape in self.features.shapes)


def _expanded(value: Tensor, shape: torch.Size) -> Tensor:
    """Give a map the input's examples and positions; its channels are its own."""
    channels = value.shape[1:2] if len(shape) > 3 else shape[1:2]
    return value.expand(shape[0], *channels, *shape[2:])


def _one_or_all(maps: tuple[Tensor, ...]) -> Maps:
    return maps if len(maps) > 1 else maps[0]


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let errors about attributions name the map."""
    try:
        yield
    except (TypeError, ValueError) as error:
        _, is_ours, reason = str(error).partition("attributions: ")
        if not is_ours or _:
            raise
        raise type(error)(f"maps[{name!r}]: {reason}") from error


# --- response curves --------------------------------------------------------

INSERTION, DELETION = "insertion", "deletion"
# As the papers define them, AOPC and relevance gain rank by the signed attribution.
MOST_FIRST, LEAST_FIRST = "signed, most first", "signed, least first"

_READINGS: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    "insertion": ((INSERTION,), lambda inserted: inserted.area),
    "deletion": ((DELETION,), lambda deleted: deleted.area),
    "insertion_deletion": (
        (INSERTION, DELETION),
        lambda inserted, deleted: inserted.area - deleted.area,
    ),
    "mas_insertion": ((INSERTION,), lambda inserted: inserted.mas_area),
    "mas_deletion": ((DELETION,), lambda deleted: deleted.mas_area),
    "mas_insertion_deletion": (
        (INSERTION, DELETION),
        lambda inserted, deleted: inserted.mas_area - deleted.mas_area,
    ),
    "monotonicity": ((INSERTION,), lambda inserted: inserted.monotonicity),
    "aopc": ((MOST_FIRST,), lambda most: most.aopc),
    "symmetric_relevance_gain": (
        (LEAST_FIRST, MOST_FIRST),
        lambda least, most: least.raw_area - most.raw_area,
    ),
}
"""Metric -> the names of the curves it is computed from, and how."""


def run_curves(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Compute metrics of response curves; all maps share forwards by convention."""
    jobs: dict[Convention, list[str]] = {}
    for curve in dict.fromkeys(curve for name in names for curve in _READINGS[name][0]):
        signed = curve in (MOST_FIRST, LEAST_FIRST)
        jobs.setdefault("rise" if signed else evaluation.convention, []).append(curve)
    curves: dict[str, dict[str, ResponseCurve]] = {name: {} for name in evaluation.laid}
    for convention, wanted in jobs.items():
        directions = [_direction(evaluation, curve) for curve in wanted]
        arguments = replace(evaluation, convention=convention)
        found = sweep(arguments, evaluation.laid, directions)
        for of_map, swept in zip(curves.values(), found, strict=True):
            of_map.update(zip(wanted, swept, strict=True))
    results: Found = {}
    for name in names:
        needed, read = _READINGS[name]
        results[name] = {}
        for method, of_map in curves.items():
            used = [of_map[curve] for curve in needed]
            results[name][method] = _read_off(read(*used), used)
    return results


def _direction(evaluation: Evaluation, curve: str) -> Direction:
    inserts = curve == INSERTION
    argument = "insertion_baselines" if inserts else "deletion_baselines"
    return Direction(
        mode="insertion" if inserts else "deletion",
        baselines=getattr(evaluation, argument),
        argument=argument,
        least_first=curve == LEAST_FIRST,
    )


def _read_off(values: Tensor, curves: Sequence[ResponseCurve]) -> Scored:
    """Add to each NaN the reason for it."""
    status = []
    for example, missing in enumerate(values.isnan().tolist()):
        reasons = [curve.status[example] for curve in curves]
        reason = next((each for each in reasons if each != OK), "constant curve")
        status.append(reason if missing else OK)
    return Scored(values, tuple(status))


# --- whether the target stays the first class --------------------------------


def run_hits(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Mask features, and see whether the target stays the first class."""
    results: Found = {}
    firsts: dict[str, First] = {
        "positive_perturbation": "most",
        "negative_perturbation": "least",
    }
    for name in names:
        results[name] = {}
        for method, maps in evaluation.laid.items():
            found = masked_hits(
                evaluation.forward_func,
                evaluation.inputs,
                maps,
                evaluation.deletion_baselines,
                evaluation.feature_mask,
                evaluation.additional_forward_args,
                _classes(evaluation.target),
                evaluation.max_examples_per_batch,
                evaluation.show_progress,
                first=firsts[name],
                on_degenerate="nan",
            )
            results[name][method] = Scored(found.area, found.status)
    return results


def run_tokens(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Drop tokens, and see whether the target stays the first class."""
    model = evaluation.forward_func
    adapter = find_adapter(model)  # type: ignore[arg-type]  # which checks it
    wanted = set(names)
    if "token_relevance_gain" in wanted:
        wanted |= {"mif_deletion", "lif_deletion"}
    firsts: dict[str, First] = {"mif_deletion": "most", "lif_deletion": "least"}
    results: Found = {}
    for name, first in firsts.items():
        if name in wanted:
            results[name] = {
                method: _dropped(evaluation, adapter, method, first)
                for method in evaluation.laid
            }
    if "token_relevance_gain" in names:
        results["token_relevance_gain"] = {
            method: Scored(least.values - most.values, most.status)
            for (method, least), most in zip(
                results["lif_deletion"].items(),
                results["mif_deletion"].values(),
                strict=True,
            )
        }
    return {name: results[name] for name in names}


def _dropped(
    evaluation: Evaluation, adapter: ViTAdapter, method: str, first: First
) -> Scored:
    images = evaluation.inputs
    if not isinstance(images, Tensor):
        (images,) = images
    grid = adapter.patch_grid(images)
    (given, *_), (laid, *_) = evaluation.given[method], evaluation.laid[method]
    is_grid = given.dim() > 2 and tuple(given.shape[-2:]) == tuple(grid)
    of_patches = is_grid or tuple(given.shape[1:]) == (grid[0] * grid[1],)
    with _named(method):
        found = token_deletion(
            adapter,
            images,
            given if of_patches and len(given) == len(images) else laid,
            evaluation.deletion_baselines,
            evaluation.additional_forward_args,
            _classes(evaluation.target),
            evaluation.max_examples_per_batch,
            evaluation.show_progress,
            first=first,
            on_degenerate="nan",
        )
    return Scored(found.accuracy, found.status)


def _classes(target: Target) -> TargetType:
    """Pass a target on to what takes classes alone, and refuses others itself."""
    return cast(TargetType, target)


# --- maps alone, and with masks ---------------------------------------------


def run_completeness(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Compare the sums of maps with the output that they share out."""
    score: Score = evaluation.score if callable(evaluation.score) else "identity"
    scored = {}
    for method, maps in evaluation.given.items():
        with _named(method):
            values = completeness_error(
                evaluation.forward_func,
                evaluation.inputs,
                _one_or_all(maps),
                evaluation.deletion_baselines,
                evaluation.additional_forward_args,
                evaluation.target,
                evaluation.max_examples_per_batch,
                score=score,
            )
        scored[method] = Scored(values, (OK,) * len(values))
    return dict.fromkeys(names, scored)


def run_sparseness(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Measure how few features carry the maps."""
    scored = {}
    for method, maps in evaluation.laid.items():
        with _named(method):
            found = sparseness(maps, evaluation.feature_mask, on_degenerate="nan")
        scored[method] = _unless_missing(found, "all-zero map")
    return dict.fromkeys(names, scored)


def run_segmentation(evaluation: Evaluation, names: Collection[str]) -> Found:
    """Compare maps with the masks of objects."""
    results: Found = {name: {} for name in names}
    for method, (maps, *_) in evaluation.laid.items():
        found = segmentation_scores(maps, _masks(evaluation), on_degenerate="nan")
        for name in names:
            results[name][method] = Scored(getattr(found, name), found.status)
    return results


def run_pointing(evaluation: Evaluation, names: Collection[str]) -> Found:
    """See whether the largest values of maps lie on objects."""
    scored = {}
    for method, (maps, *_) in evaluation.laid.items():
        found = pointing_game(maps, _masks(evaluation), on_degenerate="nan")
        scored[method] = _unless_missing(found, "constant map or empty mask")
    return dict.fromkeys(names, scored)


def _masks(evaluation: Evaluation) -> Tensor:
    assert evaluation.masks is not None  # checked by `evaluate`
    return evaluation.masks


def _unless_missing(values: Tensor, reason: str) -> Scored:
    return Scored(
        values, tuple(reason if each else OK for each in values.isnan().tolist())
    )


Runner: TypeAlias = Callable[[Evaluation, Collection[str]], Found]

RUNNERS: tuple[Runner, ...] = (
    run_sparseness,
    run_segmentation,
    run_pointing,
    run_completeness,
    run_tokens,
    run_hits,
    run_curves,
)
"""All of the package, cheap ones first, so that their errors come early."""
