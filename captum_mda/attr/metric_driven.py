"""Metric-Driven Attribution: ask the metrics which patches matter, and how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_mda._calls import MadeByCall
from captum_mda._captum import (
    BaselineType,
    end_bar,
    FORWARDS,
    inputs_before_repeats,
    is_tuple,
    log_usage,
    NullProgress,
    progress_bar,
    TensorOrTupleOfTensorsGeneric,
)
from captum_mda._checks import (
    require_choice,
    require_count,
    require_flag,
    require_in_unit_interval,
    require_positive_integer_or_none,
)
from captum_mda._state import preserved_state, restores_modes, warn_caller
from captum_mda.attr.explanation import MDAExplanation
from captum_mda.attr.provenance import facts_of_call, Provenance
from captum_mda.attr.repeats import repeated
from captum_mda.curves import monotone_response
from captum_mda.magnitude import (
    align_density,
    fit_density,
    MAGNITUDE_RULES,
    MagnitudeRule,
    mean_response,
    resampled,
    Solver,
    SOLVERS,
)
from captum_mda.ordering import (
    EndPoints,
    expected_forwards,
    forwards_of_paper,
    measure_end_points,
    order_examples,
    Ordering,
    ordering_name,
    ORDERINGS,
    RefinedOrdering,
    require_inputs_for,
    resolved,
    Screening,
    SearchResult,
    SearchTask,
    seed_scores,
)
from captum_mda.perturbation import (
    Features,
    format_baselines,
    Path,
    Ranking,
    Response,
    Score,
    SubsetResponses,
    Sweep,
    Target,
    validate_inputs,
)
from captum_mda.perturbation.maps import AnyMaps
from captum_mda.perturbation.precision import (
    Precision,
    PRECISIONS,
    require_bfloat16,
)
from captum_mda.perturbation.scores import how_to_credit, require_scorer, ScoredAs

MANY_FORWARDS = 5000
"""From how many forwards of an example on a search says how to do with fewer."""

PIXEL_STEPS = 224
"""The steps of the authors' metrics, and so of a mean curve of single positions."""


class MetricDrivenAttribution(MadeByCall, PerturbationAttribution):
    r"""Metric-Driven Attribution (MDA) for any model that scores its inputs.

    MDA asks the metrics that judge attributions. First it orders the features (for a
    Vision Transformer, the patches): those that raise the score most when they are
    inserted into a baseline come first, until the score is nearly that of the full
    input; the others are ordered by what the score loses least by. Then it gives every
    feature the magnitude for which the map's density follows the model's own response:
    the increments of the concave curve nearest to the mean of the order's insertion and
    deletion curves.

    The method sees the model from outside only. It needs one score for each example and
    asks for it about ``C * W + (N - C) * W`` times for N features, of which C are
    inserted, and a candidate window W.

    Args:
        forward_func (callable): The model or any function of the inputs. It returns
            logits (B, classes), or one value for each example.
        solver (str or callable, optional): Finds the density curve: "nnls" (exact,
            SciPy), "osqp", or a callable that takes the mean curve, float64 ndarray
            (N + 1,), and returns the density curve, alike. Default: "nnls"
        ordering (str or Ordering, optional): Finds the order: "paper", the published
            search; "fast", which asks where the answer matters and interpolates the
            other points of the curves, see `captum_mda.ordering.FastOrdering`; "joint",
            the same again and again by its own result, for less than "paper" and with
            better scores, see `captum_mda.ordering.JointOrdering`; "relaxed", "fast"
            from a seed that gradients find, for models that can be differentiated, see
            `captum_mda.ordering.RelaxedOrdering`; "auto", "relaxed" for more than 100
            features and a model that can be differentiated, else "joint", see
            `captum_mda.ordering.AutoOrdering`; or an object of the
            `captum_mda.ordering.Ordering` protocol. Default: "paper"
        magnitude (str, optional): Makes magnitudes of the density's increments:
            "reference" as published in code, "paper" as printed (Eq. 10), "increment"
            the increments themselves; "mas" makes the density itself: of the maps with
            no more alignment penalty than those three have, the one that magnitude-
            aligned insertion and deletion (MAS) reward most, see
            `captum_mda.magnitude.align_density`. Default: "reference"
        score (str or callable, optional): What is made of the outputs before the target
            is chosen: "softmax" over dimension 1, for classes that exclude each other;
            "sigmoid", for labels that do not and for one binary logit; "identity"; or a
            callable that maps outputs to scores. One value for each example has no
            classes and is its own score under "softmax". Default: "softmax"
        mean_steps (str, optional): What the mean response curve is read from: "patch",
            the order's own curves, one point for each feature; or "pixel", curves of
            224 steps of single positions, which the metrics take and the authors' code
            uses, for 449 forwards more. Default: "patch"
        on_degenerate (str, optional): What becomes of an example that scores no higher
            than its baseline, so that no feature can be credited: "raise" a ValueError
            that names it, or return "zero" attributions and warn. Default: "raise"
        precision (str, optional): "bf16" has the search screen its candidates in
            bfloat16, under `torch.autocast`, and ask again in float32 those that come
            near the best: what the curves show is float32's, for fewer of its forwards.
            It pays where the hardware computes in bfloat16. None runs all forwards as
            the caller's context has them. Default: None
        refine (int, optional): How many passes of local moves improve the order once it
            is found, see `captum_mda.ordering.RefinedOrdering`; insertion less deletion
            never falls by them. Default: 0

    Raises:
        TypeError: ``forward_func`` is not callable.
        ValueError: An option is none of those above.

    Reference:
        Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers", ICLR
        2025.

    Example::

        >>> import torch
        >>> from captum_mda import MetricDrivenAttribution, patch_feature_mask
        >>> # ImageClassifier takes images Nx1x4x4 and returns logits Nx2; class 1 asks
        >>> # for a bright upper left corner.
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
        """Check the options; the question itself is asked in `attribute`."""
        PerturbationAttribution.__init__(self, forward_func)
        require_scorer(forward_func, score)
        if not callable(solver):
            require_choice("solver", solver, tuple(SOLVERS))
        if not callable(ordering):
            require_choice("ordering", ordering, tuple(ORDERINGS))
        require_choice("magnitude", magnitude, MAGNITUDE_RULES)
        require_choice("on_degenerate", on_degenerate, ("raise", "zero"))
        require_choice("mean_steps", mean_steps, ("patch", "pixel"))
        if precision is not None:
            require_choice("precision", precision, PRECISIONS)
        refine = require_count("refine", refine)
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
        self._cost_is_said = False

    @log_usage(part_of_slo=True)
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
    ) -> TensorOrTupleOfTensorsGeneric | Tensor:
        r"""Attribute the score of the target to the features of the inputs.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): The inputs to explain, examples along
                dimension 0 of each tensor.
            baselines (Tensor, number, tuple of those, optional): What stands where a
                feature is deleted; a tensor broadcasts to its input. None: 0.
                Default: None
            target (int, tuple, Tensor, list, callable, optional): The class to explain,
                for all examples or for each, in Captum's forms; or a callable that maps
                outputs (R, ...), in float32 or float64, to one score for each row,
                (R,), in place of ``score``: rows are perturbed inputs of any examples,
                in any number, and each is scored by its own output alone. None where
                ``forward_func`` returns one value for each example. Default: None
            additional_forward_args (any, optional): Passed to ``forward_func`` behind
                the inputs; tensors whose first dimension is the batch's hold one entry
                for each example. Default: None
            feature_mask (Tensor or tuple[Tensor, ...], optional): Integers that say
                which feature an element belongs to, broadcasting to the inputs; equal
                numbers are one feature, also across tensors. For a Vision Transformer
                pass ``patch_feature_mask(inputs, patch_size)``. None: every scalar is a
                feature, up to 4,096 of them. Default: None
            insertion_baselines (Tensor, number, tuple of those, optional): What stands
                where a feature is not yet inserted; the paper blurs the inputs, see
                `confidence_blur_baseline`. None: ``baselines``. Default: None
            seed_attributions (Tensor, tuple of those, or MDAExplanation, optional): An
                attribution to choose candidates by, as any method returns it: (B, N),
                one signed score for each feature; the grid of patches (B, 1, h, w) or
                (B, h, w) that a method of this package returns with
                ``interpolate_mode=None``, where the feature mask is a raster of such
                patches or its features do not cut the grid's cells; or maps that
                broadcast to the inputs and are averaged over each feature. Of forms
                that a shape fits, the first is taken. None: all features are
                candidates at each step, which costs more. Default: None
            tau (float, optional): The normalised response in [0, 1] at which insertion
                hands over to deletion; 1 uses insertion alone, 0 deletion alone.
                Default: 0.9
            gamma (float, optional): 0 is the sparse map, which the magnitude metrics
                reward, 1 the dense one, which is easier on the eye, in [0, 1].
                Default: 0.0
            kappa (float, optional): The sparse magnitude in [0, 1] from which on the
                dense map counts a feature as important. Default: 0.005
            return_input_shape (bool, optional): Paint the attributions onto the inputs'
                elements; else return one for each feature. Default: True
            perturbations_per_eval (int, optional): The most perturbed inputs of each
                example in one forward. None: as many as fit. Default: None
            show_progress (bool, optional): Show a bar of the features placed.
                Default: False

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
        require_in_unit_interval("gamma", gamma)
        require_in_unit_interval("kappa", kappa)
        require_flag("return_input_shape", return_input_shape)
        n_inputs = inputs_before_repeats()
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
        )
        if not return_input_shape:
            return explanation.feature_attributions(gamma, kappa)
        return cast(
            TensorOrTupleOfTensorsGeneric, explanation.attributions(gamma, kappa)
        )

    def attribute_future(self) -> None:
        """Raise: MDA asks its next question by the last answer."""
        raise NotImplementedError(
            "attribute_future is not implemented for MetricDrivenAttribution"
        )

    @restores_modes
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
    ) -> MDAExplanation:
        """Find the order and its curves, from which all maps follow.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): As all arguments, see `attribute`.
            baselines (Tensor, number, tuple of those, optional): Default: None
            target (int, tuple, Tensor, list, callable, optional): Default: None
            additional_forward_args (any, optional): Default: None
            feature_mask (Tensor or tuple[Tensor, ...], optional): Default: None
            insertion_baselines (Tensor, number, tuple, optional): Default: None
            seed_attributions (Tensor, tuple, or MDAExplanation, optional): Default:
                None
            tau (float, optional): Default: 0.9
            perturbations_per_eval (int, optional): Default: None
            show_progress (bool, optional): Default: False

        Returns:
            *MDAExplanation*: the order, the curves, and what they cost.

        Raises:
            TypeError, ValueError: As `attribute`.
        """
        tensors = validate_inputs(inputs)
        tau = require_in_unit_interval("tau", tau)
        show_progress = require_flag("show_progress", show_progress)
        require_inputs_for(self.ordering, tensors)
        if self.precision is not None:
            require_bfloat16(self.forward_func, tensors)
        features = Features.from_mask(tensors, feature_mask)
        deleted = format_baselines(tensors, baselines)
        hidden = (
            deleted
            if insertion_baselines is None
            else format_baselines(tensors, insertion_baselines, "insertion_baselines")
        )
        seed = seed_scores(seed_attributions, features)
        if seed is None:
            self._say_what_it_costs(features)
        response = Response(
            self.forward_func,
            features.batch_size,
            target,
            additional_forward_args,
            self.score,
            _rows_per_forward(perturbations_per_eval, features.batch_size),
        )
        responses = SubsetResponses(response, tensors, (hidden, deleted), features)
        title = f"{self.get_name()} attribution"
        with preserved_state(self.forward_func), torch.no_grad():
            end_points, dtype = measure_end_points(responses)
            degenerate = self._degenerate(end_points, response.scored_as)
            task = SearchTask(
                responses,
                end_points,
                (~degenerate).nonzero().flatten(),
                seed,
                tau,
                [
                    Screening(self.precision, response.gives_probabilities)
                    for _ in range(features.batch_size)
                ],
            )
            ordering = resolved(self.ordering, task)
            each = expected_forwards(ordering, features.n_features, seed is not None)
            total = None if each is None else each * len(task.examples)
            with progress_bar(total, title, show_progress, "search", FORWARDS) as bar:
                response.progress = bar
                found = order_examples(task, ordering)
                response.progress = NullProgress()
                end_bar(bar)
            sweeps = (
                torch.stack([found.insertion, found.deletion])
                if self.mean_steps == "patch"
                else _sweep_positions(found.order, responses)
            )
        provenance = facts_of_call(
            self.forward_func,
            target,
            baselines,
            insertion_baselines,
            seed_attributions,
            self._settings(ordering, tau),
        )
        return self._explanation(
            found, sweeps, task, degenerate, dtype, is_tuple(inputs), provenance
        )

    def _call_settings(self) -> dict[str, Any]:
        """Name the orderings that have names; refining is a part of them."""
        settings = super()._call_settings()
        if not isinstance(self.ordering, RefinedOrdering):
            name = ordering_name(self.ordering)
            settings["ordering"] = name if name in ORDERINGS else self.ordering
        return settings

    def _settings(self, ordering: Ordering, tau: float) -> dict[str, object]:
        """Name what the search was set to, for the explanation's provenance."""
        return {
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

    def _say_what_it_costs(self, features: Features) -> None:
        """Warn once that a search without a prior is long, and how to shorten it."""
        n = features.n_features
        without, with_prior = forwards_of_paper(self.ordering, n)
        if without < MANY_FORWARDS or self._cost_is_said:
            return
        self._cost_is_said = True
        warn_caller(
            f'seed_attributions: None, so that ordering="paper" tries all of the {n} '
            f"features that are left at each step, about {without:,} forwards for each "
            "example; pass a map as seed_attributions, for example "
            "BidirectionalAttention(model).attribute(inputs, target), for about "
            f'{with_prior:,}, or take ordering="fast", for about {5 * n:,}, or "auto"'
        )

    def _degenerate(self, end_points: EndPoints, scored_as: ScoredAs) -> Tensor:
        """Find the examples that score no higher than a baseline: bool (B,)."""
        baseline = torch.maximum(
            end_points.insertion_baseline, end_points.deletion_baseline
        )
        degenerate = end_points.full <= baseline
        bad = degenerate.nonzero().flatten().tolist()
        if bad:
            full, low = float(end_points.full[bad[0]]), float(baseline[bad[0]])
            message = (
                f"inputs: example {bad[0]} scores {full:.6g} on the target and its "
                f"baseline {low:.6g}, so no feature can be credited ({len(bad)} such "
                f"examples: {bad[:10]})"
            )
            if self.on_degenerate == "raise":
                raise ValueError(
                    f"{message}; {how_to_credit(scored_as, full, low)}; or choose "
                    'another baseline, or pass on_degenerate="zero"'
                )
            warn_caller(f"{message}; their attributions are 0")
        return degenerate

    def _explanation(
        self,
        found: SearchResult,
        sweeps: Tensor,
        task: SearchTask,
        degenerate: Tensor,
        dtype: torch.dtype,
        inputs_are_tuple: bool,
        provenance: Provenance,
    ) -> MDAExplanation:
        """Make the curves of the order and fit the density to their mean.

        ``sweeps`` (2, B, n + 1) holds the raw insertion and deletion responses that the
        mean is read from.
        """
        kept, end_points = ~degenerate[:, None], task.end_points
        insertion, deletion = _monotone(
            found.insertion, found.deletion, end_points, kept
        )
        inserted, deleted = sweeps
        rising, falling = _monotone(inserted, deleted, end_points, kept)
        mean = mean_response(rising, falling)
        mean = torch.where(kept, resampled(mean, found.order.shape[1]), 0.0)
        density, response = torch.zeros_like(mean), task.responses.response
        if bool(kept.any()):
            density[~degenerate] = fit_density(mean[~degenerate], self.solver)
            if self.magnitude == "mas":
                features = task.responses.features
                sizes = features.sizes.cpu().expand(found.order.shape)
                density[~degenerate] = align_density(
                    density[~degenerate],
                    sizes.gather(1, found.order)[~degenerate].double(),
                    rising[~degenerate],
                    falling[~degenerate],
                    None if self.mean_steps == "patch" else _moved(task.responses),
                )
        return MDAExplanation(
            order=found.order,
            n_inserted=found.n_inserted,
            insertion_curve=insertion,
            deletion_curve=deletion,
            mean_curve=mean,
            density_curve=density,
            insertion_responses=found.insertion,
            deletion_responses=found.deletion,
            forwards=response.forwards.clone(),
            degenerate=degenerate,
            features=task.responses.features,
            magnitude=self.magnitude,
            dtype=dtype,
            is_tuple=inputs_are_tuple,
            precision=self.precision,
            forwards_bf16=response.forwards_bf16.clone(),
            margin=torch.tensor(
                [screening.margin for screening in task.screenings],
                dtype=torch.float64,
            ),
            provenance=provenance,
        )


def _monotone(
    insertion: Tensor, deletion: Tensor, end_points: EndPoints, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Normalise both responses, each (B, n + 1), to 0 where an example is not kept."""
    rising = monotone_response(
        insertion, end_points.insertion_baseline, end_points.full, "insertion"
    )
    falling = monotone_response(
        deletion, end_points.deletion_baseline, end_points.full, "deletion"
    )
    return torch.where(kept, rising, 0.0), torch.where(kept, falling, 0.0)


def _sweep_positions(order: Tensor, responses: SubsetResponses) -> Tensor:
    """Insert and delete single positions in the features' order: float64 (2, B, n + 1).

    Positions of one feature move from its last to its first, as in the metrics.
    """
    fine = responses.of_positions()
    rank = -order.argsort(dim=1).double()
    height = fine.features.mean(responses.features.paint(rank))  # (B, positions)
    ranking = Ranking.of(height.argsort(dim=1, stable=True).flip(1), PIXEL_STEPS)
    paths = [Path(ranking, deletes=False), Path(ranking, deletes=True, kind=1)]
    return torch.stack(Sweep(paths).run(fine))


def _moved(responses: SubsetResponses) -> Tensor:
    """Tell the share of positions that has moved at each of those points: (n + 1,)."""
    positions = torch.arange(responses.of_positions().n_features)[None]
    counts = Ranking.of(positions, PIXEL_STEPS).counts.double()
    return counts / counts[-1]


def _rows_per_forward(
    perturbations_per_eval: int | None, n_examples: int
) -> int | None:
    """Turn Captum's perturbations of each example into rows of all examples."""
    rows = require_positive_integer_or_none(
        "perturbations_per_eval", perturbations_per_eval
    )
    return None if rows is None else rows * n_examples
