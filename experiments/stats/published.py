"""What other engines publish, where it is not just our own formula: to be compared with."""

from math import inf

from experiments.stats.contrast import Estimate
from experiments.stats.intervals import Interval
from experiments.stats.mixture import one_sided_radius_bound
from experiments.stats.stages import Side

_LOWEST, _HIGHEST = 1e-5, 0.4999
_CLOSE_ENOUGH = 1e-6
_MOST_STEPS = 100


def one_sided_interval(estimate: Estimate, w: float, *, alpha: float, side: Side) -> Interval:
    """GrowthBook's one-sided sequential interval, with its bound in closed form.

    *Estimand*, *Assumes*, *Valid*: as `estimate_interval`, a little wider.

    Args:
        estimate: Its degrees of freedom do not count.
        w: tau^2 over squared standard error.
        alpha: Probability of ever missing it.
        side: GREATER bounds from below, LESS from above; there is no two-sided one.

    *Source*: Waudby-Smith et al. (2024), arXiv 2103.06476, one-sided asymptotic confidence
    sequences; GrowthBook's statistics package, sequential one-sided t-tests.

    Examples:
        >>> found = one_sided_interval(Estimate(1.0, 0.5), 8.0, alpha=0.05, side=Side.GREATER)
        >>> round(found.low, 4), found.high
        (-0.3898, inf)
    """
    reach = one_sided_radius_bound(w, alpha=alpha) * estimate.error
    if side is Side.GREATER:
        return Interval(estimate.value - reach, inf)
    if side is Side.LESS:
        return Interval(-inf, estimate.value + reach)
    raise ValueError("the bound is one-sided")


def one_sided_p_value(estimate: Estimate, w: float, *, side: Side) -> float:
    """GrowthBook's one-sided sequential p-value: the interval inverted by halving.

    It stops as soon as the bound is within 1e-6 of 0, in the metric's unit, and says nothing
    outside 1e-5 to 0.4999. `one_sided_bound_p_value` has neither limit.

    *Estimand*, *Assumes*, *Valid*, *Source*: as `one_sided_interval`.

    Examples:
        >>> one_sided_p_value(Estimate(1.0, 0.1), 8.0, side=Side.GREATER)
        1e-05
        >>> round(one_sided_p_value(Estimate(1.0, 0.4), 8.0, side=Side.GREATER), 4)
        0.0994
    """

    def surplus(alpha: float) -> float:
        found = one_sided_interval(estimate, w, alpha=alpha, side=side)
        return found.low if side is Side.GREATER else -found.high

    if surplus(_LOWEST) > 0.0:
        return _LOWEST
    if surplus(_HIGHEST) < 0.0:
        return _HIGHEST
    low, high = _LOWEST, _HIGHEST
    middle = (low + high) / 2.0
    for _ in range(_MOST_STEPS):
        found = surplus(middle)
        low, high = (middle, high) if found < 0.0 else (low, middle)
        middle = (low + high) / 2.0
        if abs(found) < _CLOSE_ENOUGH:
            break
    return middle
