"""What benchmarks/quality.py relies on: shared searches, counts, the Pareto front."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import explainers, quality_figure
from captum_mda import MetricDrivenAttribution


@pytest.mark.parametrize("steps", ["patch", "pixel"])
def test_magnitudes_from_a_kept_search_are_those_of_a_search_of_their_own(
    tmp_path: Path, steps: str
) -> None:
    pictures = explainers.samples(2)
    entry = explainers.Mda("fast", magnitude="mas", mean_steps=steps)
    entry(pictures, tmp_path)
    found = entry(pictures, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    alone = MetricDrivenAttribution(
        pictures.model, ordering="fast", magnitude="mas", mean_steps=steps
    ).explain(
        pictures.images,
        target=pictures.targets,
        feature_mask=pictures.mask,
        insertion_baselines=pictures.blurred,
        seed_attributions=pictures.seed,
    )
    assert torch.equal(found.attributions, alone.attributions())
    (seed,) = {
        all_of_it - search
        for all_of_it, search in zip(
            found.forwards, alone.forwards.tolist(), strict=True
        )
    }
    assert 20 < seed < 40  # Bi-Attn integrates over 20 steps


def test_orderings_with_other_settings_are_kept_apart() -> None:
    from captum_mda.ordering import FastOrdering

    one, same, other = (
        explainers.Mda(FastOrdering(forwards_per_feature=budget)).key
        for budget in (4.0, 4.0, 2.5)
    )
    assert one == same != other
    assert not explainers.Mda("no such ordering").is_known


def test_front_holds_what_nothing_cheaper_beats() -> None:
    points = [
        quality_figure.Point(name, forwards, quality)
        for name, forwards, quality in (
            ("best", 100.0, 0.9),
            ("dear", 200.0, 0.9),
            ("cheap", 1.0, 0.5),
            ("worse", 1.0, 0.4),
            ("beaten", 50.0, 0.3),
        )
    ]
    assert [point.name for point in quality_figure.front(points)] == ["cheap", "best"]


def test_labels_do_not_cover_each_other(tmp_path: Path) -> None:
    points = [
        quality_figure.Point(f"in a crowd, {place}", 900.0 + place, 0.9 + place / 5000)
        for place in range(8)
    ]
    points += [
        quality_figure.Point(f"alone, {place}", 10.0 * 2**place, 0.5 + place / 50)
        for place in range(5)
    ]
    path = tmp_path / "figure.png"
    boxes = quality_figure.draw({"photos": {"Ins-Del": points}}, path)
    assert path.stat().st_size > 1000
    assert len(boxes) == 5
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
