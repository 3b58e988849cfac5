"""An edge agent, stepped by hand, and killed after each thing that it does."""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from experiments.codec import decode
from experiments.evidence import LOST_REQUESTS
from experiments.model import Variant
from experiments.store import ANY, Cell, Kind
from registry.refs import Version
from serving.edge import routebook
from serving.edge.mapfile import parse_line
from serving.edge.report import EdgeReport
from serving.edge.routebook import Known, RouteBook
from serving.edge.running import run
from serving.errors import UnusableEdgeFolder
from serving.routes import map_value
from serving.settings import Settings
from tests.story.agent_world import (
    DIGITS,
    NOW,
    ON_TRIAL,
    PROMOTED,
    ROUTE,
    TRIAL,
    Crash,
    Edge,
    edge,
)

__all__ = ["edge"]


async def test_a_route_is_obeyed_and_acknowledged(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    assert await agent.sync()
    await agent.beat()
    edge.assert_obeys(ROUTE)
    report = await edge.reported()
    assert (report.epochs, report.applied_at) == ({DIGITS: 5}, {DIGITS: NOW})
    assert report.routes == {DIGITS: ROUTE}
    assert report.haproxy_up


async def test_between_a_routes_news_and_its_acknowledgement_no_disk_is_waited_for(edge) -> None:
    """The store syncs every write but that of an edge's heartbeat."""
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    assert await agent.pull(DIGITS)
    await agent.beat()
    assert (await edge.reported()).epochs == {DIGITS: 5}
    assert await edge.store.read_all(Kind.MEMBER) == {}
    await agent.enrol()
    assert list(await edge.store.read_all(Kind.MEMBER)) == [agent.name]


async def test_the_moment_of_obedience_is_the_first_one(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    await agent.sync()
    edge.now += timedelta(seconds=5)
    await agent.mend()
    assert agent.report().applied_at == {DIGITS: NOW}
    await edge.publish(ON_TRIAL)
    await agent.sync()
    assert agent.report().applied_at == {DIGITS: edge.now}


async def test_an_edge_never_goes_back(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    for route in (ON_TRIAL, ROUTE, replace(ON_TRIAL, champion=Version(9))):
        await edge.publish(route)
        await agent.pull(DIGITS)
        await agent.sync()
        edge.assert_obeys(ON_TRIAL)


async def test_a_route_taken_from_the_store_is_kept(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    await agent.sync()
    await edge.store.delete(Kind.ROUTE, DIGITS)
    assert not await agent.sync()
    edge.assert_obeys(ROUTE)
    assert agent.report().routes == {DIGITS: ROUTE}
    assert edge.losses == 1


async def test_a_route_that_cannot_be_read_changes_nothing(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    await agent.sync()
    await edge.store.write(Kind.ROUTE, DIGITS, b'{"epoch": 99}', expected=ANY)
    assert not await agent.sync()
    assert not await agent.pull(DIGITS)
    edge.assert_obeys(ROUTE)


async def test_a_model_without_a_route_is_no_news(edge) -> None:
    assert not await (await edge.agent()).pull("nobody")


async def test_haproxy_may_start_after_its_routes_were_written(edge) -> None:
    agent = await edge.agent()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    assert agent.report().epochs == {DIGITS: 6}
    assert not agent.haproxy_up
    edge.haproxy.start()
    edge.assert_obeys(ON_TRIAL)
    await agent.mend()
    assert agent.haproxy_up
    assert edge.haproxy.asked == []


async def test_a_haproxy_that_was_restarted_with_an_old_map_is_repaired(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    edge.haproxy.entries = {DIGITS: map_value(ROUTE)}
    await agent.mend()
    edge.assert_obeys(ON_TRIAL)


async def test_a_route_that_haproxy_did_not_take_is_not_acknowledged(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ROUTE)
    await agent.sync()
    edge.haproxy.hangs = True
    await edge.publish(ON_TRIAL)
    await agent.sync()
    await agent.mend()
    assert agent.report().epochs == {DIGITS: 5}
    edge.haproxy.hangs = False
    await agent.mend()
    assert agent.report().epochs == {DIGITS: 6}
    edge.assert_obeys(ON_TRIAL)


async def test_files_that_cannot_be_written_stop_no_route_and_are_written_later(
    edge, monkeypatch
) -> None:
    agent = await edge.agent()
    edge.haproxy.start()

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(routebook, "replace_file", full)
        await edge.publish(ROUTE)
        await agent.sync()
        assert edge.haproxy.entries == {DIGITS: map_value(ROUTE)}
    await agent.mend()
    edge.assert_obeys(ROUTE)


async def test_what_is_counted_outlives_the_trial(edge) -> None:
    agent = await edge.agent()
    for route in (ON_TRIAL, PROMOTED):
        await edge.publish(route)
        await agent.sync()
    assert (await edge.agent()).known.watches == {TRIAL.experiment: TRIAL.watch}


@pytest.mark.parametrize("running", [True, False])
async def test_killed_after_any_step_an_agent_ends_where_it_was_going(edge, running) -> None:
    """And at no point does HAProxy hold a route that a restart would take back."""
    crashes = 0
    for step in range(1, 9):
        agent = await edge.agent()
        if running:
            edge.haproxy.start()
        route = replace(ON_TRIAL, epoch=10 * step)
        await edge.publish(route)
        edge.store.armed, edge.fuse.left = True, step
        try:
            await agent.sync()
            await agent.beat()
            await agent.enrol()
        except Crash:
            crashes += 1
            in_memory = (edge.haproxy.entries or {}).get(DIGITS)
            if in_memory is not None:
                assert parse_line(f"digits {in_memory}", NOW).epoch <= edge.file()[DIGITS].epoch
        finally:
            edge.store.armed, edge.fuse.left = False, None
        agent = await edge.agent()
        await agent.sync()
        await agent.beat()
        if not running:
            edge.haproxy.start()
        edge.assert_obeys(route)
        assert (await edge.reported()).epochs == {DIGITS: 10 * step}
        if not running:
            edge.haproxy.entries = None
    assert crashes == (5 if running else 4)


# The whole process.


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for the socket's."""
    with tempfile.TemporaryDirectory(prefix="tiltyard") as folder:
        yield Path(folder)


async def until(condition) -> None:
    while not await condition():  # noqa: ASYNC110  it is another task that changes things
        await asyncio.sleep(0.01)


async def test_the_agent_serves_its_socket_follows_routes_and_counts(short_folder) -> None:
    settings = Settings.model_validate({"state_dir": short_folder, "edge_name": "edge-0"})
    edge = Edge(settings.edge_dir)
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, edge.store, edge.haproxy, stop=stop))
    socket = settings.edge_dir / "agent.sock"
    try:
        async with asyncio.timeout(60):
            await until(lambda: asyncio.to_thread(socket.exists))
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600
            edge.haproxy.start()
            await edge.publish(ON_TRIAL)
            edge.haproxy.lines = 1

            async def acknowledged() -> bool:
                stored = await edge.store.read(Kind.EDGE, "edge-0")
                return stored is not None and decode(EdgeReport, stored.body).epochs == {DIGITS: 6}

            await until(acknowledged)
            edge.assert_obeys(ON_TRIAL)
            await a_request_is_counted(edge, settings.edge_dir / "requests.log")

            with pytest.raises(UnusableEdgeFolder, match="another agent"):
                await run(settings, edge.store, edge.haproxy, stop=stop)

            edge.store.disconnect()
            await speak_to(socket)
            edge.store.reconnect()

            async def published() -> bool:
                return await edge.override() is not None

            await until(published)
    finally:
        stop.set()
        await running


async def a_request_is_counted(edge: Edge, log: Path) -> None:
    line = b"3 1 1767312000000 6 digits 2 digits-v2 0 challenger 7 0 200 9 12 0 host --\n"
    await asyncio.to_thread(log.write_bytes, line.replace(b" ", b"\t"))
    cell = Cell(TRIAL.experiment, 0, Variant.CHALLENGER, Version(2), "units")

    async def counted() -> bool:
        return (await edge.store.readings(TRIAL.experiment)).counts.get(cell) == 1

    await until(counted)
    edge.haproxy.lines = 3
    lost = replace(cell, variant=Variant.CHAMPION, version=Version(1), counter=LOST_REQUESTS)

    async def missed() -> bool:
        return (await edge.store.readings(TRIAL.experiment)).counts.get(lost) == 2

    await until(missed)


async def speak_to(socket: Path) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
        routes = await client.get("/routes")
        assert decode(EdgeReport, routes.content).routes == {DIGITS: ON_TRIAL}
        done = await client.post("/rollback", json={"model": "digits", "by": "me", "why": "?"})
        assert done.status_code == 200
        found = done.json()
        assert (found["withdrawn"], found["to"]) == ([2], 1)
        assert (found["epoch"], found["edge"]) == (7, "edge-0")
        assert found["milliseconds"] > 0
        done = await client.post("/rollback", json={"model": "digits", "withdrawn": [3, 2]})
        assert (done.json()["withdrawn"], done.json()["epoch"]) == ([3, 2], 7), "done already"
        for body, status, code in (
            ({"model": "digits"}, 409, "nothing_to_roll_back"),
            ({"model": "nobody"}, 404, "unknown_model"),
            ({"model": 3}, 400, "malformed_request"),
            ({"model": "digits", "to": 1}, 400, "malformed_request"),
            ({"model": "digits", "withdrawn": 2}, 400, "malformed_request"),
            ({"model": "digits", "withdrawn": [0]}, 400, "malformed_request"),
        ):
            refused = await client.post("/rollback", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
            assert refused.headers["content-type"] == "application/problem+json"
            assert json.loads(refused.content)["next_step"]


async def test_the_process_serves_without_redis_and_stops_when_told(short_folder) -> None:
    """With neither Redis nor HAProxy, a route on disk can still be rolled back."""
    folder = short_folder / "edge-0"
    folder.mkdir()
    RouteBook(folder).record(Known().with_route(PROMOTED))
    environment = {
        **os.environ,
        "TILTYARD_STATE_DIR": str(short_folder),
        "TILTYARD_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "serving.edge", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        socket = folder / "agent.sock"
        async with asyncio.timeout(120):
            await until(lambda: asyncio.to_thread(socket.exists))
            transport = httpx2.AsyncHTTPTransport(uds=str(socket))
            async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
                done = await client.post("/rollback", json={"model": "digits"})
            assert (done.json()["withdrawn"], done.json()["to"]) == ([2], 1)
            process.send_signal(signal.SIGTERM)
            _, words = await process.communicate()
        assert process.returncode == 0, words
        assert words.count(b"the store is away") == 1, words
        book = RouteBook(folder)
        book.load(NOW)
        assert book.known.overrides[DIGITS].route.champion == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
