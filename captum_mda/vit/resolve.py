"""`resolve`: from a model to its checked adapter."""

from __future__ import annotations

from torch import nn

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.check import check_adapter
from captum_mda.vit.execution import require_observable
from captum_mda.vit.families import (
    adapters_inside,
    build_adapter,
    UnknownModelError,
)
from captum_mda.vit.wrappers import adapt_wrapper

# Libraries whose forwards end as the tables of families say.
_LIBRARIES = ("timm", "torchvision", "transformers", "open_clip")


def resolve(
    model: nn.Module | ViTAdapter, adapter: nn.Module | ViTAdapter | None = None
) -> ViTAdapter:
    """Find the parts of a Vision Transformer, and check them on one forward.

    Known models are timm's VisionTransformer (ViT, DeiT, DeiT III, DINOv2, CLIP and
    SigLIP trunks), Eva (EVA-02, DINOv3) and Beit; torchvision's VisionTransformer;
    transformers' ViT, DeiT, BEiT, Data2Vec, DINOv2, DINOv3, ViT-MSN, I-JEPA, AST, CLIP,
    SigLIP and SigLIP 2 vision models; and open_clip's visual towers. Models compiled
    with `torch.compile` run eagerly.

    A model may also contain one of these: in an `nn.Sequential` after a normalisation,
    as a backbone with another head, in a Lightning module, under LoRA. The output of
    the whole model is then explained, by the blocks of the known part. To find it, the
    model runs on an example image two to four times.

    The check runs the model on an example input: every block must compute one attention
    map whose rows sum to 1, observation must not change the output, and the adapter's
    tail must compute the output from the last block's tokens.

    A model without a head (`num_classes=0`, a backbone) is resolved, too. It outputs
    features, and ``target=5`` means the sixth feature. Pass an embedding as a
    floating-point ``target`` to explain the similarity with it, or a callable
    ``target`` for any other score of the features.

    Args:
        model (nn.Module or ViTAdapter): A stock model, a model around one, or an
            adapter.
        adapter (nn.Module or ViTAdapter, optional): The transformer inside ``model``
            whose blocks are read, or its adapter: needed where ``model`` runs several,
            or one that is not known. None: the known one. Default: None

    Returns:
        *ViTAdapter*: accepted by attribution methods and metrics in the model's place.

    Raises:
        TypeError: ``model`` or ``adapter`` is none of these.
        ValueError: The family is not known; several known models run inside; the model
            cannot be observed; or the check fails. The message gives details.

    Example::

        >>> from torch import nn
        >>> from captum_mda import demo
        >>> from captum_mda.vit import resolve
        >>> model = demo.load_model()
        >>> resolve(model).pooling
        'cls'
        >>> resolve(nn.Sequential(nn.Identity(), model)).depth
        5
    """
    found = find_adapter(model, adapter)
    check_adapter(found)
    return found


def find_adapter(
    model: nn.Module | ViTAdapter, adapter: nn.Module | ViTAdapter | None = None
) -> ViTAdapter:
    """Find the parts of a Vision Transformer; see `resolve`.

    A stock model does not run; a model around one runs on an example image.
    """
    if adapter is not None:
        found = _around(model, adapter)
    elif isinstance(model, ViTAdapter):
        found = model
    else:
        found = _adapted(_module("model", model))
    if not found.blocks:
        raise ValueError("model: it has no blocks, takes at least one")
    return found


def _module(name: str, model: object) -> nn.Module:
    """Check that a module can be observed, and return its uncompiled version."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name}: got {type(model).__name__}, takes a torch.nn.Module or a "
            "captum_mda.vit.ViTAdapter"
        )
    require_observable(model)
    compiled_from = getattr(model, "_orig_mod", model)
    return compiled_from if isinstance(compiled_from, nn.Module) else model


def _adapted(model: nn.Module) -> ViTAdapter:
    try:
        adapter = build_adapter(model)
    except UnknownModelError:
        known, refused = adapters_inside(model)
        if known:
            return adapt_wrapper(model, known)
        if refused:
            path, reason = next(iter(refused.items()))
            message = str(reason).removeprefix("model: ")
            raise ValueError(f"model.{path}: {message}") from reason
        raise
    return adapter if _is_stock(model) else adapt_wrapper(model, {"": adapter})


def _is_stock(model: nn.Module) -> bool:
    """Tell whether a model's forward is that of its library."""
    library = type(model).forward.__module__.partition(".")[0]
    return library in _LIBRARIES and "forward" not in vars(model)


def _around(model: nn.Module | ViTAdapter, inner: nn.Module | ViTAdapter) -> ViTAdapter:
    """Adapt a model by the transformer inside that the caller names."""
    if isinstance(model, ViTAdapter):
        raise TypeError(
            "model: got a ViTAdapter and another in adapter, takes a torch.nn.Module "
            "where adapter says what is inside it"
        )
    whole = _module("model", model)
    if not isinstance(inner, ViTAdapter):
        part = _module("adapter", inner)
        inner = build_adapter(part, inside=True)
    path = next(
        (name for name, part in whole.named_modules() if part is inner.model), None
    )
    if path is None:
        raise ValueError(
            f"adapter: its {type(inner.model).__name__} is no part of model, takes one "
            "of its modules, or an adapter of one"
        )
    return adapt_wrapper(whole, {path: inner}, chosen=True)
