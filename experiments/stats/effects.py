"""How large is the difference? Intervals that hold at all times at once, for reports."""

from collections.abc import Sequence
from math import exp, inf, log, sqrt

from experiments.stats.contrast import Estimate
from experiments.stats.intervals import (
    FARTHEST,
    Insufficient,
    Interval,
    IntervalOrNot,
    beta_mixture_interval,
    first_crossing,
    require_alpha,
)
from experiments.stats.mixture import normal_mixture_radius
from experiments.stats.quadrature import require_tau
from experiments.stats.rate_ratio import RatioLikelihood
from experiments.stats.stages import StageCounts, StageEvents


def rate_ratio_interval(stages: Sequence[StageEvents], *, alpha: float, tau: float) -> Interval:
    """Where the ratio of event rates, treatment over control, lies.

    *Estimand*: the rate ratio common to all stages.

    *Assumes*: as `event_ratio_log_e`; the rates may drift, their ratio may not.

    *Valid*: at all times at once, with probability 1 - alpha, two-sided, from the first event,
    exact but for the integration. It leaves out 1 exactly when the two-sided
    `event_ratio_log_e` with the same tau reaches log(1 / alpha).

    Args:
        stages: Events per stretch of constant share.
        alpha: Probability of ever missing the ratio.
        tau: Standard deviation of the normal mixture over the log ratio, fixed beforehand.

    Returns:
        From 0 where no treatment event bounds it, to infinity where no control event does. The
        estimate is the most likely ratio, absent if an arm has no event.

    *Source*: all ratios whose likelihood is within a factor alpha of the mixture's (Robbins 1970,
    Ann. Math. Stat. 41); the likelihood is log-concave, so they form an interval.

    Examples:
        >>> found = rate_ratio_interval([StageEvents(80, 950, 0.05)], alpha=0.05, tau=0.5)
        >>> found.low < 1.6 < found.high
        True
        >>> rate_ratio_interval([StageEvents(0, 20, 0.5)], alpha=0.05, tau=0.7).low
        0.0
    """
    require_alpha(alpha)
    likelihood = RatioLikelihood.of(stages)
    if likelihood.events == 0:
        return Interval(0.0, inf)
    floor = likelihood.log_marginal(tau=tau, one_sided=False) + log(alpha)
    mode, width = likelihood.posterior_mode(tau=tau, one_sided=False)

    def surplus(d: float) -> float:
        return floor - likelihood(d)

    treatment, control = likelihood.treatment, likelihood.events - likelihood.treatment
    low = first_crossing(surplus, start=mode, step=-width) if treatment else -inf
    high = first_crossing(surplus, start=mode, step=width) if control else inf
    estimate = exp(likelihood.most_likely()) if treatment and control else None
    return Interval(_exp(low), _exp(high), estimate)


def conditional_ratio_interval(
    treatment: int, control: int, *, share: float, prior: tuple[float, float], alpha: float
) -> Interval:
    """Where the ratio of event rates lies, for one stage, by a beta mixture.

    *Estimand*, *Assumes*, *Valid*, *Args*, *Returns*: as `conditional_log_e` and
    `rate_ratio_interval`.

    *Source*: Lindon and Malek (2022), arXiv 2011.03567, confidence sequences by inversion.

    Examples:
        >>> found = conditional_ratio_interval(20, 0, share=0.5, prior=(1.0, 1.0), alpha=0.05)
        >>> round(found.low, 6), found.high
        (2.836248, inf)
    """
    odds = (1.0 - share) / share
    part = beta_mixture_interval(treatment, control, alpha=alpha, prior=lambda _p, _q: prior)
    return Interval(
        part.low / (1.0 - part.low) * odds,
        part.high / (1.0 - part.high) * odds if part.high < 1.0 else inf,
        treatment / control * odds if treatment and control else None,
    )


def risk_difference_interval(
    stages: Sequence[StageCounts], *, alpha: float, tau: float
) -> IntervalOrNot:
    """Where the difference of success rates, treatment minus control, lies.

    *Estimand*: the mean over stages of the difference in success rate, weighted by
    n1 n0 / (n1 + n0); an absolute difference in [-1, 1].

    *Assumes*: independent units, each counted once; the rates may differ between stages.

    *Valid*: at all times at once, two-sided, asymptotically: from some dozens of successes and
    failures in each arm. For decisions use `randomisation_log_e`, which is exact.

    Args:
        stages: Counts per stretch of constant share; never pooled. Stages with fewer than two
            units in an arm are left out.
        alpha: Probability of ever missing the difference.
        tau: Standard deviation of the normal mixture over the difference, fixed beforehand.

    Returns:
        `Insufficient` until both arms have seen a success and a failure.

    *Source*: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52,
    arXiv 2103.06476, theorem 2.2 with information as the clock; per stage the variance is
    p (1 - p) / n at p = (successes + 1/2) / (n + 1), so that no stage claims to be certain.

    Examples:
        >>> counts = StageCounts(1_100, 8_900, 1_000, 9_000, share=0.5)
        >>> found = risk_difference_interval([counts], alpha=0.05, tau=0.01)
        >>> round(found.low, 4), round(found.estimate, 4), round(found.high, 4)
        (-0.0032, 0.01, 0.0232)
        >>> risk_difference_interval([StageCounts(0, 20, 3, 17, 0.5)], alpha=0.05, tau=0.01)
        Insufficient(reason='no success in the treatment')
    """
    require_alpha(alpha)
    require_tau(tau)
    found = risk_difference(stages)
    if isinstance(found, Insufficient):
        return found
    radius = found.error * normal_mixture_radius((tau / found.error) ** 2, alpha=alpha)
    return Interval(max(-1.0, found.value - radius), min(1.0, found.value + radius), found.value)


def risk_difference(stages: Sequence[StageCounts]) -> Estimate | Insufficient:
    """The difference of success rates, treatment minus control, and its standard error.

    *Estimand*, *Assumes*, *Source*: as `risk_difference_interval`.

    *Valid*: value and error at a fixed n.

    Examples:
        >>> found = risk_difference([StageCounts(1_100, 8_900, 1_000, 9_000, share=0.5)])
        >>> round(found.value, 6), round(found.error, 6)
        (0.01, 0.004335)
    """
    compared = [
        stage
        for stage in stages
        if stage.treatment_successes + stage.treatment_failures >= 2
        and stage.control_successes + stage.control_failures >= 2
    ]
    if (missing := _missing(compared)) is not None:
        return Insufficient(missing)
    total = weighted = spread = 0.0
    for stage in compared:
        n1 = stage.treatment_successes + stage.treatment_failures
        n0 = stage.control_successes + stage.control_failures
        weight = n1 / (n1 + n0) * n0
        difference = stage.treatment_successes / n1 - stage.control_successes / n0
        variance = _variance(stage.treatment_successes, n1) + _variance(stage.control_successes, n0)
        total += weight
        weighted += weight * difference
        spread += weight * weight * variance
    return Estimate(weighted / total, sqrt(spread) / total, weight=total)


def _missing(stages: Sequence[StageCounts]) -> str | None:
    if not stages:
        return "no stage with two units in each arm"
    seen = {
        "no success in the treatment": sum(s.treatment_successes for s in stages),
        "no failure in the treatment": sum(s.treatment_failures for s in stages),
        "no success in the control": sum(s.control_successes for s in stages),
        "no failure in the control": sum(s.control_failures for s in stages),
    }
    return next((reason for reason, count in seen.items() if count == 0), None)


def _variance(successes: int, n: int) -> float:
    p = (successes + 0.5) / (n + 1.0)
    return p * (1.0 - p) / n


def _exp(x: float) -> float:
    return inf if x > FARTHEST else exp(x)
