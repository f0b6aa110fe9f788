"""Models that cannot be explained by their attention, and what to use instead."""

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
_NO_ATTENTION = (
    "has no attention between patches; MetricDrivenAttribution explains it, and so do "
    "Captum's gradient methods under LibraGrad"
)
_MASKED = (
    "is trained to fill in patches that are hidden at random; load its weights by "
    "ViTModel.from_pretrained or ViTForImageClassification.from_pretrained, which hide "
    "none"
)
_PATCH_OUTPUTS = (
    "returns one output for each patch or pixel and none for the image; pass the "
    "backbone inside it, or a model that returns the score to explain"
)

_TWO_TOWERS = (
    "takes images and texts together; load its vision tower alone, by "
    "CLIPVisionModelWithProjection, SiglipVisionModel or Siglip2VisionModel, and pass "
    "the embedding of a text as the target"
)

_SOUND = (
    "reads sound as a waveform or features over time, takes images, or spectrograms as "
    "ASTForAudioClassification does"
)
_CHANNELS = (
    "attends between channels, not between patches; MetricDrivenAttribution explains "
    "it, and so do Captum's gradient methods under LibraGrad"
)
_CLASS_ATTENTION = (
    "lets the class token in behind its blocks, by an attention of its own, so that no "
    "map of theirs covers it; MetricDrivenAttribution explains it, and so do Captum's "
    "gradient methods under LibraGrad"
)
_SEVERAL = (
    "has more than one attention in a block; MetricDrivenAttribution explains it, and "
    "so do Captum's gradient methods under LibraGrad"
)

# How the names of classes begin, in any library.
_REASONS: tuple[tuple[str, str], ...] = (
    (_MASKED, "ViTMAE"),
    (_TWO_TOWERS, "CLIPModel SiglipModel Siglip2Model AltCLIPModel MetaClip2Model"),
    (_VIDEOS, "VideoMAE VideoMT Vivit Timesformer VJEPA2 MViT"),
    (
        _DETECTION,
        "Yolos Sam Sam2 Owl Detr ConditionalDetr DeformableDetr TableTransformer "
        "RTDetr GroundingDino Mask2Former MaskFormer OneFormer Eomt VitPose LwDetr "
        "RfDetr",
    ),
    (
        _WINDOWS,
        "Swin Donut Segformer Pvt PyramidVisionTransformer Hiera MobileViT MobileVit "
        "Levit Cvt Dinat NatModel NatFor EfficientFormer EfficientVit SwiftFormer "
        "PoolingVisionTransformer FocalNet GLPN VitDet MaxVit MaxxVit Twins Nest DaVit "
        "FastVit TinyVit CoaT Visformer VOLO VisionTransformerSAM "
        "GlobalContextVit MultiScaleVit EdgeNeXt CSATv2",
    ),
    (_CHANNELS, "Xcit"),
    (_CLASS_ATTENTION, "Cait"),
    (_SEVERAL, "ConVit TNT CrossVit"),
    (
        _NO_ATTENTION,
        "ConvNext ConvNeXt DINOv3ConvNext ResNet RegNet EfficientNet MobileNet "
        "BitModel BitFor HGNet VanModel VanFor MlpMixer MetaFormer PoolFormer "
        "DenseNet VGG",
    ),
)
_LIBRARIES = ("transformers.", "timm.", "torchvision.", "open_clip.")
_PATCH_TASKS = (
    "ForMaskedImageModeling",
    "ForSemanticSegmentation",
    "ForDepthEstimation",
    "ForPreTraining",
    "ForUniversalSegmentation",
)


def refusal_of(model: Any) -> str | None:
    """Explain why a library's class is refused, and what to use; None if unknown.

    Returns:
        *str*, optional: continues "got ClassName, which".
    """
    for parent in type(model).__mro__:
        if not parent.__module__.startswith(_LIBRARIES):
            continue
        for reason, beginnings in _REASONS:
            if parent.__name__.startswith(tuple(beginnings.split())):
                return reason
    if not type(model).__module__.startswith("transformers."):
        return None
    if type(model).__name__.endswith(_PATCH_TASKS):
        return _PATCH_OUTPUTS
    named = getattr(model, "main_input_name", "")
    if named == "input_ids" and not hasattr(model.config, "vision_config"):
        return _TEXT
    return _SOUND if named in ("input_values", "input_features") else None
