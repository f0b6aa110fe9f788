"""LibraGrad: a balanced backward pass under an untouched forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, ExitStack
from functools import partial
from typing import Any

from torch import nn

from captum_mda._checks import require_flag
from captum_mda._state import remove_hooks, undone
from captum_mda.backward._context import BackwardContext
from captum_mda.backward._libra_rules import libra_rules
from captum_mda.vit.function_mode import RuleMode


class LibraGrad(BackwardContext):
    r"""Balances the backward pass of a model, so that gradients add up to its output.

    Inside the ``with`` every gradient method, Captum's included, sees rewritten
    gradients, and the forward pass is unchanged. The rules (Mehri et al., CVPR 2025,
    Sec. 3.4 and Thm. 4 and 5) treat some factors as constants:

    ====================  =========================  ===================================
    part                  computes                   gradient that remains
    ====================  =========================  ===================================
    attention             softmax(QK) V              through V only
    activation            x g(x): GELU, SiLU, ...    g(x)
    layer norm            (x - mean) / deviation     as if the deviation were constant
    gate                  f(x) h(x), e.g. SwiGLU     a half of each branch's
    ====================  =========================  ===================================

    The model is then complete (Cor. 3): at any input,
    :math:`f(x) = J_x x + \sum_b J_b b` over all biases b, which plain gradients do not
    satisfy. Linear layers, residual sums, convolutions, batch norm in evaluation
    mode, LayerScale and rotary positions need no rule. Rules also apply to a norm, a
    softmax or an activation that is written out, such as
    ``(x - mean) / sqrt(var + eps)``. `FullGradPlus` warns about models with parts that
    no rule covers.

    The rules apply to everything computed inside the ``with`` on the entering thread.
    The model is not changed, and the rules end with the ``with``, also after an error.
    Fused attention stays fused.

    Args:
        model (nn.Module): The model whose backward pass is rewritten.
        attention (bool, optional): Whether the rule of attention applies.
            Default: True
        layer_norm (bool, optional): Whether the rules of layer norm and RMS norm apply.
            Default: True
        activation (bool, optional): Whether the rule of gated activations applies.
            Default: True
        gate (bool, optional): Whether the rule of products of two branches applies.
            Default: True

    Raises:
        TypeError: ``model`` is no module, or an option no bool.
        ValueError: The model is a `torch.jit` graph or recomputes its activations.
        RuntimeError: It is run on another thread than the one that entered.

    Reference:
        Mehri et al., "LibraGrad: Balancing Gradient Flow for Universally Better Vision
        Transformer Attributions", CVPR 2025.

    Example::

        >>> from captum.attr import InputXGradient
        >>> from captum_mda import demo, LibraGrad
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> with LibraGrad(model):
        ...     attributions = InputXGradient(model).attribute(images, target=labels)
        >>> attributions.shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module,
        attention: bool = True,
        layer_norm: bool = True,
        activation: bool = True,
        gate: bool = True,
    ) -> None:
        """Check the options; the rules apply from `__enter__` on."""
        super().__init__(model)
        options = {
            "attention": attention,
            "layer_norm": layer_norm,
            "activation": activation,
            "gate": gate,
        }
        self._options = {
            name: require_flag(name, value) for name, value in options.items()
        }

    def _call_settings(self) -> dict[str, Any]:
        return dict(self._options)

    def _apply(self, stack: ExitStack) -> None:
        refuse = _refuse_other_threads(threading.get_ident())
        stack.enter_context(undone(partial(remove_hooks, [self.model], refuse)))
        self.model.register_forward_pre_hook(refuse)
        stack.enter_context(RuleMode(libra_rules(**self._options)))
        stack.enter_context(_ACTIVE.with_options(self._options))


class _Active(threading.local):
    """The options of the contexts that are entered on this thread."""

    def __init__(self) -> None:
        self.options: list[Mapping[str, bool]] = []

    @contextmanager
    def with_options(self, options: Mapping[str, bool]) -> Iterator[None]:
        self.options.append(options)
        try:
            yield
        finally:
            self.options.remove(options)


_ACTIVE = _Active()


def all_rules_hold() -> bool:
    """Tell whether a `LibraGrad` with all of its rules is entered on this thread."""
    return any(all(options.values()) for options in _ACTIVE.options)


def _refuse_other_threads(thread: int) -> Callable[[nn.Module, Any], None]:
    def refuse(module: nn.Module, args: Any) -> None:
        if threading.get_ident() != thread:
            raise RuntimeError(
                "model: it runs on another thread than the one that entered the "
                "context, where the rules do not hold; enter it on the thread that "
                "runs the model, and pass nn.DataParallel's .module"
            )

    return refuse
