"""Units that come back, over a ramp: exact because veterans are set apart, and wrong otherwise.

Nothing is simulated: a few units have outcomes that no variant changes, every bucket they may have
is tried, and each trial is weighted with its chance. The counting is the store's own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise, product
from math import exp, fsum, isclose, log, prod

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.comparison import compared
from experiments.evidence import Evidence, gather
from experiments.methods.binary import both_outcomes
from experiments.methods.events import bad_units
from experiments.model import BasisPoints, Variant
from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.events import event_ratio_log_e
from experiments.stats.sample_ratio import sample_ratio_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents
from experiments.store import Batch, Cell, OutcomeRecord, Readings
from experiments.store.memory import MemoryStore
from registry.refs import Version
from tests.unit.samples import DECLARATION, ERRORS, START, stages_until

CUTS = (0, 2000, 5000, 10_000)
"""Between these are the buckets that meet the challenger in both stages, in the second, never."""

ZONES = range(3)
CHANCES = tuple((high - low) / 10_000 for low, high in pairwise(CUTS))
RAMPED = replace(DECLARATION, ramp=(BasisPoints(CUTS[1]), BasisPoints(CUTS[2])))
STAGES = stages_until(1, declaration=RAMPED)
(CHALLENGER,) = RAMPED.challengers
REJECT = log(20.0)

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Event:
    """A unit's outcome in a stage: the same whichever variant it meets."""

    unit: int
    stage: int
    value: int


Assignment = tuple[int, ...]
"""The zone of each unit's bucket."""


def variant_of(zone: int, stage: int) -> Variant:
    if stage == 1 and zone == 0:
        return Variant.VETERAN
    return Variant.CHALLENGER if zone <= stage else Variant.CHAMPION


def cell_of(zone: int, stage: int, counter: str) -> Cell:
    variant = variant_of(zone, stage)
    version = Version(1) if variant is Variant.CHAMPION else CHALLENGER
    return Cell(RAMPED.name, stage, variant, version, counter)


def gathered(readings: Readings) -> Evidence:
    return gather(RAMPED, STAGES, readings, START, rollback_target_hot=True)


def assignments(units: int) -> list[tuple[Assignment, float]]:
    return [
        (zones, prod(CHANCES[zone] for zone in zones)) for zones in product(ZONES, repeat=units)
    ]


def record(event: Event, zone: int) -> OutcomeRecord:
    return OutcomeRecord(
        cell_of(zone, event.stage, f"correct:{event.value}"),
        token=f"{event}",
        slot=event.unit,
        expires_at=START + timedelta(days=1),
    )


async def looks(events: Sequence[Event], zones: Assignment) -> list[Evidence]:
    """Return what is seen after each event."""
    store = MemoryStore(now=lambda: START)
    seen = []
    for event in events:
        await store.observe([record(event, zones[event.unit])])
        seen.append(gathered(await store.readings(RAMPED.name)))
    return seen


def all_looks(events: Sequence[Event]) -> dict[Assignment, list[Evidence]]:
    async def every() -> dict[Assignment, list[Evidence]]:
        units = 1 + max(event.unit for event in events)
        return {zones: await looks(events, zones) for zones, _ in assignments(units)}

    return asyncio.run(every())


def e_value(evidence: Evidence, *, side: Side = Side.GREATER) -> float:
    return exp(
        randomisation_log_e(
            both_outcomes(compared(RAMPED.goal.metric, evidence.stages, CHALLENGER)),
            tau=1.5,
            planning_rate=UNKNOWN_RATE,
            side=side,
            scale=Scale.ODDS_RATIO,
        )
    )


def mean(found: Mapping[Assignment, float]) -> float:
    units = len(next(iter(found)))
    return fsum(chance * found[zones] for zones, chance in assignments(units))


def best_stop(paths: Mapping[Assignment, Sequence[tuple[object, float]]]) -> float:
    """Return the mean e-value of whoever stops at the best moments, knowing all that is seen.

    Args:
        paths: Per assignment, what is seen at each look, and the e-value then.
    """
    chances = dict(assignments(len(next(iter(paths)))))

    def value(alike: list[Assignment], look: int) -> float:
        """Total over assignments that look alike so far, each weighted with its chance."""
        here = paths[alike[0]]
        now = here[look - 1][1] * fsum(chances[zones] for zones in alike) if look else 1.0
        if look == len(here):
            return now
        groups: dict[object, list[Assignment]] = {}
        for zones in alike:
            groups.setdefault(paths[zones][look][0], []).append(zones)
        return max(now, fsum(value(group, look + 1) for group in groups.values()))

    return value(list(paths), 0)


def path_of(
    seen: Mapping[Assignment, Sequence[Evidence]], e: Callable[[Evidence], float]
) -> dict[Assignment, list[tuple[object, float]]]:
    return {
        zones: [(repr(evidence), e(evidence)) for evidence in each] for zones, each in seen.items()
    }


IN_ORDER = [
    *(Event(unit, 0, value) for unit, value in enumerate((1, 0, 1, 1))),
    *(Event(unit, 1, value) for unit, value in enumerate((0, 0, 1, 1))),
]
LATE = [
    Event(0, 0, 1),
    Event(1, 1, 1),
    Event(2, 1, 0),
    Event(1, 0, 1),
    Event(0, 1, 1),
    Event(2, 0, 0),
    Event(3, 1, 0),
    Event(3, 0, 0),
]
ORDERS = {"in order": IN_ORDER, "earlier stages late": LATE}


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("events", ORDERS.values(), ids=ORDERS.keys())
def test_at_every_look_the_e_value_is_one_on_average(events, side) -> None:
    seen = all_looks(events)
    for look in range(len(events)):
        found = {zones: e_value(each[look], side=side) for zones, each in seen.items()}
        assert isclose(mean(found), 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("events", ORDERS.values(), ids=ORDERS.keys())
def test_no_choice_of_when_to_stop_makes_more_of_it(events) -> None:
    assert isclose(best_stop(path_of(all_looks(events), e_value)), 1.0, rel_tol=1e-12)


def test_counting_late_outcomes_of_earlier_stages_would_pay_whoever_stops_in_time() -> None:
    """Having seen in the second stage where a unit belongs, one knows what the first will add."""

    def everything(upto: Sequence[Event], zones: Assignment) -> Evidence:
        counters: dict[Cell, int] = {}
        for event in upto:
            cell = record(event, zones[event.unit]).cell
            counters[cell] = counters.get(cell, 0) + 1
        return gathered(Readings(counters))

    seen = {
        zones: [everything(LATE[: look + 1], zones) for look in range(len(LATE))]
        for zones, _ in assignments(4)
    }
    assert best_stop(path_of(seen, e_value)) > 1.01


def test_bad_events_and_units_are_fair_over_a_ramp_too() -> None:
    """Three units come in both stages, and two of them fail whichever variant answers."""

    async def counted(zones: Assignment) -> Evidence:
        store = MemoryStore(now=lambda: START)
        for stage in (0, 1):
            slots: dict[Cell, set[int]] = {}
            for unit, zone in enumerate(zones):
                for counter in ("units", f"{ERRORS}:1") if unit else ("units",):
                    cell = cell_of(zone, stage, counter)
                    slots.setdefault(cell, set()).add(unit)
            frozen = {cell: frozenset(met) for cell, met in slots.items()}
            for again in (0, 1):
                start = 2 * stage + again
                await store.apply(Batch("edge-0", start, start + 1, slots=frozen))
        return gathered(await store.readings(RAMPED.name))

    seen = {zones: asyncio.run(counted(zones)) for zones, _ in assignments(3)}
    errors = {
        zones: exp(
            event_ratio_log_e(
                bad_units(compared(RAMPED.guardrails[0].metric, evidence.stages, CHALLENGER)),
                tau=(0.7, 3.0),
                side=Side.GREATER,
            )
        )
        for zones, evidence in seen.items()
    }
    ratio = {
        zones: exp(
            sample_ratio_log_e(
                [
                    StageEvents(s.challengers[CHALLENGER].units, s.champion.units, s.probability)
                    for s in evidence.stages
                ]
            )
        )
        for zones, evidence in seen.items()
    }
    assert isclose(mean(errors), 1.0, rel_tol=1e-12)
    assert isclose(mean(ratio), 1.0, rel_tol=1e-12)


# What is wrong without them.


def naive_stages(events: Sequence[Event], zones: Assignment) -> list[StageCounts]:
    """No floor, the whole share for everybody, and veterans among the challenger's units."""
    counts = [[0, 0, 0, 0], [0, 0, 0, 0]]
    for event in events:
        treated = variant_of(zones[event.unit], event.stage) is not Variant.CHAMPION
        counts[event.stage][(0 if treated else 2) + 1 - event.value] += 1
    return [
        StageCounts(*cells, share=share / 10_000)
        for cells, share in zip(counts, CUTS[1:3], strict=True)
    ]


def naive_e_value(events: Sequence[Event], zones: Assignment) -> float:
    return exp(
        randomisation_log_e(
            naive_stages(events, zones),
            tau=1.5,
            planning_rate=UNKNOWN_RATE,
            side=Side.GREATER,
            scale=Scale.ODDS_RATIO,
        )
    )


@pytest.mark.parametrize("units", [4, 6])
def test_with_veterans_among_the_challengers_units_the_same_unit_is_evidence_twice(units) -> None:
    """Half succeed every time: what chance did to them at first, the second stage repeats."""
    half = units // 2
    events = [Event(unit, stage, int(unit < half)) for stage in (0, 1) for unit in range(units)]
    naive = mean({zones: naive_e_value(events, zones) for zones, _ in assignments(units)})
    assert naive > 1.2 + 0.1 * (units - 4)


def test_over_a_long_ramp_the_naive_way_raises_false_alarms_and_the_exact_way_does_not() -> None:
    """Every unit comes in every stage, and half of them always succeed: nothing differs."""
    runs, units, shares = 40, 400, [0.05 * step for step in range(1, 13)]
    rng = np.random.default_rng(11)
    succeeds = np.arange(units) % 2 == 0
    alarms = {"naive": 0, "exact": 0}
    for _ in range(runs):
        bucket = rng.random(units)
        naive, exact = [], []
        for floor, share in pairwise((0.0, *shares)):
            fresh = bucket >= floor
            naive.append(split(bucket < share, succeeds, share))
            exact.append(
                split(bucket[fresh] < share, succeeds[fresh], (share - floor) / (1.0 - floor))
            )
        for way, stages in (("naive", naive), ("exact", exact)):
            log_e = randomisation_log_e(stages, tau=0.2, planning_rate=0.5)
            alarms[way] += log_e > REJECT
    assert alarms["naive"] > 0.15 * runs
    assert alarms["exact"] <= 0.05 * runs


def split(treated: Bools, succeeded: Bools, share: float) -> StageCounts:
    cells = (treated & succeeded, treated & ~succeeded, ~treated & succeeded, ~treated & ~succeeded)
    return StageCounts(*(int(cell.sum()) for cell in cells), share=share)
