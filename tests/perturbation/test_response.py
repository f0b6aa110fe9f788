"""Responses: targets, scores, outputs, chunks, memory, and arguments that follow."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from helpers import Recorder
from torch import nn, Tensor

from captum_mda.perturbation import Response
from captum_mda.perturbation.chunks import CPU_ROWS

# Three examples of four numbers; rows 0 to 4 stem from examples 0, 2, 1, 2, 0.
INPUTS = torch.tensor([[1.0, 2, 0, 5], [3, 1, 4, 1], [0, 0, 7, 2]])
EXAMPLES = torch.tensor([0, 2, 1, 2, 0])
ROWS = INPUTS[EXAMPLES] + torch.arange(5.0)[:, None] / 10


def identity(rows: Tensor) -> Tensor:
    return rows


def matrix(rows: Tensor) -> Tensor:
    """An output with two dimensions behind the rows: (R, 2, 2)."""
    return rows.view(-1, 2, 2)


def respond(
    forward_func: Callable[..., Tensor],
    target: object = None,
    rows: Tensor = ROWS,
    examples: Tensor = EXAMPLES,
    **arguments: object,
) -> Tensor:
    """Score rows of the three examples, by default as the outputs are."""
    settings = {"score": "identity"} | arguments
    response = Response(forward_func, 3, target, **settings)  # type: ignore[arg-type]
    return response(lambda chosen: (rows[chosen],), examples)


# --- targets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "columns"),
    [
        (1, [1, 1, 1, 1, 1]),
        ((3,), [3, 3, 3, 3, 3]),
        (torch.tensor(2), [2, 2, 2, 2, 2]),
        (torch.tensor([2]), [2, 2, 2, 2, 2]),
        (torch.tensor([[2]]), [2, 2, 2, 2, 2]),
        (torch.tensor([0, 1, 3]), [0, 3, 1, 3, 0]),
        (torch.tensor([0, 1, 3], dtype=torch.uint8), [0, 3, 1, 3, 0]),
        ([0, 1, 3], [0, 3, 1, 3, 0]),
        ([(0,), (1,), (3,)], [0, 3, 1, 3, 0]),
    ],
)
def test_a_target_chooses_each_rows_class(target: object, columns: list[int]) -> None:
    expected = [float(row[column]) for row, column in zip(ROWS, columns, strict=True)]
    assert respond(identity, target).tolist() == expected


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ((1, 0), [(1, 0)] * 5),
        ([(0, 1), (1, 1), (1, 0)], [(0, 1), (1, 0), (1, 1), (1, 0), (0, 1)]),
    ],
)
def test_a_tuple_chooses_from_an_output_of_more_dimensions(
    target: object, places: list[tuple[int, int]]
) -> None:
    outputs = matrix(ROWS)
    expected = [float(outputs[(row, *place)]) for row, place in enumerate(places)]
    assert respond(matrix, target).tolist() == expected


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1)])
def test_one_value_for_each_row_needs_no_target(shape: tuple[int, ...]) -> None:
    values = respond(lambda rows: rows.sum(dim=1).view(shape))
    assert torch.equal(values, ROWS.sum(dim=1))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (True, TypeError, "target: got True, takes an int, a tuple of ints"),
        (1.0, TypeError, "target: got 1.0, takes an int"),
        ("1", TypeError, "target: got '1', takes an int"),
        ((1, 0.0), TypeError, r"target: got \(1, 0.0\), takes"),
        ([0, 1.0, 2], TypeError, "target: got 1.0, takes"),
        ([0, True, 2], TypeError, "target: got True, takes"),
        (torch.tensor([0.0, 1, 2]), TypeError, "target: got dtype torch.float32"),
        (torch.tensor([True] * 3), TypeError, "target: got dtype torch.bool"),
        (torch.tensor([0, 1]), ValueError, "target: got 2 entries for 3 examples"),
        (
            torch.tensor([[0], [1], [2]]),
            ValueError,
            r"target: .* shape \(3, 1\)",
        ),
        (torch.tensor([], dtype=torch.int64), ValueError, "got 0 entries for 3"),
        ([0, 1], ValueError, "target: got 2 entries for 3 examples; give one for all"),
        ([0], ValueError, "target: got 1 entries for 3 examples"),
        ([], ValueError, r"target: got \[\], takes a list"),
        ([(0,), (0, 1), (1,)], ValueError, "target: .* tuples of one length"),
        ((), ValueError, "target: got an empty tuple"),
        (-1, ValueError, "target: got -1, takes classes from 0 on"),
        ([0, -2, 1], ValueError, "target: got -2, takes classes from 0 on"),
        (torch.tensor([0, 1, -3]), ValueError, "target: got -3, takes classes"),
    ],
)
def test_targets_of_no_known_form_are_refused_at_once(
    target: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Response(identity, 3, target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("forward_func", "target", "message"),
    [
        (identity, 4, r"target: 4 is out of range for .*\(5, 4\); takes 0 to 3"),
        (identity, [0, 1, 9], "target: 9 is out of range"),
        (identity, (0, 0), r"target: has 2 entries for each example, but .* takes 1"),
        (matrix, (0, 2), r"target: 2 is out of range for .*\(5, 2, 2\); takes 0 to 1"),
        (matrix, 1, r"target: has 1 entries for each example, but .* takes 2"),
        (identity, None, r"target: None, but forward_func returned \(5, 4\); pass the"),
        (
            lambda rows: rows.sum(1),
            0,
            "target: given, but .* one value .* target=None",
        ),
    ],
)
def test_targets_that_do_not_fit_the_output_are_refused(
    forward_func: Callable[[Tensor], Tensor], target: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        respond(forward_func, target)


# --- scores -----------------------------------------------------------------


def test_softmax_is_taken_over_the_classes() -> None:
    exponentials = ROWS.double().exp()
    expected = exponentials[:, 2] / exponentials.sum(dim=1)
    values = respond(identity, 2, score="softmax")
    torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=0)


def test_softmax_of_more_dimensions_is_taken_over_the_first_of_them() -> None:
    exponentials = matrix(ROWS).double().exp()
    expected = exponentials[:, 1, 0] / (exponentials[:, 0, 0] + exponentials[:, 1, 0])
    values = respond(matrix, (1, 0), score="softmax")
    torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_outputs_without_classes_are_their_own_score(shape: tuple[int, ...]) -> None:
    values = respond(lambda rows: rows.sum(1).view(shape), score="softmax")
    assert torch.equal(values, ROWS.sum(dim=1))


def test_softmax_is_the_default() -> None:
    response = Response(identity, 3, 0)
    values = response(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert torch.equal(values, ROWS.softmax(dim=1)[:, 0])


def test_a_callable_maps_the_outputs_before_the_target_is_chosen() -> None:
    values = respond(identity, 3, score=lambda outputs: outputs[:, :] ** 2)
    assert torch.equal(values, ROWS[:, 3] ** 2)
    values = respond(identity, None, score=lambda outputs: outputs.amax(dim=1))
    assert torch.equal(values, ROWS.amax(dim=1))


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        ("logit", ValueError, "score: got 'logit', takes one of 'softmax', 'identity'"),
        (None, ValueError, "score: got None"),
        (
            lambda outputs: outputs.sum(),
            ValueError,
            r"score: returned shape \(\)",
        ),
        (lambda outputs: outputs.tolist(), TypeError, "score: returned list, must"),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    score: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        respond(identity, 0, score=score)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
    ],
)
@pytest.mark.parametrize("score", ["softmax", "identity"])
def test_scores_are_in_float32_or_float64(
    dtype: torch.dtype, expected: torch.dtype, score: str
) -> None:
    assert respond(lambda rows: rows.to(dtype), 0, score=score).dtype == expected


# --- outputs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (lambda rows: {"logits": rows}, TypeError, "returned dict, must return a tens"),
        (lambda rows: (rows,), TypeError, "returned tuple, .* picks the logits"),
        (lambda rows: None, TypeError, "returned NoneType"),
        (lambda rows: 0.5, TypeError, "returned float"),
        (lambda rows: rows.sum(), ValueError, r"returned shape \(\) for 5 rows"),
        (lambda rows: rows[:1], ValueError, r"returned shape \(1, 4\) for 5 rows"),
        (
            lambda rows: rows.T,
            ValueError,
            r"returned shape \(4, 5\) for 5 rows",
        ),
    ],
)
def test_outputs_that_are_not_one_for_each_row_are_refused(
    output: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"forward_func: {message}"):
        respond(output, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows_per_forward", [None, 2])
def test_scores_that_are_not_finite_name_their_example(
    value: float, rows_per_forward: int | None
) -> None:
    def spoilt(rows: Tensor) -> Tensor:
        return torch.where(rows[:, :1] == ROWS[2, 0], value, rows)

    message = "forward_func: .* NaN or infinite for 1 of 5 .* one of example 1;"
    with pytest.raises(ValueError, match=message):
        respond(spoilt, 0, rows_per_forward=rows_per_forward)


def test_only_the_score_of_the_target_need_be_finite() -> None:
    def half_finite(rows: Tensor) -> Tensor:
        return torch.stack([rows[:, 0], torch.full((len(rows),), torch.inf)], dim=1)

    assert torch.equal(respond(half_finite, 0), ROWS[:, 0])


def test_a_forward_function_must_be_callable() -> None:
    with pytest.raises(TypeError, match="forward_func: got str, takes a callable"):
        Response("model", 3)  # type: ignore[arg-type]


def test_forwards_run_without_gradient() -> None:
    weights = torch.ones(4, requires_grad=True)
    modes = []

    def model(rows: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return rows @ weights

    assert not respond(model).requires_grad
    assert modes == [False] and torch.is_grad_enabled()


def test_scores_carry_no_gradient_even_if_the_model_turns_it_on() -> None:
    weights = torch.ones(4, requires_grad=True)

    @torch.enable_grad()
    def model(rows: Tensor) -> Tensor:
        return rows @ weights

    assert not respond(model).requires_grad


# --- chunks, counts and memory ----------------------------------------------


@pytest.mark.parametrize("rows_per_forward", [1, 2, 3, 5, 7, None])
def test_chunks_change_nothing_but_the_calls(rows_per_forward: int | None) -> None:
    model = Recorder(identity)
    response = Response(model, 3, [0, 1, 3], None, "identity", rows_per_forward)
    values = response(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert values.tolist() == respond(identity, [0, 1, 3]).tolist()
    size = rows_per_forward or 5
    assert model.calls == [min(size, 5 - start) for start in range(0, 5, size)]
    assert response.forwards.tolist() == [2, 1, 2]
    assert response.n_forwards == 5


def test_counts_add_up_over_calls() -> None:
    response = Response(identity, 3, 0)
    for rows, examples in ((ROWS, EXAMPLES), (ROWS[:2], torch.tensor([1, 1]))):
        response(lambda chosen, rows=rows: (rows[chosen],), examples)
    assert response.forwards.tolist() == [2, 3, 2] and response.n_forwards == 7


def test_without_a_size_a_cpu_gets_small_chunks() -> None:
    model = Recorder(identity)
    response = Response(model, 1, 0)
    rows = torch.zeros(2 * CPU_ROWS + 3, 4)
    response(lambda chosen: (rows[chosen],), torch.zeros(len(rows), dtype=torch.int64))
    assert model.calls == [CPU_ROWS, CPU_ROWS, 3]


def limited(
    n_rows: int, message: str = "CUDA out of memory. Tried"
) -> Callable[[Tensor], Tensor]:
    """A model that has memory for ``n_rows`` rows."""

    def model(rows: Tensor) -> Tensor:
        if len(rows) > n_rows:
            raise RuntimeError(message)
        return rows

    return model


@pytest.mark.parametrize(
    ("n_rows", "calls"),
    [
        (1, [16, 8, 4, 2] + [1] * 40),
        (3, [16, 8, 4] + [2] * 20),
        (8, [16] + [8] * 5),
        (15, [16] + [8] * 5),
    ],
)
@pytest.mark.parametrize(
    "message",
    ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory"],
)
def test_chunks_are_halved_until_they_fit(
    n_rows: int, calls: list[int], message: str
) -> None:
    assert CPU_ROWS == 16
    model = Recorder(limited(n_rows, message))
    rows = torch.randn(40, 4)
    examples = torch.arange(40) % 3
    response = Response(model, 3, [0, 1, 2], score="identity")
    values = response(lambda chosen: (rows[chosen],), examples)
    assert torch.equal(values, rows[range(40), examples])
    assert response.n_forwards == 40  # what failed is not counted
    assert model.calls == calls
    response(lambda chosen: (rows[chosen],), examples)  # it has learnt the size
    assert max(model.calls[len(calls) :]) <= n_rows


def test_chunks_of_gradients_are_halved_too() -> None:
    rows, examples = torch.randn(20, 4), torch.arange(20) % 3
    response = Response(Recorder(limited(3)), 3, [0, 1, 2], score="identity")
    values, gradients = response.gradients(
        lambda points, chosen: (points * 2,), rows, examples
    )
    assert torch.equal(values, 2 * rows[range(20), examples])
    assert torch.equal(gradients, 2.0 * nn.functional.one_hot(examples, 4))
    assert response.n_forwards == 40  # each there and back
    model = Recorder(lambda rows: limited(3 if rows.requires_grad else 16)(rows))
    response = Response(model, 3, [0, 1, 2], score="identity")
    response.gradients(lambda points, chosen: (points * 2,), rows, examples)
    assert max(model.calls[1:]) < 16
    response(lambda chosen: (rows[chosen],), examples)
    assert model.calls[-2:] == [16, 4]  # forwards alone take what they took before


@pytest.mark.parametrize(
    ("model", "rows_per_forward"),
    [
        (limited(3), 4),  # an explicit size is the caller's
        (limited(0), None),  # not even one row fits
        (limited(3, "mat1 and mat2 shapes cannot be multiplied"), None),
    ],
)
def test_errors_that_halving_cannot_mend_pass_through(
    model: Callable[[Tensor], Tensor], rows_per_forward: int | None
) -> None:
    with pytest.raises(RuntimeError, match=r"out of memory|mat1"):
        respond(model, 0, rows_per_forward=rows_per_forward)


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError)]
)
def test_a_chunk_holds_a_positive_number_of_rows(
    size: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"perturbations_per_eval: got {size}, takes a pos"):
        Response(identity, 3, rows_per_forward=size)  # type: ignore[arg-type]


def test_the_bar_counts_rows() -> None:
    class Bar:
        updates: list[int] = []  # noqa: RUF012

        def update(self, n: int) -> None:
            self.updates.append(n)

    bar = Bar()
    respond(identity, 0, rows_per_forward=2, progress=bar)
    assert bar.updates == [2, 2, 1]


# --- bfloat16 ---------------------------------------------------------------

CPU = torch.device("cpu")


def in_bf16(response: Response, rows: Tensor = ROWS) -> Tensor:
    return response(lambda chosen: (rows[chosen],), EXAMPLES, CPU)


def autocast_state() -> tuple[object, ...]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("rows_per_forward", [1, 2, None])
def test_bfloat16_is_autocasts_and_scores_are_float32s(
    rows_per_forward: int | None,
) -> None:
    layer = torch.nn.Linear(4, 4)
    seen = []

    def score(outputs: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return outputs @ torch.eye(4)  # would be bfloat16's under autocast

    response = Response(layer, 3, 1, None, score, rows_per_forward)
    values = in_bf16(response)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(ROWS)[:, 1]
    assert expected.dtype == torch.bfloat16 and values.dtype == torch.float32
    assert torch.equal(values, expected.float()) and not any(seen)
    assert response.forwards.tolist() == [2, 1, 2] == response.forwards_bf16.tolist()
    response(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert response.forwards.tolist() == [4, 2, 4]
    assert response.forwards_bf16.tolist() == [2, 1, 2]


@pytest.mark.parametrize("enabled", [None, False, True])
@pytest.mark.parametrize("failure", [None, KeyboardInterrupt])
def test_the_callers_autocast_comes_back(
    enabled: bool | None, failure: type[BaseException] | None
) -> None:
    """Also its cache: a context of float16 goes on with weights of float16."""
    layer = torch.nn.Linear(4, 4)

    def model(rows: Tensor) -> Tensor:
        outputs = layer(rows)
        if failure is not None:
            raise failure
        return outputs

    outer = nullcontext()
    if enabled is not None:
        outer = torch.autocast("cpu", dtype=torch.float16, enabled=enabled)
    with outer:
        before, outputs = autocast_state(), layer(ROWS)
        with nullcontext() if failure is None else pytest.raises(failure):
            in_bf16(Response(model, 3, 0))
        assert autocast_state() == before
        assert layer(ROWS).dtype == outputs.dtype
        layer(ROWS).float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_dtypes_may_be_asked_in_bfloat16(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4).to(dtype)
    response = Response(layer, 3, 0, score="identity")
    values = in_bf16(response, ROWS.to(dtype))
    expected = layer(ROWS.to(dtype))[:, 0].to(values.dtype)
    torch.testing.assert_close(values, expected, rtol=0.05, atol=0.05)
    assert response.forwards_bf16.tolist() == [2, 1, 2]


def test_chunks_of_bfloat16_are_halved_too() -> None:
    model = Recorder(limited(2))
    response = Response(model, 3, 0)
    assert torch.equal(in_bf16(response), ROWS.softmax(1)[:, 0])
    assert response.forwards_bf16.tolist() == [2, 1, 2]


def test_what_overflows_in_bfloat16_is_said_to() -> None:
    def spoilt(rows: Tensor) -> Tensor:
        return rows * torch.inf if torch.is_autocast_enabled("cpu") else rows

    response = Response(spoilt, 3, 3)
    with pytest.raises(ValueError, match=r"infinite in bfloat16 .* precision=None"):
        in_bf16(response)


@pytest.mark.parametrize(
    ("model", "score", "expected"),
    [
        (identity, "softmax", "softmax"),
        (identity, "sigmoid", "sigmoid"),
        (identity, "identity", "identity"),
        (identity, lambda outputs: outputs.softmax(1), "score"),
    ],
)
def test_scores_say_what_they_are_made_of(
    model: Callable[[Tensor], Tensor], score: object, expected: str
) -> None:
    response = Response(model, 3, 0, score=score)  # type: ignore[arg-type]
    scored = response.evaluate(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert scored.scored_as == expected
    response = Response(lambda rows: rows.sum(1), 3)
    scored = response.evaluate(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert scored.scored_as == "value"


def test_a_bar_counts_forwards_and_leaves_the_response_without_one() -> None:
    class Bar:
        n = 0

        def update(self, amount: int) -> None:
            self.n += amount

    bar, other = Bar(), Bar()
    response = Response(identity, 3, 0, progress=other)
    counted = response.with_progress(bar)
    counted(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert (bar.n, other.n) == (5, 0)
    response(lambda chosen: (ROWS[chosen],), EXAMPLES)
    assert (bar.n, other.n) == (5, 5)
    assert response.n_forwards == counted.n_forwards == 10


# --- additional_forward_args ------------------------------------------------


@pytest.mark.parametrize("rows_per_forward", [1, 2, None])
def test_arguments_with_an_entry_for_each_example_follow_their_rows(
    rows_per_forward: int | None,
) -> None:
    per_example = torch.tensor([[10.0], [20.0], [30.0]])
    shared = torch.tensor([1.0, 2.0, 3.0, 4.0])  # its first dimension is no batch
    seen = []

    def model(rows: Tensor, added: Tensor, factor: Tensor, word: str) -> Tensor:
        seen.append(word)
        return rows * factor + added

    values = respond(
        model,
        3,
        additional_forward_args=(per_example, shared, "word"),
        rows_per_forward=rows_per_forward,
    )
    expected = ROWS[:, 3] * 4 + torch.tensor([10.0, 30, 20, 30, 10])
    assert torch.equal(values, expected)
    assert set(seen) == {"word"}


def test_a_single_argument_needs_no_tuple() -> None:
    values = respond(lambda rows, n: rows * n, 0, additional_forward_args=3)
    assert torch.equal(values, ROWS[:, 0] * 3)


def test_a_number_in_a_tensor_is_shared() -> None:
    factor = torch.tensor(2.0)
    values = respond(lambda rows, n: rows * n, 0, additional_forward_args=factor)
    assert torch.equal(values, ROWS[:, 0] * 2)


# --- memory -----------------------------------------------------------------


def test_scores_that_reuse_a_buffer_are_copied() -> None:
    buffer = torch.empty(2)

    def reusing(rows: Tensor) -> Tensor:
        buffer[: len(rows)] = rows[:, 3]
        return buffer[: len(rows)]

    assert torch.equal(respond(reusing, rows_per_forward=2), ROWS[:, 3])


def test_chunks_of_different_dtypes_are_promoted() -> None:
    def mixed(rows: Tensor) -> Tensor:
        return rows.double() if len(rows) == 1 else rows

    values = respond(mixed, 0, rows_per_forward=2)
    assert values.dtype == torch.float64
    assert torch.equal(values, ROWS[:, 0].double())


def test_chunks_leave_no_tensors_behind() -> None:
    """Small ones that live on between large ones hold on to gigabytes."""
    alive = []

    def count(rows: Tensor) -> Tensor:
        alive.append(sum(type(each) is Tensor for each in gc.get_objects()))
        return rows

    rows, examples = ROWS.repeat(4, 1), EXAMPLES.repeat(4)
    respond(count, 0, rows, examples, rows_per_forward=1)
    assert len(alive) == 20
    assert alive[-1] <= alive[1]
