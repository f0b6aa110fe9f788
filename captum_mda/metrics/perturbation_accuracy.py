"""Positive and negative perturbation: whether a class stays first under masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_mda import curves
from captum_mda._captum import BaselineType, log_usage, TargetType
from captum_mda._checks import is_number, require_choice
from captum_mda._docstrings import documented
from captum_mda._results import BatchResult
from captum_mda._summaries import Columns, examples
from captum_mda.metrics._arguments import Maps, MetricArguments
from captum_mda.metrics._degenerate import OK, OnDegenerate, report_unpredicted
from captum_mda.metrics._ranked_maps import RankedMap
from captum_mda.metrics.insertion_deletion import response_curve
from captum_mda.perturbation import (
    format_baselines,
    Path,
    Ranking,
)
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.targets import require_classes, target_indices

First = Literal["most", "least"]
FRACTIONS = tuple(tenths / 10 for tenths in range(1, 10))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MaskedHits(BatchResult):
    """Whether the model's first class is still the target, with features masked.

    Args:
        fractions (Tensor): float64 (K,), the shares of features that are masked.
        hits (Tensor): float64 (B, K), 1 where the target is still the first class; NaN
            for an example whose map is constant.
        status (tuple[str, ...]): Of each example "ok", "constant map", or "target not
            predicted", whose hits tell of the model and not of the map.
        target_predicted (Tensor): bool (B,), whether the target is the first class with
            nothing masked.
    """

    _shared = ("fractions",)

    fractions: Tensor
    hits: Tensor
    status: tuple[str, ...]
    target_predicted: Tensor

    @property
    def area(self) -> Tensor:
        """The area under each example's hits, by the trapezoid rule: float64 (B,)."""
        return curves.area(self.hits)

    def _summary(self) -> tuple[str, Columns]:
        n, n_shares = self.hits.shape
        return f"{examples(n)}, features masked at {n_shares} fractions", {
            "hits": self.hits.sum(dim=1),
            "area": self.area,
            "status": self.status,
        }


@log_usage(part_of_slo=True)
@documented(response_curve)
def masked_hits(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    first: First = "most",
    fractions: Sequence[float] = FRACTIONS,
    on_degenerate: OnDegenerate = "raise",
) -> MaskedHits:
    """Mask growing shares of the features, and see whether the target stays first.

    Features are ranked by their signed attribution, ties by the lower index. A target
    that is not the first class with nothing masked keeps its hits, as in the published
    protocols, but they say nothing of the map: a warning names the example, and its
    status does.

    Args:
        forward_func (callable): Returns logits or probabilities (B, classes).
        inputs: ...
        attributions: ...
        baselines (Tensor, number, tuple of those, optional): Replace masked features.
            The papers take black, which is ``-mean / std`` for inputs that are
            normalised. None: 0, the data's mean colour. Default: None
        feature_mask (Tensor or tuple[Tensor, ...], optional): Integers that broadcast
            to the inputs; whole features are masked. None: single positions (pixels),
            their channels together. Default: None
        additional_forward_args: ...
        target (int, tuple, Tensor, list, optional): The label. Default: None
        max_examples_per_batch: ...
        show_progress: ...
        first (str, optional): Which features are masked first: the "most" important
            ones (positive perturbation) or the "least" (negative). Default: "most"
        fractions (sequence of float, optional): Ascending, in [0, 1]; of N features
            the first int(fraction * N) are masked. Default: 0.1, 0.2, ..., 0.9
        on_degenerate (str, optional): "raise" refuses a batch with a constant map;
            "nan" warns, and its values are NaN. Default: "raise"

    Returns:
        *MaskedHits*: for a data set, average the hits of its examples.

    Raises:
        TypeError, ValueError: As `response_curve`.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> def logits(x):
        ...     return torch.stack([x.sum(dim=1), torch.full((len(x),), 2.5)], 1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0, 1.0]])
        >>> halves = (0.25, 0.5, 0.75)
        >>> metrics.masked_hits(logits, x, x, target=0, fractions=halves).hits
        tensor([[0., 0., 0.]], dtype=torch.float64)
    """
    require_choice("first", first, get_args(First))
    require_classes(target)
    shares = read_fractions(fractions)
    arguments = MetricArguments.of(
        locals() | {"convention": "rise", "score": _first_class_and_hit}
    )
    arguments.require_options()
    features = arguments.features
    ranked = RankedMap.of(attributions, features, arguments, "attributions")
    order = ranked.order if first == "most" else ranked.least_first_order
    # The first point is the whole input: its first class is the model's prediction.
    whole = torch.zeros(1, dtype=torch.int64)
    counts = torch.cat([whole, counts_of(shares, features.n_features)])
    path = Path(Ranking(order, counts), deletes=True)
    absent = format_baselines(arguments.tensors, baselines)
    (values,), _ = arguments.run([path], [absent], features)
    return _result(shares, values, ranked.status, target)


def _result(
    shares: Tensor, values: Tensor, status: tuple[str, ...], target: TargetType
) -> MaskedHits:
    """Separate hits from first classes in values, (B, K + 1), and report targets."""
    hits = values.remainder(2)
    predicted = hits[:, 0] == 1
    constant = torch.tensor([each != OK for each in status])
    return MaskedHits(
        fractions=shares,
        hits=hits[:, 1:].masked_fill(constant[:, None], torch.nan),
        status=report_unpredicted(
            status,
            predicted,
            target_indices(target, len(values)),
            values[:, 0].div(2, rounding_mode="floor"),
        ),
        target_predicted=predicted,
    )


@log_usage(part_of_slo=True)
@documented(masked_hits)
def positive_perturbation(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Positive perturbation; lower is better, in [0, 1] (Chefer et al. 2021).

    The share of masking steps, 10 % to 90 % of the features and the most important ones
    first, at which the model still says the target: the area under nine hits by the
    trapezoid rule. A data set's score is the mean over its examples.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines: ...
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        max_examples_per_batch: ...
        show_progress: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1], a multiple of 1/16. Of a target that the model
        does not predict it says nothing; a warning names the example.

    Raises:
        TypeError, ValueError: As `masked_hits`.

    Reference:
        Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention
        Visualization", CVPR 2021.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> def logits(x):
        ...     return torch.stack([x.sum(dim=1), torch.full((len(x),), 2.5)], 1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0, 1.0]])
        >>> metrics.positive_perturbation(logits, x, x, target=0)
        tensor([0.1875], dtype=torch.float64)
    """
    return masked_hits(**locals()).area


@log_usage(part_of_slo=True)
@documented(masked_hits)
def negative_perturbation(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    attributions: AnyMaps,
    baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: TargetType = None,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    on_degenerate: OnDegenerate = "raise",
) -> Tensor:
    """Negative perturbation; higher is better, in [0, 1] (Chefer et al. 2021).

    As `positive_perturbation`, but the least important features are masked first: what
    a good map calls unimportant can go without changing the class.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        baselines: ...
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        max_examples_per_batch: ...
        show_progress: ...
        on_degenerate: ...

    Returns:
        *Tensor*: float64 (B,) in [0, 1], a multiple of 1/16. Of a target that the model
        does not predict it says nothing; a warning names the example.

    Raises:
        TypeError, ValueError: As `masked_hits`.

    Reference:
        Chefer, Gur, Wolf, CVPR 2021.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> def logits(x):
        ...     return torch.stack([x.sum(dim=1), torch.full((len(x),), 2.5)], 1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0, 1.0]])
        >>> metrics.negative_perturbation(logits, x, x, target=0)
        tensor([1.], dtype=torch.float64)
    """
    return masked_hits(**locals(), first="least").area


def is_first(outputs: Tensor) -> Tensor:
    """Score every class 1 where it is the first: (R, classes)."""
    if outputs.dim() != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"forward_func: returned shape {tuple(outputs.shape)}, takes scores of at "
            "least two classes (B, classes), of which one is the first; score a model "
            "with one output by insertion and deletion, or make two classes of one "
            "logit, lambda x: torch.cat([-model(x), model(x)], dim=1)"
        )
    return F.one_hot(outputs.argmax(dim=1), outputs.shape[1]).to(outputs.dtype)


def _first_class_and_hit(outputs: Tensor) -> Tensor:
    """Score every class by twice the first class's number, and 1 where it is that."""
    first = is_first(outputs)
    exact = torch.promote_types(outputs.dtype, torch.float32)
    return 2 * outputs.argmax(dim=1, keepdim=True).to(exact) + first.to(exact)


def counts_of(shares: Tensor, n_features: int) -> Tensor:
    """Count the features of each share: int64 (K,)."""
    # As int(share * N), but 0.29 * 100 is 28.999999999999996.
    return (shares * n_features + 1e-9).long()


def read_fractions(fractions: Sequence[float]) -> Tensor:
    """Check fractions: float64 (K,)."""
    given = fractions.tolist() if isinstance(fractions, Tensor) else fractions
    if (
        isinstance(given, str)
        or not isinstance(given, Iterable)
        or not all(map(is_number, given := tuple(given)))
    ):
        raise TypeError(
            f"fractions: got {fractions!r}, takes a sequence of ascending numbers in "
            "[0, 1]"
        )
    shares = torch.tensor([float(each) for each in given], dtype=torch.float64)
    fits = len(shares) > 1 and bool((shares.diff() > 0).all())
    if not fits or float(shares[0]) < 0 or float(shares[-1]) > 1:
        raise ValueError(
            f"fractions: got {given}, takes at least two ascending numbers in [0, 1]"
        )
    return shares
