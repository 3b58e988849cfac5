"""Pairs of answers on their way from the store to a decision, and what is told of them."""

from dataclasses import replace

import pytest

from experiments.assessment import assess
from experiments.evidence import UNITS, gather
from experiments.experiment import Experiment
from experiments.metric import Count, Metric, Quantile, Slow
from experiments.model import Variant
from experiments.pairs import (
    AGREEMENT,
    DIFFERENCE,
    DROPPED,
    LATENCY_DIFFERENCE,
    NO_PAIR,
    PAIRS,
    SLOWER,
    pair_counter,
)
from experiments.report import measure, report
from experiments.shadow_report import DIFFERS
from experiments.stats.intervals import Insufficient
from experiments.stats.moments import Moments
from experiments.stats.paired import Pairs
from experiments.store import Cell, Readings
from registry.refs import Version
from tests.unit.declared import DECLARATION, ERRORS, SECOND, SLOW, START
from tests.unit.shadowed import ALONE, BEFORE_A_RAMP, SEVERAL, paired, plan_in_shadow, seen

BEGUN = Experiment.begin(BEFORE_A_RAMP, Version(1), START)
NOW = START + 60 * SECOND


def cell(counter, *, stage=0, variant=Variant.CHALLENGER, version=2):
    return Cell(BEFORE_A_RAMP.name, stage, variant, Version(version), counter)


SEEN = Readings(
    counts={
        cell(PAIRS): 12,
        cell(DROPPED): 3,
        cell("pair_error:0"): 4,
        cell("pair_error:1"): 3,
        cell("pair_error:2"): 2,
        cell("pair_error:3"): 1,
        cell("pair_slow>250:0"): 9,
        cell("pair_slow>250:1"): 1,
        cell(f"{AGREEMENT}:1"): 6,
        cell(f"{AGREEMENT}:0"): 1,
        cell(f"{SLOWER}:1"): 8,
        cell(f"{SLOWER}:0"): 2,
    },
    moments={
        cell(f"{DIFFERENCE}:1"): Moments(7, 0.5, 1.0),
        cell(f"{LATENCY_DIFFERENCE}:1"): Moments(10, 2.0, 9.0),
    },
)


def gathered(readings, experiment=BEGUN):
    declaration, stages = experiment.declaration, experiment.stages
    return gather(declaration, stages, readings, NOW, rollback_target_hot=True)


def test_every_cell_of_a_pair_finds_its_place():
    found = gathered(SEEN).paired(Version(2))
    assert (found.units, found.pairs, found.dropped) == (10, 12, 3)
    assert found.bad == {ERRORS: Pairs(4, 3, 2, 1), SLOW: Pairs(9, 1, 0, 0)}
    assert (found.agreed.yes, found.agreed.no) == (6, 1)
    assert (found.slower, found.faster) == (8, 2)
    assert found.difference == Moments(7, 0.5, 1.0)
    assert found.latency == Moments(10, 2.0, 9.0)


def test_what_the_shadow_has_counted_is_no_evidence_of_users():
    evidence = gathered(SEEN)
    assert (evidence.stages, evidence.segments) == ((), {})


def test_the_shadow_stays_what_it_was_when_users_come():
    live = BEGUN.at_rung(0, NOW, reasons=("passed",), receipt="r")
    users = {
        cell(UNITS, stage=1): 40,
        cell(UNITS, stage=1, variant=Variant.CHAMPION, version=1): 760,
        cell("pair_error:1", stage=1): 99,
    }
    evidence = gathered(replace(SEEN, counts={**SEEN.counts, **users}), live)
    assert [stage.stage for stage in evidence.stages] == [1]
    assert evidence.challenger_units(Version(2)) == 40
    assert evidence.paired(Version(2)) == gathered(SEEN).paired(Version(2))


def test_nobody_who_was_in_the_shadow_is_a_veteran_afterwards():
    live = BEGUN.at_rung(0, NOW, reasons=("passed",), receipt="r")
    grown = live.at_rung(1, NOW, reasons=("grown",), receipt="r")
    assert [stage.floor for stage in grown.stages] == [0, 0, 500]
    assert [stage.rung for stage in grown.stages] == [-1, 0, 1]
    assert [stage.shadow for stage in grown.stages] == [True, False, False]


def test_without_a_shadow_there_are_no_pairs():
    plain = Experiment.begin(DECLARATION, Version(1), START)
    evidence = gathered(SEEN, plain)
    assert evidence.shadow == {}
    assert evidence.paired(Version(2)) is NO_PAIR


def test_each_challenger_has_pairs_of_its_own():
    several = Experiment.begin(replace(BEFORE_A_RAMP, challengers=SEVERAL), Version(1), START)
    counts = {cell("pair_error:0", version=7): 5, cell("pair_error:1", version=8): 6}
    evidence = gathered(Readings(counts), several)
    assert [evidence.paired(version).units for version in SEVERAL] == [5, 6, 0]


@pytest.mark.parametrize(
    ("metric", "counter"),
    [
        (Metric("error_rate", Count()), "pair_error"),
        (Metric("latency_ms", Slow(250)), "pair_slow>250"),
        (Metric("latency_ms", Quantile(0.99)), None),
        (Metric("complaints", Count()), None),
        (Metric("wait", Slow(250)), None),
    ],
)
def test_pairs_tell_of_what_the_edge_measures_by_a_limit(metric, counter):
    assert pair_counter(metric) == counter


# What is told of them.


def reported(*challengers, declaration=BEFORE_A_RAMP):
    evidence = seen(*challengers, declaration=declaration)
    return report(declaration, evidence, assess(declaration, evidence)).challengers


def test_a_report_has_the_table_of_each_metric_with_intervals_and_tests():
    (challenger,) = reported(paired(errors=(12, 2, 5)))
    errors, slow = challenger.shadow.metrics
    table = (errors.neither, errors.challenger_alone, errors.champion_alone, errors.both)
    assert table == (781, 12, 2, 5)
    assert (errors.champion.value, errors.challenger.value) == (7 / 800, 17 / 800)
    difference, ratio = errors.effects
    assert difference.interval.low < difference.interval.estimate == 10 / 800
    assert ratio.interval.estimate == 17 / 7
    assert [test.question for test in errors.tests] == ["not inferior", "harm"]
    assert errors.margins[0].value == 2.0
    assert slow.effects[1].interval == Insufficient("no answer of either was bad")


def test_a_report_has_agreement_latency_and_drops():
    shadow = reported(paired(differ=8, dropped=200))[0].shadow
    assert (shadow.units, shadow.needed, shadow.pairs, shadow.dropped) == (800, 500, 800, 200)
    assert shadow.dropped_share == 0.2
    assert shadow.agreement.words == "99 % (792 of 800)"
    assert shadow.agreement_range.low < 0.99 < shadow.agreement_range.high
    assert shadow.declared == 0.95
    assert shadow.latency.low < shadow.latency.estimate == 2.0
    assert shadow.slower.value == 1.0
    assert [test.question for test in shadow.tests] == ["agrees", "harm"]


def test_before_the_first_pair_every_number_says_why_it_is_not_there():
    shadow = reported(NO_PAIR)[0].shadow
    assert shadow.agreement == shadow.slower == Insufficient("nothing yet")
    assert shadow.latency == Insufficient("only 0 of at least 25 pairs")
    assert shadow.dropped_share is None


def test_without_users_there_is_nothing_to_report_but_the_shadow():
    (challenger,) = reported(paired(), declaration=ALONE)
    assert challenger.metrics == ()
    assert [each.metric for each in challenger.shadow.metrics] == [ERRORS, SLOW]


def test_without_a_shadow_a_report_has_none():
    found = report(DECLARATION, seen(NO_PAIR), assess(DECLARATION, seen(NO_PAIR)))
    assert [challenger.shadow for challenger in found.challengers] == [None]


@pytest.mark.parametrize("declaration", [BEFORE_A_RAMP, ALONE])
def test_a_picture_over_time_shows_how_many_answers_differ(declaration):
    values = measure(plan_in_shadow(declaration), seen(paired(differ=8)))
    estimate, low, high, log_e = values[f"2/{DIFFERS}"]
    assert estimate == pytest.approx(0.01)
    assert low < estimate < high
    assert log_e is None
    assert (len(values) == 1) is declaration.shadow_only
