"""Is the mean of values in [0, 1] what it should be? Bets sized by what was seen before.

For one arm. Comparisons of two arms are in `bounded`.
"""

from collections.abc import Callable, Sequence
from math import log, log1p

import numpy as np
from scipy.optimize import brentq

from experiments.stats.intervals import Insufficient, Interval, IntervalOrNot, require_alpha
from experiments.stats.quadrature import Array


def hedged_capital_log_e(
    values: Sequence[float],
    *,
    mean: float,
    alpha: float,
    truncation: float = 0.5,
    upward: float = 0.5,
) -> list[float]:
    """Evidence, after every value, that the mean is not the one given.

    Part of the capital is bet on larger values, the rest on smaller ones; the larger one counts.

    *Estimand*: log e-values for the null that each value has conditional mean `mean`.

    *Assumes*: values in [0, 1], in the order in which they came. They may depend on each other.

    *Valid*: at any time, exact from the first value.

    Args:
        values: In [0, 1].
        mean: The null's, in [0, 1].
        alpha: Level at which the bets are sized to be most useful. Tunes power only.
        truncation: Part of the capital that one bet may risk, in (0, 1].
        upward: Part of the capital that is bet on larger values, in (0, 1).

    Returns:
        As many log e-values as values; minus infinity once a bet of everything was lost.

    *Source*: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by
    betting", JRSS B 86: the hedged capital process with predictable plug-in bets.

    Examples:
        >>> round(hedged_capital_log_e([1.0] * 20, mean=0.5, alpha=0.05)[-1], 6)
        7.416155
        >>> hedged_capital_log_e([], mean=0.5, alpha=0.05)
        []
    """
    if not 0.0 <= mean <= 1.0 or not 0.0 < truncation <= 1.0 or not 0.0 < upward < 1.0:
        raise ValueError(f"out of range: mean {mean}, truncation {truncation} or upward {upward}")
    x = _checked(values)
    bets = _bets(x, alpha=alpha / 2.0)
    up = _log_capital(x, bets, mean=mean, truncation=truncation)
    down = _log_capital(1.0 - x, bets, mean=1.0 - mean, truncation=truncation)
    larger: list[float] = np.maximum(up + log(upward), down + log1p(-upward)).tolist()
    return larger


def hedged_capital_interval(
    values: Sequence[float], *, alpha: float, truncation: float = 0.5
) -> IntervalOrNot:
    """Where the mean of values in [0, 1] lies, by `hedged_capital_log_e`.

    *Estimand*: the conditional mean that all values share.

    *Assumes*, *Args*, *Source*: as `hedged_capital_log_e`.

    *Valid*: at all times at once, exact from the first value; it is within the intervals of all
    earlier times.

    Returns:
        `Insufficient` without values, and if no mean fits them all (then the mean has moved).

    Examples:
        >>> found = hedged_capital_interval([0.0, 0.25, 0.5, 0.25] * 50, alpha=0.05)
        >>> round(found.low, 3), found.estimate, round(found.high, 3)
        (0.209, 0.25, 0.288)
    """
    x = _checked(values)
    if not x.size:
        return Insufficient("no values")
    bets = _bets(x, alpha=alpha / 2.0)
    low = _lowest_mean(x, bets, alpha=alpha, truncation=truncation)
    high = 1.0 - _lowest_mean(1.0 - x, bets, alpha=alpha, truncation=truncation)
    if low > high:
        return Insufficient("no mean fits all values: it has moved")
    return Interval(low, high, float(x.mean()))


def empirical_bernstein_interval(
    values: Sequence[float], *, alpha: float, truncation: float = 0.5
) -> IntervalOrNot:
    """Where the mean of values in [0, 1] lies, in closed form and somewhat wider.

    *Estimand*, *Assumes*: as `hedged_capital_interval`.

    *Valid*: at all times at once, exact from the first value.

    Args:
        values: In [0, 1].
        alpha: Probability of ever missing the mean.
        truncation: Largest bet, in (0, 1).

    Returns:
        `Insufficient` without values.

    *Source*: Waudby-Smith and Ramdas (2024), JRSS B 86: the predictable plug-in empirical
    Bernstein confidence sequence.

    Examples:
        >>> found = empirical_bernstein_interval([0.5] * 50, alpha=0.05)
        >>> round(found.low, 6), round(found.high, 6)
        (0.350513, 0.649487)
    """
    x = _checked(values)
    if not x.size:
        return Insufficient("no values")
    bets = np.minimum(_bets(x, alpha=alpha / 2.0), truncation)
    low = _bernstein_low(x, bets, alpha=alpha / 2.0)
    high = 1.0 - _bernstein_low(1.0 - x, bets, alpha=alpha / 2.0)
    return Interval(max(low, 0.0), min(high, 1.0), float(x.mean()))


def _checked(values: Sequence[float]) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if not np.all((x >= 0.0) & (x <= 1.0)):
        raise ValueError("values must lie in [0, 1]")
    return x


def _bets(x: Array, *, alpha: float) -> Array:
    """One bet per value, from the values before it; the same for x and 1 - x."""
    require_alpha(alpha)
    t = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variances])[: x.size]
    bets: Array = np.sqrt(2.0 * log(1.0 / alpha) / (t * np.log1p(t) * before))
    return bets


def _log_capital(x: Array, bets: Array, *, mean: float, truncation: float) -> Array:
    """What bets on values above the mean have made of 1, after every value."""
    allowed = np.minimum(bets, truncation / mean) if mean > 0.0 else bets
    gains = 1.0 + allowed * (x - mean)
    kept = np.full_like(gains, -np.inf)
    logs: Array = np.cumsum(np.log(gains, out=kept, where=gains > 0.0))
    return logs


def _lowest_mean(x: Array, bets: Array, *, alpha: float, truncation: float) -> float:
    """The capital falls with the mean it bets against, and so does its running maximum."""

    def surplus(mean: float) -> float:
        capital = _log_capital(x, bets, mean=mean, truncation=truncation)
        return float(capital.max()) - log(2.0 / alpha)

    return _crossing(surplus)


def _crossing(surplus: Callable[[float], float]) -> float:
    if surplus(0.0) <= 0.0:
        return 0.0
    return 1.0 if surplus(1.0) >= 0.0 else float(brentq(surplus, 0.0, 1.0, xtol=1e-12))


def _bernstein_low(x: Array, bets: Array, *, alpha: float) -> float:
    running = np.cumsum(x) / np.arange(1, x.size + 1)
    before = np.concatenate([[0.0], running])[: x.size]
    penalty = float(((x - before) ** 2) @ (-np.log1p(-bets) - bets))
    return (float(bets @ x) - log(1.0 / alpha) - penalty) / float(bets.sum())
