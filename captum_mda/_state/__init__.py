"""Restores the caller's models, random number generators and PyTorch's modes.

`preserved_state` is put around the forwards of a call, `restores_modes` around the call
itself, and `undone` around every change in between, so that Ctrl-C leaves no change.
"""

from captum_mda._state.callers import frames_inside, warn_caller
from captum_mda._state.hooks import remove_hooks
from captum_mda._state.preserve import preserved_state
from captum_mda._state.training import draws_at_random
from captum_mda._state.undo import restores_modes, undone

__all__ = [
    "draws_at_random",
    "frames_inside",
    "preserved_state",
    "remove_hooks",
    "restores_modes",
    "undone",
    "warn_caller",
]
