"""Modules whose forward is random, or depends on the batch, while they are trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

_RANDOM_LAYERS = ("Drop", "StochasticDepth")
_RATES_OF_LAYERS = ("p", "prob", "rate")
_BATCH_LAYERS = ("BatchNorm", "BatchRenorm", "EvoNorm2dB", "InplaceAbn")

Named = tuple[str, nn.Module]


def draws_at_random(module: nn.Module) -> bool:
    """Tell whether a module itself draws random numbers, being in training mode.

    Dropout and its relatives do where their rate is above 0, attention modules that
    hold a rate as a number, models that skip layers, and randomised ReLU.

    Args:
        module (nn.Module): The module; its submodules do not count.
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
    if hasattr(config, "__dict__"):  # read anew in each forward by some models
        rates += [
            value for name, value in vars(config).items() if name.endswith("layerdrop")
        ]
    return any(isinstance(rate, float) and 0.0 < rate <= 1.0 for rate in rates)


def depends_on_batch(module: nn.Module) -> bool:
    """Tell whether a module itself normalises by the batch, being in training mode."""
    if not module.training:
        return False
    names = [base.__name__ for base in type(module).__mro__]
    if any(name.startswith("Frozen") for name in names):
        return False
    return any(layer in name for name in names for layer in _BATCH_LAYERS)


def training_message(argument: str, modules: Iterable[Named]) -> str | None:
    """Say what training mode does to results, where it does anything.

    Args:
        argument (str): The argument that the modules came in.
        modules (iterable of pairs): Names and modules, no submodules.

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
