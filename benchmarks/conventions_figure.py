"""Draw one map's scores under several conventions: the figure of docs/metrics.md.

    python -m benchmarks.conventions_figure

writes docs/images/conventions.png and prints the numbers in it. The map is
LeGrad's of one sample of the packaged model.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
import torch
from matplotlib import pyplot as plt

from captum_mda import demo, LeGrad, metrics
from captum_mda._files import replacing
from captum_mda.perturbation import blur_baseline

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "conventions.png"
SAMPLE, OBJECT_SAMPLE = 5, 2


def main() -> None:
    """Draw the figure."""
    model = demo.load_model()
    images, labels, masks = demo.make_samples(SAMPLE + 1, 21)
    maps = LeGrad(model).attribute(images, target=labels)
    image, label, values = (each[SAMPLE:] for each in (images, labels, maps))
    blurred = blur_baseline(image, 9)
    shared = {"baselines": blurred, "target": label, "n_steps": 64}
    rise = metrics.response_curve(model, image, values, convention="rise", **shared)
    mas = metrics.response_curve(model, image, values, convention="mas", **shared)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    share = torch.linspace(0, 1, mas.raw.shape[1])

    axes[0].plot(share, rise.raw[0], label=f"raw (RISE), area {float(rise.area):.3f}")
    axes[0].plot(
        share, mas.response[0], label=f"normalised (MDA), area {float(mas.area):.3f}"
    )
    axes[0].set(title="Insertion", ylabel="response")

    aligned = (mas.response - mas.penalty)[0]
    axes[1].plot(share, mas.response[0], label="response MR", color="C1")
    axes[1].plot(share, mas.density[0], label="density DR", color="C2")
    plain = float(torch.trapezoid(aligned, share.double()))
    axes[1].plot(
        share, aligned, ":", color="C3", label=f"MR less penalty, area {plain:.3f}"
    )
    axes[1].plot(
        share,
        mas.mas[0],
        color="C3",
        label=f"clipped, stretched, {float(mas.mas_area):.3f}",
    )
    axes[1].set(title="MAS insertion")

    values, mask = (each[OBJECT_SAMPLE : OBJECT_SAMPLE + 1] for each in (maps, masks))
    thresholds = np.linspace(0, 0.98, 50)
    scores = [
        float(metrics.segmentation_scores(values, mask, threshold=float(t)).iou)
        for t in thresholds
    ]
    axes[2].plot(thresholds, scores, color="C4", label="one threshold for all")
    named = {"mean": "the map's mean", "oracle": "oracle: the best of 12"}
    for (threshold, words), style in zip(named.items(), ("--", ":"), strict=True):
        iou = float(metrics.segmentation_scores(values, mask, threshold=threshold).iou)
        axes[2].axhline(iou, linestyle=style, color="k", label=f"{words}, {iou:.3f}")
        print(threshold, iou)
    axes[2].set(
        title="IoU with the object (another picture)",
        xlabel="threshold of the scaled map",
    )
    for axis in axes[:2]:
        axis.set(xlabel="share of pixels inserted")
    for axis in axes:
        axis.set_ylim(-0.02, 1.02)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
    with replacing(FIGURE) as beside:
        figure.savefig(beside, dpi=120, format="png")
    print(float(rise.area), float(mas.area), plain, float(mas.mas_area), max(scores))


if __name__ == "__main__":
    main()
