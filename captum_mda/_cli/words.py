"""How the command line writes the names of arguments in errors."""

from __future__ import annotations

_NAMES = {"images": "IMAGE", "model_args": "--model-arg"}
_FLAGS = {("pretrained", "False"): "--no-pretrained", ("overwrite", "True"): ""}


def as_option(name: str, value: str | None) -> str:
    """Write an argument as an option of the command line.

    Args:
        name (str): The argument's name in Python.
        value (str, optional): Its value, or a word that stands for one.

    Example::

        >>> as_option("weights_key", None), as_option("weights", "FILE")
        ('--weights-key', '--weights FILE')
        >>> as_option("pretrained", "False"), as_option("overwrite", "True")
        ('--no-pretrained', '--overwrite')
    """
    option = _NAMES.get(name, f"--{name.replace('_', '-')}")
    if (name, value) in _FLAGS:
        return _FLAGS[name, str(value)] or option
    return option if value is None else f"{option} {value}"
