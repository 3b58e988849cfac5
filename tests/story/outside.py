"""What is around control, in memory: its clock, the store, the registry, Ray Serve, and edges.

Each is the product's own adapter or agent where there is one, and obeys a test: it is away, deaf,
slow or dead when the test says so. A `Fuse` counts every change that control makes, and ends it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.errors import StoreUnavailable
from experiments.store import ANY, Fence, Kind, Write
from experiments.store.memory import MemoryStore
from registry import Aliases, ChampionChange
from registry.errors import CatalogUnavailable
from registry.memory import MemoryCatalog
from registry.refs import ModelName, VersionRef
from serving.edge.agent import Agent
from serving.edge.routebook import RouteBook
from serving.errors import EdgeStopped, HostsUnavailable
from serving.hosts import HostSpec
from serving.hosts.serve import Application, application_name
from serving.routes import Route

BEGINNING = datetime(2026, 1, 2, 12, tzinfo=UTC)
DIGITS = ModelName("digits")


class Crashed(BaseException):
    """Control died here, as by `kill -9`: nothing catches it, nothing is tidied up."""


def crash() -> None:
    raise Crashed


@dataclass
class Fuse:
    """Counts everything that control changes, and strikes after the change that was asked for."""

    steps: int = 0
    ends_at: int | None = None
    strike: Callable[[], None] = crash
    witnesses: list[Callable[[], None]] = field(default_factory=list)
    """Look at the world after every change, a fatal one included."""

    def burn(self) -> None:
        self.steps += 1
        self.look()
        if self.ends_at is not None and self.steps >= self.ends_at:
            self.ends_at = None
            self.strike()

    def look(self) -> None:
        for witness in self.witnesses:
            witness()


@dataclass
class HandClock:
    """Time that passes when the test says so."""

    now: datetime = BEGINNING

    def __call__(self) -> datetime:
        return self.now


async def nobody(writes: Sequence[Write]) -> None:
    """Let a write be."""


class WatchedStore(MemoryStore):
    """The memory store; whoever listens hears of a route at once, and each change is a step."""

    def __init__(self, clock: HandClock, fuse: Fuse) -> None:
        super().__init__(now=clock)
        self.fuse = fuse
        self.listeners: list[Callable[[str], Awaitable[None]]] = []
        self.has_lost_receipts = False
        self.intruder: Callable[[Sequence[Write]], Awaitable[None]] = nobody

    def interrupt(
        self, kind: Kind, act: Callable[[], Awaitable[object]]
    ) -> list[tuple[Write, ...]]:
        """Have `act` come right before the next write of this kind; tell which that was."""
        met: list[tuple[Write, ...]] = []

        async def intrude(writes: Sequence[Write]) -> None:
            if not met and any(each.kind is kind for each in writes):
                met.append(tuple(writes))
                await act()

        self.intruder = intrude
        return met

    async def write_all(self, writes: Sequence[Write], *, fence: Fence | None = None) -> list[int]:
        await self.intruder(writes)
        revisions = await super().write_all(writes, fence=fence)
        for each in writes:
            if each.kind is Kind.ROUTE:
                for listener in self.listeners:
                    await listener(each.name)
        if any(each.kind is not Kind.TRAIL for each in writes):
            # Nothing is ever made of a trail, so a crash after it is a crash after what was before.
            self.fuse.burn()
        return revisions

    async def delete(self, kind: Kind, name: str) -> None:
        await super().delete(kind, name)
        self.fuse.burn()

    def lose_everything(self) -> None:
        """Be as empty as a Redis whose disk was replaced."""
        forgotten = MemoryStore(now=self._now)
        forgotten._watchers = self._watchers
        vars(self).update(vars(forgotten))
        self.has_lost_receipts = True

    def remember(self) -> dict[Kind, dict[str, bytes]]:
        """Return what a backup would have of routes, experiments and hosts."""
        kinds = (Kind.ROUTE, Kind.EXPERIMENT, Kind.HOST)
        return {kind: {n: d.body for n, d in self._living(kind).items()} for kind in kinds}

    async def come_back_as(self, remembered: dict[Kind, dict[str, bytes]]) -> None:
        """Have forgotten what came after `remember`; nobody is told."""
        listeners, self.listeners = self.listeners, []
        for kind, documents in remembered.items():
            for name, body in documents.items():
                await self.write(kind, name, body, expected=ANY)
        self.listeners = listeners


class WatchedCatalog(MemoryCatalog):
    """The memory catalog, if it is `up`; each change of names or history is a step."""

    def __init__(self, clock: HandClock, fuse: Fuse) -> None:
        super().__init__(now=clock)
        self.fuse = fuse
        self.up = True

    async def models(self) -> tuple[ModelName, ...]:
        self._require_up()
        return await super().models()

    def _model(self, model: ModelName) -> object:
        self._require_up()
        return super()._model(model)

    def _require_up(self) -> None:
        if not self.up:
            raise CatalogUnavailable("there is no registry in this test")

    async def set_aliases(self, model: ModelName, aliases: Aliases) -> None:
        await super().set_aliases(model, aliases)
        self.fuse.burn()

    async def record(self, change: ChampionChange) -> None:
        await super().record(change)
        self.fuse.burn()

    async def set_holdout(self, model: ModelName, points: int) -> None:
        await super().set_holdout(model, points)
        self.fuse.burn()


class MemoryRuntime:
    """HAProxy's map; `up` says whether HAProxy runs."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        self.look = look
        self.up = True
        self.map: dict[ModelName, str] = {}

    async def set_route(self, model: ModelName, value: str) -> None:
        self._require_up()
        self.map[model] = value
        self.look()

    async def delete_route(self, model: ModelName) -> None:
        self._require_up()
        self.map.pop(model, None)
        self.look()

    async def moment(self) -> str:
        self._require_up()
        return "now"

    async def let_meet(self, since: str, seconds: float) -> None:  # noqa: ARG002
        self._require_up()

    async def let_meet_for_ever(self) -> None:
        self._require_up()

    async def routes(self) -> Mapping[ModelName, str]:
        self._require_up()
        return dict(self.map)

    def _require_up(self) -> None:
        if not self.up:
            raise EdgeStopped("HAProxy does not run in this test")


class QuickBook(RouteBook):
    """An edge's files, without waiting for the disk: no test cuts the power."""

    def make_durable(self) -> None:
        self._unsettled.clear()


class MemoryServe:
    """Ray Serve, for which loading takes no time.

    Attributes:
        broken: Versions that do not load, and what they raise.
        unreachable: Versions that are loaded, but do not answer through the ingress.
        lost: How many replicas of a version have died.
        up: Whether Ray can be reached.
        deploys: How often it was told what to run.
    """

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.broken: dict[VersionRef, str] = {}
        self.unreachable: set[VersionRef] = set()
        self.lost: dict[VersionRef, int] = {}
        self.up = True
        self.deploys = 0
        self.specs: dict[str, HostSpec] = {}

    def config(self, spec: HostSpec) -> Mapping[str, Any]:
        return {"version": str(spec.ref), "digest": spec.digest, "replicas": spec.replicas}

    def spec(self, config: Mapping[str, Any]) -> HostSpec | None:
        return next((spec for spec in self.specs.values() if self.config(spec) == config), None)

    async def applications(self) -> Mapping[str, Application]:
        self._require_up()
        return {name: self._application(spec) for name, spec in self.specs.items()}

    async def deploy(self, specs: Iterable[HostSpec]) -> None:
        self._require_up()
        self.deploys += 1
        self.specs = {application_name(spec.ref): spec for spec in specs}
        self.fuse.burn()

    async def probe(self, ref: VersionRef) -> bool:
        return self.up and ref not in self.unreachable

    async def example(self, ref: VersionRef) -> bytes | None:  # noqa: ARG002  none is saved with one
        self._require_up()
        return None

    def _application(self, spec: HostSpec) -> Application:
        why = self.broken.get(spec.ref)
        if why is not None:
            return Application("DEPLOY_FAILED", why, 0, 0, self.config(spec))
        running = spec.replicas - self.lost.get(spec.ref, 0)
        return Application("RUNNING", "", running, 0, self.config(spec))

    def is_hot(self, ref: VersionRef) -> bool:
        """Tell whether the version would answer now with all that was declared of it."""
        troubled = ref in self.unreachable or ref in self.broken or self.lost.get(ref)
        return self.is_loaded(ref) and not troubled

    def is_loaded(self, ref: VersionRef) -> bool:
        """Tell whether Ray was told to run the version, whatever has become of it."""
        return application_name(ref) in self.specs

    def _require_up(self) -> None:
        if not self.up:
            raise HostsUnavailable("there is no Ray in this test")


@dataclass
class Edge:
    """An edge: the product's agent before a map in memory.

    Args:
        alive: False stops the heartbeat, so that the edge's lease runs out.
        deaf: True leaves the heartbeat going, but hears of no route.
    """

    agent: Agent
    runtime: MemoryRuntime
    alive: bool = True
    deaf: bool = False

    def route(self, model: ModelName = DIGITS) -> Route:
        """Return what the edge obeys."""
        return self.agent.known.routes[model]

    async def hear(self, model: str) -> None:
        """Be told that a route was written."""
        if self.alive and not self.deaf:
            await self.agent.pull(model)
            await self.agent.beat()

    async def second(self) -> None:
        """Do what an agent does every second; the store may be away."""
        if not self.alive:
            return
        with suppress(StoreUnavailable):
            await self.agent.mend()
            if not self.deaf:
                await self.agent.sync()
            await self.agent.beat()
            await self.agent.enrol()


def model_folder(parent: Path, name: str, *, columns: int = 64) -> Path:
    """Write the smallest folder that a registry takes for a model."""
    folder = parent / "artifacts" / name
    folder.mkdir(parents=True)
    tensor = '[{"type": "tensor", "tensor-spec": {"dtype": "%s", "shape": %s}}]'
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: nothing}\n"
        f"signature:\n  inputs: '{tensor % ('float64', [-1, columns])}'\n"
        f"  outputs: '{tensor % ('int64', [-1])}'\n"
    )
    (folder / "weights").write_text(name)
    return folder
