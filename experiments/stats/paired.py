"""Two answers to the same request: is one version bad more often than the other?

Both versions answer every request, so what the requests have in common falls out of the comparison,
and only pairs in which the two differ say which of them is worse. Whether one answer was bad may
depend on the other in any way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log, sqrt

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq

from experiments.stats.events import conditional_log_e
from experiments.stats.intervals import (
    Insufficient,
    Interval,
    IntervalOrNot,
    require_alpha,
)
from experiments.stats.mixture import normal_mixture_radius
from experiments.stats.moments import Moments
from experiments.stats.quadrature import Array, log_sum_exp
from experiments.stats.stages import Side
from experiments.stats.tuning import information_by_units, omega_star

JEFFREYS = (0.5, 0.5)

LEAST_PAIRS = 25
"""Differences below which no mean is shown: a normal approximation of fewer is none."""

_NODES = 256
_NEVER_DIFFERENT = 1.0 - 1e-12
_FARTHEST = 30.0
"""Of log ratios."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of answers, by which of the two was bad.

    Args:
        treatment, control: In which this one alone was bad.
    """

    neither: int
    treatment: int
    control: int
    both: int

    def __post_init__(self) -> None:
        if min(self.counts) < 0:
            raise ValueError(f"counts must not be negative, got {self.counts}")

    @property
    def mirrored(self) -> "Pairs":
        """The same with both answers exchanged."""
        return Pairs(self.neither, self.control, self.treatment, self.both)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.neither, self.treatment, self.control, self.both

    @property
    def n(self) -> int:
        return sum(self.counts)

    @property
    def treatment_bad(self) -> int:
        return self.treatment + self.both

    @property
    def control_bad(self) -> int:
        return self.control + self.both


def mcnemar_log_e(
    pairs: Pairs, *, side: Side = Side.TWO_SIDED, prior: tuple[float, float] = JEFFREYS
) -> float:
    """Evidence that one version is bad more often: McNemar's test, valid at every look.

    *Estimand*: log e-value. TWO_SIDED: the null is that a pair in which just one answer is bad has
    the treatment's with probability 1/2. GREATER: at most 1/2; LESS: at least. That is to say: the
    two rates are equal, the treatment's is at most, or at least, the control's.

    *Assumes*: of each pair that, given the pairs before; nothing of how often both are bad.

    *Valid*: at any time, exact from the first pair.

    Args:
        pairs: Only those in which just one answer was bad count.
        side: GREATER if only a worse treatment counts, LESS if only a better one.
        prior: Beta parameters of the mixture over that probability, fixed beforehand; on one side
            it is truncated at 1/2.

    Returns:
        Finite; 0 without such pairs.

    *Source*: McNemar (1947), Psychometrika 12, for the conditional test; the mixture over its
    binomial as in `conditional_log_e`.

    Examples:
        >>> round(mcnemar_log_e(Pairs(900, 12, 1, 30), side=Side.GREATER), 6)
        4.620213
        >>> mcnemar_log_e(Pairs(900, 0, 0, 30))
        0.0
    """
    return conditional_log_e(pairs.treatment, pairs.control, share=0.5, prior=prior, side=side)


def paired_log_e(pairs: Pairs, *, side: Side, ratio: float = 1.0, difference: float = 0.0) -> float:
    """Evidence that one version's rate of bad answers lies beyond a margin from the other's.

    With p1 the treatment's rate, p0 the control's, and a margin m p0 + d: a pair is worth
    x = (treatment bad) - m (control bad) - d, whose mean is p1 - m p0 - d, and bets of every size
    that can be paid are placed on that mean being positive. Without a margin this is McNemar's
    test. A ratio of the *rates* is tested, not of the pairs in which just one answer is bad: if
    both are mostly bad together, these differ, and the latter would find harm where there is none.

    *Estimand*: log e-value. GREATER: the null is p1 <= m p0 + d, so evidence is for "worse than the
    margin". LESS: the null is p1 >= m p0 + d, so evidence is for "within the margin".

    *Assumes*: the null's inequality of every pair, given the pairs before; nothing else. Both
    answers of a pair may depend on each other, and rates may drift.

    *Valid*: at any time, exact from the first pair.

    Args:
        pairs: See above.
        side: GREATER or LESS.
        ratio: m, positive.
        difference: d; m + d is positive, d below 1.

    Returns:
        Finite; 0 without pairs.

    *Source*: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by
    betting", JRSS B 86, for capital as evidence about a mean; the bets, a fixed mixture whose
    sizes have the density of sin(U) for U uniform, are those of `mcnemar_log_e` with Jeffreys'
    prior.

    Examples:
        >>> pairs = Pairs(900, 12, 1, 30)
        >>> worse = paired_log_e(pairs, side=Side.GREATER)
        >>> round(worse - mcnemar_log_e(pairs, side=Side.GREATER), 9)
        0.0
        >>> round(paired_log_e(pairs, side=Side.LESS, ratio=2.0), 6)
        3.183585
    """
    if side is Side.TWO_SIDED:
        raise ValueError("a margin lies on one side: GREATER or LESS")
    if not (ratio > 0.0 and ratio + difference > 0.0 and difference < 1.0):
        raise ValueError(f"no rate can be {ratio} times another and {difference} more")
    if pairs.n == 0:
        return 0.0
    worth = np.array([-difference, 1.0 - difference, -ratio - difference, 1.0 - ratio - difference])
    most = ratio + difference if side is Side.GREATER else 1.0 - difference
    worth = worth if side is Side.GREATER else -worth
    sizes, log_weights = _bets()
    counted = np.array(pairs.counts, dtype=np.float64)
    # Pairs that never happened must not make 0 x infinity of a bet that would have lost all.
    there = counted > 0.0
    gains = np.log1p(np.outer(sizes / most, worth[there])) @ counted[there]
    return log_sum_exp(gains + log_weights)


@lru_cache(maxsize=1)
def _bets() -> tuple[Array, Array]:
    """Sizes of bets, in parts of the largest that can always be paid, and their log weights."""
    x, weights = leggauss(_NODES)
    sizes = np.sin((x + 1.0) * np.pi / 4.0)
    log_weights = np.log(weights / weights.sum())
    sizes.setflags(write=False)
    log_weights.setflags(write=False)
    return sizes, log_weights


def paired_difference_interval(pairs: Pairs, *, alpha: float) -> Interval:
    """Where the difference of the rates of bad answers lies.

    *Estimand*: p1 - p0, treatment minus control, in [-1, 1].

    *Assumes*: the same difference for every pair, given the pairs before.

    *Valid*: at all times at once, with probability 1 - alpha, two-sided, exact from the first pair.

    Args:
        pairs: See above.
        alpha: Probability of ever missing the difference.

    Returns:
        The whole of [-1, 1] without pairs.

    *Source*: `paired_log_e`, inverted: every difference that neither side has refuted.

    Examples:
        >>> found = paired_difference_interval(Pairs(900, 12, 1, 30), alpha=0.05)
        >>> round(found.low, 5), round(found.high, 5), round(found.estimate, 5)
        (0.00128, 0.02722, 0.01166)
    """
    require_alpha(alpha)
    if pairs.n == 0:
        return Interval(-1.0, 1.0)
    low = _lowest_difference(pairs, alpha)
    high = -_lowest_difference(pairs.mirrored, alpha)
    return Interval(low, high, (pairs.treatment - pairs.control) / pairs.n)


def _lowest_difference(pairs: Pairs, alpha: float) -> float:
    def surplus(difference: float) -> float:
        found = paired_log_e(pairs, side=Side.GREATER, difference=difference)
        return found - log(2.0 / alpha)

    found = _crossing(surplus, -_NEVER_DIFFERENT, _NEVER_DIFFERENT)
    return -1.0 if found is None else found


def paired_ratio_interval(pairs: Pairs, *, alpha: float) -> Interval | Insufficient:
    """Where the ratio of the rates of bad answers lies.

    *Estimand*: p1 / p0, treatment over control.

    *Assumes*: the same ratio for every pair, given the pairs before.

    *Valid*: at all times at once, with probability 1 - alpha, two-sided, exact from the first pair.

    Args:
        pairs: See above.
        alpha: Probability of ever missing the ratio.

    Returns:
        From 0 to infinity where nothing is refuted; no estimate where the control was never bad.
        `Insufficient` where no answer was bad.

    *Source*: `paired_log_e`, inverted: every ratio that neither side has refuted.

    Examples:
        >>> found = paired_ratio_interval(Pairs(900, 12, 1, 30), alpha=0.05)
        >>> round(found.low, 4), round(found.high, 4), round(found.estimate, 4)
        (1.0336, 2.0547, 1.3548)
    """
    require_alpha(alpha)
    if not pairs.treatment_bad + pairs.control_bad:
        return Insufficient("no answer of either was bad")
    estimate = pairs.treatment_bad / pairs.control_bad if pairs.control_bad else None
    return Interval(
        _lowest_ratio(pairs, alpha),
        _inverse(_lowest_ratio(pairs.mirrored, alpha)),
        estimate,
    )


def _lowest_ratio(pairs: Pairs, alpha: float) -> float:
    def surplus(log_ratio: float) -> float:
        return paired_log_e(pairs, side=Side.GREATER, ratio=exp(log_ratio)) - log(2.0 / alpha)

    found = _crossing(surplus, -_FARTHEST, _FARTHEST)
    return 0.0 if found is None else exp(found)


def _crossing(surplus: Callable[[float], float], low: float, high: float) -> float | None:
    """Return where a falling function crosses 0; None if it is positive nowhere."""
    if surplus(low) <= 0.0:
        return None
    return float(brentq(surplus, low, high, xtol=1e-12)) if surplus(high) < 0.0 else high


def _inverse(ratio: float) -> float:
    return 1.0 / ratio if ratio > 0.0 else inf


def paired_mean_interval(differences: Moments, *, alpha: float, planned: float) -> IntervalOrNot:
    """Where the mean of differences within pairs lies.

    *Estimand*: the mean of treatment minus control, in the unit of what is compared.

    *Assumes*: the differences have a variance; independent of each other, or martingale
    differences.

    *Valid*: at all times at once, with probability about 1 - alpha, two-sided; asymptotic, the
    sooner the lighter the tails. A few very long times can carry a mean anywhere: ask then whether
    one is longer more often (`mcnemar_log_e` of who was longer), which holds for any tails.

    Args:
        differences: Their count, mean and squared deviations.
        alpha: Probability of ever missing the mean.
        planned: Pairs at which the interval should be narrowest, fixed beforehand.

    Returns:
        `Insufficient` below 25 pairs, and where all differences are the same.

    *Source*: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52, arXiv
    2103.06476, asymptotic confidence sequences, one sample.

    Examples:
        >>> found = paired_mean_interval(Moments(400, 2.0, 399 * 16.0), alpha=0.05, planned=500)
        >>> round(found.low, 4), found.estimate, round(found.high, 4)
        (1.3922, 2.0, 2.6078)
        >>> paired_mean_interval(Moments(3, 1.0, 2.0), alpha=0.05, planned=500).reason
        'only 3 of at least 25 pairs'
    """
    require_alpha(alpha)
    if differences.n < LEAST_PAIRS:
        return Insufficient(f"only {differences.n} of at least {LEAST_PAIRS} pairs")
    variance = differences.variance
    if not variance:
        return Insufficient(f"all {differences.n:,} pairs differ by the same {differences.mean:g}")
    w = information_by_units(omega_star(alpha), units=differences.n, planned=planned)
    radius = sqrt(variance / differences.n) * normal_mixture_radius(w, alpha=alpha)
    return Interval(differences.mean - radius, differences.mean + radius, differences.mean)
