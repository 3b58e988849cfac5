"""How far apart two quantiles are, with a standard error: for z-scores, not for every look.

Quantiles are interpolated inside their bucket, in the logarithm, so that they do not jump from edge
to edge.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from experiments.stats.contrast import Estimate
from experiments.stats.histogram import Counts, require_part
from experiments.stats.intervals import Insufficient
from experiments.stats.latency_grid import EDGES, OVERFLOW
from experiments.stats.quantile_bets import QuantileStage

BEYOND = 10
"""Observations that there must be on either side of a quantile, or its error means little."""

_LOGS = np.log(np.array((EDGES[0] / 2.0, *EDGES)))
"""Below the first edge anything from half of it on."""


def quantile_log_ratio(stages: Sequence[QuantileStage], *, p: float) -> Estimate | Insufficient:
    """The logarithm of the ratio of quantiles, treatment over control, and its standard error.

    *Estimand*: the mean over stages of log(Q1 / Q0), weighted by n1 n0 / (n1 + n0).

    *Assumes*: observations independent of each other; times spread smoothly over neighbouring
    buckets.

    *Valid*: at a fixed n, asymptotically; z-scores of it within a horizon. For every look there is
    `quantile_log_e`.

    Args:
        stages: Counts on the latency grid per stretch of constant share; those in which an arm is
            too small for the quantile are left out.
        p: Which quantile, in (0, 1).

    Returns:
        `Insufficient` while no stage has enough observations beyond the quantile in both arms.

    *Source*: Woodruff (1952), "Confidence intervals for medians and other position measures",
    JASA 47: half the distance of the quantiles at p plus and minus one standard error of p.

    Examples:
        >>> slow = QuantileStage.of_histograms({k: 100 for k in range(210, 250)}, {k: 100 for k in
        ...     range(200, 240)})
        >>> found = quantile_log_ratio([slow], p=0.5)
        >>> round(found.value, 3), round(found.error, 4)
        (0.198, 0.0089)
        >>> quantile_log_ratio([], p=0.99)
        Insufficient(reason='too few observations beyond the quantile')
    """
    require_part(p)
    total = weighted = spread = 0.0
    for stage in stages:
        treatment, control = _arm(stage.treatment, p), _arm(stage.control, p)
        if treatment is None or control is None:
            continue
        (q1, se1, n1), (q0, se0, n0) = treatment, control
        weight = n1 / (n1 + n0) * n0
        total += weight
        weighted += weight * (q1 - q0)
        spread += weight * weight * (se1 * se1 + se0 * se0)
    if not total:
        return Insufficient("too few observations beyond the quantile")
    if not spread > 0.0:
        return Insufficient("all observations are in one bucket")
    return Estimate(weighted / total, sqrt(spread) / total)


def _arm(counts: Counts, p: float) -> tuple[float, float, int] | None:
    """Log quantile, its standard error and the observations; nothing if these do not suffice."""
    n = int(counts.sum())
    if n * min(p, 1.0 - p) < BEYOND:
        return None
    step = sqrt(p * (1.0 - p) / n)
    below, above = p - step, p + step
    up_to = np.cumsum(counts) / n
    # What is above the last edge could be anything, so a quantile must not lie there.
    if len(up_to) > OVERFLOW and above >= up_to[OVERFLOW - 1]:
        return None
    low, middle, high = (_log_quantile(up_to, part) for part in (below, p, above))
    return middle, (high - low) / 2.0, n


def _log_quantile(up_to: np.ndarray[tuple[int, ...], np.dtype[np.float64]], part: float) -> float:
    bucket = int(np.searchsorted(up_to, part))
    before = float(up_to[bucket - 1]) if bucket else 0.0
    inside = (part - before) / (float(up_to[bucket]) - before)
    start, end = float(_LOGS[bucket]), float(_LOGS[bucket + 1])
    return start + inside * (end - start)
