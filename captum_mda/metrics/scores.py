"""All insertion, deletion and MAS scores of a map, from one sweep each way.

The conventions are those of `captum_mda.metrics.insertion_deletion`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from captum_mda._captum import BaselineType, log_usage
from captum_mda._checks import require_flag
from captum_mda._docstrings import documented
from captum_mda._results import BatchResult
from captum_mda._summaries import Columns, examples
from captum_mda.metrics._arguments import Convention, Direction, Maps, MetricArguments
from captum_mda.metrics._degenerate import OnDegenerate
from captum_mda.metrics._sweep import sweep
from captum_mda.metrics.insertion_deletion import response_curve
from captum_mda.metrics.response_curves import ResponseCurve
from captum_mda.perturbation import Score, Target
from captum_mda.perturbation.maps import AnyMaps


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PerturbationScores(BatchResult):
    """The six scores of a batch of attributions, each float64 (B,), and their curves.

    Insertion scores are better when higher, deletion scores when lower, and differences
    when higher.

    Args:
        insertion (Tensor): Area under the insertion curve.
        deletion (Tensor): Area under the deletion curve.
        insertion_deletion (Tensor): ``insertion - deletion``.
        mas_insertion (Tensor): Area under the magnitude-aligned insertion curve.
        mas_deletion (Tensor): Area under the magnitude-aligned deletion curve.
        mas_insertion_deletion (Tensor): ``mas_insertion - mas_deletion``.
        insertion_curve (ResponseCurve): What the insertion scores are the areas of.
        deletion_curve (ResponseCurve): What the deletion scores are the areas of.
        least_first_curve (ResponseCurve, optional): The deletion curve of the reversed
            ranking. Default: None
    """

    insertion: Tensor
    deletion: Tensor
    insertion_deletion: Tensor
    mas_insertion: Tensor
    mas_deletion: Tensor
    mas_insertion_deletion: Tensor
    insertion_curve: ResponseCurve
    deletion_curve: ResponseCurve
    least_first_curve: ResponseCurve | None = None

    @property
    def monotonicity(self) -> Tensor:
        """That of the insertion curve, float64 (B,) in [-1, 1]; higher is better."""
        return self.insertion_curve.monotonicity

    @property
    def aopc(self) -> Tensor:
        """That of the deletion curve, float64 (B,); higher is better."""
        return self.deletion_curve.aopc

    @property
    def symmetric_relevance_gain(self) -> Tensor:
        """Raw area of least-first less most-first deletion; higher is better.

        float64 (B,), in [-1, 1] for probabilities; needs ``least_first=True``.
        """
        if self.least_first_curve is None:
            raise ValueError(
                "symmetric_relevance_gain: the least-first curve was not computed; "
                "pass least_first=True"
            )
        return self.least_first_curve.raw_area - self.deletion_curve.raw_area

    @property
    def status(self) -> tuple[str, ...]:
        """Of each example "ok", or the reason why a score of it is not what it seems.

        See `ResponseCurve`.
        """
        pairs = zip(
            self.insertion_curve.status, self.deletion_curve.status, strict=True
        )
        return tuple(one if one != "ok" else other for one, other in pairs)

    def _summary(self) -> tuple[str, Columns]:
        curve = self.insertion_curve
        return f"{examples(len(curve.raw))}, {curve.raw.shape[1] - 1} steps", {
            "insertion": self.insertion,
            "deletion": self.deletion,
            "difference": self.insertion_deletion,
            "MAS insertion": self.mas_insertion,
            "MAS deletion": self.mas_deletion,
            "MAS difference": self.mas_insertion_deletion,
            "status": self.status,
        }


@log_usage(part_of_slo=True)
@documented(response_curve)
def perturbation_scores(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: AnyMaps,
    insertion_baselines: BaselineType = None,
    deletion_baselines: BaselineType = None,
    feature_mask: Tensor | tuple[Tensor, ...] | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    convention: Convention = "mas",
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
    least_first: bool = False,
) -> PerturbationScores:
    """Compute all six insertion, deletion and MAS scores from one sweep each way.

    Args:
        forward_func: ...
        inputs: ...
        attributions: ...
        insertion_baselines (Tensor, number, tuple of those, optional): Replace features
            that are not yet inserted; the papers blur the inputs. None: 0. Default:
            None
        deletion_baselines (Tensor, number, tuple of those, optional): Replace deleted
            features. None: 0. Default: None
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        convention: ...
        score: ...
        on_degenerate: ...
        least_first (bool, optional): Whether to sweep the reversed ranking, too, for
            the symmetric relevance gain. Default: False

    Returns:
        *PerturbationScores*: six scores, each float64 (B,), in [0, 1] under "mas"
        (differences in [-1, 1]), and both curves.

    Raises:
        TypeError, ValueError: As `response_curve`.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> # SumModel takes a single input tensor Nx3 and returns the sum of each row.
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> scores = metrics.perturbation_scores(sum_model, x, attributions=x)
        >>> scores.insertion, scores.deletion
        (tensor([0.7500], dtype=torch.float64), tensor([0.2500], dtype=torch.float64))
    """
    given = locals()
    given["maps"] = {"attributions": given.pop("attributions")}
    return perturbation_scores_of_maps(**given)["attributions"]


@log_usage(part_of_slo=True)
@documented(perturbation_scores)
def perturbation_scores_of_maps(
    forward_func: Callable[..., Tensor],
    inputs: Maps,
    maps: Mapping[str, AnyMaps],
    insertion_baselines: BaselineType = None,
    deletion_baselines: BaselineType = None,
    feature_mask: Maps | None = None,
    additional_forward_args: object = None,
    target: Target = None,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    show_progress: bool = False,
    *,
    convention: Convention = "mas",
    score: Score = "softmax",
    on_degenerate: OnDegenerate = "raise",
    least_first: bool = False,
) -> dict[str, PerturbationScores]:
    """Compute the scores of several maps of the same inputs, in one job.

    Inputs that two maps have in common are scored once: both ends, and every subset of
    features that their rankings share. K maps cost at most K (n - 1) + 2 forwards each
    way.

    Args:
        forward_func: ...
        inputs: ...
        maps (mapping of str to Tensor or tuple[Tensor, ...]): Attributions by the name
            of their method.
        insertion_baselines: ...
        deletion_baselines: ...
        feature_mask: ...
        additional_forward_args: ...
        target: ...
        n_steps: ...
        max_examples_per_batch: ...
        show_progress: ...
        convention: ...
        score: ...
        on_degenerate: ...
        least_first: ...

    Returns:
        *dict[str, PerturbationScores]*: of each map.

    Raises:
        TypeError, ValueError: As `response_curve`; messages name the map.

    Example::

        >>> import torch
        >>> from captum_mda import metrics
        >>> sum_model = lambda x: x.sum(dim=1)
        >>> x = torch.tensor([[3.0, 1.0, 0.0]])
        >>> maps = {"good": x, "bad": torch.tensor([[1.0, 2.0, 3.0]])}
        >>> scores = metrics.perturbation_scores_of_maps(sum_model, x, maps)
        >>> {name: float(each.insertion_deletion) for name, each in scores.items()}
        {'good': 0.5, 'bad': -0.5}
    """
    if not isinstance(maps, Mapping) or not maps:
        raise TypeError(
            f"maps: got {type(maps).__name__}, takes a mapping from names to "
            "attributions with at least one entry"
        )
    arguments = MetricArguments.of(locals())
    inserting = Direction(
        mode="insertion", baselines=insertion_baselines, argument="insertion_baselines"
    )
    deleting = Direction(
        mode="deletion", baselines=deletion_baselines, argument="deletion_baselines"
    )
    directions = [inserting, deleting]
    if require_flag("least_first", least_first):
        directions.append(replace(deleting, least_first=True))
    found = sweep(arguments, maps, directions)
    return {name: _scores(*of) for name, of in zip(maps, found, strict=True)}


def _scores(
    inserted: ResponseCurve, deleted: ResponseCurve, last: ResponseCurve | None = None
) -> PerturbationScores:
    return PerturbationScores(
        insertion=inserted.area,
        deletion=deleted.area,
        insertion_deletion=inserted.area - deleted.area,
        mas_insertion=inserted.mas_area,
        mas_deletion=deleted.mas_area,
        mas_insertion_deletion=inserted.mas_area - deleted.mas_area,
        insertion_curve=inserted,
        deletion_curve=deleted,
        least_first_curve=last,
    )
