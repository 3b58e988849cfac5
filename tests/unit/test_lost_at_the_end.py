"""What is missing at the end of the log, and whose it was: HAProxy says how many lines it made."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.errors import StoreUnavailable
from experiments.evidence import LOST, LOST_REQUESTS
from experiments.model import Variant
from experiments.store import Batch, Cell
from experiments.store.memory import MemoryStore
from serving.edge.collector import ASK_SECONDS, Collector
from serving.edge.haproxy import Made
from serving.edge.routebook import Known
from serving.errors import EdgeStopped
from tests.unit.log_lines import (
    CHALLENGER,
    CHAMPION,
    DIAGNOSED,
    DIGITS,
    KNOWN,
    OTHER,
    TINY,
    Line,
    counted,
    drain,
    write,
)

CHARGED = [Cell(name, 1, Variant.CHAMPION, CHAMPION, LOST_REQUESTS) for name in (DIGITS, DIAGNOSED)]
AT_REST = replace(
    KNOWN,
    routes={
        model: replace(route, epoch=route.epoch + 1, trials=())
        for model, route in KNOWN.routes.items()
    },
)


@dataclass
class Haproxy:
    """Makes lines, and writes those that it is let."""

    log: Path
    run: str = "first"
    lines: int = 0
    is_up: bool = True

    def serve(self, *, written: int = 0, refused: int = 0) -> None:
        numbers = range(self.lines + 1, self.lines + written + 1)
        write(self.log, b"".join(bytes(Line(number=number)) for number in numbers))
        self.lines += written + refused

    def start_again(self) -> None:
        self.run, self.lines = "next", 0

    async def made(self) -> Made:
        if not self.is_up:
            raise EdgeStopped("it does not run")
        return Made(self.run, self.lines)


class Watched:
    """A collector, the HAProxy that it asks, and a clock that goes when it is told."""

    def __init__(self, folder: Path) -> None:
        self.haproxy = Haproxy(folder / "log")
        self.store = MemoryStore()
        self.known: Known = KNOWN
        self.now = 0.0
        self.collector = self.started()

    def started(self) -> Collector:
        return Collector(
            self.haproxy.log,
            edge="edge-0",
            store=self.store,
            known=lambda: self.known,
            bounds=TINY,
            made=self.haproxy.made,
            clock=lambda: self.now,
        )

    async def look(self) -> None:
        self.now += ASK_SECONDS
        await drain(self.collector)

    async def lost(self) -> list[int]:
        found = await counted(self.store)
        return [found.get(cell, 0) for cell in CHARGED]


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path)


async def test_lines_that_never_came_are_missed_though_none_follows(watched) -> None:
    watched.haproxy.serve(written=3, refused=2)
    await watched.look()
    assert await watched.lost() == [2, 2]
    assert watched.collector.progress.lost_requests == 2


async def test_a_disk_that_stays_full_is_told_as_long_as_it_is(watched) -> None:
    watched.haproxy.serve(written=1)
    for losses in range(1, 4):
        watched.haproxy.serve(refused=10)
        await watched.look()
        assert await watched.lost() == [10 * losses] * 2


async def test_what_was_missed_is_no_gap_once_lines_follow(watched) -> None:
    watched.haproxy.serve(written=3, refused=2)
    await watched.look()
    watched.haproxy.serve(written=2)
    await watched.look()
    watched.haproxy.serve(refused=1)
    watched.haproxy.serve(written=1)
    await watched.look()
    assert await watched.lost() == [3, 3]


@pytest.mark.parametrize("follows", ["lines", "a loss", "nothing"])
async def test_a_collector_that_starts_again_charges_nothing_twice(watched, follows) -> None:
    watched.haproxy.serve(written=3, refused=2)
    await watched.look()
    watched.collector = watched.started()
    watched.haproxy.serve(written=4 * (follows == "lines"), refused=follows == "a loss")
    await watched.look()
    expected = 3 if follows == "a loss" else 2
    assert await watched.lost() == [expected] * 2


async def test_lines_that_come_after_haproxy_was_asked_are_not_those_of_another(watched) -> None:
    watched.haproxy.serve(written=3)
    await watched.look()
    watched.now += ASK_SECONDS
    for _ in range(3):
        watched.haproxy.serve(written=2)
        await watched.collector.step()  # The first one asks; then traffic goes on.
    await drain(watched.collector)
    assert await watched.lost() == [0, 0]
    assert watched.collector.progress.lost_requests == 0


async def test_an_edge_that_starts_again_numbers_and_loses_anew(watched) -> None:
    watched.haproxy.serve(written=3, refused=2)
    await watched.look()
    watched.haproxy.start_again()
    await watched.look()
    assert await watched.lost() == [2, 2]
    watched.haproxy.serve(refused=1)
    await watched.look()
    assert await watched.lost() == [3, 3]
    watched.haproxy.serve(written=3)
    await watched.look()
    assert await watched.lost() == [3, 3]


@pytest.mark.parametrize("answer", ["lost on the way", "lost on the way back"])
async def test_a_loss_counts_once_though_the_store_is_asked_twice(
    watched, monkeypatch, answer
) -> None:
    watched.haproxy.serve(written=3)
    await watched.look()
    watched.haproxy.serve(refused=2)
    apply = watched.store.apply

    async def away(batch: Batch) -> int:
        if answer == "lost on the way back":
            await apply(batch)
        monkeypatch.undo()
        raise StoreUnavailable(answer)

    monkeypatch.setattr(watched.store, "apply", away)
    with pytest.raises(StoreUnavailable):
        await watched.look()
    await watched.look()
    watched.haproxy.serve(written=1)
    await watched.look()
    assert await watched.lost() == [2, 2]


async def test_who_does_not_run_is_missed_nothing_of(watched) -> None:
    watched.haproxy.serve(written=3)
    watched.haproxy.is_up = False
    await watched.look()
    assert await watched.lost() == [0, 0]


async def test_haproxy_is_asked_when_the_collector_is_about_to_end(watched) -> None:
    watched.haproxy.serve(written=3)
    await watched.look()
    watched.haproxy.serve(refused=2)
    await drain(watched.collector)
    assert await watched.lost() == [0, 0]
    watched.collector.ask_again()
    await drain(watched.collector)
    assert await watched.lost() == [2, 2]


async def test_a_trial_that_has_left_the_route_meanwhile_is_charged(watched) -> None:
    watched.haproxy.serve(written=3)
    await watched.look()
    watched.haproxy.serve(refused=2)
    watched.known = AT_REST
    await watched.look()
    assert await watched.lost() == [2, 2]
    watched.haproxy.serve(refused=2)
    await watched.look()
    assert await watched.lost() == [2, 2], "these were of nobody"


async def test_a_trial_that_ended_while_the_store_was_away_is_charged(watched) -> None:
    watched.haproxy.serve(written=2)
    await watched.look()
    watched.store.disconnect()
    watched.haproxy.serve(refused=2)
    watched.haproxy.serve(written=1)
    watched.known = AT_REST
    with pytest.raises(StoreUnavailable):
        await watched.look()
    watched.store.reconnect()
    await watched.look()
    assert await watched.lost() == [2, 2]


async def test_an_experiment_that_only_the_lines_tell_of_is_charged(tmp_path) -> None:
    watched = Watched(tmp_path)
    watched.known = AT_REST
    write(watched.haproxy.log, bytes(Line(OTHER, number=1)) + bytes(Line(OTHER, number=4)))
    watched.haproxy.lines = 4
    await watched.look()
    assert (await counted(watched.store))[
        Cell(OTHER, 0, Variant.CHALLENGER, CHALLENGER, LOST_REQUESTS)
    ] == 2


@pytest.mark.parametrize("uncounted", [0, 2])
async def test_a_log_that_is_copied_and_cut_off_has_lost_what_was_not_counted(
    watched, uncounted
) -> None:
    """HAProxy does not notice: it goes on writing where it was, behind a hole."""
    log = watched.haproxy.log
    watched.haproxy.serve(written=100)
    await watched.look()
    watched.haproxy.serve(written=uncounted)
    end = log.stat().st_size
    os.truncate(log, 0)
    await watched.look()
    with log.open("r+b") as file:
        file.seek(end)
        file.write(b"".join(bytes(Line(number=101 + uncounted + more)) for more in range(5)))
    watched.haproxy.lines += 5
    await watched.look()
    found = await counted(watched.store)
    assert await watched.lost() == [uncounted] * 2
    assert (found.get(replace(CHARGED[0], counter=LOST), 0) > 0) == (uncounted > 0)
    assert watched.collector.progress.requests_seen == 105
    assert watched.collector.progress.lost_requests == uncounted


async def test_who_writes_on_at_the_beginning_of_a_log_that_was_cut_off_is_read(watched) -> None:
    watched.haproxy.serve(written=100)
    await watched.look()
    os.truncate(watched.haproxy.log, 0)
    for _ in range(2):
        watched.haproxy.serve(written=5)
        await watched.look()
    assert watched.collector.progress.requests_seen == 110
    assert await watched.lost() == [0, 0]
