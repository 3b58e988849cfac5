"""The composition root: everything that control is made of, built from `Settings` alone."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client.core import Metric

from experiments.errors import LeaseLost, StoreUnavailable
from experiments.experiment import Experiment
from experiments.report import measure
from experiments.store import Fence, Store
from experiments.store.redis import RedisStore
from registry import Catalog
from registry.errors import TiltyardError, UnknownVersion
from registry.mlflow import MlflowCatalog
from registry.refs import ModelName, VersionRef
from serving.bookkeeping import Bookkeeping
from serving.break_glass import Order, RolledBack, break_glass
from serving.clock import Clock, utc_now
from serving.commands import Commands
from serving.controller import Controller
from serving.drilling import Drills
from serving.edge.stand_in import StandIn
from serving.hosts import HostStatus, statuses
from serving.hosts.reconciler import Serve, reconcile
from serving.hosts.serve import HostOptions, ServeClient
from serving.intake import Intake
from serving.lane_keeper import LaneKeeper
from serving.lanes import is_lane
from serving.metrics.control import PERSON, Metrics
from serving.metrics.exposition import text
from serving.metrics.system import standing
from serving.outlook import outlook
from serving.records import Records
from serving.rollback import CutShort, Rollback
from serving.settings import Settings
from serving.spool import Spool
from serving.switch import Switch
from serving.trails import Trails
from serving.views import (
    ExperimentView,
    HostView,
    SystemView,
    view_edge,
    view_experiment,
    view_host,
    view_model,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Control:
    """Everything that the API speaks for; `troubles` is the only thing in it that changes."""

    settings: Settings
    store: Store
    records: Records
    catalog: Catalog
    commands: Commands
    rollback: Rollback
    controller: Controller
    bookkeeping: Bookkeeping
    serve: Serve
    intake: Intake
    trails: Trails
    lanes: LaneKeeper
    drills: Drills
    clock: Clock
    metrics: Metrics = field(default_factory=Metrics)
    troubles: dict[str, str] = field(default_factory=dict)
    fence: Fence | None = None

    async def roll_back(self, order: Order) -> RolledBack:
        """Roll back; through the edges of this machine if the store cannot be reached."""
        try:
            done = await self.rollback(order)
        except StoreUnavailable as error:
            if order.to is not None:
                raise
            if isinstance(error, CutShort):
                order = replace(order, withdrawn=error.withdrawn)
            log.warning("the store is away: rolling %s back at the edges themselves", order.model)
            done = await break_glass(self.settings.local_edges, order)
        self.metrics.observe_rollback(done.milliseconds / 1000, by=PERSON)
        return done

    async def show(self, experiment: Experiment, *, brief: bool = False) -> ExperimentView:
        """Return an experiment with its evidence as it is now.

        Args:
            brief: Without the report.
        """
        now = self.clock()
        evidence = await self.controller.evidence(experiment, now)
        # A report takes longer to make than a rollback may have to wait.
        return await asyncio.to_thread(
            view_experiment, experiment, evidence, experiment.ended_at or now, brief=brief
        )

    async def started(self, experiment: Experiment) -> ExperimentView:
        """Return an experiment that has just begun, with what can be foreseen of it."""
        view = await self.show(experiment)
        edges = await self.records.edges()
        route = (await self.records.route(experiment.declaration.model)).value
        foreseen = await asyncio.to_thread(
            outlook, experiment.declaration, edges, holdout=route.holdout
        )
        return replace(view, traffic=foreseen.traffic, warnings=foreseen.warnings)

    async def host(self, ref: VersionRef) -> HostView:
        """Return how far a deployed version is.

        Raises:
            UnknownVersion: it is not deployed.
        """
        status = (await statuses(self.store)).get(ref)
        if status is None:
            raise UnknownVersion(f"{ref} is not deployed.", next_step="Deploy it first.")
        held = (await self.records.routes()).get(ref.model)
        return view_host(status, held.value if held else None)

    async def told(self) -> bytes:
        """Return what Prometheus is told; while the store is away, only of this process."""
        self.metrics.waiting_outcomes.set(self.intake.waiting_bytes)
        families: list[Metric] = []
        with suppress(StoreUnavailable):
            families.extend(standing(await self.overview()))
        return text(families, self.metrics.registry)

    async def overview(self) -> SystemView:
        """Return every model, edge and trouble; lanes are nobody's models, and not told of."""
        known = await self.records.routes()
        routes = {model: held for model, held in known.items() if not is_lane(model)}
        hosts: dict[ModelName, list[HostStatus]] = {model: [] for model in routes}
        for ref, status in sorted((await statuses(self.store)).items()):
            if not is_lane(ref.model):
                hosts.setdefault(ref.model, []).append(status)
        models = [
            view_model(model, routes[model].value if model in routes else None, found)
            for model, found in sorted(hosts.items())
        ]
        edges = tuple(view_edge(report) for report in await self.records.edges())
        alive = {edge.edge for edge in edges}
        enrolled = await self.records.enrolled()
        return SystemView(
            leads=self.fence is not None,
            edges=edges,
            models=tuple(models),
            troubles=dict(self.troubles),
            waiting_outcome_bytes=self.intake.waiting_bytes,
            lost_edges={edge: at for edge, at in enrolled.items() if edge not in alive},
        )

    async def run(self) -> None:
        """Tick until cancelled. Slow parts have a loop of their own and delay no decision."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._forever("decisions", self._decide))
            loops.create_task(self._forever("hosts", self._reconcile))
            loops.create_task(self._forever("registry", self._keep_books))
            loops.create_task(self._forever("outcomes", self._drain))
            loops.create_task(self._forever("trails", self._follow))

    async def _decide(self) -> Mapping[str, str]:
        ticked = await self.controller.tick()
        if (ticked.fence is None) != (self.fence is None):
            log.info("this control leads" if ticked.fence else "another control leads")
        self.fence = ticked.fence
        self.metrics.leads.set(ticked.fence is not None)
        self.metrics.ticks.inc(ticked.fence is not None)
        self.metrics.changes.inc(len(ticked.acted))
        for act in ticked.acted:
            log.info("%s", act)
        return ticked.failed

    async def _reconcile(self) -> Mapping[str, str]:
        if self.fence is not None:
            await reconcile(self.store, self.serve, now=self.clock(), fence=self.fence)
        return {}

    async def _keep_books(self) -> Mapping[str, str]:
        if self.fence is not None:
            for act in await self.bookkeeping.tick(self.fence):
                log.info("%s", act)
        return {}

    async def _drain(self) -> Mapping[str, str]:
        if drained := await self.intake.drain():
            log.info("%d requests with outcomes were counted that Redis had missed", drained)
        return {}

    async def _follow(self) -> Mapping[str, str]:
        if self.fence is not None:
            await self.trails.tick(self.fence)
        return {}

    async def _forever(self, name: str, step: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
        """Take a step every tick; a failure is said once, shown in the status, and tried again."""
        mine: set[str] = set()
        while True:
            found: dict[str, str] = {}
            try:
                found = dict(await step())
            except LeaseLost:
                self.fence = None
            except TiltyardError as error:
                if isinstance(error, StoreUnavailable):
                    self.fence = None
                found[name] = f"{error.message} {error.hint}".strip()
            except Exception as error:
                # A defect in one part must not end the others, least of all rollbacks.
                log.exception("%s failed", name)
                found[name] = f"{type(error).__name__}: {error}"
            for part, trouble in found.items():
                if self.troubles.get(part) != trouble:
                    log.warning("%s: %s", part, trouble)
                self.troubles[part] = trouble
            for part in mine - found.keys():
                log.info("%s: well again", part)
                self.troubles.pop(part, None)
            mine = set(found)
            self.metrics.troubles.set(len(self.troubles))
            await asyncio.sleep(self.settings.tick.total_seconds())


@asynccontextmanager
async def open_control(settings: Settings, *, ticking: bool = True) -> AsyncIterator[Control]:
    """Build control from its settings, and run its loops until the context ends.

    Args:
        ticking: False leaves every tick to the caller.
    """
    clock = utc_now
    holder = f"{socket.gethostname()}:{os.getpid()}"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(RedisStore.open(settings.redis_url))
        catalog = await stack.enter_async_context(
            MlflowCatalog.open(settings.catalog_uri, settings.artifact_dir)
        )
        serve = await stack.enter_async_context(
            ServeClient.open(
                settings.ray_dashboard_url, host_options(settings), token=_ray_token(settings)
            )
        )
        records = Records(store)
        stand_in = StandIn(settings.local_edges, store, clock)
        switch = Switch(store, records, lease=settings.edge_lease, stand_in=stand_in)
        metrics = Metrics()
        controller = Controller(holder, settings, store, records, switch, clock, metrics)
        rollback = Rollback(store, records, switch, clock)
        lanes = LaneKeeper(store, records, clock)
        drills = Drills(store, lanes, switch, rollback, clock, observe=metrics.observe_drill)
        stack.push_async_callback(drills.close)
        control = Control(
            settings=settings,
            store=store,
            records=records,
            catalog=catalog,
            commands=Commands(store, records, catalog, switch, clock),
            rollback=rollback,
            controller=controller,
            bookkeeping=Bookkeeping(store, records, catalog, switch, clock),
            serve=serve,
            intake=Intake(
                store,
                records,
                key=settings.signing_key.read_bytes(),
                window=settings.attribution_window,
                spool=Spool(
                    settings.state_dir / f"control-{settings.control_port}" / "outcomes.spool"
                ),
                clock=clock,
            ),
            trails=Trails(records, controller, measure, clock),
            lanes=lanes,
            drills=drills,
            clock=clock,
            metrics=metrics,
        )
        if not ticking:
            yield control
            return
        loops = asyncio.create_task(control.run())
        try:
            yield control
        finally:
            loops.cancel()
            await asyncio.wait({loops})


def host_options(settings: Settings) -> HostOptions:
    """Return what all hosts have in common."""
    return HostOptions(
        ingress_host=settings.serve_host,
        ingress_port=settings.serve_port,
        workdir=settings.state_dir / "models",
        max_body_bytes=settings.max_body_bytes,
    )


def _ray_token(settings: Settings) -> str | None:
    path: Path = settings.ray_token
    return path.read_text().strip() if path.exists() else None
