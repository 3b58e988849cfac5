"""Scores on a bounded scale: exact under the null, and nothing but counts matters."""

from itertools import product
from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.stats.betting import (
    empirical_bernstein_interval,
    hedged_capital_interval,
    hedged_capital_log_e,
)
from experiments.stats.bounded import ScoreStage, score_difference_interval, score_log_e
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.stages import Side

VALUES = (0.0, 0.25, 1.0)
KNOWN = {"centre": 0.5, "spread": 0.35, "tau": (0.1, 0.4)}
SIDES = list(Side)


def counted(units, share):
    """A stage from (arm, index of the value) pairs."""
    arms = [[0] * len(VALUES), [0] * len(VALUES)]
    for arm, index in units:
        arms[arm][index] += 1
    return ScoreStage(tuple(arms[1]), tuple(arms[0]), share)


def expected_e(treatment, control, *, shares, **given_):
    """The exact expectation of the e-value: every outcome of a few units, weighted."""
    total = 0.0
    for units in product(product((0, 1), range(len(VALUES))), repeat=len(shares)):
        chance = 1.0
        for (arm, index), share in zip(units, shares, strict=True):
            chance *= share * treatment[index] if arm else (1.0 - share) * control[index]
        stages = [counted([unit], share) for unit, share in zip(units, shares, strict=True)]
        total += chance * exp(score_log_e(stages, VALUES, **KNOWN, **given_))
    return total


@pytest.mark.parametrize("side", SIDES)
def test_expectation_is_one_if_means_are_equal_though_distributions_are_not(side):
    treatment, control = (0.2, 0.4, 0.4), (0.5, 0.0, 0.5)
    found = expected_e(treatment, control, shares=(0.5, 0.05, 0.8), side=side)
    assert found == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("side", [Side.GREATER, Side.LESS])
@pytest.mark.parametrize("margin", [0.3, -0.3])
def test_expectation_is_one_at_the_margin(side, margin):
    treatment, control = (0.5 - margin, 0.0, 0.5 + margin), (0.5, 0.0, 0.5)
    found = expected_e(treatment, control, shares=(0.3, 0.1, 0.5), side=side, difference=margin)
    assert found == pytest.approx(1.0, abs=1e-12)


def test_expectation_is_at_most_one_inside_a_one_sided_null():
    worse, better = (0.7, 0.1, 0.2), (0.2, 0.1, 0.7)
    assert expected_e(worse, better, shares=(0.5, 0.1, 0.5), side=Side.GREATER) < 1.0
    assert expected_e(better, worse, shares=(0.5, 0.1, 0.5), side=Side.LESS) < 1.0
    assert expected_e(better, worse, shares=(0.5, 0.1, 0.5), side=Side.GREATER) > 1.0


COUNTS = st.tuples(*[st.integers(0, 10**9)] * len(VALUES))
STAGES = st.builds(ScoreStage, COUNTS, COUNTS, st.sampled_from([0.01, 0.05, 0.5, 0.9]))


@given(st.lists(STAGES, max_size=3), st.sampled_from(SIDES), st.sampled_from([-0.9, 0.0, 0.2]))
def test_evidence_is_finite_for_any_counts(stages, side, difference):
    found = score_log_e(stages, VALUES, side=side, difference=difference, **KNOWN)
    assert -inf < found < inf


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_splitting_a_stage_at_equal_shares_changes_nothing(a, b, c, d):
    both = ScoreStage(tuple(map(sum, zip(a, c))), tuple(map(sum, zip(b, d))), 0.2)  # noqa: B905
    parts = [ScoreStage(a, b, 0.2), ScoreStage(c, d, 0.2)]
    whole = score_log_e([both], VALUES, **KNOWN)
    assert score_log_e(parts, VALUES, **KNOWN) == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert score_log_e(parts[::-1], VALUES, **KNOWN) == pytest.approx(whole, rel=1e-9, abs=1e-9)


@given(COUNTS, COUNTS, st.sampled_from([0.05, 0.5]), st.sampled_from([0.0, 0.1]))
def test_swapping_the_arms_swaps_the_sides(a, b, share, margin):
    found = score_log_e(
        [ScoreStage(a, b, share)], VALUES, side=Side.GREATER, difference=margin, **KNOWN
    )
    swapped = score_log_e(
        [ScoreStage(b, a, 1.0 - share)], VALUES, side=Side.LESS, difference=-margin, **KNOWN
    )
    assert swapped == pytest.approx(found, rel=1e-9, abs=1e-9)


def test_a_scale_may_be_shifted_and_stretched():
    stage = ScoreStage((50, 30, 20), (20, 30, 50), 0.5)
    far = [1e6 + 100.0 * value for value in VALUES]
    stretched = {"centre": 1e6 + 50.0, "spread": 35.0, "tau": (10.0, 40.0)}
    found = score_log_e([stage], far, **stretched)
    assert found == pytest.approx(score_log_e([stage], VALUES, **KNOWN), rel=1e-9)


def test_an_arm_without_a_single_success_is_evidence():
    canary = ScoreStage((200, 0), (3724, 76), 0.05)
    known = {"centre": 0.02, "spread": 0.14, "tau": 0.5}
    assert score_log_e([canary], (0.0, 1.0), side=Side.LESS, **known) > log(20)


def test_evidence_falls_as_the_margin_grows():
    stage = ScoreStage((20, 30, 150), (60, 30, 110), 0.05)
    margins = np.linspace(-0.95, 0.95, 39)
    found = [
        score_log_e([stage], VALUES, side=Side.GREATER, difference=each, **KNOWN)
        for each in margins
    ]
    assert all(a >= b for a, b in zip(found, found[1:]))  # noqa: B905, RUF007


def test_the_interval_is_the_tests_inverted():
    stages = [
        ScoreStage((30, 20, 150), (900, 600, 2400), 0.05),
        ScoreStage((9, 9, 50), (9, 9, 9), 0.5),
    ]
    found = score_difference_interval(stages, VALUES, alpha=0.05, **KNOWN)
    assert isinstance(found, Interval)
    assert found.low < found.estimate < found.high
    for end, side in ((found.low, Side.GREATER), (found.high, Side.LESS)):
        at_end = score_log_e(stages, VALUES, side=side, difference=end, **KNOWN)
        assert at_end == pytest.approx(log(40.0), abs=1e-6)


def test_little_data_bounds_nothing_and_one_arm_says_nothing():
    one_each = [ScoreStage((1, 0, 0), (0, 0, 1), 0.5)]
    found = score_difference_interval(one_each, VALUES, alpha=0.05, **KNOWN)
    assert (found.low, found.high, found.estimate) == (-1.0, 1.0, -1.0)
    alone = [ScoreStage((0, 0, 0), (0, 5, 1), 0.5)]
    assert isinstance(score_difference_interval(alone, VALUES, alpha=0.05, **KNOWN), Insufficient)


def test_a_billion_equal_scores_leave_a_sliver_around_zero():
    same = [ScoreStage((0, 10**9, 0), (0, 10**9, 0), 0.5)]
    found = score_difference_interval(same, VALUES, alpha=0.05, **KNOWN)
    assert -0.01 < found.low < 0.0 < found.high < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"centre": 2.0},
        {"spread": 0.0},
        {"tau": ()},
        {"difference": 1.0},
        {"values": (1.0, 1.0)},
        {"values": (0.0, 1.0)},
    ],
)
def test_what_cannot_be_bet_on_is_refused(wrong):
    given_ = {"values": VALUES, **KNOWN, **wrong}
    with pytest.raises(ValueError):
        score_log_e([ScoreStage((1, 2, 3), (1, 2, 3), 0.5)], **given_)


@pytest.mark.parametrize("mean", [0.25, 0.5, 0.8])
def test_hedged_capital_is_worth_at_most_one_under_the_null(mean):
    total = 0.0
    for units in product((0.0, 1.0), repeat=8):
        chance = np.prod([mean if value else 1.0 - mean for value in units])
        total += chance * exp(hedged_capital_log_e(units, mean=mean, alpha=0.05)[-1])
    assert 0.4 < total <= 1.0


@pytest.mark.parametrize("interval", [hedged_capital_interval, empirical_bernstein_interval])
def test_one_arm_intervals_are_mirrored_and_never_leave_the_scale(interval):
    values = [0.1, 0.9, 0.0, 0.3, 0.3, 1.0] * 40
    found = interval(values, alpha=0.05)
    mirror = interval([1.0 - value for value in values], alpha=0.05)
    assert 0.0 < found.low < found.estimate < found.high < 1.0
    assert mirror.low == pytest.approx(1.0 - found.high, abs=1e-9)
    assert interval([1.0], alpha=0.05) == Interval(0.0, 1.0, 1.0)
    assert isinstance(interval([], alpha=0.05), Insufficient)


def test_a_mean_that_has_moved_is_said_to_have_moved():
    assert isinstance(hedged_capital_interval([0.0] * 200 + [1.0] * 900, alpha=0.05), Insufficient)


def test_a_bet_of_everything_can_be_lost_for_good():
    log_es = hedged_capital_log_e([0.0, 1.0] * 3, mean=0.5, alpha=1e-9, truncation=1.0)
    assert log_es[-1] == -inf
    with pytest.raises(ValueError):
        hedged_capital_log_e([1.5], mean=0.5, alpha=0.05)
