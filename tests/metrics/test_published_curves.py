"""The metrics of MDA's authors on a real model: stored curves and scores.

The curves are stored at 224 steps. Every eighth of them is a step of 28, on all photos;
all steps are taken on one, and on the others under `-m extended`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate

from captum_mda import metrics
from captum_mda.metrics import ResponseCurve
from captum_mda.perturbation import blur_baseline

CLASSES = (1, 207, 281, 291, 340, 386, 812, 937)
SIDE = 224
FEW_STEPS = 28


def upsampled(kind: str, seed: Tensor) -> Tensor:
    """Enlarge the 14 x 14 map as the stored metrics did: (1, 1, 224, 224)."""
    if kind == "patch":
        return interpolate(seed[None, None], size=SIDE, mode="nearest-exact")
    return interpolate(seed[None, None], size=SIDE, mode="bilinear", antialias=True)


EXTENDED = [
    pytest.param(photo, marks=pytest.mark.extended) for photo in CLASSES if photo != 207
]


@pytest.mark.real_model
@pytest.mark.parametrize("kind", ["patch", "bilinear"])
@pytest.mark.parametrize("photo", CLASSES)
def test_curves_in_few_steps_pass_through_those_of_the_authors_code(
    photo: int, kind: str, deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    def stored(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(oracle_maps[f"{photo}/{name}"]))

    image = stored("x")[None]
    scores = metrics.perturbation_scores(
        deit_tiny,
        image,
        upsampled(kind, stored("biattn_h")),
        insertion_baselines=blur_baseline(image, int(stored("klen"))),
        deletion_baselines=0,
        target=int(stored("target")),
        n_steps=FEW_STEPS,
    )
    for curve, direction in (
        (scores.insertion_curve, "ins"),
        (scores.deletion_curve, "del"),
    ):
        for part, name in ((curve.raw, "raw"), (curve.density, "density")):
            expected = stored(f"metric_{kind}_{direction}_{name}")
            expected = expected[:: SIDE // FEW_STEPS]
            torch.testing.assert_close(part[0], expected, rtol=0, atol=2e-4)


@pytest.mark.real_model
@pytest.mark.parametrize(
    "kind", ["patch", pytest.param("bilinear", marks=pytest.mark.extended)]
)
@pytest.mark.parametrize("photo", [207, *EXTENDED])
def test_curves_and_scores_are_those_of_the_authors_code(
    photo: int, kind: str, deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    def stored(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(oracle_maps[f"{photo}/{name}"]))

    image = stored("x")[None]
    attributions = upsampled(kind, stored("biattn_h"))
    if kind == "bilinear":
        sample = attributions[0, 0, ::8, ::8]
        torch.testing.assert_close(sample, stored("bilinear_map_sub").to(sample))

    scores = metrics.perturbation_scores(
        deit_tiny,
        image,
        attributions,
        insertion_baselines=blur_baseline(image, int(stored("klen"))),
        deletion_baselines=0,
        target=int(stored("target")),
    )

    def check_curve(curve: ResponseCurve, direction: str) -> None:
        for part, name in (
            (curve.raw, "raw"),
            (curve.response, "norm"),
            (curve.density, "density"),
            (curve.mas, "mas"),
        ):
            expected = stored(f"metric_{kind}_{direction}_{name}")
            torch.testing.assert_close(part[0], expected, rtol=0, atol=2e-4)

    def check_score(score: Tensor, name: str) -> None:
        expected = float(stored(f"metric_{kind}_{name}"))
        assert score.item() == pytest.approx(expected, abs=1e-4)

    check_curve(scores.insertion_curve, "ins")
    check_curve(scores.deletion_curve, "del")
    check_score(scores.insertion, "ins_auc")
    check_score(scores.deletion, "del_auc")
    check_score(scores.mas_insertion, "ins_mas_auc")
    check_score(scores.mas_deletion, "del_mas_auc")
    check_score(scores.monotonicity, "mono_pos")


@pytest.mark.real_model
@pytest.mark.parametrize("photo", [207, pytest.param(812, marks=pytest.mark.extended)])
def test_negative_monotonicity_is_that_of_the_authors_code(
    photo: int, deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    """From the photo to the blurred one, most important first."""

    def stored(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(oracle_maps[f"{photo}/{name}"]))

    image = stored("x")[None]
    score = metrics.monotonicity(
        deit_tiny,
        image,
        upsampled("patch", stored("biattn_h")),
        blur_baseline(image, int(stored("klen"))),
        target=int(stored("target")),
        mode="deletion",
    )
    expected = float(stored("metric_patch_mono_neg"))
    assert score.item() == pytest.approx(expected, abs=1e-4)
