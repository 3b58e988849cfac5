"""What holds for all counts: up to a thousand million a cell, and none at all."""

from math import isclose, isfinite, log

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.combine import e_holm, weighted_mean_log_e
from experiments.stats.effects import (
    conditional_ratio_interval,
    rate_ratio_interval,
    risk_difference_interval,
)
from experiments.stats.events import conditional_log_e, event_ratio_log_e
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.proportion import (
    below_rate_log_e,
    bernoulli_interval,
    tuned_bernoulli_interval,
)
from experiments.stats.sample_ratio import sample_ratio_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents

BILLION = 10**9
counts = st.integers(0, BILLION) | st.integers(0, 50) | st.sampled_from([0, 1, BILLION])
shares = st.floats(0.0001, 0.9999) | st.sampled_from([0.0001, 0.01, 0.05, 0.5, 0.95])
taus = st.floats(0.001, 5.0)
sides = st.sampled_from(list(Side))
stage_events = st.builds(StageEvents, counts, counts, shares)
stage_counts = st.builds(StageCounts, counts, counts, counts, counts, shares)
ramps = st.lists(stage_events, max_size=4)
few = settings(max_examples=25, deadline=None)


@few
@given(
    stages=st.lists(stage_counts, max_size=4),
    tau=taus,
    rate=st.floats(0.0001, 0.9999),
    side=sides,
    scale=st.sampled_from(list(Scale)),
)
def test_randomisation_evidence_is_a_number(stages, tau, rate, side, scale):
    assert isfinite(
        randomisation_log_e(stages, tau=tau, planning_rate=rate, side=side, scale=scale)
    )


@few
@given(stages=ramps, tau=taus, side=sides, margin=st.floats(0.01, 100.0))
def test_event_evidence_is_a_number(stages, tau, side, margin):
    assert isfinite(event_ratio_log_e(stages, tau=tau, side=side, margin_ratio=margin))
    assert isfinite(sample_ratio_log_e(stages))


@few
@given(events=counts, others=counts, share=shares, side=sides, weight=st.floats(0.01, 1e5))
def test_conditional_evidence_is_a_number(events, others, share, side, weight):
    prior = (weight * share, weight * (1.0 - share))
    assert isfinite(conditional_log_e(events, others, share=share, prior=prior, side=side))
    assert isfinite(below_rate_log_e(events, events + others, rate=share))


@few
@given(stages=ramps, tau=taus, alpha=st.floats(1e-6, 0.3))
def test_rate_ratio_interval_is_ordered_and_open_where_nothing_bounds_it(stages, tau, alpha):
    found = rate_ratio_interval(stages, alpha=alpha, tau=tau)
    assert 0.0 <= found.low < found.high
    if sum(stage.treatment for stage in stages) == 0:
        assert found.low == 0.0
    if sum(stage.control for stage in stages) == 0:
        assert found.high == float("inf")
    if found.estimate is not None:
        assert found.low <= found.estimate <= found.high


@few
@given(stages=ramps, tau=taus, alpha=st.floats(1e-6, 0.3))
def test_rate_ratio_interval_leaves_out_one_exactly_when_the_test_rejects(stages, tau, alpha):
    log_e = event_ratio_log_e(stages, tau=tau)
    assume(abs(log_e + log(alpha)) > 1e-6)
    found = rate_ratio_interval(stages, alpha=alpha, tau=tau)
    assert (not found.low <= 1.0 <= found.high) == (log_e > log(1.0 / alpha))


@few
@given(successes=counts, failures=counts, alpha=st.floats(1e-6, 0.3), planned=st.floats(1, 1e9))
def test_bernoulli_intervals_hold_the_observed_rate(successes, failures, alpha, planned):
    n = successes + failures
    plain = bernoulli_interval(successes, n, alpha=alpha)
    tuned = tuned_bernoulli_interval(successes, n, alpha=alpha, planned_n=planned)
    for found in (plain, tuned):
        assert 0.0 <= found.low <= (successes / n if n else 0.5) <= found.high <= 1.0
        assert found.low < found.high


@few
@given(stages=st.lists(stage_counts, max_size=4), tau=taus, alpha=st.floats(1e-6, 0.3))
def test_risk_difference_is_an_interval_or_says_why_not(stages, tau, alpha):
    match risk_difference_interval(stages, alpha=alpha, tau=tau):
        case Interval(low, high, estimate):
            assert -1.0 <= low <= estimate <= high <= 1.0
            assert low < high
        case Insufficient(reason):
            assert reason


@few
@given(stage=stage_counts, tau=taus, rate=st.floats(0.01, 0.99))
def test_swapping_the_arms_swaps_the_sides(stage, tau, rate):
    swapped = StageCounts(
        stage.control_successes,
        stage.control_failures,
        stage.treatment_successes,
        stage.treatment_failures,
        1.0 - stage.share,
    )
    for side, other in (
        (Side.GREATER, Side.LESS),
        (Side.LESS, Side.GREATER),
        (Side.TWO_SIDED, Side.TWO_SIDED),
    ):
        one = randomisation_log_e([stage], tau=tau, planning_rate=rate, side=side)
        two = randomisation_log_e([swapped], tau=tau, planning_rate=rate, side=other)
        assert isclose(one, two, rel_tol=1e-9, abs_tol=1e-6)


@few
@given(stage=stage_counts, tau=taus, rate=st.floats(0.01, 0.99))
def test_on_the_odds_scale_successes_and_failures_are_alike(stage, tau, rate):
    renamed = StageCounts(
        stage.treatment_failures,
        stage.treatment_successes,
        stage.control_failures,
        stage.control_successes,
        stage.share,
    )
    given_scale = {"tau": tau, "scale": Scale.ODDS_RATIO}
    one = randomisation_log_e([stage], planning_rate=rate, side=Side.LESS, **given_scale)
    two = randomisation_log_e([renamed], planning_rate=1 - rate, side=Side.GREATER, **given_scale)
    assert isclose(one, two, rel_tol=1e-9, abs_tol=1e-6)


@few
@given(stage=stage_events, tau=taus, margin=st.floats(0.2, 5.0))
def test_swapping_the_arms_inverts_the_margin(stage, tau, margin):
    swapped = StageEvents(stage.control, stage.treatment, 1.0 - stage.share)
    one = event_ratio_log_e([stage], tau=tau, side=Side.GREATER, margin_ratio=margin)
    two = event_ratio_log_e([swapped], tau=tau, side=Side.LESS, margin_ratio=1.0 / margin)
    assert isclose(one, two, rel_tol=1e-9, abs_tol=1e-5)


@few
@given(
    first=st.tuples(counts, counts, counts, counts),
    second=st.tuples(counts, counts, counts, counts),
    share=shares,
    tau=taus,
)
def test_splitting_a_stage_changes_nothing(first, second, share, tau):
    whole = [a + b for a, b in zip(first, second, strict=True)]
    split = [StageCounts(*first, share), StageCounts(*second, share)]
    one = randomisation_log_e([StageCounts(*whole, share)], tau=tau, planning_rate=UNKNOWN_RATE)
    assert isclose(
        one, randomisation_log_e(split, tau=tau, planning_rate=UNKNOWN_RATE), rel_tol=1e-12
    )
    halves = [StageEvents(*first[:2], share), StageEvents(*second[:2], share)]
    one = event_ratio_log_e([StageEvents(*whole[:2], share)], tau=tau, side=Side.GREATER)
    two = event_ratio_log_e(halves, tau=tau, side=Side.GREATER)
    assert isclose(one, two, rel_tol=1e-12, abs_tol=1e-6)


def test_no_data_is_no_evidence():
    empty = StageEvents(0, 0, 0.05)
    nobody = StageCounts(0, 0, 0, 0, 0.05)
    for side in Side:
        assert randomisation_log_e([nobody], tau=0.2, planning_rate=0.1, side=side) == 0.0
        assert event_ratio_log_e([empty], tau=0.7, side=side) == 0.0
        assert event_ratio_log_e([], tau=0.7, side=side) == 0.0
        assert conditional_log_e(0, 0, share=0.5, prior=(1.0, 1.0), side=side) == 0.0
    assert below_rate_log_e(0, 0, rate=0.02) == 0.0
    assert sample_ratio_log_e([empty]) == 0.0
    assert rate_ratio_interval([empty], alpha=0.05, tau=0.7) == Interval(0.0, float("inf"))
    assert risk_difference_interval([nobody], alpha=0.05, tau=0.1) == Insufficient(
        "no stage with two units in each arm"
    )


def test_an_empty_stage_adds_nothing():
    stage, empty = StageEvents(7, 90, 0.05), StageEvents(0, 0, 0.5)
    assert event_ratio_log_e([stage, empty], tau=0.7) == event_ratio_log_e([stage], tau=0.7)


def test_a_single_event_in_a_thousand_million_is_not_lost_in_rounding():
    quiet = conditional_log_e(BILLION // 2, BILLION // 2, share=0.5, prior=(50.0, 50.0))
    expected = 0.5 * log(100.0 / BILLION)
    assert abs(quiet - expected) < 0.01
    nearby = conditional_log_e(BILLION // 2 + 1, BILLION // 2, share=0.5, prior=(50.0, 50.0))
    assert abs(nearby - quiet) < 1e-8


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        StageEvents(1, 1, share)
    with pytest.raises(ValueError, match="share"):
        StageCounts(1, 1, 1, 1, share)


def test_nonsense_is_refused_with_a_reason():
    stage = StageCounts(1, 1, 1, 1, 0.5)
    events = StageEvents(1, 1, 0.5)
    with pytest.raises(ValueError, match="negative"):
        StageEvents(-1, 1, 0.5)
    with pytest.raises(ValueError, match="tau"):
        randomisation_log_e([stage], tau=0.0, planning_rate=0.5)
    with pytest.raises(ValueError, match="tau"):
        event_ratio_log_e([events], tau=float("nan"))
    with pytest.raises(ValueError, match="planning rate"):
        randomisation_log_e([stage], tau=0.2, planning_rate=1.0)
    with pytest.raises(ValueError, match="at least one"):
        event_ratio_log_e([events], tau=())
    with pytest.raises(ValueError, match="ratio"):
        event_ratio_log_e([events], tau=0.7, margin_ratio=0.0)
    with pytest.raises(ValueError, match="between 0 and n"):
        below_rate_log_e(3, 2, rate=0.1)
    with pytest.raises(ValueError, match="sum to 1"):
        weighted_mean_log_e([1.0, 2.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="not a number"):
        e_holm([float("nan")])
    with pytest.raises(ValueError, match="alpha"):
        rate_ratio_interval([events], alpha=0.0, tau=0.7)


def test_stage_and_single_stage_intervals_tell_the_same_story():
    """A beta mixture and a normal one of the same spread differ by little."""
    normal = rate_ratio_interval([StageEvents(480, 500, 0.5)], alpha=0.05, tau=0.3)
    k = 1.0 / (0.25 * 0.3**2)
    beta = conditional_ratio_interval(480, 500, share=0.5, prior=(k / 2, k / 2), alpha=0.05)
    assert isclose(normal.low, beta.low, rel_tol=0.01)
    assert isclose(normal.high, beta.high, rel_tol=0.01)
    assert isclose(normal.estimate, 480 / 500, rel_tol=1e-9)
