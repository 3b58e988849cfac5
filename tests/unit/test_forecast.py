"""A forecast of the goal: known sizes, sums that add up, and nothing that was made up."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.metric import (
    LATENCY,
    Binary,
    Direction,
    Goal,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
)
from experiments.model import WHOLE, BasisPoints, Declaration, Horizon, Limits
from experiments.planning import (
    Forecast,
    GoalForecast,
    HeldBy,
    Insufficient,
    Ramp,
    forecast,
    warning_for,
)
from experiments.planning.goal import GoalCourse
from experiments.stats.planning import Mode
from experiments.unit import RequestUnit
from registry.refs import Version
from tests.unit.declared import DECLARATION, RAMP, declarations_with_users

LIMITS = Limits(200, timedelta(seconds=60), timedelta(days=7))
HALF = (BasisPoints(5_000),)
TENTH = Goal(Metric("correct", Binary()), Direction.INCREASE, 0.1, baseline=0.10)
CLASSIC = replace(
    DECLARATION, unit=RequestUnit(), ramp=HALF, goal=TENTH, guardrails=(), limits=LIMITS
)
RAMPED = replace(CLASSIC, unit=DECLARATION.unit, ramp=RAMP)


def goal_of(found: Forecast) -> GoalForecast:
    assert isinstance(found.goal, GoalForecast)
    return found.goal


def course_of(declaration: Declaration, rate: float | None = None) -> GoalCourse:
    course = GoalCourse.of(declaration, Ramp.of(declaration, rate))
    assert isinstance(course, GoalCourse)
    return course


@pytest.fixture(scope="module")
def classic() -> GoalForecast:
    return goal_of(forecast(CLASSIC))


@pytest.fixture(scope="module")
def ramped() -> Forecast:
    return forecast(RAMPED, 50.0)


def test_one_look_needs_what_the_textbook_says(classic):
    assert classic.alpha == 0.025
    assert classic.at_one_look[1].units == pytest.approx(2 * 14_748, abs=1)


def test_looking_on_costs_more_open_ended_than_bounded(classic):
    for once, open_ended, bounded in zip(
        classic.at_one_look, classic.open_ended, classic.bounded, strict=True
    ):
        assert once.units < bounded.units < open_ended.units


def test_a_horizon_costs_a_twentieth_and_saves_a_fifth_on_average(classic):
    once = classic.at_one_look[1].units
    assert classic.bounded[1].compared / once == pytest.approx(1.055, abs=0.003)
    assert classic.expected[Mode.BOUNDED] / once == pytest.approx(0.771, abs=0.003)


def test_an_open_ended_test_costs_what_its_own_boundary_says(classic):
    # 1.66 for one mixture tuned to the effect; several scales cost a little more.
    once = classic.at_one_look[1].units
    assert 1.6 < classic.open_ended[1].units / once < 1.95
    assert 1.05 < classic.expected[Mode.OPEN_ENDED] / once < 1.35


def test_stages_add_up(ramped):
    goal = goal_of(ramped)
    for need in (*goal.at_one_look, *goal.open_ended, *goal.bounded):
        assert sum(need.stages) == need.units
        assert need.compared < need.units


def test_a_stage_lasts_its_part_of_the_runtime_where_much_comes(ramped):
    assert [each.seconds for each in ramped.stages] == [20.0, 20.0, 20.0]
    assert [each.units for each in ramped.stages] == [1_000, 1_000, 1_000]
    assert [each.challenger_units for each in ramped.stages] == [50, 200, 250]
    assert {each.held_by for each in ramped.stages} == {HeldBy.RUNTIME}


def test_a_stage_lasts_for_its_units_where_little_comes():
    ramp = Ramp.of(RAMPED, 0.1)
    assert [rung.least for rung in ramp.rungs] == pytest.approx([200.0, 200.0, 200.0])
    assert {rung.held_by for rung in ramp.rungs} == {HeldBy.UNITS}
    assert ramp.seconds(200.0) == pytest.approx(2_000.0)


def test_power_grows_along_the_ramp(ramped):
    for powers in ([e.open_ended for e in ramped.stages], [e.bounded for e in ramped.stages]):
        assert powers == sorted(powers)


def test_a_ramp_with_veterans_needs_more_than_half_and_half(ramped, classic):
    assert goal_of(ramped).bounded[1].units > 1.4 * classic.bounded[1].units


def test_several_challengers_share_error_rate_and_traffic(classic):
    two = course_of(replace(CLASSIC, challengers=(Version(2), Version(3))))
    assert two.alpha == 0.0125
    assert two.units(1.0) > 1.5 * classic.at_one_look[1].units


def test_time_is_told_where_traffic_is_known_and_only_there(classic, ramped):
    assert all(need.seconds is None for need in classic.open_ended)
    need = goal_of(ramped).open_ended[1]
    assert need.seconds == pytest.approx(need.units / 50.0, rel=0.001)


def test_nothing_is_promoted_before_its_minimum_runtime():
    assert course_of(CLASSIC, 1e6).need(0.8, 1.055).seconds == 60.0


def test_late_labels_are_waited_for():
    window = timedelta(hours=24)
    late = replace(CLASSIC, goal=replace(TENTH, metric=replace(TENTH.metric, window=window)))
    soon, then = (course_of(each, 500.0).need(0.8, 1.055) for each in (CLASSIC, late))
    assert then.units == soon.units
    assert then.seconds == pytest.approx(soon.units / 500.0 + 86_400.0, abs=1.0)


def test_a_declared_horizon_has_a_probability(classic):
    need = classic.bounded[1].compared
    assert course_of(CLASSIC).within(need).decided[-1] == pytest.approx(0.8, abs=0.005)


def test_too_short_a_horizon_is_warned_of():
    warning = warning_for(replace(CLASSIC, horizon=Horizon(5_000)), 50.0)
    assert warning is not None
    assert "The horizon of 5,000 units reaches a verdict with" in warning


def test_too_little_traffic_is_warned_of_and_enough_is_not():
    assert warning_for(CLASSIC, 50.0) is None
    warning = warning_for(CLASSIC, 0.01)
    assert warning is not None
    assert warning.startswith("At 36 units an hour this experiment reaches a verdict with 50%")
    assert "it ends after 7 days" in warning


STARS = Metric("stars", Score(1.0, 5.0, 1.0))
COST = Metric("cost", Mean(0.0, 100.0))
TOKENS = Metric("tokens", Ratio())


@pytest.mark.parametrize("metric", [STARS, COST, TOKENS], ids=lambda metric: metric.name)
def test_a_spread_takes_the_place_of_a_rate(metric):
    known = Goal(metric, Direction.INCREASE, 0.05, baseline=4.0, spread=1.0)
    course = course_of(replace(CLASSIC, goal=known))
    # Both arms: 2 * (z.025 + z.2)^2 * 2 * 1.0^2 / 0.2^2.
    assert course.units(1.0) == pytest.approx(784.9, abs=0.1)
    assert 1.5 < course.open_ended().sample_for(0.8) < 2.1


@pytest.mark.parametrize(
    ("goal", "missing"),
    [
        (replace(TENTH, baseline=None), "`baseline: 5%`"),
        (Goal(STARS, Direction.INCREASE, 0.05), "`baseline: 12.5, spread: 3.2`"),
        (Goal(COST, Direction.INCREASE, 0.05, baseline=4.0), "`spread: 3.2`"),
        (Goal(Metric(LATENCY, Quantile(0.99)), Direction.DECREASE, 0.1), "tiltyard simulate"),
    ],
    ids=["share", "score", "mean", "quantile"],
)
def test_what_is_missing_is_said_and_nothing_is_made_up(goal, missing):
    found = forecast(replace(CLASSIC, goal=goal), 50.0)
    assert isinstance(found.goal, Insufficient)
    assert missing in found.goal.reason
    assert found.warning is None
    assert [each.open_ended for each in found.stages] == [None]


@given(effect=st.floats(0.03, 0.3), more=st.floats(1.1, 3.0), shares=st.sampled_from([HALF, RAMP]))
@settings(max_examples=20)
def test_a_larger_effect_never_needs_more(effect, more, shares):
    def fixed(of: float) -> float:
        declared = replace(CLASSIC, ramp=shares, goal=replace(TENTH, min_effect=of))
        return course_of(declared).units(1.0)

    assert fixed(effect * more) < fixed(effect)


@given(rate=st.floats(1e-3, 1e5), more=st.floats(1.0, 100.0))
def test_more_traffic_never_takes_longer(rate, more):
    def longest(at: float) -> float:
        seconds = course_of(RAMPED, at).need(0.8, 1.5).seconds
        assert seconds is not None
        return seconds

    assert longest(rate * more) <= longest(rate) * (1 + 1e-9)


@given(
    declaration=declarations_with_users(),
    rate=st.none() | st.floats(1e-6, 1e6),
    amount=st.floats(0, 1e7),
)
def test_parts_of_any_ramp_add_up_and_are_found_again(declaration, rate, amount):
    ramp = Ramp.of(declaration, rate)
    assert sum(ramp.parts(amount)) == pytest.approx(amount)
    for each in (ramp.compared, ramp.informations(1.0, 2.0)):
        assert ramp.until(ramp.gathered(amount, each), each) == pytest.approx(amount, abs=1e-6)
    assert all(0 < rung.lane < 1 and 0 < rung.rest < 1 for rung in ramp.rungs)
    assert all(rung.share < WHOLE for rung in ramp.rungs)
