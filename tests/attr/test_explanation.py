"""MDAExplanation: what it promises, and its file."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy_models import interacting_model

from captum_mda import MDAExplanation, MetricDrivenAttribution


@pytest.fixture
def explanation() -> MDAExplanation:
    mda = MetricDrivenAttribution(interacting_model(9, 1), score="identity")
    return mda.explain(torch.ones(2, 9) * torch.tensor([[1.0], [2.0]]))


def test_curves_are_monotone_with_the_right_ends(explanation: MDAExplanation) -> None:
    assert (explanation.insertion_curve.diff() >= 0).all()
    assert (explanation.deletion_curve.diff() <= 0).all()
    increments = explanation.density_curve.diff()
    assert (increments >= 0).all() and (increments.diff() <= 1e-12).all()
    for rising in (
        explanation.insertion_curve,
        explanation.mean_curve,
        explanation.density_curve,
        1 - explanation.deletion_curve,
    ):
        assert rising[:, 0].tolist() == [0.0, 0.0]
        assert rising[:, -1].tolist() == [1.0, 1.0]


@settings(deadline=None, max_examples=30)
@given(gamma=st.floats(0, 1), kappa=st.floats(0, 1), model_seed=st.integers(0, 30))
def test_attributions_fall_strictly_along_the_order(
    gamma: float, kappa: float, model_seed: int
) -> None:
    mda = MetricDrivenAttribution(
        interacting_model(20, model_seed), score="identity", on_degenerate="zero"
    )
    inputs = torch.ones(1, 20)
    if float(interacting_model(20, model_seed)(inputs)) <= 0:
        return
    explanation = mda.explain(inputs)
    ranked = explanation.feature_attributions(gamma, kappa)[0, explanation.order[0]]
    assert (ranked.diff() < 0).all() and (ranked >= 0).all()


def test_maps_need_no_model_and_share_their_range(explanation: MDAExplanation) -> None:
    forwards = explanation.n_forwards
    maps = [explanation.feature_attributions(g) for g in (0.0, 0.5, 1.0)]
    assert explanation.n_forwards == forwards
    for other in maps[1:]:
        torch.testing.assert_close(other.amax(1), maps[0].amax(1))
    torch.testing.assert_close(maps[1], (maps[0] + maps[2]) / 2, rtol=1e-5, atol=1e-7)


def test_it_is_frozen(explanation: MDAExplanation) -> None:
    with pytest.raises(FrozenInstanceError):
        explanation.order = torch.zeros(1)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["gamma", "kappa"])
def test_blend_parameters_outside_the_unit_interval_are_refused(
    explanation: MDAExplanation, name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}: got 1.5"):
        explanation.attributions(**{name: 1.5})


def test_a_saved_explanation_loads_equal(
    explanation: MDAExplanation, tmp_path: Path
) -> None:
    path = tmp_path / "mda.safetensors"
    explanation.save(path)
    again = MDAExplanation.load(path)
    for name, value in vars(explanation).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(again, name)), name
    assert (again.magnitude, again.dtype, again.is_tuple) == (
        "reference",
        torch.float32,
        False,
    )
    for gamma in (0.0, 0.3, 1.0):
        assert torch.equal(again.attributions(gamma), explanation.attributions(gamma))
    assert [file.name for file in tmp_path.iterdir()] == ["mda.safetensors"]


def test_magnitudes_made_for_mas_survive_the_file(tmp_path: Path) -> None:
    mda = MetricDrivenAttribution(
        interacting_model(9, 1), score="identity", magnitude="mas"
    )
    explanation = mda.explain(torch.ones(2, 9) * torch.tensor([[1.0], [2.0]]))
    explanation.save(tmp_path / "mda.safetensors")
    again = MDAExplanation.load(tmp_path / "mda.safetensors")
    assert again.magnitude == "mas"
    for gamma in (0.0, 0.3, 1.0):
        maps = explanation.attributions(gamma)
        assert torch.equal(again.attributions(gamma), maps)
        assert (maps.gather(1, explanation.order).diff() < 0).all()


def test_what_was_screened_survives_the_file(tmp_path: Path) -> None:
    mda = MetricDrivenAttribution(
        interacting_model(9, 1), score="identity", precision="bf16"
    )
    explanation = mda.explain(torch.ones(2, 9) * torch.tensor([[1.0], [2.0]]))
    explanation = replace(explanation, margin=torch.tensor([0.5, 0.25]).double())
    explanation.save(tmp_path / "a.safetensors")
    again = MDAExplanation.load(tmp_path / "a.safetensors")
    assert again.precision == "bf16" and again.margin.tolist() == [0.5, 0.25]
    assert torch.equal(again.forwards_bf16, explanation.forwards_bf16)
    assert (again.forwards_bf16 > 0).all()


def test_what_it_was_made_with_survives_the_file(tmp_path: Path) -> None:
    mda = MetricDrivenAttribution(interacting_model(9, 1), ordering="auto", refine=1)
    inputs = torch.ones(2, 9) * torch.tensor([[1.0], [2.0]])
    explanation = mda.explain(inputs, baselines=torch.zeros(1, 9), tau=0.8)
    facts = explanation.provenance
    assert facts["ordering"] == "joint" and facts["tau"] == 0.8 and facts["refine"] == 1
    assert facts["target"] is None and facts["seed"] == "none"
    assert facts["deletion_baseline"] == "tensor of shape (1, 9)"
    assert facts["captum_mda_version"] and facts["torch_version"]
    named = replace(explanation, provenance={**facts, "image": ("a.png", "b.png")})
    named.save(tmp_path / "a.safetensors")
    assert MDAExplanation.load(tmp_path / "a.safetensors").provenance == (
        named.provenance
    )
    again = rewritten(tmp_path / "a.safetensors", provenance="dropped")
    assert again.provenance == {}  # as of files from before it
    for wrong in ("fast", {"a": [1, 2]}, {1: "a"}):
        with pytest.raises(TypeError, match="provenance: got"):
            replace(explanation, provenance=wrong)


def test_targets_of_each_example_are_told() -> None:
    def two_classes(inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([inputs.sum(1), inputs[:, 0]], dim=1)

    mda = MetricDrivenAttribution(two_classes, score="identity", ordering="fast")
    inputs = torch.ones(2, 3)
    for target, told in ((torch.tensor([0, 1]), (0, 1)), ([1, 1], (1, 1)), (1, 1)):
        facts = mda.explain(inputs, target=target).provenance
        assert facts["target"] == told and facts["ordering"] == "fast"
        assert str(facts["model"]).endswith("two_classes")


def rewritten(
    path: Path, drop: tuple[str, ...] = (), **header: object
) -> MDAExplanation:
    """Load a file without some of its tensors, and with another header."""
    with safe_open(path, framework="pt") as file:
        (name, text), *_ = file.metadata().items()
    content = json.loads(text) | header
    for key in [key for key, value in content.items() if value == "dropped"]:
        del content[key]
    tensors = {key: value for key, value in load_file(path).items() if key not in drop}
    save_file(tensors, path, metadata={name: json.dumps(content)})
    return MDAExplanation.load(path)


def test_files_from_before_screening_load(
    explanation: MDAExplanation, tmp_path: Path
) -> None:
    path = tmp_path / "old.safetensors"
    explanation.save(path)
    again = rewritten(path, drop=("forwards_bf16", "margin"), precision="dropped")
    assert again.precision is None and torch.equal(again.order, explanation.order)
    assert again.forwards_bf16.tolist() == [0, 0] and again.margin.tolist() == [0, 0]
    assert (again.forwards_bf16.dtype, again.margin.dtype) == (
        torch.int64,
        torch.float64,
    )
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        rewritten(path, precision="fp8")


def test_tuples_and_per_example_masks_survive_the_file(tmp_path: Path) -> None:
    mda = MetricDrivenAttribution(
        lambda a, b: a.sum(1) + 2 * b.sum(1), score="identity"
    )
    masks = (torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 3, 3]))
    explanation = mda.explain((torch.ones(2, 2), torch.ones(2, 3)), feature_mask=masks)
    explanation.save(tmp_path / "a.safetensors")
    again = MDAExplanation.load(tmp_path / "a.safetensors").attributions()
    for ours, expected in zip(again, explanation.attributions(), strict=True):
        assert torch.equal(ours, expected)


def test_a_failed_save_leaves_the_old_file(
    explanation: MDAExplanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mda.safetensors"
    explanation.save(path)
    old = path.read_bytes()

    def full_disk(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("captum_mda.attr.explanation.save_file", full_disk)
    with pytest.raises(OSError, match="disk full"):
        explanation.save(path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_named(explanation: MDAExplanation, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        explanation.save(tmp_path / "nowhere" / "mda.safetensors")
    with pytest.raises(FileNotFoundError, match="no file"):
        MDAExplanation.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_files_are_refused(
    explanation: MDAExplanation, tmp_path: Path, kept: float
) -> None:
    path = tmp_path / "mda.safetensors"
    explanation.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        MDAExplanation.load(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="something else than an explanation"):
        MDAExplanation.load(path)
    path.write_bytes(b"\x89PNG\r\n" * 50)
    with pytest.raises(ValueError, match="not a safetensors file"):
        MDAExplanation.load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("order", torch.zeros(2, 9, dtype=torch.int64), "rank every feature once"),
        ("order", torch.zeros(2, 8, dtype=torch.int64), "."),
        ("mean_curve", torch.full((2, 10), torch.nan, dtype=torch.float64), "NaN"),
        ("density_curve", torch.zeros(2, 10), "density_curve is torch.float32"),
        ("feature_mask.0", torch.full((1, 9), 77, dtype=torch.int32), "do not fit"),
        ("n_inserted", None, "n_inserted"),
        ("margin", torch.zeros(2), "margin is torch.float32"),
        ("forwards_bf16", torch.zeros(3, dtype=torch.int64), "forwards_bf16 is"),
    ],
)
def test_inconsistent_files_are_refused(
    explanation: MDAExplanation,
    tmp_path: Path,
    name: str,
    value: torch.Tensor | None,
    message: str,
) -> None:
    path = tmp_path / "mda.safetensors"
    explanation.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        MDAExplanation.load(path)
