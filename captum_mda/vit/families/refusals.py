"""transformers' models that cannot be explained by their attention, and what can."""

from __future__ import annotations

from typing import Any

_WINDOWS = (
    "attends within windows, or merges tokens or keys, so that no row of attention "
    "covers the image; MetricDrivenAttribution explains it, and so do Captum's "
    "gradient methods under LibraGrad"
)
_VIDEOS = (
    "reads videos (B, frames, C, H, W), and its tokens are cubes of several frames; "
    "explain one frame by an image model such as ViTForImageClassification"
)
_DETECTION = (
    "returns one output for each of many queries, boxes or points and none for the "
    "image; explain its backbone, or an image classifier such as "
    "ViTForImageClassification"
)
_TEXT = (
    "reads text, takes a model of images; Captum's LayerIntegratedGradients explains it"
)
_CONVOLUTIONS = (
    "has convolutions in attention's place; MetricDrivenAttribution and Captum's "
    "gradient methods explain it"
)
_MASKED = (
    "is trained to fill in patches that are hidden at random; load its weights by "
    "ViTModel.from_pretrained or ViTForImageClassification.from_pretrained, which hide "
    "none"
)
_PATCH_OUTPUTS = (
    "returns one output for each patch or pixel and none for the image; pass the "
    "backbone inside it, or a model that returns the score in question"
)

_TWO_TOWERS = (
    "takes images and texts together; load its vision tower alone, by "
    "CLIPVisionModelWithProjection, SiglipVisionModel or Siglip2VisionModel, and pass "
    "the embedding of a text as the target"
)

_REASONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_MASKED, ("ViTMAE",)),
    (
        _TWO_TOWERS,
        ("CLIPModel", "SiglipModel", "Siglip2Model", "AltCLIPModel", "MetaClip2Model"),
    ),
    (
        _VIDEOS,
        ("VideoMAE", "VideoMT", "Vivit", "Timesformer", "VJEPA2"),
    ),
    (
        _DETECTION,
        (
            "Yolos",
            "Sam",
            "Owl",
            "Detr",
            "ConditionalDetr",
            "DeformableDetr",
            "TableTransformer",
            "RTDetr",
            "GroundingDino",
            "Mask2Former",
            "MaskFormer",
            "OneFormer",
            "Eomt",
            "VitPose",
            "LwDetr",
            "RfDetr",
        ),
    ),
    (
        _WINDOWS,
        (
            "Swin",
            "Donut",
            "Segformer",
            "Pvt",
            "Hiera",
            "MobileViT",
            "Levit",
            "Cvt",
            "Dinat",
            "Nat",
            "EfficientFormer",
            "SwiftFormer",
            "PoolFormer",
            "FocalNet",
            "GLPN",
            "VitDet",
        ),
    ),
    (
        _CONVOLUTIONS,
        (
            "ConvNext",
            "DINOv3ConvNext",
            "ResNet",
            "RegNet",
            "EfficientNet",
            "MobileNet",
            "Bit",
            "HGNet",
            "VAN",
        ),
    ),
)
_PATCH_TASKS = (
    "ForMaskedImageModeling",
    "ForSemanticSegmentation",
    "ForDepthEstimation",
    "ForPreTraining",
    "ForUniversalSegmentation",
)


def refusal_of(model: Any) -> str | None:
    """Say why a class of transformers is refused, and the nearest way; None if not."""
    for parent in type(model).__mro__:
        if not parent.__module__.startswith("transformers."):
            continue
        for reason, beginnings in _REASONS:
            if parent.__name__.startswith(beginnings):
                return f"got {type(model).__name__}, which {reason}"
    name = type(model).__name__
    if not type(model).__module__.startswith("transformers."):
        return None
    if name.endswith(_PATCH_TASKS):
        return f"got {name}, which {_PATCH_OUTPUTS}"
    reads_text = getattr(model, "main_input_name", "") == "input_ids"
    if reads_text and not hasattr(model.config, "vision_config"):
        return f"got {name}, which {_TEXT}"
    return None
