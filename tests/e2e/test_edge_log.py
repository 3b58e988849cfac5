"""HAProxy's log, as evidence: every request has a line, or it is known that a line is missing."""

import asyncio
import os
import resource
import subprocess
import threading
import time
from datetime import timedelta

from experiments.evidence import LOST_REQUESTS
from experiments.model import ExperimentName, Variant
from experiments.store import Cell, Readings
from experiments.store.memory import MemoryStore
from serving.edge.collector import Collector, Progress
from serving.edge.config import command, open_log
from serving.edge.routebook import Known
from serving.routes import Route
from tests.e2e.edge_checks import EVERYBODY
from tests.e2e.edge_fixture import (
    CHAMPION,
    PATIENCE_SECONDS,
    Client,
    Edge,
    await_listener,
    edge,
    running,
    running_edge,
)
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]

LOST = Cell(ExperimentName("trial"), 4, Variant.CHAMPION, CHAMPION, LOST_REQUESTS)


def collected(edge: Edge, route: Route) -> tuple[Progress, Readings]:
    """Count all of the log, as an agent does that starts now."""

    async def collect() -> tuple[Progress, Readings]:
        store = MemoryStore()
        known = Known().with_route(route)
        collector = Collector(
            edge.files.log,
            edge="edge-0",
            store=store,
            known=lambda: known,
            made=edge.runtime.made,
        )
        while await collector.step():
            pass
        return collector.progress, await store.readings(LOST.experiment)

    return asyncio.run(collect())


def test_inferences_are_numbered_whatever_else_is_asked(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    client = edge.client()
    for _ in range(3):
        assert client.infer().status == 200
        assert client.request("GET", "/v2").status == 200
        assert client.request("GET", "/nowhere").status == 404
        assert client.request("GET", "/v2/models/digits").status == 200
    first, second, third = (line.number for line in edge.logged(3))
    assert (second, third) == (first + 1, first + 2)


def test_a_line_says_when_the_answer_began(edge: Edge) -> None:
    edge.route()
    edge.behave(champion=Mood.SLOW)
    edge.client().infer()
    [line] = edge.logged(1)
    assert line.first is not None
    assert timedelta(seconds=0.4) < line.first <= line.took + timedelta(milliseconds=2)


def again(edge: Edge) -> None:
    """Kill HAProxy, and start one that has a full disk refuse its lines instead of dying of it."""
    edge.process.kill()
    edge.process.wait()
    edge.files.admin_socket.unlink()
    log = open_log(edge.settings)
    # Python ignores SIGXFSZ, and so does whoever inherits that.
    edge.process = subprocess.Popen(command(edge.settings), stdout=log, restore_signals=False)
    os.close(log)
    await_listener(edge.settings.edge_port, edge.process)
    while not edge.files.admin_socket.exists():  # HAProxy gives it its name last.
        time.sleep(0.001)


def allow(edge: Edge, size: int) -> None:
    """Let the log grow to `size` bytes and no further, as on a full disk."""
    limits = size, resource.RLIM_INFINITY
    resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, limits)


def await_lines(edge: Edge, made: int) -> None:
    """Wait until HAProxy has made so many lines, whether they were written or not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while asyncio.run(edge.runtime.counters()).lines < made:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_edge_that_is_started_again_has_lost_nothing() -> None:
    with running_edge() as edge:
        route = edge.route(cut=EVERYBODY)
        for _ in range(3):
            again(edge)
            edge.route(cut=EVERYBODY)
            for _ in range(2):
                assert edge.client().infer().status == 200
            assert [line.number for line in edge.logged(2)] == [1, 2]
        progress, _ = collected(edge, route)
        assert (progress.requests_seen, progress.lost_requests) == (6, 0)


def test_lines_that_a_full_disk_refused_are_counted_to_the_last() -> None:
    with running_edge() as edge:
        again(edge)
        route = edge.route(cut=EVERYBODY)
        client = edge.client()
        client.infer()
        edge.logged(1)
        full = edge.files.log.stat().st_size
        for made, size in enumerate((full, full + 30, resource.RLIM_INFINITY), start=1):
            allow(edge, size)
            for _ in range(3):
                assert client.infer().status == 200, "a full disk is no trouble of the client's"
            await_lines(edge, 1 + 3 * made)
        progress, readings = collected(edge, route)
    # The first line that is written again ends up behind the half of one that was cut short.
    assert (progress.requests_seen, progress.malformed_lines) == (3, 1)
    assert progress.lost_requests == readings.counts[LOST] == 10 - 3


def test_a_disk_that_stays_full_is_known_while_it_is() -> None:
    with running_edge() as edge:
        again(edge)
        route = edge.route(cut=EVERYBODY)
        client = edge.client()
        client.infer()
        edge.logged(1)
        for made, room in enumerate((0, 30), start=1):
            allow(edge, edge.files.log.stat().st_size + room)
            for _ in range(3):
                assert client.infer().status == 200
            await_lines(edge, 1 + 3 * made)
            progress, readings = collected(edge, route)
            assert progress.requests_seen == 1
            assert progress.lost_requests == readings.counts[LOST] == 3 * made


def test_no_line_is_missed_that_is_on_its_way() -> None:
    """Whatever HAProxy says that it has made is in the log when it says so."""
    with running_edge() as edge:
        route = edge.route(cut=EVERYBODY)

        async def count() -> Progress:
            known = Known().with_route(route)
            collector = Collector(
                edge.files.log,
                edge="edge-0",
                store=MemoryStore(),
                known=lambda: known,
                made=edge.runtime.made,
            )
            while collector.progress.requests_seen < 400:
                collector.ask_again()
                await collector.step()
                assert collector.progress.lost_requests == 0
            return collector.progress

        def ask() -> None:
            client = Client(edge.settings.edge_port)
            for _ in range(200):
                client.infer()
            client.close()

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        progress = asyncio.run(count())
        for thread in threads:
            thread.join()
        assert progress.requests_seen == 400
