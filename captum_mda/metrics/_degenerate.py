"""Examples that a metric cannot score: an error, or NaN and a warning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from captum_mda._state import warn_caller

OnDegenerate = Literal["raise", "nan"]

OK = "ok"
"""The status of an example that can be scored."""

CONSTANT_MAP = "constant map"
"""The status of an example whose map is the same everywhere, and so says nothing."""

NOT_PREDICTED = "target not predicted"
"""The status of an example whose target is not the model's first class from the start:
its hits tell of the model, not of the map."""

_MOST_NAMED = 10


def map_status(rows: Tensor) -> list[str]:
    """Tell which maps, one in each row of (B, N), are the same everywhere."""
    constant = (rows == rows[:, :1]).all(dim=1).tolist()
    return [CONSTANT_MAP if each else OK for each in constant]


def require_ranking(
    name: str, rows: Tensor, on_degenerate: OnDegenerate
) -> tuple[str, ...]:
    """Report maps, one in each row of (B, N), that rank nothing; tell each status."""
    status = map_status(rows)
    remedy = "it ranks nothing; drop such examples"
    report_degenerate(name, status, on_degenerate, remedy)
    return tuple(status)


def report_degenerate(
    name: str, status: Sequence[str], on_degenerate: OnDegenerate, remedy: str
) -> None:
    """Raise, or warn, if a status says that its example cannot be scored.

    Args:
        name (str): The argument that is to blame.
        status (sequence of str): One word or phrase for each example, "ok" where it can
            be scored.
        on_degenerate (str): "raise", or "nan" to warn that the values are NaN.
        remedy (str): How to mend it, the end of the error's sentence.

    Raises:
        ValueError: Under "raise", where an example is not "ok"; it names the first.

    Example::

        >>> report_degenerate("masks", ["ok", "empty mask"], "raise", "drop them")
        Traceback (most recent call last):
        ...
        ValueError: masks: empty mask in example 1; drop them, or pass
        on_degenerate="nan"
    """
    bad = [example for example, word in enumerate(status) if word != OK]
    if not bad:
        return
    if on_degenerate == "raise":
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            f"{name}: {status[bad[0]]} in example {bad[0]}{more}; {remedy}, or pass "
            'on_degenerate="nan"'
        )
    named = ", ".join(f"{example} ({status[example]})" for example in bad[:_MOST_NAMED])
    more = f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    warn_caller(f"{name}: cannot score examples {named}{more}; their values are NaN")


def report_unpredicted(
    status: Sequence[str],
    hit: Tensor,
    targets: Tensor | None,
    first_classes: Tensor | None = None,
) -> tuple[str, ...]:
    """Warn of targets that the model does not predict with all features in place.

    Args:
        status (sequence of str): One word or phrase for each example.
        hit (Tensor): bool (B,), whether the target is the first class of the whole
            input.
        targets (Tensor or None): int64 (1 or B, 1), the targets.
        first_classes (Tensor, optional): (B,), the classes that the model predicts
            instead. Default: None

    Returns:
        *tuple[str, ...]*: The status, "target not predicted" where it was "ok" and the
        target is not predicted.
    """
    missed = (~hit).nonzero().flatten().tolist()
    if not missed:
        return tuple(status)
    classes: list[int | None] = [None] * len(hit)
    if targets is not None:
        classes = targets.flatten().expand(len(hit)).tolist()

    def named(example: int) -> str:
        instead = ""
        if first_classes is not None:
            instead = f", predicted {int(first_classes[example])}"
        return f"{example} (target {classes[example]}{instead})"

    listed = ", ".join(map(named, missed[:_MOST_NAMED]))
    more = f" and {len(missed) - _MOST_NAMED} more" if len(missed) > _MOST_NAMED else ""
    warn_caller(
        "target: the model does not predict it, with nothing removed, for examples "
        f"{listed}{more}; whether it stays the first class then says nothing of the "
        "map: 0 is no merit where lower is better, and no fault where higher is. Pass "
        "the predicted classes, or leave such examples out (status: "
        f'"{NOT_PREDICTED}")'
    )
    return tuple(
        word if found or word != OK else NOT_PREDICTED
        for word, found in zip(status, hit.tolist(), strict=True)
    )
