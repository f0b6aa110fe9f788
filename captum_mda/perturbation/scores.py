"""From a model's outputs to scores: of all classes, or of a callable target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_mda._checks import require_choice, require_real

Score = Literal["softmax", "identity", "sigmoid"] | Callable[[Tensor], Tensor]
"""What is made of the outputs before the target is chosen."""

SCORES = ("softmax", "identity", "sigmoid")

ScoredAs = Literal["softmax", "sigmoid", "value", "identity", "score", "target"]
"""What a score is: one of the names, a row's only value, or a callable's result."""

PROBABILITIES: tuple[ScoredAs, ...] = ("softmax", "sigmoid")
"""Those that are probabilities."""

_HOW_TO_PASS = {
    "target": (
        "return one score for each row of the outputs, shape (R,), as in "
        "lambda outputs: outputs[:, 1] - outputs[:, 0]"
    ),
    "score": "return a tensor with one row of scores for each row of the outputs",
}
_IN_TORCH = (
    "must return a torch tensor; keep to torch operations on the outputs, or wrap the "
    "array in torch.as_tensor() where no gradient is needed"
)
_PICK_LOGITS = (
    "must return a tensor; wrap the model in a function that picks the logits"
)

_ADVICE: dict[ScoredAs, str] = {
    "softmax": (
        "explain a class that the model sees in the input (its argmax), take "
        'score="sigmoid" where classes do not exclude each other'
    ),
    "sigmoid": (
        "explain a label that the model sees in the input, or the label's absence with "
        "target=lambda outputs: 1 - outputs[:, label].sigmoid(); of a head with one "
        "logit that is class 0, explained with lambda x: -model(x) in the model's place"
    ),
    "value": (
        "the output is one value, which is its own score; explain what lowers it with "
        "lambda x: -model(x) in the model's place, or with target=lambda outputs: "
        "-outputs.flatten(); the probability of a binary logit is "
        'score="sigmoid", and of its class 0 that of lambda x: -model(x)'
    ),
    "identity": (
        'a logit or a regressed value has no zero point; take score="softmax" for '
        'classes, score="sigmoid" for labels, or explain what lowers the output with '
        "target=lambda outputs: -outputs[:, index], or with lambda x: -model(x) in the "
        "model's place"
    ),
    "score": "let the callable score return more for the input than for the baseline",
    "target": (
        "let the callable target return more for the input than for the baseline; "
        "negate it to explain what lowers it"
    ),
}
_NO_CHANGE = (
    "the score does not change at all, as a saturated probability or a threshold does "
    'not; take score="identity", or a score that varies'
)
_NO_CHANGE_OF_VALUE = (
    "the output is one value, which does not change at all; a softmax over one output "
    'is always 1: let the model return the logit, with score="sigmoid" for its '
    'probability, or score="identity" for a regressed value'
)

OTHER_SIDE = (
    "a single output has one side: the one that raises it; what lowers it, as class 0 "
    "of a binary logit, is explained with target=lambda outputs: -outputs.flatten(), "
    "or, where any function is taken for the model, with lambda x: -model(x) in its "
    'place, under score="sigmoid" for the probability of class 0'
)
"""What to do where a class is asked for of an output that has none."""


def to_scores(outputs: Tensor, score: Score) -> Tensor:
    """Make scores of outputs (R, ...), in float32 or float64."""
    outputs = in_full_precision(outputs)
    if callable(score):
        scores = validated_outputs(score(outputs.clone()), len(outputs), "score")
        return scores if scores.is_floating_point() else scores.float()
    if score == "softmax" and has_classes(outputs):
        return outputs.softmax(dim=1)
    return outputs.sigmoid() if score == "sigmoid" else outputs


def in_full_precision(outputs: Tensor) -> Tensor:
    """Leave half precision, which has too few digits for scores."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def has_classes(outputs: Tensor) -> bool:
    """Tell whether outputs (R, ...) hold more than one value along dimension 1."""
    return outputs.dim() > 1 and outputs.shape[1] > 1


def scored_as(outputs: Tensor, score: Score, target: object) -> ScoredAs:
    """Tell what the score of a target is made of.

    Args:
        outputs (Tensor): (R, ...), what the model returned.
        score (str or callable): What is made of them.
        target (any): What is explained.
    """
    if callable(target):
        return "target"
    if callable(score):
        return "score"
    if score != "sigmoid" and outputs.numel() == len(outputs):
        return "value"
    return score


def how_to_credit(made_of: ScoredAs, full: float, baseline: float) -> str:
    """Say what to do where an input scores no higher than its baseline.

    Args:
        made_of (str): What the score is made of, from `scored_as`.
        full (float): The input's score.
        baseline (float): The baseline's.
    """
    if full == baseline:
        return _NO_CHANGE_OF_VALUE if made_of == "value" else _NO_CHANGE
    return _ADVICE[made_of]


def score_by_callable(target: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    """Call a target on outputs (R, ...): one score for each row, (R,).

    Raises:
        TypeError: It returns no tensor of real numbers.
        ValueError: It returns another number of scores.
    """
    try:
        returned = target(outputs.clone())
    except RuntimeError as error:
        if "numpy()" not in str(error):
            raise
        raise TypeError(
            f"target: the callable raised {error!r}; {_IN_TORCH}"
        ) from error
    if isinstance(returned, Tensor) and returned.is_complex():
        raise TypeError(
            f"target: the callable returned {returned.dtype}, must return real numbers"
        )
    values = validated_outputs(returned, len(outputs), "target")
    if values.numel() != len(outputs):
        raise ValueError(
            f"target: the callable returned shape {tuple(values.shape)} for "
            f"{len(outputs)} rows, must {_HOW_TO_PASS['target']}"
        )
    return values.flatten() if values.is_floating_point() else values.flatten().float()


def score_rows_by_callable(
    target: Callable[[Tensor], Tensor], outputs: Tensor
) -> Tensor:
    """As `score_by_callable`, for rows of any examples, in any number and order.

    Raises:
        TypeError: It returns no tensor of real numbers.
        ValueError: It returns another number of scores, or a row's score depends on its
            place among the others.
    """
    try:
        values = score_by_callable(target, outputs)
        if len(outputs) == 1:
            return values
        with torch.no_grad():  # without the first row the others keep their scores
            others = score_by_callable(target, outputs.detach()[1:])
    except IndexError as error:
        raise ValueError(
            f"target: the callable raised {error!r} for {len(outputs)} rows; {_BY_ROW}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{error}; {_BY_ROW}") from error
    if not torch.allclose(
        values.detach()[1:], others, rtol=1e-3, atol=1e-5, equal_nan=True
    ):
        raise ValueError(
            "target: the callable scores a row differently in another place of the "
            f"batch; {_BY_ROW}"
        )
    return values


_BY_ROW = (
    "it is called on any number of perturbed rows of any of the examples and must "
    "score each by its own output; pass class indices where examples have different "
    "classes, or one example at a time"
)


def require_scores(outputs: Tensor, inputs: Sequence[Tensor]) -> None:
    """Raise where a model makes one integer of each floating-point example."""
    if outputs.is_floating_point() or has_classes(outputs):
        return
    if any(tensor.is_floating_point() for tensor in inputs):
        raise TypeError(
            f"forward_func: returned dtype {outputs.dtype}, must return floating-point "
            "scores; class numbers, as of argmax, measure nothing: return the logits, "
            "or convert the numbers with .float() if they are meant"
        )


def nan_where_infinite(values: Tensor, outputs: Tensor) -> Tensor:
    """Let no finite score be made of an output that is not.

    The device is not waited for: NaN is refused when all rows are there.

    Args:
        values (Tensor): (R,), scores.
        outputs (Tensor): (R, ...), what they were made of.

    Returns:
        *Tensor*: (R,), NaN where an output is NaN or infinite.
    """
    finite = torch.isfinite(outputs).reshape(len(outputs), -1).all(dim=1)
    return values.masked_fill(~finite.to(values.device), torch.nan)


def require_scorer(forward_func: object, score: object) -> None:
    """Raise unless the forward function is callable and the score is a known one."""
    if not callable(forward_func):
        raise TypeError(
            f"forward_func: got {type(forward_func).__name__}, takes a callable"
        )
    if not callable(score):
        require_choice("score", score, SCORES)


def validated_outputs(
    outputs: object, n_rows: int, name: str = "forward_func"
) -> Tensor:
    """Check that a forward function, or a score, returns one entry for each row."""
    if not isinstance(outputs, Tensor):
        kind = type(outputs)
        if kind.__module__ == "numpy":
            mend = _IN_TORCH
        else:
            mend = (
                f"must {_HOW_TO_PASS[name]}" if name in _HOW_TO_PASS else _PICK_LOGITS
            )
        raise TypeError(f"{name}: returned {_name_of(kind)}, {mend}")
    require_real(name, outputs, "returned", "must return")
    if outputs.dim() == 0 or outputs.shape[0] != n_rows:
        raise ValueError(
            f"{name}: returned shape {tuple(outputs.shape)} for {n_rows} rows, must "
            "return one output for each row along dimension 0 and not aggregate over "
            "the batch"
        )
    return outputs


def _name_of(kind: type) -> str:
    return f"numpy.{kind.__name__}" if kind.__module__ == "numpy" else kind.__name__
