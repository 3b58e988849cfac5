"""Ways to be wrong that look right: each is shown to fail, and the engine not to."""

from math import exp, inf, log, sqrt

import numpy as np
import pytest
from scipy.special import betaincc, betaln

from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.combine import anytime_p_value, e_holm, weighted_mean_log_e
from experiments.stats.effects import rate_ratio_interval, risk_difference_interval
from experiments.stats.events import conditional_log_e, event_ratio_log_e
from experiments.stats.intervals import Insufficient
from experiments.stats.stages import Side, StageCounts, StageEvents

REJECT = log(20.0)


def test_an_arm_without_a_single_success_is_evidence_of_harm():
    stage = StageCounts(0, 600, 228, 11_172, share=0.05)

    def naive_log_ratio_z(s1, n1, s0, n0):
        return log(s1 / n1 / (s0 / n0)) / sqrt(1 / s1 - 1 / n1 + 1 / s0 - 1 / n0)

    with pytest.raises((ValueError, ZeroDivisionError)):
        naive_log_ratio_z(0, 600, 228, 11_400)
    assert risk_difference_interval([stage], alpha=0.05, tau=0.02) == Insufficient(
        "no success in the treatment"
    )
    log_e = randomisation_log_e(
        [stage], tau=1.5, planning_rate=UNKNOWN_RATE, side=Side.LESS, scale=Scale.ODDS_RATIO
    )
    assert log_e > REJECT
    assert rate_ratio_interval([StageEvents(0, 228, 0.05)], alpha=0.05, tau=1.5).low == 0.0


def test_errors_only_in_the_treatment_are_evidence_of_harm():
    stage = [StageEvents(8, 0, 0.05)]
    assert event_ratio_log_e(stage, tau=(0.7, 3.0), side=Side.GREATER) > REJECT
    assert rate_ratio_interval(stage, alpha=0.05, tau=3.0).high == inf


def test_a_ramp_during_a_drift_is_no_effect():
    """Both arms have equal rates throughout; only their mix over time differs."""
    runs, rng = 200, np.random.default_rng(7)
    pooled_found = stratified_found = 0
    for _ in range(runs):
        stages = [
            _same_rate(rng, units=4_000, share=0.05, rate=0.04),
            _same_rate(rng, units=4_000, share=0.5, rate=0.12),
        ]
        tuning = {"tau": 0.2, "planning_rate": 0.08}
        pooled_found += randomisation_log_e([_pool(stages)], **tuning) > REJECT
        stratified_found += randomisation_log_e(stages, **tuning) > REJECT
    assert pooled_found > 0.9 * runs
    assert stratified_found <= 0.05 * runs


def test_events_in_a_ramp_during_a_drift_are_no_effect():
    early, late = StageEvents(10, 190, 0.05), StageEvents(500, 500, 0.5)
    share = (0.05 * 4_000 + 0.5 * 4_000) / 8_000
    pooled = StageEvents(early.treatment + late.treatment, early.control + late.control, share)
    assert event_ratio_log_e([pooled], tau=0.7) > 4 * REJECT
    assert event_ratio_log_e([early, late], tau=0.7) < 0.0
    inside = rate_ratio_interval([early, late], alpha=0.05, tau=0.7)
    assert inside.low < 1.0 < inside.high


def test_benefit_beyond_doubt_is_not_harm_because_a_tail_underflowed():
    """The truncated prior's mass goes under 1e-300; a floor there leaves the wrong evidence."""
    treatment, control, share = 0, 5_000, 0.5

    def naive_harm_log_e():
        two_sided = betaln(1 + treatment, 1 + control) - (treatment + control) * log(share)
        tail = max(betaincc(1.0 + treatment, 1.0 + control, share), 1e-300)
        return two_sided + log(tail) - log(share)

    assert naive_harm_log_e() > REJECT
    found = conditional_log_e(treatment, control, share=share, prior=(1.0, 1.0), side=Side.GREATER)
    assert -10.0 < found < 0.0
    stage = [StageEvents(treatment, control, share)]
    assert event_ratio_log_e(stage, tau=0.7, side=Side.GREATER) < 0.0


def test_evidence_too_large_to_exponentiate_is_still_compared():
    gross = event_ratio_log_e([StageEvents(10**9, 10**9, 0.05)], tau=0.7, side=Side.GREATER)
    with pytest.raises(OverflowError):
        exp(gross)
    assert gross > REJECT
    assert weighted_mean_log_e([gross, -gross], [0.5, 0.5]) == gross + log(0.5)
    assert e_holm([gross, -gross])[0] == gross - log(2.0)
    assert anytime_p_value(gross) == 0.0
    assert anytime_p_value(-gross) == 1.0


def test_one_failure_does_not_end_a_bet_that_expected_near_certainty():
    """Alternatives over 100 % are capped well below it, so they survive a failure in each arm."""
    stage = StageCounts(300, 30, 240, 90, share=0.5)
    log_e = randomisation_log_e([stage], tau=0.2, planning_rate=0.95, side=Side.GREATER)
    assert log_e > REJECT


def _same_rate(rng, *, units, share, rate):
    treated = rng.binomial(units, share)
    s1, s0 = rng.binomial(treated, rate), rng.binomial(units - treated, rate)
    return StageCounts(int(s1), int(treated - s1), int(s0), int(units - treated - s0), share)


def _pool(stages):
    cells = [
        (s.treatment_successes, s.treatment_failures, s.control_successes, s.control_failures)
        for s in stages
    ]
    totals = [sum(column) for column in zip(*cells, strict=True)]
    return StageCounts(*totals, share=sum(totals[:2]) / sum(totals))
