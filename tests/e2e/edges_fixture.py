"""Several edges on one machine, as `tiltyard up` runs them: supervised, with Redis, without Ray."""

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from experiments.errors import StoreUnavailable
from experiments.experiment import Experiment
from experiments.spec import read_declaration
from experiments.store import ANY, Kind
from experiments.store.redis import RedisStore
from registry.refs import ModelName, Version, VersionRef
from serving.clock import utc_now
from serving.controller import Controller
from serving.drilling import Drills
from serving.edge.config import EdgeFiles
from serving.edge.report import EdgeReport
from serving.edge.runtime import EdgeRuntime
from serving.edge.stand_in import StandIn
from serving.hosts import HostSpec, HostState, HostStatus, write_status
from serving.lane_keeper import LaneKeeper
from serving.local.ports import with_free_ports
from serving.local.process import Mark, Program
from serving.local.supervisor import (
    Supervisor,
    edge_programs,
    read_children,
    redis_program,
    stop_all,
)
from serving.records import Records
from serving.rollback import Rollback
from serving.routes import Route
from serving.settings import Settings
from serving.switch import Switch
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import MODEL, free_port, make_route
from tests.e2e.ingress import Ingress

LOOK_SECONDS = 0.02

FILE = """
name: {name}
model: digits
challenger: 2
unit: request
share: [50%]
goal: {{metric: correct, kind: binary, direction: increase, min_effect: 1%}}
"""
"""An experiment in which half of the requests meet version 2."""


@dataclass
class Machine:
    """Edges under the product's own supervisor, before a stand-in for Ray Serve."""

    settings: Settings
    ingress: Ingress

    @property
    def edges(self) -> tuple[Settings, ...]:
        return self.settings.local_edges

    def mark(self, name: str) -> Mark:
        """Return the process that the supervisor keeps under a name."""
        return read_children(self.settings.state_dir)[name]

    def kill(self, *names: str) -> list[Mark]:
        """End processes as a crash would, and return which they were."""
        marks = [self.mark(name) for name in names]
        for mark in marks:
            os.kill(mark.pid, signal.SIGKILL)
        return marks

    async def lives(self, name: str, *, after: Mark | None = None) -> None:
        """Wait until a process runs under a name, another one than before."""

        async def there() -> bool:
            mark = read_children(self.settings.state_dir).get(name)
            return mark is not None and mark != after and mark.process() is not None

        await eventually(there, what=f"{name} runs", pause=LOOK_SECONDS)

    async def listens(self, edge: Settings) -> None:
        """Wait until an edge's HAProxy answers."""
        await eventually(
            lambda: is_live(edge), what=f"{edge.edge_name} answers", pause=LOOK_SECONDS
        )

    async def listen(self) -> None:
        """Wait until every edge answers and is heard of."""
        for edge in self.edges:
            await self.listens(edge)

    def in_memory(self, edge: Settings) -> dict[ModelName, str]:
        """Return what the HAProxy of an edge obeys."""
        return asyncio.run(EdgeRuntime(EdgeFiles(edge.edge_dir).admin_socket).routes())


async def is_live(edge: Settings) -> bool:
    """Tell whether somebody listens for an edge's clients."""
    async with httpx2.AsyncClient(trust_env=False, timeout=5.0) as client:
        try:
            return (await client.get(f"{edge.edge_url}/v2/health/live")).status_code == 200
        except httpx2.HTTPError:
            return False


@dataclass
class Control:
    """What of control moves routes, stepped by hand."""

    machine: Machine
    store: RedisStore
    records: Records
    switch: Switch
    rollback: Rollback
    controller: Controller
    drills: Drills

    async def heard(self) -> dict[str, EdgeReport]:
        """Return what every live edge says."""
        return {report.edge: report for report in await self.records.edges()}

    async def obeyed(self, epoch: int, model: ModelName = MODEL) -> None:
        """Wait until every edge says that it obeys an epoch, or a later one."""
        found: dict[str, int] = {}

        async def all_do() -> bool:
            with suppress(StoreUnavailable):
                heard = await self.heard()
                found.update({name: r.epochs.get(model, 0) for name, r in heard.items()})
            names = {edge.edge_name for edge in self.machine.edges}
            return found.keys() == names and min(found.values()) >= epoch

        await eventually(all_do, what=lambda: f"epoch {epoch}: {found}", pause=LOOK_SECONDS)

    async def hot(self, *versions: Version) -> None:
        """Have control believe that these versions would answer at once, as they do."""
        for version in versions:
            ref = VersionRef(MODEL, version)
            spec = HostSpec(ref, artifact="", digest="", replicas=1, cpus=0.1, gpus=0)
            status = HostStatus(spec, HostState.HOT, 1, "", utc_now(), loaded=True)
            await self.store.write(Kind.HOST, str(ref), write_status(status), expected=ANY)

    async def begin(self, file: str) -> Experiment:
        """Begin the experiment that a file declares, against the champion as it is."""
        champion = (await self.records.route(MODEL)).value.champion
        experiment = Experiment.begin(read_declaration(file), champion, utc_now())
        await self.records.write_experiment(experiment, expected=0)
        switched = await self.switch.settle(experiment, by="tests", at=utc_now())
        await self.obeyed(switched.after.epoch)
        return experiment

    async def publish(self, **changes: object) -> Route:
        """Give the model another route, one epoch on, and wait until every edge obeys."""
        route = await self.write(**changes)
        await self.obeyed(route.epoch)
        return route

    async def write(self, **changes: object) -> Route:
        """Give the model another route, one epoch on, without waiting for anybody."""
        held = (await self.records.routes()).get(MODEL)
        epoch, revision = (held.value.epoch, held.revision) if held else (0, 0)
        route = replace(make_route(epoch + 1, **changes), at=utc_now())  # type: ignore[arg-type]
        await self.records.write_route(route, expected=revision)
        return route


@asynccontextmanager
async def control_of(machine: Machine) -> AsyncIterator[Control]:
    """Open what control has of a machine."""
    settings = machine.settings
    async with RedisStore.open(settings.redis_url) as store:
        records = Records(store)
        stand_in = StandIn(settings.local_edges, store)
        switch = Switch(store, records, stand_in=stand_in)
        rollback = Rollback(store, records, switch, utc_now)
        controller = Controller("tests", settings, store, records, switch, utc_now)
        drills = Drills(store, LaneKeeper(store, records, utc_now), switch, rollback, utc_now)
        try:
            yield Control(machine, store, records, switch, rollback, controller, drills)
        finally:
            await drills.close()


@contextmanager
def supervised(settings: Settings, programs: Sequence[Program]) -> Iterator[None]:
    """Look after programs, in a thread; what runs is left running, as by a supervisor that dies."""
    loop = asyncio.new_event_loop()
    keeping = loop.create_task(Supervisor(settings, programs).keep())

    def keep() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(keeping)

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(keeping.cancel)
        thread.join()
        loop.close()


@contextmanager
def machine_with(edges: int, **settings: object) -> Iterator[Machine]:
    """Prepare a machine on which nothing runs yet; end whatever was started on it."""
    with tempfile.TemporaryDirectory(prefix="edges-") as folder:
        stated = Settings(
            state_dir=Path(folder),
            edges=edges,
            serve_port=free_port(),
            **settings,  # type: ignore[arg-type]
        )
        made = with_free_ports(stated)
        ingress = Ingress(made.serve_port)
        ingress.start()
        try:
            yield Machine(made, ingress)
        finally:
            # In a thread, because a test's own event loop may run in this one.
            ending = threading.Thread(target=lambda: asyncio.run(stop_all(made)))
            ending.start()
            ending.join()
            ingress.stop()


def edges_of(settings: Settings) -> list[Program]:
    """Return what runs for every edge."""
    return [program for edge in settings.local_edges for program in edge_programs(edge)]


def held_back(program: Program) -> tuple[Program, threading.Event]:
    """Return a program that is started, and started again, only while an event is set."""
    may_live = threading.Event()

    async def permission() -> None:
        while not may_live.is_set():  # noqa: ASYNC110  it is set in another thread
            await asyncio.sleep(LOOK_SECONDS)

    return replace(program, permission=permission), may_live


@contextmanager
def running_machine(edges: int, **settings: object) -> Iterator[Machine]:
    """Start Redis and edges, and wait until clients are answered everywhere."""
    with (
        machine_with(edges, **settings) as machine,
        supervised(
            machine.settings, [redis_program(machine.settings), *edges_of(machine.settings)]
        ),
    ):
        asyncio.run(machine.listen())
        yield machine
