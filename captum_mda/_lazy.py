"""Public names that are imported when they are first read (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__``.

    Args:
        package (str): Its ``__name__``.
        homes (mapping of str to sequence of str): From modules to their public names.
        modules (sequence of str, optional): Modules of the package that are public.
            Default: ()
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        """Import a public name when it is read."""
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    def __dir__() -> list[str]:
        """List what the module has, imported or not."""
        return sorted({*vars(import_module(package)), *home_of, *modules})

    return __getattr__, __dir__
