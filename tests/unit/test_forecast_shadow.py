"""A forecast of the shadow: how long it takes to have pairs, and to show what is asked of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.assessment import assess
from experiments.metric import Direction, Goal
from experiments.model import BasisPoints, Limits
from experiments.planning import forecast, warning_for
from tests.unit.declared import CORRECT, DECLARATION
from tests.unit.shadowed import ALONE, BEFORE_A_RAMP, SEVERAL, SHADOW, paired, seen

KNOWN = replace(BEFORE_A_RAMP, goal=Goal(CORRECT, Direction.INCREASE, 0.1, baseline=0.6))


def shadow_of(declaration, rate=None):
    found = forecast(declaration, rate).shadow
    assert found is not None
    return found


def test_without_a_shadow_there_is_no_forecast_of_it():
    assert forecast(DECLARATION).shadow is None


def test_pairs_come_of_the_share_alone_and_each_challenger_has_its_own():
    assert shadow_of(BEFORE_A_RAMP).least.units == 2_500
    several = shadow_of(replace(BEFORE_A_RAMP, challengers=SEVERAL)).least
    assert (several.pairs, several.units) == (500, 7_500)


def test_where_the_traffic_is_known_everything_has_its_time():
    found = shadow_of(BEFORE_A_RAMP, 25.0)
    assert found.least.seconds == 100.0
    assert all(need.seconds == need.units / 25.0 for need in (*found.needs, found.harm))
    assert shadow_of(BEFORE_A_RAMP).least.seconds is None


def test_pairs_that_come_fast_wait_for_their_part_of_the_runtime():
    found = shadow_of(BEFORE_A_RAMP, 1e6).least
    assert (found.what, found.seconds) == ("its part of min_runtime", 15.0)


def test_the_agreement_takes_longer_the_nearer_it_is_to_what_is_declared():
    half, whole = shadow_of(BEFORE_A_RAMP).needs
    assert half.what == "agreement of 95 % shown, if 97.5 % agree"
    assert whole.what == "agreement of 95 % shown, if 100 % agree"
    assert half.pairs > 3 * whole.pairs
    for need, differ in ((half, 0.025), (whole, 0.0)):
        for pairs, reached in ((need.pairs * 0.9, False), (need.pairs * 1.05, True)):
            evidence = seen(paired(round(pairs), differ=round(differ * pairs)))
            found = assess(BEFORE_A_RAMP, evidence).challengers[0].in_shadow
            assert found.agreement.reached is reached


def test_agreement_that_is_not_asked_is_not_foretold():
    plain = replace(BEFORE_A_RAMP, shadow=replace(SHADOW, agreement=None))
    assert shadow_of(plain).needs == ()


def test_where_nobody_meets_it_guardrails_have_to_be_shown_to_be_kept():
    kept = shadow_of(ALONE).needs[-1]
    assert kept.what == "guardrails shown to be kept, if no answer is bad"
    assert 400 < kept.pairs < 700
    assert kept.what not in [need.what for need in shadow_of(BEFORE_A_RAMP).needs]


def test_gross_harm_is_found_before_there_are_pairs_enough():
    assert shadow_of(ALONE).harm.pairs < shadow_of(BEFORE_A_RAMP).harm.pairs < 200


def test_without_users_there_is_nothing_else_to_foretell():
    found = forecast(ALONE, 50.0)
    assert (found.stages, found.goal, found.guardrails, found.harm) == ((), None, (), ())
    assert found.warning is None


@pytest.mark.parametrize("declaration", [KNOWN, ALONE])
def test_traffic_too_thin_for_the_pairs_is_warned_of(declaration):
    hour = replace(declaration, limits=Limits(200, timedelta(0), timedelta(hours=1)))
    assert warning_for(hour, 1 / 60).startswith(
        "At 1 unit a minute there are 500 pairs in the shadow after 42 hours; the experiment ends "
        "after 60 minutes. Repeat a larger share"
    )


def test_the_time_in_the_shadow_is_time_that_the_ramp_has_not():
    """One unit a second: 500 pairs of a hundredth of them take 14 hours, the goal less than one."""
    thin = replace(KNOWN, shadow=replace(SHADOW, share=BasisPoints(100)))
    for hours, warns in ((14, True), (15, False)):
        limits = Limits(200, timedelta(0), timedelta(hours=hours))
        assert (warning_for(replace(thin, limits=limits), 1.0) is not None) is warns
