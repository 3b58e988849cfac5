"""Means over stages: intervals match tests, arms mirror, and nothing is known too early."""

from math import isclose, isfinite, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.stats.covariate import adjusted, theta
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.means import (
    BURN_IN,
    StageMoments,
    mean_contrast,
    mean_difference_interval,
    mean_log_e,
    mean_ratio_interval,
)
from experiments.stats.moments import EMPTY, Moments
from experiments.stats.stages import Side

ALPHA, ENOUGH = 0.05, log(20.0)
few = settings(max_examples=25, deadline=None)
counts = st.integers(0, 10**9) | st.integers(0, 60)
spreads = st.sampled_from([0.0, 1e-12, 1.0, 1e6])
centres = st.sampled_from([0.0, 1.0, -3.0, 1e9]) | st.floats(-1e3, 1e3)


@st.composite
def arms(draw):
    n = draw(counts)
    return Moments(n, draw(centres), draw(spreads) * max(0, n - 1)) if n else EMPTY


stage_lists = st.lists(st.builds(StageMoments, arms(), arms()), max_size=4)


def arm(n, mean, variance=1.0):
    return Moments(n, mean, variance * (n - 1))


@few
@given(stage_lists, st.sampled_from(list(Side)), st.floats(1e-3, 1e3))
def test_every_input_has_an_answer(stages, side, tau):
    assert isfinite(mean_log_e(stages, side=side, tau=tau))
    for found in (
        mean_difference_interval(stages, alpha=ALPHA, tau=tau),
        mean_ratio_interval(stages, alpha=ALPHA, tau=tau),
    ):
        assert isinstance(found, Insufficient) or found.low <= found.high


@few
@given(stage_lists, st.floats(1e-3, 1e3))
def test_swapping_the_arms_swaps_the_sides(stages, tau):
    swapped = [StageMoments(stage.control, stage.treatment) for stage in stages]
    greater = mean_log_e(stages, side=Side.GREATER, tau=tau)
    less = mean_log_e(swapped, side=Side.LESS, tau=tau)
    assert isclose(greater, less, rel_tol=1e-9, abs_tol=1e-9)


@few
@given(st.floats(-0.5, 0.5), st.floats(0.05, 2.0), st.integers(100, 10**6))
def test_an_interval_leaves_out_just_what_the_test_refutes(effect, tau, n):
    stages = [StageMoments(arm(n, 2.0 + effect), arm(2 * n, 2.0))]
    found = mean_difference_interval(stages, alpha=ALPHA, tau=tau)
    low = mean_log_e(stages, side=Side.TWO_SIDED, tau=tau, difference=found.low)
    assert isclose(low, ENOUGH, rel_tol=1e-6)
    ratios = mean_ratio_interval(stages, alpha=ALPHA, tau=tau)
    if isinstance(ratios, Interval):
        for ratio in (ratios.low, ratios.high):
            log_e = mean_log_e(stages, side=Side.TWO_SIDED, tau=tau, ratio=ratio)
            assert isclose(log_e, ENOUGH, rel_tol=1e-6)


def test_a_stage_split_at_equal_share_says_the_same():
    whole = [StageMoments(arm(2_000, 1.1), arm(6_000, 1.0))]
    halves = [StageMoments(arm(1_000, 1.1), arm(3_000, 1.0))] * 2
    one, two = mean_contrast(whole), mean_contrast(halves)
    assert isclose(one.value, two.value, rel_tol=1e-12)
    assert isclose(one.error, two.error, rel_tol=1e-3)


def test_stages_are_weighted_by_what_they_compare():
    stages = [StageMoments(arm(100, 5.0), arm(300, 4.0)), StageMoments(arm(50, 9.0), arm(50, 9.0))]
    found = mean_contrast([*stages, StageMoments(arm(1, 99.0), arm(500, 0.0))])
    assert isclose(found.value, 75.0 / 100.0)
    assert isclose(found.error, sqrt(75.0**2 * (1 / 100 + 1 / 300) + 25.0**2 * (2 / 50)) / 100.0)


@pytest.mark.parametrize(("n", "heard"), [(BURN_IN - 1, False), (BURN_IN, True)])
def test_nothing_is_said_of_fewer_units_than_the_burn_in(n, heard):
    stages = [StageMoments(arm(n, 50.0), arm(1_000, 0.0))]
    assert (mean_log_e(stages, side=Side.GREATER, tau=1.0) > ENOUGH) == heard
    found = mean_difference_interval(stages, alpha=ALPHA, tau=1.0)
    assert isinstance(found, Interval) == heard


def test_values_that_are_all_equal_are_no_evidence():
    stages = [StageMoments(arm(100, 1.0, 0.0), arm(100, 2.0, 0.0))]
    assert mean_log_e(stages, side=Side.TWO_SIDED, tau=1.0) == 0.0
    assert isinstance(mean_contrast(stages), Insufficient)


def test_an_arm_that_always_answers_the_same_is_compared_by_the_others_spread():
    stuck = [StageMoments(arm(300, 0.0, 0.0), arm(6_000, 0.6))]
    assert mean_log_e(stuck, side=Side.LESS, tau=0.2) > ENOUGH
    quiet = [StageMoments(arm(30, 0.0, 0.0), arm(6_000, 0.02, 0.02))]
    assert mean_log_e(quiet, side=Side.LESS, tau=0.2) < ENOUGH


@pytest.mark.parametrize(
    ("mean", "safe"), [(1.0, True), (0.96, False), (0.9, False)], ids=["above", "near", "below"]
)
def test_not_inferior_means_above_the_margin_beyond_doubt(mean, safe):
    stages = [StageMoments(arm(40_000, mean), arm(40_000, 1.0))]
    log_e = mean_log_e(stages, side=Side.GREATER, tau=0.05, ratio=0.95)
    assert (log_e > log(40.0)) == safe


def test_a_ratio_to_a_control_near_zero_cannot_be_told():
    stages = [StageMoments(arm(100, 1.0), arm(100, 0.05))]
    assert isinstance(mean_ratio_interval(stages, alpha=ALPHA, tau=0.3), Insufficient)


def test_a_covariate_takes_out_what_it_foretells():
    rng = np.random.default_rng(3)
    before = rng.normal(10.0, 2.0, 4_000)
    after = before + rng.normal(0.0, 0.5, 4_000)
    control = Moments.of(after[:2_000], before[:2_000])
    treatment = Moments.of(after[2_000:] + 0.1, before[2_000:])
    stages = [StageMoments(treatment, control)]
    assert theta(stages) == pytest.approx(1.0, abs=0.02)
    raw, found = mean_contrast(stages), mean_contrast(adjusted(stages))
    assert found.error < raw.error / 3.0
    assert mean_log_e(stages, side=Side.GREATER, tau=0.1) < ENOUGH
    assert mean_log_e(adjusted(stages), side=Side.GREATER, tau=0.1) > ENOUGH


def test_a_covariate_that_drifts_from_stage_to_stage_does_not_mislead():
    level = {"early": 0.0, "late": 100.0}
    rng = np.random.default_rng(5)
    stages = []
    for name, n1, n0 in (("early", 100, 1_900), ("late", 1_000, 1_000)):
        xs = [rng.normal(level[name], 1.0, n) for n in (n1, n0)]
        stages.append(StageMoments(*(Moments.of(rng.normal(0.0, 1.0, len(x)), x) for x in xs)))
    assert theta(stages) == pytest.approx(0.0, abs=0.1)
    assert abs(mean_contrast(adjusted(stages)).value) < 0.2


def test_a_covariate_without_spread_changes_nothing():
    stages = [StageMoments(Moments(50, 1.0, 49.0, 2.0), Moments(50, 0.5, 49.0, 2.0))]
    assert theta(stages) == 0.0
    assert mean_contrast(adjusted(stages)) == mean_contrast(stages)
    assert mean_contrast(adjusted([StageMoments(EMPTY, EMPTY)])) == mean_contrast([])


def test_what_is_foretold_completely_does_not_look_known_beyond_rounding():
    xs = np.linspace(0.0, 1.0, 100)
    (after,) = adjusted([StageMoments(Moments.of(3.0 * xs, xs), Moments.of(3.0 * xs, xs))])
    assert after.treatment.m2 > 0.0
    assert abs(mean_log_e([after], side=Side.GREATER, tau=0.1)) < 40.0


def test_the_covariates_mean_is_no_certainty_where_a_ratio_is_asked_for() -> None:
    """Where the covariate tells all, nothing but its mean is left to err: it must not be 0."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(10.0, 3.0, 400), rng.normal(10.0, 3.0, 400)
    stages = adjusted([StageMoments(Moments.of(2.0 * one, one), Moments.of(2.0 * other, other))])
    found = mean_contrast(stages, ratio=3.0)
    together = np.concatenate([one, other])
    assert found.error == pytest.approx(2.0 * 2.0 * together.std(ddof=1) / np.sqrt(800), rel=1e-6)


def test_a_test_within_a_horizon_goes_on_where_later_units_differ_more() -> None:
    """One over the squared error would go back: units that scatter say less than those before."""
    calm = StageMoments(arm(1000, 10.0), arm(1000, 10.0))
    wild = StageMoments(arm(1000, 10.0, 400.0), arm(1000, 10.0, 400.0))
    before, after = mean_contrast([calm]), mean_contrast([calm, wild])
    assert after.error > before.error
    assert after.clock / before.clock == pytest.approx(401.0)
