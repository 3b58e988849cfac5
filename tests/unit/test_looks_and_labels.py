"""Within a horizon only what is old enough to be looked at counts as seen."""

from dataclasses import replace
from datetime import timedelta

from experiments.evidence import gather
from experiments.looks import due, time_of
from experiments.metric import Binary, Count, Metric
from experiments.model import Horizon, Variant
from experiments.store import Cell, Readings
from registry.refs import Version
from tests.unit.declared import DECLARATION, START
from tests.unit.samples import stages_until

DAY = timedelta(days=1)
(CHALLENGER,) = DECLARATION.challengers


def bounded(metric):
    goal = replace(DECLARATION.goal, metric=metric)
    return replace(DECLARATION, goal=goal, horizon=Horizon(1_000))


def seen(declaration, now, *, outcomes):
    """Return evidence of 600 units an arm that all came in the first cohort."""
    cohort = int(START.timestamp() // declaration.cohort.total_seconds())
    counts = {}
    for variant, version in ((Variant.CHAMPION, Version(1)), (Variant.CHALLENGER, CHALLENGER)):
        cell = Cell(declaration.name, 0, variant, version, "units", cohort=cohort)
        counts[cell] = 600
        for index, count in outcomes.items():
            counts[replace(cell, counter=f"m:{index}")] = count
    stages = stages_until(0, declaration=declaration)
    return gather(declaration, stages, Readings(counts), now, rollback_target_hot=True)


def test_a_horizon_waits_for_labels_that_come_late():
    declaration = bounded(Metric("m", Binary(), window=DAY))
    young = seen(declaration, START + DAY / 2, outcomes={1: 300, 0: 300})
    assert time_of(declaration, young) == 0
    assert due(declaration, young, CHALLENGER, ()) is None
    ripe = seen(declaration, START + 2 * DAY, outcomes={1: 300, 0: 300})
    assert time_of(declaration, ripe) == 1.2
    look = due(declaration, ripe, CHALLENGER, ())
    assert look is not None
    assert look.time == 1.0


def test_where_units_show_nothing_but_events_those_old_enough_are_counted():
    declaration = bounded(Metric("m", Count(), window=DAY))
    assert time_of(declaration, seen(declaration, START + DAY / 2, outcomes={1: 5})) == 0
    assert time_of(declaration, seen(declaration, START + 2 * DAY, outcomes={1: 5})) == 1.2
