"""The arguments that all perturbation metrics share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, get_args, Literal, TYPE_CHECKING

from torch import Tensor

from captum_mda._captum import BaselineType, FORWARDS, progress_bar
from captum_mda._checks import (
    require_choice,
    require_flag,
    require_positive_integer,
    require_positive_integer_or_none,
)
from captum_mda._state import preserved_state
from captum_mda.curves import Mode
from captum_mda.metrics._degenerate import OnDegenerate
from captum_mda.perturbation import (
    Features,
    Path,
    Response,
    Score,
    SubsetResponses,
    Sweep,
    Target,
    validate_inputs,
)
from captum_mda.perturbation.scores import ScoredAs

if TYPE_CHECKING:
    from typing_extensions import Self

Convention = Literal["mas", "rise"]
"""How features are ranked and responses normalised, see `insertion_deletion`."""

Maps = Tensor | tuple[Tensor, ...]
"""A tensor, or a tuple of tensors, of the inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricArguments:
    """The arguments that all metrics of response curves share.

    ``normalizes=False`` is for metrics of the raw scores alone: under "mas", too, an
    input may then score no higher than its baseline.
    """

    forward_func: Callable[..., Tensor]
    inputs: Maps
    feature_mask: Maps | None = None
    additional_forward_args: object = None
    target: Target = None
    n_steps: int = 1
    max_examples_per_batch: int | None = None
    show_progress: bool = False
    convention: Convention = "mas"
    score: Score = "softmax"
    on_degenerate: OnDegenerate = "raise"
    normalizes: bool = True

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Take those of a metric's ``locals()`` that are arguments here."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: given[name] for name in names & given.keys()})

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs, checked once."""
        return validate_inputs(self.inputs)

    @cached_property
    def features(self) -> Features:
        """The features, read from the mask after checking it."""
        if self.feature_mask is None:
            return Features.positions(self.tensors)
        return Features.from_mask(self.tensors, self.feature_mask)

    def require_options(self) -> None:
        """Check what does not depend on the inputs."""
        require_choice("convention", self.convention, get_args(Convention))
        require_choice("on_degenerate", self.on_degenerate, get_args(OnDegenerate))
        require_positive_integer("n_steps", self.n_steps)
        require_positive_integer_or_none(
            "max_examples_per_batch", self.max_examples_per_batch
        )
        require_flag("show_progress", self.show_progress)

    @cached_property
    def response(self) -> Response:
        """The scorer of perturbed inputs."""
        return Response(
            self.forward_func,
            len(self.tensors[0]),
            self.target,
            self.additional_forward_args,
            self.score,
            self.max_examples_per_batch,
            rows_argument="max_examples_per_batch",
        )

    def run(
        self,
        paths: Sequence[Path],
        baselines: Sequence[tuple[Tensor, ...]],
        features: Features,
    ) -> tuple[list[Tensor], ScoredAs]:
        """Score all inputs on some paths: see `Sweep.evaluate`."""
        job = Sweep(paths)
        bar = progress_bar(
            job.n_rows, "Response curves", self.show_progress, "scores", FORWARDS
        )
        response = self.response.with_progress(bar)
        responses = SubsetResponses(response, self.tensors, baselines, features)
        with bar, preserved_state(self.forward_func):
            return job.evaluate(responses)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """The direction of a response curve.

    Args:
        mode (str): "insertion" or "deletion".
        baselines (Tensor, number, tuple, None): Replace absent features.
        argument (str): The argument that the baselines came in.
        least_first (bool, optional): Whether the least important features move first.
            Default: False
    """

    mode: Mode
    baselines: BaselineType
    argument: str = "baselines"
    least_first: bool = False
