"""Modules in training mode: one true warning, and statistics that stay as they were."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn, Tensor

from captum_mda import MetricDrivenAttribution, metrics
from captum_mda._state import preserved_state
from captum_mda._state.training import depends_on_batch, draws_at_random
from captum_mda.perturbation import Response
from captum_mda.perturbation.chunks import ChunkSize, in_chunks

IMAGES = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)).abs()


class Net(nn.Module):
    """Batch normalisation and dropout in front of a linear layer."""

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(rate)
        self.head = nn.Linear(16, 2)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.dropout(self.norm(images)).flatten(1))
        return outputs


class Client:
    """Calls a model that it keeps where nobody looks."""

    __slots__ = ("_models",)

    def __init__(self, model: nn.Module) -> None:
        self._models = [model]

    def __call__(self, images: Tensor) -> Tensor:
        outputs: Tensor = self._models[0](images)
        return outputs


WRAPPINGS: dict[str, Callable[[nn.Module], Callable[[Tensor], Tensor]]] = {
    "itself": lambda model: model,
    "a method": lambda model: model.forward,
    "a lambda": lambda model: lambda images: model(images),
    "a lambda of forward": lambda model: lambda images: model.forward(images),
    "a partial": lambda model: functools.partial(model.forward),
    "an object": Client,
}


def mda(forward_func: Callable[[Tensor], Tensor]) -> object:
    mask = torch.arange(4).view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    method = MetricDrivenAttribution(forward_func, on_degenerate="zero")
    return method.explain(IMAGES, target=1, feature_mask=mask[None, None])


def deletion(forward_func: Callable[[Tensor], Tensor]) -> object:
    return metrics.deletion(
        forward_func, IMAGES, IMAGES, target=1, n_steps=3, convention="rise"
    )


def completeness(forward_func: Callable[[Tensor], Tensor]) -> object:
    return metrics.completeness_error(forward_func, IMAGES, IMAGES, target=1)


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("call", [mda, deletion, completeness])
def test_statistics_stay_and_one_warning_points_here(
    call: Callable[[Callable[[Tensor], Tensor]], object],
    wrap: Callable[[nn.Module], Callable[[Tensor], Tensor]],
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = Net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    call(wrap(model))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    of_training = [each for each in recwarn if "random numbers" in str(each.message)]
    (warning,) = of_training
    assert warning.filename == __file__
    assert "model.eval() first" in str(warning.message)
    assert "Dropout 'dropout'" in str(warning.message)
    assert "BatchNorm2d 'norm'" in str(warning.message)


@pytest.mark.parametrize("call", [mda, deletion, completeness])
def test_evaluation_mode_is_no_reason_to_warn(
    call: Callable[[Callable[[Tensor], Tensor]], object],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "inputs: example")
        call(Client(Net().eval()))


class Layered(nn.Module):
    """Skips layers at random, by a rate that it keeps as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layerdrop = 0.1


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Holds statistics that never change."""


@pytest.mark.parametrize(
    ("layer", "random", "batch"),
    [
        (nn.Dropout(0.1), True, False),
        (nn.Dropout(0.0), False, False),
        (nn.AlphaDropout(0.1), True, False),
        (nn.RReLU(), True, False),
        (nn.RReLU(0.2, 0.2), False, False),
        (nn.MultiheadAttention(2, 1, dropout=0.1), True, False),
        (Layered(), True, False),
        (nn.BatchNorm1d(2), False, True),
        (nn.SyncBatchNorm(2), False, True),
        (FrozenBatchNorm2d(2), False, False),
        (nn.InstanceNorm2d(2, track_running_stats=True), False, False),
        (nn.LayerNorm(2), False, False),
    ],
)
def test_what_training_mode_does(layer: nn.Module, random: bool, batch: bool) -> None:
    assert draws_at_random(layer.train()) is random
    assert depends_on_batch(layer) is batch
    layer.eval()
    assert not draws_at_random(layer) and not depends_on_batch(layer)


def test_a_function_that_draws_is_told_behind_its_forwards() -> None:
    def noisy(images: Tensor) -> Tensor:
        return nn.functional.dropout(images.flatten(1)[:, :2])

    with pytest.warns(UserWarning, match="its forwards draw random numbers"):
        completeness(noisy)


def test_nothing_is_hooked_where_a_model_is_compiled() -> None:
    hooks = torch.nn.modules.module._global_forward_pre_hooks
    model = nn.Linear(2, 2)
    with preserved_state(lambda rows: model(rows)):
        assert len(hooks) == 1
    model.compile(backend="eager")
    with preserved_state(lambda rows: model(rows)):
        assert len(hooks) == 0
    assert len(hooks) == 0


# --- forwards that work in place, or reuse their memory -----------------------


def test_outputs_in_one_buffer_are_copied() -> None:
    buffer = torch.zeros(2)

    def reuses(images: Tensor) -> Tensor:
        out = buffer[: len(images)]
        return out.copy_(images.flatten(1).sum(dim=1))

    response = Response(reuses, 4, score="identity", rows_per_forward=2)
    scores = response(lambda rows: (IMAGES[rows],), torch.arange(4))
    assert torch.equal(scores, IMAGES.flatten(1).sum(dim=1))


def test_inputs_and_arguments_stay_where_a_model_works_in_place() -> None:
    images, factor, nested = IMAGES.clone(), torch.ones(3), {"a": torch.ones(2)}

    def greedy(rows: Tensor, factor: Tensor, nested: dict[str, Tensor]) -> Tensor:
        rows.zero_()
        factor.zero_()
        nested["a"].zero_()
        return rows.flatten(1)[:, :2]

    metrics.completeness_error(
        greedy, images, IMAGES, target=1, additional_forward_args=(factor, nested)
    )
    assert torch.equal(images, IMAGES)
    assert bool((factor == 1).all()) and bool((nested["a"] == 1).all())


# --- memory -------------------------------------------------------------------

ERRORS = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 1 bytes. Error code 12"
    ),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough "
        "memory: you tried to allocate 1 bytes."
    ),
    RuntimeError("MPS backend out of memory"),
    MemoryError("Unable to allocate 2.0 GiB for an array"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:24])
def test_chunks_are_halved_when_memory_runs_out(error: BaseException) -> None:
    def work(rows: slice, size: int) -> list[int]:
        chosen = list(range(10))[rows]
        if len(chosen) > 3:
            raise error
        return chosen

    parts, size = in_chunks(work, 10, ChunkSize(16, may_shrink=True))
    assert [row for part in parts for row in part] == list(range(10))
    assert size.rows == 2
    with pytest.raises(type(error)):
        in_chunks(work, 10, ChunkSize(16, may_shrink=False))


def test_other_errors_are_not_taken_for_memory() -> None:
    def work(rows: slice, size: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        in_chunks(work, 10, ChunkSize(16, may_shrink=True))
