"""The only place that imports Captum's private helpers.

If a new Captum release moves one of them, only this module and its test break.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast, TypeVar

from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
    _format_output as format_output,
    _is_tuple as is_tuple,
)
from captum._utils.progress import NullProgress, progress
from captum._utils.typing import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
)
from captum.attr import NoiseTunnel
from captum.log import log_usage as _log_usage
from captum.metrics import sensitivity_max
from torch import Tensor

from captum_mda._state import frames_inside, restores_modes

Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = [
    "FORWARDS",
    "BaselineType",
    "NullProgress",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "bars_about",
    "end_bar",
    "format_additional_forward_args",
    "format_output",
    "inputs_before_repeats",
    "is_tuple",
    "log_usage",
    "progress_bar",
]


FORWARDS = " forwards"
"""The unit of bars that count the inputs of the model."""

_SUBJECT: ContextVar[str] = ContextVar("subject of bars", default="")


@contextmanager
def bars_about(subject: str) -> Iterator[None]:
    """Show a subject, such as the name of an image, in the bars opened inside."""
    token = _SUBJECT.set(subject)
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def progress_bar(
    total: int | None,
    description: str,
    show: bool,
    work: str | None = None,
    unit: str = "it",
) -> Any:
    """Open Captum's progress bar, or one that does nothing.

    Args:
        total (int, optional): The number of units. None: it is not known, and no
            remaining time is shown.
        description (str): The text before the bar.
        show (bool): Whether to show the bar.
        work (str, optional): The text after the subject of `bars_about`, if there is
            one. None: the description. Default: None
        unit (str, optional): The name of the unit. Default: "it"
    """
    if not show:
        return NullProgress()
    subject = _SUBJECT.get()
    text = f"{subject}: {work or description}" if subject else description
    return progress(total=total, desc=text, unit=unit)


def end_bar(bar: Any) -> None:
    """Set the total of a bar, which was an estimate, to its present count."""
    if not isinstance(bar, NullProgress):
        bar.total = bar.n
        bar.refresh()


def log_usage(*, part_of_slo: bool = False) -> Callable[[Function], Function]:
    """Wrap a public function: Captum logs its use, and all modes are restored.

    NoiseTunnel unwraps Captum's part and keeps the inner one.
    """
    logged = cast(Callable[[Function], Function], _log_usage(part_of_slo=part_of_slo))
    return lambda function: logged(restores_modes(function))


def inputs_before_repeats() -> int | None:
    """Count the examples of NoiseTunnel or sensitivity_max before it repeats them.

    Both repeat inputs, baselines, targets, feature masks and additional forward
    arguments before they call a method, but not the arguments that Captum does not
    know, and do not pass the number of repeats.

    Returns:
        *int* or None: the number of examples; None if the caller is neither of them.
    """
    for frame in frames_inside():
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _REPEATING:
            inputs = frame.f_locals.get("inputs")
            first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
            return len(first) if isinstance(first, Tensor) else None
    return None


_REPEATING = {
    (function.__module__, function.__name__)
    for function in (NoiseTunnel.attribute, sensitivity_max)
}
