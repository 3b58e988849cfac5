"""A whole Tiltyard in one process, on its memory adapters: no socket, no sleep, no chance.

Everything that decides or acts is the product's own: control, its API, and the edges' agents. In
memory is what is `outside`. Ray loads a version between two ticks, and edges obey a route as soon
as it is written, unless a test says otherwise. `World.crash_after` ends control in the middle.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import httpx2
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from experiments.errors import StoreUnavailable
from experiments.experiment import Experiment
from experiments.model import ExperimentName
from experiments.report import measure
from experiments.spec import read_declaration
from registry.errors import TiltyardError
from registry.refs import ModelName, Version, VersionRef
from serving.api import create
from serving.app import Control
from serving.bookkeeping import Bookkeeping
from serving.commands import Commands, Resources
from serving.controller import Controller, Ticked
from serving.drilling import Drills
from serving.edge.agent import Agent
from serving.edge.collector import Progress
from serving.hosts import HostState, statuses
from serving.hosts.reconciler import reconcile
from serving.intake import Intake
from serving.lane_keeper import LaneKeeper
from serving.metrics.control import Metrics
from serving.records import Records
from serving.rollback import Rollback
from serving.routes import Route
from serving.settings import Settings
from serving.spool import SPOOL_LIMIT, Spool
from serving.switch import Switch
from serving.trails import Trails
from tests.story.evidence import KEY, AddedEvidence
from tests.story.outside import (
    DIGITS,
    Edge,
    Fuse,
    HandClock,
    MemoryRuntime,
    MemoryServe,
    QuickBook,
    WatchedCatalog,
    WatchedStore,
    crash,
    model_folder,
)

FILE = """
name: digits-v2
model: digits
challenger: 2
unit: header:x-unit-id
share: [5%, 50%]
goal: {metric: correct, kind: binary, direction: increase, min_effect: 1%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}
  - {metric: latency_ms, above: 250, max_ratio: 1.5}
limits: {min_units: 200, min_runtime: 10s, max_runtime: 7d}
"""
"""An experiment file that fits `World.standing`."""


@dataclass
class World:
    """Everything at hand: `control` to command, `edges` to look at, `pass_time` and `tick`.

    Args:
        folder: An empty folder for model files and the edges' own files.
    """

    folder: Path
    clock: HandClock = field(default_factory=HandClock)
    fuse: Fuse = field(default_factory=Fuse)
    edges: dict[str, Edge] = field(default_factory=dict)
    spool_limit: int = SPOOL_LIMIT

    def __post_init__(self) -> None:
        self.settings = Settings(state_dir=self.folder)
        self.store = WatchedStore(self.clock, self.fuse)
        self.catalog = WatchedCatalog(self.clock, self.fuse)
        self.serve = MemoryServe(self.fuse)
        self.records = Records(self.store)
        self.lives = 0
        self.evidence = AddedEvidence(self.store, self.records, self.clock)
        self.control = self._new_control()

    @classmethod
    async def standing(cls, folder: Path, *, versions: int = 2, edges: int = 1) -> "World":
        """Return a world in which `digits` has hot versions, and version 1 is the champion."""
        world = cls(folder)
        for number in range(edges):
            await world.add_edge(f"edge-{number}")
        for _ in range(versions):
            await world.deploy((await world.register()).version)
        return world

    # Control

    def _new_control(self) -> Control:
        self.lives += 1
        # Every edge that is to obey has obeyed when a route is written, so none is waited for.
        switch = Switch(self.store, self.records, patience=0)
        metrics = Metrics()
        holder = f"control-{self.lives}"
        controller = Controller(
            holder, self.settings, self.store, self.records, switch, self.clock, metrics
        )
        rollback = Rollback(self.store, self.records, switch, self.clock)
        lanes = LaneKeeper(self.store, self.records, self.clock)
        return Control(
            settings=self.settings,
            store=self.store,
            records=self.records,
            catalog=self.catalog,
            commands=Commands(self.store, self.records, self.catalog, switch, self.clock),
            rollback=rollback,
            controller=controller,
            bookkeeping=Bookkeeping(self.store, self.records, self.catalog, switch, self.clock),
            serve=self.serve,
            intake=Intake(
                self.store,
                self.records,
                key=KEY,
                window=self.settings.attribution_window,
                spool=Spool(self.folder / "control" / "outcomes.spool", limit=self.spool_limit),
                clock=self.clock,
            ),
            trails=Trails(self.records, controller, measure, self.clock),
            lanes=lanes,
            drills=Drills(self.store, lanes, switch, rollback, self.clock, pause=self._yield),
            clock=self.clock,
            metrics=metrics,
        )

    async def _yield(self, _seconds: float) -> None:
        """Let others have their turn; no time passes by that."""
        await asyncio.sleep(0)

    async def tick(self) -> Ticked:
        """Let control do once all that it does every second: decide, load, keep its books."""
        ticked = await self.control.controller.tick()
        self.control.fence = fence = ticked.fence
        if fence is not None:
            await reconcile(self.store, self.serve, now=self.clock(), fence=fence)
            await self.control.bookkeeping.tick(fence)
        return ticked

    async def live(self, seconds: int) -> list[str]:
        """Let control and edges live on, every part of them for itself, as their loops do.

        Returns:
            What control could not do: codes of errors, and names of experiments.
        """
        failed: list[str] = []
        for _ in range(seconds):
            await self.pass_time(1)
            try:
                ticked = await self.control.controller.tick()
            except StoreUnavailable as error:
                self.control.fence = None
                failed.append(error.code)
                continue
            failed += ticked.failed
            self.control.fence = ticked.fence
            for part in (self._drain, self._reconcile, self._keep_books, self._follow):
                try:
                    await part()
                except TiltyardError as error:
                    failed.append(error.code)
        return failed

    async def _drain(self) -> None:
        await self.control.intake.drain()

    async def _reconcile(self) -> None:
        if self.control.fence is not None:
            fence = self.control.fence
            await reconcile(self.store, self.serve, now=self.clock(), fence=fence)

    async def _keep_books(self) -> None:
        if self.control.fence is not None:
            await self.control.bookkeeping.tick(self.control.fence)

    async def _follow(self) -> None:
        if self.control.fence is not None:
            await self.control.trails.tick(self.control.fence)

    def rival(self) -> Control:
        """Start a second control beside the first, and return it."""
        return self._new_control()

    def crash_after(self, steps: int) -> None:
        """Have control die, by raising `Crashed`, right after so many further changes."""
        self.fuse.strike = crash
        self.fuse.ends_at = self.fuse.steps + steps

    def lose_store_after(self, steps: int) -> None:
        """Have the store be away right after so many further changes."""
        self.fuse.strike = self.store.disconnect
        self.fuse.ends_at = self.fuse.steps + steps

    async def restart_control(self) -> None:
        """Put another control process in the place of this one, and let the old lease run out."""
        self.fuse.ends_at = None
        self.control = self._new_control()
        await self.pass_time(self.settings.leader_lease.total_seconds())

    def transport(self) -> httpx2.ASGITransport:
        """Return a way to the control API that needs no socket."""
        api = _api()

        async def present(scope: Scope, receive: Receive, send: Send) -> None:
            # Whichever control is the present one when it is asked.
            api.state.control = self.control
            await api(scope, receive, send)

        return httpx2.ASGITransport(app=present)

    def http(self) -> httpx2.AsyncClient:
        """Return a client of the control API."""
        return httpx2.AsyncClient(transport=self.transport(), base_url="http://control")

    # Time, edges, versions

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; every edge that lives is heard of at the end of it."""
        self.clock.now += timedelta(seconds=seconds)
        for edge in self.edges.values():
            await edge.second()

    async def add_edge(self, name: str, *, progress: Callable[[], Progress] = Progress) -> Edge:
        """Start an edge; one of the same name is taken up with the files that it left."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        runtime = MemoryRuntime(self.fuse.look)
        agent = Agent(
            name,
            book=QuickBook(folder),
            store=self.store,
            runtime=runtime,
            lease=self.settings.edge_lease,
            now=self.clock,
            progress=progress,
        )
        edge = self.edges[name] = Edge(agent, runtime)
        self.store.listeners = [each.hear for each in self.edges.values()]
        await agent.start()
        await edge.second()
        return edge

    async def register(self, model: ModelName = DIGITS, *, columns: int = 64) -> VersionRef:
        """Register the next version of a model that takes rows of `columns` numbers."""
        known = await self.catalog.versions(model) if model in await self.catalog.models() else ()
        folder = model_folder(self.folder, f"{model}-{len(known) + 1}", columns=columns)
        return (await self.catalog.register(model, folder)).ref

    async def deploy(self, version: int, *, model: ModelName = DIGITS) -> None:
        """Have a version loaded, and tick until control has seen how that ended."""
        ref = VersionRef(model, Version(version))
        await self.control.commands.deploy(ref, Resources(replicas=2, cpus=0.1, gpus=0))
        for _ in range(2):
            await self.tick()

    async def state(self, version: int, *, model: ModelName = DIGITS) -> HostState | None:
        """Return how far a version is; None if it is not deployed."""
        status = (await statuses(self.store)).get(VersionRef(model, Version(version)))
        return status and status.state

    async def route(self, model: ModelName = DIGITS) -> Route:
        """Return the route in the store."""
        return (await self.records.route(model)).value

    # Experiments

    async def start(self, file: str = FILE) -> ExperimentName:
        """Begin the experiment that an experiment file declares."""
        held = await self.control.commands.start(read_declaration(file), by="a test")
        return held.value.declaration.name

    async def experiment(self, name: str = "digits-v2") -> Experiment:
        """Return an experiment as the store has it."""
        return (await self.records.experiment(ExperimentName(name))).value


@cache
def _api() -> FastAPI:
    """Build the API once: the worlds of a test run take turns with it."""

    def opened_already() -> AbstractAsyncContextManager[Control]:
        raise AssertionError("the API's lifespan does not run in this test")

    return create(opened_already)
