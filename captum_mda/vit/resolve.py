"""From a model to its checked adapter."""

from __future__ import annotations

from torch import nn

from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.check import check_adapter
from captum_mda.vit.execution import require_observable
from captum_mda.vit.families import build_adapter


def resolve(model: nn.Module | ViTAdapter) -> ViTAdapter:
    """Find the parts of a Vision Transformer, and check them on one forward.

    Known are timm's VisionTransformer (ViT, DeiT, DeiT III, DINOv2, CLIP and SigLIP
    trunks), Eva (EVA-02, DINOv3) and Beit; torchvision's VisionTransformer;
    transformers' ViT, DeiT, DINOv2, CLIP and SigLIP vision models; and open_clip's
    visual towers. Models compiled with `torch.compile` are run eagerly meanwhile.

    The check runs the model on an example input: every block must show one attention
    map whose rows sum to 1, the output must stay as it is without observation, and the
    adapter's tail must make it of the last block's tokens.

    Args:
        model (nn.Module or ViTAdapter): A stock model, or an adapter of your own.

    Returns:
        *ViTAdapter*: what attribution methods ask for.

    Raises:
        TypeError: ``model`` is neither.
        ValueError: Its family is not known, with what is missing; it cannot be
            observed; or the check fails, with what differs.

    Example::

        >>> from captum_mda import demo
        >>> from captum_mda.vit import resolve
        >>> resolve(demo.load_model()).pooling
        'cls'
    """
    adapter = find_adapter(model)
    check_adapter(adapter)
    return adapter


def find_adapter(model: nn.Module | ViTAdapter) -> ViTAdapter:
    """Find the parts of a Vision Transformer without running it; see `resolve`."""
    if isinstance(model, ViTAdapter):
        adapter = model
    elif isinstance(model, nn.Module):
        require_observable(model)
        adapter = build_adapter(getattr(model, "_orig_mod", model))
    else:
        raise TypeError(
            f"model: got {type(model).__name__}, takes a torch.nn.Module or a "
            "captum_mda.vit.ViTAdapter"
        )
    if not adapter.blocks:
        raise ValueError("model: it has no blocks, takes at least one")
    return adapter
