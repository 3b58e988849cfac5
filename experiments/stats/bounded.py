"""Do scores on a bounded scale differ between two arms? Bets on weighted outcomes.

A unit with score Y in the treatment (share rho) counts as (Y - m) / rho, in the control as
-(Y - m) / (1 - rho). Its expectation is the difference of the arms' means, whatever m is; the
nearer m is to the mean score, the less it varies. For one arm see `betting`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, log
from typing import Self

import numpy as np
from scipy.optimize import brentq

from experiments.stats.intervals import Insufficient, Interval, IntervalOrNot, require_alpha
from experiments.stats.quadrature import Array, effect_nodes, log_sum_exp
from experiments.stats.stages import Side

_MOST_RISKED = 0.9
"""Of the capital, in one bet. All of it could be lost for good."""

_LEAST_SPREAD = 1e-9
"""Of scores from 0 to 1. Below, every bet is capped anyway."""


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """How often each value was scored, in one stage; each unit is counted once."""

    treatment: tuple[int, ...]
    control: tuple[int, ...]
    share: float
    """Probability that a unit of this stage was sent to the treatment."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share must lie strictly between 0 and 1, got {self.share}")
        if len(self.treatment) != len(self.control):
            raise ValueError("both arms need a count for every value")
        if min(self.treatment + self.control, default=0) < 0:
            raise ValueError("counts must not be negative")


def score_log_e(
    stages: Sequence[ScoreStage],
    values: Sequence[float],
    *,
    centre: float | Sequence[float],
    spread: float | Sequence[float],
    tau: float | Sequence[float],
    side: Side = Side.TWO_SIDED,
    ratio: float = 1.0,
    difference: float = 0.0,
    nodes: int = 24,
) -> float:
    """Evidence that the mean score in the treatment is not ratio * control's + difference.

    *Estimand*: log e-value. GREATER: the null is mean1 - ratio mean0 <= difference, so evidence
    is for "the treatment is better by more than that" (with a negative difference, or a ratio
    below 1: non-inferiority). LESS: the null is mean1 - ratio mean0 >= difference. TWO_SIDED: the
    null is equality.

    *Assumes*: every unit is assigned independently with its stage's known share, and its score
    is counted once. The mean difference may vary, but never leaves the null; scores may drift
    and depend on each other.

    *Valid*: at any time, exact from the first unit, for every centre, spread and tau. It depends
    on counts alone: one poll or many give the same, and stages of equal share may be merged.

    Args:
        stages: Counts per stretch of constant share; never pooled.
        values: The score that each count is of: the whole declared scale, at least two values.
        centre: Mean score to expect, within the scale, fixed beforehand. Tunes power only, like
            all that follow. Where several are given they are mixed with equal weights.
        spread: Standard deviation of a score to expect, positive.
        tau: Standard deviation of the mixture over mean differences, near the one to find.
            At a small share give a larger one as well, for gross harm.
        side: See above.
        ratio: The null's, positive.
        difference: The null's, smaller than the range of the scale.
        nodes: Nodes of the mixture over bets.

    Returns:
        Finite; 0 without units.

    *Source*: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by
    betting", JRSS B 86: the capital process; bets fixed and mixed as in Robbins (1970), Ann.
    Math. Stat. 41; outcomes weighted by inverse probability (Horvitz and Thompson 1952, JASA 47).

    Examples:
        >>> stars = (1.0, 2.0, 3.0, 4.0, 5.0)
        >>> worse = ScoreStage((40, 30, 20, 5, 5), (5, 10, 15, 30, 40), share=0.5)
        >>> known = {"centre": 3.5, "spread": 1.2, "tau": 0.5}
        >>> score_log_e([worse], stars, side=Side.LESS, **known) > log(20)
        True
        >>> score_log_e([], stars, **known)
        0.0
    """
    scale = _Scale.of(values, ratio=ratio, difference=difference)
    bets = _Bets.of(scale, centre, spread, tau, nodes)
    counted = [stage for stage in stages if any(stage.treatment) or any(stage.control)]
    if side is not Side.TWO_SIDED:
        return _one_side(counted, scale, bets, side)
    both = [_one_side(counted, scale, bets, each) for each in (Side.GREATER, Side.LESS)]
    return log_sum_exp(np.array(both)) - log(2.0)


def score_difference_interval(
    stages: Sequence[ScoreStage],
    values: Sequence[float],
    *,
    alpha: float,
    centre: float | Sequence[float],
    spread: float | Sequence[float],
    tau: float | Sequence[float],
    nodes: int = 24,
) -> IntervalOrNot:
    """Where the difference of mean scores, treatment minus control, lies.

    *Estimand*: the mean difference, common to all stages.

    *Assumes*: as `score_log_e`; scores may drift, the difference of their means may not.

    *Valid*: at all times at once, two-sided, exact from the first unit. It leaves out a
    difference exactly when the one-sided `score_log_e` there reaches log(2 / alpha).

    Args:
        stages: Counts per stretch of constant share; never pooled.
        values: The declared scale.
        alpha: Probability of ever missing the difference.
        centre: As for `score_log_e`, like all that follow.
        spread: As above.
        tau: As above.
        nodes: As above.

    Returns:
        Within the scale's range, both ways. The estimate is the mean over stages of the
        difference of means, weighted by n1 n0 / (n1 + n0); `Insufficient` while no stage has
        units in both arms, and where units in other shares than promised refute every
        difference.

    *Source*: as `score_log_e`, inverted. Capital falls as the difference that it bets against
    grows, also where the bet is capped, so each end is a single root.

    Examples:
        >>> rated = ScoreStage((100, 200, 700), (200, 200, 600), share=0.5)
        >>> known = {"centre": 0.75, "spread": 0.4, "tau": 0.1}
        >>> found = score_difference_interval([rated], (0.0, 0.5, 1.0), alpha=0.05, **known)
        >>> round(found.low, 3), round(found.estimate, 3), round(found.high, 3)
        (0.049, 0.1, 0.151)
    """
    require_alpha(alpha)
    estimate = _mean_difference(stages, _as_tuple(values))
    if estimate is None:
        return Insufficient("no stage has units in both arms")
    scale = _Scale.of(values)
    bets = _Bets.of(scale, centre, spread, tau, nodes)
    reach = 1.0 - 1e-9

    def end(side: Side, nearest: float) -> float | None:
        def surplus(difference: float) -> float:
            moved = replace(scale, difference=difference)
            return _one_side(stages, moved, bets, side, cached=False) - log(2.0 / alpha)

        if surplus(nearest) <= 0.0:
            return nearest / reach
        if surplus(-nearest) >= 0.0:
            return None
        return float(brentq(surplus, -reach, reach, xtol=1e-12))

    low, high = end(Side.GREATER, -reach), end(Side.LESS, reach)
    if low is None or high is None or low > high:
        return Insufficient("units did not arrive in the shares that were promised")
    return Interval(low * scale.extent, high * scale.extent, estimate)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values from 0 to 1, and the null in their unit."""

    values: tuple[float, ...]
    low: float
    extent: float
    ratio: float
    difference: float

    @classmethod
    def of(cls, values: Sequence[float], *, ratio: float = 1.0, difference: float = 0.0) -> Self:
        low = min(values, default=0.0)
        extent = max(values, default=0.0) - low
        if not 0.0 < extent < inf:
            raise ValueError("a scale needs two different finite values")
        if not abs(difference) < extent:
            raise ValueError(f"a difference of {difference} is outside the scale")
        if not 0.0 < ratio < inf:
            raise ValueError(f"a ratio must be positive and finite, got {ratio}")
        return cls(
            values=tuple((value - low) / extent for value in values),
            low=low,
            extent=extent,
            ratio=ratio,
            difference=(difference - low * (1.0 - ratio)) / extent,
        )


@dataclass(frozen=True, slots=True)
class _Bets:
    """Which bets are placed, all with equal weights but for those of the nodes."""

    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    taus: tuple[float, ...]
    nodes: int

    @classmethod
    def of(
        cls,
        scale: _Scale,
        centre: float | Sequence[float],
        spread: float | Sequence[float],
        tau: float | Sequence[float],
        nodes: int,
    ) -> Self:
        """Bring everything to the scale from 0 to 1."""
        return cls(
            centres=tuple((each - scale.low) / scale.extent for each in _as_tuple(centre)),
            spreads=tuple(each / scale.extent for each in _as_tuple(spread)),
            taus=tuple(each / scale.extent for each in _as_tuple(tau)),
            nodes=nodes,
        )

    def __post_init__(self) -> None:
        if not self.centres or not self.spreads or not self.taus:
            raise ValueError("a mixture needs at least one centre, spread and tau")
        if not all(0.0 < scale < inf for scale in self.spreads + self.taus):
            raise ValueError(f"spreads {self.spreads} and taus {self.taus} must be positive")


def _one_side(
    stages: Sequence[ScoreStage], scale: _Scale, bets: _Bets, side: Side, *, cached: bool = True
) -> float:
    if not stages:
        return 0.0
    log_growth = _log_growth if cached else _log_growth.__wrapped__
    capital = _log_weights(bets)
    for stage in stages:
        if len(stage.treatment) != len(scale.values):
            raise ValueError(f"{len(scale.values)} values need as many counts")
        counts = np.array(stage.treatment + stage.control, dtype=np.float64)
        capital = capital + counts @ log_growth(stage.share, scale, bets, side)
    return log_sum_exp(capital)


@lru_cache(maxsize=128)
def _log_weights(bets: _Bets) -> Array:
    """Weight of every (centre, spread, tau, node), in the order of `_log_growth`."""
    copies = len(bets.centres) * len(bets.spreads) * len(bets.taus)
    weights: Array = np.tile(effect_nodes(1.0, Side.GREATER, bets.nodes)[1], copies) - log(copies)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=256)
def _log_growth(share: float, scale: _Scale, bets: _Bets, side: Side) -> Array:
    """What one unit does to the log capital of each bet (columns): treatment, then control.

    A bet on a mean difference d is most useful at about d / variance of the weighted outcome.
    The most that the worst outcome of the whole scale may cost caps it.
    """
    values = np.array(scale.values)
    sign = -1.0 if side is Side.LESS else 1.0
    effects = np.outer(bets.taus, effect_nodes(1.0, Side.GREATER, bets.nodes)[0]).ravel()
    columns = []
    for centre in bets.centres:
        if not 0.0 <= centre <= 1.0:
            raise ValueError("a centre is outside the scale")
        against = centre - scale.ratio * values
        weighted = np.concatenate([(values - centre) / share, against / (1.0 - share)])
        gains = sign * (weighted - scale.difference)
        worst = float(gains.min())
        largest = _MOST_RISKED / -worst if worst < 0.0 else inf
        for spread in bets.spreads:
            wanted = effects * share * (1.0 - share) / max(spread, _LEAST_SPREAD) ** 2
            columns.append(np.log1p(np.outer(gains, np.minimum(wanted, largest))))
    growth = np.concatenate(columns, axis=1)
    growth.setflags(write=False)
    return growth


def _mean_difference(stages: Sequence[ScoreStage], values: tuple[float, ...]) -> float | None:
    scores = np.array(values) - min(values)
    differences, weights = [], []
    for stage in stages:
        n1, n0 = sum(stage.treatment), sum(stage.control)
        if n1 and n0:
            mean1 = float(scores @ np.array(stage.treatment, dtype=np.float64)) / n1
            mean0 = float(scores @ np.array(stage.control, dtype=np.float64)) / n0
            differences.append(mean1 - mean0)
            weights.append(n1 * n0 / (n1 + n0))
    return float(np.average(differences, weights=weights)) if weights else None


def _as_tuple(x: float | Sequence[float]) -> tuple[float, ...]:
    return (x,) if isinstance(x, int | float) else tuple(x)
