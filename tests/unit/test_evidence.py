"""Counters become evidence: each count in its place, veterans in theirs, nothing made up."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest

from experiments.assessment import assess
from experiments.evidence import LATE, LOST, Evidence, StageEvidence, Tally, gather
from experiments.experiment import Experiment
from experiments.model import BasisPoints, ExperimentName, HeaderUnit, RequestUnit, Variant
from experiments.store import Cell
from registry.refs import Version
from tests.unit.samples import (
    DECLARATION,
    ERRORS,
    RAMP,
    SLOW,
    START,
    evidence_of,
    stages_until,
    tally,
)

NAME = DECLARATION.name
COUNTERS = ("requests", "failovers", "units", ERRORS, SLOW, "correct:1", "correct:0")


def gathered(counters, *, rung=1, hot=True):
    return gather(DECLARATION, stages_until(rung), counters, rollback_target_hot=hot)


def test_without_counters_there_are_stages_of_nothing() -> None:
    evidence = gathered({}, rung=2)
    assert [(s.stage, s.share, s.floor) for s in evidence.stages] == [
        (0, 500, 0),
        (1, 2500, 500),
        (2, 5000, 2500),
    ]
    nothing = Tally(bad={ERRORS: 0, SLOW: 0})
    assert all((s.champion, s.challenger, s.veteran) == (nothing,) * 3 for s in evidence.stages)
    assert (evidence.lost_bytes, evidence.late) == (0, 0)


def test_every_counter_of_every_stage_and_variant_has_a_place_of_its_own() -> None:
    places = list(product(range(2), Variant, COUNTERS))
    counters = {Cell(NAME, *place): 1 + number for number, place in enumerate(places)}
    found = gathered(counters)
    for stage in found.stages:
        for variant in Variant:
            seen = getattr(stage, variant)
            wanted = [counters[Cell(NAME, stage.stage, variant, each)] for each in COUNTERS]
            assert [
                seen.requests,
                seen.failovers,
                seen.units,
                seen.bad[ERRORS],
                seen.bad[SLOW],
                seen.successes,
                seen.failures,
            ] == wanted


def test_what_nobody_declared_is_not_looked_at() -> None:
    strangers = {
        Cell(NAME, 0, Variant.CHALLENGER, "clicked:1"): 5,
        Cell(NAME, 0, Variant.CHALLENGER, "latency_ms>99"): 5,
        Cell(NAME, 7, Variant.CHALLENGER, "units"): 5,
        Cell(ExperimentName("other"), 0, Variant.CHALLENGER, "units"): 5,
    }
    assert gathered(strangers) == gathered({})


def test_what_was_lost_or_late_counts_wherever_it_was_charged() -> None:
    counters = {
        Cell(NAME, 0, Variant.CHAMPION, LOST): 100,
        Cell(NAME, 1, Variant.CHAMPION, LOST): 11,
        Cell(NAME, 1, Variant.CHALLENGER, LATE): 2,
        Cell(NAME, 1, Variant.VETERAN, LATE): 1,
    }
    evidence = gathered(counters)
    assert (evidence.lost_bytes, evidence.late) == (111, 3)


@pytest.mark.parametrize("hot", [True, False])
def test_whether_the_champion_is_hot_is_passed_on(hot) -> None:
    assert gathered({}, hot=hot).rollback_target_hot is hot


@pytest.mark.parametrize("cuts", [(0, 1), (0, 500), (500, 2500), (4999, 5000), (9998, 9999)])
def test_the_probability_is_the_challengers_part_of_those_who_are_no_veterans(cuts) -> None:
    floor, share = cuts
    stage = StageEvidence(1, BasisPoints(share), Tally(), Tally(), floor=BasisPoints(floor))
    fresh = range(floor, 10_000)
    wanted = Fraction(sum(bucket < share for bucket in fresh), len(fresh))
    assert stage.probability == pytest.approx(float(wanted), rel=1e-15)
    assert 0.0 < stage.probability < 1.0


def test_the_stages_of_a_ramp_leave_the_share_that_the_buckets_have() -> None:
    """Never to have met the challenger is to have a bucket beyond the last cut."""
    experiment = Experiment.begin(DECLARATION, Version(1), START)
    for rung in range(1, len(RAMP)):
        experiment = experiment.at_rung(rung, START, reasons=(), receipt="r")
    evidence = gather(DECLARATION, experiment.stages, {}, rollback_target_hot=True)
    never = 1.0
    for stage in evidence.stages:
        never *= 1.0 - stage.probability
        assert never == pytest.approx(1.0 - stage.share / 10_000, rel=1e-14)


@pytest.mark.parametrize("unit", [HeaderUnit("x-unit-id"), RequestUnit()])
def test_only_units_that_return_become_veterans(unit) -> None:
    experiment = Experiment.begin(replace(DECLARATION, unit=unit), Version(1), START)
    experiment = experiment.at_rung(1, START, reasons=(), receipt="r")
    evidence = gather(DECLARATION, experiment.stages, {}, rollback_target_hot=True)
    wanted = 0.25 if unit == RequestUnit() else 2000 / 9500
    assert evidence.stages[1].probability == pytest.approx(wanted, rel=1e-15)


def test_units_of_the_challenger_are_counted_without_veterans() -> None:
    pairs = (tally(30), tally(600)), (tally(90), tally(400))
    evidence = evidence_of(*pairs, veterans=tally(25))
    assert evidence.challenger_units() == 120
    assert [evidence.challenger_units(stage) for stage in (0, 1, 2)] == [30, 90, 0]
    assert Evidence(()).challenger_units() == 0


def test_no_test_looks_at_veterans() -> None:
    pairs = [
        (tally(50, successes=30, failures=20, errors=3), tally(950, successes=500, failures=400))
    ] * 2
    bad = tally(10_000, failures=10_000, errors=10_000, slow=10_000)
    good = tally(10_000, successes=10_000)
    found = {assess(DECLARATION, evidence_of(*pairs, veterans=v)) for v in (Tally(), bad, good)}
    assert len(found) == 1
