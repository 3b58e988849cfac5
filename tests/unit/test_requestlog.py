"""The request log as a file: it grows, is freed, replaced and cut off, and nothing is missed."""

import errno
import os
from pathlib import Path

import pytest

from experiments.errors import StoreUnavailable
from experiments.model import Variant
from experiments.store import Cell
from experiments.store.memory import MemoryStore
from serving.edge import requestlog
from serving.edge.following import Bounds
from serving.edge.requestlog import BLOCK, RequestLog
from tests.unit.log_lines import (
    CHAMPION,
    DIGITS,
    Line,
    cell,
    collector_of,
    counted,
    drain,
    expected,
    numbered,
    write,
)


async def test_counted_log_gives_its_disk_space_back(tmp_path) -> None:
    store = MemoryStore()
    path = tmp_path / "log"
    collector = collector_of(path, store, Bounds(batch=1 << 20, keep=2 * BLOCK, free=BLOCK))
    lines = [Line(slot=slot) for slot in range(5000)]
    for start in range(0, 5000, 1000):
        write(path, lines[start : start + 1000])
        await drain(collector)
    body = numbered(lines)
    assert path.stat().st_size == len(body)
    assert path.stat().st_blocks * 512 <= 4 * BLOCK
    tail = path.read_bytes()[-2 * BLOCK :]
    assert tail == body[-2 * BLOCK :], "the last part is kept"
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
    assert 0 < left // 100 <= told <= left // 50
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
    where = DIGITS, 1, Variant.CHAMPION, CHAMPION
    lost = found[Cell(*where, "lost_bytes")]
    requests = found[cell("requests")]
    assert 0 < lost == collector.progress.lost_bytes
    exactly = total - requests
    assert exactly == found[Cell(*where, "lost_requests")] == collector.progress.lost_requests
    longest = len(bytes(Line(slot=499, number=total)))
    assert lost // longest <= exactly
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
