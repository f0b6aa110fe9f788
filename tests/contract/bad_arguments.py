"""Every public callable with what each of its arguments takes: one table.

A kind maps a good value to bad ones, by what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from helpers import Recorder
from torch import nn, Tensor
from toy_models import interacting_model

import captum_mda
from captum_mda import backward, demo, metrics, ordering, visualize
from captum_mda.metrics import statistics

Bad = dict[str, Any]
Kind = Callable[[Any], Bad]


# --- kinds ------------------------------------------------------------------


def _no_tensors(good: Tensor) -> Bad:
    return {
        "list": good.tolist(),
        "string": "all",
        "object": object(),
        "array": good.numpy(),
    }


def _unusable(good: Tensor) -> Bad:
    """What holds no dense real numbers."""
    plain = good.float()
    return {
        "complex": plain.to(torch.complex64),
        "meta": good.to("meta"),
        "sparse": plain.to_sparse(),
        "sparse rows": plain.reshape(len(plain), -1).to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([plain[0]] * len(plain)),
    }


def reals(good: Tensor) -> Bad:
    """A tensor of real numbers, integers included."""
    nan, infinite = good.clone().float(), good.clone().float()
    nan.view(-1)[-1], infinite.view(-1)[0] = torch.nan, -torch.inf
    return (
        _no_tensors(good)
        | _unusable(good)
        | {"NaN": nan, "infinite": infinite, "float8": good.to(torch.float8_e4m3fn)}
    )


def inputs(good: Tensor) -> Bad:
    return reals(good) | {
        "None": None,
        "no example": good[:0],
        "number": 1.0,
        "scalar": torch.tensor(1.0),
        "empty tuple": (),
    }


def images(good: Tensor) -> Bad:
    """Floating-point images."""
    bad = inputs(good) | {"integers": good.long(), "bytes": good.to(torch.uint8)}
    return bad | {"booleans": good > 0, "two dimensions": good[:, 0, :, 0]}


def attributions(good: Tensor) -> Bad:
    return maps_alone(good) | {"other shape": torch.ones(7, 3, 2)}


def maps_alone(good: Tensor) -> Bad:
    return reals(good) | {"None": None}


def baselines(good: Any) -> Bad:
    bad = reals(torch.ones(2, 3))
    return bad | {
        "other shape": torch.ones(11),
        "NaN number": float("nan"),
        "infinite number": float("inf"),
        "complex number": 1j,
        "two": (0, 0),
    }


def seeds(good: Any) -> Bad:
    return reals(torch.ones(2, 3)) | {"other shape": torch.ones(11), "number": 0.5}


def feature_masks(good: Any) -> Bad:
    mask = torch.arange(2)
    return (
        _no_tensors(mask)
        | _unusable(mask)
        | {
            "floats": mask.float(),
            "booleans": mask.bool(),
            "negative": mask - 1,
            "other shape": torch.arange(11),
        }
    )


def object_masks(good: Tensor) -> Bad:
    return (
        _no_tensors(good)
        | _unusable(good)
        | {
            "None": None,
            "floats": good.float(),
            "other numbers": good.long() * 2,
            "other shape": torch.ones(2, 1, 1, dtype=torch.bool),
        }
    )


def embeddings(good: Any) -> Bad:
    """Classes, or an embedding of the text that is explained."""
    embedding = torch.ones(5)
    return targets(good) | {
        "embedding on meta": embedding.to("meta"),
        "sparse embedding": embedding.to_sparse(),
        "complex embedding": embedding.to(torch.complex64),
        "NaN embedding": embedding * torch.nan,
        "float8 embedding": embedding.to(torch.float8_e4m3fn),
        "long embedding": torch.ones(7),
    }


def targets(good: Any) -> Bad:
    """Classes."""
    classes = torch.zeros(2, dtype=torch.int64)
    return {
        "string": "cat",
        "fraction": 1.5,
        "bool": True,
        "booleans": classes.bool(),
        "negative": -1,
        "complex": classes.to(torch.complex64),
        "meta": classes.to("meta"),
        "three": [0, 0, 0, 0, 0],
        "empty": [],
        "object": object(),
        "array": np.zeros(2, dtype=np.int64),
    }


_NO_NUMBERS: Bad = {
    "string": "1",
    "bool": True,
    "NumPy bool": np.bool_(True),
    "list": [1],
    "complex": 1j,
    "tensor": torch.tensor([1, 2]),
}


def at_least(least: int) -> Kind:
    def kind(good: Any) -> Bad:
        return _NO_NUMBERS | {
            "fraction": 1.5,
            "too few": least - 1,
            "negative": -7,
            "NaN": float("nan"),
            "infinite": float("inf"),
            "NumPy float": np.float64(3.0),
        }

    return kind


positive, count = at_least(1), at_least(0)


def or_none(kind: Kind) -> Kind:
    return kind


def not_none(kind: Kind) -> Kind:
    return lambda good: kind(good) | {"None": None}


def odd(good: Any) -> Bad:
    return at_least(1)(good) | {"even": 4}


def unit(good: Any) -> Bad:
    return _NO_NUMBERS | {
        "None": None,
        "below": -0.1,
        "above": np.float32(1.5),
        "NaN": float("nan"),
        "infinite": float("inf"),
    }


def positive_number(good: Any) -> Bad:
    return _NO_NUMBERS | {
        "zero": 0,
        "negative": -1.5,
        "NaN": float("nan"),
        "infinite": float("inf"),
    }


def tolerance(good: Any) -> Bad:
    bad = positive_number(good)
    del bad["zero"]
    return bad


def flag(good: Any) -> Bad:
    return {"3": 3, "1": 1, "string": "yes", "None": None, "list": [True]}


def word(good: Any) -> Bad:
    return {"word": "loud", "None": None, "number": 3, "list": [good], "bool": True}


def word_or_none(good: Any) -> Bad:
    return {"word": "loud", "number": 3, "list": [good]}


def scores(good: Any) -> Bad:
    return {"word": "loud", "None": None, "number": 3}


def layers(good: Any) -> Bad:
    return _NO_NUMBERS | {"far": 99, "far back": -99, "fraction": 0.5}


def layer_or_layers(good: Any) -> Bad:
    bad = layers(good) | {"none": [], "two far": [0, 99]}
    del bad["list"], bad["tensor"]
    return bad


def layer_range(good: Any) -> Bad:
    return {
        "string": "13",
        "number": 1,
        "one": (1,),
        "reversed": (2, 1),
        "far": (0, 99),
    }


def support(good: Any) -> Bad:
    bad = reals(torch.ones(3, 3))
    del bad["list"], bad["array"]
    return bad | {
        "negative": -1,
        "fraction": 1.5,
        "bool": True,
        "even": torch.ones(2, 2),
    }


def blanks(good: Any) -> Bad:
    return reals(torch.ones(1, 3, 1, 1)) | {"None": None, "number": 0.0}


def generators(good: Any) -> Bad:
    return {"seed": 3, "string": "cpu", "NumPy's": np.random.default_rng(0)}


def functions(good: Any) -> Bad:
    return {"None": None, "number": 3, "tensor": torch.ones(2)}


def models(good: Any) -> Bad:
    return functions(good) | {"string": "vit", "function": lambda x: x}


def kernel_sizes(good: Any) -> Bad:
    return {
        "None": None,
        "number": 3,
        "string": "31",
        "even": [2, 4],
        "fraction": [1.5],
        "descending": [5, 3],
        "none": [],
    }


def fractions(good: Any) -> Bad:
    return {
        "None": None,
        "number": 0.5,
        "string": "0.5",
        "one": [0.5],
        "above": [0.5, 1.5],
        "NaN": [0.1, float("nan")],
        "descending": [0.5, 0.1],
        "words": ["0.1", "0.2"],
        "complex": [0.1, 0.2j],
    }


def selections(good: Any) -> Bad:
    bad = reals(torch.ones(2, 5))
    return bad | {"integers": torch.ones(2, 5).long(), "above": torch.ones(2, 5) * 2}


def maps(good: Any) -> Bad:
    return {
        "None": None,
        "list": [torch.ones(2, 3)],
        "none": {},
        "tensor": torch.ones(2),
    }


def example_scores(good: Any) -> Bad:
    return {
        "None": None,
        "strings": ["a", "b"],
        "complex": [1j, 2.0],
        "complex tensor": torch.ones(3, dtype=torch.complex64),
        "infinite": [1.0, float("inf")],
        "two dimensions": [[1.0, 2.0]],
        "ragged": [[1.0], [1.0, 2.0]],
        "meta": torch.ones(3, device="meta"),
        "sparse": torch.ones(3).to_sparse(),
        "number": 0.5,
    }


def p_values(good: Any) -> Bad:
    return {
        "None": None,
        "number": 0.5,
        "string": "0.5",
        "above": [0.5, 1.5],
        "negative": [-0.1],
        "NaN": [float("nan")],
        "words": ["0.1"],
        "bools": [True],
        "complex": [0.5j],
    }


def paired(good: Any) -> Bad:
    return {
        "None": None,
        "list": [[1.0, 2.0], [3.0, 4.0]],
        "one": {"a": [1.0, 2.0]},
        "lengths": {"a": [1.0, 2.0], "b": [1.0]},
        "complex": {"a": [1j, 2j], "b": [1.0, 2.0]},
        "infinite": {"a": [1.0, float("inf")], "b": [1.0, 2.0]},
    }


def without(bad: Bad, what: str) -> Bad:
    return {name: value for name, value in bad.items() if name != what}


def flag_or_none(good: Any) -> Bad:
    return without(flag(good), "None")


def metric_sets(good: Any) -> Bad:
    return metric_names(good) | {"list": ["deletion", "loud"], "none": []}


def metric_names(good: Any) -> Bad:
    return {"word": "loud", "number": 3, "list": ["deletion"], "None": None}


def references(good: Any) -> Bad:
    return {"other": "c", "number": 3, "list": ["a"]}


def pictures(good: Tensor) -> Bad:
    """A photo; arrays are taken, too."""
    bad = reals(good)
    del bad["array"]
    return bad | {"None": None, "bytes": good.to(torch.uint8), "4-D": good[None]}


def pictures_or_none(good: Any) -> Bad:
    return {k: v for k, v in pictures(PHOTO).items() if k != "None"}


def channel_numbers(good: Any) -> Bad:
    return {
        "None": None,
        "number": 0.5,
        "strings": ["a", "b", "c"],
        "NaN": [0.1, float("nan"), 0.1],
        "complex": [0.1j, 0.1, 0.1],
    }


def deviations(good: Any) -> Bad:
    return channel_numbers(good) | {"zero": [0.1, 0.0, 0.1], "negative": [1, -1, 1]}


def numbers_in_unit(good: Any) -> Bad:
    return {
        "None": None,
        "number": 0.5,
        "none": [],
        "above": [1.5],
        "NaN": [float("nan")],
        "string": "0.5",
    }


def others(good: Any) -> Bad:
    return {"None": None, "number": 3, "string": "x", "list": [1]}


def others_or_none(good: Any) -> Bad:
    return {"number": 3, "string": "x", "list": [1]}


def dtypes(good: Any) -> Bad:
    return {"complex": torch.complex64, "integers": torch.int64, "string": "float32"}


def paths(good: Any) -> Bad:
    return {"None": None, "number": 3}


def sizes(good: Any) -> Bad:
    return {
        "None": None,
        "fraction": 1.5,
        "zero": 0,
        "bool": True,
        "string": "16",
        "three": (4, 4, 4),
        "floats": (4.0, 4.0),
        "negative": (-4, 4),
    }


def free(good: Any) -> Bad:
    """Anything goes, or the argument is a title that is written as it is."""
    return {}


# --- rows -------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A callable.

    Args:
        name (str): Its public name.
        function (callable): What the signature is read from.
        takes (Mapping): The kind of each argument.
        good (callable): Makes good arguments; the first is called with these.
        call (callable, optional): Calls it, where that needs an object. Default: the
            function itself
        calls (callable, optional): Counts the model's forwards. Default: those of a
            `Recorder` among the good arguments
    """

    name: str
    function: Callable[..., Any]
    takes: Mapping[str, Kind]
    good: Callable[[], dict[str, Any]]
    call: Callable[..., Any] | None = None
    calls: Callable[[], int] = field(default=lambda: 0)


ROWS: list[Row] = []
LATER: Any = object()  # stands for what is made when it is first needed
X = torch.tensor([[3.0, 1.0, 0.5], [2.0, 0.5, 4.0]])
MASKS = torch.tensor([[[True, False], [False, False]], [[True, True], [False, False]]])
MAPS = torch.tensor([[[0.9, 0.2], [0.3, 0.0]], [[0.1, 0.2], [0.3, 0.5]]])
PLANES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1


def logits(rows: Tensor, *_: Any) -> Tensor:
    total = rows.flatten(1).sum(dim=1)
    return torch.stack([total, torch.zeros_like(total)], dim=1)


def row(
    name: str,
    function: Callable[..., Any],
    good: Mapping[str, Any],
    takes: Mapping[str, Kind],
    **options: Any,
) -> None:
    ROWS.append(Row(name, function, takes, lambda: dict(good), **options))


FORWARDS = {
    "forward_func": functions,
    "inputs": inputs,
    "additional_forward_args": free,
    "target": targets,
}
OF_MAP = FORWARDS | {"attributions": attributions, "feature_mask": feature_masks}
SWEEP = OF_MAP | {
    "max_examples_per_batch": or_none(positive),
    "show_progress": flag,
    "on_degenerate": word,
}
GOOD_MAP = {"forward_func": logits, "inputs": X, "attributions": X, "target": 0}
CURVE = SWEEP | {"n_steps": not_none(positive), "score": scores, "baselines": baselines}
for _name, _extra in {
    "aopc": {},
    "deletion": {"convention": word},
    "insertion": {"convention": word},
    "mas_deletion": {},
    "mas_insertion": {},
    "monotonicity": {"convention": word, "mode": word},
    "response_curve": {"convention": word, "mode": word},
    "symmetric_relevance_gain": {},
}.items():
    row(f"metrics.{_name}", getattr(metrics, _name), GOOD_MAP, CURVE | _extra)

BOTH = {"insertion_baselines": baselines, "deletion_baselines": baselines}
SCORES = CURVE | BOTH | {"convention": word, "least_first": flag}
del SCORES["baselines"]
row("metrics.perturbation_scores", metrics.perturbation_scores, GOOD_MAP, SCORES)
_of_maps = {k: v for k, v in SCORES.items() if k != "attributions"} | {"maps": maps}
row(
    "metrics.perturbation_scores_of_maps",
    metrics.perturbation_scores_of_maps,
    {"forward_func": logits, "inputs": X, "maps": {"a": X}, "target": 0},
    _of_maps,
)
_one_table = {
    name: kind for name, kind in _of_maps.items() if name != "on_degenerate"
} | {
    "masks": or_none(lambda good: without(object_masks(good), "None")),
    "metrics": lambda good: without(metric_sets(good), "None"),
    "confidence": unit,
    "n_resamples": positive,
    "seed": count,
    "form": word,
}
del _one_table["least_first"]
row(
    "metrics.evaluate",
    metrics.evaluate,
    {
        "forward_func": logits,
        "inputs": PLANES,
        "maps": {"a": PLANES},
        "target": 0,
        "metrics": ["deletion", "iou"],
        "masks": PLANES[:, 0] > 0.5,
        "n_resamples": 9,
    },
    _one_table,
)
HITS = SWEEP | {"baselines": baselines}
row(
    "metrics.masked_hits",
    metrics.masked_hits,
    GOOD_MAP,
    HITS | {"first": word, "fractions": fractions},
)
for _name in ("positive_perturbation", "negative_perturbation"):
    row(f"metrics.{_name}", getattr(metrics, _name), GOOD_MAP, HITS)
_completeness = {k: v for k, v in OF_MAP.items() if k != "feature_mask"}
row(
    "metrics.completeness_error",
    metrics.completeness_error,
    GOOD_MAP,
    _completeness
    | {"max_examples_per_batch": positive, "score": scores, "baselines": baselines},
)
OF_MASKS = {
    "attributions": maps_alone,
    "masks": object_masks,
    "on_degenerate": word,
}
row(
    "metrics.segmentation_scores",
    metrics.segmentation_scores,
    {"attributions": MAPS, "masks": MASKS},
    OF_MASKS
    | {"convention": word, "threshold": lambda good: unit(good) | {"word": "loud"}},
)
row(
    "metrics.pointing_game",
    metrics.pointing_game,
    {"attributions": MAPS, "masks": MASKS},
    OF_MASKS | {"tolerance": tolerance},
)


row(
    "metrics.sparseness",
    metrics.sparseness,
    {"attributions": X},
    {"attributions": maps_alone, "feature_mask": feature_masks, "on_degenerate": word},
)
SETTINGS = {"n_resamples": positive, "seed": count, "confidence": unit}
row(
    "metrics.statistics.mean_interval",
    statistics.mean_interval,
    {"values": [0.5, 0.75, 1.0], "n_resamples": 99},
    SETTINGS | {"values": example_scores},
)
PAIRS = SETTINGS | {
    "scores": paired,
    "higher_is_better": flag_or_none,
    "reference": references,
    "metric": metric_names,
}
for _name in ("compare", "comparison_table"):
    row(
        f"metrics.statistics.{_name}",
        getattr(statistics, _name),
        {
            "scores": {"a": [0.1, 0.2, 0.4], "b": [0.3, 0.1, 0.2]},
            "n_resamples": 99,
            "metric": "insertion",
        },
        PAIRS,
    )
row(
    "metrics.statistics.holm",
    statistics.holm,
    {"p_values": [0.1, 0.2]},
    {"p_values": p_values},
)

# --- MDA and its baselines --------------------------------------------------

MDA_OPTIONS = {
    "forward_func": functions,
    "solver": scores,
    "ordering": scores,
    "magnitude": word,
    "score": scores,
    "mean_steps": word,
    "on_degenerate": word,
    "precision": word_or_none,
    "refine": count,
}
row(
    "MetricDrivenAttribution",
    captum_mda.MetricDrivenAttribution,
    {"forward_func": logits},
    MDA_OPTIONS,
)
EXPLAIN = {
    **{k: v for k, v in FORWARDS.items() if k != "forward_func"},
    "baselines": baselines,
    "deletion_baselines": baselines,
    "feature_mask": feature_masks,
    "insertion_baselines": baselines,
    "seed_attributions": seeds,
    "tau": unit,
    "perturbations_per_eval": or_none(positive),
    "show_progress": flag,
}
_counted = Recorder(logits)
_mda = captum_mda.MetricDrivenAttribution(_counted)
for _name, _more in {
    "explain": {},
    "attribute": {"gamma": unit, "kappa": unit, "return_input_shape": flag},
}.items():
    row(
        f"MetricDrivenAttribution.{_name}",
        getattr(_mda, _name),
        {"inputs": X, "target": 0},
        EXPLAIN | _more,
        calls=lambda: len(_counted.calls),
    )


@cache
def explanation() -> captum_mda.MDAExplanation:
    mda = captum_mda.MetricDrivenAttribution(interacting_model(16, 1), score="identity")
    image = torch.ones(1, 1, 4, 4)
    return mda.explain(image)


row(
    "MDAExplanation.sufficient_patches",
    captum_mda.MDAExplanation.sufficient_patches,
    {},
    {"self": free, "share": unit},
    call=lambda **o: _some_explanation().sufficient_patches(**o),
)
for _name in ("feature_attributions", "attributions"):
    row(
        f"MDAExplanation.{_name}",
        getattr(captum_mda.MDAExplanation, _name),
        {},
        {"self": free, "gamma": unit, "kappa": unit},
        call=lambda _name=_name, **o: getattr(_some_explanation(), _name)(**o),
    )


@cache
def _some_explanation() -> captum_mda.MDAExplanation:
    return captum_mda.MetricDrivenAttribution(logits).explain(X, target=0)


row(
    "MDAExplanation.save",
    captum_mda.MDAExplanation.save,
    {"path": ""},
    {"self": free, "path": paths},
    call=lambda **o: _some_explanation().save(**o),
)
row(
    "MDAExplanation.load",
    captum_mda.MDAExplanation.load,
    {"path": ""},
    {"path": paths},
)
row(
    "blur_baseline",
    captum_mda.blur_baseline,
    {"inputs": PLANES, "kernel_size": 3},
    {"inputs": images, "kernel_size": odd, "sigma": positive_number},
)
row(
    "confidence_blur_baseline",
    captum_mda.confidence_blur_baseline,
    {
        "forward_func": logits,
        "inputs": PLANES,
        "target": 0,
        "kernel_sizes": [1, 3],
        "max_confidence": 1.0,
    },
    FORWARDS
    | {
        "inputs": images,
        "kernel_sizes": kernel_sizes,
        "max_confidence": unit,
        "score": scores,
        "on_failure": word,
        "perturbations_per_eval": or_none(positive),
        "return_kernel_sizes": flag,
    },
)
row(
    "patch_feature_mask",
    captum_mda.patch_feature_mask,
    {"inputs_or_size": (4, 4), "patch_size": 2},
    {"inputs_or_size": sizes, "patch_size": sizes},
)

# --- orderings --------------------------------------------------------------

_an_ordering = ordering.PaperOrdering()
for _kind, _good, _takes in (
    (ordering.PaperOrdering, {}, {"window": positive}),
    (
        ordering.FastOrdering,
        {},
        {
            "window": positive,
            "forwards_per_feature": positive_number,
            "deletion_checks": positive,
            "quiet_level": unit,
            "oldest_share": unit,
            "patience": count,
        },
    ),
    (
        ordering.JointOrdering,
        {},
        {
            "forwards_per_feature": positive_number,
            "rounds": positive,
            "searches": others_or_none,
        },
    ),
    (ordering.RelaxedOrdering, {}, {"ordering": others_or_none, "steps": positive}),
    (
        ordering.RefinedOrdering,
        {"ordering": _an_ordering},
        {"ordering": others, "passes": positive},
    ),
):
    row(f"ordering.{_kind.__name__}", _kind, _good, _takes)

# --- methods on the parts of a model ----------------------------------------


class Counter:
    """Counts the forwards of a small Vision Transformer."""

    def __init__(self) -> None:
        self.calls = 0

    @property
    def model(self) -> nn.Module:
        return _vit()[0]

    def __call__(self, *_: object) -> None:
        self.calls += 1


_counter = Counter()


@cache
def _vit() -> tuple[nn.Module, Tensor]:
    import timm.models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.models.VisionTransformer(
            img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5
        ).eval()
        model.register_forward_pre_hook(_counter)
        return model, torch.randn(2, 3, 16, 16)


OPTIONS: dict[str, Mapping[str, Kind]] = {
    "AttentionGradCam": {"variant": word, "normalize": flag},
    "AttentionIntegratedGradients": {},
    "AttentionRollout": {"start_layer": not_none(layers)},
    "BidirectionalAttention": {"mode": word, "start_layer": layers},
    "CausalActivationPatching": {
        "layers": layer_range,
        "support": support,
        "blank": blanks,
        "subtract_blank": flag,
    },
    "FullGradPlus": {"biases": flag, "start_layer": not_none(layers)},
    "LeGrad": {"layers": layer_or_layers, "aggregate": word, "normalize": flag},
    "RawAttention": {},
    "TokenInputXGradient": {"biases": flag},
    "TransformerAttribution": {"variant": word, "start_layer": layers, "dtype": dtypes},
    "TransformerInputSampling": {
        "n_masks": not_none(positive),
        "keep_ratio": unit,
        "empty_clusters": word,
        "normalize": flag,
    },
    "TransitionAttention": {"variant": word, "start_layer": not_none(layers)},
    "VitCx": {"threshold": unit, "noise": unit},
}
ATTRIBUTE = {
    "inputs": images,
    "target": embeddings,
    "additional_forward_args": free,
    "interpolate_mode": word_or_none,
    "internal_batch_size": positive,
    "show_progress": flag,
}
_FURTHER: dict[str, Mapping[str, Kind]] = {
    "AttentionIntegratedGradients": {"n_steps": at_least(2)},
    "BidirectionalAttention": {"n_steps": at_least(2)},
    "TransitionAttention": {"n_steps": at_least(2)},
    "TransformerInputSampling": {"generator": generators},
    "VitCx": {"generator": generators},
}
_FEW = {"TransformerInputSampling": {"n_masks": 4}}


@cache
def method(name: str) -> Any:
    return getattr(captum_mda, name)(_vit()[0], **_FEW.get(name, {}))


def _method_row(
    name: str, function: str, takes: Mapping[str, Kind], **good: Any
) -> None:
    row(
        f"{name}.{function}",
        getattr(getattr(captum_mda, name), function),
        {"inputs": LATER, "target": 0} | good,
        takes | {"self": free},
        call=lambda **o: getattr(method(name), function)(
            **(o | {"inputs": _vit()[1] if o["inputs"] is LATER else o["inputs"]})
        ),
        calls=lambda: (method(name), _counter.calls)[1],  # built, and checked, before
    )


def images_of_vit(good: Any) -> Bad:
    return images(torch.ones(2, 3, 16, 16))


for _name, _options in OPTIONS.items():
    row(
        _name,
        getattr(captum_mda, _name),
        {"model": LATER},
        _options | {"model": models, "score": scores},
        call=lambda _name=_name, **o: getattr(captum_mda, _name)(
            **(o | {"model": _vit()[0] if o["model"] is LATER else o["model"]})
        ),
        calls=lambda: _counter.calls,
    )
    _takes = ATTRIBUTE | _FURTHER.get(_name, {}) | {"inputs": images_of_vit}
    if _name in ("AttentionRollout", "RawAttention"):
        _takes["target"] = free  # is not looked at
    _method_row(_name, "attribute", _takes)
_OF_VIT = {
    "inputs": images_of_vit,
    "target": embeddings,
    "additional_forward_args": free,
    "internal_batch_size": positive,
}
for _name in ("FullGradPlus", "TokenInputXGradient"):
    _method_row(_name, "completeness", _OF_VIT)
_method_row(
    "CausalActivationPatching",
    "patched_scores",
    _OF_VIT | {"selections": selections, "show_progress": flag},
    selections=torch.ones(2, 5, dtype=torch.bool),
)
TOKENS = {
    "model": models,
    "inputs": images_of_vit,
    "attributions": attributions,
    "baselines": baselines,
    "additional_forward_args": free,
    "target": targets,
    "max_examples_per_batch": positive,
    "show_progress": flag,
    "removal": word,
    "on_degenerate": word,
}
for _name, _more in {
    "token_deletion": {"first": word, "fractions": fractions},
    "mif_deletion": {},
    "lif_deletion": {},
}.items():
    row(
        f"metrics.{_name}",
        getattr(metrics, _name),
        {
            "model": LATER,
            "inputs": LATER,
            "attributions": PLANES[:, :1, :2, :2],
            "target": 0,
        },
        TOKENS | _more,
        call=lambda _name=_name, **o: getattr(metrics, _name)(
            **(
                o
                | {"model": _vit()[0] if o["model"] is LATER else o["model"]}
                | {"inputs": _vit()[1] if o["inputs"] is LATER else o["inputs"]}
            )
        ),
        calls=lambda: _counter.calls,
    )
row(
    "LibraGrad",
    captum_mda.LibraGrad,
    {"model": nn.Linear(2, 2)},
    {
        "model": models,
        "attention": flag,
        "layer_norm": flag,
        "activation": flag,
        "gate": flag,
    },
)
row(
    "backward.RelevancePropagation",
    backward.RelevancePropagation,
    {"model": nn.Linear(2, 2)},
    {"model": models, "dtype": dtypes},
)

# --- figures and samples ----------------------------------------------------

PHOTO = torch.full((3, 4, 4), 0.5)
row(
    "visualize.denormalize",
    visualize.denormalize,
    {"images": PLANES, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    {
        "images": lambda good: {
            k: v for k, v in images(good).items() if k != "no example"
        },
        "mean": channel_numbers,
        "std": deviations,
    },
)
row(
    "visualize.explanation_figure",
    visualize.explanation_figure,
    {"image": PHOTO, "explanation": LATER},
    {
        "image": pictures,
        "explanation": others,
        "index": lambda good: _NO_NUMBERS | {"far": 7, "negative": -1},
        "title": free,
        "gammas": numbers_in_unit,
        "kappa": unit,
        "scores": others_or_none,
        "caption": free,
        "share": unit,
        "insertion_baseline": pictures_or_none,
        "deletion_baseline": pictures_or_none,
    },
    call=lambda **o: visualize.explanation_figure(
        **(
            o
            | (
                {"explanation": _image_explanation()}
                if o["explanation"] is LATER
                else {}
            )
        )
    ),
)


@cache
def _image_explanation() -> captum_mda.MDAExplanation:
    mask = captum_mda.patch_feature_mask((4, 4), 2)
    mda = captum_mda.MetricDrivenAttribution(logits)
    return mda.explain(PLANES[:1], target=0, feature_mask=mask)


row(
    "visualize.scores_figure",
    visualize.scores_figure,
    {"scores": metrics.segmentation_scores(MAPS, MASKS)},
    {
        "scores": others,
        "index": lambda good: _NO_NUMBERS | {"far": 7, "further": -8},
        "title": free,
    },
)

row(
    "visualize.maps_figure",
    visualize.maps_figure,
    {"image": PHOTO, "maps": {"a": PHOTO[0]}},
    {
        "image": pictures,
        "maps": maps,
        "title": free,
        "captions": lambda good: {"unknown": {"b": "?"}, "list": ["a"], "word": "a"},
        "n_columns": positive,
        "caption": free,
    },
)
row(
    "visualize.save_figure",
    visualize.save_figure,
    {"figure": LATER, "path": "x.png"},
    {"figure": others, "path": paths, "dpi": positive_number},
    call=lambda **o: visualize.save_figure(
        **(o | ({"figure": _figure()} if o["figure"] is LATER else {}))
    ),
)


def _figure() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


row(
    "demo.make_samples",
    demo.make_samples,
    {"n": 1, "seed": 1},
    {"n": count, "seed": count},
)
for _name in ("denormalize", "to_pil"):
    _argument = "images" if _name == "denormalize" else "image"
    row(
        f"demo.{_name}",
        getattr(demo, _name),
        {_argument: PHOTO},
        {_argument: lambda good: reals(good) | {"None": None, "integers": good.long()}},
    )

# What holds results, takes nothing, or takes no argument that could be wrong.
WITHOUT_ARGUMENTS = {
    "MDAExplanation",  # tests/attr/test_explanation_damage.py
    "demo.DemoSamples",
    "demo.load_model",
    "metrics.MaskedHits",
    "metrics.Metric",
    "metrics.PerturbationScores",
    "metrics.ResponseCurve",
    "metrics.SegmentationScores",
    "metrics.TokenDeletion",
    "metrics.statistics.Comparison",
    "metrics.statistics.MeanInterval",
}
