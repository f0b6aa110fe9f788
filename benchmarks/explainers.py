"""Explainers by name, on photos and on samples alike, with what each of them costs.

A new one is a line in `EXPLAINERS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn, Tensor

from benchmarks.mda_quality import Reference
from benchmarks.scoring import black, PHOTOS, SAMPLES
from benchmarks.white_box import balanced, build
from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    demo,
    MDAExplanation,
    MetricDrivenAttribution,
    patch_feature_mask,
)
from captum_mda.evaluate import counted, METHODS
from captum_mda.ordering import (
    FastOrdering,
    JointOrdering,
    Ordering,
    ORDERINGS,
    RefinedOrdering,
    SearchResult,
    SearchTask,
)

KERNEL = 31
"""The side of the blur of samples, in pixels."""
SAMPLE_SEED = 77
"""Of the generator of samples."""
END_POINTS = 3
"""Forwards that each call of `MetricDrivenAttribution.explain` begins with."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of a set, all explained and scored in one batch.

    Args:
        kind (str): The set, "photos" or "samples".
        names (list[str]): A number in digits for each image.
        model (nn.Module): Returns logits.
        images (Tensor): (B, 3, H, W).
        targets (Tensor): int64 (B,), the explained classes.
        mask (Tensor): The patches, as Captum's feature mask.
        blurred (Tensor): What the search inserts into; it deletes to 0.
        kernel (int): The side of that blur in pixels.
        seed (Tensor): (B, N), what the search chooses its candidates by.
        black (Tensor): (1, 3, 1, 1).
        objects (Tensor or None): The exact masks of the objects, if there are any.
    """

    kind: str
    names: list[str]
    model: nn.Module
    images: Tensor
    targets: Tensor
    mask: Tensor
    blurred: Tensor
    kernel: int
    seed: Tensor
    black: Tensor
    objects: Tensor | None = None

    def of(self, names: Sequence[str]) -> ImageSet:
        """Choose some of them."""
        rows = [self.names.index(name) for name in names]
        return replace(
            self,
            names=list(names),
            images=self.images[rows],
            targets=self.targets[rows],
            blurred=self.blurred[rows],
            seed=self.seed[rows],
            objects=None if self.objects is None else self.objects[rows],
        )


def photo(reference: Reference, name: str) -> ImageSet:
    """Return a photo as mda_quality.py asks about it, on the exact patch grid."""
    asked = reference.question(name, "exact")
    # Its type information leaves out what it exports.
    timm_data: Any = timm.data
    config = timm_data.resolve_data_config({}, model=reference.model)
    return ImageSet(
        kind=PHOTOS,
        names=[name],
        model=reference.model,
        images=asked["inputs"],
        targets=torch.tensor([asked["target"]]),
        mask=asked["feature_mask"],
        blurred=asked["insertion_baselines"],
        kernel=reference.runs[name]["kernel"],
        seed=asked["seed_attributions"],
        black=black(config["mean"], config["std"]),
    )


def samples(n: int) -> ImageSet:
    """Return those of n samples that can be scored: above both of their baselines."""
    images, labels, objects = demo.make_samples(n=n, seed=SAMPLE_SEED)
    model, blurred = demo.load_model(), blur_baseline(images, KERNEL)
    with torch.no_grad():
        full, *absent = (
            model(each).softmax(1)[torch.arange(n), labels]
            for each in (images, blurred, torch.zeros_like(images))
        )
    kept = (full > torch.stack(absent).amax(0)).nonzero().flatten().tolist()
    seed = BidirectionalAttention(model).attribute(
        images, target=labels, interpolate_mode=None
    )
    everything = ImageSet(
        kind=SAMPLES,
        names=[str(number) for number in range(n)],
        model=model,
        images=images,
        targets=labels,
        mask=patch_feature_mask(images, demo.PATCH_SIZE),
        blurred=blurred,
        kernel=KERNEL,
        seed=seed.flatten(1),
        black=black(demo.MEAN, demo.STD),
        objects=objects,
    )
    return everything.of([str(number) for number in kept])


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps (B, 1 or 3, H, W), and the forwards that each of them has cost."""

    attributions: Tensor
    forwards: list[float]


@dataclass(frozen=True)
class Inside:
    """A method of the package's table, which looks inside the model."""

    name: str

    def __call__(self, image_set: ImageSet, folder: Path) -> Explained:
        """Explain each image alone: what is drawn at random is the same for each."""
        model, method = image_set.model, METHODS[self.name]
        attribution = build(method, model)  # which tries the model out, once for all
        maps, spent = [], []
        for image, target in zip(
            image_set.images.split(1), image_set.targets.split(1), strict=True
        ):
            with torch.random.fork_rng([]), counted(model, image) as cost:
                torch.manual_seed(0)
                with balanced(method, model):
                    maps.append(attribution.attribute(image, target).detach())
                spent.append(cost.forwards)
        return Explained(torch.cat(maps), spent)


@dataclass(frozen=True)
class Mda:
    """MDA by an ordering: a name of `ORDERINGS`, or an object with settings.

    What a search finds is kept in the folder, and shared by all entries with the same
    ordering, whatever magnitudes they make of it; each is told the whole cost.
    """

    ordering: str | Ordering
    magnitude: Any = "reference"
    mean_steps: Any = "patch"

    @property
    def is_known(self) -> bool:
        """Whether this release has the ordering."""
        return not isinstance(self.ordering, str) or self.ordering in ORDERINGS

    def __call__(self, image_set: ImageSet, folder: Path) -> Explained:
        """Explain, or load what an earlier run found."""
        found = self._searched(image_set, folder)
        forwards = found.forwards + self._seed_cost(image_set)
        if (self.magnitude, self.mean_steps) != ("reference", "patch"):
            search = found
            found = self._explain(image_set, _Again(search))
            forwards = forwards + found.forwards - END_POINTS
        values = found.attributions()
        assert isinstance(values, Tensor)
        return Explained(values, forwards.tolist())

    def _searched(self, image_set: ImageSet, folder: Path) -> MDAExplanation:
        """Search, with the default magnitudes, which all others can start from."""
        ends = "-".join(dict.fromkeys((image_set.names[0], image_set.names[-1])))
        path = folder / f"{image_set.kind}-{ends}-{self.key}.safetensors"
        if path.exists():
            found = MDAExplanation.load(path)
            if len(found.order) == len(image_set.names):
                return found
        plain = Mda(self.ordering)
        ordering = self.ordering
        found = plain._explain(
            image_set, ORDERINGS[ordering]() if isinstance(ordering, str) else ordering
        )
        found.save(path)
        return found

    @property
    def key(self) -> str:
        """Name the search: an object by its class and a digest of its settings."""
        if isinstance(self.ordering, str):
            return self.ordering
        settings = repr(sorted(vars(self.ordering).items()))
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return f"{type(self.ordering).__name__}-{digest}"

    def _explain(self, image_set: ImageSet, ordering: Ordering) -> MDAExplanation:
        mda = MetricDrivenAttribution(
            image_set.model,
            ordering=ordering,
            magnitude=self.magnitude,
            mean_steps=self.mean_steps,
        )
        return mda.explain(
            image_set.images,
            target=image_set.targets,
            feature_mask=image_set.mask,
            insertion_baselines=image_set.blurred,
            seed_attributions=image_set.seed,
        )

    def _seed_cost(self, image_set: ImageSet) -> float:
        """Count what Bi-Attn, the seed, costs for one image."""
        one = image_set.of(image_set.names[:1])
        return EXPLAINERS["bi-attn"](one, Path()).forwards[0]


@dataclass(frozen=True)
class _Again:
    """An ordering that answers what an earlier search has found."""

    found: MDAExplanation

    def __call__(self, task: SearchTask) -> SearchResult:
        """Answer."""
        found, rows = self.found, task.examples
        return SearchResult(
            found.order[rows],
            found.n_inserted[rows],
            found.insertion_responses[rows],
            found.deletion_responses[rows],
        )


EXPLAINERS: Mapping[str, Callable[[ImageSet, Path], Explained]] = {
    "mda": Mda("paper"),
    "mda, mas": Mda("paper", magnitude="mas"),
    "mda, mas by pixels": Mda("paper", magnitude="mas", mean_steps="pixel"),
    "mda fast": Mda("fast"),
    "mda fast refined": Mda(RefinedOrdering(FastOrdering(), 4)),
    "mda joint": Mda("joint"),
    "mda joint refined": Mda(RefinedOrdering(JointOrdering(), 4)),
    "mda joint, mas": Mda("joint", magnitude="mas"),
    "mda joint, mas by pixels": Mda("joint", magnitude="mas", mean_steps="pixel"),
    "mda relaxed": Mda("relaxed"),
    "mda relaxed, mas": Mda("relaxed", magnitude="mas"),
    "bi-attn": Inside("bi-attn"),
    "legrad": Inside("legrad"),
    "libra fullgrad+": Inside("libra-fullgrad"),
    "libra input x gradient": Inside("libra-ixg"),
    "caap": Inside("caap"),
    "tis": Inside("tis"),
    "vit-cx": Inside("vit-cx"),
}
"""From images, and a folder for what is worth keeping, to maps.

``"mda two rounds": Mda(JointOrdering(rounds=2))`` would be another.
"""
