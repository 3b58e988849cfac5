"""Whatever dies, and whenever: each line of the request log is counted once."""

import asyncio
import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import StoreUnavailable
from experiments.model import BasisPoints, ExperimentName, RequestUnit, Variant
from experiments.store import Batch, Cell, Store
from experiments.store.memory import MemoryStore
from registry.refs import ModelName, Version
from serving.edge import requestlog
from serving.edge.aggregate import Aggregate, AppliedSlots
from serving.edge.collector import Bounds, Collector
from serving.edge.requestlog import BLOCK, RequestLog
from serving.edge.routebook import Known
from serving.routes import Route, SlowMark, Trial

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DIGITS = ExperimentName("digits-v2")
SLOW = "latency_ms>250"
MARKS = {DIGITS: (SlowMark(SLOW, 250),)}
TRIAL = Trial(
    DIGITS,
    1,
    Version(2),
    BasisPoints(500),
    RequestUnit(),
    DIGITS,
    timedelta(seconds=2),
    MARKS[DIGITS],
)
KNOWN = Known().with_route(
    Route(ModelName("digits"), 3, Version(1), None, TRIAL, "me", "a test", NOW)
)
TINY = Bounds(batch=400, log=1 << 20, keep=0, free=BLOCK)


@dataclass(frozen=True)
class Line:
    """One request, as HAProxy would log it."""

    experiment: str = DIGITS
    stage: int = 0
    variant: Variant = Variant.CHALLENGER
    slot: int | None = 7
    status: int = 200
    took: int = 12
    server: str = "ray"

    def __bytes__(self) -> bytes:
        where = (self.experiment, self.stage, self.variant)
        if self.experiment == "-":
            where = ("-", "-", "-")
        slot = "-" if self.slot is None else self.slot
        head = (1, 1767312000000, 3, "digits", 2)
        fields = (*head, *where, slot, self.status, self.took, "+1", self.server)
        return "\t".join(map(str, fields)).encode() + b"\n"


def cell(counter: str, *, stage: int = 0, variant: Variant = Variant.CHALLENGER) -> Cell:
    return Cell(DIGITS, stage, variant, counter)


def expected(lines: list[Line]) -> Mapping[Cell, int]:
    """Count as the contract says, one line at a time."""
    counts: Counter[Cell] = Counter()
    met: set[tuple[str, str, int, int]] = set()
    for line in lines:
        if line.experiment == "-":
            continue
        failed = not 0 <= line.status < 500 or line.server == "failover"
        plain = {"requests": True, "failovers": line.server == "failover", "errors": failed}
        distinct = {"units": True, "error_rate": failed}
        if line.experiment == DIGITS:
            distinct[SLOW] = line.took > 250
        for counter, holds in (plain | distinct).items():
            unit = (line.experiment, counter, line.stage, line.slot or 0)
            repeated = counter in distinct and line.slot is not None and unit in met
            if holds and not repeated:
                where = ExperimentName(line.experiment), line.stage, line.variant
                counts[Cell(*where, counter)] += 1
                if counter in distinct and line.slot is not None:
                    met.add(unit)
    return counts


async def counted(store: Store) -> dict[Cell, int]:
    found = {}
    for name in (DIGITS, ExperimentName("other")):
        found |= await store.counters(name)
    return found


def collector_of(path: Path, store: Store, bounds: Bounds = TINY) -> Collector:
    return Collector(path, edge="edge-0", store=store, known=lambda: KNOWN, bounds=bounds)


async def drain(collector: Collector) -> None:
    while await collector.step():
        pass


def write(path: Path, lines: list[Line] | bytes) -> None:
    with path.open("ab") as log:
        log.write(lines if isinstance(lines, bytes) else b"".join(map(bytes, lines)))


def aggregate(body: bytes) -> Aggregate:
    found = Aggregate(MARKS, AppliedSlots())
    found.add(body)
    return found


# What a line counts as.


@pytest.mark.parametrize(
    ("line", "counters"),
    [
        (Line(), {"requests", "units"}),
        (Line(slot=None), {"requests", "units"}),
        (Line(status=499), {"requests", "units"}),
        (Line(status=500), {"requests", "units", "errors", "error_rate"}),
        (Line(status=-1), {"requests", "units", "errors", "error_rate"}),
        (
            Line(server="failover"),
            {"requests", "units", "errors", "error_rate", "failovers"},
        ),
        (Line(took=250), {"requests", "units"}),
        (Line(took=251), {"requests", "units", SLOW}),
    ],
)
async def test_a_line_counts_for_what_happened(tmp_path, line, counters) -> None:
    store = MemoryStore()
    write(tmp_path / "log", [line])
    await drain(collector_of(tmp_path / "log", store))
    assert await counted(store) == {cell(counter): 1 for counter in counters}


def test_a_unit_counts_once_a_stage_and_its_requests_count_each() -> None:
    lines = [Line(stage=0), Line(stage=1), Line(stage=1, status=500), Line(stage=1, status=500)]
    batch = aggregate(b"".join(map(bytes, lines))).batch("s", 0, 1, ())
    assert batch.counts == {
        cell("requests"): 1,
        cell("requests", stage=1): 3,
        cell("errors", stage=1): 2,
    }
    assert batch.slots == {
        cell("units"): {7},
        cell("units", stage=1): {7},
        cell("error_rate", stage=1): {7},
    }


def test_a_veteran_is_counted_apart_from_both_variants() -> None:
    lines = [Line(stage=1, slot=n, variant=variant) for n, variant in enumerate(Variant)]
    batch = aggregate(b"".join(map(bytes, lines))).batch("s", 0, 1, ())
    assert batch.slots == {
        cell("units", stage=1, variant=variant): {n} for n, variant in enumerate(Variant)
    }


def test_units_that_the_store_has_are_not_sent_again() -> None:
    applied = AppliedSlots()
    first = Aggregate(MARKS, applied)
    first.add(bytes(Line()))
    applied.remember(first.batch("s", 0, 1, ()))
    second = Aggregate(MARKS, applied)
    second.add(bytes(Line()) + bytes(Line(slot=8)))
    assert second.batch("s", 1, 2, ()).slots == {cell("units"): {8}}
    grown = Aggregate(MARKS, applied)
    grown.add(bytes(Line(stage=1)))
    assert grown.batch("s", 1, 2, ()).slots == {cell("units", stage=1): {7}}
    applied.forget()
    third = Aggregate(MARKS, applied)
    third.add(bytes(Line()))
    assert third.batch("s", 2, 3, ()).slots == {cell("units"): {7}}


def test_what_is_remembered_of_units_is_bounded() -> None:
    applied = AppliedSlots(most=2)
    for number in range(5):
        name = ExperimentName(f"e{number}")
        slots = {Cell(name, 0, Variant.CHAMPION, "units"): frozenset({1})}
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
        bytes(Line()).replace(b"\tray", b""),
        bytes(Line()).replace(b"challenger", b"nobody"),
        bytes(Line()).replace(b"digits-v2", b"Digits v2"),
        bytes(Line()).replace(b"digits-v2", b"\xff\xfe"),
        bytes(Line()).replace(b"\t200\t", b"\tOK\t"),
        bytes(Line(slot=2**22)),
        bytes(Line(slot=-5)),
        bytes(Line(stage=-1)),
        b"<134> haproxy[1]: starting\n",
    ],
)
def test_a_line_that_cannot_be_read_is_skipped_and_counted(body: bytes) -> None:
    found = aggregate(body + bytes(Line()))
    assert (found.malformed, found.lines, found.lost) == (1, 1, 0)
    assert found.batch("s", 0, 1, ()).counts == {cell("requests"): 1}


@given(body=st.binary())
def test_no_bytes_whatever_stop_the_collector(body: bytes) -> None:
    found = aggregate(body + b"\n" + bytes(Line()))
    assert found.batch("s", 0, 1, ()).counts[cell("requests")] == 1


def test_requests_outside_of_experiments_are_only_seen() -> None:
    found = aggregate(bytes(Line(experiment="-")))
    assert (found.lines, found.batch("s", 0, 1, ()).counts) == (1, {})


# Exactly once.


class Crash(BaseException):
    """The process is killed here."""


class Interrupted(MemoryStore):
    """Loses questions, answers or the process, as told.

    Args:
        fates: What becomes of each call, in order: `ask` and `answer` get lost on the way,
            `crash` kills after the call. Calls beyond them go well.
    """

    def __init__(self, fates: list[str]) -> None:
        super().__init__(now=lambda: NOW)
        self.fates = fates

    async def apply(self, batch: Batch) -> int:
        return await self._fated(lambda: super(Interrupted, self).apply(batch))

    async def position(self, source: str) -> int | None:
        return await self._fated(lambda: super(Interrupted, self).position(source))

    async def _fated(self, call: Callable):
        fate = self.fates.pop(0) if self.fates else "well"
        if fate == "ask":
            raise StoreUnavailable("lost on the way")
        answer = await call()
        if fate == "answer":
            raise StoreUnavailable("lost on the way back")
        if fate == "crash":
            raise Crash
        return answer


lines_of_a_log = st.lists(
    st.builds(
        Line,
        experiment=st.sampled_from([DIGITS, "other", "-"]),
        stage=st.integers(0, 2),
        variant=st.sampled_from(Variant),
        slot=st.none() | st.integers(1, 9),
        status=st.sampled_from([200, 404, 500, 503, -1]),
        took=st.sampled_from([-1, 3, 250, 251, 9000]),
        server=st.sampled_from(["ray", "failover"]),
    ),
    max_size=120,
)
fates_of_calls = st.lists(st.sampled_from(["well", "ask", "answer", "crash"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    lines=lines_of_a_log,
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
    fates=fates_of_calls,
    batch_bytes=st.sampled_from([100, 400, 100_000]),
)
def test_whatever_is_lost_or_killed_every_line_is_counted_once(
    lines, cuts, fates, batch_bytes
) -> None:
    body = b"".join(map(bytes, lines))
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})

    async def story(path: Path) -> None:
        store = Interrupted(fates)
        bounds = Bounds(batch=batch_bytes, log=1 << 20, keep=0, free=BLOCK)
        collector = collector_of(path, store, bounds)
        written = 0
        for end in ends:
            write(path, body[written:end])
            written = end
            while True:
                try:
                    await drain(collector)
                    break
                except StoreUnavailable:
                    continue
                except Crash:
                    collector = collector_of(path, store, bounds)
        assert await counted(store) == expected(lines)
        assert collector.progress.backlog_bytes == 0

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(Path(folder) / "requests.log"))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_around_freeing_the_log_counts_nothing_twice(
    tmp_path, monkeypatch, when
) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    lines = [Line(slot=slot) for slot in range(1000)]
    write(path, lines)
    free = RequestLog.free

    def die(self: RequestLog, end: int, **options: int) -> None:
        if when == "after":
            free(self, end, **options)
        raise Crash

    monkeypatch.setattr(RequestLog, "free", die)
    collector = collector_of(path, store, Bounds(batch=30_000, keep=0, free=BLOCK))
    with pytest.raises(Crash):
        await drain(collector)
    monkeypatch.undo()
    await drain(collector_of(path, store))
    assert await counted(store) == expected(lines)


async def test_a_step_may_be_cancelled_anywhere(tmp_path) -> None:
    lines = [Line(slot=slot % 50, status=500) for slot in range(400)]
    write(tmp_path / "log", lines)
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store, Bounds(batch=5000, keep=0, free=BLOCK))
    for turns in range(40):
        step = asyncio.ensure_future(collector.step())
        for _ in range(turns % 9):
            await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait({step})
    await drain(collector)
    assert await counted(store) == expected(lines)


async def test_half_a_line_waits_for_the_other_half(tmp_path) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    whole = bytes(Line())
    write(tmp_path / "log", whole + whole[:20])
    await drain(collector)
    assert (await counted(store))[cell("requests")] == 1
    write(tmp_path / "log", whole[20:])
    await drain(collector)
    assert (await counted(store))[cell("requests")] == 2
    assert collector.progress.malformed_lines == 0


async def test_while_the_store_is_away_the_log_is_the_spool(tmp_path) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    write(tmp_path / "log", [Line(slot=1)])
    await drain(collector)
    store.disconnect()
    write(tmp_path / "log", [Line(slot=2)] * 50)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await collector.step()
    assert collector.progress.backlog_bytes == 50 * len(bytes(Line(slot=2)))
    store.reconnect()
    await drain(collector)
    assert await counted(store) == {cell("requests"): 51, cell("units"): 2}


async def test_an_edge_without_a_log_has_nothing_to_do(tmp_path) -> None:
    collector = collector_of(tmp_path / "log", MemoryStore())
    assert not await collector.step()
    assert collector.progress.backlog_bytes == 0


async def test_a_store_that_lost_everything_is_told_all_that_is_still_there(tmp_path) -> None:
    store = Interrupted([])
    collector = collector_of(tmp_path / "log", store, Bounds(batch=5000))
    lines = [Line(slot=slot) for slot in range(100)]
    write(tmp_path / "log", lines)
    await drain(collector)
    store.__init__(["ask"])
    write(tmp_path / "log", [Line(slot=3)])
    with pytest.raises(StoreUnavailable):
        await drain(collector)
    await drain(collector)
    assert await counted(store) == expected([*lines, Line(slot=3)])


# The file.


async def test_counted_log_gives_its_disk_space_back(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store, Bounds(batch=1 << 20, keep=2 * BLOCK, free=BLOCK))
    lines = [Line(slot=slot) for slot in range(5000)]
    for start in range(0, 5000, 1000):
        write(path, lines[start : start + 1000])
        await drain(collector)
    size = len(b"".join(map(bytes, lines)))
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 <= 4 * BLOCK
    tail = path.read_bytes()[-2 * BLOCK :]
    assert tail == b"".join(map(bytes, lines))[-2 * BLOCK :], "the last part is kept"
    assert await counted(store) == {cell("requests"): 5000, cell("units"): 5000}


async def test_a_new_agent_goes_on_behind_what_was_freed(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    lines = [Line(slot=slot) for slot in range(3000)]
    write(path, lines[:2000])
    await drain(collector_of(path, store, Bounds(keep=0, free=BLOCK)))
    write(path, lines[2000:])
    await drain(collector_of(path, store))
    assert await counted(store) == expected(lines)


async def test_a_new_store_is_told_what_is_left_of_the_log(tmp_path) -> None:
    path = tmp_path / "log"
    lines = [Line(slot=slot) for slot in range(3000)]
    write(path, lines)
    await drain(collector_of(path, MemoryStore(), Bounds(keep=3 * BLOCK, free=BLOCK)))
    left = path.stat().st_size - start_of_data(path)
    store = MemoryStore()
    collector = collector_of(path, store)
    await drain(collector)
    told = (await counted(store))[cell("requests")]
    assert 0 < left // 80 <= told <= left // 40
    assert collector.progress.malformed_lines <= 1, "the line that the hole cut in two"
    assert collector.progress.lost_bytes == 0, "what another store has counted is not lost"


def start_of_data(path: Path) -> int:
    with path.open("rb") as log:
        return os.lseek(log.fileno(), 0, os.SEEK_DATA)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_log_beyond_its_bound_is_cut_and_marked_as_lost(tmp_path, killed) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    limit = 64 * BLOCK
    bounds = Bounds(batch=8 * BLOCK, log=limit, keep=0, free=BLOCK)
    collector = collector_of(path, store, bounds)
    write(path, [Line(slot=0)])
    await drain(collector)
    store.disconnect()
    total = 1
    for _ in range(20):
        write(path, [Line(slot=slot) for slot in range(500)])
        total += 500
        with pytest.raises(StoreUnavailable):
            await collector.step()
        assert path.stat().st_blocks * 512 <= limit + BLOCK
    if killed:
        collector = collector_of(path, store, bounds)
    store.reconnect()
    await drain(collector)
    found = await counted(store)
    lost = found[Cell(DIGITS, TRIAL.stage, Variant.CHAMPION, "lost_bytes")]
    requests = found[cell("requests")]
    assert 0 < lost == collector.progress.lost_bytes
    longest, shortest = len(bytes(Line(slot=499))), len(bytes(Line(slot=0)))
    assert lost / longest - 2 <= total - requests <= lost / shortest + 2
    assert requests * longest >= limit // 2 - longest, "only the older half goes"


async def test_a_log_that_was_replaced_is_read_to_its_end_first(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store)
    write(path, [Line(slot=1)])
    await drain(collector)
    write(path, [Line(slot=2)] * 20)
    path.rename(tmp_path / "old")
    await collector.step()
    write(tmp_path / "old", [Line(slot=3)])
    write(path, [Line(slot=4)] * 3)
    await drain(collector)
    assert await counted(store) == {cell("requests"): 25, cell("units"): 4}


async def test_a_log_that_was_cut_off_is_a_new_one(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store)
    write(path, [Line(slot=1)] * 5)
    await drain(collector)
    os.truncate(path, 0)
    await drain(collector)
    write(path, [Line(slot=2)] * 3)
    await drain(collector)
    assert await counted(store) == {cell("requests"): 8, cell("units"): 2}


async def test_the_same_file_has_the_same_name_for_ever_and_no_other_has_it(tmp_path) -> None:
    path = tmp_path / "log"
    sources = []
    for _ in range(2):
        write(path, b"")
        for _ in range(2):
            log = RequestLog.open(path, "edge-0")
            assert log is not None
            sources.append(log.source)
            log.close()
        path.unlink()
        # Another file takes the place in between, as inode numbers are given out again.
        (tmp_path / "log.id").unlink(missing_ok=True)
    assert sources[0] == sources[1] != sources[2] == sources[3]


async def test_a_file_system_that_cannot_free_space_is_lived_with(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(requestlog, "_fallocate", lambda *_: errno.EOPNOTSUPP)
    store = MemoryStore()
    path = tmp_path / "log"
    lines = [Line(slot=slot) for slot in range(2000)]
    collector = collector_of(path, store)
    write(path, lines)
    await drain(collector)
    assert await counted(store) == expected(lines)
    assert len([r for r in caplog.records if "cannot free" in r.message]) == 1


async def test_a_line_without_an_end_does_not_stop_what_follows(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store, Bounds())
    write(path, b"x" * 200_000 + b"\n" + bytes(Line()))
    await drain(collector)
    assert (await counted(store))[cell("requests")] == 1
    assert collector.progress.malformed_lines > 0
