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
from captum.log import log_usage as _log_usage

from captum_mda._state import restores_modes

Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = [
    "BaselineType",
    "NullProgress",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "format_additional_forward_args",
    "format_output",
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
