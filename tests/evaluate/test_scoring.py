"""All maps under all metrics in one table: its numbers are those of the functions."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import pytest
import torch
from helpers import Recorder, Snapshot
from torch import Tensor

from captum_mda import demo, MetricDrivenAttribution, metrics, patch_feature_mask
from captum_mda.metrics import METRICS
from captum_mda.metrics.statistics import mean_interval

pandas = pytest.importorskip("pandas")

SIZE, PATCH = 4, 2
DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 2, SIZE, SIZE, generator=DRAW)
WEIGHTS = torch.rand(2, SIZE, SIZE, generator=DRAW)
MAPS = {
    "true": IMAGES * WEIGHTS,
    "grid": torch.rand(3, 1, 2, 2, generator=DRAW),
    "numbers": torch.rand(3, 4, generator=DRAW),
}
MASKS = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
MASKS[:, :2, 1:3] = True
FEATURES = patch_feature_mask(IMAGES, PATCH)
FEW: dict[str, Any] = {"n_resamples": 99}
NAN = math.nan


def logits(images: Tensor) -> Tensor:
    total = (images * WEIGHTS.to(images)).flatten(1).sum(dim=1)
    return torch.stack([total, 0.1 * images.flatten(1).sum(dim=1)], dim=1)


def evaluate(**changes: Any) -> Any:
    given: dict[str, Any] = {
        "forward_func": logits,
        "inputs": IMAGES,
        "maps": MAPS,
        "target": 0,
        "feature_mask": FEATURES,
    }
    return metrics.evaluate(**{**given, **FEW, **changes})


@pytest.fixture(scope="module")
def demo_case() -> dict[str, Any]:
    images, labels, masks = demo.make_samples(n=3, seed=2)
    mask = patch_feature_mask(images, demo.PATCH_SIZE)
    draw = torch.Generator().manual_seed(1)
    noise = torch.rand(images[:, :1].shape, generator=draw)
    grid = torch.rand(3, 1, 8, 8, generator=draw)
    return {
        "forward_func": demo.load_model(),
        "inputs": images,
        "maps": {"object": masks.view_as(noise) + noise / 9, "grid": grid},
        "target": labels,
        "feature_mask": mask,
        "insertion_baselines": images.mean(dim=(2, 3), keepdim=True),
        "masks": masks,
        "n_steps": 8,
    }


def test_five_lines_give_all_metrics_with_means_intervals_and_arrows(
    demo_case: dict[str, Any],
) -> None:
    model, images, target = (
        demo_case[each] for each in ("forward_func", "inputs", "target")
    )
    maps = demo_case["maps"]
    table = metrics.evaluate(
        model, images, maps, target, feature_mask=demo_case["feature_mask"], **FEW
    )
    assert list(table.columns) == list(maps)
    assert list(table.index) == [
        each.head for each in METRICS.values() if each.needs not in ("masks", "sums")
    ]
    assert table.attrs["left_out"] == {}
    cell = table.loc["Del \N{DOWNWARDS ARROW}", "object"]
    assert f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]" == str(cell)
    assert cell.n == 3
    shown = str(table)
    assert "..." not in shown and max(map(len, shown.splitlines())) <= 80
    for text in ("Ins ↑", "Del ↓", "Token SRG ↑", "object", "grid", str(cell)):
        assert text in shown
    assert str(cell) in table.to_csv() and str(cell) in table.to_html()


def test_scores_are_those_of_the_functions(demo_case: dict[str, Any]) -> None:
    case = dict(demo_case)
    rows = metrics.evaluate(**case, **FEW, form="examples")
    masks, maps = case.pop("masks"), case.pop("maps")
    blurred = case.pop("insertion_baselines")
    for name, map_ in maps.items():
        found = metrics.perturbation_scores(
            attributions=map_, insertion_baselines=blurred, **case
        )
        expected = {
            each.name: getattr(found, each.name)
            for each in METRICS.values()
            if each.result is metrics.PerturbationScores
            and each.name not in ("aopc", "symmetric_relevance_gain")
        }
        for function in (metrics.aopc, metrics.symmetric_relevance_gain):
            expected[function.__name__] = function(attributions=map_, **case)
        few = {k: v for k, v in case.items() if k != "n_steps"}
        for function in (
            metrics.positive_perturbation,
            metrics.negative_perturbation,
        ):
            expected[function.__name__] = function(attributions=map_, **few)
        model, images, labels = case["forward_func"], case["inputs"], case["target"]
        for function in (metrics.mif_deletion, metrics.lif_deletion):
            expected[function.__name__] = function(model, images, map_, target=labels)
        expected["token_relevance_gain"] = (
            expected["lif_deletion"] - expected["mif_deletion"]
        )
        expected["sparseness"] = metrics.sparseness(map_, case["feature_mask"])
        objects = metrics.segmentation_scores(map_, masks)
        for field in ("iou", "average_precision", "f1", "pixel_accuracy"):
            expected[field] = getattr(objects, field)
        expected["pointing_game"] = metrics.pointing_game(map_, masks)
        assert set(expected) == set(METRICS) - {"completeness_error"}
        for metric, values in expected.items():
            own = rows[(rows.method == name) & (rows.metric == metric)]
            assert list(own.example) == [0, 1, 2]
            assert own.score.tolist() == pytest.approx(values.tolist(), abs=1e-6), (
                metric
            )
            assert set(own.status) == {"ok"}


def test_maps_of_all_forms_share_their_forwards() -> None:
    recorder = Recorder(logits)
    names = ["insertion", "deletion", "mas_insertion_deletion", "monotonicity"]
    evaluate(forward_func=recorder, metrics=names)
    # Per image three rankings of four patches each way, of three steps between ends.
    assert recorder.rows <= 3 * 2 * (3 * 3 + 2)
    recorder.calls.clear()
    evaluate(forward_func=recorder, metrics="deletion", maps={"true": MAPS["true"]})
    assert recorder.rows == 3 * 5


def test_maps_are_taken_as_methods_return_them() -> None:
    mda = MetricDrivenAttribution(logits)
    explanation = mda.explain(IMAGES, target=0, feature_mask=FEATURES)
    painted = MAPS["grid"].repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps = {
        "explanation": explanation,
        "its map": explanation.attributions(),
        "grid": MAPS["grid"],
        "painted": painted,
        "numbers": MAPS["grid"].flatten(1),
    }
    rows = evaluate(maps=maps, masks=MASKS, form="examples")
    scores = rows.pivot(index=["metric", "example"], columns="method", values="score")
    assert (scores["explanation"] == scores["its map"]).all()
    for name in ("painted", "numbers"):
        assert scores["grid"].to_numpy() == pytest.approx(scores[name].to_numpy())


def test_the_long_form_has_the_numbers_of_the_cells() -> None:
    table = evaluate(masks=MASKS)
    numbers = evaluate(masks=MASKS, form="long")
    assert list(numbers.columns) == [
        *("method", "metric", "heading", "better"),
        *("mean", "low", "high", "n", "n_missing"),
    ]
    assert len(numbers) == table.size
    for row in numbers.itertuples():
        cell = table.loc[row.heading, row.method]
        assert (row.mean, row.low, row.high) == (cell.mean, cell.low, cell.high)
        assert (row.n, row.n_missing) == (cell.n, cell.n_missing)
        assert row.better == METRICS[row.metric].direction
    means = numbers.pivot(index="method", columns="heading", values="mean")
    assert means.dtypes.eq("float64").all()


def test_intervals_are_those_of_mean_interval_and_reproducible() -> None:
    rows = evaluate(form="examples", metrics=["deletion"])
    table = evaluate(metrics=["deletion"], confidence=0.8, seed=3)
    for name in MAPS:
        scores = rows[rows.method == name].score.to_numpy()
        expected = mean_interval(scores, 0.8, 99, 3)
        assert table.loc["Del ↓", name] == expected
    assert table.equals(evaluate(metrics=["deletion"], confidence=0.8, seed=3))


def test_one_image_has_means_and_no_intervals() -> None:
    one: dict[str, Any] = {
        "inputs": IMAGES[:1],
        "maps": {name: each[:1] for name, each in MAPS.items()},
        "masks": MASKS[:1],
    }
    table = evaluate(**one)
    cell = table.loc["Ins ↑", "true"]
    assert str(cell) == f"{cell.mean:.3f}"
    assert "inf" not in str(table) and "[" not in str(table)
    numbers = evaluate(**one, form="long")
    assert numbers.low.isna().all() and numbers.high.isna().all()
    assert not numbers["mean"].isna().any()


def test_examples_without_a_score_are_left_out_counted_and_named_once() -> None:
    flat = MAPS["true"].clone()
    flat[1] = 0.5
    masks = MASKS.clone()
    masks[2] = False
    names = ["deletion", "positive_perturbation", "sparseness", "iou"]
    maps = {"flat": flat, "grid": MAPS["grid"], "zero": torch.zeros(3, 4)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = evaluate(maps=maps, masks=masks, metrics=names)
    (warning,) = caught
    text = str(warning.message)
    assert warning.filename == __file__
    for part in (
        "constant map in example 1 of flat: no score, and left out of the mean, under",
        "empty mask in example 2 of flat, grid: no score",
        "all-zero map in examples 0, 1, 2 of zero",
    ):
        assert part in text
    assert table.loc["Del ↓", "flat"].n == 2
    assert table.loc["Del ↓", "flat"].n_missing == 1
    assert (table.loc["IoU ↑", "flat"].n, table.loc["IoU ↑", "grid"].n) == (1, 2)
    assert math.isnan(table.loc["Del ↓", "zero"].mean)
    assert str(table.loc["Del ↓", "zero"]) == "NaN"


def test_a_target_that_is_not_predicted_is_told_once_and_keeps_its_scores() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = evaluate(target=1, metrics=["positive_perturbation"], form="examples")
    (warning,) = caught
    assert "target not predicted in examples 0, 1, 2 of true, grid" in str(
        warning.message
    )
    assert not rows.score.isna().any()
    assert set(rows.status) == {"target not predicted"}


def test_what_a_model_does_not_allow_is_left_out_with_a_reason() -> None:
    table = evaluate()
    left_out = table.attrs["left_out"]
    tokens = ["mif_deletion", "lif_deletion", "token_relevance_gain"]
    assert list(left_out) == tokens
    assert left_out["mif_deletion"].startswith("model: got function")

    def brightness(images: Tensor) -> Tensor:
        return images.flatten(1).sum(dim=1)

    table = evaluate(forward_func=brightness, target=None, score="identity")
    hits = {"positive_perturbation", "negative_perturbation"}
    assert set(table.attrs["left_out"]) == {*tokens, *hits}
    assert {"Ins ↑", "SRG ↑"} <= set(table.index)
    assert set(evaluate(score="sigmoid").attrs["left_out"]) == {*tokens, *hits}
    table = evaluate(target=lambda outputs: outputs[:, 0])
    assert set(table.attrs["left_out"]) == {*tokens, *hits}


def test_what_is_named_and_not_allowed_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"^model: got function"):
        evaluate(metrics=["mif_deletion"])
    with pytest.raises(ValueError, match=r"maps\['grid'\]: .*interpolated") as caught:
        painted = MAPS["grid"].repeat_interleave(2, 2).repeat_interleave(2, 3)
        evaluate(maps={"grid": painted}, metrics=["completeness_error"])
    assert "attributions: " not in str(caught.value)


def test_completeness_is_of_the_outputs() -> None:
    rows = evaluate(
        maps={"true": MAPS["true"]}, metrics="completeness_error", form="examples"
    )
    assert rows.score.tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_several_inputs() -> None:
    def pair(images: Tensor, other: Tensor) -> Tensor:
        return logits(images) + other.sum(dim=1, keepdim=True) * torch.tensor([1, 0])

    other = torch.rand(3, 5, generator=torch.Generator().manual_seed(5))
    table = evaluate(
        forward_func=pair,
        inputs=(IMAGES, other),
        maps={"true": (MAPS["true"], other)},
        feature_mask=None,
    )
    assert table.loc["Del ↓", "true"].n == 3
    with pytest.raises(ValueError, match=r"^masks: they mark objects in images"):
        evaluate(
            forward_func=pair,
            inputs=(IMAGES, other),
            maps={"true": (MAPS["true"], other)},
            feature_mask=None,
            masks=MASKS,
        )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"maps": MAPS["true"]}, TypeError, "maps: got Tensor, takes a mapping"),
        ({"maps": {}}, TypeError, "maps: got none, takes a mapping"),
        (
            {"maps": {"a": None}},
            TypeError,
            r"maps\['a'\]: got NoneType, takes a tensor",
        ),
        (
            {"maps": {"a": IMAGES[:, :, :3]}},
            ValueError,
            r"maps\['a'\]: shape \(3, 2, 3,",
        ),
        ({"maps": {"a": IMAGES * NAN}}, ValueError, r"maps\['a'\]: NaN or infinite"),
        ({"metrics": ["delition"]}, ValueError, "metrics: .*did you mean 'deletion'"),
        ({"metrics": []}, TypeError, r"metrics: got \[\], takes a sequence of names"),
        ({"metrics": 3}, TypeError, "metrics: got 3, takes a sequence of names"),
        ({"metrics": [3]}, TypeError, "metrics: got 3, takes the name of a metric"),
        ({"metrics": ["iou"]}, ValueError, "masks: got None, but 'iou' compares maps"),
        ({"masks": MASKS[:2]}, ValueError, r"masks: got shape \(2, 4, 4\)"),
        ({"masks": MASKS.float()}, TypeError, "masks: got dtype torch.float32"),
        ({"form": "wide"}, ValueError, "form: got 'wide', takes"),
        ({"confidence": 95}, ValueError, "confidence: got 95"),
        ({"n_steps": 0}, ValueError, "n_steps: got 0"),
        ({"insertion_baselines": torch.ones(7)}, ValueError, "insertion_baselines: "),
        ({"deletion_baselines": torch.ones(7)}, ValueError, "deletion_baselines: "),
        ({"target": [0, 0]}, ValueError, "target: got 2 entries for 3 examples"),
        ({"convention": "loud"}, ValueError, "convention: got 'loud'"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_forward(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    recorder = Recorder(logits)
    with pytest.raises(error, match=f"^{message}"):
        evaluate(**{"forward_func": recorder, **changes})
    assert not recorder.calls


def test_without_pandas_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    recorder = Recorder(logits)
    with pytest.raises(ImportError, match=r"pip install .captum_mda\[evaluate\]"):
        evaluate(forward_func=recorder)
    assert not recorder.calls


def test_the_models_own_warnings_are_passed_on_once() -> None:
    def warning(images: Tensor) -> Tensor:
        warnings.warn("of the model", RuntimeWarning, stacklevel=1)
        return logits(images)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(forward_func=warning, metrics=["insertion", "aopc"])
    assert [str(each.message) for each in caught] == ["of the model"]


def test_the_model_is_left_as_it_was(demo_case: dict[str, Any]) -> None:
    model = demo_case["forward_func"]
    before = Snapshot(model)
    metrics.evaluate(**demo_case, **FEW)
    before.assert_unchanged()
