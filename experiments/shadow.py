"""The tests of a challenger that nobody meets: its answers beside the champion's, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from experiments.methods.pairs import PairComparison
from experiments.metric import Goal, Guardrail
from experiments.model import Declaration
from experiments.pairs import AGREEMENT, Paired, compared_in_pairs
from experiments.questions import harm_log_e, not_inferior_log_e
from experiments.stats.proportion import below_rate_log_e

SHADOW_PART = 0.25
"""Of the error rate for harm, where a ramp follows. In the shadow nobody is hurt by a test that
takes a little longer; afterwards somebody is."""

MOST_DROPPED = 0.2
"""Of the requests that are to be repeated. What is said of pairs is said of those that were
compared. If more than this are missing, they may well differ from the rest: the large, the slow."""


@dataclass(frozen=True, slots=True)
class ShadowTests:
    """Log e-values of one challenger, before any adjustment for the others.

    Args:
        watched: What harm is looked for in: metrics that pairs tell of, then the agreement.
        harm: That it is there, in the order of `watched`.
        agreement: That answers agree as often as declared; None if that is not asked.
        not_inferior: By guardrail's key, that it is kept.
    """

    watched: tuple[str, ...]
    harm: tuple[float, ...]
    agreement: float | None
    not_inferior: tuple[tuple[str, float], ...]

    @property
    def weakest(self) -> float:
        """What speaks for the challenger is as strong as the weakest part of it."""
        agreement = inf if self.agreement is None else self.agreement
        return min((agreement, *(log_e for _, log_e in self.not_inferior)))


def shadow_tests(declaration: Declaration, paired: Paired) -> ShadowTests:
    """Make every test that pairs of answers allow.

    Metrics that clients report, and quantiles, are not among them: there is no outcome of an answer
    that nobody got, and no arm to have a quantile.
    """
    asked = compared_in_pairs(declaration)
    watched = [each.metric.key for each in asked]
    harm = [harm_log_e(each, pair_comparison(each, paired)) for each in asked]
    agreement = None
    if (least := _least_agreement(declaration)) is not None:
        seen = paired.agreed
        agreement = below_rate_log_e(seen.no, seen.n, rate=1.0 - least)
        watched.append(AGREEMENT)
        harm.append(below_rate_log_e(seen.yes, seen.n, rate=least))
    return ShadowTests(
        watched=tuple(watched),
        harm=tuple(harm),
        agreement=agreement,
        not_inferior=tuple(
            (each.key, not_inferior_log_e(each, pair_comparison(each, paired)))
            for each in asked
            if isinstance(each, Guardrail)
        ),
    )


def pair_comparison(asked: Goal | Guardrail, paired: Paired) -> PairComparison:
    """Return what pairs tell of a goal or guardrail."""
    negligible = asked.negligible if isinstance(asked, Guardrail) else None
    return PairComparison(paired.bad_of(asked.metric), negligible)


def harm_weights(live: Sequence[float], shadow: int) -> list[float]:
    """Share the error rate for harm out between tests with users and tests without.

    Args:
        live: Weights of the tests with users among themselves; none if there are no users.
        shadow: Number of tests in the shadow.
    """
    if not shadow:
        return list(live)
    part = SHADOW_PART if live else 1.0
    return [(1.0 - part) * weight for weight in live] + [part / shadow] * shadow


def _least_agreement(declaration: Declaration) -> float | None:
    return declaration.shadow.agreement if declaration.shadow is not None else None
