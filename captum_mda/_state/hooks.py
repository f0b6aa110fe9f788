"""Taking hooks off modules by what they are, whether or not a handle was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

Hook = Callable[..., Any]

_TABLES = (
    ("_forward_pre_hooks", ("_forward_pre_hooks_with_kwargs",)),
    (
        "_forward_hooks",
        ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    ),
)


def remove_hooks(modules: Iterable[nn.Module], *hooks: Hook) -> None:
    """Remove hooks from modules that may or may not have them.

    An interrupt between a hook's registration and the keeping of its handle leaves it
    with a hook that no handle removes; by the function itself it is found.

    Args:
        modules (iterable of nn.Module): Where the hooks may be.
        *hooks (callable): The very functions that were registered.
    """
    for module in modules:
        for table, options in _TABLES:
            registered = getattr(module, table)
            for key, hook in list(registered.items()):
                if any(hook is each for each in hooks):
                    # The hook last: while it is there, another call finds the rest.
                    for option in options:
                        getattr(module, option, {}).pop(key, None)
                    registered.pop(key, None)
