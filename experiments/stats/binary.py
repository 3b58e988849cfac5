"""Does success depend on the arm? An exact test that needs no model of the outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import log

import numpy as np

from experiments.stats.quadrature import Array, effect_nodes, log_sum_exp
from experiments.stats.stages import Side, StageCounts

UNKNOWN_RATE = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Planning rates for when none is known. With ODDS_RATIO and tau 1.5, small and gross harm alike
take about 1.5 times the units that knowing rate and effect would take, twice at 99.9 %."""


class Scale(StrEnum):
    """In which unit effects are bet on."""

    RATE_RATIO = "rate_ratio"
    """Log ratio of success rates; the planning rate is that of both arms together."""

    ODDS_RATIO = "odds_ratio"
    """Log ratio of the odds of success; the planning rate is the control's. One tau suits rates
    near 0 and near 1 alike, so it is the better choice when the rate is not known beforehand."""


def randomisation_log_e(
    stages: Sequence[StageCounts],
    *,
    tau: float | Sequence[float],
    planning_rate: float | Sequence[float],
    side: Side = Side.TWO_SIDED,
    scale: Scale = Scale.RATE_RATIO,
    nodes: int = 24,
) -> float:
    """Evidence that a binary outcome depends on the arm.

    If it does not, the outcome says nothing about the arm a unit is in. The test bets on the
    arm once the outcome is known: at effect d, a success is in the treatment with probability
    q1(d), a failure with q0(d). It uses failures as well as successes, and an arm without a
    single success is evidence like any other.

    *Estimand*: log e-value, natural logarithm, for the null of no effect on any unit.

    *Assumes*: every unit is assigned independently with its stage's known share, and its
    outcome is counted once. Nothing about the outcomes: they may drift and depend on each other.

    *Valid*: at any time, exact from the first unit, for every planning rate, tau and number of
    nodes. With GREATER or LESS also if the effect runs against the side, as long as
    success is no likelier (less likely) in the treatment given the past.

    Args:
        stages: Counts per stretch of constant share; never pooled.
        tau: Standard deviation of the effect on `scale`, fixed beforehand; for rate ratios near
            log(1 + relative effect to find). Several are mixed with equal weights.
        planning_rate: Success rate to expect, in (0, 1), fixed beforehand. Tunes power only.
            Several are mixed with equal weights.
        side: GREATER if only a higher success rate in the treatment counts, LESS if only a lower.
        scale: Unit of the effect. Tunes power only.
        nodes: Nodes of the mixture over effects.

    Returns:
        Finite; 0 when there is no data.

    *Source*: the likelihood ratio of the assignments given the outcomes, a test martingale in
    the sense of Ramdas, Gruenwald, Vovk and Shafer (2023), Statistical Science 38;
    mixed over effects as in Robbins (1970), Ann. Math. Stat. 41.

    Examples:
        >>> canary = StageCounts(60, 940, 950, 18050, share=0.05)
        >>> round(randomisation_log_e([canary], tau=0.2, planning_rate=0.05), 6)
        0.055385
        >>> drop = StageCounts(30, 15, 770, 85, share=0.05)
        >>> found = randomisation_log_e(
        ...     [drop], tau=1.5, planning_rate=UNKNOWN_RATE, side=Side.LESS, scale=Scale.ODDS_RATIO
        ... )
        >>> found > log(20)
        True
        >>> randomisation_log_e([], tau=0.2, planning_rate=0.05)
        0.0
    """
    taus = (tau,) if isinstance(tau, int | float) else tuple(tau)
    rates = (planning_rate,) if isinstance(planning_rate, int | float) else tuple(planning_rate)
    if not any(map(_total, stages)):
        return 0.0
    mixture = _Mixture(taus, rates, side, scale, nodes)
    log_likelihood = _log_weights(mixture)
    for stage in stages:
        counts = np.array(
            [
                stage.treatment_successes,
                stage.control_successes,
                stage.treatment_failures,
                stage.control_failures,
            ],
            dtype=np.float64,
        )
        log_likelihood = log_likelihood + counts @ _log_bets(stage.share, mixture)
    return log_sum_exp(log_likelihood)


def share_surplus(stages: Sequence[StageCounts]) -> float:
    """How much the best constant share of reported outcomes explains beyond the promised one.

    Subtracted from a log e-value of assignments, it leaves one for the null that success does not
    depend on the arm, whatever part of its outcomes each arm reports: dividing by the likelihood
    of the best share is dividing by no less than that of the true one. It costs about half a unit
    of log evidence a share.

    *Estimand*: the sum over shares of n KL(n1 / n, share), in nats; not negative.

    *Assumes*: at each share, outcomes are reported at constant rates, which may differ by arm.

    *Valid*: at any time, exact.

    Args:
        stages: Counts per stretch of constant share; never pooled.

    *Source*: Wasserman, Ramdas and Balakrishnan (2020), "Universal inference", PNAS 117: the
    running maximum likelihood in the denominator.

    Examples:
        >>> share_surplus([StageCounts(5, 5, 5, 5, share=0.5)])
        0.0
        >>> round(share_surplus([StageCounts(10, 0, 0, 0, share=0.5)]), 6) == round(10 * log(2), 6)
        True
    """
    reported: dict[float, tuple[int, int]] = {}
    for stage in stages:
        treated, control = reported.get(stage.share, (0, 0))
        reported[stage.share] = (
            treated + stage.treatment_successes + stage.treatment_failures,
            control + stage.control_successes + stage.control_failures,
        )
    total = 0.0
    for promised, arms in reported.items():
        for arm, share in zip(arms, (promised, 1.0 - promised), strict=True):
            if arm:
                total += arm * log(arm / sum(arms) / share)
    return max(total, 0.0)


def _total(stage: StageCounts) -> int:
    return (
        stage.treatment_successes
        + stage.treatment_failures
        + stage.control_successes
        + stage.control_failures
    )


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Which bets are placed, all with equal weights but for those of the effect nodes."""

    taus: tuple[float, ...]
    rates: tuple[float, ...]
    side: Side
    scale: Scale
    nodes: int

    def __post_init__(self) -> None:
        if not self.taus or not self.rates:
            raise ValueError("a mixture needs at least one tau and one planning rate")
        if not all(0.0 < rate < 1.0 for rate in self.rates):
            raise ValueError(f"planning rates must lie strictly in (0, 1), got {self.rates}")


@lru_cache(maxsize=128)
def _log_weights(mixture: _Mixture) -> Array:
    """Weight of every (rate, tau, effect), in the order of `_log_bets`."""
    taus, rates = mixture.taus, mixture.rates
    per_tau = np.concatenate([effect_nodes(t, mixture.side, mixture.nodes)[1] for t in taus])
    weights: Array = np.tile(per_tau, len(rates)) - log(len(taus) * len(rates))
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=1024)
def _log_bets(share: float, mixture: _Mixture) -> Array:
    """Log odds of each bet against the coin, for the four kinds of unit (rows).

    They are log(q / share) for the treatment and log((1 - q) / (1 - share)) for the control,
    with q = q1 for successes, then q = q0 for failures.
    """
    effects = np.concatenate(
        [effect_nodes(tau, mixture.side, mixture.nodes)[0] for tau in mixture.taus]
    )
    place = _on_rate_ratio if mixture.scale is Scale.RATE_RATIO else _on_odds_ratio
    bets = np.concatenate([place(effects, share, rate) for rate in mixture.rates], axis=1)
    bets.setflags(write=False)
    return bets


def _on_rate_ratio(effects: Array, share: float, rate: float) -> Array:
    """With r = q1 / share, q0 / share = 1 - pi / (1 - pi) (r - 1): the arms' mean rate is pi.

    Where an effect would push the better arm's rate near or over 1, pi is lowered so that this
    rate stops halfway between the planning rate and 1: no bet must hang on a single unit.
    """
    growth = np.log1p(share * np.expm1(effects))
    highest = (1.0 + rate) / 2.0 * np.exp(growth - np.maximum(effects, 0.0))
    overall = np.minimum(rate, highest)
    odds = overall / (1.0 - overall)
    return np.array(
        [
            effects - growth,
            -growth,
            np.log1p(-odds * np.expm1(effects - growth)),
            np.log1p(-odds * np.expm1(-growth)),
        ]
    )


def _on_odds_ratio(effects: Array, share: float, rate: float) -> Array:
    """The log ratio of success rates is effect - growth, that of failure rates is - growth."""
    growth = np.log1p(rate * np.expm1(effects))
    successes, failures = effects - growth, -growth
    of_successes = np.log1p(share * np.expm1(successes))
    of_failures = np.log1p(share * np.expm1(failures))
    return np.array([successes - of_successes, -of_successes, failures - of_failures, -of_failures])
