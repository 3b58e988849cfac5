"""An edge whose agent can be stepped by hand, and killed after each thing that it does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.codec import decode, encode
from experiments.model import BasisPoints, ExperimentName
from experiments.store import ANY, Kind
from experiments.store.memory import MemoryStore
from experiments.unit import HeaderUnit
from registry.refs import ModelName, Version
from serving.edge import routebook
from serving.edge.agent import Agent
from serving.edge.haproxy import Made
from serving.edge.mapfile import PARTIAL, parse_line
from serving.edge.partition import PartitionPolicy
from serving.edge.report import EdgeReport
from serving.edge.routebook import RouteBook
from serving.errors import EdgeStopped, EdgeUnresponsive
from serving.routes import Route, SlowMark, Trial, Watch, map_value

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LEASE = timedelta(seconds=3)
DIGITS = ModelName("digits")
TRIAL = Trial(
    experiment=ExperimentName("digits-v2"),
    stage=0,
    challengers=(Version(2),),
    cut=BasisPoints(500),
    unit=HeaderUnit("x-unit-id"),
    salt="digits-v2",
    deadline=timedelta(seconds=2),
    watch=Watch((SlowMark("latency_ms>250", 250),)),
)
ROUTE = Route(DIGITS, 5, Version(1), None, (), "me", "a test", NOW)
ON_TRIAL = replace(ROUTE, epoch=6, trials=(TRIAL,))
SEVERAL = replace(
    ON_TRIAL,
    trials=(
        replace(TRIAL, challengers=(Version(7), Version(8), Version(9)), dropped=(Version(8),)),
    ),
)
PROMOTED = replace(ROUTE, epoch=7, champion=Version(2), previous=Version(1))
HOLDING_BACK = replace(PROMOTED, trials=(TRIAL,))


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
    lines: int = 0
    seconds: Callable[[], float] = float
    meets: list[str] = field(default_factory=list)
    asked: list[ModelName] = field(default_factory=list)

    def start(self) -> None:
        text = (self.folder / "routes.map").read_text()
        pairs = [line.split(" ", 1) for line in text.splitlines()]
        self.entries = {ModelName(model): value for model, value in pairs}

    async def set_route(self, model: ModelName, value: str) -> None:
        self._check()[model] = value
        self.asked.append(model)
        self.fuse.burn()

    async def delete_route(self, model: ModelName) -> None:
        self._check().pop(model, None)
        self.fuse.burn()

    async def made(self) -> Made:
        self._check()
        return Made("this", self.lines)

    async def moment(self) -> str:
        self._check()
        return str(self.seconds())

    async def let_meet(self, since: str, seconds: float) -> None:
        self._check()
        self.meets.append(f"{seconds:g} s from {since}")

    async def let_meet_for_ever(self) -> None:
        self._check()
        self.meets.append("for ever")

    async def routes(self) -> dict[ModelName, str]:
        return dict(self._check())

    def _check(self) -> dict[ModelName, str]:
        if self.hangs:
            raise EdgeUnresponsive("it hangs")
        if self.entries is None:
            raise EdgeStopped("it does not run")
        return self.entries


class Edge:
    """An edge's folder, HAProxy and store, which outlive its agents.

    It knew no routes before, and knows that; a test that wants a new one removes its map file.

    Attributes:
        now: Wall-clock time.
        seconds: What a clock says that is never set.
        policy: Of the agents that are started next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "routes.map").touch()
        self.fuse = Fuse()
        self.store = FusedStore(self.fuse)
        self.haproxy = FakeHaproxy(folder, self.fuse)
        self.losses = 0
        self.now = NOW
        self.seconds = 0.0
        self.haproxy.seconds = lambda: self.seconds
        self.policy = PartitionPolicy.KEEP

    async def agent(self) -> Agent:
        """Start a new agent process."""
        agent = Agent(
            "edge-0",
            book=RouteBook(self.folder),
            store=self.store,
            runtime=self.haproxy,
            lease=LEASE,
            policy=self.policy,
            clock=lambda: self.seconds,
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
        parsed = [parse_line(line, NOW) for line in lines if line != PARTIAL]
        return {route.model: route for route in parsed}

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
