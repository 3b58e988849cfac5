"""One look at a fixed n: what is usually computed, and what our own is compared with.

Looked at more than once these are wrong far more often than they say. No decision rests on them.
"""

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Self

from scipy.special import stdtrit

from experiments.stats.contrast import NO_SPREAD, Estimate
from experiments.stats.covariate import adjusted, theta
from experiments.stats.intervals import Insufficient, Interval, require_alpha
from experiments.stats.means import StageMoments
from experiments.stats.moments import Moments
from experiments.stats.normal import normal_log_cdf, normal_quantile, student_log_cdf
from experiments.stats.stages import Side

_TOO_FEW = Insufficient("fewer than two units in an arm")
_NO_BASE = Insufficient("the control is 0, so nothing is relative to it")


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm's value, and the variance of one unit around it."""

    n: int
    value: float
    variance: float

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"an arm needs two units, got {self.n}")

    @classmethod
    def of_mean(cls, moments: Moments) -> Self:
        """The mean of y, with its unbiased variance."""
        return cls(moments.n, moments.mean, moments.m2 / (moments.n - 1) if moments.n > 1 else 0.0)

    @classmethod
    def of_proportion(cls, successes: int, n: int) -> Self:
        """A share of successes p, with variance p (1 - p)."""
        p = successes / n if n else 0.0
        return cls(n, p, p * (1.0 - p))

    @classmethod
    def of_ratio(cls, moments: Moments) -> Self | Insufficient:
        """The ratio of the sums of y and x over independent units.

        *Source*: Deng, Knoblich and Lu (2018), KDD, arXiv 1803.06336, section on ratio metrics.

        Examples:
            >>> Arm.of_ratio(Moments(3, 1.0, 2.0, 2.0, 2.0, 2.0))
            Arm(n=3, value=0.5, variance=0.0625)
        """
        if moments.n < 2:
            return _TOO_FEW
        if moments.mean_x == 0.0:
            return Insufficient("the denominators sum to 0")
        ratio, free = moments.mean / moments.mean_x, moments.n - 1
        m2 = moments.m2 - 2.0 * ratio * moments.co + ratio * ratio * moments.m2_x
        return cls(moments.n, ratio, max(m2, 0.0) / free / moments.mean_x / moments.mean_x)


@dataclass(frozen=True, slots=True)
class FixedTest:
    """A test at one look."""

    statistic: float
    p_value: float
    interval: Interval


def effect(treatment: Arm, control: Arm, *, relative: bool = False) -> Estimate | Insufficient:
    """The difference of two arms, or the relative difference by the delta method.

    *Estimand*: treatment - control, or that over the size of control, so that more is positive.

    *Assumes*: independent units; for a relative effect a control far from 0.

    *Valid*: at a fixed n, asymptotically. Tests of relative effects are better made without
    dividing, as `mean_log_e` does.

    Returns:
        With Welch's degrees of freedom, of the difference in both cases.

    *Source*: Welch (1947), Biometrika 34; Satterthwaite (1946); the delta method to first order.

    Examples:
        >>> one, other = Arm.of_proportion(1_100, 10_000), Arm.of_proportion(1_000, 10_000)
        >>> found = effect(one, other, relative=True)
        >>> round(found.value, 6), round(found.error, 6)
        (0.1, 0.045475)
    """
    variance1, variance0 = treatment.variance / treatment.n, control.variance / control.n
    if not variance1 + variance0 > 0.0:
        return NO_SPREAD
    value, variance = treatment.value - control.value, variance1 + variance0
    degrees = welch_degrees(treatment, control)
    if not relative:
        return Estimate(value, sqrt(variance), degrees)
    base = control.value
    if base == 0.0:
        return _NO_BASE
    lift = treatment.value / base
    error = sqrt(variance1 + lift * lift * variance0) / abs(base)
    if not error > 0.0:
        # A treatment that is 0 throughout: the control's spread does not count where it loses all.
        return NO_SPREAD
    return Estimate(value / abs(base), error, degrees)


def arm_estimate(arm: Arm) -> Estimate | Insufficient:
    """One arm's value and standard error.

    Examples:
        >>> arm_estimate(Arm(100, 5.0, 4.0))
        Estimate(value=5.0, error=0.2, degrees=None, weight=None)
    """
    if not arm.variance > 0.0:
        return NO_SPREAD
    return Estimate(arm.value, sqrt(arm.variance / arm.n))


def adjusted_effect(stage: StageMoments, *, relative: bool = False) -> Estimate | Insufficient:
    """The difference of covariate-adjusted means, or that over the control's unadjusted mean.

    *Estimand*, *Assumes*, *Valid*: as `effect`; the covariate is from before the assignment.

    *Source*: `adjusted`; the delta method with the covariance of the control's adjusted and
    unadjusted mean, as GrowthBook has it.
    """
    if stage.treatment.n < 2 or stage.control.n < 2:
        return _TOO_FEW
    (after,) = adjusted([stage])
    one, other = Arm.of_mean(after.treatment), Arm.of_mean(after.control)
    found = effect(one, other)
    if isinstance(found, Insufficient) or not relative:
        return found
    raw = stage.control
    if raw.mean == 0.0:
        return _NO_BASE
    lift = (stage.treatment.mean - raw.mean) / raw.mean
    shared = (raw.m2 - theta([stage]) * raw.co) / (raw.n - 1)
    unadjusted = raw.m2 / (raw.n - 1)
    spread = other.variance + 2.0 * lift * shared + lift * lift * unadjusted
    error = sqrt(one.variance / one.n + max(spread, 0.0) / raw.n) / abs(raw.mean)
    return Estimate(found.value / abs(raw.mean), error, found.degrees)


def welch_degrees(treatment: Arm, control: Arm) -> float:
    """Degrees of freedom of a difference with unequal variances.

    Examples:
        >>> round(welch_degrees(Arm(40, 0.0, 9.0), Arm(50, 0.0, 4.0)), 4)
        65.1121
    """
    variance1, variance0 = treatment.variance / treatment.n, control.variance / control.n
    part1, part0 = variance1 / (variance1 + variance0), variance0 / (variance1 + variance0)
    return 1.0 / (part1 * part1 / (treatment.n - 1) + part0 * part0 / (control.n - 1))


def student_test(estimate: Estimate, *, alpha: float, side: Side = Side.TWO_SIDED) -> FixedTest:
    """Test whether an estimate is 0, by Student's t, or the normal without degrees of freedom.

    *Estimand*: p-value, and the interval of all values that are not refuted at `alpha`.

    *Valid*: at one look, at an n fixed beforehand.

    *Source*: any textbook; tails by their logarithm.

    Examples:
        >>> found = student_test(Estimate(2.5, 1.0), alpha=0.05)
        >>> round(found.p_value, 6), round(found.interval.low, 4)
        (0.012419, 0.54)
    """
    require_alpha(alpha)
    degrees = inf if estimate.degrees is None else estimate.degrees
    t = estimate.value / estimate.error
    match side:
        case Side.TWO_SIDED:
            log_p, tail = log(2.0) + _log_cdf(-abs(t), degrees), alpha / 2.0
        case Side.GREATER:
            log_p, tail = _log_cdf(-t, degrees), alpha
        case Side.LESS:
            log_p, tail = _log_cdf(t, degrees), alpha
    reach = -_quantile(tail, degrees) * estimate.error
    interval = Interval(
        -inf if side is Side.LESS else estimate.value - reach,
        inf if side is Side.GREATER else estimate.value + reach,
        estimate.value,
    )
    return FixedTest(t, min(1.0, exp(max(log_p, -1e3))), interval)


def log_ratio_interval(treatment: Arm, control: Arm, *, alpha: float) -> Interval | Insufficient:
    """Where treatment over control lies, by the delta method on the logarithm.

    *Estimand*: ratio of two positive values.

    *Valid*: at one look, at an n fixed beforehand, asymptotically.

    *Source*: the delta method with Welch's degrees of freedom, as tea-tasting has it.

    Examples:
        >>> found = log_ratio_interval(Arm(10_000, 0.11, 0.0979098), Arm(10_000, 0.1, 0.090009),
        ...                            alpha=0.05)
        >>> round(found.low, 6), round(found.high, 6)
        (1.014376, 1.192851)
    """
    require_alpha(alpha)
    if treatment.value * control.value <= 0.0:
        return Insufficient("a ratio needs two values of one sign, none of them 0")
    one, other = (
        Arm(arm.n, arm.value, arm.variance / arm.value / arm.value) for arm in (treatment, control)
    )
    variance = one.variance / one.n + other.variance / other.n
    if not variance > 0.0:
        return NO_SPREAD
    ratio = treatment.value / control.value
    factor = exp(-_quantile(alpha / 2.0, welch_degrees(one, other)) * sqrt(variance))
    return Interval(ratio / factor, ratio * factor, ratio)


def proportion_z(treatment: Arm, control: Arm) -> float | Insufficient:
    """The z value of a difference of proportions, with the variance of both arms pooled.

    *Valid*: at one look, at an n fixed beforehand.

    Examples:
        >>> round(proportion_z(Arm.of_proportion(1_100, 10_000), Arm.of_proportion(1_000, 10_000)),
        ...       6)
        2.306635
    """
    n1, n0 = treatment.n, control.n
    p = (n1 * treatment.value + n0 * control.value) / (n1 + n0)
    variance = p * (1.0 - p) * (1.0 / n1 + 1.0 / n0)
    if not variance > 0.0:
        return NO_SPREAD
    return (treatment.value - control.value) / sqrt(variance)


def _log_cdf(x: float, degrees: float) -> float:
    return normal_log_cdf(x) if degrees == inf else student_log_cdf(x, degrees=degrees)


def _quantile(p: float, degrees: float) -> float:
    return normal_quantile(p) if degrees == inf else float(stdtrit(degrees, p))
