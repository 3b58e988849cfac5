"""Arithmetic that is right on paper and wrong in a machine."""

from math import exp, inf, isclose, log

import numpy as np
import pytest
from scipy.stats import norm

from experiments.stats.combine import anytime_p_value
from experiments.stats.means import BURN_IN, StageMoments, mean_difference_interval, mean_log_e
from experiments.stats.mixture import normal_mixture_log_e
from experiments.stats.moments import EMPTY, Moments, total
from experiments.stats.normal import neg_log10_p, normal_p_value
from experiments.stats.stages import Side


def test_a_spread_of_one_around_a_thousand_million_is_not_lost():
    values = 1e9 + np.tile([-1.0, 0.0, 1.0], 1_000) * np.sqrt(1.5)
    n = len(values)
    naive = (float((values**2).sum()) - float(values.sum()) ** 2 / n) / (n - 1)
    assert not 0.5 < naive < 2.0
    parts = [Moments.of(part) for part in np.split(values, 100)]
    assert isclose(total(parts).variance, n / (n - 1), rel_tol=1e-6)


def test_an_effect_on_top_of_a_thousand_million_is_seen():
    control = Moments.of(1e9 + np.tile([-1.0, 1.0], 2_000))
    treatment = Moments.of(1e9 + 0.25 + np.tile([-1.0, 1.0], 2_000))
    stages = [StageMoments(treatment, control)]
    assert mean_log_e(stages, side=Side.GREATER, tau=0.1) > log(20.0)
    found = mean_difference_interval(stages, alpha=0.05, tau=0.1)
    assert found.low < 0.25 < found.high
    assert found.low > 0.0


def test_equal_values_with_rounding_between_them_are_no_certainty():
    noise = Moments(1_000, 0.3, 1e-31), Moments(1_000, 0.1 + 0.2, 1e-31)
    assert noise[0].mean != noise[1].mean
    assert mean_log_e([StageMoments(*noise)], side=Side.TWO_SIDED, tau=0.1) == 0.0


def test_p_values_past_eight_standard_errors_are_not_zero():
    assert 1.0 - norm.cdf(9.0) == 0.0
    assert isclose(normal_p_value(9.0), 2.257e-19, rel_tol=1e-3)
    assert 440.0 < neg_log10_p(45.0) < neg_log10_p(45.28) < 447.0


def test_evidence_too_large_to_exponentiate_is_compared_as_it_is():
    log_e = normal_mixture_log_e(40.0, 8.0)
    assert 709.0 < log_e < 711.0
    gross = normal_mixture_log_e(400.0, 8.0)
    with pytest.raises(OverflowError):
        exp(gross)
    assert gross < inf
    assert anytime_p_value(gross) == 0.0


def test_evidence_against_the_favoured_side_stays_a_number():
    """Both terms are near 5e9 and all but cancel; their naive sum is minus infinity."""
    z, w = -1e5, 8.0
    x = z * (w / (1.0 + w)) ** 0.5
    with np.errstate(divide="ignore"):
        naive = log(2.0) + 0.5 * x * x + np.log(norm.cdf(x))
    assert naive == -inf
    assert -20.0 < normal_mixture_log_e(z, w, Side.GREATER) < -10.0


def test_a_thousand_million_units_an_arm_are_no_trouble():
    n = 10**9
    stages = [StageMoments(Moments(n, 1e9 + 0.001, 1.0 * n), Moments(n, 1e9, 1.0 * n))]
    assert mean_log_e(stages, side=Side.GREATER, tau=0.001) > log(20.0)
    assert mean_log_e(stages, side=Side.LESS, tau=0.001) < 0.0


def test_a_small_canary_in_which_nothing_happened_yet_is_not_certain():
    """Most values are 0, so the canary's own spread is 0 or far too small just when its mean is."""
    runs, rng = 60, np.random.default_rng(37)
    naive_found = found = 0
    for _ in range(runs):
        canary, control = EMPTY, EMPTY
        naive_hit = hit = False
        for _ in range(40):
            canary, control = (
                arm.merged(Moments.of(np.where(rng.random(n) < 0.05, rng.exponential(1.0, n), 0.0)))
                for arm, n in ((canary, 10), (control, 190))
            )
            stages = [StageMoments(canary, control)]
            hit |= mean_log_e(stages, side=Side.LESS, tau=0.05) > log(20.0)
            if canary.n >= BURN_IN:
                variance = canary.variance / canary.n + control.variance / control.n
                z = (canary.mean - control.mean) / variance**0.5
                w = 0.05**2 / variance
                naive_hit |= normal_mixture_log_e(z, w, Side.LESS) > log(20.0)
        naive_found += naive_hit
        found += hit
    assert naive_found > 0.25 * runs
    assert found <= 0.05 * runs
