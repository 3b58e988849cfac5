"""Ratios of sums, where users are randomised and something smaller is observed.

A request is not independent of the same user's other requests. Users fall into groups by a hash,
and only the spread between groups counts, so constant memory holds what any clustering does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from operator import add
from typing import Self

import numpy as np

from experiments.stats.contrast import (
    Contrast,
    Estimate,
    contrast_difference_interval,
    contrast_log_e,
    contrast_ratio_interval,
)
from experiments.stats.intervals import Insufficient, IntervalOrNot
from experiments.stats.moments import Moments
from experiments.stats.stages import Side
from experiments.stats.tuning import require_scale

MOST_GROUPS_FOR_T = 100
"""Groups per arm up to which the variance counts as estimated rather than known."""

LEAST_GROUPS = 25
"""Groups per arm in which something was observed, unless there are fewer in all."""


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums of numerators y and denominators x by hash group: all that a ratio needs of an arm."""

    y: tuple[float, ...]
    x: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.y) != len(self.x) or len(self.y) < 2:
            raise ValueError(f"two groups or more, each with both sums, got {self}")
        if not isfinite(sum(self.y) + sum(self.x)):
            raise ValueError(f"sums must be finite, got {self}")

    @classmethod
    def of(cls, groups: Sequence[Moments]) -> Self:
        """From the moments of each group, empty ones included."""
        return cls(
            tuple([group.n * group.mean for group in groups]),
            tuple([group.n * group.mean_x for group in groups]),
        )

    def merged(self, other: Self) -> Self:
        """Both together, group by group.

        Examples:
            >>> GroupSums((1.0, 2.0), (3.0, 3.0)).merged(GroupSums((1.0, 1.0), (2.0, 0.0)))
            GroupSums(y=(2.0, 3.0), x=(5.0, 3.0))
        """
        if len(self.x) != len(other.x):
            raise ValueError(f"{len(self.x)} groups cannot be merged with {len(other.x)}")
        return type(self)(tuple(map(add, self.y, other.y)), tuple(map(add, self.x, other.x)))


@dataclass(frozen=True, slots=True)
class GroupedStage:
    """Numerators y and denominators x of one stage, by hash group of the user.

    The same group of every stage must hold the same users. Sums are quicker to weigh than moments.
    """

    treatment: tuple[Moments, ...] | GroupSums
    control: tuple[Moments, ...] | GroupSums


def ratio_log_e(
    stages: Sequence[GroupedStage],
    *,
    side: Side,
    tau: float,
    ratio: float = 1.0,
    difference: float = 0.0,
) -> float:
    """Evidence that the treatment's ratio of sums is not ratio * control's + difference.

    *Estimand*: log e-value about R = sum of y / sum of x per arm (errors per request, revenue per
    order). TWO_SIDED: the null is equality. GREATER: the null is "at most". LESS: "at least".

    *Assumes*: independent users, each in one group; any dependence within a user, also over
    stages. What counts is complete for each user, or increments do not depend on those before.

    *Valid*: at any time, asymptotically, from `LEAST_GROUPS` groups per arm with something in
    them; 0 before.

    Args:
        stages: Per stretch of constant share; never pooled. Those without denominators in an arm
            are left out. All with equally many groups.
        side: See above.
        tau: Standard deviation of the normal mixture over the contrast, in the ratio's unit;
            fixed beforehand. For a `ratio` over 1 it is taken times that.
        ratio: See above; it is tested without dividing.
        difference: See above.

    Returns:
        Finite; 0 if nothing can be said.

    *Source*: Deng, Knoblich and Lu (2018), "Applying the Delta Method in Metric Analytics", KDD,
    arXiv 1803.06336, section on ratio metrics, with groups in place of users; evidence as
    `t_mixture_log_e` with 2 (groups - 1) degrees of freedom, above `MOST_GROUPS_FOR_T` groups as
    `normal_mixture_log_e`.

    Examples:
        >>> def groups(mean):
        ...     return tuple(Moments(50, mean + 0.02 * (k % 5), 0.0, 1.0) for k in range(64))
        >>> stage = GroupedStage(groups(0.53), groups(0.50))
        >>> round(ratio_log_e([stage], side=Side.GREATER, tau=0.02), 3)
        14.183
    """
    require_scale(tau)
    contrast = ratio_arms(stages)
    if isinstance(contrast, Insufficient):
        return 0.0
    return contrast_log_e(contrast, side=side, tau=tau, ratio=ratio, difference=difference)


def ratio_contrast(
    stages: Sequence[GroupedStage], *, ratio: float = 1.0, difference: float = 0.0
) -> Estimate | Insufficient:
    """The treatment's ratio of sums - ratio * control's - difference, and its standard error.

    *Estimand*, *Assumes*, *Source*: as `ratio_log_e`; means over stages, weighted by
    x1 x0 / (x1 + x0) with the sums of denominators.

    *Valid*: value and error at a fixed n.
    """
    contrast = ratio_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast.against(ratio=ratio, difference=difference)


def ratio_difference_interval(
    stages: Sequence[GroupedStage], *, alpha: float, tau: float, side: Side = Side.TWO_SIDED
) -> IntervalOrNot:
    """Where the difference of the ratios of sums, treatment minus control, lies.

    *Estimand*, *Assumes*, *Valid*, *Args*, *Source*: as `ratio_log_e`, inverted; at all times at
    once. GREATER bounds it from below only, LESS from above.

    Returns:
        `Insufficient` as long as nothing can be said.
    """
    contrast = ratio_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast_difference_interval(contrast, alpha=alpha, tau=tau, side=side)


def ratio_relative_interval(
    stages: Sequence[GroupedStage], *, alpha: float, tau: float
) -> IntervalOrNot:
    """Where the treatment's ratio of sums lies, as a multiple of the control's.

    *Estimand*, *Assumes*, *Valid*, *Source*: as `ratio_log_e`, inverted; as
    `mean_ratio_interval`.

    Returns:
        `Insufficient` as long as the control's is not away from 0 beyond doubt.
    """
    contrast = ratio_arms(stages)
    if isinstance(contrast, Insufficient):
        return contrast
    return contrast_ratio_interval(contrast, alpha=alpha, tau=tau)


def ratio_arms(stages: Sequence[GroupedStage]) -> Contrast | Insufficient:
    """Each arm's ratio of sums over the stages, with its variance between groups."""
    pairs = [(_sums(stage.treatment), _sums(stage.control)) for stage in stages]
    sized = [(one, other, sum(one.x), sum(other.x)) for one, other in pairs]
    sized = [stage for stage in sized if stage[2] > 0.0 and stage[3] > 0.0]
    if not sized:
        return Insufficient("no stage with something observed in each arm")
    weights = [x1 / (x1 + x0) * x0 for _, _, x1, x0 in sized]
    total = fsum(weights)
    parts = [weight / total for weight in weights]
    treatment = _Arm.over([(one, x1) for one, _, x1, _ in sized], parts)
    control = _Arm.over([(other, x0) for _, other, _, x0 in sized], parts)
    if not (treatment.reached and control.reached):
        return Insufficient(f"fewer than {LEAST_GROUPS} groups with something observed in an arm")
    pooled = (treatment.scatter + control.scatter) / (treatment.size + control.size)
    few = min(treatment.groups, control.groups) <= MOST_GROUPS_FOR_T
    return Contrast(
        treatment.ratio,
        control.ratio,
        treatment.variance,
        control.variance,
        pooled * treatment.inverse_size,
        pooled * control.inverse_size,
        treatment.groups + control.groups - 2.0 if few else None,
        weight=total,
    )


@dataclass(frozen=True, slots=True)
class _Arm:
    """One arm over all stages."""

    ratio: float
    variance: float
    scatter: float
    """Sum of squared residuals of the groups; their variance is in proportion to their size."""
    size: float
    inverse_size: float
    """What the scatter per unit of size is multiplied with to be the ratio's variance."""
    groups: int
    reached: bool

    @classmethod
    def over(cls, stages: list[tuple[GroupSums, float]], parts: list[float]) -> Self:
        """A group's residuals are added over stages first: they are the same users'."""
        groups = len(stages[0][0].x)
        if any(len(sums.x) != groups for sums, _ in stages):
            raise ValueError("all stages need equally many groups in an arm")
        y = np.array([sums.y for sums, _ in stages])
        x = np.array([sums.x for sums, _ in stages])
        whole, weights = np.array([size for _, size in stages]), np.array(parts)
        levels, scales = y.sum(axis=1) / whole, weights / whole
        residuals = y - levels[:, None] * x
        together = scales @ residuals
        correction = groups / (groups - 1.0)
        return cls(
            float(weights @ levels),
            correction * float(together @ together),
            correction * float((residuals * residuals).sum()),
            float(whole.sum()),
            float(weights @ scales),
            groups,
            int(np.count_nonzero(x.sum(axis=0))) >= min(LEAST_GROUPS, groups),
        )


def _sums(arm: tuple[Moments, ...] | GroupSums) -> GroupSums:
    return arm if isinstance(arm, GroupSums) else GroupSums.of(arm)
