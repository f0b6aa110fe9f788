"""Positive and negative perturbation: by hand, by a loop, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Recorder
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda import metrics, patch_feature_mask


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(n_inputs: int, seed: int) -> Callable[[Tensor], Tensor]:
    first, second = seeded(n_inputs, 6, seed=seed), seeded(6, 3, seed=seed + 1)
    return lambda rows: (rows.flatten(1) @ first).sin() @ second


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 25), st.sampled_from(["most", "least"]), st.integers(0, 10**6))
def test_hits_are_those_of_a_loop(n: int, first: str, seed: int) -> None:
    x, values = seeded(2, n, seed=seed), seeded(2, n, seed=seed + 1).round()
    values[:, 0] = 9.0  # not all the same
    model, black = network(n, seed + 2), -0.5
    found = metrics.masked_hits(model, x, values, black, target=[0, 2], first=first)
    for example, label in enumerate((0, 2)):
        order = sorted(
            range(n),
            key=lambda i: float(values[example, i]) * (-1 if first == "most" else 1),
        )
        for column in range(9):
            row = x[example].clone()
            row[order[: n * (column + 1) // 10]] = black
            hit = float(int(model(row[None]).argmax()) == label)
            assert float(found.hits[example, column]) == hit
    area = [np.trapezoid(row) / 8 for row in found.hits]
    np.testing.assert_allclose(found.area, area, atol=1e-12)
    both = {
        "most": metrics.positive_perturbation,
        "least": metrics.negative_perturbation,
    }
    scores = both[first](model, x, values, black, target=[0, 2])
    assert torch.equal(scores, found.area)
    assert bool(((scores * 16).frac() == 0).all())


def test_a_data_set_s_score_is_the_mean_of_its_examples() -> None:
    model, x, values = network(30, 1), seeded(40, 30, seed=2), seeded(40, 30, seed=3)
    labels = model(x).argmax(1).tolist()
    hits = metrics.masked_hits(model, x, values, target=labels)
    of_set = np.trapezoid(hits.hits.mean(0)) / 8
    assert float(hits.area.mean()) == pytest.approx(of_set)
    assert 0 < of_set < 1
    torch.testing.assert_close(
        hits.fractions, torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    )


def test_fractions_of_pixels_and_of_patches() -> None:
    images = torch.arange(1.0, 401.0).reshape(1, 1, 20, 20)
    counts: list[int] = []

    def model(rows: Tensor) -> Tensor:
        counts.extend((rows == 0).sum(dim=(1, 2, 3)).tolist())
        return torch.stack([torch.ones(len(rows)), torch.zeros(len(rows))], 1)

    fractions = (0.0, 0.29, 0.3, 1.0)
    metrics.masked_hits(model, images, images, target=0, fractions=fractions)
    assert sorted(counts) == [0, 116, 120, 400]
    counts.clear()
    mask = patch_feature_mask(images, 5)
    metrics.masked_hits(
        model, images, images, feature_mask=mask, target=0, fractions=fractions
    )
    # 4 and 4 of 16 patches: one input, asked once.
    assert sorted(counts) == [0, 100, 400]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "last"}, "first: got 'last', takes one of 'most', 'least'"),
        ({"fractions": (0.5,)}, r"fractions: got \(0.5,\), takes at least two"),
        ({"fractions": (0.5, 0.2)}, "fractions: got .* ascending"),
        ({"fractions": (0.5, 1.2)}, r"fractions: got .* in \[0, 1\]"),
        ({"attributions": torch.ones(1, 4)}, "attributions: constant map in example 0"),
        ({"on_degenerate": "zero"}, "on_degenerate: got 'zero'"),
    ],
)
def test_refused_before_the_first_forward(
    changes: dict[str, Any], message: str
) -> None:
    model = Recorder(network(4, 1))
    x = seeded(1, 4, seed=1)
    arguments: dict[str, Any] = {"inputs": x, "attributions": x, "target": 0} | changes
    with pytest.raises(ValueError, match=message):
        metrics.masked_hits(model, **arguments)
    assert model.calls == []


def test_outputs_without_classes() -> None:
    x = seeded(2, 4, seed=1)
    with pytest.raises(ValueError, match="takes scores of at least two classes"):
        metrics.positive_perturbation(lambda rows: rows.sum(1), x, x)
    with pytest.raises(ValueError, match="NaN or infinite"):
        metrics.positive_perturbation(lambda rows: rows * torch.nan, x, x, target=1)


def test_a_constant_map_is_told() -> None:
    x = seeded(2, 4, seed=1)
    values = x.clone()
    values[0] = 1.0
    with pytest.warns(UserWarning, match=r"0 \(constant map\)"):
        found = metrics.masked_hits(
            network(4, 1), x, values, target=0, on_degenerate="nan"
        )
    assert found.status == ("constant map", "ok")
    assert found.area.isnan().tolist() == [True, False]


def test_a_target_that_is_not_predicted_is_told() -> None:
    """Its accuracy is 0 from the start, which would be the best positive score."""

    def logits(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.sum(dim=1), torch.full((len(x),), 2.5)], 1)

    x = torch.tensor([[3.0, 1.0, 0.0, 1.0], [1.0, 0.5, 0.0, 0.0]])
    with pytest.warns(UserWarning, match=r"1 \(target 0, predicted 1\)") as caught:
        found = metrics.masked_hits(logits, x, x, target=0)
    assert len(caught) == 1
    assert found.status == ("ok", "target not predicted")
    assert found.target_predicted.tolist() == [True, False]
    assert "target not predicted" in repr(found)
    for metric in (metrics.positive_perturbation, metrics.negative_perturbation):
        with pytest.warns(UserWarning, match="does not predict"):
            assert float(metric(logits, x, x, target=0)[1]) == 0.0
