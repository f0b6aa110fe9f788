"""The families of Vision Transformers that `resolve` knows.

Nothing is imported: a family is recognised by the parts that its models have. Where a
library renamed a part, the names are tried in turn.
"""

from __future__ import annotations

from torch import nn

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.families.base import Family
from captum_mda.vit.families.open_clip import OPEN_CLIP, OPEN_CLIP_TIMM
from captum_mda.vit.families.timm import TIMM
from captum_mda.vit.families.torchvision import TORCHVISION
from captum_mda.vit.families.transformers import TRANSFORMERS

FAMILIES: tuple[Family, ...] = (
    TIMM,
    TORCHVISION,
    OPEN_CLIP,
    OPEN_CLIP_TIMM,
    TRANSFORMERS,
)


def build_adapter(model: nn.Module) -> ViTAdapter:
    """Make a model's adapter by the first family that has all its parts.

    Raises:
        ValueError: No family has, with what is missing of the closest one.
    """
    lacking = [(family.missing(model), family) for family in FAMILIES]
    for missing, family in lacking:
        if not missing:
            return family.build(model)
    missing, closest = min(lacking, key=lambda pair: len(pair[0]) / len(pair[1].parts))
    hint = ""
    for name in ("visual", "vision_model", "module", "trunk"):
        if isinstance(getattr(model, name, None), nn.Module):
            hint = f"; its .{name} may be what you mean"
            break
    raise ValueError(
        f"model: got {type(model).__name__}, which is of no known family; closest is "
        f"{closest.name}, of which it lacks {', '.join(missing)}{hint}. Known are "
        + "; ".join(family.name for family in FAMILIES)
        + ". For another model write a captum_mda.vit.ViTAdapter, see "
        "docs/adapters.md, and pass it in the model's place"
    )
