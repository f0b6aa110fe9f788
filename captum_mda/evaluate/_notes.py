"""What a user is told besides the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Note: TypeAlias = Callable[[str], None]
"""Told one line at a time."""


def silent(text: str) -> None:
    """Tell nobody."""
