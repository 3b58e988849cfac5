"""Ratios by hash groups: as wide as between users, and never by zero."""

from math import inf, isclose, isfinite, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.stats.fixed_horizon import Arm
from experiments.stats.intervals import Insufficient
from experiments.stats.moments import EMPTY, Moments
from experiments.stats.ratio import (
    LEAST_GROUPS,
    GroupedStage,
    GroupSums,
    ratio_contrast,
    ratio_difference_interval,
    ratio_log_e,
    ratio_relative_interval,
)
from experiments.stats.stages import Side

few = settings(max_examples=15, deadline=None)
G = 32
sums = st.builds(
    GroupSums,
    st.tuples(*[st.floats(0.0, 1e9)] * G),
    st.tuples(*[st.integers(0, 10**9).map(float) | st.just(0.0)] * G),
)
stage_lists = st.lists(st.builds(GroupedStage, sums, sums), max_size=3)


def groups(mean, *, count=64, spread=0.2, n=40):
    offsets = [spread * ((7 * k) % 11 - 5) / 5.0 for k in range(count)]
    return tuple(Moments(n, mean + offset, 0.0, 1.0) for offset in offsets)


@few
@given(stage_lists, st.sampled_from(list(Side)))
def test_every_input_has_an_answer(stages, side):
    assert isfinite(ratio_log_e(stages, side=side, tau=0.1))
    found = ratio_difference_interval(stages, alpha=0.05, tau=0.1)
    assert isinstance(found, Insufficient) or found.low <= found.high


@few
@given(stage_lists)
def test_swapping_the_arms_swaps_the_sides(stages):
    swapped = [GroupedStage(stage.control, stage.treatment) for stage in stages]
    greater = ratio_log_e(stages, side=Side.GREATER, tau=0.1)
    assert isclose(
        greater, ratio_log_e(swapped, side=Side.LESS, tau=0.1), rel_tol=1e-9, abs_tol=1e-9
    )


def test_sums_and_moments_say_the_same():
    stage = GroupedStage(groups(0.6), groups(0.5))
    by_sums = GroupedStage(GroupSums.of(stage.treatment), GroupSums.of(stage.control))
    assert ratio_contrast([stage]) == ratio_contrast([by_sums])


def test_with_a_user_to_a_group_it_is_the_delta_method():
    rng = np.random.default_rng(11)
    denominators = rng.integers(1, 9, 400).astype(float)
    numerators = rng.binomial(denominators.astype(int), 0.3).astype(float)
    whole = Arm.of_ratio(Moments.of(numerators, denominators))
    arm = GroupSums(tuple(numerators), tuple(denominators))
    found = ratio_contrast([GroupedStage(arm, arm)])
    assert found.value == 0.0
    assert isclose(found.error**2, 2.0 * whole.variance / whole.n, rel_tol=1e-9)


def test_few_groups_count_as_few():
    few_groups = ratio_contrast([GroupedStage(groups(0.5), groups(0.5))])
    many = ratio_contrast([GroupedStage(groups(0.5, count=128), groups(0.5, count=128))])
    assert few_groups.degrees == 126
    assert many.degrees is None


def test_the_same_users_in_two_stages_are_not_twice_as_many():
    stage = GroupedStage(groups(0.5), groups(0.5))
    once, twice = ratio_contrast([stage]), ratio_contrast([stage, stage])
    assert isclose(once.error, twice.error, rel_tol=1e-9)


def test_the_interval_leaves_out_what_the_test_refutes():
    stages = [GroupedStage(groups(0.6), groups(0.5))]
    found = ratio_difference_interval(stages, alpha=0.05, tau=0.1)
    relative = ratio_relative_interval(stages, alpha=0.05, tau=0.1)
    for log_e in (
        ratio_log_e(stages, side=Side.TWO_SIDED, tau=0.1, difference=found.low),
        ratio_log_e(stages, side=Side.TWO_SIDED, tau=0.1, ratio=relative.high),
    ):
        assert isclose(log_e, log(20.0), rel_tol=1e-8)
    bounded_below = ratio_difference_interval(stages, alpha=0.05, tau=0.1, side=Side.GREATER)
    assert found.low < bounded_below.low
    assert bounded_below.high == inf


@pytest.mark.parametrize(("used", "heard"), [(LEAST_GROUPS - 1, False), (LEAST_GROUPS, True)])
def test_too_few_groups_with_anything_in_them_say_nothing(used, heard):
    some = groups(5.0)[:used] + (EMPTY,) * (64 - used)
    stages = [GroupedStage(some, groups(0.5))]
    assert (ratio_log_e(stages, side=Side.GREATER, tau=0.3) != 0.0) == heard
    assert isinstance(ratio_contrast(stages), Insufficient) != heard


def test_an_arm_without_a_single_success_is_harm():
    none = tuple(Moments(40, 0.0, 0.0, 1.0) for _ in range(64))
    stages = [GroupedStage(none, groups(0.5))]
    assert ratio_log_e(stages, side=Side.LESS, tau=0.1) > log(20.0)


def test_groups_must_be_the_same_in_all_stages():
    stages = [
        GroupedStage(groups(0.5), groups(0.5)),
        GroupedStage(groups(0.5, count=32), groups(0.5, count=32)),
    ]
    with pytest.raises(ValueError, match="equally many"):
        ratio_log_e(stages, side=Side.GREATER, tau=0.1)
