"""What stands where a feature is absent: constants, tensors, and blurred inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, overload

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import conv2d

from captum_mda import _checks
from captum_mda._autocast import no_autocast
from captum_mda._captum import BaselineType
from captum_mda._state import preserved_state, restores_modes, warn_caller
from captum_mda.perturbation.response import Response
from captum_mda.perturbation.scores import Score, ScoredAs
from captum_mda.perturbation.targets import Target

KERNEL_SIZES = range(31, 102, 2)
"""The kernels that MDA's authors try, smallest first: 31, 33, ..., 101."""


def format_baselines(
    inputs: tuple[Tensor, ...], baselines: BaselineType, name: str = "baselines"
) -> tuple[Tensor, ...]:
    """Read Captum's forms of baselines.

    Args:
        inputs (tuple[Tensor, ...]): The inputs.
        baselines (Tensor, number, tuple of those, or None): What replaces the inputs:
            a number, or a tensor that broadcasts to its input. None: 0.
        name (str, optional): The argument's name for messages. Default: "baselines"

    Returns:
        *tuple[Tensor, ...]*: one tensor for each input, of its dtype, on its device,
        which broadcasts to it.

    Raises:
        TypeError: A baseline is neither a number nor a tensor.
        ValueError: Their number or shapes do not fit, or a value is not finite.
    """
    if baselines is None:
        baselines = (0,) * len(inputs)
    given = baselines if isinstance(baselines, tuple) else (baselines,)
    if len(given) != len(inputs):
        raise ValueError(
            f"{name}: got {len(given)} for {len(inputs)} input tensors, takes a tuple "
            "with one for each"
        )
    return tuple(
        _as_baseline(value, tensor, name)
        for value, tensor in zip(given, inputs, strict=True)
    )


def _as_baseline(value: object, tensor: Tensor, name: str) -> Tensor:
    if isinstance(value, Tensor):
        given = _checks.require_tensor(name, value)
    elif _checks.is_number(value) or isinstance(value, bool):
        given = torch.tensor(float(value), dtype=torch.float64)  # type: ignore[arg-type]
        _checks.require_finite(name, given)
    else:
        raise TypeError(
            f"{name}: got {_checks.type_of(value)}, takes a number, a tensor, or a "
            "tuple with one of them for each input"
        )
    baseline = given.to(tensor.device, tensor.dtype)
    if not _holds(baseline, given):
        raise ValueError(
            f"{name}: has values that inputs of dtype {tensor.dtype} cannot hold; give "
            "smaller or whole numbers, or inputs in float32"
        )
    if not _checks.broadcasts_to(baseline, tensor):
        raise ValueError(
            f"{name}: shape {tuple(baseline.shape)} does not broadcast to the input's "
            f"{tuple(tensor.shape)}; give a number, the input's shape, or 1 in "
            "dimensions to repeat"
        )
    return baseline.reshape(
        (1,) * (tensor.dim() - baseline.dim()) + tuple(baseline.shape)
    )


def _holds(baseline: Tensor, given: Tensor) -> bool:
    """Tell whether values have survived the cast to the inputs' dtype."""
    if baseline.is_floating_point():
        return bool(torch.isfinite(baseline).all())
    return torch.equal(baseline.double(), given.to(baseline.device).double())


def blur_baseline(
    inputs: Tensor, kernel_size: int, sigma: float | None = None
) -> Tensor:
    """Blur images as MDA's authors do: the baseline of the insertion test.

    The kernel is a delta of ``kernel_size`` pixels filtered by a Gaussian, whose
    default width makes it very nearly a box; outside the image stands 0, which in
    normalised space is the mean colour and draws the borders to it.

    Args:
        inputs (Tensor): Images (..., H, W), floating point.
        kernel_size (int): The kernel's side in pixels, odd; 1 changes nothing.
        sigma (float, optional): The Gaussian's standard deviation in pixels.
            None: ``kernel_size``. Default: None

    Returns:
        *Tensor*: the blurred images, of the inputs' shape, dtype and device.

    Raises:
        TypeError: The images are not floating point, or a size is no number.
        ValueError: The kernel's side is even or not positive, or there is no image.

    Reference:
        Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers", ICLR
        2025, and its published code.

    Example::

        >>> import torch
        >>> blur_baseline(torch.ones(1, 1, 3, 3), kernel_size=3)[0, 0, 1]
        tensor([0.6667, 1.0000, 0.6667])
    """
    images = _validated_images(inputs)
    kernel_size = _require_kernel_size("kernel_size", kernel_size)
    width = (
        kernel_size
        if sigma is None
        else _checks.require_positive_number("sigma", sigma)
    )
    weights = _blur_weights(kernel_size, float(width))
    kernel = torch.tensor(weights, dtype=images.dtype, device=images.device)
    planes = images.reshape(-1, 1, *images.shape[-2:])  # (B * C, 1, H, W)
    half = kernel_size // 2
    # The two-dimensional kernel is the product of two one-dimensional ones. A caller's
    # autocast would round the images, which are data and no activations.
    with no_autocast(images.device):
        planes = conv2d(planes, kernel.view(1, 1, -1, 1), padding=(half, 0))
        planes = conv2d(planes, kernel.view(1, 1, 1, -1), padding=(0, half))
    return planes.reshape(images.shape)


def _blur_weights(kernel_size: int, sigma: float) -> np.ndarray:
    delta = np.zeros(kernel_size)
    delta[kernel_size // 2] = 1.0
    weights: np.ndarray = gaussian_filter1d(delta, sigma)
    return weights


@overload
def confidence_blur_baseline(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Target = None,
    additional_forward_args: object = None,
    kernel_sizes: Sequence[int] = KERNEL_SIZES,
    max_confidence: float = 0.01,
    score: Score = "softmax",
    on_failure: Literal["raise", "lowest"] = "raise",
    perturbations_per_eval: int | None = None,
    *,
    return_kernel_sizes: Literal[True],
) -> tuple[Tensor, Tensor]: ...


@overload
def confidence_blur_baseline(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Target = None,
    additional_forward_args: object = None,
    kernel_sizes: Sequence[int] = KERNEL_SIZES,
    max_confidence: float = 0.01,
    score: Score = "softmax",
    on_failure: Literal["raise", "lowest"] = "raise",
    perturbations_per_eval: int | None = None,
    return_kernel_sizes: Literal[False] = False,
) -> Tensor: ...


@restores_modes
def confidence_blur_baseline(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Target = None,
    additional_forward_args: object = None,
    kernel_sizes: Sequence[int] = KERNEL_SIZES,
    max_confidence: float = 0.01,
    score: Score = "softmax",
    on_failure: Literal["raise", "lowest"] = "raise",
    perturbations_per_eval: int | None = None,
    return_kernel_sizes: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Blur every image just enough that the model no longer sees its class.

    Every image gets the smallest kernel that brings the score of its target down to
    ``max_confidence``, so kernels differ within a batch. An image that keeps a higher
    score under every kernel is an error, or keeps the kernel with its lowest score.

    Args:
        forward_func (callable): Returns logits (B, classes) for images.
        inputs (Tensor): Images (B, C, H, W), floating point.
        target (int, tuple, Tensor, list, callable, optional): The class of each image,
            in Captum's forms; or a callable that maps outputs (R, ...) to one score for
            each row, (R,). Default: None
        additional_forward_args (any, optional): Passed to ``forward_func`` behind the
            images. Default: None
        kernel_sizes (sequence of int, optional): The kernels to try, ascending odd
            numbers of pixels. Default: 31, 33, ..., 101
        max_confidence (float, optional): The highest score accepted, in [0, 1].
            Default: 0.01
        score (str or callable, optional): As for `MetricDrivenAttribution`.
            Default: "softmax"
        on_failure (str, optional): What becomes of images for which no kernel does:
            "raise" an error that names them, or take the kernel with the "lowest" score
            and warn. Default: "raise"
        perturbations_per_eval (int, optional): The most images in one forward. None: as
            many as fit. Default: None
        return_kernel_sizes (bool, optional): Also return each image's kernel.
            Default: False

    Returns:
        *Tensor*: the blurred images, shaped like the inputs; with
        ``return_kernel_sizes`` a tuple of them and the kernels, int64 (B,).

    Raises:
        TypeError, ValueError: As `blur_baseline`; or no kernel brings an image's score
            down and ``on_failure`` is "raise".

    Reference:
        The per-image rule of MDA's experiments (ICLR 2025, published code): the softmax
        of the class falls to 1 % or less.

    Example::

        >>> import torch
        >>> bright = lambda x: x.mean(dim=(1, 2, 3))  # falls as the borders darken
        >>> blurred, kernels = confidence_blur_baseline(
        ...     bright, torch.ones(2, 1, 8, 8), kernel_sizes=[1, 3, 5],
        ...     max_confidence=0.9, return_kernel_sizes=True)
        >>> kernels
        tensor([3, 3])
    """
    images = _validated_images(inputs)
    sizes = _validated_kernel_sizes(kernel_sizes)
    max_confidence = _checks.require_in_unit_interval("max_confidence", max_confidence)
    _checks.require_choice("on_failure", on_failure, ("raise", "lowest"))
    return_kernel_sizes = _checks.require_flag(
        "return_kernel_sizes", return_kernel_sizes
    )
    response = Response(
        forward_func,
        len(images),
        target,
        additional_forward_args,
        score,
        perturbations_per_eval,
    )
    blurred = images.clone()
    chosen = torch.zeros(len(images), dtype=torch.int64)
    lowest = torch.full((len(images),), torch.inf, dtype=torch.float64)
    with preserved_state(forward_func):
        for size in sizes:
            left = (lowest > max_confidence).nonzero().flatten()  # examples, on the CPU
            if len(left) == 0:
                break
            candidates = blur_baseline(images[left.to(images.device)], size)
            scored = response.evaluate(partial(_copied_rows, candidates), left)
            confidence = scored.values.cpu().double()
            better = confidence < lowest[left]
            blurred[left[better].to(images.device)] = candidates[
                better.to(images.device)
            ]
            chosen[left[better]] = size
            lowest[left] = torch.minimum(lowest[left], confidence)
    _report_failures(lowest, max_confidence, sizes, on_failure, scored.scored_as)
    return (blurred, chosen) if return_kernel_sizes else blurred


def _copied_rows(images: Tensor, rows: slice) -> tuple[Tensor]:
    """Copy some images, as the forward function may work on its inputs in place."""
    return (images[rows].clone(),)


def _report_failures(
    lowest: Tensor,
    max_confidence: float,
    sizes: list[int],
    on_failure: str,
    scored_as: ScoredAs,
) -> None:
    failed = (lowest > max_confidence).nonzero().flatten().tolist()
    if not failed:
        return
    scores = ", ".join(f"{i} ({lowest[i]:.3g})" for i in failed[:5])
    message = (
        f"kernel_sizes: none of {sizes[0]} to {sizes[-1]} pixels brings the score down "
        f"to {max_confidence:g} for {len(failed)} images; examples with their lowest "
        f"score: {scores}{', ...' if len(failed) > 5 else ''}"
    )
    if on_failure == "raise":
        raise ValueError(
            f"{message}. Offer larger kernels, raise max_confidence, or take the best "
            'kernel with on_failure="lowest"' + _NO_CONFIDENCE.get(scored_as, "")
        )
    warn_caller(message)


_A_VALUE = (
    ". The score is the output itself and no probability; take {} for one, or blur a "
    "regressed value's inputs with blur_baseline(inputs, kernel_size)"
)
_NO_CONFIDENCE: dict[ScoredAs, str] = {
    "value": _A_VALUE.format('score="sigmoid"'),
    "identity": _A_VALUE.format('score="softmax" or "sigmoid"'),
}


def _validated_kernel_sizes(kernel_sizes: Sequence[int]) -> list[int]:
    if isinstance(kernel_sizes, str) or not isinstance(kernel_sizes, Iterable):
        raise TypeError(
            f"kernel_sizes: got {kernel_sizes!r}, takes a sequence of odd numbers of "
            "pixels"
        )
    sizes = [
        _require_kernel_size("kernel_sizes", size, "odd numbers of pixels")
        for size in kernel_sizes
    ]
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError(
            f"kernel_sizes: got {kernel_sizes!r}, takes ascending odd numbers of pixels"
        )
    return sizes


def _require_kernel_size(
    name: str, size: int, wanted: str = "an odd number of pixels"
) -> int:
    size = _checks.require_positive_integer(name, size)
    if size % 2 == 0:
        raise ValueError(f"{name}: got {size}, takes {wanted}")
    return size


def _validated_images(inputs: object) -> Tensor:
    images = _checks.require_tensor("inputs", inputs, floating=True)
    if images.dim() < 3 or images.numel() == 0:
        raise ValueError(
            f"inputs: got shape {tuple(images.shape)}, takes images (B, C, H, W)"
        )
    return images
