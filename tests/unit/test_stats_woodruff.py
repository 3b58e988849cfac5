"""Log ratios of quantiles and their errors, for z-scores within a horizon."""

from math import log

import numpy as np
import pytest

from experiments.stats.contrast import Estimate
from experiments.stats.intervals import Insufficient
from experiments.stats.latency_grid import OVERFLOW, bucket_of
from experiments.stats.quantile_bets import QuantileStage
from experiments.stats.woodruff import quantile_log_ratio


def histogram(times) -> dict[int, int]:
    counts: dict[int, int] = {}
    for time in times:
        bucket = bucket_of(float(time))
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_error_is_how_far_estimates_stray(p):
    """Against the spread of 200 repetitions, whose own error is some 5 %."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        slow, fast = rng.lognormal(5.2, 0.4, 1_500), rng.lognormal(5.0, 0.4, 3_000)
        stage = QuantileStage.of_histograms(histogram(slow), histogram(fast))
        found.append(quantile_log_ratio([stage], p=p))
    assert np.mean([each.value for each in found]) == pytest.approx(0.2, abs=0.02)
    told = np.mean([each.error for each in found])
    assert told == pytest.approx(np.std([each.value for each in found]), rel=0.25)


def test_the_arms_exchanged_change_the_sign():
    slow, fast = {200: 50, 210: 60}, {198: 70, 205: 80}
    there = quantile_log_ratio([QuantileStage.of_histograms(slow, fast)], p=0.5)
    back = quantile_log_ratio([QuantileStage.of_histograms(fast, slow)], p=0.5)
    assert isinstance(there, Estimate)
    assert isinstance(back, Estimate)
    assert (there.value, there.error) == pytest.approx((-back.value, back.error))


def test_stages_are_compared_within_themselves():
    """Both arms are three times as slow in the second stage, where shares are others."""
    fast, slow = {200: 400, 205: 400}, {255: 400, 260: 400}
    few = {bucket: count // 10 for bucket, count in fast.items()}
    stages = [QuantileStage.of_histograms(few, fast), QuantileStage.of_histograms(slow, slow)]
    found = quantile_log_ratio(stages, p=0.5)
    assert isinstance(found, Estimate)
    assert abs(found.value) < 3 * found.error
    assert abs(found.value) < log(1.02)


@pytest.mark.parametrize(
    ("treatment", "control"),
    [
        ({}, {}),
        ({200: 10}, {}),
        ({200: 1}, {200: 10_000}),
        ({OVERFLOW: 500}, {200: 500}),
        ({200: 10, 210: 10}, {200: 10, 210: 10}),
    ],
)
def test_where_an_arm_says_too_little_nothing_is_said(treatment, control):
    stage = QuantileStage.of_histograms(treatment, control)
    assert isinstance(quantile_log_ratio([stage], p=0.99), Insufficient)
