"""What the rules of the magnitudes score under one order, and what "mas" gains.

Finds orders with ``ordering="fast"``, on the eight photos of the reference data with
DeiT-Tiny and on samples of the packaged model, and gives each of them the magnitudes of
every rule, fitted to curves of patches and of single positions ("pixel"). "least
penalty" is the linear programme that minimises the alignment penalty alone.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.magnitudes

prints tables and writes magnitudes.json beside itself. What is in it already is not run
again. ``--samples 60`` is the default; without ``CAPTUM_MDA_DATA`` there are samples
only.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor
from tqdm import tqdm

from benchmarks.mda_quality import Reference
from benchmarks.results import path_of, read_rows, write
from benchmarks.scoring import markdown, MODEL, short
from captum_mda import (
    BidirectionalAttention,
    blur_baseline,
    demo,
    MDAExplanation,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.evaluate.tables import Column
from captum_mda.magnitude import (
    align_density,
    aligned_difference,
    density_of,
    fit_density,
    FITTED_RULES,
    mean_penalty,
    mean_response,
    resampled,
    sparse_magnitudes,
)

SEED, KERNEL = 77, 31  # of the samples, and the side of their blur in pixels
MEASURED = {"model": MODEL, "seed": SEED, "blur": KERNEL}
FIGURES = ("patch_penalty", "patch_mas", "pixel_penalty", "pixel_mas")


def maps_of(
    explanation: MDAExplanation, curves: tuple[Tensor, Tensor], steps: str
) -> dict[str, MDAExplanation]:
    """Give an order the magnitudes of every rule, from its curves (B, n + 1)."""
    mean = resampled(mean_response(*curves), explanation.order.shape[1])
    fitted = fit_density(mean, "nnls")
    points = None
    if steps == "pixel":
        n_positions = explanation.features.masks[0].numel()
        points = moved(n_positions, curves[0].shape[1] - 1).double() / n_positions
    aligned = align_density(fitted, sizes_of(explanation), *curves, points)
    found = {
        f"{rule}, {steps}": replace(explanation, density_curve=fitted, magnitude=rule)
        for rule in FITTED_RULES
    }
    if steps == "patch":
        found["least penalty, patch"] = replace(
            explanation, density_curve=least_penalty(*curves), magnitude="mas"
        )
    found[f"mas, {steps}"] = replace(
        explanation, density_curve=aligned, magnitude="mas"
    )
    return found


def sizes_of(explanation: MDAExplanation) -> Tensor:
    sizes = explanation.features.sizes.expand(explanation.order.shape)
    return sizes.gather(1, explanation.order)


def least_penalty(insertion_curve: Tensor, deletion_curve: Tensor) -> Tensor:
    """Minimise the alignment penalty over concave densities: (B, N + 1)."""
    rows = zip(insertion_curve.numpy(), 1.0 - deletion_curve.numpy(), strict=True)
    return torch.from_numpy(np.stack([_least_penalty(*row) for row in rows]))


def _least_penalty(
    inserted: NDArray[np.float64], deleted: NDArray[np.float64]
) -> NDArray[np.float64]:
    n = len(inserted) - 1
    same, none = np.eye(n + 1), np.zeros((n + 1, n + 1))
    bends = np.diff(same, n=2, axis=0)
    rows = [[same, -same, none], [-same, -same, none], [same, none, -same]]
    rows += [[-same, none, -same], [bends, 0 * bends, 0 * bends]]
    found = linprog(
        np.repeat([0.0, 1.0, 1.0], n + 1),
        A_ub=np.block(rows),
        b_ub=np.concatenate([inserted, -inserted, deleted, -deleted, np.zeros(n - 1)]),
        bounds=[(0, 0), *[(0, 1)] * (n - 1), (1, 1), *[(0, None)] * (2 * n + 2)],
        options={"presolve": False},
    )
    return np.asarray(found.x[: n + 1])


def measured(
    explanation: MDAExplanation, question: dict[str, Any]
) -> dict[str, dict[str, list[float]]]:
    """Score the maps of every rule, in steps of a patch and in those of the metric.

    All of them rank positions alike, so one sweep gives the responses to all.
    """
    by_patch = (explanation.insertion_curve, explanation.deletion_curve)
    scores = metrics.perturbation_scores(
        attributions=explanation.attributions(), **question
    )
    by_pixel = (scores.insertion_curve.response, scores.deletion_curve.response)
    maps = maps_of(explanation, by_patch, "patch")
    maps |= maps_of(explanation, by_pixel, "pixel")
    found = {}
    for name, each in maps.items():
        sizes = sizes_of(each)
        magnitudes = sparse_magnitudes(each.density_curve, sizes, each.magnitude)
        density = density_of(magnitudes, sizes)
        fine = density_by_pixel(each.attributions(), by_pixel[0].shape[1] - 1)
        values = (
            mean_penalty(*by_patch, density),
            aligned_difference(*by_patch, density),
            mean_penalty(*by_pixel, fine),
            aligned_difference(*by_pixel, fine),
        )
        found[name] = {
            figure: [round(value, 6) for value in row.tolist()]
            for figure, row in zip(FIGURES, values, strict=True)
        }
    check = found["reference, patch"]["pixel_mas"]
    assert np.allclose(check, scores.mas_insertion_deletion, atol=2e-6)
    return found


def density_by_pixel(attributions: Tensor, n_steps: int) -> Tensor:
    """Compute the metric's density response: (B, n + 1)."""
    mass = attributions.double().sum(1).flatten(1).sort(dim=1, descending=True).values
    return density_of(mass, torch.ones_like(mass))[:, moved(mass.shape[1], n_steps)]


def moved(n_positions: int, n_steps: int) -> Tensor:
    """Count the positions that have moved at each point: int64 (n + 1,)."""
    return torch.arange(n_steps + 1) * n_positions // n_steps


def of_samples(n: int) -> dict[str, dict[str, list[float]]]:
    """Measure samples of the packaged model."""
    images, labels, _ = demo.make_samples(n=n, seed=SEED)
    model, mask = demo.load_model(), patch_feature_mask(images, demo.PATCH_SIZE)
    blurred = blur_baseline(images, KERNEL)
    with torch.no_grad():
        at = torch.arange(n), labels
        gain = [
            model(images).softmax(1)[at] - model(each).softmax(1)[at]
            for each in (blurred, torch.zeros_like(images))
        ]
    kept = torch.stack(gain).amin(0) > 0  # the others cannot be scored
    images, labels, blurred = images[kept], labels[kept], blurred[kept]
    print(f"{len(images)} of {n} samples score above their baselines")
    seed = BidirectionalAttention(model).attribute(
        images, target=labels, interpolate_mode=None
    )
    explanation = MetricDrivenAttribution(model, ordering="fast").explain(
        images,
        target=labels,
        feature_mask=mask,
        insertion_baselines=blurred,
        seed_attributions=seed.flatten(1),
    )
    question = {"forward_func": model, "inputs": images, "target": labels}
    return measured(explanation, question | {"insertion_baselines": blurred})


def of_photo(reference: Reference, name: str) -> dict[str, dict[str, list[float]]]:
    """Measure a photo."""
    asked = reference.question(name, "exact")
    mda = MetricDrivenAttribution(reference.model, ordering="fast")
    question = {key: asked[key] for key in ("inputs", "target", "insertion_baselines")}
    return measured(mda.explain(**asked), question | {"forward_func": reference.model})


def groups_of(found: dict[str, Any]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Name what is a table: the photos together, and the samples."""
    groups = {}
    rows = list(found.get("photos", {}).values())
    if rows:
        groups[f"{len(rows)} photos"] = {
            name: {each: [photo[name][each][0] for photo in rows] for each in FIGURES}
            for name in rows[0]
        }
    n_samples = len(found["samples"]["mas, patch"]["patch_mas"])
    return groups | {f"{n_samples} samples": found["samples"]}


def table(title: str, of: dict[str, dict[str, list[float]]], by: str = "pixel") -> str:
    """Lay out the means, and what "mas" changes against each rule.

    Penalties are those of the steps that a rule was fitted to, MAS that of the steps
    ``by``: "pixel", the metric's own, or "patch", which need no forward and show the
    rules that were fitted to them.
    """
    columns = (
        Column(name="rule", heading=title),
        Column(name="penalty", format=".4f"),
        Column(name="change", format="+.4f"),
        Column(name="most", format="+.6f"),
        Column(name="MAS", format=".4f"),
        Column(name="gain", format="+.4f"),
        Column(name="least", format="+.4f"),
        Column(name="in"),
    )
    names = [name for name in of if by == "pixel" or name.endswith(by)]
    return markdown(columns, (row(name, of, by) for name in names))


def row(
    name: str, of: dict[str, dict[str, list[float]]], scored_by: str
) -> dict[str, Any]:
    """Compare a rule: mean penalty, its mean and highest change; MAS, alike."""
    steps = name[-5:]
    mas, other = of[f"mas, {steps}"], of[name]
    penalty, score = f"{steps}_penalty", f"{scored_by}_mas"
    cells = {
        "rule": name,
        "penalty": np.mean(other[penalty]),
        "MAS": np.mean(other[score]),
    }
    if name.startswith("mas"):
        return cells
    changes = np.subtract(mas[penalty], other[penalty])
    gains = np.subtract(mas[score], other[score])
    return cells | {
        "change": changes.mean(),
        "most": changes.max(),
        "gain": gains.mean(),
        "least": gains.min(),
        "in": f"{(gains > 1e-6).sum()} of {len(gains)}",
    }


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Make what the pages say of the results."""
    groups = groups_of(found)
    photos, samples = groups.items()
    gains = np.subtract(
        photos[1]["mas, patch"]["patch_mas"], photos[1]["reference, patch"]["patch_mas"]
    )
    return {
        "photos": table(*photos),
        "samples": table(*samples),
        "patch-gain": short(gains.mean()),
    }


def speed() -> None:
    """Print the seconds that one fit takes, by the number of patches."""
    generator = torch.Generator().manual_seed(0)
    for n in (49, 196, 784):
        seconds = []
        for _ in range(5):
            rises = torch.rand(2, n, generator=generator, dtype=torch.float64) ** 8
            steps = torch.linspace(3, 0, n, dtype=torch.float64).exp()
            rise = torch.cat([torch.zeros(2, 1), (rises * steps).cumsum(1)], dim=1)
            rise = rise / rise[:, -1:]
            curves = (rise[:1], 1.0 - rise[1:])
            fitted = fit_density(mean_response(*curves), "nnls")
            start = time.perf_counter()
            align_density(fitted, torch.ones(1, n, dtype=torch.float64), *curves)
            seconds.append(time.perf_counter() - start)
        print(f"{n} patches: {np.median(seconds):.3f} s, at most {max(seconds):.3f} s")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    parser.add_argument("--samples", type=int, default=60)
    options = parser.parse_args()
    settings = MEASURED | {"samples": options.samples}
    found = read_rows(options.out, settings, dict)
    speed()

    def keep() -> None:
        write(options.out, found, settings, adds=True)

    if "samples" not in found:
        found["samples"] = of_samples(options.samples)
        keep()
    data = os.environ.get("CAPTUM_MDA_DATA")
    if data:
        reference = Reference(Path(data))
        photos = found.setdefault("photos", {})
        for name in tqdm(reference.runs):
            if name not in photos:
                photos[name] = of_photo(reference, name)
                keep()
    for title, of in groups_of(found).items():
        print(
            table(title, of), table(f"{title}, MAS by patches", of, "patch"), sep="\n\n"
        )


if __name__ == "__main__":
    main()
