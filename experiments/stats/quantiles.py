"""Is a latency quantile the same in both arms, and how far apart are they? On histograms.

Each test takes, of all values that the quantile could have, the one that fits the counts best.
Within a bucket the counts are taken as they fit best, so nothing is claimed that the bucket hides.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, exp, floor, fsum, inf, log

import numpy as np

from experiments.stats.histogram import dense, histogram_quantile
from experiments.stats.intervals import Insufficient, Interval, IntervalOrNot, require_alpha
from experiments.stats.latency_grid import GROWTH, lower_edge, upper_edge
from experiments.stats.least_evidence import greater_and_less_log_e, greater_log_e
from experiments.stats.quantile_bets import QuantileBets, QuantileStage, quantile_bets
from experiments.stats.stages import Side


def quantile_log_e(
    stages: Sequence[QuantileStage],
    *,
    p: float,
    tuned_n: float,
    side: Side = Side.TWO_SIDED,
    ratio: float = 1.0,
    alpha: float = 0.05,
) -> float:
    """Evidence that a quantile in the treatment is not `ratio` times that in the control.

    If x were the control's quantile and ratio x the treatment's, each arm's observations would
    fall at or below theirs with probability p. Every x is tested so in both arms, and the
    x with the least evidence speaks for the null.

    *Estimand*: log e-value. TWO_SIDED: the null is Q1 = ratio Q0. GREATER: the null is
    Q1 <= ratio Q0, so evidence is for a slower treatment. LESS: the null is Q1 >= ratio Q0 (with
    a ratio over 1: non-inferiority). Stages are nulls together; x may differ between them.

    *Assumes*: within a stage, observations are independent of each other given the past, and
    the arms' quantiles stay where they are. Between stages everything may drift: each stage has
    its own x, and the evidence against the true ones, multiplied, is an e-value that the sum of
    the minima cannot exceed. Pooled counts would have no common x at all.

    *Valid*: at any time, exact from the first observation, at the grid's edges; inside a bucket,
    and for ratios between two buckets, on the safe side. A stage in which an arm is empty counts
    as no evidence. That never rejects; only the expectation of 1 is not claimed for the e-value
    of an experiment that is stopped because an arm of its newest stage is still empty.

    Args:
        stages: Counts per stretch of constant share; never pooled.
        p: Which quantile, in (0, 1).
        tuned_n: Observations per arm at which the test is to be most sensitive, fixed beforehand.
        side: See above.
        ratio: The null's ratio; on one side it is rounded to whole buckets away from rejection.
        alpha: Level at which it is to be most sensitive. Tunes power only.

    Returns:
        Finite; 0 without observations.

    *Source*: Howard and Ramdas (2022), "Sequential estimation of quantiles with applications to
    A/B-testing and best-arm identification", Bernoulli 28, arXiv 1906.09712: the two-sample
    test with beta-binomial mixtures; sides and ratios added here, by truncating each arm's mixture.

    Examples:
        >>> slow, fast = {240: 40, 250: 160, 270: 100}, {230: 100, 240: 150, 250: 50}
        >>> stage = QuantileStage.of_histograms(slow, fast)
        >>> found = quantile_log_e([stage], p=0.5, tuned_n=300, side=Side.GREATER)
        >>> found > log(20)
        True
        >>> quantile_log_e([], p=0.5, tuned_n=300)
        0.0
    """
    bets = quantile_bets(p, float(tuned_n), alpha, one_sided=side is not Side.TWO_SIDED)
    up, down = _shifts(stages, ratio)
    if side is Side.TWO_SIDED:
        return fsum(bets.unequal(stage, down, up) for stage in stages if stage.comparable)
    if side is Side.GREATER:
        return greater_log_e(bets, stages, up)
    return greater_log_e(bets, [stage.swapped() for stage in stages], -down)


def quantile_log_es(
    stages: Sequence[QuantileStage],
    *,
    p: float,
    tuned_n: float,
    ratio: float = 1.0,
    alpha: float = 0.05,
) -> dict[Side, float]:
    """Both one-sided `quantile_log_e` in one go, for little more than one of them costs.

    *Estimand*, *Assumes*, *Valid*, *Args*, *Source*: as there.

    Examples:
        >>> slow, fast = {240: 40, 250: 160, 270: 100}, {230: 100, 240: 150, 250: 50}
        >>> stage = QuantileStage.of_histograms(slow, fast)
        >>> found = quantile_log_es([stage], p=0.5, tuned_n=300)
        >>> found[Side.GREATER] > log(20), found[Side.LESS] < 0.0
        (True, True)
    """
    bets = quantile_bets(p, float(tuned_n), alpha, one_sided=True)
    greater, less = greater_and_less_log_e(bets, stages, *_shifts(stages, ratio))
    return {Side.GREATER: greater, Side.LESS: less}


def _shifts(stages: Sequence[QuantileStage], ratio: float) -> tuple[int, int]:
    """The ratio in whole buckets, rounded up and down."""
    shifts = {stage.shift(ratio) for stage in stages}
    if len(shifts) > 1:
        raise ValueError("the histograms of all stages need the same grid")
    buckets = max(shifts, default=0.0)
    return ceil(buckets - _ROUNDING), floor(buckets + _ROUNDING)


def quantile_interval(
    counts: Mapping[int, int], *, p: float, alpha: float, tuned_n: float
) -> IntervalOrNot:
    """Where a quantile of one arm lies, from edge to edge.

    *Estimand*: the quantile, in milliseconds.

    *Assumes*: observations independent of each other given the past, with a common quantile.

    *Valid*: at all times at once, two-sided, exact from the first observation.

    Args:
        counts: Observations per bucket of `histogram`.
        p: Which quantile, in (0, 1).
        alpha: Probability of ever missing it.
        tuned_n: Observations at which the interval is to be narrowest, fixed beforehand.

    Returns:
        Down to 0 and up to infinity as long as nothing bounds it; `Insufficient` without
        observations.

    *Source*: Howard and Ramdas (2022), Bernoulli 28, confidence sequences for one quantile.

    Examples:
        >>> counts = {240: 300, 250: 400, 260: 300}
        >>> found = quantile_interval(counts, p=0.5, alpha=0.05, tuned_n=1_000)
        >>> round(found.low, 1), round(found.estimate, 1), round(found.high, 1)
        (138.5, 139.9, 141.3)
    """
    require_alpha(alpha)
    filled = dense(counts)
    n = int(filled.sum())
    if not n:
        return Insufficient("no observations")
    bets = quantile_bets(p, float(tuned_n), alpha, one_sided=False)
    up_to = np.concatenate([[0], np.cumsum(filled)]).astype(np.float64)
    evidence = bets.two_sided(np.clip(bets.likeliest(n), up_to[:-1], up_to[1:]), n)
    possible = np.flatnonzero(evidence < log(1.0 / alpha))
    empirical = histogram_quantile(counts, p=p)
    estimate = empirical.estimate if isinstance(empirical, Interval) else None
    return Interval(lower_edge(int(possible[0])), upper_edge(int(possible[-1])), estimate)


def quantile_ratio_interval(
    stages: Sequence[QuantileStage], *, p: float, alpha: float, tuned_n: float
) -> IntervalOrNot:
    """Where the ratio of quantiles, treatment over control, lies, in whole buckets.

    *Estimand*: the ratio of the arms' quantiles, common to all stages.

    *Assumes*: as `quantile_log_e`; the quantiles may differ between stages, their ratio may not.

    *Valid*: at all times at once, two-sided, exact from the first observation. It leaves out a
    ratio of whole buckets exactly when a one-sided `quantile_log_e` tuned to alpha / 2 reaches
    log(2 / alpha).

    Args:
        stages: Counts on the grid of `histogram`, per stretch of constant share.
        p: Which quantile, in (0, 1).
        alpha: Probability of ever missing the ratio.
        tuned_n: Observations per arm at which it is to be narrowest, fixed beforehand.

    Returns:
        From 0 to infinity as long as nothing bounds it; `Insufficient` while no stage has
        observations in both arms. The estimate is the geometric mean of the stages' ratios,
        weighted by n1 n0 / (n1 + n0); absent if a quantile is in the overflow bucket.

    *Source*: the one-sided tests of `quantile_log_e`, inverted.

    Examples:
        >>> base = {200 + k: 100 for k in range(40)}
        >>> slower = {210 + k: 100 for k in range(40)}
        >>> stage = QuantileStage.of_histograms(slower, base)
        >>> found = quantile_ratio_interval([stage], p=0.5, alpha=0.05, tuned_n=4_000)
        >>> round(found.low, 3), round(found.estimate, 3), round(found.high, 3)
        (1.149, 1.219, 1.294)
    """
    require_alpha(alpha)
    compared = [stage for stage in stages if stage.comparable]
    if not compared:
        return Insufficient("no stage has observations in both arms")
    if any(stage.growth != GROWTH for stage in compared):
        raise ValueError("a ratio needs histograms")
    bets = quantile_bets(p, float(tuned_n), alpha / 2.0, one_sided=True)
    low = _largest_refuted(compared, bets, log(2.0 / alpha))
    # Where Q0 <= r Q1 is refuted, Q1 / Q0 is below 1 / r.
    high = _largest_refuted([s.swapped() for s in compared], bets, log(2.0 / alpha))
    if low is not None and high is not None and low > -high:
        return Insufficient("the stages contradict each other: no common ratio fits them all")
    return Interval(
        0.0 if low is None else GROWTH**low,
        inf if high is None else GROWTH**-high,
        _ratio_estimate(compared, p),
    )


_ROUNDING = 1e-9
"""Buckets. Edges are products of factors 1.02; a ratio of two of them is one to 1e-13."""


def _largest_refuted(
    stages: Sequence[QuantileStage], bets: QuantileBets, threshold: float
) -> int | None:
    """The largest whole-bucket ratio for which "Q1 <= ratio Q0" is refuted."""

    def refuted(shift: int) -> bool:
        return greater_log_e(bets, stages, shift) >= threshold

    farthest = max(len(stage.treatment) for stage in stages)
    return _last_true(refuted, -farthest, farthest)


def _last_true(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Bisect between a `low` that may hold and a `high` that does not."""
    if not holds(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _ratio_estimate(stages: Sequence[QuantileStage], p: float) -> float | None:
    logs, weights = [], []
    for stage in stages:
        arms = [
            histogram_quantile(dict(enumerate(c.tolist())), p=p)
            for c in (stage.treatment, stage.control)
        ]
        match arms:
            case [Interval(estimate=float() as q1), Interval(estimate=float() as q0)]:
                n1, n0 = int(stage.treatment.sum()), int(stage.control.sum())
                logs.append(log(q1 / q0))
                weights.append(n1 * n0 / (n1 + n0))
            case _:
                return None
    return exp(float(np.average(logs, weights=weights)))
