"""Metric-Driven Attribution: order and magnitudes by the metrics themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_mda import _checks
from captum_mda._calls import MadeByCall
from captum_mda._captum import (
    BaselineType,
    inputs_before_repeats,
    is_tuple,
    log_usage,
    TensorOrTupleOfTensorsGeneric,
)
from captum_mda._docstrings import documented
from captum_mda._state import preserved_state, restores_modes
from captum_mda.attr import explanation_arguments
from captum_mda.attr.explanation import MDAExplanation
from captum_mda.attr.explanation_arguments import (
    both_baselines,
    removed_baselines,
    rows_per_forward,
)
from captum_mda.attr.explanation_curves import (
    curves_of_mean,
    explanation_of,
)
from captum_mda.attr.provenance import as_scalar, facts_of_call, Provenance, Scalar
from captum_mda.attr.repeats import none_before_repeats, repeated
from captum_mda.magnitude import MAGNITUDE_RULES, MagnitudeRule, Solver, SOLVERS
from captum_mda.ordering import (
    make_task,
    order_with_bar,
    Ordering,
    ordering_name,
    ORDERINGS,
    prior_scores,
    RefinedOrdering,
    require_inputs_for,
    resolved,
    warn_of_cost,
)
from captum_mda.perturbation import (
    Features,
    Response,
    Score,
    SubsetResponses,
    Target,
    validate_inputs,
)
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.precision import Precision, PRECISIONS, require_bfloat16
from captum_mda.perturbation.scores import require_scorer


class MetricDrivenAttribution(MadeByCall, PerturbationAttribution):
    r"""Metric-Driven Attribution (MDA) for any model that scores its inputs.

    MDA optimises the metrics that judge attributions. First it orders the features (for
    a Vision Transformer, the patches): those that raise the score most when they are
    inserted into a baseline come first, until the score is nearly that of the full
    input; of the others, those whose loss lowers the score least come last. Then it
    gives every feature the magnitude for which the map's density follows the model's
    own response: the increments of the concave curve nearest to the mean of the order's
    insertion and deletion curves.

    The method uses the model's outputs alone. It takes about ``N * W`` forwards per
    example with N features and W candidates per step.

    Args:
        forward_func (callable): The model or any function of the inputs. It returns
            logits (B, classes), or one value per example.
        solver (str or callable, optional): Finds the density curve: "nnls" (exact,
            SciPy), "osqp", or a callable from the mean curve, float64 ndarray (N + 1,),
            to the density curve, alike. Default: "nnls"
        ordering (str or Ordering, optional): Finds the order: "paper", the published
            search; "fast", which evaluates subsets where the outcome depends on them
            and interpolates the other points of the curves; "joint", which repeats that
            with its own result as the prior, for less than "paper" and with better
            scores; "relaxed", which is "fast" with a prior found by gradients, for
            models that can be differentiated; "auto", "relaxed" for more than 100
            features and a model that can be differentiated, else "joint"; or an object
            of the protocol in `captum_mda.ordering`. Default: "paper"
        magnitude (str, optional): The rule from the density's increments to magnitudes:
            "reference" as in the published code, "paper" as printed (Eq. 10),
            "increment" the increments themselves. "mas" replaces the density: of the
            maps with no more alignment penalty than those three have, it takes the one
            with the best magnitude-aligned insertion and deletion (MAS), see
            `captum_mda.magnitude.align_density`. Default: "reference"
        score (str or callable, optional): The function of the outputs that the target
            is chosen from: "softmax" over dimension 1, for classes that exclude each
            other; "sigmoid", for labels that do not and for one binary logit;
            "identity"; or a callable from outputs to scores. One value per example has
            no classes and is its own score under "softmax". Default: "softmax"
        on_degenerate (str, optional): What to do with an example that scores no higher
            than its baseline: "raise" a ValueError that names it, or return "zero"
            attributions and warn. Default: "raise"
        mean_steps (str, optional): The curves that the mean response is read from:
            "patch", the order's own, with one point per feature; or "pixel", curves of
            224 steps of single positions, as in the metrics and the authors' code, for
            449 more forwards. Default: "patch"
        precision (str, optional): "bf16" screens the search's candidates in bfloat16,
            under `torch.autocast`, and evaluates those near the best again in float32:
            the curves are float32's, and take fewer of its forwards. It pays where the
            hardware computes in bfloat16. None runs all forwards as the caller's
            context has them. Default: None
        refine (int, optional): Number of passes of local moves that improve the order
            that was found, see `captum_mda.ordering.RefinedOrdering`; insertion less
            deletion never falls by them. Default: 0

    Raises:
        TypeError: ``forward_func`` is not callable.
        ValueError: An option has none of the values above.

    Reference:
        Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers", ICLR
        2025.

    Example::

        >>> import torch
        >>> from captum_mda import MetricDrivenAttribution, patch_feature_mask
        >>> # ImageClassifier takes images Nx1x4x4 and returns logits Nx2; class 1 is
        >>> # a bright upper left corner.
        >>> def image_classifier(images):
        ...     corner = images[:, 0, :2, :2].sum((1, 2))
        ...     return torch.stack([torch.zeros_like(corner), corner], dim=1)
        >>> images = torch.ones(1, 1, 4, 4)
        >>> mda = MetricDrivenAttribution(image_classifier)
        >>> mask = patch_feature_mask(images, 2)
        >>> explanation = mda.explain(images, target=1, feature_mask=mask)
        >>> explanation.order
        tensor([[0, 3, 2, 1]])
        >>> explanation.attributions().round(decimals=3)[0, 0]
        tensor([[1., 1., 0., 0.],
                [1., 1., 0., 0.],
                [0., 0., 0., 0.],
                [0., 0., 0., 0.]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        solver: Solver = "nnls",
        ordering: str | Ordering = "paper",
        magnitude: MagnitudeRule = "reference",
        score: Score = "softmax",
        on_degenerate: Literal["raise", "zero"] = "raise",
        mean_steps: Literal["patch", "pixel"] = "patch",
        precision: Precision = None,
        refine: int = 0,
    ) -> None:
        """Check the options."""
        PerturbationAttribution.__init__(self, forward_func)
        require_scorer(forward_func, score)
        if not callable(solver):
            _checks.require_choice("solver", solver, tuple(SOLVERS))
        if not callable(ordering):
            _checks.require_choice("ordering", ordering, tuple(ORDERINGS))
        _checks.require_choice("magnitude", magnitude, MAGNITUDE_RULES)
        _checks.require_choice("on_degenerate", on_degenerate, ("raise", "zero"))
        _checks.require_choice("mean_steps", mean_steps, ("patch", "pixel"))
        if precision is not None:
            _checks.require_choice("precision", precision, PRECISIONS)
        refine = _checks.require_count("refine", refine)
        self._subject = forward_func
        self.solver = solver
        self.ordering: Ordering = (
            ORDERINGS[ordering]() if isinstance(ordering, str) else ordering
        )
        if refine:
            self.ordering = RefinedOrdering(self.ordering, refine)
        self.magnitude = magnitude
        self.score = score
        self.on_degenerate = on_degenerate
        self.mean_steps = mean_steps
        self.precision = precision
        self._has_warned_of_cost = False

    @log_usage(part_of_slo=True)
    @documented(explanation_arguments)
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: Target = None,
        additional_forward_args: object = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        insertion_baselines: BaselineType = None,
        seed_attributions: AnyMaps | None = None,
        tau: float = 0.9,
        gamma: float = 0.0,
        kappa: float = 0.005,
        return_input_shape: bool = True,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        deletion_baselines: BaselineType = None,
    ) -> TensorOrTupleOfTensorsGeneric | Tensor:
        """Attribute the score of the target to the features of the inputs.

        Args:
            inputs: ...
            baselines: ...
            target: ...
            additional_forward_args: ...
            feature_mask: ...
            insertion_baselines: ...
            seed_attributions: ...
            tau: ...
            gamma: ...
            kappa: ...
            return_input_shape: ...
            perturbations_per_eval: ...
            show_progress: ...
            deletion_baselines: ...

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**: not negative, float32
            (float64 where the outputs are), detached, on the inputs' device.
                - **attributions**: shaped like ``inputs``, constant over each feature;
                  (B, N) with ``return_input_shape=False``.

        Raises:
            TypeError, ValueError: An argument does not fit (before the first forward);
                the outputs do not fit the target or are not finite; or an example
                scores no higher than its baseline and ``on_degenerate`` is "raise".
        """
        _checks.require_in_unit_interval("gamma", gamma)
        _checks.require_in_unit_interval("kappa", kappa)
        _checks.require_flag("return_input_shape", return_input_shape)
        n_inputs = inputs_before_repeats()
        if n_inputs is not None and deletion_baselines is not None:
            baselines = none_before_repeats(baselines)
        explanation = self.explain(
            inputs,
            baselines,
            target,
            additional_forward_args,
            feature_mask,
            repeated("insertion_baselines", insertion_baselines, inputs, n_inputs),
            repeated("seed_attributions", seed_attributions, inputs, n_inputs),
            tau,
            perturbations_per_eval,
            show_progress,
            repeated("deletion_baselines", deletion_baselines, inputs, n_inputs),
        )
        if not return_input_shape:
            return explanation.feature_attributions(gamma, kappa)
        return cast(
            TensorOrTupleOfTensorsGeneric, explanation.attributions(gamma, kappa)
        )

    def attribute_future(self) -> None:
        """Raise: each step of a search depends on the outputs of the one before."""
        raise NotImplementedError(
            "attribute_future is not implemented for MetricDrivenAttribution"
        )

    @restores_modes
    @documented(explanation_arguments)
    def explain(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: BaselineType = None,
        target: Target = None,
        additional_forward_args: object = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        insertion_baselines: BaselineType = None,
        seed_attributions: AnyMaps | None = None,
        tau: float = 0.9,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        deletion_baselines: BaselineType = None,
    ) -> MDAExplanation:
        """Find the order and its curves, from which all maps follow.

        Args:
            inputs: ...
            baselines: ...
            target: ...
            additional_forward_args: ...
            feature_mask: ...
            insertion_baselines: ...
            seed_attributions: ...
            tau: ...
            perturbations_per_eval: ...
            show_progress: ...
            deletion_baselines: ...

        Returns:
            *MDAExplanation*: the order, the curves, and the number of forwards.

        Raises:
            TypeError, ValueError: As `attribute`.
        """
        tensors = validate_inputs(inputs)
        tau = _checks.require_in_unit_interval("tau", tau)
        show_progress = _checks.require_flag("show_progress", show_progress)
        require_inputs_for(self.ordering, tensors)
        if self.precision is not None:
            require_bfloat16(self.forward_func, tensors)
        features = Features.from_mask(tensors, feature_mask)
        removed = removed_baselines(baselines, deletion_baselines)
        absent = both_baselines(tensors, insertion_baselines, *removed)
        prior = prior_scores(seed_attributions, features)
        if prior is None and not self._has_warned_of_cost:
            self._has_warned_of_cost = warn_of_cost(self.ordering, features.n_features)
        response = Response(
            self.forward_func,
            features.batch_size,
            target,
            additional_forward_args,
            self.score,
            rows_per_forward(perturbations_per_eval, features.batch_size),
        )
        responses = SubsetResponses(response, tensors, absent, features)
        facts = facts_of_call(
            forward_func=self.forward_func,
            target=target,
            deletion_baselines=removed[0],
            insertion_baselines=insertion_baselines,
            seed_attributions=seed_attributions,
        )
        return self._explained(
            responses, prior, tau, show_progress, is_tuple(inputs), facts
        )

    def _explained(
        self,
        responses: SubsetResponses,
        prior: Tensor | None,
        tau: float,
        show_progress: bool,
        inputs_are_tuple: bool,
        facts: Provenance,
    ) -> MDAExplanation:
        """Search the order, and explain by it."""
        with preserved_state(self.forward_func), torch.no_grad():
            task, dtype = make_task(
                responses, prior, tau, self.precision, self.on_degenerate
            )
            ordering = resolved(self.ordering, task)
            title = f"{self.get_name()} attribution"
            found = order_with_bar(task, ordering, title, show_progress)
            mean_curves = curves_of_mean(found, responses, self.mean_steps)
        return explanation_of(
            found,
            mean_curves,
            task,
            solver=self.solver,
            magnitude=self.magnitude,
            precision=self.precision,
            dtype=dtype,
            is_tuple=inputs_are_tuple,
            provenance={**self._settings(ordering, tau), **facts},
        )

    def _call_settings(self) -> dict[str, Any]:
        """Name the orderings that have names; refining is a part of them."""
        settings = super()._call_settings()
        if not isinstance(self.ordering, RefinedOrdering):
            name = ordering_name(self.ordering)
            settings["ordering"] = name if name in ORDERINGS else self.ordering
        return settings

    def _settings(self, ordering: Ordering, tau: float) -> dict[str, Scalar]:
        """Collect the settings of a search, for the explanation's provenance."""
        settings = {
            "method": "MDA",
            "ordering": ordering_name(ordering),
            "magnitude": self.magnitude,
            "tau": tau,
            "solver": self.solver,
            "refine": getattr(self.ordering, "passes", 0),
            "precision": self.precision,
            "mean_steps": self.mean_steps,
            "score": self.score,
        }
        return {name: as_scalar(value) for name, value in settings.items()}
