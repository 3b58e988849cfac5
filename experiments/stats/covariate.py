"""Less noise: what a value from before the experiment foretells is taken out."""

from collections.abc import Sequence
from math import isfinite

from experiments.stats.means import StageMoments
from experiments.stats.moments import Moments

_ROUNDING = 1e-14


def theta(stages: Sequence[StageMoments]) -> float:
    """How much of the covariate is in the metric.

    *Estimand*: slope of the metric on the covariate, in units of one per unit of the other.

    *Assumes*: the covariate is from before the assignment.

    *Valid*: at a fixed n; converges, so what is adjusted with it stays valid at all times,
    asymptotically.

    Args:
        stages: With the covariate as x. Arms are pooled, stages are not: only deviations from each
            stage's mean count.

    Returns:
        0 where the covariate does not vary.

    *Source*: Deng, Xu, Kohavi and Walker (2013), "Improving the Sensitivity of Online Controlled
    Experiments by Utilizing Pre-Experiment Data", WSDM, section on control variates; pooled over
    arms as GrowthBook and tea-tasting do.

    Examples:
        >>> control = Moments.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        >>> theta([StageMoments(control, Moments.of([3.0, 1.0, 2.0], [3.0, 1.0, 2.0]))])
        1.0
    """
    pooled = [stage.treatment.merged(stage.control) for stage in stages]
    spread = sum(moments.m2_x for moments in pooled)
    slope = sum(moments.co for moments in pooled) / spread if spread > 0.0 else 0.0
    return slope if isfinite(slope) else 0.0


def adjusted(stages: Sequence[StageMoments]) -> tuple[StageMoments, ...]:
    """The same with Y - theta (X - mean of X) in place of Y, for the functions of `means`.

    *Estimand*: as before: the covariate's mean is equal in both arms but for chance.

    *Assumes*, *Valid*, *Source*: as `theta`.

    Args:
        stages: With the covariate as x; units without one are a stage of their own.

    Returns:
        Stages without covariate. What is left of the spread is never less than rounding.

    Examples:
        >>> control = Moments.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        >>> treatment = Moments.of([3.0, 4.0, 5.0], [2.0, 3.0, 4.0])
        >>> (stage,) = adjusted([StageMoments(treatment, control)])
        >>> round(stage.treatment.mean - stage.control.mean, 3)
        0.727
    """
    slope = theta(stages)
    return tuple(_without_covariate(stage, slope) for stage in stages)


def _without_covariate(stage: StageMoments, slope: float) -> StageMoments:
    pooled = stage.treatment.merged(stage.control)
    # The centre is an estimate as well. Differences do not depend on it, but ratios do.
    spread = (pooled.variance_x or 0.0) / max(pooled.n, 1)
    return StageMoments(
        _adjusted_arm(stage.treatment, slope, pooled.mean_x),
        _adjusted_arm(stage.control, slope, pooled.mean_x),
        shared_variance=slope * slope * spread,
    )


def _adjusted_arm(arm: Moments, slope: float, centre: float) -> Moments:
    if arm.n == 0:
        return arm
    m2 = arm.m2 - 2.0 * slope * arm.co + slope * slope * arm.m2_x
    return Moments(arm.n, arm.mean - slope * (arm.mean_x - centre), max(m2, _ROUNDING * arm.m2))
