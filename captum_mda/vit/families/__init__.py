"""The families of Vision Transformers that `resolve` knows.

A family is recognised by the parts that its models have, without an import of its
library. Where a library renamed a part, all its names are tried.
"""

from __future__ import annotations

from torch import nn

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.families.base import Family, UnknownModelError
from captum_mda.vit.families.naflex import NAFLEX
from captum_mda.vit.families.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from captum_mda.vit.families.refusals import refusal_of
from captum_mda.vit.families.timm import TIMM
from captum_mda.vit.families.torchvision import TORCHVISION
from captum_mda.vit.families.transformers import TRANSFORMERS

__all__ = [
    "FAMILIES",
    "Family",
    "UnknownModelError",
    "adapters_inside",
    "build_adapter",
]

FAMILIES: tuple[Family, ...] = (
    TIMM,
    NAFLEX,
    TORCHVISION,
    OPEN_CLIP,
    OPEN_CLIP_TIMM,
    TRANSFORMERS,
)


def build_adapter(model: nn.Module, inside: bool = False) -> ViTAdapter:
    """Make a model's adapter by the first family whose parts it has.

    Args:
        model (nn.Module): The model.
        inside (bool, optional): Whether it is a part of another model, so that its own
            pooling and head do not matter. Default: False

    Raises:
        UnknownModelError: It has all parts of no family; the message names the parts
            that it lacks of the closest one.
        ValueError: The family is known, but this variant is not supported.
    """
    lacking = [(family.missing(model), family) for family in FAMILIES]
    for missing, family in lacking:
        if not missing:
            if not inside:
                family.require_output(model)
            return family.build(model)
    reason = refusal_of(model)
    missing, closest = min(lacking, key=lambda pair: len(pair[0]) / len(pair[1].parts))
    error: type[ValueError] = ValueError
    if reason is None:
        error = UnknownModelError
        what = "is of no known family, nor is any part of it"
    else:
        what = f"{reason}; it is of no known family"
    raise error(
        f"model: got {type(model).__name__}, which {what}; closest is "
        f"{closest.name}, of which it lacks {', '.join(missing)}. Known are "
        + "; ".join(family.name for family in FAMILIES)
        + ". For another model write a captum_mda.vit.ViTAdapter, see "
        "docs/adapters.md, and pass it in the model's place"
    )


def adapters_inside(
    model: nn.Module,
) -> tuple[dict[str, ViTAdapter], dict[str, ValueError]]:
    """Find the known models inside another, of nested ones the outermost.

    Returns:
        *dict*, *dict*: from the path of a part to its adapter; and from the path of a
        part whose family is known but not supported to the error.
    """
    known: dict[str, ViTAdapter] = {}
    refused: dict[str, ValueError] = {}
    for path, part in model.named_modules():
        if not path or any(path.startswith(f"{outer}.") for outer in known):
            continue
        try:
            known[path] = build_adapter(part, inside=True)
        except UnknownModelError:
            continue
        except ValueError as error:
            refused[path] = error
    return known, refused
