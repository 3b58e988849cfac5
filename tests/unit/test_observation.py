"""Which values a metric can take, and where each is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import InvalidOutcome
from experiments.metric import (
    Binary,
    Count,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
    Slow,
)
from experiments.observation import Observation, observe
from experiments.stats.latency_grid import BUCKETS, OVERFLOW

SCORE = Score(1.0, 5.0, 0.5)
COVARIED = Mean(-9.0, 9.0, covariate=True)
KINDS = [Binary(), Mean(-9.0, 9.0), SCORE, Slow(250), Quantile(0.9), Count()]


def seen(kind, value, *, denominator=None, covariate=None, group=None):
    return observe(Metric("m", kind), value, denominator, covariate, group=group)


def refused(kind, value, **beside):
    with pytest.raises(InvalidOutcome) as error:
        seen(kind, value, **beside)
    assert len(error.value.message) < 200
    return error.value.message


@pytest.mark.parametrize(
    ("kind", "value", "observation"),
    [
        (Binary(), 1, Observation(1)),
        (Binary(), 0, Observation(0)),
        (Binary(), 1.0, Observation(1)),
        (Binary(), -0.0, Observation(0)),
        (Mean(-9.0, 9.0), 3, Observation(0, (3.0, 0.0))),
        (Mean(-9.0, 9.0), 9.1, Observation(0, (9.0, 0.0))),
        (Mean(-9.0, 9.0), -1e308, Observation(0, (-9.0, 0.0))),
        (Mean(0.0, 9.0), 10**400, Observation(0, (9.0, 0.0))),
        (SCORE, 1, Observation(0)),
        (SCORE, 5.0, Observation(8)),
        (SCORE, 3.2, Observation(4)),
        (SCORE, 3.3, Observation(5)),
        (Score(0.0, 0.115, 0.001), 115 * 0.001, Observation(115)),
        (Slow(250), 250, Observation(0)),
        (Slow(250), 250.001, Observation(1)),
        (Slow(250), 0, Observation(0)),
        (Quantile(0.9), 0.5, Observation(0)),
        (Quantile(0.9), 250, Observation(279)),
        (Quantile(0.9), 1e308, Observation(OVERFLOW)),
        (Count(), 0, None),
        (Count(), 0.0, None),
        (Count(), 1, Observation(1)),
        (Count(), 17.0, Observation(1)),
    ],
)
def test_a_units_first_outcome_is_counted_by_its_value(kind, value, observation):
    assert seen(kind, value) == observation


@pytest.mark.parametrize(
    ("kind", "value", "pair"),
    [
        (Binary(), 1, (1.0, 1.0)),
        (Binary(), 0, (0.0, 1.0)),
        (Mean(-9.0, 9.0), 30, (9.0, 1.0)),
        (SCORE, 3.2, (3.0, 1.0)),
        (SCORE, 5, (5.0, 1.0)),
    ],
)
def test_all_that_a_group_of_units_does_is_summed(kind, value, pair):
    assert seen(kind, value, group=42) == Observation(42, pair)


def test_a_ratio_has_a_value_and_a_denominator_which_may_be_nothing():
    assert seen(Ratio(), -5, denominator=2, group=7) == Observation(7, (-5.0, 2.0))
    assert seen(Ratio(), 0, denominator=0.0, group=7) == Observation(7, (0.0, 0.0))


def test_a_mean_with_a_covariate_is_counted_apart_from_those_without():
    assert seen(COVARIED, 20, covariate=-100) == Observation(1, (9.0, -100.0))
    assert seen(COVARIED, 20) == Observation(0, (9.0, 0.0))


@pytest.mark.parametrize(
    ("kind", "value", "beside", "message"),
    [
        (Binary(), True, {}, "send 1 instead of true"),
        (Binary(), False, {}, "send 0 instead of false"),
        (Binary(), float("nan"), {}, "not finite"),
        (Binary(), 2, {}, "0 or 1"),
        (Binary(), 0.5, {}, "0 or 1"),
        (Binary(), "x" * 10_000, {}, "0 or 1"),
        (SCORE, 0.999, {}, "m must be from 1 to 5, not 0.999"),
        (SCORE, 5.001, {}, "m must be from 1 to 5, not 5.001"),
        (Slow(250), -1, {}, "not negative"),
        (Quantile(0.9), -0.001, {}, "not negative"),
        (Count(), -1, {}, "whole number of events"),
        (Count(), 1.5, {}, "whole number of events"),
        (Ratio(), 1, {}, "send its denominator"),
        (Ratio(), 1, {"denominator": -1, "group": 1}, "must not be negative"),
        (Ratio(), 1, {"denominator": 1.1e12, "group": 1}, "at most 1e+12 in size"),
        (Ratio(), -1.1e12, {"denominator": 1, "group": 1}, "at most 1e+12 in size"),
        (Ratio(), 1, {"denominator": "2", "group": 1}, "the denominator of m must be a number"),
        (Ratio(), 1, {"denominator": 1, "covariate": 1, "group": 1}, "takes no covariate"),
        (Mean(0.0, 9.0), 1, {"covariate": 1}, "takes no covariate"),
        (COVARIED, 1, {"covariate": True}, "the covariate of m must be a number"),
        (COVARIED, 1, {"covariate": 10**400}, "at most 1e+12 in size"),
    ],
)
def test_what_a_metric_cannot_take_is_refused_with_what_it_can(kind, value, beside, message):
    assert message in refused(kind, value, **beside)


@pytest.mark.parametrize("kind", [*KINDS, COVARIED], ids=lambda kind: kind.kind)
@pytest.mark.parametrize(
    "value", [True, float("nan"), float("inf"), float("-inf"), "1", "", None, [1], {"value": 1}]
)
def test_whatever_is_no_finite_number_is_refused_by_every_kind(kind, value):
    assert "m " in refused(kind, value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_only_a_ratio_takes_a_denominator(kind):
    assert "takes no denominator" in refused(kind, 1, denominator=1)


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([*KINDS, COVARIED, Ratio()]), ANYTHING, ANYTHING, ANYTHING)
def test_whatever_is_sent_it_is_counted_in_a_cell_that_there_is_or_refused(
    kind, value, denominator, covariate
):
    group = 3 if isinstance(kind, Ratio) else None
    try:
        found = seen(kind, value, denominator=denominator, covariate=covariate, group=group)
    except InvalidOutcome:
        return
    if found is not None:
        assert 0 <= found.index < BUCKETS
        assert found.pair is None or all(abs(each) <= 1e12 for each in found.pair)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(-100, 100),
    st.integers(1, 1000),
    st.sampled_from([0.001, 0.1, 0.3, 1.0, 7.0]),
    st.data(),
)
def test_a_score_on_the_grid_counts_as_itself(low, steps, step, data):
    score = Score(float(low), low + steps * step, step)
    index = data.draw(st.integers(0, steps))
    assert seen(score, score.grid[index]) == Observation(index)
    assert seen(score, score.grid[index], group=9).pair == (score.grid[index], 1.0)
