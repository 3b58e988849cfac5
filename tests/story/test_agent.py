"""An edge agent, stepped by hand, and killed after each thing that it does."""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from experiments.codec import decode, encode
from experiments.errors import StoreUnavailable
from experiments.model import BasisPoints, ExperimentName, HeaderUnit, Variant
from experiments.store import ANY, Cell, Kind
from experiments.store.memory import MemoryStore
from registry.errors import UnknownModel
from registry.refs import ModelName, Version
from serving.edge import routebook
from serving.edge.agent import Agent
from serving.edge.mapfile import parse_line
from serving.edge.report import EdgeReport
from serving.edge.routebook import Known, RouteBook
from serving.edge.running import run
from serving.errors import (
    EdgeStopped,
    EdgeUnresponsive,
    NothingToRollBack,
    UnusableEdgeFolder,
)
from serving.routes import Route, SlowMark, Trial, map_value, withdraw
from serving.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DIGITS = ModelName("digits")
TRIAL = Trial(
    ExperimentName("digits-v2"),
    0,
    Version(2),
    BasisPoints(500),
    HeaderUnit("x-unit-id"),
    "digits-v2",
    timedelta(seconds=2),
    (SlowMark("latency_ms>250", 250),),
)
ROUTE = Route(DIGITS, 5, Version(1), None, None, "me", "a test", NOW)
ON_TRIAL = replace(ROUTE, epoch=6, trial=TRIAL)
PROMOTED = replace(ROUTE, epoch=7, champion=Version(2), previous=Version(1))


class Crash(BaseException):
    """The agent is killed here."""


@dataclass
class Fuse:
    """Kills after so many effects on the world; None never does."""

    left: int | None = None

    def burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left = None
                raise Crash


class FusedStore(MemoryStore):
    """A store whose every change may be the last thing that the agent does."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__(now=lambda: NOW)
        self.fuse = fuse
        self.armed = False

    async def beat(self, kind, name, body, *, ttl) -> None:
        await super().beat(kind, name, body, ttl=ttl)
        if self.armed:
            self.fuse.burn()

    async def write(self, kind, name, body, *, expected, fence=None) -> int:
        revision = await super().write(kind, name, body, expected=expected, fence=fence)
        if self.armed:
            self.fuse.burn()
        return revision


@dataclass
class FakeHaproxy:
    """HAProxy's memory: filled from the map file at its start, changed through its socket."""

    folder: Path
    fuse: Fuse
    entries: dict[ModelName, str] | None = None
    hangs: bool = False
    asked: list[ModelName] = field(default_factory=list)

    def start(self) -> None:
        text = (self.folder / "routes.map").read_text()
        pairs = [line.split(" ", 1) for line in text.splitlines()]
        self.entries = {ModelName(model): value for model, value in pairs}

    async def set_route(self, model: ModelName, value: str) -> None:
        self._check()[model] = value
        self.asked.append(model)
        self.fuse.burn()

    async def routes(self) -> dict[ModelName, str]:
        return dict(self._check())

    def _check(self) -> dict[ModelName, str]:
        if self.hangs:
            raise EdgeUnresponsive("it hangs")
        if self.entries is None:
            raise EdgeStopped("it does not run")
        return self.entries


class Edge:
    """An edge's folder, HAProxy and store, which outlive its agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fuse = Fuse()
        self.store = FusedStore(self.fuse)
        self.haproxy = FakeHaproxy(folder, self.fuse)
        self.losses = 0
        self.now = NOW

    async def agent(self) -> Agent:
        """Start a new agent process."""
        agent = Agent(
            "edge-0",
            book=RouteBook(self.folder),
            store=self.store,
            runtime=self.haproxy,
            lease=timedelta(seconds=3),
            now=lambda: self.now,
            on_loss=self.lost,
        )
        await agent.start()
        return agent

    def lost(self) -> None:
        self.losses += 1

    async def publish(self, route: Route) -> None:
        armed, self.store.armed = self.store.armed, False
        await self.store.write(Kind.ROUTE, route.model, encode(Route, route), expected=ANY)
        self.store.armed = armed

    async def reported(self) -> EdgeReport:
        stored = await self.store.read(Kind.EDGE, "edge-0")
        assert stored is not None
        return decode(EdgeReport, stored.body)

    async def override(self) -> Route | None:
        stored = await self.store.read(Kind.OVERRIDE, "edge-0:digits")
        return None if stored is None else decode(Route, stored.body)

    async def take_over(self, epoch: int) -> Route:
        """What the controller does with an override: a later route first, then forget it."""
        override = await self.override()
        assert override is not None
        route = replace(override, epoch=epoch)
        await self.publish(route)
        await self.store.delete(Kind.OVERRIDE, "edge-0:digits")
        return route

    def file(self) -> dict[ModelName, Route]:
        lines = (self.folder / "routes.map").read_text().splitlines()
        return {route.model: route for route in (parse_line(line, NOW) for line in lines)}

    def assert_obeys(self, route: Route) -> None:
        assert self.haproxy.entries is not None
        assert self.haproxy.entries[route.model] == map_value(route)
        assert map_value(self.file()[route.model]) == map_value(route)


@pytest.fixture
def edge(tmp_path, monkeypatch) -> Iterator[Edge]:
    edge = Edge(tmp_path)
    replace_file = routebook.replace_file

    def fused(path: Path, body: bytes) -> None:
        replace_file(path, body)
        edge.fuse.burn()

    monkeypatch.setattr(routebook, "replace_file", fused)
    return edge


# Routes.


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


async def test_marks_of_slow_answers_outlive_the_trial(edge) -> None:
    agent = await edge.agent()
    for route in (ON_TRIAL, PROMOTED):
        await edge.publish(route)
        await agent.sync()
    assert (await edge.agent()).known.marks == {TRIAL.experiment: TRIAL.slow}


async def test_an_agent_whose_document_is_lost_goes_on_from_the_map(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    (edge.folder / "routes.json").write_bytes(b"")
    agent = await edge.agent()
    edge.assert_obeys(ON_TRIAL)
    assert agent.known.routes[DIGITS].trial == replace(TRIAL, slow=())


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
    assert crashes == (4 if running else 3)


# Break-glass.


@pytest.mark.parametrize(
    ("before", "from_version", "to_version"), [(ON_TRIAL, 2, 1), (PROMOTED, 2, 1)]
)
def test_withdrawing_takes_away_the_trial_or_else_the_champion(
    before, from_version, to_version
) -> None:
    done = withdraw(before, by="me", why="it errs", at=NOW)
    assert (done.from_version, done.to_version) == (from_version, to_version)
    after = done.route
    assert (after.epoch, after.champion, after.trial) == (before.epoch + 1, Version(1), None)
    assert (after.by, after.why) == ("me", "it errs")


def test_a_trial_withdrawn_leaves_the_version_to_go_back_to() -> None:
    done = withdraw(replace(PROMOTED, trial=TRIAL), by="me", why="", at=NOW)
    assert (done.route.champion, done.route.previous) == (2, 1)


def test_without_trial_and_previous_there_is_nothing_to_withdraw() -> None:
    with pytest.raises(NothingToRollBack):
        withdraw(ROUTE, by="me", why="", at=NOW)


async def test_a_rollback_at_the_edge_needs_no_store(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    edge.store.disconnect()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    assert (done.from_version, done.to_version) == (2, 1)
    edge.assert_obeys(done.route)
    with pytest.raises(NothingToRollBack):
        await agent.roll_back(DIGITS, by="me", why="again")
    with pytest.raises(UnknownModel):
        await agent.roll_back(ModelName("nobody"), by="me", why="")
    assert agent.report().break_glass == (DIGITS,)


async def test_what_is_withdrawn_already_is_not_withdrawn_from_whoever_came_after(edge) -> None:
    """Control may have lost the store right after it published the very same rollback."""
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    before = agent.known.routes[DIGITS]
    done = await agent.roll_back(DIGITS, by="me", why="it errs", withdrawn=Version(3))
    assert (done.from_version, done.to_version) == (3, before.champion)
    assert agent.known.routes[DIGITS] == before
    done = await agent.roll_back(DIGITS, by="me", why="it errs", withdrawn=before.champion)
    assert done.to_version == before.previous


async def test_a_rollback_that_haproxy_did_not_take_is_no_success(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    edge.haproxy.hangs = True
    with pytest.raises(EdgeUnresponsive):
        await agent.roll_back(DIGITS, by="me", why="it errs")
    edge.haproxy.hangs = False
    await agent.mend()
    assert edge.haproxy.entries is not None
    assert edge.haproxy.entries[DIGITS].startswith("8|1|-|")


async def test_a_rollback_at_the_edge_stands_until_the_controller_has_taken_it_over(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    edge.store.disconnect()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")

    agent = await edge.agent()  # killed and restarted meanwhile
    edge.assert_obeys(done.route)
    with pytest.raises(StoreUnavailable):
        await agent.sync()

    edge.store.reconnect()
    assert not await agent.sync()
    edge.assert_obeys(done.route)
    assert await edge.override() == done.route
    await agent.beat()
    assert (await edge.reported()).break_glass == (DIGITS,)

    route = await edge.take_over(epoch=9)
    assert await agent.sync()
    edge.assert_obeys(route)
    await agent.sync()
    assert await edge.override() is None
    assert agent.report().break_glass == ()


async def test_a_ramp_that_did_not_know_of_a_rollback_does_not_undo_it(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    ramped = replace(ON_TRIAL, epoch=20, trial=replace(TRIAL, stage=1, cut=BasisPoints(5000)))
    await edge.publish(ramped)
    assert not await agent.pull(DIGITS)
    assert not await agent.sync()
    assert not await agent.sync()
    edge.assert_obeys(done.route)

    route = await edge.take_over(epoch=21)
    assert await agent.pull(DIGITS)
    edge.assert_obeys(route)


async def test_a_controller_that_has_seen_the_rollback_may_overrule_it(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    await agent.roll_back(DIGITS, by="me", why="it errs")
    await agent.sync()
    again = replace(ON_TRIAL, epoch=30)
    await edge.publish(again)
    await edge.store.delete(Kind.OVERRIDE, "edge-0:digits")
    assert await agent.sync()
    edge.assert_obeys(again)


async def test_a_store_that_lost_a_rollback_is_told_again(edge) -> None:
    agent = await edge.agent()
    await edge.publish(PROMOTED)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    await agent.sync()
    await edge.store.delete(Kind.OVERRIDE, "edge-0:digits")
    await edge.store.delete(Kind.ROUTE, DIGITS)
    await agent.sync()
    assert await edge.override() == done.route


async def test_killed_after_any_step_of_a_rollback_it_is_done_and_told_or_was_never_begun(
    edge,
) -> None:
    epoch = 10
    for step in range(1, 9):
        agent = await edge.agent()
        if step == 1:
            edge.haproxy.start()
        before = replace(ON_TRIAL, epoch=epoch)
        await edge.publish(before)
        await agent.sync()
        edge.store.armed, edge.fuse.left = True, step
        try:
            await agent.roll_back(DIGITS, by="me", why="it errs")
            await agent.sync()
            await agent.beat()
        except Crash:
            pass
        finally:
            edge.store.armed, edge.fuse.left = False, None
        agent = await edge.agent()
        await agent.sync()
        override = await edge.override()
        assert override is not None, "routes.json is the first step, and it was taken"
        edge.assert_obeys(override)
        assert (override.epoch, override.trial) == (epoch + 1, None)
        route = await edge.take_over(epoch + 2)
        await agent.sync()
        edge.assert_obeys(route)
        assert agent.report().break_glass == ()
        epoch += 10


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
    line = b"1 1767312000000 6 digits 2 digits-v2 0 challenger 7 200 12 0 ray\n"
    await asyncio.to_thread(log.write_bytes, line.replace(b" ", b"\t"))
    cell = Cell(TRIAL.experiment, 0, Variant.CHALLENGER, "units")

    async def counted() -> bool:
        return (await edge.store.counters(TRIAL.experiment)).get(cell) == 1

    await until(counted)


async def speak_to(socket: Path) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
        routes = await client.get("/routes")
        assert decode(EdgeReport, routes.content).routes == {DIGITS: ON_TRIAL}
        done = await client.post("/rollback", json={"model": "digits", "by": "me", "why": "?"})
        assert done.status_code == 200
        found = done.json()
        assert (found["from"], found["to"], found["epoch"], found["edge"]) == (2, 1, 7, "edge-0")
        assert found["milliseconds"] > 0
        for body, status, code in (
            ({"model": "digits"}, 409, "nothing_to_roll_back"),
            ({"model": "nobody"}, 404, "unknown_model"),
            ({"model": 3}, 400, "malformed_request"),
            ({"model": "digits", "to": 1}, 400, "malformed_request"),
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
            assert (done.json()["from"], done.json()["to"]) == (2, 1)
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
