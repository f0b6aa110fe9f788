"""Every public name of version 0.1 is there, takes what it took, and can be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import names_of_0_1 as old
import numpy as np
import public_callables
import pytest
import torch
from torch import Tensor

import captum_mda
from captum_mda import attr, curves, magnitude, metrics, ordering, perturbation, vit

CALLED = old.CALLABLES | old.RECORDS


def found(path: str) -> Any:
    """Read a path below captum_mda: rooms, then a name, then perhaps a method."""
    rooms = [name for name in path.split(".")[:-1] if name.islower()]
    value: Any = import_module(".".join(["captum_mda", *rooms]))
    for name in path.split(".")[len(rooms) :]:
        value = getattr(value, name)
    return value


def signature_of(path: str) -> inspect.Signature:
    """Read the present parameters, without a method's first."""
    value = found(path)
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())
    is_method = "." in path and inspect.isclass(found(path.rpartition(".")[0]))
    if is_method and not inspect.ismethod(value):
        del parameters[0]
    return signature.replace(parameters=parameters)


def old_parameters(path: str) -> dict[str, inspect.Parameter]:
    lists = eval(f"lambda {CALLED[path]}: None", {"torch": torch})
    return dict(inspect.signature(lists).parameters)


def is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


@pytest.mark.parametrize("package", old.NAMES)
def test_every_name_is_there(package: str) -> None:
    module = import_module(package)
    for name in old.NAMES[package].split():
        assert getattr(module, name) is not None
    listed = getattr(module, "__all__", None)
    assert listed is None or set(old.NAMES[package].split()) <= set(listed)


@pytest.mark.parametrize("path", CALLED)
def test_old_parameters_are_accepted_by_their_names(path: str) -> None:
    now, before = signature_of(path).parameters, old_parameters(path)
    for name, parameter in before.items():
        if not is_named(parameter):
            assert now[name].kind == parameter.kind
            continue
        assert now[name].kind != parameter.POSITIONAL_ONLY
        if parameter.default is ...:  # made anew for each
            assert now[name].default is not parameter.empty
        else:
            assert now[name].default == parameter.default
    for name in now.keys() - before.keys():
        assert not is_named(now[name]) or now[name].default is not now[name].empty, name


@pytest.mark.parametrize("path", old.CALLABLES)
def test_old_parameters_are_accepted_in_their_order(path: str) -> None:
    def in_order(parameters: dict[str, inspect.Parameter]) -> list[str]:
        return [
            name
            for name, each in parameters.items()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]

    before = in_order(old_parameters(path))
    now = in_order(dict(signature_of(path).parameters))
    assert now[: len(before)] == before


@pytest.mark.parametrize("path", old.PROPERTIES)
def test_properties_are_there(path: str) -> None:
    for name in old.PROPERTIES[path].split():
        assert hasattr(found(path), name)


# --- calls --------------------------------------------------------------------

N = 4
WEIGHTS = torch.tensor([4.0, 3.0, 2.0, 1.0]).double()
RISING = torch.tensor([[0.0, 0.5, 0.8, 0.9, 1.0]]).double()  # a curve, (1, N + 1)
FALLING = RISING.flip(1)
SIZES = torch.ones(1, N).double()
MAGNITUDES = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).double()
CURVE = RISING[0].numpy()


def inputs() -> tuple[Tensor, ...]:
    return (torch.ones(1, N).double(),)


def features() -> perturbation.Features:
    return perturbation.Features.from_mask(inputs(), None)


def response() -> perturbation.Response:
    return perturbation.Response(lambda rows: rows @ WEIGHTS, 1, score="identity")


def responses() -> perturbation.SubsetResponses:
    nothing = tuple(torch.zeros_like(each) for each in inputs())
    return perturbation.SubsetResponses(
        response(), inputs(), (nothing, nothing), features()
    )


def task() -> ordering.SearchTask:
    scores = responses()
    end_points, _ = ordering.measure_end_points(scores)
    return ordering.SearchTask(
        responses=scores,
        end_points=end_points,
        examples=torch.tensor([0]),
        seed=None,
        tau=0.9,
        screenings=[ordering.Screening()],
    )


def paper_order() -> ordering.SearchResult:
    return ordering.order_examples(task(), ordering.PaperOrdering())


def ranking() -> perturbation.Ranking:
    return perturbation.Ranking.of(torch.arange(N)[None], N)


def observation(w: public_callables.World) -> vit.Observation:
    return vit.observe(vit.find_adapter(w.model), w.images.clone())


def sweep() -> perturbation.Sweep:
    return perturbation.Sweep([perturbation.Path(ranking(), deletes=False)])


def explanation(w: public_callables.World) -> captum_mda.MDAExplanation:
    explained = w.explanation
    again = captum_mda.MDAExplanation(
        **{name: getattr(explained, name) for name in old_parameters("MDAExplanation")}
    )
    assert torch.equal(again.attributions(), explained.attributions())
    return again


def saved_and_loaded(w: public_callables.World, folder: Path) -> Tensor:
    w.explanation.save(folder / "found.safetensors")
    loaded = captum_mda.MDAExplanation.load(folder / "found.safetensors")
    assert torch.equal(loaded.order, w.explanation.order)
    return loaded.order


def remade(path: str, value: Any) -> Any:
    """Make a record again from its fields."""
    return found(path)(**{name: getattr(value, name) for name in old_parameters(path)})


def curve(w: public_callables.World) -> metrics.ResponseCurve:
    return public_callables.CALLS["response_curve"](w)


def scores(w: public_callables.World) -> metrics.PerturbationScores:
    return public_callables.CALLS["perturbation_scores"](w)


World = public_callables.World
RESULTS: dict[str, Callable[[World], Any]] = {
    "metrics.MaskedHits": public_callables.CALLS["masked_hits"],
    "metrics.PerturbationScores": scores,
    "metrics.ResponseCurve": curve,
    "metrics.SegmentationScores": public_callables.CALLS["segmentation_scores"],
    "metrics.TokenDeletion": public_callables.CALLS["token_deletion"],
}
MORE_CALLS: dict[str, Callable[[World], Any]] = {
    "MDAExplanation": explanation,
    "MDAExplanation.attributions": lambda w: w.explanation.attributions(1.0, 0.01),
    "MDAExplanation.feature_attributions": (
        lambda w: w.explanation.feature_attributions(gamma=1.0)
    ),
    "MDAExplanation.plot": lambda w: w.explanation.plot(w.photo, title="a photo"),
    "MDAExplanation.sufficient_patches": (
        lambda w: w.explanation.sufficient_patches(0.5)
    ),
    "MDAExplanation.to": lambda w: w.explanation.to("cpu"),
    "attr.ViTAttribution": lambda w: attr.ViTAttribution(w.model),
    "attr.Completeness": lambda w: captum_mda.FullGradPlus(w.model).completeness(
        w.images, target=w.labels
    ),
    "metrics.Metric": lambda w: remade("metrics.Metric", metrics.METRICS["insertion"]),
    "metrics.statistics.Comparison": lambda w: remade(
        "metrics.statistics.Comparison",
        metrics.statistics.compare({"a": [0.0, 1.0, 2.0], "b": [1.0, 2.0, 4.0]}, True)[
            0
        ],
    ),
    "metrics.statistics.MeanInterval": lambda w: remade(
        "metrics.statistics.MeanInterval", metrics.statistics.mean_interval([0.0, 1.0])
    ),
    "visualize.denormalize": lambda w: captum_mda.visualize.denormalize(
        w.images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    ),
    "demo.DemoSamples": lambda w: captum_mda.demo.DemoSamples(
        images=w.images, labels=w.labels, masks=w.masks
    ),
    "curves.alignment_penalty": lambda w: curves.alignment_penalty(RISING, FALLING),
    "curves.area": lambda w: curves.area(RISING),
    "curves.density_response": (
        lambda w: curves.density_response(MAGNITUDES, "insertion")
    ),
    "curves.mas_curve": (
        lambda w: curves.mas_curve(RISING, torch.zeros_like(RISING), "insertion")
    ),
    "curves.monotone_response": lambda w: curves.monotone_response(
        RISING, torch.zeros(1).double(), torch.ones(1).double(), "insertion"
    ),
    "curves.normalized": lambda w: curves.normalized(
        RISING, torch.zeros(1).double(), torch.ones(1).double()
    ),
    "magnitude.align_density": (
        lambda w: magnitude.align_density(RISING, SIZES, RISING, FALLING)
    ),
    "magnitude.aligned_difference": (
        lambda w: magnitude.aligned_difference(RISING, FALLING, RISING)
    ),
    "magnitude.blended_magnitudes": (
        lambda w: magnitude.blended_magnitudes(MAGNITUDES, 0.5, 0.01)
    ),
    "magnitude.dense_magnitudes": (
        lambda w: magnitude.dense_magnitudes(MAGNITUDES, 0.01)
    ),
    "magnitude.density_of": lambda w: magnitude.density_of(MAGNITUDES, SIZES),
    "magnitude.fit_density": lambda w: magnitude.fit_density(RISING, "nnls"),
    "magnitude.mean_penalty": (
        lambda w: magnitude.mean_penalty(RISING, FALLING, RISING)
    ),
    "magnitude.mean_response": lambda w: magnitude.mean_response(RISING, FALLING),
    "magnitude.relative_sizes": lambda w: magnitude.relative_sizes(SIZES),
    "magnitude.resampled": lambda w: magnitude.resampled(RISING, 8),
    "magnitude.solve_by_nnls": lambda w: magnitude.solve_by_nnls(CURVE),
    "magnitude.solve_by_osqp": lambda w: magnitude.solve_by_osqp(CURVE),
    "magnitude.sparse_magnitudes": (
        lambda w: magnitude.sparse_magnitudes(RISING, SIZES, "reference")
    ),
    "magnitude.strictly_decreasing": (
        lambda w: magnitude.strictly_decreasing(MAGNITUDES)
    ),
    "ordering.AutoOrdering": lambda w: ordering.AutoOrdering()(task()),
    "ordering.FastOrdering": lambda w: ordering.FastOrdering(2)(task()),
    "ordering.JointOrdering": lambda w: ordering.JointOrdering(5.0, 1)(task()),
    "ordering.PaperOrdering": lambda w: ordering.PaperOrdering(2)(task()),
    "ordering.RefinedOrdering": (
        lambda w: ordering.RefinedOrdering(ordering.PaperOrdering(), 1)(task())
    ),
    "ordering.RelaxedOrdering": (
        lambda w: ordering.RelaxedOrdering(ordering.PaperOrdering(), 1)(task())
    ),
    "ordering.Screening": lambda w: ordering.Screening("bf16", of_probabilities=True),
    "ordering.EndPoints": lambda w: remade("ordering.EndPoints", task().end_points),
    "ordering.SearchTask": lambda w: task(),
    "ordering.SearchResult": lambda w: remade("ordering.SearchResult", paper_order()),
    "ordering.complete": lambda w: ordering.complete(task(), paper_order()),
    "ordering.expected_forwards": (
        lambda w: ordering.expected_forwards(ordering.PaperOrdering(), N, False)
    ),
    "ordering.forwards_of_paper": (
        lambda w: ordering.forwards_of_paper(ordering.PaperOrdering(), N)
    ),
    "ordering.measure_end_points": lambda w: ordering.measure_end_points(responses()),
    "ordering.order_examples": lambda w: paper_order(),
    "ordering.ordering_name": (
        lambda w: ordering.ordering_name(ordering.FastOrdering())
    ),
    "ordering.require_inputs_for": lambda w: (
        ordering.require_inputs_for(ordering.RelaxedOrdering(), inputs()),
    ),
    "ordering.resolved": lambda w: ordering.resolved(ordering.AutoOrdering(), task()),
    "ordering.seed_scores": lambda w: ordering.seed_scores(MAGNITUDES, features()),
    "perturbation.Features": lambda w: remade("perturbation.Features", features()),
    "perturbation.Path": lambda w: perturbation.Path(ranking=ranking(), deletes=True),
    "perturbation.Ranking": lambda w: remade("perturbation.Ranking", ranking()),
    "perturbation.Response": lambda w: response()(
        lambda rows: tuple(each[rows] for each in inputs()), torch.tensor([0])
    ),
    "perturbation.SubsetResponses": lambda w: responses()(
        torch.ones(1, N, dtype=torch.bool), torch.tensor([0])
    ),
    "perturbation.Sweep": lambda w: sweep().run(responses()),
    "perturbation.format_baselines": (
        lambda w: perturbation.format_baselines(inputs(), None)
    ),
    "perturbation.validate_inputs": lambda w: perturbation.validate_inputs(w.images),
    "vit.AttentionRecord": lambda w: remade(
        "vit.AttentionRecord", observation(w).attention[0]
    ),
    "vit.Observation": lambda w: remade("vit.Observation", observation(w)),
    "vit.PatchLayout": lambda w: vit.PatchLayout((4, 4), size=None, offset=(0.0, 0.0)),
    "vit.ViTAdapter": lambda w: remade("vit.ViTAdapter", vit.find_adapter(w.model)),
}
for path, result in RESULTS.items():
    MORE_CALLS[path] = lambda w, path=path, result=result: remade(path, result(w))
    MORE_CALLS[f"{path}.plot"] = lambda w, result=result: result(w).plot(0)
    MORE_CALLS[f"{path}.to"] = lambda w, result=result: result(w).to("cpu")

CALLED_ELSEWHERE = {
    # By the constructors' calls in public_callables.
    *(path for path in CALLED if path.endswith((".attribute", ".explain"))),
    *(path for path in CALLED if path.endswith((".completeness", ".patched_scores"))),
    *("MDAExplanation.save", "MDAExplanation.load"),
}


def how_to_call(path: str) -> Callable[[World], Any] | None:
    if path in MORE_CALLS:
        return MORE_CALLS[path]
    return public_callables.CALLS.get(path.rpartition(".")[2])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", sorted(CALLED.keys() - CALLED_ELSEWHERE))
def test_every_name_can_be_called(path: str) -> None:
    call = how_to_call(path)
    assert call is not None, "no call of it is written down"
    call(World())


def test_explanations_are_saved_and_loaded(tmp_path: Path) -> None:
    saved_and_loaded(World(), tmp_path)


@pytest.fixture(autouse=True)
def generators() -> Any:
    """The untidy model draws from every generator there is."""
    numpy_state = np.random.get_state()
    with torch.random.fork_rng():
        yield
    np.random.set_state(numpy_state)
