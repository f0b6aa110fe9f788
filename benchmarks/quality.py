"""What an optimised metric still means: MDA's searches by metrics that they never see.

Explains the eight photos of the reference data with DeiT-Tiny and samples of the
packaged model by every entry of explainers.py. The same maps are then scored by

- what the search optimises: insertion, deletion and MAS from and to the baselines of
  the search, by single positions, in 224 steps on both sets;
- what nothing here optimises: monotonicity (of that insertion curve, raw); insertion
  less deletion with three other baselines and for another class; positive and negative
  perturbation, MIF and LIF; on samples segmentation and pointing by exact masks. Sweeps
  move the model's patches, in 28 steps on photos and 32 on samples.

Other baselines stand for what is not yet inserted and for what is deleted alike: a
Gaussian blur in place of the box, with a sigma of half the box's side; the mean colour
of the image; noise of each channel's mean and standard deviation, drawn from the
image's number. The other class is the likeliest one but the explained: its raw
probability, area under insertion less area under deletion, in the probability's unit as
no normalisation is defined for a class that the image hardly shows. A map that
explains one class should not serve another: lower is better.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.quality

writes quality.json beside itself and draws docs/images/quality.png. What is in the JSON
already is not computed again, and what MDA finds is kept in ``--explanations``, so that
an interrupted run goes on; ``--again`` names what is to be explained and scored anew. A
map of a photo costs some 710 forwards to score, less where maps share their order.
Without ``CAPTUM_MDA_DATA`` there are samples only; ``--write`` computes nothing and
draws the figure of the JSON.
"""

from __future__ import annotations

import argparse
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.explainers import (
    EXPLAINERS,
    ImageSet,
    KERNEL,
    Mda,
    photo,
    SAMPLE_SEED,
    samples,
)
from benchmarks.mda_quality import Reference
from benchmarks.quality_figure import draw
from benchmarks.quality_tables import points_of, Row, SEARCHED, tables_of
from benchmarks.results import DOCS, path_of, read_rows, write
from benchmarks.scoring import masked_scores, MODEL, object_scores, STEPS
from captum_mda import blur_baseline, metrics

MEASURED = {
    "model": MODEL,
    "seed": SAMPLE_SEED,
    "blur": KERNEL,
    "patch_steps": STEPS,
}


def score(
    image_set: ImageSet, maps: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Score maps, of which some may rank alike: of each by metric, (B,)."""
    shared: dict[str, Any] = {"target": image_set.targets, "on_degenerate": "nan"}
    by_patch = {"feature_mask": image_set.mask, "n_steps": STEPS[image_set.kind]}
    asked = (image_set.model, image_set.images, maps)
    own = metrics.perturbation_scores_of_maps(*asked, image_set.blurred, **shared)
    elsewhere = {
        name: metrics.perturbation_scores_of_maps(
            *asked, baseline, baseline, **shared, **by_patch
        )
        for name, baseline in other_baselines(image_set).items()
    }
    target = {"target": runners_up(image_set)}
    other_class = metrics.perturbation_scores_of_maps(
        *asked, image_set.blurred, **shared | target, **by_patch
    )
    found = {}
    for name, values in maps.items():
        other = other_class[name]
        row = {
            metric: getattr(own[name], metric) for metric in (*SEARCHED, "monotonicity")
        }
        row |= {each: of[name].insertion_deletion for each, of in elsewhere.items()}
        row["other_class"] = (
            other.insertion_curve.raw_area - other.deletion_curve.raw_area
        )
        row |= masked_scores(
            image_set.model,
            image_set.images,
            values,
            image_set.black,
            image_set.mask,
            image_set.targets,
        )
        if image_set.objects is not None:
            row |= object_scores(values, image_set.objects)
        found[name] = row
    return found


def other_baselines(image_set: ImageSet) -> dict[str, Tensor]:
    """Make the baselines that no search has seen, each (B, 3, H, W)."""
    images, side = image_set.images, image_set.kernel
    mean = images.mean((2, 3), keepdim=True)
    noise = [
        torch.randn(image.shape, generator=torch.Generator().manual_seed(int(name)))
        for name, image in zip(image_set.names, images, strict=True)
    ]
    return {
        "gaussian": blur_baseline(images, 2 * side + 1, sigma=side / 2),
        "mean_colour": mean.expand_as(images),
        "noise": mean + images.std((2, 3), keepdim=True) * torch.stack(noise),
    }


def runners_up(image_set: ImageSet) -> Tensor:
    """Find the likeliest class of each image but the explained one: (B,)."""
    with torch.no_grad():
        logits = image_set.model(image_set.images)
    others = logits.scatter(1, image_set.targets[:, None], -math.inf)
    return others.argmax(dim=1)


def compute(options: argparse.Namespace, rows: list[Row]) -> None:
    """Add the rows that are missing, and keep them as they come."""
    options.explanations.mkdir(parents=True, exist_ok=True)
    names = known(options.names)
    for image_set in sets_of(options):
        for group in groups_of(names):
            done = {
                (row["name"], row["example"])
                for row in rows
                if row["data"] == image_set.kind
            }
            missing = [
                example
                for example in image_set.names
                if any((name, example) not in done for name in group)
            ]
            if not missing:
                continue
            asked = image_set.of(missing)
            found = {
                name: EXPLAINERS[name](asked, options.explanations) for name in group
            }
            scores = score(asked, {name: e.attributions for name, e in found.items()})
            for name, each in found.items():
                rows += [
                    row
                    for row in rows_of(asked, name, each.forwards, scores[name])
                    if (name, row["example"]) not in done
                ]
            rows.sort(key=place)
            write(options.out, rows, MEASURED, adds=True)


def place(row: Row) -> tuple[Any, ...]:
    """Sort rows by set, explainer and image, in the order of the tables."""
    names = list(EXPLAINERS)
    known = names.index(row["name"]) if row["name"] in names else len(names)
    return row["data"], known, row["name"], int(row["example"])


def sets_of(options: argparse.Namespace) -> Iterator[ImageSet]:
    """Go through what the command line asks for."""
    if options.samples:
        yield samples(options.samples)
    data = os.environ.get("CAPTUM_MDA_DATA")
    if not data or options.photos == []:
        return
    reference = Reference(Path(data))
    for name in tqdm(options.photos or list(reference.runs), desc="photos"):
        yield photo(reference, name)


def known(names: Sequence[str]) -> list[str]:
    """Leave out what this release has no ordering for, and say so."""
    found = []
    for name in names:
        explainer = EXPLAINERS[name]
        if isinstance(explainer, Mda) and not explainer.is_known:
            print(f"{name}: skipped, there is no ordering {explainer.ordering!r}")
        else:
            found.append(name)
    return found


def groups_of(names: Sequence[str]) -> list[list[str]]:
    """Put those together that make maps of the same order: they share their sweeps."""
    groups: dict[str, list[str]] = {}
    for name in names:
        explainer = EXPLAINERS[name]
        key = explainer.key if isinstance(explainer, Mda) else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def forget(names: Sequence[str], rows: list[Row], folder: Path) -> None:
    """Drop the rows of explainers, and what their searches found, with all its maps."""
    for group in groups_of(list(EXPLAINERS)):
        if not set(group) & set(names):
            continue
        rows[:] = [row for row in rows if row["name"] not in group]
        explainer = EXPLAINERS[group[0]]
        if isinstance(explainer, Mda):
            for path in folder.glob(f"*-{explainer.key}.safetensors"):
                path.unlink()


def rows_of(
    image_set: ImageSet, name: str, forwards: list[float], scores: Mapping[str, Tensor]
) -> list[Row]:
    """Write a row for each image; what cannot be scored is null."""
    rows = []
    for number, example in enumerate(image_set.names):
        row = {"data": image_set.kind, "name": name, "example": example}
        row["forwards"] = round(forwards[number], 1)
        for metric, values in scores.items():
            value = float(values[number])
            row[metric] = None if math.isnan(value) else round(value, 5)
        rows.append(row)
    return rows


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    parser.add_argument("--samples", type=int, default=60, help="0: none")
    parser.add_argument(
        "--photos",
        nargs="*",
        help="class numbers; default: all; without one: no photos",
    )
    parser.add_argument("--names", nargs="*", default=list(EXPLAINERS))
    parser.add_argument("--again", nargs="*", default=[], help="names to do anew")
    parser.add_argument("--write", action="store_true", help="compute nothing")
    parser.add_argument("--explanations", type=Path, default=Path("quality_explained"))
    parser.add_argument("--figure", type=Path, default=DOCS / "images" / "quality.png")
    options = parser.parse_args()
    rows = read_rows(options.out, MEASURED, list)
    forget(options.again, rows, options.explanations)
    # What cannot be scored is null in the rows.
    warnings.filterwarnings("ignore", category=UserWarning)
    if not options.write:
        compute(options, rows)
    for name, made in tables_of(rows).items():
        print(f"\n{name}\n\n{made}")
    draw(points_of(rows), options.figure)


if __name__ == "__main__":
    main()
