"""HAProxy numbers its lines: whoever reads them knows how many requests no line tells of."""

import os
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import StoreUnavailable
from experiments.evidence import LOST_REQUESTS
from experiments.model import Variant
from experiments.store import Cell
from experiments.store.memory import MemoryStore
from serving.edge.aggregate import Aggregate, AppliedSlots
from serving.edge.following import Bounds
from serving.edge.requestlog import BLOCK
from tests.unit.log_lines import (
    CHAMPION,
    DIAGNOSED,
    DIGITS,
    KNOWN,
    WATCHES,
    Line,
    cell,
    collector_of,
    counted,
    drain,
    numbered,
    write,
)

CHARGED = [Cell(name, 1, Variant.CHAMPION, CHAMPION, LOST_REQUESTS) for name in (DIGITS, DIAGNOSED)]


def lines(*numbers: int) -> bytes:
    return b"".join(bytes(Line(number=number)) for number in numbers)


def missing(*pieces: bytes, after: int | None = 0) -> int:
    found = Aggregate(WATCHES, AppliedSlots(), after=after)
    for piece in pieces:
        found.add(piece)
    return found.missing


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([lines(1, 2, 3)], 0),
        ([lines(1, 2, 3), lines(4), lines(5, 6)], 0),
        ([lines(1, 3)], 1),
        ([lines(3)], 2),
        ([lines(1), lines(5), lines(6, 9)], 5),
        ([lines(1), b"", lines(2)], 0),
    ],
)
def test_a_number_that_is_left_out_is_a_request_that_was_lost(pieces, expected) -> None:
    assert missing(*pieces) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [lines(41, 42, 1, 2)],
        [lines(41, 42), lines(1, 2)],
        [lines(41), lines(42, 1), lines(2, 3, 1, 1)],
    ],
)
def test_a_haproxy_that_begins_anew_has_lost_nothing(pieces) -> None:
    assert missing(*pieces, after=40) == 0


def test_what_a_haproxy_lost_before_its_first_line_is_lost_too() -> None:
    assert missing(lines(41, 3), after=40) == 2


def test_who_does_not_know_what_went_before_begins_with_what_is_there() -> None:
    assert missing(lines(41, 42, 45), after=None) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        lines(2)[:30] + b"\n",
        lines(2).replace(b"challenger", b"nobody"),
        lines(2)[:30],
        lines(2).replace(b"\t2\t", b"\tx\t", 1),
    ],
)
def test_a_damaged_line_is_a_request_that_was_lost(damaged) -> None:
    torn_into_the_next = not damaged.endswith(b"\n")
    readable = damaged.count(b"nobody") == 0 and damaged.count(b"\tx\t") == 1
    found = missing(lines(1) + damaged + lines(3, 4))
    assert found == (2 if torn_into_the_next else 0 if readable else 1)


def test_what_haproxy_has_not_numbered_is_no_request() -> None:
    assert missing(lines(1) + b"<134> haproxy[1]: starting\n" + lines(2)) == 0


@given(
    runs=st.lists(st.lists(st.booleans(), max_size=30), max_size=3),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_lines_kept_and_requests_lost_add_up(runs, cuts) -> None:
    """For every HAProxy whose first line is there: by it, one is told from the one before."""
    written = [[1, *(n for n, kept in enumerate(run, start=2) if kept)] for run in runs]
    numbers = list(chain.from_iterable(written))
    ends = sorted({min(cut, len(numbers)) for cut in cuts} | {len(numbers)})
    pieces = [lines(*numbers[start:end]) for start, end in pairwise([0, *ends])]
    assert missing(*pieces) == sum(run[-1] for run in written) - len(numbers)


@given(body=st.binary(), number=st.integers(0, 10**30))
def test_no_number_whatever_stops_the_collector(body, number) -> None:
    found = Aggregate(WATCHES, AppliedSlots(), after=3)
    found.add(lines(4) + body + b"\n" + lines(number))
    lost = found.batch("s", 0, 1, KNOWN.on_trial).counts.get(CHARGED[0], 0)
    assert 0 <= lost < 10**16


async def test_every_running_experiment_is_charged_with_what_was_lost(tmp_path) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    write(tmp_path / "log", lines(1, 2, 5))
    await drain(collector)
    assert await counted(store) == {
        cell("requests"): 3,
        cell("units"): 1,
        CHARGED[0]: 2,
        CHARGED[1]: 2,
    }
    assert collector.progress.lost_requests == 2


@pytest.mark.parametrize("killed", [True, False])
async def test_a_gap_between_two_batches_is_counted_whoever_reads_on(tmp_path, killed) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    write(tmp_path / "log", lines(*range(1, 100)))
    await drain(collector)
    if killed:
        collector = collector_of(tmp_path / "log", store)
    write(tmp_path / "log", lines(103))
    await drain(collector)
    assert (await counted(store))[CHARGED[0]] == 3


@pytest.mark.parametrize("answer", ["lost on the way", "lost on the way back"])
async def test_a_gap_is_counted_once_though_the_store_is_asked_twice(
    tmp_path, monkeypatch, answer
) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    write(tmp_path / "log", lines(1, 2, 5))
    apply = store.apply

    async def away(batch) -> int:
        if answer == "lost on the way back":
            await apply(batch)
        monkeypatch.undo()
        raise StoreUnavailable(answer)

    monkeypatch.setattr(store, "apply", away)
    with pytest.raises(StoreUnavailable):
        await drain(collector)
    write(tmp_path / "log", lines(6, 7))
    await drain(collector)
    assert (await counted(store))[CHARGED[0]] == 2


async def test_a_new_log_begins_with_a_new_count(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store)
    write(path, lines(*range(1, 50)))
    await drain(collector)
    path.rename(tmp_path / "old")
    write(path, lines(1, 2))
    await drain(collector)
    assert collector.progress.lost_requests == 0


async def test_where_what_went_before_is_freed_nothing_is_made_up(tmp_path) -> None:
    path = tmp_path / "log"
    write(path, numbered([Line()] * 1000))
    await drain(collector_of(path, MemoryStore(), Bounds(keep=3 * BLOCK, free=BLOCK)))
    with path.open("rb") as log:
        assert os.lseek(log.fileno(), 0, os.SEEK_DATA) > 0
    collector = collector_of(path, MemoryStore())
    await drain(collector)
    assert collector.progress.lost_requests == 0
