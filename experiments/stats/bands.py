"""How far counts, and whole distributions, stray from what they should be: ever, not once."""

from math import exp, inf, log, sqrt

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from experiments.stats.intervals import require_alpha
from experiments.stats.quantile_bets import quantile_bets


def count_radius(
    n: float,
    *,
    p: float,
    alpha: float,
    tuned_n: float,
    tuned_alpha: float = 0.05,
    one_sided: bool = False,
) -> float:
    """How far above n p a count of events of probability p ever gets.

    *Estimand*: the excess at which the beta-mixture e-value of `quantile_log_e` reaches
    1 / alpha.

    *Assumes*: independent events given the past.

    *Valid*: at all times at once with probability 1 - alpha, above n p alone if `one_sided`,
    else together with the radius of the complement below n p.

    Args:
        n: Observations, positive.
        p: Probability of each event, in (0, 1).
        alpha: Probability of ever straying farther.
        tuned_n: Observations at which the radius is to be smallest.
        tuned_alpha: Level at which it is to be smallest.
        one_sided: See above.

    Returns:
        At most n (1 - p), which no count exceeds.

    *Source*: Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of Statistics 49: the
    beta-binomial mixture boundary.

    Examples:
        >>> round(count_radius(400, p=0.5, alpha=0.05, tuned_n=400), 4)
        30.2879
    """
    require_alpha(alpha)
    bets = quantile_bets(p, float(tuned_n), tuned_alpha, one_sided=one_sided)
    evidence = bets.too_many if one_sided else bets.two_sided

    def surplus(radius: float) -> float:
        count = np.array([n * p + radius])
        return float(evidence(count, n)[0]) - log(1.0 / alpha)

    farthest = n * (1.0 - p)
    if surplus(farthest) < 0.0:
        return farthest
    return float(brentq(surplus, 0.0, farthest, xtol=1e-12 * farthest))


def distribution_radius(n: int, *, alpha: float, first_n: int, factor: float = 0.85) -> float:
    """How far the share of observations at or below x strays from its probability, for any x.

    *Estimand*: the largest distance between empirical and true distribution function.

    *Assumes*: independent observations of one distribution.

    *Valid*: for all x and all n from `first_n` on at once, with probability 1 - alpha.

    Args:
        n: Observations.
        alpha: Probability of ever straying farther.
        first_n: From which on it is to hold.
        factor: Above 1 / sqrt(2); smaller is narrower for large n and wider for small.

    Returns:
        Infinite before `first_n`.

    *Source*: Howard and Ramdas (2022), Bernoulli 28, arXiv 1906.09712: the bound on the empirical
    process that holds at all times, with its constant solved for numerically.

    Examples:
        >>> round(distribution_radius(1_000, alpha=0.05, first_n=100), 6)
        0.082048
    """
    require_alpha(alpha)
    if factor <= sqrt(0.5):
        raise ValueError(f"the factor must be above 1 / sqrt(2), got {factor}")
    if n < first_n:
        return inf
    high = 8.0
    while _chance(high, factor) > alpha:
        high *= 2.0
    low = high
    while _chance(low, factor) < alpha:
        low /= 2.0
    constant = float(brentq(lambda c: _chance(c, factor) - alpha, low, high, xtol=1e-13))
    return factor * sqrt((log(1.0 + log(n / first_n)) + constant) / n)


def _chance(constant: float, factor: float) -> float:
    """The bound on the chance to stray, at the best ratio of successive epochs."""

    def slack(ratio: float) -> float:
        return factor - sqrt(2.0 * (ratio - 1.0) / constant)

    def log_chance(ratio: float) -> float:
        square = 2.0 / ratio * slack(ratio) ** 2
        if square <= 1.0 or slack(ratio) <= 0.0:
            return 700.0
        return log(4.0) - square * constant + log(1.0 + 1.0 / ((square - 1.0) * log(ratio)))

    widest = float(brentq(lambda ratio: slack(ratio) - sqrt(ratio / 2.0), 1.0, 2.0 * factor**2))
    best = minimize_scalar(
        log_chance, bounds=(1.0 + 1e-9, widest), method="bounded", options={"xatol": 1e-10}
    )
    return exp(float(best.fun))
