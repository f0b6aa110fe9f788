"""What a computation costs: forwards, counted by transformer block and token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn, Tensor

from captum_mda.vit import resolve


class Cost:
    """What has passed through a model's blocks, counted by `counted`.

    Args:
        tokens_per_forward (int): The tokens that pass through all blocks in a forward
            of one image.

    Attributes:
        forwards (float): The count so far, in forwards of one image.
    """

    def __init__(self, tokens_per_forward: int) -> None:
        """Begin at nothing."""
        self._tokens_per_forward, self._tokens = tokens_per_forward, 0

    @property
    def forwards(self) -> float:
        """The count so far, in forwards of one image."""
        return self._tokens / self._tokens_per_forward

    def _add(self, block: nn.Module, inputs: Any, output: Any) -> None:
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        self._tokens += tokens.shape[0] * tokens.shape[1]
        if tokens.requires_grad:
            tokens.register_hook(self._add_gradient)

    def _add_gradient(self, gradient: Tensor) -> None:
        self._tokens += gradient.shape[-3:-1].numel()


@contextmanager
def counted(model: nn.Module, images: Tensor) -> Iterator[Cost]:
    """Count what a Vision Transformer computes, in forwards of one image.

    Each block counts for its share of the depth and each token for its share of an
    image's tokens, so that dropped tokens and runs from a later block on are cheaper. A
    gradient that comes back through a block counts as the block.

    Args:
        model (nn.Module): One that `captum_mda.vit.resolve` knows.
        images (Tensor): (B, C, H, W), images of the size that is computed on.

    Returns:
        *context manager*: of a `Cost`, whose ``forwards`` grow while it is entered.

    Raises:
        TypeError, ValueError: As `captum_mda.vit.resolve`.

    Example::

        >>> from captum_mda import demo, LeGrad
        >>> model, (images, labels, _) = demo.load_model(), demo.make_samples(2, 0)
        >>> method = LeGrad(model)
        >>> with counted(model, images) as cost:
        ...     maps = method.attribute(images, labels)
        >>> 2 < cost.forwards <= 4  # a forward and a backward of both
        True
    """
    adapter = resolve(model)
    height, width = adapter.patch_grid(images)
    n_tokens = adapter.n_prefix_tokens + height * width
    cost = Cost(n_tokens * adapter.depth)
    hooks = [block.register_forward_hook(cost._add) for block in adapter.blocks]
    try:
        yield cost
    finally:
        for hook in hooks:
            hook.remove()
