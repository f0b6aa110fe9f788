"""transformers' vision models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from captum_mda.vit.adapter import Pooling, ViTAdapter
from captum_mda.vit.families.base import (
    Family,
    has,
    linear_weight,
    look_up,
    UnknownModelError,
)
from captum_mda.vit.families.readers import reader_of
from captum_mda.vit.families.refusals import refusal_of
from captum_mda.vit.outputs import output_tensor


# Positional in the table below, where the first two or three fields suffice.
@dataclass(frozen=True)
class Head:
    """The end of a class of transformers, from the last block's output on.

    Args:
        pooling (str): How the output pools tokens.
        classifier (str): The path of the module after pooling; "" for none.
        output (str): The field of its return value; "last_hidden_state" is pooled.
        norm (str): Where the base's last norm is applied: "before" or "after" pooling,
            or "none".
        pooler (str): The path, in the base, of a module that pools the normed tokens;
            "" where the class token or the mean is used.
        distilled (str): The path of a distillation token's own head; "" without one.
        both_tokens (bool): Whether class and distillation token are averaged.
    """

    pooling: Pooling
    classifier: str = ""
    output: str = "pooler_output"
    norm: str = "before"
    pooler: str = ""
    distilled: str = ""
    both_tokens: bool = False


_BACKBONE = Head("cls", pooler="pooler")
_CLASSIFIER = Head("cls", "classifier", "logits")
_CLASSIFIER_OF_BOTH = Head("cls+avg", "classifier", "logits")
_CLASSIFIER_OF_MEAN = Head("avg", "classifier", "logits")

_HEADS: dict[str, Head] = {
    "ViTModel": _BACKBONE,
    "ViTForImageClassification": _CLASSIFIER,
    "ViTHybridModel": _BACKBONE,
    "ViTHybridForImageClassification": _CLASSIFIER,
    "ViTMSNModel": Head("cls", output="last_hidden_state"),
    "ViTMSNForImageClassification": _CLASSIFIER,
    "DeiTModel": _BACKBONE,
    "DeiTForImageClassification": _CLASSIFIER,
    "DeiTForImageClassificationWithTeacher": Head(
        "cls", "cls_classifier", "logits", distilled="distillation_classifier"
    ),
    "BeitModel": Head("avg", pooler="pooler"),
    "BeitForImageClassification": Head("avg", "classifier", "logits", pooler="pooler"),
    "Data2VecVisionModel": Head("avg", pooler="pooler"),
    "Data2VecVisionForImageClassification": Head(
        "avg", "classifier", "logits", pooler="pooler"
    ),
    "IJepaModel": Head("avg", output="last_hidden_state"),
    "IJepaForImageClassification": _CLASSIFIER_OF_MEAN,
    "Dinov2Model": Head("cls"),
    "Dinov2ForImageClassification": _CLASSIFIER_OF_BOTH,
    "Dinov2WithRegistersModel": Head("cls"),
    "Dinov2WithRegistersForImageClassification": _CLASSIFIER_OF_BOTH,
    "DINOv3ViTModel": Head("cls"),
    "ASTModel": Head("cls", both_tokens=True),
    "ASTForAudioClassification": Head("cls", "classifier", "logits", both_tokens=True),
    "CLIPVisionModel": Head("cls", norm="after"),
    "CLIPVisionModelWithProjection": Head(
        "cls", "visual_projection", "image_embeds", norm="after"
    ),
    "CLIPForImageClassification": Head("avg", "classifier", "logits", norm="none"),
    "MetaClip2VisionModel": Head("cls", norm="after"),
    "MetaClip2VisionModelWithProjection": Head(
        "cls", "visual_projection", "image_embeds", norm="after"
    ),
    "MetaClip2ForImageClassification": Head("avg", "classifier", "logits", norm="none"),
    "SiglipVisionModel": Head("map", pooler="head"),
    "SiglipForImageClassification": _CLASSIFIER_OF_MEAN,
    "Siglip2VisionModel": Head("map", pooler="head"),
    "Siglip2ForImageClassification": _CLASSIFIER_OF_MEAN,
}

_BASES = (
    "vit|deit|beit|data2vec_vision|ijepa|dinov2|dinov2_with_registers|"
    "audio_spectrogram_transformer|vision_model.vision_model|vision_model"
)
_LAYERS = "layers|encoder.layers|encoder.layer|model.layer|layer"
_NORMS = "layernorm|post_layernorm|norm"
_PATCHES = "embeddings.patch_embeddings|embeddings.patch_embedding"
_PROJECTIONS = (
    "attention.o_proj|attention.output.dense|self_attn.out_proj|self_attn.o_proj"
)
_FIRST_NORMS = "layernorm_before|norm1|layer_norm1"


def _head_of(model: Any) -> Head | None:
    for parent in type(model).__mro__:
        head = _HEADS.get(parent.__name__)
        if head is not None:
            break
    else:
        return None
    if head.pooler == "pooler" and head.pooling == "avg":
        # BEiT and similar models pool by the class token, or by the mean.
        by_mean = getattr(model.config, "use_mean_pooling", True)
        head = replace(head, pooling="avg" if by_mean else "cls")
    if head.pooler and not head.classifier and not has(_base(model), head.pooler):
        # The model was built without its pooling layer.
        pooling = "avg" if head.pooling == "map" else head.pooling
        head = replace(head, pooler="", output="last_hidden_state", pooling=pooling)
    return head


def _base(model: Any) -> Any:
    return look_up(model, _BASES) if has(model, _BASES) else model


def _refuse(model: Any) -> None:
    name = type(model).__name__
    reason = refusal_of(model)
    if reason is not None:
        raise ValueError(f"model: got {name}, which {reason}")
    raise UnknownModelError(
        f"model: got {name}, of transformers these are known: {', '.join(_HEADS)}; "
        "for another one write a captum_mda.vit.ViTAdapter, see docs/adapters.md, and "
        "pass it in the model's place"
    )


def _adapt(model: Any) -> ViTAdapter:
    head = _head_of(model)
    if head is None:
        _refuse(model)
        raise AssertionError
    base = _base(model)
    blocks = tuple(look_up(base, _LAYERS))
    embeddings = base.embeddings
    n_special = sum(
        has(embeddings, name)
        for name in ("cls_token|class_embedding", "distillation_token")
    )
    n_prefix = n_special + int(getattr(base.config, "num_register_tokens", 0) or 0)
    reads = reader_of(base, look_up(base, _PATCHES))
    return ViTAdapter(
        model=model if reads.wrap is None else reads.wrap(model),
        blocks=blocks,
        n_prefix_tokens=n_prefix,
        pooling=head.pooling,
        tail=partial(_tail, model, base, head, n_prefix),
        patch_grid=reads.patch_grid,
        patch_layout=reads.patch_layout,
        patch_order=reads.patch_order,
        planes=reads.planes,
        output_projection=lambda index: linear_weight(
            look_up(blocks[index], _PROJECTIONS)
        ),
        feature_layer=look_up(blocks[-1], _FIRST_NORMS),
        class_index=0 if n_special else None,
        distillation_index=1 if head.distilled or head.both_tokens else None,
        example_size=reads.example_size,
        select_output=partial(_output, head, n_prefix),
    )


def _tail(model: Any, base: Any, head: Head, n_prefix: int, tokens: Tensor) -> Tensor:
    norm = look_up(base, _NORMS)
    if head.norm == "before":
        tokens = norm(tokens)
    if head.pooler:
        pooled = look_up(base, head.pooler)(tokens)
    else:
        pooled = _pooled(head, n_prefix, tokens)
    if head.norm == "after":
        pooled = norm(pooled)
    if head.classifier:
        pooled = look_up(model, head.classifier)(pooled)
    if head.distilled:
        pooled = (pooled + look_up(model, head.distilled)(tokens[:, 1])) / 2
    return cast(Tensor, pooled)


def _pooled(head: Head, n_prefix: int, tokens: Tensor) -> Tensor:
    if head.both_tokens:
        return (tokens[:, 0] + tokens[:, 1]) / 2
    if head.pooling == "cls":
        return tokens[:, 0]
    mean = tokens[:, n_prefix:].mean(dim=1)
    if head.pooling == "cls+avg":
        return torch.cat([tokens[:, 0], mean], dim=1)
    return mean


def _output(head: Head, n_prefix: int, returned: Any) -> Tensor:
    """Read the head's field, or the tensor that a subclass returned instead."""
    value = returned
    if not isinstance(returned, Tensor):
        value = getattr(returned, head.output, None)
        if value is None:
            return output_tensor(returned)
    if head.output == "last_hidden_state" and value.dim() == 3:
        value = _pooled(head, n_prefix, value)
    return cast(Tensor, value)


TRANSFORMERS = Family(
    name="transformers ViT, DeiT, BEiT, DINOv2, DINOv3, CLIP, SigLIP, AST and "
    "relatives",
    parts=("config.model_type", "base_model_prefix"),
    build=_adapt,
)
