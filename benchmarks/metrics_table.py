"""Every method under every metric, with intervals and Holm-corrected verdicts.

Two sets of images, those of quality.py: the reference photos of ``CAPTUM_MDA_DATA``
with DeiT-Tiny, for the class that it predicts, and fresh samples of the packaged model,
whose objects have exact masks. Insertion, deletion, MAS and monotonicity are those of
the MDA tables, in 224 steps of single positions, as in mda_quality.py and quality.py.
The other metrics move the model's patches, in 28 steps on photos and 32 on samples.

    OMP_NUM_THREADS=1 CAPTUM_MDA_DATA=DATA python -m benchmarks.metrics_table

prints the tables and writes metrics_table.json beside itself. Scores of finished
images are kept in ``--cache`` and not computed again; ``--workers`` says how many
images are computed at a time.
"""

from __future__ import annotations

import argparse
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.explainers import KERNEL, SAMPLE_SEED, samples
from benchmarks.results import path_of, read_rows, write
from benchmarks.scoring import (
    black,
    markdown,
    MASKED,
    masked_scores,
    MODEL,
    object_scores,
    OBJECTS,
    PHOTOS,
    SAMPLES,
    short,
    shown_for,
    STEPS,
)
from captum_mda import metrics
from captum_mda.evaluate import (
    build_method,
    Case,
    compute_map,
    load_classifier,
    make_case,
    METHODS,
    Metric,
    METRICS,
)
from captum_mda.evaluate.metrics import Evaluation
from captum_mda.evaluate.tables import score_table
from captum_mda.statistics import compare

MEASURED = {
    "model": MODEL,
    "seed": SAMPLE_SEED,
    "blur": KERNEL,
    "patch_steps": STEPS,
}
FIRST = (
    "insertion",
    "deletion",
    "mas_insertion_deletion",
    "monotonicity",
    "aopc",
    "symmetric_relevance_gain",
    *MASKED,
    *OBJECTS,
)
LEFT_OUT = (
    # they follow from columns, or are parts of one
    *("insertion_deletion", "mas_insertion", "mas_deletion", "token_relevance_gain"),
    *("f1", "pixel_accuracy"),
    # few methods' maps add up to the score; and what is sparse is not better
    *("completeness_error", "sparseness"),
)


def columns(kind: str) -> dict[str, Metric]:
    """Return what is shown of a set: the metrics of `METRICS` but those left out."""
    further = [name for name in METRICS if name not in (*FIRST, *LEFT_OUT)]
    return shown_for(kind, {name: METRICS[name] for name in (*FIRST, *further)})


def score_maps(
    case: Case, maps: Mapping[str, Tensor], n_steps: int
) -> dict[str, dict[str, float]]:
    """Score all maps of one image: of each method each metric."""
    model, target = case.classifier.model, case.target
    shared: dict[str, Any] = {"target": target, "on_degenerate": "nan"}
    by_patch = {"feature_mask": case.mask, "n_steps": n_steps}
    found = metrics.perturbation_scores_of_maps(
        model,
        case.images,
        maps,
        insertion_baselines=case.blurred,
        deletion_baselines=case.deleted,
        **shared,
    )
    signed = metrics.perturbation_scores_of_maps(
        model,
        case.images,
        maps,
        insertion_baselines=case.deleted,
        deletion_baselines=case.deleted,
        convention="rise",
        least_first=True,
        **shared,
        **by_patch,
    )
    masked = black(case.classifier.mean, case.classifier.std)
    scores = {}
    for name, values in maps.items():
        row = {
            "insertion": found[name].insertion,
            "deletion": found[name].deletion,
            "mas_insertion_deletion": found[name].mas_insertion_deletion,
            "monotonicity": found[name].monotonicity,
            "aopc": signed[name].aopc,
            "symmetric_relevance_gain": signed[name].symmetric_relevance_gain,
        }
        row |= masked_scores(model, case.images, values, masked, case.mask, target)
        scores[name] = {metric: float(value) for metric, value in row.items()}
    return scores


def score_further(
    case: Case, maps: Mapping[str, Tensor], objects: Tensor | None, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score all maps of one image by metrics that are only in `METRICS`."""
    evaluation = Evaluation(
        forward_func=case.classifier.model,
        inputs=case.images,
        maps=maps,
        target=case.target,
        insertion_baselines=case.blurred,
        deletion_baselines=case.deleted,
        feature_mask=case.mask,
        masks=objects,
        on_degenerate="nan",
    )
    found: dict[str, dict[str, float]] = {name: {} for name in maps}
    for metric in names:
        for name, scored in METRICS[metric].run(evaluation, [metric])[metric].items():
            found[name][metric] = float(scored.values)
    return found


def score_picture(
    task: tuple[str, int], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Compute and score maps of one image, in a process of its own."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    kind, number = task
    case, objects = _case(kind, number)
    maps = {
        name: compute_map(build_method(name, case.classifier), case).values
        for name in names
    }
    scores = score_maps(case, maps, STEPS[kind])
    further = [name for name in columns(kind) if name not in FIRST]
    for name, row in score_further(case, maps, objects, further).items():
        scores[name] |= row
        if objects is not None:
            found = object_scores(maps[name], objects)
            scores[name] |= {metric: float(each) for metric, each in found.items()}
    return {
        name: {metric: round(value, 5) for metric, value in row.items()}
        for name, row in scores.items()
    }


def _case(kind: str, number: int) -> tuple[Case, Tensor | None]:
    """Ask about an image as quality.py does; return the masks of objects, too."""
    if kind == SAMPLES:
        classifier = load_classifier("demo", device="cpu")
        image_set = samples(number + 1).of([str(number)])
        target = int(image_set.targets)
        # The blur of a fixed size, in place of one chosen by the sample's confidence.
        kernels = [image_set.kernel]
        case = make_case(classifier, image_set.images[0], target, kernel_sizes=kernels)
        return case, image_set.objects
    data = Path(os.environ["CAPTUM_MDA_DATA"])
    weights = data / "models" / f"{MODEL}.safetensors"
    classifier = load_classifier(MODEL, weights=weights, device="cpu")
    with np.load(data / "oracles" / "maps.npz") as stored:
        photo = _photos(stored.files)[number]
        image = torch.from_numpy(stored[f"{photo}/x"])
        target = int(stored[f"{photo}/target"])
    return make_case(classifier, image, target), None


def _photos(files: Sequence[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in files if name[0].isdigit()})


def compute(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Score all images under all methods, but for what is in the cache."""
    options.cache.mkdir(parents=True, exist_ok=True)
    tasks = [(PHOTOS, number) for number in range(options.photos)]
    tasks += [(SAMPLES, number) for number in range(options.samples)]
    files = {task: options.cache / f"{task[0]}-{task[1]}.json" for task in tasks}
    done = {task: read_rows(file, MEASURED, dict) for task, file in files.items()}
    missing = {
        task: [
            name
            for name in METHODS
            if not set(columns(task[0])) <= set(done[task].get(name, ()))
        ]
        for task in tasks
    }
    context = get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        jobs = {
            pool.submit(score_picture, task, names): task
            for task, names in missing.items()
            if names
        }
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="images"):
            task = jobs[job]
            done[task] |= job.result()
            write(files[task], done[task], MEASURED, adds=True)
    return [
        {"kind": kind, "number": number, "scores": done[kind, number]}
        for kind, number in tasks
    ]


def scores_of(
    image_set: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, dict[str, list[float]]]:
    """Gather the scores of a set: by metric and method, NaN where there is none."""
    rows = [row["scores"] for row in image_set if row["kind"] == kind]
    return {
        metric: {
            name: [_score(row.get(name, {}), metric) for row in rows]
            for name in METHODS
        }
        for metric in columns(kind)
    }


def _score(row: Mapping[str, float], metric: str) -> float:
    """Read a score; what was a ninth before it was rounded for the file is one again.

    Intervals depend on which resampled means are equal.
    """
    value = float(row.get(metric, math.nan))
    ninths = metric in ("mif_deletion", "lif_deletion") and not math.isnan(value)
    return round(9 * value) / 9 if ninths else value


def table(image_set: Sequence[Mapping[str, Any]], kind: str) -> str:
    """Write the means of all metrics, the best bold, those as good marked."""
    made = score_table(
        scores_of(image_set, kind),
        titles={name: method.title for name, method in METHODS.items()},
        format=".3f [.2f]",
    )
    return markdown(made.columns, made.rows)


def verdicts(image_set: Sequence[Mapping[str, Any]], kind: str) -> str:
    """Say in words, for each metric, which methods are worse than the best."""
    lines, titles = [], {name: method.title for name, method in METHODS.items()}
    for metric, of in scores_of(image_set, kind).items():
        known = {name: each for name, each in of.items() if not _all_nan(each)}
        heading = f"- **{METRICS[metric].heading}**"
        if len(known) < 2:
            lines.append(f"{heading}: not measured yet.")
            continue
        # Words follow the tests; intervals, which take the time, are not told here.
        found = compare(
            known, METRICS[metric].higher_is_better, metric=metric, n_resamples=99
        )
        worse = [titles[each.method] for each in found if each.outcome == "worse"]
        told = f"worse: {'; '.join(worse)}" if worse else "no other can be told from it"
        if all(each.smallest_p_value >= 0.05 for each in found):
            n = found[0].n_comparisons
            told += f", and none could be, with {n} comparisons of {found[0].n} images"
        lines.append(f"{heading}: best {titles[found[0].reference]}; {told}.")
    return "\n".join(lines)


def _all_nan(values: Sequence[float]) -> bool:
    return all(map(math.isnan, values))


def figures(
    image_set: Sequence[Mapping[str, Any]],
) -> dict[str, str | Callable[[], str]]:
    """Make what the pages say of the rows; means as ``photos.mda.deletion``."""
    found: dict[str, str | Callable[[], str]] = {}
    for kind in (PHOTOS, SAMPLES):
        found[f"{kind}.table"] = partial(table, image_set, kind)
        found[f"{kind}.verdicts"] = partial(verdicts, image_set, kind)
        for metric, of in scores_of(image_set, kind).items():
            for name, values in of.items():
                known = [value for value in values if not math.isnan(value)]
                if known:
                    found[f"{kind}.{name}.{metric}"] = short(fmean(known))
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("metrics_table_cache"))
    parser.add_argument("--out", type=Path, default=path_of(__file__))
    options = parser.parse_args()
    image_set = compute(options)
    for kind in (PHOTOS, SAMPLES):
        print(f"\n{kind}\n\n{table(image_set, kind)}\n\n{verdicts(image_set, kind)}")
    write(options.out, image_set, MEASURED)


if __name__ == "__main__":
    main()
