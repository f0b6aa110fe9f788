"""What NoiseTunnel and sensitivity_max do not know to repeat for noisy copies."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def repeated(name: str, values: Any, inputs: Any, n_inputs: int | None) -> Any:
    """Repeat what is given for each input as often as Captum repeats the input.

    Args:
        name (str): The argument's name.
        values (Tensor, tuple of those, or another form of the argument): A tensor
            whose first dimension is the number of inputs has one entry for each.
        inputs (Tensor or tuple[Tensor, ...]): The noisy copies, those of an input one
            after the other.
        n_inputs (int, optional): How many inputs they are of. None: they are no
            copies.

    Returns:
        The same form, entries repeated like the inputs.

    Raises:
        ValueError: A tensor has the number of noisy copies in place of the inputs'.
    """
    first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    if n_inputs is None or values is None or not isinstance(first, Tensor):
        return values
    if not isinstance(values, (Tensor, tuple)) and callable(
        getattr(values, "attributions", None)
    ):
        values = values.attributions()
    if isinstance(values, tuple):
        return tuple(_repeated(name, each, first, n_inputs) for each in values)
    return _repeated(name, values, first, n_inputs)


def none_before_repeats(baselines: Any) -> Any:
    """Return None for the zeros that NoiseTunnel makes of ``baselines=None``."""
    zeros = isinstance(baselines, tuple) and all(
        isinstance(each, int) and each == 0 for each in baselines
    )
    return None if zeros else baselines


def _repeated(name: str, value: Any, copies: Tensor, n_inputs: int) -> Any:
    if not isinstance(value, Tensor) or value.dim() == 0 or len(copies) == n_inputs:
        return value
    if len(value) == n_inputs > 1:
        return value.repeat_interleave(len(copies) // n_inputs, dim=0)
    if len(value) == len(copies) and value.dim() in (2, copies.dim()):
        raise ValueError(
            f"{name}: got {len(value)} entries for {n_inputs} inputs and their noisy "
            "copies, takes one for each input, and repeats them itself"
        )
    return value
