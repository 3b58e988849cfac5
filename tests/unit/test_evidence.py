"""Readings become evidence: each count in its place, veterans in theirs, nothing made up."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import product

import pytest

from experiments.assessment import assess
from experiments.evidence import LATE, LOST, Evidence, Matured, Sample, Tally, gather
from experiments.experiment import Experiment
from experiments.metric import Binary, Goal, Mean, Metric
from experiments.model import BasisPoints, ExperimentName, Segments, Stage, Variant
from experiments.stats.moments import Moments
from experiments.store import Cell, Readings
from experiments.unit import HeaderUnit, RequestUnit
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
OLD, (NEW,), OTHER = Version(1), DECLARATION.challengers, Version(8)
COUNTERS = ("requests", "failovers", "units", f"{ERRORS}:1", f"{SLOW}:1", "correct:1", "correct:0")


def cell(stage, variant, counter, *, version=None, segment=0, cohort=0, name=NAME):
    usual = OLD if variant is Variant.CHAMPION else NEW
    return Cell(name, stage, variant, version or usual, counter, segment, cohort)


def gathered(counts, *, moments=None, declaration=DECLARATION, now=START, rung=1, hot=True):
    stages = stages_until(rung, declaration=declaration)
    readings = Readings(counts, moments or {})
    return gather(declaration, stages, readings, now, rollback_target_hot=hot)


def arms(stage):
    challenger = next(iter(stage.challengers.values()))
    return {
        Variant.CHAMPION: stage.champion,
        Variant.CHALLENGER: challenger,
        Variant.VETERAN: stage.veterans,
    }


def test_without_readings_there_are_stages_of_nothing() -> None:
    evidence = gathered({}, rung=2)
    assert [stage.stage for stage in evidence.stages] == [0, 1, 2]
    assert all(arm == Tally() for stage in evidence.stages for arm in arms(stage).values())
    assert (evidence.lost_bytes, evidence.late) == (0, 0)


def test_every_counter_of_every_stage_and_variant_has_a_place_of_its_own() -> None:
    places = list(product(range(2), Variant, COUNTERS))
    counts = {cell(*place): 1 + number for number, place in enumerate(places)}
    for stage in gathered(counts).stages:
        for variant, seen in arms(stage).items():
            wanted = [counts[cell(stage.stage, variant, each)] for each in COUNTERS]
            correct = seen.sample("correct").counts
            assert [
                seen.requests,
                seen.failovers,
                seen.units,
                seen.sample(ERRORS).counts[1],
                seen.sample(SLOW).counts[1],
                correct[1],
                correct[0],
            ] == wanted


def test_what_nobody_declared_is_not_looked_at() -> None:
    strangers = {
        cell(0, Variant.CHALLENGER, "clicked:1"): 5,
        cell(0, Variant.CHALLENGER, "latency_ms>99:1"): 5,
        cell(0, Variant.CHALLENGER, "units", version=OTHER): 5,
        cell(7, Variant.CHALLENGER, "units"): 5,
    }
    assert gathered(strangers) == gathered({})


def test_what_was_lost_or_late_counts_wherever_it_was_charged() -> None:
    evidence = gathered(
        {
            cell(0, Variant.CHAMPION, LOST): 100,
            cell(1, Variant.CHAMPION, LOST): 11,
            cell(1, Variant.CHALLENGER, LATE): 2,
            cell(1, Variant.VETERAN, LATE): 1,
        }
    )
    assert (evidence.lost_bytes, evidence.late) == (111, 3)


@pytest.mark.parametrize("hot", [True, False])
def test_whether_the_champion_is_hot_is_passed_on(hot) -> None:
    assert gathered({}, hot=hot).rollback_target_hot is hot


# Several challengers.


def test_each_challenger_has_an_arm_of_its_own() -> None:
    two = replace(DECLARATION, challengers=(NEW, OTHER))
    counts = {
        cell(0, Variant.CHALLENGER, "units"): 3,
        cell(0, Variant.CHALLENGER, "units", version=OTHER): 4,
        cell(0, Variant.VETERAN, "units", version=OTHER): 5,
        cell(0, Variant.CHAMPION, "units"): 6,
    }
    (stage, _) = gathered(counts, declaration=two).stages
    assert {version: arm.units for version, arm in stage.challengers.items()} == {NEW: 3, OTHER: 4}
    assert (stage.champion.units, stage.veterans.units) == (6, 5)


@pytest.mark.parametrize("cuts", [(0, 1), (0, 500), (500, 2500), (4999, 5000), (9998, 9999)])
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_the_probability_is_the_challengers_part_of_those_it_is_compared_among(cuts, lanes) -> None:
    """Buckets times lanes, counted one by one; a lane is chosen apart from the bucket."""
    floor, share = cuts
    challengers = tuple(Version(2 + lane) for lane in range(lanes))
    stage = Stage(1, 1, BasisPoints(share), START, challengers, BasisPoints(floor))
    met = (share - floor) * 1
    champion = (10_000 - share) * lanes
    assert stage.probability == Fraction(met, met + champion)


def test_the_stages_of_a_ramp_leave_the_share_that_the_buckets_have() -> None:
    """Never to have met the challenger is to have a bucket beyond the last cut."""
    experiment = Experiment.begin(DECLARATION, OLD, START)
    never = 1.0
    for rung in range(len(RAMP)):
        if rung:
            experiment = experiment.at_rung(rung, START, reasons=(), receipt="r")
        never *= 1.0 - float(experiment.stage.probability)
        assert never == pytest.approx(1.0 - experiment.stage.share / 10_000, rel=1e-14)


@pytest.mark.parametrize("unit", [HeaderUnit("x-unit-id"), RequestUnit()])
def test_only_units_that_return_become_veterans(unit) -> None:
    experiment = Experiment.begin(replace(DECLARATION, unit=unit), OLD, START)
    experiment = experiment.at_rung(1, START, reasons=(), receipt="r")
    wanted = Fraction(1, 4) if unit == RequestUnit() else Fraction(2000, 9500)
    assert experiment.stages[1].probability == wanted


# Segments.

SEGMENTED = replace(DECLARATION, segments=Segments("x-country", ("de", "fr")))


def test_a_segment_is_seen_alone_and_everybody_together() -> None:
    counts = {
        cell(0, Variant.CHALLENGER, "correct:1", segment=segment): 10**segment
        for segment in range(3)
    }
    evidence = gathered(counts, declaration=SEGMENTED)

    def seen(stages):
        return stages[0].challengers[NEW].sample("correct").counts.get(1, 0)

    assert seen(evidence.stages) == 111
    assert {value: seen(stages) for value, stages in evidence.segments.items()} == {
        "de": 10,
        "fr": 100,
    }


# Late labels.

DAY = timedelta(days=1)
WINDOWED = replace(
    DECLARATION, goal=replace(DECLARATION.goal, metric=Metric("correct", Binary(), window=DAY))
)


def test_a_cohort_is_looked_at_once_its_window_has_closed_and_not_a_moment_before() -> None:
    cohort = WINDOWED.cohort.total_seconds()
    number = int(START.timestamp() // cohort)
    counts = {
        cell(0, Variant.CHALLENGER, "correct:1", cohort=number): 7,
        cell(0, Variant.CHALLENGER, "units", cohort=number): 9,
        cell(0, Variant.CHAMPION, "units", cohort=number + 1): 3,
    }
    closes = (number + 1) * cohort + DAY.total_seconds()

    def at(seconds):
        now = START + timedelta(seconds=seconds - START.timestamp())
        evidence = gathered(counts, declaration=WINDOWED, now=now)
        arm = evidence.stages[0].challengers[NEW]
        return arm.sample("correct").counts.get(1, 0), arm.units, evidence.matured["correct"]

    assert at(closes - 1e-3) == (0, 9, Matured(0, 12))
    assert at(closes) == (7, 9, Matured(9, 12))
    assert at(closes + cohort) == (7, 9, Matured(12, 12))


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert Matured(0, 0).share is None
    assert Matured(1, 4).share == 0.25


# Moments.


def test_moments_of_one_arm_are_merged_over_segments_and_cohorts() -> None:
    metric = Metric("seconds", Mean(0.0, 100.0))
    slow = replace(SEGMENTED, goal=Goal(metric, DECLARATION.goal.direction, 0.01))
    parts = [Moments.of([1.0, 2.0]), Moments.of([9.0])]
    moments = {
        cell(0, Variant.CHAMPION, "seconds:0", segment=segment): part
        for segment, part in enumerate(parts)
    }
    evidence = gathered({}, moments=moments, declaration=slow)
    assert evidence.stages[0].champion.sample("seconds") == Sample(
        {}, {0: parts[0].merged(parts[1])}
    )
    assert evidence.segments["de"][0].champion.sample("seconds") == Sample({}, {0: parts[1]})


def test_units_of_the_challenger_are_counted_without_veterans() -> None:
    pairs = (tally(30), tally(600)), (tally(90), tally(400))
    evidence = evidence_of(*pairs, veterans=tally(25))
    assert evidence.challenger_units(NEW) == 120
    assert [evidence.challenger_units(NEW, stage) for stage in (0, 1, 2)] == [30, 90, 0]
    assert Evidence(()).challenger_units(NEW) == 0


def test_no_test_looks_at_veterans() -> None:
    pairs = [
        (tally(50, successes=30, failures=20, errors=3), tally(950, successes=500, failures=400))
    ] * 2
    bad = tally(10_000, failures=10_000, errors=10_000, slow=10_000)
    good = tally(10_000, successes=10_000)
    found = {assess(DECLARATION, evidence_of(*pairs, veterans=v)) for v in (Tally(), bad, good)}
    assert len(found) == 1


def test_another_experiments_name_is_another_experiment() -> None:
    assert cell(0, Variant.CHAMPION, "units", name=ExperimentName("other")) != cell(
        0, Variant.CHAMPION, "units"
    )
