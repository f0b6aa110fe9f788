"""Bad arguments of every public callable: refused by name, before the first forward."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from bad_arguments import flag, Row, ROWS, WITHOUT_ARGUMENTS
from helpers import Recorder

import captum_mda
from captum_mda import demo, metrics, visualize
from captum_mda.metrics import statistics

CASES = [
    pytest.param(row, argument, id=f"{row.name}-{argument}")
    for row in ROWS
    for argument, kind in row.takes.items()
    if kind(row.good().get(argument, torch.ones(2, 3)))
]


def call(row: Row, arguments: dict[str, Any]) -> tuple[Any, int]:
    """Call it, and count the forwards."""
    recorder = None
    if callable(arguments.get("forward_func")):
        recorder = Recorder(arguments["forward_func"])
        arguments = arguments | {"forward_func": recorder}
    before = row.calls()
    result = (row.call or row.function)(**arguments)
    return result, row.calls() - before + (len(recorder.calls) if recorder else 0)


@pytest.mark.filterwarnings("ignore")  # sparse rows and nested tensors are prototypes
@pytest.mark.parametrize(("row", "argument"), CASES)
def test_a_bad_argument_is_refused_by_its_name(row: Row, argument: str) -> None:
    good = row.good()
    problems = []
    for what, value in row.takes[argument](
        good.get(argument, torch.ones(2, 3))
    ).items():
        arguments, recorder = good | {argument: value}, None
        if argument != "forward_func" and "forward_func" in arguments:
            recorder = Recorder(arguments["forward_func"])
            arguments["forward_func"] = recorder
        before = row.calls()
        try:
            (row.call or row.function)(**arguments)
        except (ValueError, TypeError, IndexError) as error:
            if not re.match(rf"{argument}\b", str(error)):
                problems.append(f"{what}: {type(error).__name__}: {error}")
        except Exception as error:
            problems.append(f"{what}: {type(error).__name__}: {error}")
        else:
            problems.append(f"{what}: taken")
        if row.calls() != before or (recorder is not None and recorder.calls):
            problems.append(f"{what}: after a forward")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_argument_is_in_the_table(row: Row) -> None:
    function = inspect.unwrap(row.function)
    parameters = set(inspect.signature(function).parameters) - {"self"}
    assert parameters == set(row.takes) - {"self"}


MODULES: list[tuple[str, ModuleType]] = [
    ("", captum_mda),
    ("metrics.", metrics),
    ("metrics.statistics.", statistics),
    ("visualize.", visualize),
    ("demo.", demo),
]


def test_every_public_callable_is_in_the_table() -> None:
    public = {
        f"{prefix}{name}"
        for prefix, module in MODULES
        for name in module.__all__
        if callable(getattr(module, name))
    }
    assert public - {row.name for row in ROWS} == WITHOUT_ARGUMENTS


def test_every_public_method_is_in_the_table() -> None:
    names = {row.name for row in ROWS}
    for name in captum_mda.__all__:
        kind = getattr(captum_mda, name)
        if inspect.isclass(kind) and hasattr(kind, "attribute"):
            own = {"attribute", "explain", "completeness", "patched_scores"}
            for method in own & set(dir(kind)):
                assert f"{name}.{method}" in names


WITH_NUMBERS = [
    pytest.param(row, argument, value, id=f"{row.name}-{argument}-{value!r}")
    for row in ROWS
    for argument, value in (
        ("n_steps", np.int64(3)),
        ("max_examples_per_batch", np.int32(2)),
        ("perturbations_per_eval", np.uint8(2)),
        ("internal_batch_size", np.int64(1)),
        ("show_progress", np.bool_(False)),
        ("tau", np.float32(0.5)),
        ("n_resamples", np.int64(99)),
        ("seed", np.int64(1)),
        ("bins", np.int16(4)),
        ("kernel_size", np.int64(3)),
        ("start_layer", np.int64(1)),
        ("refine", np.int64(1)),
    )
    if argument in row.takes and row.name != "demo.make_samples"
]


@pytest.mark.parametrize(("row", "argument", "value"), WITH_NUMBERS)
def test_numpys_numbers_are_taken(row: Row, argument: str, value: Any) -> None:
    call(row, row.good() | {argument: value})


def test_there_are_flags_and_cases() -> None:
    assert len(CASES) > 300
    assert sum(flag in row.takes.values() for row in ROWS) > 30
