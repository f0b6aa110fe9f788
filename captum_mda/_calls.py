"""Objects whose text, copies and pickles are made from their constructor's call."""

from __future__ import annotations

import inspect
import io
import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from types import FunctionType, MethodType
from typing import Any, TYPE_CHECKING

from torch import nn, Tensor

from captum_mda._summaries import brief

if TYPE_CHECKING:
    from typing_extensions import Self

# These pickle functions by value, so that lambdas and any models are accepted.
_BY_VALUE = ("cloudpickle", "dill", "ray", "joblib")


class MadeByCall:
    """Base of classes whose constructor takes a model, or a function, and settings.

    Settings are read from the attributes of the same names, with later changes. The
    constructor sets ``_subject`` to its first argument.
    """

    _subject: object = None

    def __repr__(self) -> str:
        """Write the call: the first argument, and settings that are not defaults."""
        defaults = self._call_defaults()
        shown = [
            f"{name}={setting_text(value)}"
            for name, value in self._call_settings().items()
            if not _equal(value, defaults.get(name, inspect.Parameter.empty))
        ]
        call = ", ".join([subject_text(self._subject), *shown])
        return f"{type(self).__name__}({call})"

    def __copy__(self) -> Self:
        """Make another object with the same model."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Make another object with a copy of the model."""
        held = _held_function(self._subject)
        if held is not None:
            raise TypeError(
                f"{type(self).__name__}: cannot be copied, as its adapter's {held} is "
                "a function that holds on to the model; copy the model, and make its "
                "adapter and the method anew"
            )
        made: Self = _made(
            type(self),
            deepcopy(self._subject, memo),
            deepcopy(self._call_settings(), memo),
        )
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the model and the settings; loading calls the constructor."""
        state = (type(self), self._subject, self._call_settings())
        if not _called_by(_BY_VALUE):
            _require_picklable(self, state)
        return _made, state

    def _call_settings(self) -> dict[str, Any]:
        """Collect the current values of the constructor's further arguments."""
        names = _parameters(type(self))[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def _call_defaults(self) -> dict[str, Any]:
        """Collect the settings' defaults."""
        parameters = inspect.signature(type(self)).parameters
        return {name: each.default for name, each in parameters.items()}


def subject_text(value: object) -> str:
    """Name a model by its class, and a function by its name."""
    model = getattr(value, "model", None)
    if not isinstance(value, nn.Module) and isinstance(model, nn.Module):
        return type(model).__name__  # an adapter's
    if isinstance(value, nn.Module):
        return type(value).__name__
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def setting_text(value: object) -> str:
    """Write a setting in a few characters."""
    if not isinstance(value, Tensor) and callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return brief(value)


def _made(made: Callable[..., Any], subject: object, settings: dict[str, Any]) -> Any:
    return made(subject, **settings)


def _parameters(made: type) -> list[str]:
    """List the parameters of a constructor."""
    return list(inspect.signature(made).parameters)


def _equal(value: object, default: object) -> bool:
    if isinstance(value, Tensor) or isinstance(default, Tensor):
        return value is default
    return type(value) is type(default) and bool(value == default)


def _held_function(subject: object) -> str | None:
    """Name an adapter's function that would keep using the model after a copy."""
    if isinstance(subject, nn.Module) or callable(getattr(subject, "__code__", None)):
        return None
    if not isinstance(getattr(subject, "model", None), nn.Module):
        return None
    for name, value in vars(subject).items():
        own = value.__func__ if isinstance(value, MethodType) else value
        if isinstance(own, FunctionType) and (own.__closure__ or own is not value):
            return name
    return None


class _Probe(pickle.Pickler):
    """Pickles everything but tensors, and discards the result."""

    def persistent_id(self, value: Any) -> str | None:
        """Leave tensors out."""
        return "tensor" if type(value) in (Tensor, nn.Parameter) else None


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _require_picklable(made: MadeByCall, state: tuple[Any, ...]) -> None:
    try:
        _Probe(_Nowhere()).dump(state)
    except Exception as error:  # each class raises its own
        name = type(made).__name__
        raise TypeError(
            f"{name}: cannot be pickled: {error}; pickle the model alone (or its "
            f"state_dict) and make the method anew from it, as in {name}(model), or "
            "give it a function that is defined at the top of a module"
        ) from error


def _called_by(packages: tuple[str, ...]) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
