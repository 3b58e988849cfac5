"""Does the mean differ between the arms? Asymptotic, for values without known bounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.stats.contrast import Contrast as Contrast
from experiments.stats.contrast import Estimate as Estimate
from experiments.stats.contrast import (
    contrast_difference_interval,
    contrast_log_e,
    contrast_ratio_interval,
)
from experiments.stats.intervals import Insufficient, IntervalOrNot
from experiments.stats.moments import Moments
from experiments.stats.stages import Side
from experiments.stats.tuning import require_scale

BURN_IN = 25
"""Units per arm before anything is said: below, a mean is not yet nearly normal."""


@dataclass(frozen=True, slots=True)
class StageMoments:
    """Values of the units of one stage, each unit counted once."""

    treatment: Moments
    control: Moments
    shared_variance: float = 0.0
    """Of what was added to both means alike."""


def mean_log_e(
    stages: Sequence[StageMoments],
    *,
    side: Side,
    tau: float,
    ratio: float = 1.0,
    difference: float = 0.0,
) -> float:
    """Evidence that the treatment's mean is not ratio * control's mean + difference.

    *Estimand*: log e-value. TWO_SIDED: the null is equality. GREATER: the null is "at most", so
    evidence is for a larger mean of the treatment (with a ratio below 1 or a negative difference:
    non-inferiority). LESS: the null is "at least".

    *Assumes*: independent units with finite variance, each counted once; means and variances may
    differ between stages, and within a stage only as they do in both arms. Heavy tails need a cap
    fixed beforehand.

    *Valid*: at any time, asymptotically, from `BURN_IN` units in each arm; 0 before.

    Args:
        stages: Per stretch of constant share; never pooled. Those with fewer than two units in an
            arm are left out.
        side: See above.
        tau: Standard deviation of the normal mixture over the contrast, in the metric's unit;
            fixed beforehand. For ratios over 1 it is taken times the ratio.
        ratio: See above; it is tested without dividing.
        difference: See above.

    Returns:
        Finite; 0 if nothing can be said, also where the values do not differ at all.

    *Source*: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52,
    arXiv 2103.06476, with information as the clock; Fieller (1954), J. R. Stat. Soc. B 16, for the
    linear null. The squared error is the larger of Welch's and that with pooled variances, so
    that a small arm without spread does not look certain.

    Examples:
        >>> stage = StageMoments(Moments(2_000, 10.4, 8_000.0), Moments(2_000, 10.0, 8_000.0))
        >>> round(mean_log_e([stage], side=Side.GREATER, tau=0.3), 3)
        18.254
        >>> round(mean_log_e([stage], side=Side.GREATER, tau=0.3, ratio=1.04), 3)
        -1.597
    """
    require_scale(tau)
    contrast = mean_arms(stages)
    if isinstance(contrast, Insufficient):
        return 0.0
    return contrast_log_e(contrast, side=side, tau=tau, ratio=ratio, difference=difference)


def mean_contrast(
    stages: Sequence[StageMoments], *, ratio: float = 1.0, difference: float = 0.0
) -> Estimate | Insufficient:
    """The treatment's mean - ratio * control's mean - difference, and its standard error.

    *Estimand*, *Assumes*, *Source*: as `mean_log_e`; means over stages, weighted by
    n1 n0 / (n1 + n0).

    *Valid*: value and error at a fixed n.

    Examples:
        >>> mean_contrast([StageMoments(Moments(50, 2.0, 49.0), Moments(50, 1.0, 49.0))])
        Estimate(value=1.0, error=0.2, degrees=None, weight=25.0)
    """
    contrast = mean_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast.against(ratio=ratio, difference=difference)


def mean_difference_interval(
    stages: Sequence[StageMoments], *, alpha: float, tau: float, side: Side = Side.TWO_SIDED
) -> IntervalOrNot:
    """Where the difference of means, treatment minus control, lies.

    *Estimand*, *Assumes*, *Valid*, *Source*: as `mean_log_e`, inverted; at all times at once.

    Args:
        stages: As `mean_log_e`.
        alpha: Probability of ever missing the difference.
        tau: As `mean_log_e`.
        side: GREATER bounds it from below only, LESS from above.

    Returns:
        `Insufficient` as long as nothing can be said.

    Examples:
        >>> stage = StageMoments(Moments(2_000, 10.4, 8_000.0), Moments(2_000, 10.0, 8_000.0))
        >>> found = mean_difference_interval([stage], alpha=0.05, tau=0.3)
        >>> round(found.low, 3), round(found.high, 3)
        (0.204, 0.596)
    """
    contrast = mean_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast_difference_interval(contrast, alpha=alpha, tau=tau, side=side)


def mean_ratio_interval(
    stages: Sequence[StageMoments], *, alpha: float, tau: float
) -> IntervalOrNot:
    """Where the ratio of means, treatment over control, lies.

    *Estimand*, *Assumes*, *Valid*: as `mean_log_e`, inverted: it leaves out just the ratios that
    the two-sided test with the same tau refutes.

    Args:
        stages: As `mean_log_e`.
        alpha: Probability of ever missing the ratio.
        tau: As `mean_log_e`: in the metric's unit, not relative.

    Returns:
        `Insufficient` as long as the control's mean is not away from 0 beyond doubt.

    *Source*: Fieller (1954), J. R. Stat. Soc. B 16, with the confidence sequence's radius.

    Examples:
        >>> stage = StageMoments(Moments(2_000, 10.4, 8_000.0), Moments(2_000, 10.0, 8_000.0))
        >>> found = mean_ratio_interval([stage], alpha=0.05, tau=0.3)
        >>> round(found.low, 3), round(found.high, 3)
        (1.02, 1.06)
    """
    contrast = mean_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast_ratio_interval(contrast, alpha=alpha, tau=tau)


def mean_arms(stages: Sequence[StageMoments]) -> Contrast | Insufficient:
    """Each arm's mean over the stages, with its variance."""
    units1 = units0 = 0
    weights = mean1 = mean0 = own1 = own0 = floor1 = floor0 = shared = 0.0
    for stage in stages:
        one, other = stage.treatment, stage.control
        n1, n0 = one.n, other.n
        if n1 < 2 or n0 < 2:
            continue
        units1, units0 = units1 + n1, units0 + n0
        weight = n1 / (n1 + n0) * n0
        weights += weight
        mean1 += weight * one.mean
        mean0 += weight * other.mean
        square = weight * weight
        own1 += square * (one.m2 / (n1 - 1) / n1)
        own0 += square * (other.m2 / (n0 - 1) / n0)
        pooled = square * ((one.m2 + other.m2) / (n1 + n0 - 2))
        floor1 += pooled / n1
        floor0 += pooled / n0
        shared += square * stage.shared_variance
    if units1 < BURN_IN or units0 < BURN_IN:
        return Insufficient(f"fewer than {BURN_IN} units in an arm")
    square = weights * weights
    return Contrast(
        mean1 / weights,
        mean0 / weights,
        own1 / square,
        own0 / square,
        floor1 / square,
        floor0 / square,
        shared_variance=shared / square,
        weight=weights,
    )
