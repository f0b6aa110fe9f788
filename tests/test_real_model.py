"""The main job on a real photo with a real model, against its authors' own result.

The model decides twenty of the search's steps, and all of them under `-m extended`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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
N_STEPS = 20  # of the search, half of them of each phase
NEAR_TIE = 1e-6  # what rounding can exchange


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


class LedModel:
    """The model at some steps of the search; at the others the authors' order leads.

    Reads from an image which patches are there, and on which baseline. Runs the model
    on the images of the authors' order and, at the chosen steps, on every candidate.
    Lets the authors' patch win each step; `met` has what the model says at the chosen.
    """

    def __init__(
        self,
        model: nn.Module,
        photo: torch.Tensor,
        published: dict[str, np.ndarray],
        published_run: dict[str, float],
    ) -> None:
        self.model, self.target = model, int(published_run["target"])
        order: list[int] = published["order"].tolist()
        self.orders = {"insertion": order, "deletion": order[::-1]}
        n, c = len(order), int(published_run["n_inserted"])
        blurred = blur_baseline(photo, int(published_run["kernel"]))
        # In each patch, where photo, blur and zero differ most.
        apart = torch.minimum((photo - blurred).abs(), photo.abs())[0]
        mask = torch.from_numpy(published["shifted_mask"])
        places = [torch.where(mask == patch, apart, -1).argmax() for patch in range(n)]
        self.places = torch.stack(places)
        self.there = photo.flatten()[self.places]
        draw = torch.Generator().manual_seed(0)
        self.met: dict[tuple[str, int], dict[int, float]] = {
            (phase, 1 + int(place)): {}
            for phase, n_steps in (("insertion", c), ("deletion", n - c - 1))
            for place in torch.randperm(n_steps, generator=draw)[: N_STEPS // 2]
        }

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        values = images.flatten(1)[:, self.places]
        is_there = values == self.there
        on_zero = ((values == 0) | is_there).all(dim=1) & ~is_there.all(dim=1)
        steps, added, chosen = [], [], []
        for row, present in enumerate(is_there):
            patches = set(present.nonzero().flatten().tolist())
            phase = "deletion" if on_zero[row] else "insertion"
            order, count = self.orders[phase], len(patches)
            (*others,) = patches - set(order[: max(count - 1, 0)])
            steps.append((phase, count))
            added.append(others[0] if others else None)
            leads = patches == set(order[:count])
            if leads or (phase, count) in self.met:
                chosen.append(row)
        answers = torch.tensor([2.0 if zero else -1.0 for zero in on_zero])
        if not chosen:
            return answers
        found = self.model(images[chosen]).softmax(dim=1)[:, self.target]
        for row, response in zip(chosen, found, strict=True):
            phase, count = steps[row]
            if steps[row] in self.met:
                self.met[steps[row]][added[row]] = float(response)
            if count == 0 or added[row] == self.orders[phase][count - 1]:
                answers[row] = response
        return answers


@pytest.fixture(scope="module")
def led(
    deit_tiny: nn.Module,
    photo: torch.Tensor,
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
) -> LedModel:
    return LedModel(deit_tiny, photo, published, published_run)


@pytest.fixture(
    scope="module",
    params=["led", pytest.param("whole", marks=pytest.mark.extended)],
)
def explanation(
    request: pytest.FixtureRequest,
    deit_tiny: nn.Module,
    led: LedModel,
    photo: torch.Tensor,
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
) -> MDAExplanation:
    is_whole = request.param == "whole"
    mda = (
        MetricDrivenAttribution(deit_tiny)
        if is_whole
        else MetricDrivenAttribution(led, score="identity")
    )
    return mda.explain(
        photo,
        target=int(published_run["target"]) if is_whole else None,
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


@pytest.mark.parametrize("explanation", ["led"], indirect=True)
def test_the_model_chooses_the_authors_patch_at_some_steps(
    explanation: MDAExplanation, led: LedModel
) -> None:
    assert explanation.order[0].tolist() == led.orders["insertion"]
    assert len(led.met) == N_STEPS
    for (phase, count), responses in led.met.items():
        left = len(led.places) - count + 1
        if phase == "deletion":
            left -= int(explanation.n_inserted)
        assert len(responses) == min(WINDOW, left)
        best = (
            max(responses.values()) if phase == "insertion" else min(responses.values())
        )
        authors = responses[led.orders[phase][count - 1]]
        assert authors == pytest.approx(best, abs=NEAR_TIE)


def test_the_search_costs_no_more_than_it_must(explanation: MDAExplanation) -> None:
    n, c, w = 196, int(explanation.n_inserted), WINDOW
    bound = c * w + (n - c - w) * w + w * (w + 1) // 2 + n + 8
    assert explanation.n_forwards <= bound


@pytest.fixture
def scored(
    deit_tiny: nn.Module, photo: torch.Tensor, published_run: dict[str, float]
) -> Callable[[torch.Tensor], metrics.PerturbationScores]:
    def scores(attributions: torch.Tensor) -> metrics.PerturbationScores:
        return metrics.perturbation_scores(
            deit_tiny,
            photo,
            attributions,
            insertion_baselines=blur_baseline(photo, int(published_run["kernel"])),
            target=int(published_run["target"]),
        )

    return scores


def test_scores_are_the_authors(
    explanation: MDAExplanation,
    published_run: dict[str, float],
    scored: Callable[[torch.Tensor], metrics.PerturbationScores],
) -> None:
    ours = scored(explanation.attributions())
    stored = published_run["ins_del"], published_run["mas_ins_del"]
    assert float(ours.insertion_deletion) == pytest.approx(stored[0], abs=2e-3)
    assert float(ours.mas_insertion_deletion) == pytest.approx(stored[1], abs=2e-3)


@pytest.mark.extended
def test_scores_of_the_authors_map_are_the_authors(
    published: dict[str, np.ndarray],
    published_run: dict[str, float],
    scored: Callable[[torch.Tensor], metrics.PerturbationScores],
) -> None:
    authors_map = torch.from_numpy(published["sparse"])[
        torch.from_numpy(published["shifted_mask"])
    ]
    theirs = scored(authors_map[None, None])
    stored = published_run["ins_del"], published_run["mas_ins_del"]
    assert float(theirs.insertion_deletion) == pytest.approx(stored[0], abs=1e-4)
    assert float(theirs.mas_insertion_deletion) == pytest.approx(stored[1], abs=1e-4)


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
