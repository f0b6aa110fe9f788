"""Magnitude-aligned insertion and deletion scores (MAS).

They are defined by the normalised response, see
`captum_mda.metrics.insertion_deletion`.

References: Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers",
ICLR 2025, and its published code.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_mda._captum import BaselineType, log_usage
from captum_mda._docstrings import documented
from captum_mda.metrics._degenerate import OnDegenerate
from captum_mda.metrics.insertion_deletion import response_curve
from captum_mda.perturbation import Score, Target
from captum_mda.perturbation.maps import AnyMaps


@log_usage(part_of_slo=True)
@documented(response_curve)
def mas_insertion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Magnitude-aligned insertion; higher is better, in [0, 1] (Walker et al. 2025).

    The monotone response less its distance to the density response of the
    map, clipped and stretched to [0, 1]: it rewards maps whose magnitudes rise as the
    score does.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): Usually the
            blurred inputs. None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1].

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Walker, Jha, Ewetz, ICLR 2025, section 3 and published code.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.mas_insertion(sum_model, x, attributions=x)
        tensor([0.7500], dtype=torch.float64)
    """
    curve = response_curve(**locals(), mode="insertion")
    return curve.mas_area


@log_usage(part_of_slo=True)
@documented(response_curve)
def mas_deletion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Magnitude-aligned deletion; lower is better, in [0, 1] (Walker et al. 2025).

    The monotone response plus its distance to the density response of the
    map, clipped and stretched to [0, 1]: it rewards maps whose magnitudes fall as the
    score does.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        score: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1].

    Raises:
        TypeError, ValueError: As `response_curve`.

    Reference:
        Walker, Jha, Ewetz, ICLR 2025, section 3 and published code.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> metrics.mas_deletion(sum_model, x, attributions=x)
        tensor([0.2500], dtype=torch.float64)
    """
    curve = response_curve(**locals(), mode="deletion")
    return curve.mas_area
