"""Insertion, deletion and MAS: by hand, against the formulas, and their properties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import literal_area, literal_density, literal_mas, literal_monotone
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor

from captum_mda import metrics
from captum_mda.curves import Mode
from captum_mda.metrics import ResponseCurve
from captum_mda.metrics._arguments import Convention

MODES: tuple[Mode, ...] = ("insertion", "deletion")
CONVENTIONS: tuple[Convention, ...] = ("mas", "rise")


def total(inputs: Tensor) -> Tensor:
    """The sum of each example, a model whose every score can be read off."""
    return inputs.flatten(1).sum(dim=1)


def check(actual: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


# --- by hand ----------------------------------------------------------------

# Pixels 4, 1, 2, 3 in raster order; MISLED ranks them 3, 2, 1, 4.
IMAGE = torch.tensor([[[[4.0, 1.0], [2.0, 3.0]]]])
MISLED = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def test_an_aligned_map_of_a_linear_model_has_no_penalty() -> None:
    curve = metrics.response_curve(total, IMAGE, IMAGE)
    check(curve.raw, [[0, 4, 7, 9, 10]])
    check(curve.response, [[0, 0.4, 0.7, 0.9, 1]])
    check(curve.density, [[0, 0.4, 0.7, 0.9, 1]])
    check(curve.penalty, [[0, 0, 0, 0, 0]])
    check(curve.mas, [[0, 0.4, 0.7, 0.9, 1]])
    check(curve.area, [0.625])
    check(curve.mas_area, [0.625])
    assert curve.mode == "insertion"


def test_all_six_scores_of_a_misled_map() -> None:
    scores = metrics.perturbation_scores(total, IMAGE, MISLED)
    inserted, deleted = scores.insertion_curve, scores.deletion_curve
    check(inserted.raw, [[0, 3, 5, 6, 10]])
    check(inserted.density, [[0, 0.4, 0.7, 0.9, 1]])
    check(inserted.penalty, [[0, 0.1, 0.2, 0.3, 0]])
    check(inserted.mas, [[0, 0.2, 0.3, 0.3, 1]])
    check(deleted.raw, [[10, 7, 5, 4, 0]])
    check(deleted.density, [[1, 0.6, 0.3, 0.1, 0]])
    check(deleted.mas, [[1, 0.8, 0.7, 0.7, 0]])
    assert (inserted.mode, deleted.mode) == ("insertion", "deletion")
    check(scores.insertion, [0.475])
    check(scores.deletion, [0.525])
    check(scores.insertion_deletion, [-0.05])
    check(scores.mas_insertion, [0.325])
    check(scores.mas_deletion, [0.675])
    check(scores.mas_insertion_deletion, [-0.35])


def test_the_single_scores_are_those_of_the_sweep() -> None:
    scores = metrics.perturbation_scores(total, IMAGE, MISLED)
    check(metrics.insertion(total, IMAGE, MISLED), scores.insertion)
    check(metrics.deletion(total, IMAGE, MISLED), scores.deletion)
    check(metrics.mas_insertion(total, IMAGE, MISLED), scores.mas_insertion)
    check(metrics.mas_deletion(total, IMAGE, MISLED), scores.mas_deletion)


def test_rise_takes_the_area_of_the_raw_scores_in_the_signed_ranking() -> None:
    signed = MISLED * torch.tensor([[1.0, 1.0], [-1.0, 1.0]])  # ranks 3, 1, 4, 2
    curve = metrics.response_curve(total, IMAGE, signed, convention="rise")
    check(curve.raw, [[0, 3, 4, 8, 10]])
    assert torch.equal(curve.response, curve.raw)
    check(curve.area, [(0 + 3 + 4 + 8 + 5) / 4])
    check(curve.density, [[0, 0.4, 0.6, 0.7, 1]])  # of the absolute values
    check(curve.penalty, [[0, 0.1, 0.2, 0.1, 0]])
    by_size = metrics.response_curve(total, IMAGE, signed, convention="mas")
    check(by_size.raw, [[0, 3, 5, 6, 10]])


def test_both_sweeps_may_have_a_baseline_of_their_own() -> None:
    scores = metrics.perturbation_scores(
        total, IMAGE, IMAGE, insertion_baselines=1, deletion_baselines=-1.0
    )
    check(scores.insertion_curve.raw, [[4, 7, 9, 10, 10]])
    check(scores.deletion_curve.raw, [[10, 5, 1, -2, -4]])
    check(scores.insertion_curve.response, [[0, 0.5, 5 / 6, 1, 1]])


def test_channels_move_together_and_are_ranked_by_their_sum() -> None:
    image = torch.tensor([[[[1.0, 2.0]], [[3.0, 10.0]]]])  # (1, 2, 1, 2)
    signed = torch.tensor([[[[5.0, 1.0]], [[-5.0, 1.0]]]])  # sums 0 and 2
    check(metrics.response_curve(total, image, signed).raw, [[0, 12, 16]])


def test_a_map_with_one_channel_is_the_map_with_equal_channels() -> None:
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    one = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    single = metrics.response_curve(total, image, one)
    repeated = metrics.response_curve(total, image, one.repeat(1, 3, 1, 1))
    assert torch.equal(single.raw, repeated.raw)
    assert torch.equal(single.density, repeated.density)


def test_steps_move_whole_features_ranked_by_their_sums() -> None:
    mask = torch.tensor([[0, 1], [1, 0]])  # sums of MISLED: 5 and 5; of IMAGE: 7 and 3
    curve = metrics.response_curve(total, IMAGE, IMAGE, feature_mask=mask)
    check(curve.raw, [[0, 7, 10]])
    check(curve.density, [[0, 0.7, 1]])


def test_every_example_may_have_features_of_its_own() -> None:
    images = IMAGE.repeat(2, 1, 1, 1)
    mask = torch.tensor([[[[0, 1], [1, 0]]], [[[0, 0], [1, 1]]]])
    ranked = torch.tensor([[[[4.0, 1.0], [2.0, 4.0]]]])
    curve = metrics.response_curve(total, images, ranked, feature_mask=mask)
    check(curve.raw, [[0, 7, 10], [0, 5, 10]])


def test_a_number_shared_by_two_inputs_moves_in_both() -> None:
    def model(one: Tensor, two: Tensor) -> Tensor:
        return one.sum(dim=1) + 10 * two.sum(dim=1)

    inputs = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    attributions = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 9.0]])
    mask = torch.tensor([[0, 1]]), torch.tensor([[1, 2]])
    curve = metrics.response_curve(
        model, inputs, attributions, baselines=(0, 1.0), feature_mask=mask
    )
    # Feature 2 (9), feature 1 (2), feature 0 (1), from one = (0, 0), two = (1, 1).
    check(curve.raw, [[20, 50, 72, 73]])
    check(curve.density, [[0, 9 / 12, 11 / 12, 1]])


def test_arguments_may_be_given_by_position() -> None:
    def model(rows: Tensor, factor: int) -> Tensor:
        return torch.stack([rows.sum(1), factor * rows.sum(1)], dim=1)

    rows = torch.tensor([[3.0, 1.0, 0.5]])
    mask = torch.tensor([0, 1, 1])
    arguments = (model, rows, rows, 0.5, mask, 2, 1, 3, 1, False)
    curve = metrics.response_curve(*arguments, score="identity")
    check(curve.raw, [[3, 8, 9]])
    check(metrics.insertion(*arguments, score="identity"), curve.area)
    both = (*arguments[:3], 0.5, 0.0, *arguments[4:])
    scores = metrics.perturbation_scores(*both, score="identity")
    check(scores.insertion_curve.raw, [[3, 8, 9]])
    check(scores.deletion_curve.raw, [[9, 3, 0]])


# --- ties and steps ---------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "raw"), [("mas", [0, 3, 5, 6, 10]), ("rise", [0, 3, 7, 8, 10])]
)
def test_ties_go_to_the_higher_index_under_mas_and_the_lower_under_rise(
    convention: Convention, raw: list[float]
) -> None:
    tied = torch.tensor([[[[1.0, 1.0], [1.0, 2.0]]]])
    curve = metrics.response_curve(total, IMAGE, tied, convention=convention)
    check(curve.raw, [raw])


@pytest.mark.parametrize(
    ("n_steps", "counts"),
    [
        (1, [0, 5]),
        (2, [0, 2, 5]),
        (3, [0, 1, 3, 5]),
        (4, [0, 1, 2, 3, 5]),
        (5, [0, 1, 2, 3, 4, 5]),
        (99, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_steps_are_as_equal_as_can_be(n_steps: int, counts: list[int]) -> None:
    ones, falling = torch.ones(1, 5), torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    curve = metrics.response_curve(total, ones, falling, n_steps=n_steps)
    check(curve.raw, [counts])
    check(curve.density, [[float(falling[0, :count].sum()) / 15 for count in counts]])


def test_224_steps_are_the_default() -> None:
    ones = torch.ones(1, 1, 30, 30)
    ranks = torch.arange(900.0).view(ones.shape)
    assert metrics.response_curve(total, ones, ranks).raw.shape == (1, 225)


# --- against the formulas ---------------------------------------------------

CLASSES = 3


def seeded(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(n_elements: int, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """A small float64 classifier whose responses rise and fall along a sweep."""
    first, second = seeded(n_elements, 6, seed=seed), seeded(6, CLASSES, seed=seed + 1)
    return lambda rows: (rows.flatten(1) @ first).sin() @ second


def class_that_rises(
    model: Callable[[Tensor], Tensor], image: Tensor, *baselines: Tensor
) -> int:
    """Find a class that scores higher on an image than on its baselines, or -1."""
    full = model(image).softmax(1)
    gains = [full - model(other.expand(image.shape)).softmax(1) for other in baselines]
    gain = torch.stack(gains).amin(dim=0)[0]
    return int(gain.argmax()) if gain.max() > 1e-3 else -1


def literal_curve(
    response: Callable[[np.ndarray], float],
    image: np.ndarray,
    attribution: np.ndarray,
    baseline: np.ndarray,
    groups: np.ndarray,
    n_steps: int,
    mode: Mode,
    convention: Convention,
) -> dict[str, np.ndarray]:
    """Spec 10.1 for one image (C, H, W) whose pixels fall into ``groups`` (H, W)."""
    n_groups = int(groups.max()) + 1
    sums = [attribution[:, groups == group].sum() for group in range(n_groups)]
    if convention == "mas":
        order = np.argsort(np.abs(sums), kind="stable")[::-1].tolist()
    else:
        order = sorted(range(n_groups), key=lambda group: (-sums[group], group))
    n = min(n_steps, n_groups)
    moved = [order[: step * n_groups // n] for step in range(n + 1)]
    raw = []
    for groups_moved in moved:
        present = np.isin(groups, groups_moved)
        if mode == "deletion":
            present = ~present
        raw.append(response(np.where(present, image, baseline)))
    mass = [
        sum(abs(sums[group]) for group in after[len(before) :])
        for before, after in pairwise(moved)
    ]
    base, full = (raw[0], raw[-1]) if mode == "insertion" else (raw[-1], raw[0])
    monotone = literal_monotone(raw, base, full, mode)
    density = literal_density(mass, mode)
    curves = {
        "raw": raw,
        "density": density,
        "mas": literal_mas(monotone, density, mode),
    }
    curves["response"] = monotone if convention == "mas" else raw
    return {name: np.array(values) for name, values in curves.items()}


@settings(deadline=None, max_examples=120)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 4)),
    st.sampled_from(MODES),
    st.sampled_from(CONVENTIONS),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 18),
    st.integers(0, 10**6),
)
def test_curves_are_the_published_ones(
    shape: tuple[int, int, int],
    mode: Mode,
    convention: Convention,
    patchwise: bool,
    with_ties: bool,
    one_channel: bool,
    n_steps: int,
    seed: int,
) -> None:
    image, baseline = seeded(2, 1, *shape, seed=seed)
    model = network(image.numel(), seed + 2)
    target = class_that_rises(model, image, baseline)
    assume(target >= 0)
    attribution = seeded(1, 1 if one_channel else shape[0], *shape[1:], seed=seed + 4)
    if with_ties:
        attribution = attribution.round()
    groups = np.arange(shape[1] * shape[2]).reshape(shape[1:])
    if patchwise:
        groups = groups % max(2, groups.size // 2)
    full_attribution = attribution.expand(image.shape)[0].numpy()
    sums = {float(full_attribution[:, groups == g].sum()) for g in groups.flat}
    assume(len(sums if convention == "rise" else set(map(abs, sums))) > 1)

    expected = literal_curve(
        lambda z: float(model(torch.from_numpy(z)[None]).softmax(1)[0, target]),
        image[0].numpy(),
        full_attribution,
        baseline[0].numpy(),
        groups,
        n_steps,
        mode,
        convention,
    )
    curve = metrics.response_curve(
        model,
        image,
        attribution,
        baseline,
        feature_mask=torch.from_numpy(groups) if patchwise else None,
        target=target,
        n_steps=n_steps,
        mode=mode,
        convention=convention,
    )
    for name, values in expected.items():
        check(getattr(curve, name), values[None], 1e-10)
    check(curve.area, [literal_area(expected["response"])], 1e-10)
    check(curve.mas_area, [literal_area(expected["mas"])], 1e-10)


# --- properties -------------------------------------------------------------

IMAGES = seeded(3, 2, 4, 4, seed=0)
BASELINES = seeded(3, 2, 1, 1, seed=1)
MAPS = seeded(3, 1, 4, 4, seed=2).exp()
MODEL = network(32, seed=3)
TARGETS = [
    class_that_rises(MODEL, image[None], baseline[None], torch.zeros(1).double())
    for image, baseline in zip(IMAGES, BASELINES, strict=True)
]


def sweep(
    attributions: Tensor = MAPS, rows: slice = slice(None), **changes: object
) -> metrics.PerturbationScores:
    """Score the three images, or some of them."""
    arguments = {"insertion_baselines": BASELINES[rows], "n_steps": 7} | changes
    return metrics.perturbation_scores(
        MODEL, IMAGES[rows], attributions[rows], target=TARGETS[rows], **arguments
    )


def assert_same(
    one: metrics.PerturbationScores, two: metrics.PerturbationScores
) -> None:
    for name in ("insertion_curve", "deletion_curve"):
        for part in ("raw", "response", "density", "penalty", "mas"):
            actual, expected = (getattr(getattr(s, name), part) for s in (one, two))
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_the_examples_are_fit_for_the_properties() -> None:
    assert min(TARGETS) >= 0 and len(set(TARGETS)) > 1
    assert (sweep().insertion_curve.raw.diff(dim=1) < 0).any()  # not monotone


def test_scores_and_curves_lie_in_their_ranges() -> None:
    scores = sweep()
    for curve in (scores.insertion_curve, scores.deletion_curve):
        for part in (
            curve.raw,
            curve.response,
            curve.density,
            curve.penalty,
            curve.mas,
        ):
            assert part.shape == (3, 8) and part.dtype == torch.float64
            assert part.min() >= 0 and part.max() <= 1
    for name in ("insertion", "deletion", "mas_insertion", "mas_deletion"):
        values = getattr(scores, name)
        assert values.shape == (3,) and values.dtype == torch.float64
        assert values.min() >= 0 and values.max() <= 1
    difference = scores.mas_insertion - scores.mas_deletion
    assert torch.equal(scores.mas_insertion_deletion, difference)


@pytest.mark.parametrize("factor", [1e-6, 0.3, 1e6, -1.0])
def test_the_scale_of_a_map_changes_nothing(factor: float) -> None:
    assert_same(sweep(MAPS * factor), sweep())


@pytest.mark.parametrize("transform", [torch.log1p, torch.square, torch.exp])
def test_insertion_and_deletion_depend_on_the_order_only(
    transform: Callable[[Tensor], Tensor],
) -> None:
    changed, scores = sweep(transform(MAPS)), sweep()
    assert torch.equal(changed.insertion, scores.insertion)
    assert torch.equal(changed.deletion, scores.deletion)
    assert not torch.allclose(changed.mas_insertion, scores.mas_insertion)


@pytest.mark.parametrize("max_examples_per_batch", [1, 2, 5, 1000])
def test_chunks_change_nothing(max_examples_per_batch: int) -> None:
    assert_same(sweep(max_examples_per_batch=max_examples_per_batch), sweep())


@pytest.mark.parametrize("mask", [None, torch.arange(16).view(4, 4) // 3])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_batch_is_its_examples(mask: Tensor | None, convention: Convention) -> None:
    together = sweep(feature_mask=mask, convention=convention)
    for i in range(3):
        alone = sweep(rows=slice(i, i + 1), feature_mask=mask, convention=convention)
        check(alone.insertion, together.insertion[i : i + 1])
        check(alone.deletion, together.deletion[i : i + 1])
        check(alone.mas_insertion, together.mas_insertion[i : i + 1])
        check(alone.mas_deletion, together.mas_deletion[i : i + 1])


def curve_of(attributions: Tensor, mode: Mode, n_steps: int = 16) -> ResponseCurve:
    return metrics.response_curve(
        MODEL,
        IMAGES,
        attributions,
        BASELINES,
        target=TARGETS,
        n_steps=n_steps,
        mode=mode,
        convention="rise",
    )


@pytest.mark.parametrize("n_steps", [1, 4, 16])
def test_inserting_an_order_is_deleting_its_reverse_backwards(n_steps: int) -> None:
    inserted = curve_of(MAPS, "insertion", n_steps)
    deleted = curve_of(1 / MAPS, "deletion", n_steps)
    check(inserted.raw, deleted.raw.flip(1))
    check(inserted.area, deleted.area)


def test_the_ends_of_both_curves_are_the_input_and_its_baseline() -> None:
    def confidence(images: Tensor) -> Tensor:
        return MODEL(images).softmax(1)[range(3), TARGETS]

    scores = sweep()
    full = confidence(IMAGES)
    check(scores.insertion_curve.raw[:, 0], confidence(BASELINES.expand(IMAGES.shape)))
    check(scores.insertion_curve.raw[:, -1], full)
    check(scores.deletion_curve.raw[:, 0], full)
    check(scores.deletion_curve.raw[:, -1], confidence(torch.zeros_like(IMAGES)))


def test_a_score_may_be_a_callable() -> None:
    logits = sweep(score="identity", convention="rise").insertion_curve.raw
    doubled = sweep(score=lambda outputs: 2 * outputs, convention="rise")
    check(doubled.insertion_curve.raw, 2 * logits)
    assert logits.max() > 1


def test_arguments_with_an_entry_for_each_example_follow_it() -> None:
    def model(images: Tensor, weight: Tensor) -> Tensor:
        return total(images) * weight

    weights = torch.tensor([1.0, 2.0, 3.0])
    images = IMAGE.repeat(3, 1, 1, 1)
    curve = metrics.response_curve(
        model, images, images, additional_forward_args=weights, max_examples_per_batch=2
    )
    check(curve.raw, np.outer(weights, [0, 4, 7, 9, 10]))
