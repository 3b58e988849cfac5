"""Is one arm's rate below a bound, and where does it lie? Exact tests of a Bernoulli rate."""

from math import log, log1p

from experiments.stats.beta import log_relative_lower_beta
from experiments.stats.intervals import Interval, beta_mixture_interval


def below_rate_log_e(
    events: int, n: int, *, rate: float, prior: tuple[float, float] = (0.5, 0.5)
) -> float:
    """Evidence that an event is rarer than `rate`.

    *Estimand*: log e-value for the null that every unit's chance of the event, given the past,
    is at least `rate`.

    *Assumes*: nothing else; the chance may change from unit to unit.

    *Valid*: at any time, exact from the first unit.

    Args:
        events: Units with the event.
        n: All units.
        rate: The bound, in (0, 1).
        prior: Beta parameters of the mixture over rates, truncated to (0, rate); fixed beforehand.

    Returns:
        Finite; 0 without units.

    *Source*: likelihood ratio mixed over the alternative: Robbins (1970), Ann. Math. Stat. 41;
    composite null by Wald's argument, as each bet only loses value when the chance rises.

    Examples:
        >>> below_rate_log_e(0, 0, rate=0.02)
        0.0
        >>> below_rate_log_e(1, 1_000, rate=0.02) > log(20)
        True
        >>> below_rate_log_e(30, 1_000, rate=0.02) < 0.0
        True
    """
    _require_counts(events, n)
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate must lie strictly between 0 and 1, got {rate}")
    if n == 0:
        return 0.0
    a, b = prior
    posterior = log_relative_lower_beta(a + events, b + n - events, rate)
    return posterior - log_relative_lower_beta(a, b, rate)


def bernoulli_interval(
    successes: int, n: int, *, alpha: float, prior: tuple[float, float] = (1.0, 1.0)
) -> Interval:
    """Where a success rate lies.

    *Estimand*: the probability of success, in [0, 1].

    *Assumes*: each unit succeeds with the same probability, given the past.

    *Valid*: at all times at once, with probability 1 - alpha, two-sided, exact from the first unit.

    Args:
        successes: Units that succeeded.
        n: All units.
        alpha: Probability of ever missing the rate.
        prior: Beta parameters of the mixture, fixed beforehand.

    Returns:
        The whole of [0, 1] without units.

    *Source*: Robbins (1970), Ann. Math. Stat. 41: all p whose mixture likelihood ratio is below
    1 / alpha.

    Examples:
        >>> found = bernoulli_interval(10, 100, alpha=0.05)
        >>> round(found.low, 6), round(found.high, 6)
        (0.028842, 0.228271)
    """
    _require_counts(successes, n)
    return beta_mixture_interval(successes, n - successes, alpha=alpha, prior=lambda _p, _q: prior)


def tuned_bernoulli_interval(
    successes: int, n: int, *, alpha: float, planned_n: float, alpha_opt: float = 0.05
) -> Interval:
    """Where a success rate lies, narrowest around a planned number of units.

    *Estimand*, *Assumes*, *Valid*: as `bernoulli_interval`, which it beats for rates near 0 or 1,
    because the mixture is centred at every rate it is tested against.

    Args:
        successes: Units that succeeded.
        n: All units.
        alpha: Probability of ever missing the rate.
        planned_n: Units at which the interval should be narrowest, fixed beforehand.
        alpha_opt: Level for which it should be narrowest.

    Returns:
        The whole of [0, 1] without units.

    *Source*: Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of Statistics 49
    (two-sided beta-binomial mixture, a conjugate one), as in confseq 0.0.11.

    Examples:
        >>> found = tuned_bernoulli_interval(0, 10, alpha=0.05, planned_n=10)
        >>> found.low, round(found.high, 6)
        (0.0, 0.298657)
    """
    _require_counts(successes, n)
    level = 2.0 * log(1.0 / alpha_opt)
    weight = max(planned_n / (level + log1p(level)) - 1.0, 1e-3)
    return beta_mixture_interval(
        successes, n - successes, alpha=alpha, prior=lambda p, q: (weight * p, weight * q)
    )


def _require_counts(events: int, n: int) -> None:
    if not 0 <= events <= n:
        raise ValueError(f"events must lie between 0 and n, got {events} of {n}")
