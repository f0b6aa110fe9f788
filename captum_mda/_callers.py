"""Where a warning should point: at the line that called the package."""

from __future__ import annotations

import inspect


def callers_level() -> int:
    """Count the frames from the function that calls this to the line outside.

    Public functions lie at different heights, below the wrapper that Captum puts around
    them; the result is what `warnings.warn` takes as ``stacklevel``.
    """
    level, frame = 0, inspect.currentframe()
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("captum", "captum_mda"):
            break
        level, frame = level + 1, frame.f_back
    return level
