"""What a line of the request log counts as."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evidence import LOST_REQUESTS
from experiments.model import ExperimentName, Variant
from experiments.stats.latency_grid import bucket_of
from experiments.store import Batch, Cell
from experiments.store.memory import MemoryStore
from registry.refs import Version
from serving.edge.aggregate import Aggregate, AppliedSlots, line_number
from tests.unit.log_lines import (
    CHAMPION,
    DIAGNOSED,
    MIDNIGHT,
    SLOW,
    WATCHES,
    Line,
    cell,
    collector_of,
    counted,
    drain,
    numbered,
    write,
)


def aggregate(body: bytes) -> Aggregate:
    found = Aggregate(WATCHES, AppliedSlots())
    found.add(body)
    return found


@pytest.mark.parametrize(
    ("line", "counters"),
    [
        (Line(), {"requests", "units"}),
        (Line(slot=None), {"requests", "units"}),
        (Line(status=499), {"requests", "units"}),
        (Line(status=429), {"requests", "units", "errors", "error_rate:1"}),
        (Line(status=500), {"requests", "units", "errors", "error_rate:1"}),
        (Line(status=-1), {"requests", "units", "errors", "error_rate:1"}),
        (
            Line(server="failover"),
            {"requests", "units", "errors", "error_rate:1", "failovers"},
        ),
        (Line(took=250), {"requests", "units"}),
        (Line(took=251), {"requests", "units", f"{SLOW}:1"}),
    ],
)
async def test_a_line_counts_for_what_happened(tmp_path, line, counters) -> None:
    store = MemoryStore()
    write(tmp_path / "log", [line])
    await drain(collector_of(tmp_path / "log", store))
    assert await counted(store) == {cell(counter): 1 for counter in counters}


def test_a_unit_counts_once_a_stage_and_its_requests_count_each() -> None:
    lines = [Line(stage=0), Line(stage=1), Line(stage=1, status=500), Line(stage=1, status=500)]
    batch = aggregate(numbered(lines)).batch("s", 0, 1, ())
    assert batch.counts == {
        cell("requests"): 1,
        cell("requests", stage=1): 3,
        cell("errors", stage=1): 2,
    }
    assert batch.slots == {
        cell("units"): {7},
        cell("units", stage=1): {7},
        cell("error_rate:1", stage=1): {7},
    }


def test_a_veteran_is_counted_apart_from_both_variants() -> None:
    lines = [Line(stage=1, slot=n, variant=variant) for n, variant in enumerate(Variant)]
    batch = aggregate(numbered(lines)).batch("s", 0, 1, ())
    assert batch.slots == {
        cell("units", stage=1, variant=variant): {n} for n, variant in enumerate(Variant)
    }


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (Line(slot=8, version=Version(3)), {"version": Version(3)}),
        (Line(slot=8, segment=2), {"segment": 2}),
        (Line(slot=8, stage=1), {"stage": 1}),
    ],
)
def test_versions_segments_and_stages_are_counted_apart(other, where) -> None:
    batch = aggregate(bytes(Line()) + bytes(other)).batch("s", 0, 1, ())
    assert batch.counts == {cell("requests"): 1, cell("requests", **where): 1}
    assert batch.slots == {cell("units"): {7}, cell("units", **where): {8}}


def test_a_unit_counts_once_a_stage_wherever_it_turns_up_next() -> None:
    lines = [Line(), Line(segment=2), Line(version=Version(3)), Line(variant=Variant.VETERAN)]
    batch = aggregate(numbered(lines)).batch("s", 0, 1, ())
    assert batch.slots == {cell("units"): {7}}
    assert sum(batch.counts.values()) == 4


def test_a_units_first_time_in_a_stage_goes_into_the_histogram() -> None:
    times = [3, 9000, 250]
    lines = [Line(DIAGNOSED, took=took) for took in times] + [Line(DIAGNOSED, stage=1, took=9000)]
    slots = aggregate(numbered(lines)).batch("s", 0, 1, ()).slots
    found = {(it.stage, it.counter): units for it, units in slots.items() if "ms:" in it.counter}
    assert found == {
        (0, f"latency_ms:{bucket_of(3)}"): {7},
        (1, f"latency_ms:{bucket_of(9000)}"): {7},
    }


def test_where_each_request_is_a_unit_every_time_goes_into_the_histogram() -> None:
    lines = [Line(DIAGNOSED, slot=None, took=took) for took in (3, 3, 2000, 2001, 10**9)]
    counts = aggregate(numbered(lines)).batch("s", 0, 1, ()).counts
    found = {it.counter: count for it, count in counts.items() if "ms:" in it.counter}
    assert found == Counter(f"latency_ms:{bucket_of(line.took)}" for line in lines)


def test_units_are_told_apart_by_when_they_were_first_met() -> None:
    minute = MIDNIGHT // 60
    lines = [Line(DIAGNOSED, slot=n % 2, at=MIDNIGHT + 59 * n) for n in range(4)]
    slots = aggregate(numbered(lines)).batch("s", 0, 1, ()).slots
    found = {it.cohort: units for it, units in slots.items() if it.counter == "units"}
    assert found == {minute: {0, 1}}
    later = aggregate(bytes(Line(DIAGNOSED, at=MIDNIGHT + 60))).batch("s", 0, 1, ()).slots
    assert {(it.cohort, it.counter) for it in later} >= {(minute + 1, "units")}


def test_units_that_the_store_has_are_not_sent_again() -> None:
    applied = AppliedSlots()
    first = Aggregate(WATCHES, applied)
    first.add(bytes(Line()))
    applied.remember(first.batch("s", 0, 1, ()))
    second = Aggregate(WATCHES, applied)
    second.add(bytes(Line()) + bytes(Line(slot=8)))
    assert second.batch("s", 1, 2, ()).slots == {cell("units"): {8}}
    grown = Aggregate(WATCHES, applied)
    grown.add(bytes(Line(stage=1)))
    assert grown.batch("s", 1, 2, ()).slots == {cell("units", stage=1): {7}}
    applied.forget()
    third = Aggregate(WATCHES, applied)
    third.add(bytes(Line()))
    assert third.batch("s", 2, 3, ()).slots == {cell("units"): {7}}


def test_a_unit_that_the_store_has_in_one_bucket_is_not_sent_for_another() -> None:
    applied = AppliedSlots()
    first = Aggregate(WATCHES, applied)
    first.add(bytes(Line(DIAGNOSED, took=3)))
    applied.remember(first.batch("s", 0, 1, ()))
    second = Aggregate(WATCHES, applied)
    second.add(bytes(Line(DIAGNOSED, took=200, at=MIDNIGHT + 3600)))
    assert second.batch("s", 1, 2, ()).slots == {}


def test_what_is_remembered_of_units_is_bounded() -> None:
    applied = AppliedSlots(most=2)
    for number in range(5):
        name = ExperimentName(f"e{number}")
        slots = {Cell(name, 0, Variant.CHAMPION, CHAMPION, "units"): frozenset({1})}
        applied.remember(Batch("s", number, number + 1, {}, slots))
    kept = [
        number
        for number in range(5)
        if any(applied.bits(ExperimentName(f"e{number}"), "units", stage=0))
    ]
    assert kept == [3, 4]


@pytest.mark.parametrize(
    "body",
    [
        b"\n",
        b"2" + bytes(Line())[1:],
        bytes(Line())[:-1] + b"\textra\n",
        bytes(Line()).replace(b"\thost", b""),
        bytes(Line()).replace(b"challenger", b"nobody"),
        bytes(Line()).replace(b"digits-v2", b"Digits v2"),
        bytes(Line()).replace(b"digits-v2", b"\xff\xfe"),
        bytes(Line()).replace(b"\t200\t", b"\tOK\t"),
        bytes(Line(slot=2**22)),
        bytes(Line(slot=-5)),
        bytes(Line(stage=-1)),
        bytes(Line(segment=-1)),
        bytes(Line(version=Version(0))),
        bytes(Line(segment=0)).replace(b"\t7\t0\t", b"\t7\t-\t"),
        b"<134> haproxy[1]: starting\n",
    ],
)
def test_a_line_that_cannot_be_read_is_skipped_and_counted(body: bytes) -> None:
    found = aggregate(body + bytes(Line()))
    assert (found.malformed, found.lines, found.lost) == (1, 1, 0)
    assert found.missing == (line_number(body.rstrip(b"\n")) is not None)
    lost = {cell(LOST_REQUESTS): 1} if found.missing else {}
    assert found.batch("s", 0, 1, ()).counts == {cell("requests"): 1} | lost


@given(body=st.binary())
def test_no_bytes_whatever_stop_the_collector(body: bytes) -> None:
    found = aggregate(body + b"\n" + bytes(Line()))
    assert found.batch("s", 0, 1, ()).counts[cell("requests")] == 1


def test_requests_outside_of_experiments_are_only_seen() -> None:
    found = aggregate(bytes(Line(experiment="-")))
    assert (found.lines, found.batch("s", 0, 1, ()).counts) == (1, {})
