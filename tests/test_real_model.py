"""The main job on a real photo with a real model, against its authors' own result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from captum_mda import (
    blur_baseline,
    MDAExplanation,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
)
from captum_mda.ordering import PaperOrdering

pytestmark = pytest.mark.real_model

PHOTO = "207"  # a golden retriever, class 207
WINDOW = 28


@pytest.fixture(scope="module")
def published(data_folder: Path) -> dict[str, np.ndarray]:
    with np.load(data_folder / "oracles" / "mda.npz") as stored:
        return {
            name: stored[name if name == "shifted_mask" else f"{PHOTO}/{name}"]
            for name in ("shifted_mask", "seed_scores", "order", "sparse")
        }


@pytest.fixture(scope="module")
def published_run(data_folder: Path) -> dict[str, float]:
    text = (data_folder / "oracles" / "mda_reference.json").read_text()
    run: dict[str, float] = json.loads(text)[PHOTO]
    return run


@pytest.fixture(scope="module")
def photo(oracle_maps: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(oracle_maps[f"{PHOTO}/x"])[None]


@pytest.fixture(scope="module")
def explanation(
    deit_tiny: nn.Module,
    photo: torch.Tensor,
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
) -> MDAExplanation:
    return MetricDrivenAttribution(deit_tiny).explain(
        photo,
        target=int(published_run["target"]),
        feature_mask=torch.from_numpy(published["shifted_mask"])[None, None],
        insertion_baselines=blur_baseline(photo, int(published_run["kernel"])),
        seed_attributions=torch.from_numpy(published["seed_scores"])[None],
    )


def test_the_order_is_the_authors(
    explanation: MDAExplanation,
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
) -> None:
    assert int(explanation.n_inserted) == published_run["n_inserted"]
    places = explanation.order[0].argsort().numpy()
    authors = np.argsort(published["order"])
    assert kendalltau(places, authors).statistic >= 0.999


def test_the_search_costs_no_more_than_it_must(explanation: MDAExplanation) -> None:
    n, c, w = 196, int(explanation.n_inserted), WINDOW
    bound = c * w + (n - c - w) * w + w * (w + 1) // 2 + n + 8
    assert explanation.n_forwards <= bound


def test_scores_are_the_authors(
    explanation: MDAExplanation,
    deit_tiny: nn.Module,
    photo: torch.Tensor,
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
) -> None:
    authors_map = torch.from_numpy(published["sparse"])[
        torch.from_numpy(published["shifted_mask"])
    ]
    ours, theirs = (
        metrics.perturbation_scores(
            deit_tiny,
            photo,
            attributions,
            insertion_baselines=blur_baseline(photo, int(published_run["kernel"])),
            target=int(published_run["target"]),
        )
        for attributions in (explanation.attributions(), authors_map[None, None])
    )
    stored = published_run["ins_del"], published_run["mas_ins_del"]
    assert float(theirs.insertion_deletion) == pytest.approx(stored[0], abs=1e-4)
    assert float(theirs.mas_insertion_deletion) == pytest.approx(stored[1], abs=1e-4)
    assert float(ours.insertion_deletion) == pytest.approx(stored[0], abs=2e-3)
    assert float(ours.mas_insertion_deletion) == pytest.approx(stored[1], abs=2e-3)


def test_batches_and_chunks_give_the_same_search(
    deit_tiny: nn.Module, photo: torch.Tensor
) -> None:
    """On a coarse grid, where margins are far above float noise."""
    mask = patch_feature_mask(photo, 56)
    mda = MetricDrivenAttribution(deit_tiny, ordering=PaperOrdering(window=4))
    seed = torch.arange(16.0, 0, -1)[None]
    options = {"feature_mask": mask, "insertion_baselines": blur_baseline(photo, 31)}
    alone = mda.explain(photo, target=207, seed_attributions=seed, **options)
    both = mda.explain(
        photo.flip(-1).repeat(2, 1, 1, 1).index_copy(0, torch.tensor([0]), photo),
        target=207,
        seed_attributions=seed.repeat(2, 1),
        feature_mask=mask,
        insertion_baselines=blur_baseline(photo, 31).repeat(2, 1, 1, 1),
        perturbations_per_eval=3,
    )
    assert both.order[0].tolist() == alone.order[0].tolist()
    torch.testing.assert_close(both.mean_curve[:1], alone.mean_curve, rtol=0, atol=1e-5)
