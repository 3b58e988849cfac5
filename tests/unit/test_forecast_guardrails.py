"""A forecast of guardrails: when they are shown to be kept, and how soon gross harm is found."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from experiments.metric import (
    LATENCY,
    Binary,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
    Worse,
)
from experiments.model import BasisPoints, Limits, Segments
from experiments.planning import Found, Harm, Insufficient, Safety, warning_for
from experiments.planning.guardrails import forecast_harm, forecast_safety
from experiments.planning.ramp import Ramp
from experiments.unit import RequestUnit
from registry.refs import Version
from tests.unit.declared import DECLARATION, FAST, FEW_ERRORS, declarations

LIMITS = Limits(200, timedelta(seconds=60), timedelta(days=7))
CANARY = replace(
    DECLARATION,
    unit=RequestUnit(),
    ramp=(BasisPoints(500), BasisPoints(5_000)),
    goal=Goal(Metric("sold", Binary()), Direction.INCREASE, 0.1, baseline=0.02),
    guardrails=(replace(FAST, baseline=0.02),),
    limits=LIMITS,
)


def safety(guardrail: Guardrail) -> Safety:
    return forecast_safety(CANARY, Ramp.of(CANARY, 50.0), guardrail)


def harms(asked: Goal | Guardrail, declaration=CANARY) -> dict[str, Harm]:
    if isinstance(asked, Guardrail):
        declaration = replace(declaration, guardrails=(asked,))
    found = forecast_harm(declaration, Ramp.of(declaration, 50.0), asked)
    return {each.what: each for each in found}


def units(harm: Harm) -> int:
    assert isinstance(harm.found, Found)
    return harm.found.units


KEPT = [
    replace(FAST, baseline=0.02),
    replace(FEW_ERRORS, baseline=0.02),
    Guardrail(Metric("ok", Binary()), Worse.LOWER, max_ratio=1.2, baseline=0.4),
    Guardrail(Metric("ok", Binary()), Worse.LOWER, max_difference=0.05, baseline=0.4),
    Guardrail(
        Metric("stars", Score(1.0, 5.0, 1.0)),
        Worse.LOWER,
        max_difference=0.2,
        baseline=4.0,
        spread=1.1,
    ),
    Guardrail(
        Metric("cost", Mean(0.0, 99.0)), Worse.HIGHER, max_ratio=1.1, baseline=4.0, spread=3.0
    ),
    Guardrail(Metric("tokens", Ratio()), Worse.EITHER, max_ratio=1.1, baseline=4.0, spread=3.0),
]


@pytest.mark.parametrize("guardrail", KEPT, ids=lambda g: f"{g.key}-{g.max_ratio}")
def test_more_certainty_takes_more_units_than_less_and_than_one_look(guardrail):
    found = safety(guardrail)
    assert not isinstance(found.kept, Insufficient)
    assert not isinstance(found.at_one_look, Insufficient)
    for less, more in pairwise(found.kept):
        assert less.units < more.units
    for once, kept in zip(found.at_one_look, found.kept, strict=True):
        assert sum(kept.stages) == kept.units
        assert once.units < kept.units


def test_a_wider_margin_is_shown_sooner():
    narrow, wide = (safety(replace(FAST, baseline=0.02, max_ratio=m)) for m in (1.2, 3.0))
    assert wide.kept[1].units < narrow.kept[1].units


def test_without_a_baseline_only_a_challenger_without_bad_units_can_be_foreseen():
    found = safety(FEW_ERRORS)
    assert isinstance(found.kept, Insufficient)
    assert "`baseline: 5%`" in found.kept.reason
    assert found.if_none is not None
    assert 500 < found.if_none.units < 5_000


def test_a_quantile_is_left_to_the_simulation():
    quantile = Guardrail(Metric(LATENCY, Quantile(0.99)), Worse.HIGHER, max_ratio=1.5)
    found = safety(quantile)
    assert isinstance(found.kept, Insufficient)
    assert "tiltyard simulate" in found.kept.reason
    assert found.if_none is None
    (harm,) = harms(quantile).values()
    assert isinstance(harm.found, Insufficient)


def test_a_drop_to_nothing_is_found_within_400_units_of_the_canary():
    assert units(harms(CANARY.goal)["from 2 % to none"]) <= 400


def test_a_dead_challenger_is_found_in_a_handful_of_units_even_without_a_baseline():
    assert units(harms(FEW_ERRORS)["from none to every unit"]) <= 10


def test_the_worse_harm_is_found_sooner():
    found = harms(replace(FAST, baseline=0.02))
    assert units(found["from 2 % to every unit"]) < units(found["2 times the champion's"])


def test_harm_that_the_margin_allows_is_not_looked_for():
    assert "4 times the champion's" in harms(replace(FEW_ERRORS, baseline=0.02))
    wide = Guardrail(Metric("ok", Binary()), Worse.LOWER, max_difference=0.3, baseline=0.4)
    assert harms(wide)["1/2 times the champion's"].found is None


def test_whatever_shares_the_error_rate_makes_harm_slower_to_find():
    alone = units(harms(CANARY.goal)["from 2 % to none"])
    shared = replace(CANARY, segments=Segments("x-land", ("de", "fr")))
    several = replace(CANARY, challengers=(Version(2), Version(3)))
    assert units(harms(CANARY.goal, shared)["from 2 % to none"]) > alone
    assert units(harms(CANARY.goal, several)["from 2 % to none"]) > alone


@given(declaration=declarations(), rate=st.floats(1e-3, 1e5))
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
def test_whatever_may_be_declared_can_be_started_with_a_warning_or_without(declaration, rate):
    if declaration.goal is not None:
        effect = max(declaration.goal.min_effect, 1e-6)
        declaration = replace(declaration, goal=replace(declaration.goal, min_effect=effect))
    found = warning_for(declaration, rate)
    assert found is None or found.endswith(".")
