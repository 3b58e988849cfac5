"""What the tests make of units too young, of other challengers, and of values below 0."""

from dataclasses import replace
from datetime import timedelta
from math import isfinite

import pytest

from experiments.assessment import assess
from experiments.evidence import Evidence, Sample, StageEvidence, Tally, gather
from experiments.methods.choice import method_of
from experiments.metric import (
    Binary,
    Count,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Per,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.model import BasisPoints, Declaration, Horizon, Variant
from experiments.report import report
from experiments.reported import Range
from experiments.stats.intervals import Insufficient
from experiments.stats.moments import Moments
from experiments.store import Cell, Readings
from experiments.unit import RequestUnit
from registry.refs import Version
from tests.unit.samples import DECLARATION, START, stages_until

HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
FIRST, SECOND = Version(2), Version(3)
COMPLAINTS = Metric("complaints", Count(), window=DAY)
HARMLESS = Guardrail(COMPLAINTS, Worse.HIGHER, max_ratio=1.5, negligible=0.01)
ONE_MORE = Guardrail(COMPLAINTS, Worse.HIGHER, max_difference=0.01)
RUDE = Guardrail(Metric("rude", Binary()), Worse.HIGHER, max_ratio=1.25, baseline=0.2)


def complaining(declaration: Declaration, hours: int) -> Evidence:
    """5 % of the challenger's units complain within a day, 2 % of the champion's."""
    assert declaration.cohort is not None
    counts: dict[Cell, int] = {}
    for hour in range(hours):
        cohort = int((START + hour * HOUR).timestamp() // declaration.cohort.total_seconds())
        for variant, units, rate in (
            (Variant.CHALLENGER, 400, 0.05),
            (Variant.CHAMPION, 7600, 0.02),
        ):
            version = FIRST if variant is Variant.CHALLENGER else Version(1)
            for counter, count in (("units", units), ("complaints:1", round(units * rate))):
                cell = Cell(declaration.name, 0, variant, version, counter, 0, cohort)
                counts[cell] = counts.get(cell, 0) + count
    stages = stages_until(0, declaration=declaration)
    now = START + hours * HOUR
    return gather(declaration, stages, Readings(counts), now, rollback_target_hot=True)


@pytest.mark.parametrize("guardrail", [HARMLESS, ONE_MORE], ids=["negligible", "difference"])
@pytest.mark.parametrize("hours", [1, 20, 30, 60])
def test_units_too_young_to_complain_do_not_speak_for_a_challenger(guardrail, hours) -> None:
    declaration = replace(DECLARATION, guardrails=(guardrail,))
    found = assess(declaration, complaining(declaration, hours)).of(FIRST)
    assert not found.not_inferior[0].reached
    assert found.any_harm.reached == (hours > 24)


def test_a_share_is_one_of_the_units_whose_window_has_closed() -> None:
    declaration = replace(DECLARATION, guardrails=(HARMLESS,))
    evidence = complaining(declaration, 60)
    (arm,) = evidence.stages[0].challengers.values()
    assert arm.units_of("complaints") < arm.units == arm.units_of("correct")
    level = method_of(HARMLESS, returning=True).level(
        [arm.sample("complaints")], arm.units_of("complaints")
    )
    assert level.value == pytest.approx(0.05)


def test_units_that_reported_no_time_do_not_count_as_fast() -> None:
    fast = Guardrail(Metric("render_ms", Slow(250)), Worse.HIGHER, max_difference=0.05)
    slow = Sample({1: 400, 0: 600})
    level = method_of(fast, returning=True).level([slow], 10_000)
    assert level.value == pytest.approx(0.4)
    champion = Sample({1: 200, 0: 800})
    found = assess(
        replace(DECLARATION, guardrails=(fast,)),
        one_stage(
            Tally(units=10_000, samples={fast.key: champion}),
            {FIRST: Tally(units=10_000, samples={fast.key: slow})},
        ),
    ).of(FIRST)
    assert not found.not_inferior[0].reached
    assert found.any_harm.reached


def one_stage(champion: Tally, challengers: dict[Version, Tally]) -> Evidence:
    return Evidence((StageEvidence(0, champion, challengers, odds=(1, 2)),))


SEVERAL = replace(
    DECLARATION,
    challengers=(FIRST, SECOND),
    unit=RequestUnit(),
    ramp=(BasisPoints(6666),),
    goal=Goal(DECLARATION.goal.metric, DECLARATION.goal.direction, 0.1, baseline=0.3),
    guardrails=(RUDE,),
)


def answered(correct: int, rude: int, units: int = 4000) -> Tally:
    samples = {
        "correct": Sample({1: correct, 0: units - correct}),
        "rude": Sample({1: rude, 0: units - rude}),
    }
    return Tally(units=units, samples=samples)


CHAMPION = answered(1200, 800)
BARELY = next(
    answered(correct, 600)
    for correct in range(1200, 2000)
    if assess(
        replace(SEVERAL, challengers=(FIRST,)),
        one_stage(CHAMPION, {FIRST: answered(correct, 600)}),
    )
    .of(FIRST)
    .superior.reached
)
"""Better than the champion just beyond doubt, were it alone."""


def test_one_challenger_may_not_err_at_the_goal_and_another_at_a_guardrail() -> None:
    """Adjusted test by test each would err as often as both together may."""
    better_but_rude = answered(2400, 1000)
    evidence = one_stage(CHAMPION, {FIRST: BARELY, SECOND: better_but_rude})
    found = assess(SEVERAL, evidence)
    assert found.of(SECOND).superior.reached
    assert not found.of(SECOND).not_inferior[0].reached
    assert not found.of(FIRST).superior.reached


def test_a_challenger_that_passes_everything_is_no_hindrance_to_the_other() -> None:
    evidence = one_stage(CHAMPION, {FIRST: BARELY, SECOND: answered(2400, 400)})
    found = assess(SEVERAL, evidence)
    assert found.of(FIRST).superior.reached
    assert found.of(SECOND).superior.reached


def test_within_a_horizon_each_challenger_has_its_part_of_the_error_rate() -> None:
    evidence = one_stage(CHAMPION, {FIRST: BARELY, SECOND: answered(2400, 400)})
    alone = replace(SEVERAL, challengers=(FIRST,), horizon=Horizon(100_000))
    together = replace(SEVERAL, horizon=Horizon(100_000))
    one = assess(alone, evidence).of(FIRST).not_inferior[0]
    other = assess(together, evidence).of(FIRST).not_inferior[0]
    assert other.log_e == pytest.approx(one.log_e - 0.6931471805599453)


def test_what_happens_in_the_lane_of_a_dropped_challenger_says_nothing() -> None:
    found = {
        assess(SEVERAL, one_stage(CHAMPION, {FIRST: BARELY, SECOND: tally}), dropped=(SECOND,))
        for tally in (Tally(), answered(0, 4000), answered(4000, 0))
    }
    assert len(found) == 1


def test_a_drop_is_no_evidence_about_the_sample_ratio() -> None:
    skewed = one_stage(CHAMPION, {FIRST: answered(1000, 700, 3500), SECOND: answered(1200, 800)})
    before = assess(SEVERAL, skewed).sample_ratio
    after = assess(SEVERAL, skewed, dropped=(SECOND,)).sample_ratio
    assert after.log_e <= before.log_e


@pytest.mark.parametrize("worse", Worse)
@pytest.mark.parametrize(
    ("metric", "sample"),
    [
        (Metric("profit", Mean(-100.0, 100.0)), Sample(moments={0: Moments(50_000, -10.0, 5e4)})),
        (Metric("mood", Score(-2.0, 2.0, 1.0)), Sample({0: 30_000, 1: 10_000, 2: 10_000})),
        (
            Metric("margin", Ratio(), Per.REQUEST),
            Sample(moments={g: Moments(500, -2.0 + 0.01 * (g % 5), 0.0, 1.0) for g in range(100)}),
        ),
    ],
    ids=["mean", "score", "ratio"],
)
def test_below_zero_a_relative_margin_finds_no_harm_where_there_is_no_difference(
    metric, sample, worse
) -> None:
    guardrail = Guardrail(metric, worse, max_ratio=1.2, baseline=1.0)
    declaration = replace(DECLARATION, unit=RequestUnit(), guardrails=(guardrail,))
    arm = Tally(units=50_000, samples={guardrail.key: sample})
    assert not assess(declaration, one_stage(arm, {FIRST: arm})).of(FIRST).any_harm.reached


@pytest.mark.parametrize("baseline", [None, 1e-300])
def test_a_rate_may_have_a_margin_of_any_size(baseline) -> None:
    rude = Metric("rude", Binary())
    guardrail = Guardrail(rude, Worse.HIGHER, max_ratio=1000.0, baseline=baseline)
    declaration = replace(DECLARATION, guardrails=(guardrail,))
    evidence = one_stage(answered(1200, 800), {FIRST: answered(1200, 900)})
    found = report(declaration, evidence, assess(declaration, evidence))
    (each,) = (m for m in found.challengers[0].metrics if m.metric == "rude")
    assert isinstance(each.effects[0].interval, Range)
    assert not isinstance(each.shrunk, Insufficient)


def test_bets_on_a_rate_next_to_nothing_stay_finite() -> None:
    rare = Guardrail(Metric("rare", Count()), Worse.HIGHER, max_difference=1e-10, baseline=1e-320)
    declaration = replace(DECLARATION, guardrails=(rare,))
    arm = Tally(units=1000, samples={rare.key: Sample({1: 3})})
    found = assess(declaration, one_stage(arm, {FIRST: arm})).of(FIRST)
    assert all(isfinite(finding.log_e) for finding in (*found.harm, *found.not_inferior))
