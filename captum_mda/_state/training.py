"""Modules in training mode whose forward is random or depends on the batch."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

_RANDOM_LAYERS = ("Drop", "StochasticDepth")
_RATES_OF_LAYERS = ("p", "prob", "rate")
_BATCH_LAYERS = ("BatchNorm", "BatchRenorm", "EvoNorm2dB", "InplaceAbn")

Named = tuple[str, nn.Module]


def draws_at_random(module: nn.Module) -> bool:
    """Tell whether a module is in training mode and draws random numbers.

    These are dropout and similar layers with a rate above 0, attention modules with a
    rate as a number, models that skip layers, and randomised ReLU.

    Args:
        module (nn.Module): The module; its submodules are not checked.
    """
    if not module.training:
        return False
    if isinstance(module, nn.RReLU):
        return module.lower < module.upper
    attributes = vars(module)
    rates = [value for name, value in attributes.items() if "drop" in name.lower()]
    if any(layer in type(module).__name__ for layer in _RANDOM_LAYERS):
        rates += [attributes.get(name) for name in _RATES_OF_LAYERS]
    config = attributes.get("config")
    if hasattr(config, "__dict__"):  # some models read it in each forward
        rates += [
            value for name, value in vars(config).items() if name.endswith("layerdrop")
        ]
    return any(isinstance(rate, float) and 0.0 < rate <= 1.0 for rate in rates)


def depends_on_batch(module: nn.Module) -> bool:
    """Tell whether a module is in training mode and normalises by the batch."""
    if not module.training:
        return False
    names = [base.__name__ for base in type(module).__mro__]
    if any(name.startswith("Frozen") for name in names):
        return False
    return any(layer in name for name in names for layer in _BATCH_LAYERS)


def training_message(argument: str, modules: Iterable[Named]) -> str | None:
    """Write the warning about training mode, if it affects results.

    Args:
        argument (str): The name of the argument that contains the modules.
        modules (iterable of pairs): Names and modules; submodules are not checked.

    Returns:
        *str* or None: the warning.
    """
    modules = list(modules)
    random = [each for each in modules if draws_at_random(each[1])]
    batch = [each for each in modules if depends_on_batch(each[1])]
    consequences = []
    if random:
        consequences.append(
            f"{_listed(random)} drawing random numbers, so that results depend on the "
            "state of the random number generators (equal states give equal results)"
        )
    if batch:
        consequences.append(
            f"{_listed(batch)} normalising by the rows of each forward, so that "
            "results depend on the other examples and on how many rows share a forward"
        )
    if not consequences:
        return None
    return (
        f"{argument}: in training mode, with {'; and with '.join(consequences)}; call "
        "model.eval() first"
    )


def _listed(modules: list[Named]) -> str:
    name, module = modules[0]
    more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    return f"{type(module).__name__}{f' {name!r}' if name else ''}{more}"
