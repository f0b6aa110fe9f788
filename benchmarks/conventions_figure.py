"""Draw one map's scores under several conventions: the figure of docs/metrics.md.

    python -m benchmarks.conventions_figure

writes docs/images/conventions.png and prints the numbers in it. The map is
LeGrad's of one sample of the packaged model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from captum_mda import demo, LeGrad, metrics
from captum_mda._files import replacing
from captum_mda.metrics import ResponseCurve
from captum_mda.perturbation import blur_baseline

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "conventions.png"
SAMPLE, OBJECT_SAMPLE = 5, 2


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FIGURE, help="the PNG to write")
    out = parser.parse_args().out
    model = demo.load_model()
    images, labels, masks = demo.make_samples(SAMPLE + 1, 21)
    maps = LeGrad(model).attribute(images, target=labels)
    image, label, values = (each[SAMPLE:] for each in (images, labels, maps))
    blurred = blur_baseline(image, 9)
    shared = {"baselines": blurred, "target": label, "n_steps": 64}
    rise = metrics.response_curve(model, image, values, convention="rise", **shared)
    mas = metrics.response_curve(model, image, values, convention="mas", **shared)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    _draw_responses(axes[0], rise, mas)
    _draw_alignment(axes[1], mas)
    one = slice(OBJECT_SAMPLE, OBJECT_SAMPLE + 1)
    _draw_thresholds(axes[2], maps[one], masks[one])
    for axis in axes[:2]:
        axis.set(xlabel="share of pixels inserted")
    for axis in axes:
        axis.set_ylim(-0.02, 1.02)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
    with replacing(out) as beside:
        figure.savefig(beside, dpi=120, format="png")


def _draw_responses(axis: Any, rise: ResponseCurve, mas: ResponseCurve) -> None:
    share, area, normalised = _share(mas), float(rise.area), float(mas.area)
    axis.plot(share, rise.raw[0], label=f"raw (RISE), area {area:.3f}")
    axis.plot(share, mas.response[0], label=f"normalised (MDA), area {normalised:.3f}")
    axis.set(title="Insertion", ylabel="response")
    print(area, normalised)


def _draw_alignment(axis: Any, mas: ResponseCurve) -> None:
    share, aligned = _share(mas), (mas.response - mas.penalty)[0]
    plain = float(torch.trapezoid(aligned, share.double()))
    stretched = float(mas.mas_area)
    axis.plot(share, mas.response[0], label="response MR", color="C1")
    axis.plot(share, mas.density[0], label="density DR", color="C2")
    axis.plot(
        share, aligned, ":", color="C3", label=f"MR less penalty, area {plain:.3f}"
    )
    axis.plot(
        share, mas.mas[0], color="C3", label=f"clipped, stretched, {stretched:.3f}"
    )
    axis.set(title="MAS insertion")
    print(plain, stretched)


def _draw_thresholds(axis: Any, values: Tensor, mask: Tensor) -> None:
    def iou(threshold: Any) -> float:
        found = metrics.segmentation_scores(values, mask, threshold=threshold)
        return float(found.iou)

    thresholds = np.linspace(0, 0.98, 50)
    scores = [iou(float(each)) for each in thresholds]
    axis.plot(thresholds, scores, color="C4", label="one threshold for all")
    named = {"mean": "the map's mean", "oracle": "oracle: the best of 12"}
    for (threshold, words), style in zip(named.items(), ("--", ":"), strict=True):
        height = iou(threshold)
        axis.axhline(height, linestyle=style, color="k", label=f"{words}, {height:.3f}")
        print(threshold, height)
    axis.set(
        title="IoU with the object (another image)",
        xlabel="threshold of the scaled map",
    )
    print(max(scores))


def _share(curve: ResponseCurve) -> Tensor:
    return torch.linspace(0, 1, curve.raw.shape[1])


if __name__ == "__main__":
    main()
