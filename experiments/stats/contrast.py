"""Two estimates, one per arm, and what they say about a linear contrast between them.

Means, ratios and adjusted means all end here: a value per arm with its variance. Every null is
linear, treatment = ratio * control + difference, so that a relative effect is tested without ever
dividing by an estimate.
"""

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt

from experiments.stats.intervals import (
    Insufficient,
    Interval,
    IntervalOrNot,
    first_crossing,
    require_alpha,
)
from experiments.stats.mixture import (
    normal_mixture_log_e,
    normal_mixture_radius,
    t_mixture_log_e,
    t_mixture_one_sided_log_e,
    t_mixture_radius,
)
from experiments.stats.stages import Side
from experiments.stats.tuning import require_scale

_ROUNDING = 4.5e-16
_MOST_W, _LEAST_W = 1e200, 1e-12
"""Beyond these nothing changes any more, but that 1 + w is no longer told from 1 or w."""
NO_SPREAD = Insufficient("the values do not differ, or by no more than rounding")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error, with degrees of freedom if that is from few groups."""

    value: float
    error: float
    degrees: float | None = None
    weight: float | None = None
    """What makes the value a sum over units, if it is one: times this."""

    @property
    def clock(self) -> float:
        """How far a test that is looked at again and again has got.

        Of a sum it is its variance: only that makes what comes between two looks independent of
        what came before, however unequal the variances of units are. Of other estimates it is one
        over the squared error, which is the same where they make the best of their units.
        """
        root = self.error * self.weight if self.weight is not None else 1.0 / self.error
        return root * root


@dataclass(frozen=True, slots=True)
class Contrast:
    """An estimate per arm, independent of each other but for what was added to both."""

    treatment: float
    control: float
    treatment_variance: float
    """Squared standard error of `treatment`."""
    control_variance: float
    treatment_floor: float = 0.0
    """The same, had both arms the spread that they have together."""
    control_floor: float = 0.0
    degrees: float | None = None
    shared_variance: float = 0.0
    """Squared standard error of what was added to both alike; it cancels at a ratio of 1."""
    weight: float | None = None
    """As that of an `Estimate`."""

    def against(self, *, ratio: float = 1.0, difference: float = 0.0) -> Estimate | Insufficient:
        """Treatment - ratio * control - difference, with the larger of the two errors.

        An arm in which all values happen to be equal does not count as known exactly: its spread
        is then taken from the other arm.
        """
        square = ratio * ratio
        variance = max(
            self.treatment_variance + square * self.control_variance,
            self.treatment_floor + square * self.control_floor,
        )
        variance += (1.0 - ratio) * (1.0 - ratio) * self.shared_variance
        value = self.treatment - ratio * self.control - difference
        error = sqrt(variance)
        size = max(abs(self.treatment), abs(ratio * self.control), abs(difference))
        if not error > _ROUNDING * size or not isfinite(error) or not isfinite(value):
            return NO_SPREAD
        return Estimate(value, error, self.degrees, self.weight)


def mixture_information(estimate: Estimate, *, tau: float, ratio: float = 1.0) -> float:
    """The mixture's w: squared tau in standard errors, tau growing with a ratio over 1."""
    root = tau * max(1.0, abs(ratio)) / estimate.error
    return min(max(root * root, _LEAST_W), _MOST_W)


def estimate_log_e(estimate: Estimate, w: float, side: Side) -> float:
    """Evidence that what was estimated is not 0.

    *Estimand*, *Assumes*, *Valid*: as `normal_mixture_log_e`, or `t_mixture_log_e` if the estimate
    has degrees of freedom.

    Examples:
        >>> round(estimate_log_e(Estimate(10.0, 1.0), 8.0, Side.TWO_SIDED), 6)
        43.345832
    """
    t = estimate.value / estimate.error
    if estimate.degrees is None:
        return normal_mixture_log_e(t, w, side)
    shrinkage = 1.0 / (1.0 + w)
    if side is Side.TWO_SIDED:
        return t_mixture_log_e(t * t, degrees=estimate.degrees, shrinkage=shrinkage)
    t = t if side is Side.GREATER else -t
    return t_mixture_one_sided_log_e(t, degrees=estimate.degrees, shrinkage=shrinkage)


def estimate_interval(
    estimate: Estimate, w: float, *, alpha: float, side: Side = Side.TWO_SIDED
) -> Interval:
    """Where what was estimated lies, at all times at once.

    *Estimand*, *Assumes*, *Valid*: as `estimate_log_e`, inverted. GREATER bounds it from below
    only, LESS from above.

    Examples:
        >>> found = estimate_interval(Estimate(1.0, 0.5), 8.0, alpha=0.05)
        >>> round(found.low, 4), round(found.high, 4)
        (-0.5176, 2.5176)
    """
    if estimate.degrees is None:
        radius = normal_mixture_radius(w, alpha=alpha, side=side)
    else:
        radius = t_mixture_radius(
            degrees=estimate.degrees, shrinkage=1.0 / (1.0 + w), alpha=alpha, side=side
        )
    reach = radius * estimate.error
    return Interval(
        -inf if side is Side.LESS else estimate.value - reach,
        inf if side is Side.GREATER else estimate.value + reach,
        estimate.value if isfinite(reach) else None,
    )


def contrast_log_e(
    contrast: Contrast, *, side: Side, tau: float, ratio: float, difference: float
) -> float:
    """Evidence against treatment = ratio * control + difference; 0 if nothing can be said."""
    found = contrast.against(ratio=ratio, difference=difference)
    if isinstance(found, Insufficient):
        return 0.0
    return estimate_log_e(found, mixture_information(found, tau=tau, ratio=ratio), side)


def contrast_difference_interval(
    contrast: Contrast, *, alpha: float, tau: float, side: Side
) -> IntervalOrNot:
    """All differences that `contrast_log_e` at a ratio of 1 does not refute."""
    require_alpha(alpha)
    require_scale(tau)
    found = contrast.against()
    if isinstance(found, Insufficient):
        return found
    return estimate_interval(found, mixture_information(found, tau=tau), alpha=alpha, side=side)


def contrast_ratio_interval(contrast: Contrast, *, alpha: float, tau: float) -> IntervalOrNot:
    """All ratios that the two-sided `contrast_log_e` does not refute, by search.

    They lie between two bounds if the control itself is away from 0 beyond doubt; if it is not,
    ratios of any size would be among them.
    """
    require_alpha(alpha)
    require_scale(tau)
    away = Estimate(
        contrast.control,
        sqrt(max(contrast.control_variance, contrast.control_floor) + contrast.shared_variance),
        contrast.degrees,
    )
    if not away.error > 0.0:
        return NO_SPREAD
    information = mixture_information(away, tau=tau)
    if estimate_log_e(away, information, Side.TWO_SIDED) <= -log(alpha):
        return Insufficient("the control is not away from 0, so no ratio to it can be told")
    centre = contrast.treatment / contrast.control
    at_centre = contrast.against(ratio=centre)
    if isinstance(at_centre, Insufficient):
        return at_centre
    unit = at_centre.error / abs(contrast.control)

    def surplus(steps: float) -> float:
        ratio = centre + steps * unit
        log_e = contrast_log_e(contrast, side=Side.TWO_SIDED, tau=tau, ratio=ratio, difference=0.0)
        return log_e + log(alpha)

    return Interval(
        centre + unit * first_crossing(surplus, start=0.0, step=-1.0),
        centre + unit * first_crossing(surplus, start=0.0, step=1.0),
        centre,
    )
