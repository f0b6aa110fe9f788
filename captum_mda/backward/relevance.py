"""Layer-wise relevance propagation through transformers, as a backward pass."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from captum_mda._checks import FLOATING_DTYPES
from captum_mda._state import remove_hooks, undone
from captum_mda.backward._context import BackwardContext
from captum_mda.backward._relevance_mode import RelevanceMode
from captum_mda.backward._trace import batch_size, carries, set_batch_size, tensors_in
from captum_mda.vit.function_mode import ConstantParameters


class RelevancePropagation(BackwardContext):
    """Makes the backward pass of a model propagate relevance instead of gradients.

    Inside the ``with``, `torch.autograd.grad(outputs, x, start)` returns the relevance
    of x, given the relevance ``start`` of the outputs, by the rules of Chefer, Gur and
    Wolf (CVPR 2021, Sec. 3.1) with alpha = 1. The forward pass is unchanged.

    - Linear maps share relevance by the products x w whose factors have equal signs;
      biases get none (Eq. 3).
    - Sums of two branches share it by value; then each branch's total is scaled to its
      share of the absolute totals, per example (Eq. 8 to 10).
    - Products of matrices or branches give a half to each factor.
    - Softmax, activations, norms and scalings pass it unchanged.

    The total relevance at the first block is then that of the outputs. All parameters
    are constants inside the ``with`` and get no gradient. Models with
    `nn.MultiheadAttention`, LayerScale, gated MLPs and attention poolers are covered.

    The rules apply to functions in all spellings: a linear map may be `F.linear`,
    ``x @ w``, `torch.addmm`, `torch.einsum`, `torch.tensordot` or a convolution, a mean
    may be ``x.sum(1) / n``, and a norm or a softmax may be written out. If relevance
    arrives at a function without a rule (or at a `torch.autograd.Function` of the
    model), the backward pass raises a ValueError that names it. Relevance of a linear
    map ends where none of its products is positive, as in the published code.

    Args:
        model (nn.Module): The model that will run.
        dtype (torch.dtype, optional): The precision that the model computes in. None:
            its own. The rules divide by sums near 0, so that float32 may be inaccurate.
            Default: torch.float64

    Raises:
        TypeError: ``model`` is no module.
        ValueError: The model is a `torch.jit` graph or recomputes its activations; in
            the backward pass: relevance arrives at a function without a rule.

    Reference:
        Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention
        Visualization", CVPR 2021.

    Example::

        >>> import torch
        >>> from captum_mda import demo
        >>> from captum_mda.backward import RelevancePropagation
        >>> model = demo.load_model()
        >>> tokens = []
        >>> handle = model.blocks[0].register_forward_hook(
        ...     lambda module, inputs, output: tokens.append(inputs[0])
        ... )
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> with RelevancePropagation(model):
        ...     logits = model(images.requires_grad_())
        ...     start = torch.zeros_like(logits)
        ...     start[0, labels[0]] = 1.0
        ...     (relevance,) = torch.autograd.grad(logits, tokens, start)
        >>> handle.remove()
        >>> round(float(relevance.sum()), 5)
        1.0
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = torch.float64
    ) -> None:
        """Check the model; the rules apply from `__enter__` on."""
        super().__init__(model)
        if dtype is not None and dtype not in FLOATING_DTYPES:
            raise TypeError(
                f"dtype: got {dtype!r}, takes a floating-point dtype, or None"
            )
        self.dtype = dtype

    def _apply(self, stack: ExitStack) -> None:
        mode = stack.enter_context(RelevanceMode())
        _watch(self.model, mode, stack)
        stack.enter_context(ConstantParameters(self.dtype))


def _watch(model: nn.Module, mode: RelevanceMode, stack: ExitStack) -> None:
    """Record the number of examples of each call, and check the outputs."""
    stack.callback(set_batch_size, batch_size())

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        sizes = [len(each) for each in tensors_in([args, kwargs]) if each.dim()]
        set_batch_size(sizes[0] if sizes else None)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        for tensor in tensors_in(output):
            if carries(tensor):
                mode.require_seen(tensor)

    stack.enter_context(undone(partial(remove_hooks, [model], enter, leave)))
    model.register_forward_pre_hook(enter, with_kwargs=True)
    model.register_forward_hook(leave)
