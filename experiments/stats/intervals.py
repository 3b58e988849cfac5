"""What an interval is, and how a test is inverted into one."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import TypeAlias

from scipy.optimize import brentq

from experiments.stats.beta import log_relative_beta

FARTHEST = 700.0
"""Logits and log ratios beyond this are no numbers any more once exponentiated."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Everything between two bounds, which may be infinite; `estimate` is absent if unbounded."""

    low: float
    high: float
    estimate: float | None = None


@dataclass(frozen=True, slots=True)
class Insufficient:
    """Nothing can be said yet, and why."""

    reason: str


IntervalOrNot: TypeAlias = Interval | Insufficient


def beta_mixture_interval(
    successes: int,
    failures: int,
    *,
    alpha: float,
    prior: Callable[[float, float], tuple[float, float]],
) -> Interval:
    """All probabilities whose beta-mixture e-value is below 1 / alpha.

    Args:
        successes: Of something with two outcomes.
        failures: The others.
        alpha: Probability of ever missing the probability.
        prior: Beta parameters of the mixture, from the probability under test and its complement.
    """
    require_alpha(alpha)
    n = successes + failures
    if n == 0:
        return Interval(0.0, 1.0)
    return Interval(
        _lowest_probability(successes, failures, alpha, prior),
        1.0 - _lowest_probability(failures, successes, alpha, lambda p, q: prior(q, p)[::-1]),
        successes / n,
    )


def _lowest_probability(
    successes: int,
    failures: int,
    alpha: float,
    prior: Callable[[float, float], tuple[float, float]],
) -> float:
    """Lower end only: small probabilities keep their digits, probabilities near 1 do not."""
    if successes == 0:
        return 0.0

    def surplus(logit: float) -> float:
        p, q = _logistic(logit), _logistic(-logit)
        a, b = prior(p, q)
        log_e = log_relative_beta(a + successes, b + failures, p) - log_relative_beta(a, b, p)
        return log_e + log(alpha)

    start = log(successes / (failures or 1e-3))
    return _logistic(first_crossing(surplus, start=start, step=-1.0 / sqrt(successes)))


def first_crossing(surplus: Callable[[float], float], *, start: float, step: float) -> float:
    """Walk from `start` in growing steps to where `surplus` turns positive.

    Returns:
        The root, or an infinity of the step's sign if there is none within reach.
    """
    inner, outer = start, start + step
    while surplus(outer) < 0.0:
        step *= 2.0
        inner, outer = outer, outer + step
        if abs(outer) > FARTHEST:
            return inf if step > 0.0 else -inf
    return float(brentq(surplus, inner, outer, xtol=1e-13, rtol=1e-14))


def require_alpha(alpha: float) -> None:
    """Refuse a level that is none.

    Raises:
        ValueError: `alpha` does not lie strictly between 0 and 1.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + exp(-x)) if x > -FARTHEST else 0.0
