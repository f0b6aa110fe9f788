"""Removal of hooks from modules by the hooked function, without a handle."""

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

    An interrupt may come after a hook was registered and before its handle was stored.
    The hook is therefore found by its function.

    Args:
        modules (iterable of nn.Module): The modules that may have the hooks.
        *hooks (callable): The functions that were registered.
    """
    for module in modules:
        for table, options in _TABLES:
            registered = getattr(module, table)
            for key, hook in list(registered.items()):
                if any(hook is each for each in hooks):
                    # The hook is removed last, so that a repeated call finds it.
                    for option in options:
                        getattr(module, option, {}).pop(key, None)
                    registered.pop(key, None)
