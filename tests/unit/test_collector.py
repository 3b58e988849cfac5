"""Whatever dies, and whenever: each line of the request log is counted once."""

import asyncio
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import StoreUnavailable
from experiments.model import Variant
from experiments.store import Batch
from experiments.store.memory import MemoryStore
from serving.edge.following import Bounds
from serving.edge.requestlog import BLOCK, RequestLog
from tests.unit.log_lines import (
    CHALLENGER,
    CHAMPION,
    DIAGNOSED,
    DIGITS,
    MIDNIGHT,
    NOW,
    OTHER,
    Line,
    cell,
    collector_of,
    counted,
    drain,
    expected,
    numbered,
    write,
)


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
        experiment=st.sampled_from([DIGITS, OTHER, DIAGNOSED, "-"]),
        stage=st.integers(0, 2),
        variant=st.sampled_from(Variant),
        version=st.sampled_from([CHAMPION, CHALLENGER]),
        slot=st.none() | st.integers(1, 9),
        segment=st.integers(0, 2),
        status=st.sampled_from([200, 404, 500, 503, -1]),
        took=st.sampled_from([-1, 3, 250, 251, 9000]),
        server=st.sampled_from(["host", "failover"]),
        end=st.sampled_from(["--", "SD", "CD"]),
        at=st.sampled_from([MIDNIGHT, MIDNIGHT + 59, MIDNIGHT + 60]),
    ),
    max_size=120,
)
fates_of_calls = st.lists(st.sampled_from(["well", "ask", "answer", "crash"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(
    lines=lines_of_a_log,
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
    fates=fates_of_calls,
    batch_bytes=st.sampled_from([100, 400, 100_000]),
)
def test_whatever_is_lost_or_killed_every_line_is_counted_once(
    lines, cuts, fates, batch_bytes
) -> None:
    body = numbered(lines)
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
    counted_bytes = (tmp_path / "log").stat().st_size
    write(tmp_path / "log", [Line(slot=2)] * 50)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await collector.step()
    waiting = (tmp_path / "log").stat().st_size - counted_bytes
    assert collector.progress.backlog_bytes == waiting
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


async def test_the_oldest_request_that_is_not_in_the_store_is_known(tmp_path) -> None:
    store = MemoryStore()
    collector = collector_of(tmp_path / "log", store)
    assert collector.waiting_since() is None
    write(tmp_path / "log", [Line(at=MIDNIGHT)])
    await drain(collector)
    assert collector.waiting_since() is None
    store.disconnect()
    write(tmp_path / "log", [Line(at=MIDNIGHT + 60), Line(at=MIDNIGHT + 120)])
    with pytest.raises(StoreUnavailable):
        await drain(collector)
    assert collector.waiting_since() == NOW + timedelta(seconds=60.999)
    write(tmp_path / "log", bytes(Line())[:20])
    store.reconnect()
    await drain(collector)
    assert collector.waiting_since() is None, "half a line says nothing yet"
