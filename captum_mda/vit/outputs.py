"""The output tensor in a model's return value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_FIELDS = ("logits", "image_embeds", "pooler_output", "output", "outputs", "out")


def output_tensor(returned: Any) -> Tensor:
    """Find the tensor (B, ...) in a model's return value.

    It is the value itself; in a mapping or an object with named fields, the first of
    logits, image_embeds, pooler_output, output, outputs, out, or the only tensor; in a
    tuple or a list, the first entry.

    Raises:
        TypeError: There is no such tensor; the message names the returned type.
    """
    if isinstance(returned, Tensor):
        return returned
    named = returned if isinstance(returned, Mapping) else _fields(returned)
    for name in _FIELDS:
        if isinstance(named.get(name), Tensor):
            found: Tensor = named[name]
            return found
    if not named and isinstance(returned, (tuple, list)) and len(returned):
        return output_tensor(returned[0])
    tensors = [value for value in named.values() if isinstance(value, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    names = f" of {', '.join(map(str, named))}" if named else ""
    raise TypeError(
        f"model: it returned {type(returned).__name__}{names}, takes a model that "
        f"returns a tensor, a tuple that begins with one, or one of the fields "
        f"{', '.join(_FIELDS)}; give the adapter a select_output that picks it"
    )


def _fields(returned: Any) -> dict[str, Any]:
    """List the fields of a named tuple, a dataclass or any other object."""
    if hasattr(returned, "_asdict"):
        named: dict[str, Any] = returned._asdict()
        return named
    return {} if isinstance(returned, (tuple, list)) else dict(vars_of(returned))


def vars_of(returned: Any) -> dict[str, Any]:
    """List the attributes of an object; {} without any."""
    return getattr(returned, "__dict__", {})
