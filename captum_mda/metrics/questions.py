"""What a perturbation metric is asked: the arguments that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args, Literal

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
from captum_mda.metrics.degenerate import OnDegenerate
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

Convention = Literal["mas", "rise"]
Maps = Tensor | tuple[Tensor, ...]
"""Attributions of one method."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a response metric is asked: the arguments that all of them share.

    With ``normalizes`` off, nobody looks at normalised curves, and an input may score
    less than its baseline under "mas", too.
    """

    forward_func: Callable[..., Tensor]
    inputs: Maps
    feature_mask: Maps | None
    additional_forward_args: object
    target: Target
    n_steps: int
    max_examples_per_batch: int | None
    show_progress: bool
    convention: Convention = "mas"
    score: Score = "softmax"
    on_degenerate: OnDegenerate = "raise"
    normalizes: bool = True

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs, checked once."""
        return validate_inputs(self.inputs)

    def features(self) -> Features:
        """Check the mask, and read the features."""
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
        """Scores the rows."""
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


@dataclass(frozen=True)
class Direction:
    """Which way a curve goes.

    Args:
        mode (str): "insertion" or "deletion".
        baselines (Tensor, number, tuple, None): What stands where a feature is absent.
        argument (str): The argument that the baselines came in.
        least_first (bool, optional): Whether the least important features move first.
            Default: False
    """

    mode: Mode
    baselines: BaselineType
    argument: str = "baselines"
    least_first: bool = False
