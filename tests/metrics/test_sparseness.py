"""The Gini index: by hand, by its definition, and its properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_mda.metrics._degenerate import report_degenerate
from captum_mda.metrics.sparseness import sparseness

weights = st.lists(
    st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=12
).filter(any)


def check(actual: Tensor, expected: object, tolerance: float = 1e-12) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


def literal_gini(values: list[float]) -> float:
    """The mean absolute difference of all pairs, over twice the mean."""
    sizes = [abs(value) for value in values]
    n, mean = len(sizes), sum(sizes) / len(sizes)
    differences = sum(abs(one - other) for one in sizes for other in sizes)
    return differences / (2 * n**2 * mean)


def test_by_hand() -> None:
    maps = torch.tensor([[1.0, -1, 1, 1], [0, 0, -7, 0], [1, 2, 3, 4], [0, 0, 5, -5]])
    check(sparseness(maps), [0, 3 / 4, 1 / 4, 1 / 2])


@settings(deadline=None, max_examples=200)
@given(weights)
def test_it_is_the_mean_difference_over_twice_the_mean(values: list[float]) -> None:
    score = sparseness(torch.tensor([values], dtype=torch.float64))
    assert score.dtype == torch.float64 and score.shape == (1,)
    check(score, [literal_gini(values)])
    assert 0 <= score.item() <= 1 - 1 / len(values)


@settings(deadline=None, max_examples=100)
@given(weights, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_scale_sign_and_order_do_not_matter(
    values: list[float], scale: float, random: object
) -> None:
    moved = [-scale * value for value in values]
    random.shuffle(moved)  # type: ignore[attr-defined]
    both = torch.tensor([values, moved], dtype=torch.float64)
    one, other = sparseness(both)
    check(one, other, 1e-10)


@settings(deadline=None, max_examples=100)
@given(weights, st.data())
def test_giving_to_a_smaller_feature_makes_it_less_sparse(
    values: list[float], data: st.DataObject
) -> None:
    sizes = sorted(abs(value) for value in values)
    i = data.draw(st.integers(0, len(sizes) - 2))
    gift = (sizes[i + 1] - sizes[i]) / 4
    evened = [*sizes[:i], sizes[i] + gift, sizes[i + 1] - gift, *sizes[i + 2 :]]
    before, after = sparseness(torch.tensor([sizes, evened], dtype=torch.float64))
    assert after < before if gift > 1e-6 else after <= before + 1e-12


@pytest.mark.parametrize("n_features", [1, 2, 3, 7, 49])
def test_the_ends_of_the_range_are_met_and_not_left(n_features: int) -> None:
    one_hot = torch.zeros(1, n_features)
    one_hot[0, n_features // 2] = 0.1
    check(sparseness(one_hot), [1 - 1 / n_features])
    assert sparseness(one_hot) <= 1 - 1 / n_features
    assert 0 <= sparseness(torch.full((1, n_features), 0.1)) < 1e-15


def test_batch_equals_singles() -> None:
    maps = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    together = sparseness(maps)
    for i in range(4):
        check(together[i : i + 1], sparseness(maps[i : i + 1]))
    assert len(set(together.tolist())) == 4


# --- features ---------------------------------------------------------------

# Positions, channels summed: 3, 0, 1, 4.
IMAGE = torch.tensor([[[[1.0, 2.0], [0.0, 3.0]], [[2.0, -2.0], [1.0, 1.0]]]])


def test_the_channels_of_a_position_are_summed_before_their_sign_goes() -> None:
    check(sparseness(IMAGE), [literal_gini([3, 0, 1, 4])])


def test_a_mask_makes_groups_that_weigh_their_absolute_sum() -> None:
    columns = torch.tensor([[0, 1], [0, 1]])
    check(sparseness(IMAGE, columns), [literal_gini([4, 4])])
    channels = torch.tensor([0, 5]).view(1, 2, 1, 1)  # with a gap
    check(sparseness(IMAGE, channels), [literal_gini([6, 2])])
    signed = torch.tensor([[3.0, -3.0, 1.0, 1.0]])
    check(sparseness(signed, torch.tensor([0, 0, 1, 2])), [literal_gini([0, 1, 1])])


def test_each_example_may_have_features_of_its_own() -> None:
    maps = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[0, 0, 1], [0, 1, 1]])
    check(sparseness(maps, mask), [literal_gini([3, 3]), literal_gini([1, 5])])


def test_the_tensors_of_a_tuple_are_one_map() -> None:
    words = torch.tensor([[6.0, 0.0]])
    check(sparseness((IMAGE, words)), [literal_gini([3, 0, 1, 4, 6, 0])])
    mask = (torch.tensor([[0, 1], [0, 1]]), torch.tensor([1, 2]))
    check(sparseness((IMAGE, words), mask), [literal_gini([4, 10, 0])])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64])
def test_maps_of_any_real_type_are_left_as_they_are(dtype: torch.dtype) -> None:
    maps = IMAGE.to(dtype)
    if dtype.is_floating_point:
        maps.requires_grad_()
    score = sparseness(maps)
    check(score, [literal_gini([3, 0, 1, 4])])
    assert not score.requires_grad
    assert torch.equal(maps.detach(), IMAGE.to(dtype))


# --- degenerate maps, and what is refused -----------------------------------


def test_a_zero_map_is_an_error_or_nan() -> None:
    maps = torch.tensor([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    message = r'^attributions: all-zero map in example 1 and 1 more; .*="nan"$'
    with pytest.raises(ValueError, match=message):
        sparseness(maps)
    with pytest.warns(UserWarning, match=r"1 \(all-zero map\), 3 \(all-zero") as log:
        scores = sparseness(maps, on_degenerate="nan")
    assert len(log) == 1 and log[0].filename == __file__
    assert scores.isnan().tolist() == [False, True, False, True]
    check(scores[::2], [literal_gini([1, 3]), 1 / 2])


def test_features_that_cancel_weigh_nothing() -> None:
    with pytest.raises(ValueError, match="all-zero map in example 0; "):
        sparseness(torch.tensor([[1.0, -1.0, 2.0, -2.0]]), torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attributions": [IMAGE]}, TypeError, "attributions: got list, takes a tens"),
        ({"attributions": (IMAGE, 1)}, TypeError, "attributions: got int, takes a te"),
        ({"attributions": ()}, ValueError, "attributions: got an empty tuple, takes "),
        ({"attributions": IMAGE.cfloat()}, TypeError, "attributions: got dtype torch"),
        ({"attributions": IMAGE.to_sparse()}, TypeError, "attributions: got a torch."),
        ({"attributions": IMAGE[:0]}, ValueError, r"attributions: got shape \(0, 2, "),
        ({"attributions": torch.tensor(1.0)}, ValueError, r"attributions: got shape "),
        ({"attributions": IMAGE * math.inf}, ValueError, "attributions: NaN or infin"),
        (
            {"attributions": (IMAGE, IMAGE.repeat(2, 1, 1, 1))},
            ValueError,
            "attributions: the tensors hold 1 and 2 examples",
        ),
        ({"feature_mask": torch.zeros(2, 2)}, TypeError, "feature_mask: got dtype to"),
        ({"feature_mask": torch.zeros(2, 2).long()}, ValueError, "one feature only"),
        ({"feature_mask": torch.arange(3)}, ValueError, r"feature_mask: shape \(3,\)"),
        ({"on_degenerate": "zero"}, ValueError, "on_degenerate: got 'zero', takes on"),
        ({"mask": None}, TypeError, "unexpected keyword argument 'mask'"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sparseness(**({"attributions": IMAGE} | changes))


# --- the report that metrics share ------------------------------------------


@pytest.mark.parametrize("on_degenerate", ["raise", "nan"])
def test_nothing_is_reported_of_examples_that_can_be_scored(
    on_degenerate: str, recwarn: pytest.WarningsRecorder
) -> None:
    report_degenerate("inputs", ["ok", "ok"], on_degenerate, "x")  # type: ignore[arg-type]
    report_degenerate("inputs", [], on_degenerate, "x")  # type: ignore[arg-type]
    assert not recwarn.list


def test_a_report_names_argument_example_fault_and_remedy() -> None:
    status = ["ok", "constant curve", "ok", "constant map"]
    with pytest.raises(ValueError) as error:
        report_degenerate("inputs", status, "raise", "drop such examples")
    assert str(error.value) == (
        "inputs: constant curve in example 1 and 1 more; drop such examples, or pass "
        'on_degenerate="nan"'
    )
    with pytest.warns(UserWarning) as log:
        report_degenerate("inputs", status, "nan", "drop such examples")
    assert log[0].filename == __file__
    assert str(log[0].message) == (
        "inputs: cannot score examples 1 (constant curve), 3 (constant map); their "
        "values are NaN"
    )
