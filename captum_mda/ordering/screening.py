"""Candidates are screened in bfloat16; what is near the best is decided in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captum_mda.ordering.lockstep import Query, Search
from captum_mda.perturbation.precision import Precision

FIRST_KNOWN = 6
"""How many rows of a question are asked both ways where no errors are known."""
LEAST_FREEDOM = 3.0
"""From how many degrees of freedom of the errors on the margin is trusted."""
ROUNDING = 1e-9
"""What equal responses may differ by once they were turned into other units."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Care:
    """How sure a decision has to be.

    Args:
        safety (float): The margin, in standard deviations of the difference of two
            errors.
        known (int): How many rows of a question are asked both ways, at least, where
            the margin is trusted.
        memory (float): What an error counts one question later: errors change along a
            search.
    """

    safety: float
    known: int
    memory: float


CAREFUL = Care(3.0, 2, 0.8)
"""For a search that is to find what it finds in float32."""
FRUGAL = Care(1.5, 1, 0.95)
"""For one that saves forwards: a row dropped at this margin would, in the mean, have
gained a thirtieth of the standard deviation of a difference of errors."""


class Screened:
    """Responses to the subsets of one question, some of them only from bfloat16.

    Args:
        subsets (NDArray): bool (R, N).
        kind (int): The kind of baseline they are put on.
        sense (int): 1 where a higher response is better, -1 where a lower one is.
        responses (NDArray): float64 (R,).
        in_bf16 (bool): Whether they are bfloat16's.

    Attributes:
        responses (NDArray): float64 (R,). Once a decision is taken, those of
            bfloat16 are corrected by its error for the best row.
        known (NDArray): bool (R,), which of them are float32's.
    """

    def __init__(
        self,
        subsets: NDArray[np.bool_],
        kind: int,
        sense: int,
        responses: Values,
        in_bf16: bool,
    ) -> None:
        self.subsets, self.kind, self.sense = subsets, kind, sense
        self.responses, self.in_bf16 = responses, in_bf16
        self.known = np.full(len(responses), not in_bf16)
        self._screened = responses.copy()

    def rows(self, chosen: NDArray[np.intp]) -> Screened:
        """Copy some of the rows."""
        rows = Screened(
            self.subsets[chosen],
            self.kind,
            self.sense,
            self._screened[chosen],
            self.in_bf16,
        )
        rows.responses = self.responses[chosen]
        rows.known = self.known[chosen]
        return rows

    def errors(self, units: Units) -> Values:
        """Measure the errors of bfloat16 where they are known."""
        known = self.known
        return units.of(self._screened[known]) - units.of(self.responses[known])

    def corrected(self, best: int, units: Units, hope: float = 0.0) -> Values:
        """Take the error for a known row off bfloat16's responses, and add a hope."""
        screened = units.of(self._screened)
        error = screened[best] - units.of(self.responses[best])
        hoped = units.to_responses(screened - error + self.sense * hope)
        return np.where(self.known, self.responses, hoped)


class Screening:
    """What one example's candidates are screened in, and how far that is trusted.

    Inputs that differ in a patch have most of bfloat16's error in common. It is by how
    their errors differ that a wrong one can look best. So rows are asked both ways, the
    variance of their errors within a question is pooled over the example's last
    questions on the same baseline, and a row is dropped unasked only where it falls
    behind the best by as many standard deviations of a difference as the search says
    (`Care`), and by more than any two errors of the question differ. Errors are
    measured in log-odds where responses are softmax probabilities, since there they
    depend less on the response.

    Args:
        precision (str, optional): "bf16", or None to ask everything in float32.
            Default: None
        of_probabilities (bool, optional): Whether responses are probabilities of a
            softmax. Default: False
    """

    def __init__(
        self, precision: Precision = None, of_probabilities: bool = False
    ) -> None:
        """Start without a margin."""
        self._in_bf16 = precision == "bf16"
        self._units = LogOdds() if of_probabilities else Units()
        # By kind of baseline: the sum of squares of errors, and its degrees of freedom.
        self._errors: dict[int, tuple[float, float]] = {}
        self.margin = 0.0
        """The largest yet by which a row had to fall behind to be dropped unasked."""

    def ask(
        self, subsets: NDArray[np.bool_], kind: int, sense: int
    ) -> Search[Screened]:
        """Ask for the responses to subsets (R, N), in bfloat16 if one is to screen."""
        in_bf16 = self._in_bf16 and len(subsets) > 1  # one alone is to be known
        responses = yield Query(subsets, kind, in_bf16)
        return Screened(subsets, kind, sense, responses, in_bf16)

    def best_of(self, asked: Screened, care: Care = CAREFUL) -> Search[int]:
        """Find the row with the best response, the first of equal ones.

        Afterwards its response is float32's and the best of `Screened.responses`.
        """
        return (
            yield from self.decide(
                lambda values: asked.sense * values, asked, care=care
            )
        )

    def decide(
        self,
        value: Callable[..., Values],
        *questions: Screened,
        care: Care = CAREFUL,
    ) -> Search[int]:
        """Find the row of the highest value, the first of equal ones.

        Args:
            value (callable): Makes one value of a row's responses to each question,
                (R,) of (R,); it does not fall where a response gets better.
            *questions (Screened): The responses; those that the decision asks in
                float32 replace what they were.
            care (Care, optional): How sure the decision has to be. Default: CAREFUL

        Returns:
            *int*: the row, whose responses are float32's. No other row can exceed it,
            or only if errors differ by more than the margin.
        """
        while True:
            known = np.logical_and.reduce([each.known for each in questions])
            values = value(*(each.responses for each in questions))
            least = self._least_known(questions, care)
            if known.sum() < min(least, len(known)):
                doubtful = ~known & _is_among_highest(values, least)
            else:
                best = int(np.where(known, values, -np.inf).argmax())
                hopes = value(
                    *(
                        each.corrected(
                            best, self._units, self._margin(each, care) + ROUNDING
                        )
                        for each in questions
                    )
                )
                doubtful = ~known & (hopes >= values[best])
                if not doubtful.any():
                    break
            for each in questions:
                each.responses[doubtful] = yield Query(
                    each.subsets[doubtful], each.kind
                )
                each.known |= doubtful
        for each in questions:
            if each.in_bf16:
                self.margin = max(self.margin, self._margin(each, care))
                self._errors[each.kind] = self._pooled(each, care)
            each.responses = each.corrected(best, self._units)
        return best

    def _least_known(self, questions: Sequence[Screened], care: Care) -> int:
        """Tell how many rows to ask both ways, by what is known on their baselines."""
        freedom = min(self._errors.get(each.kind, (0.0, 0.0))[1] for each in questions)
        if freedom >= LEAST_FREEDOM:
            return care.known
        # Two rows tell one more difference of errors, and keep alive what was learned.
        return max(2, care.known) if freedom >= LEAST_FREEDOM - 1 else FIRST_KNOWN

    def _margin(self, asked: Screened, care: Care) -> float:
        """Tell how far behind the best, in float32, a row of these may yet reach it."""
        squares, freedom = self._pooled(asked, care)
        spread = care.safety * (2 * squares / freedom) ** 0.5 if freedom else 0.0
        return max(spread, float(np.ptp(asked.errors(self._units))))

    def _pooled(self, asked: Screened, care: Care) -> tuple[float, float]:
        """Add the errors of a question to what is remembered of those before."""
        squares, freedom = self._errors.get(asked.kind, (0.0, 0.0))
        errors = asked.errors(self._units)
        of_mean = errors - errors.mean()
        return (
            care.memory * squares + float((of_mean**2).sum()),
            care.memory * freedom + len(errors) - 1,
        )


class Units:
    """What errors are measured in: the responses as they are."""

    def of(self, responses: Values) -> Values:
        """Turn responses into these units."""
        return responses

    def to_responses(self, values: Values) -> Values:
        """Turn these units into responses."""
        return values


class LogOdds(Units):
    """Log-odds of probabilities, bounded where float32 cannot tell them from 0 or 1."""

    _LEAST, _LEAST_REST = 1e-12, 1e-6

    def of(self, responses: Values) -> Values:
        """Turn probabilities into log-odds."""
        odds = (responses + self._LEAST) / (1 - responses + self._LEAST_REST)
        values: Values = np.log(odds)
        return values

    def to_responses(self, values: Values) -> Values:
        """Turn log-odds into probabilities."""
        odds = np.exp(values)
        back: Values = (odds * (1 + self._LEAST_REST) - self._LEAST) / (1 + odds)
        return back


def _is_among_highest(values: Values, n: int) -> NDArray[np.bool_]:
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:n]] = True
    return chosen
