"""What results look like: a line for each example, in prompts and in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser

import pytest
import torch
from torch import Tensor

from captum_mda import (
    demo,
    LeGrad,
    MetricDrivenAttribution,
    metrics,
    patch_feature_mask,
    TokenInputXGradient,
)
from captum_mda._summaries import as_html, as_text, Brief, brief, MOST_LINES
from captum_mda.demo.generator import Scene
from captum_mda.perturbation import Features
from captum_mda.vit import observe, resolve

N = 12


@cache
def samples() -> demo.DemoSamples:
    return demo.make_samples(n=N, seed=2)


@cache
def grid() -> Tensor:
    images, labels, _ = samples()
    return LeGrad(demo.load_model()).attribute(
        images, target=labels, interpolate_mode=None
    )


@cache
def pixels() -> Tensor:
    return torch.nn.functional.interpolate(grid(), samples().images.shape[-2:])


def scores() -> metrics.PerturbationScores:
    return metrics.perturbation_scores(
        demo.load_model(),
        samples().images,
        pixels(),
        target=samples().labels,
        n_steps=5,
        on_degenerate="nan",
    )


def explanation(score: str = "softmax") -> object:
    mda = MetricDrivenAttribution(demo.load_model(), "nnls", score=score)  # type: ignore[arg-type]
    images, labels, _ = samples()
    mask = patch_feature_mask(images, 32)
    return mda.explain(images, target=labels, feature_mask=mask)


def deleted() -> metrics.TokenDeletion:
    images, labels, _ = samples()
    return metrics.token_deletion(demo.load_model(), images, grid(), target=labels)


def masked() -> metrics.MaskedHits:
    images, labels, _ = samples()
    return metrics.masked_hits(demo.load_model(), images, pixels(), target=labels)


RESULTS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "PerturbationScores": (scores, ["insertion", "MAS difference", "status"]),
    "ResponseCurve": (lambda: scores().insertion_curve, ["area", "MAS area"]),
    "MDAExplanation": (explanation, ["first features", "inserted", "deletion"]),
    "TokenDeletion": (deleted, ["accuracy", "AOPC", "probability"]),
    "MaskedHits": (masked, ["hits", "area"]),
    "SegmentationScores": (
        lambda: metrics.segmentation_scores(pixels(), samples().masks),
        ["IoU", "F1", "average precision"],
    ),
    "DemoSamples": (samples, ["label", "class", "object's pixels"]),
    "Completeness": (
        lambda: TokenInputXGradient(demo.load_model()).completeness(
            samples().images, samples().labels
        ),
        ["score", "total", "error"],
    ),
}


class Cells(HTMLParser):
    """Counts a table's rows, and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.texts = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.rows += tag == "tr"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_line_for_each_example(name: str) -> None:
    make, columns = RESULTS[name]
    result = make()
    title, head, *lines = repr(result).splitlines()
    assert title.startswith(f"{name} of {N} examples")
    assert all(column in head for column in columns)
    assert [line.split()[0] for line in lines[:-1]] == list(map(str, range(MOST_LINES)))
    assert lines[-1] == "  ... and 2 more"
    assert "tensor" not in repr(result) and len(repr(result)) < 2000
    assert len({len(line) for line in [head, *lines[:-1]]}) == 1
    cells = Cells()
    cells.feed(result._repr_html_())  # type: ignore[attr-defined]
    assert cells.rows == MOST_LINES + 1
    assert all(column in cells.texts for column in columns)


def test_the_figures_are_those_of_the_result() -> None:
    x = torch.tensor([[3.0, 1.0, 0.0]])
    found = metrics.perturbation_scores(lambda x: x.sum(1), x, x)
    assert repr(found).splitlines() == [
        "PerturbationScores of 1 example, 3 steps",
        "  example  insertion  deletion  difference  MAS insertion  MAS deletion"
        "  MAS difference  status",
        "        0     0.7500    0.2500      0.5000         0.7500        0.2500"
        "          0.5000      ok",
    ]
    table = found._repr_html_()
    assert "<td>0.7500</td><td>0.2500</td><td>0.5000</td>" in table


def test_statuses_are_shown() -> None:
    x = torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    with pytest.warns(UserWarning, match="scores"):
        found = metrics.perturbation_scores(
            lambda x: x.sum(1), x, torch.rand(2, 2), on_degenerate="nan"
        )
    last = repr(found).splitlines()[-1]
    assert last.endswith("input scores no higher than its baseline")
    assert "nan" in last


def test_one_line_for_what_is_not_of_examples() -> None:
    images = samples().images
    model = demo.load_model()
    adapter = resolve(model)
    with torch.no_grad():
        seen = observe(adapter, images)
    scene = Scene(
        torch.zeros(4, 6, 3).numpy(),  # type: ignore[arg-type]
        torch.zeros(4, 6, 3).numpy(),  # type: ignore[arg-type]
        torch.zeros(4, 6).numpy(),
        2,
    )
    features = Features.positions((images,))
    for one in (adapter, seen, seen.attention[0], scene, features):
        assert "\n" not in repr(one)
        assert len(repr(one)) < 1500
    assert "pooling='cls'" in repr(adapter)
    assert "outputs=<float32 (12, 10)>" in repr(seen)
    assert repr(scene) == "Scene(label=2, 4 x 6 pixels)"


@dataclass(repr=False)
class Thing(Brief):
    value: object


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "1.5"),
        (None, "None"),
        ((1, "a"), "(1, 'a')"),
        ((1,), "(1,)"),
        ([torch.zeros(2)], "[<float32 (2,)>]"),
        ([torch.zeros(2)] * 9, "<9 of Tensor>"),
        (torch.nn.Linear(2, 2), "<Linear>"),
        ({"a": 1}, "<dict of 1>"),
        (Thing(1), "<Thing>"),
        ("x" * 99, "<str>"),
    ],
)
def test_brief_values(value: object, shown: str) -> None:
    assert brief(value) == shown
    assert repr(Thing(value)) == f"Thing(value={shown})"


def test_markup_is_escaped() -> None:
    made = as_html("a < b", {"<i>": ["<script>"]})
    assert "<script>" not in made and "<i>" not in made
    assert "&lt;script&gt;" in made and "a &lt; b" in made


def test_numbers_of_all_sizes_and_no_examples() -> None:
    values = torch.tensor([0.5, 0.0, 1e-7, 123456.0, float("nan"), -float("inf")])
    lines = as_text("t", {"v": values}).splitlines()[2:]
    assert [line.split()[1] for line in lines] == [
        "0.5000",
        "0",
        "1e-07",
        "1.235e+05",
        "nan",
        "-inf",
    ]
    assert as_text("t", {"v": []}).splitlines() == ["t", "  example  v"]
