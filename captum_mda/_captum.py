"""The only place that imports Captum's private helpers.

A new Captum release that moves one of them breaks this module and its test, and
nothing else.
"""

from collections.abc import Callable
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
    "BaselineType",
    "NullProgress",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "format_additional_forward_args",
    "format_output",
    "inputs_before_repeats",
    "is_tuple",
    "log_usage",
    "progress_bar",
]


def progress_bar(total: int, description: str, show: bool) -> Any:
    """Open Captum's bar, or one that does nothing."""
    return progress(total=total, desc=description) if show else NullProgress()


def log_usage(*, part_of_slo: bool = False) -> Callable[[Function], Function]:
    """Wrap a public function: Captum logs its use, and all modes stay as they were.

    NoiseTunnel calls what is inside of Captum's wrapping.
    """
    logged = cast(Callable[[Function], Function], _log_usage(part_of_slo=part_of_slo))
    return lambda function: logged(restores_modes(function))


def inputs_before_repeats() -> int | None:
    """Count the inputs whose noisy copies Captum has called a method with.

    NoiseTunnel and sensitivity_max repeat inputs, baselines, targets, feature masks and
    additional forward arguments before they call a method, but no arguments that they
    do not know; and they do not say how often.

    Returns:
        *int* or None: the number of examples before they were repeated; None where the
        caller is neither.
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
