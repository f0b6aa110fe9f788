"""Screens candidates in bfloat16 and decides between the near best in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captum_mda.ordering.lockstep import Bools, Floats, Search, SubsetQuery
from captum_mda.perturbation.precision import Precision

FIRST_KNOWN = 6
"""Rows of a query evaluated in both precisions while no errors are known."""
LEAST_FREEDOM = 3.0
"""Degrees of freedom of the errors from which on the margin is trusted."""
ROUNDING = 1e-9
"""Largest difference of equal responses after a conversion of units."""


@dataclass(frozen=True)
class DecisionRule:
    """How certain a decision between screened rows has to be.

    Args:
        safety (float): The margin, in standard deviations of the difference of two
            errors.
        known (int): Least number of rows of a query evaluated in both precisions, once
            the margin is trusted.
        memory (float): Weight of an error one query later: errors change along a
            search.
    """

    safety: float
    known: int
    memory: float


STRICT = DecisionRule(3.0, 2, 0.8)
"""For searches that must find the same order as in float32."""
FRUGAL = DecisionRule(1.5, 1, 0.95)
"""For searches that save forwards: the expected loss of a row dropped at this margin is
a thirtieth of the standard deviation of a difference of errors."""


class Screened:
    """Responses to the subsets of one query, some of them known in bfloat16 only.

    Args:
        subsets (NDArray): bool (R, N).
        baseline_index (int): The baseline that stands for the absent features.
        sense (int): 1 where a higher response is better, -1 where a lower one is.
        responses (NDArray): float64 (R,).
        in_bf16 (bool): Whether they were computed in bfloat16.

    Attributes:
        responses (NDArray): float64 (R,). After a decision, those of bfloat16 are
            corrected by its error for the best row.
        known (NDArray): bool (R,), which of them were computed in float32.
    """

    def __init__(
        self,
        subsets: Bools,
        *,
        baseline_index: int,
        sense: int,
        responses: Floats,
        in_bf16: bool,
    ) -> None:
        self.subsets, self.baseline_index, self.sense = subsets, baseline_index, sense
        self.responses, self.in_bf16 = responses, in_bf16
        self.known = np.full(len(responses), not in_bf16)
        self._screened = responses.copy()

    def rows(self, chosen: NDArray[np.intp]) -> Screened:
        """Copy some of the rows."""
        rows = Screened(
            self.subsets[chosen],
            baseline_index=self.baseline_index,
            sense=self.sense,
            responses=self._screened[chosen],
            in_bf16=self.in_bf16,
        )
        rows.responses = self.responses[chosen]
        rows.known = self.known[chosen]
        return rows

    def decided(self, rows: Bools, responses: Floats) -> None:
        """Replace the responses of some rows by those computed in float32."""
        self.responses[rows] = responses
        self.known |= rows

    def correct(self, best: int, units: Units) -> None:
        """Take the error for a known row off all responses of bfloat16."""
        self.responses = self.corrected(best, units)

    def errors(self, units: Units) -> Floats:
        """Compute the errors of bfloat16 in the rows known in float32."""
        known = self.known
        return units.of(self._screened[known]) - units.of(self.responses[known])

    def corrected(self, best: int, units: Units, bonus: float = 0.0) -> Floats:
        """Estimate float32's responses: less the error for a known row, plus a bonus.

        Args:
            best (int): The known row.
            units (Units): The unit of the error and the bonus.
            bonus (float, optional): Added to each estimate in the better sense, for an
                upper bound. Default: 0.0
        """
        screened = units.of(self._screened)
        error = screened[best] - units.of(self.responses[best])
        estimated = units.to_responses(screened - error + self.sense * bonus)
        return np.where(self.known, self.responses, estimated)


class Screening:
    """Screens the candidates of one example, and tracks the errors of bfloat16.

    Inputs that differ in one feature share most of bfloat16's error; only the
    differences between their errors can make a wrong one look best. So some rows are
    evaluated in both precisions, and the variance of their errors within a query is
    pooled over the example's recent queries on the same baseline. A row is dropped in
    bfloat16 only if it falls behind the best by the number of standard deviations of a
    difference that the `DecisionRule` sets, and by more than any two errors of the
    query differ. Errors of softmax probabilities are measured in log-odds, where they
    depend less on the response.

    Args:
        precision (str, optional): "bf16", or None to evaluate all rows in float32.
            Default: None
        of_probabilities (bool, optional): Whether responses are probabilities.
            Default: False
    """

    def __init__(
        self, precision: Precision = None, of_probabilities: bool = False
    ) -> None:
        """Start without a margin."""
        self._in_bf16 = precision == "bf16"
        self._units = LogOdds() if of_probabilities else Units()
        # By baseline index: the sum of squares of errors, and its degrees of freedom.
        self._errors: dict[int, tuple[float, float]] = {}
        self.margin = 0.0
        """Largest margin so far by which a row had to fall behind to be dropped."""

    def screen(
        self, subsets: Bools, baseline_index: int, sense: int
    ) -> Search[Screened]:
        """Evaluate subsets (R, N), in bfloat16 if this screening has it."""
        in_bf16 = self._in_bf16 and len(subsets) > 1  # a single row must be exact
        responses = yield SubsetQuery(subsets, baseline_index, in_bf16)
        return Screened(
            subsets,
            baseline_index=baseline_index,
            sense=sense,
            responses=responses,
            in_bf16=in_bf16,
        )

    def best_of(self, screened: Screened, rule: DecisionRule = STRICT) -> Search[int]:
        """Find the row with the best response, the first of equal ones.

        Afterwards its response is float32's and the best of `Screened.responses`.
        """
        return (
            yield from self.decide(
                lambda values: screened.sense * values, screened, rule=rule
            )
        )

    def decide(
        self,
        value: Callable[..., Floats],
        *screened: Screened,
        rule: DecisionRule = STRICT,
    ) -> Search[int]:
        """Find the row of the highest value, the first of equal ones.

        Args:
            value (callable): Maps a row's responses to all queries to one value, (R,)
                of (R,); it never falls where a response gets better.
            *screened (Screened): The responses to each query; those evaluated in
                float32 here replace the screened ones.
            rule (DecisionRule, optional): How certain the decision has to be.
                Default: STRICT

        Returns:
            *int*: the row, whose responses are float32's. Another row can exceed it
            only if errors differ by more than the margin.
        """
        while True:
            known = np.logical_and.reduce([each.known for each in screened])
            values = value(*(each.responses for each in screened))
            least = self._least_known(screened, rule)
            if known.sum() < min(least, len(known)):
                doubtful = ~known & _is_among_highest(values, least)
            else:
                best = int(np.where(known, values, -np.inf).argmax())
                bounds = value(
                    *(
                        each.corrected(
                            best, self._units, self._margin(each, rule) + ROUNDING
                        )
                        for each in screened
                    )
                )
                doubtful = ~known & (bounds >= values[best])
                if not doubtful.any():
                    break
            for each in screened:
                responses = yield SubsetQuery(
                    each.subsets[doubtful], each.baseline_index
                )
                each.decided(doubtful, responses)
        for each in screened:
            if each.in_bf16:
                self.margin = max(self.margin, self._margin(each, rule))
                self._errors[each.baseline_index] = self._pooled(each, rule)
            each.correct(best, self._units)
        return best

    def _least_known(self, screened: Sequence[Screened], rule: DecisionRule) -> int:
        """Choose how many rows to evaluate in both precisions, by the known errors."""
        freedom = min(
            self._errors.get(each.baseline_index, (0.0, 0.0))[1] for each in screened
        )
        if freedom >= LEAST_FREEDOM:
            return rule.known
        # Two rows add one degree of freedom, which keeps what was learned.
        return max(2, rule.known) if freedom >= LEAST_FREEDOM - 1 else FIRST_KNOWN

    def _margin(self, screened: Screened, rule: DecisionRule) -> float:
        """Compute how far behind a row may be and still be the best in float32."""
        squares, freedom = self._pooled(screened, rule)
        spread = rule.safety * (2 * squares / freedom) ** 0.5 if freedom else 0.0
        return max(spread, float(np.ptp(screened.errors(self._units))))

    def _pooled(self, screened: Screened, rule: DecisionRule) -> tuple[float, float]:
        """Add the errors of a query to those remembered of earlier ones."""
        squares, freedom = self._errors.get(screened.baseline_index, (0.0, 0.0))
        errors = screened.errors(self._units)
        of_mean = errors - errors.mean()
        return (
            rule.memory * squares + float((of_mean**2).sum()),
            rule.memory * freedom + len(errors) - 1,
        )


class Units:
    """The unit in which errors are measured: here the responses themselves."""

    def of(self, responses: Floats) -> Floats:
        """Convert responses to these units."""
        return responses

    def to_responses(self, values: Floats) -> Floats:
        """Convert values in these units to responses."""
        return values


class LogOdds(Units):
    """Log-odds of probabilities, bounded where float32 rounds them to 0 or 1."""

    _LEAST, _LEAST_REST = 1e-12, 1e-6

    def of(self, responses: Floats) -> Floats:
        """Convert probabilities to log-odds."""
        odds = (responses + self._LEAST) / (1 - responses + self._LEAST_REST)
        values: Floats = np.log(odds)
        return values

    def to_responses(self, values: Floats) -> Floats:
        """Convert log-odds to probabilities."""
        odds = np.exp(values)
        back: Floats = (odds * (1 + self._LEAST_REST) - self._LEAST) / (1 + odds)
        return back


def _is_among_highest(values: Floats, n: int) -> Bools:
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:n]] = True
    return chosen
