"""Routes in, acknowledgements out: the part of an edge that talks to the rest of the system.

Each method is one step that may be repeated; `serving.edge.running` calls them in a loop. A route
takes effect in an order that leaves users safe wherever it is interrupted: `routes.json`, then
`routes.map`, then HAProxy's memory, then the acknowledgement. An agent that starts makes the
later ones agree with the first.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from pydantic import ValidationError

from experiments.codec import decode, encode
from experiments.store import ANY, Kind, Store, Stored
from registry.errors import UnknownModel
from registry.refs import ModelName, Version
from serving.edge.collector import Progress
from serving.edge.haproxy import Runtime
from serving.edge.lease import Lease
from serving.edge.mapfile import UnreadableMapLine, parse_value
from serving.edge.partition import Fence, Partition, PartitionPolicy
from serving.edge.report import EdgeReport
from serving.edge.routebook import Known, RouteBook
from serving.errors import EdgeStopped, EdgeUnavailable, EdgeUnresponsive, JustRolledBack
from serving.lanes import is_lane
from serving.routes import Route, Withdrawal, is_recent, withdraw

ENROLLED_EVERY: Final = timedelta(minutes=1)
ENROLLED_FOR: Final = timedelta(days=1)
"""How long an edge that has vanished is told of."""

_log = logging.getLogger(__name__)


class Agent:
    """Keeps one edge obeying the latest routes.

    Args:
        lease: How long the store may go without a heartbeat of this edge.
        policy: What is served here when that has been too long.
        progress: Asked for the collector's numbers at each heartbeat.
        on_loss: Called when the store has lost routes, and so may have lost anything.
    """

    def __init__(
        self,
        name: str,
        *,
        book: RouteBook,
        store: Store,
        runtime: Runtime,
        lease: timedelta,
        policy: PartitionPolicy = PartitionPolicy.KEEP,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime],
        progress: Callable[[], Progress] = Progress,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._book = book
        self._store = store
        self._runtime = runtime
        self._lease = lease
        self._partition = Partition(Lease(lease, clock=clock), policy, now)
        self._fence = Fence(self._partition, runtime)
        self._now = now
        self._since = now()
        self._progress = progress
        self._on_loss = on_loss
        self._turn = asyncio.Lock()
        self._effective: dict[ModelName, tuple[int, datetime]] = {}
        self._haproxy_up = False
        self._has_asked = False
        self._trouble = ""
        self._enrolled: datetime | None = None
        book.fence(self._partition.is_fenced)

    @property
    def partition(self) -> Partition:
        return self._partition

    @property
    def lease(self) -> Lease:
        return self._partition.lease

    @property
    def known(self) -> Known:
        return self._book.known

    @property
    def haproxy_up(self) -> bool:
        """Whether HAProxy answered when it was last spoken to."""
        return self._haproxy_up

    def report(self) -> EdgeReport:
        """Return what the edge can say of itself now."""
        progress = self._progress()
        known = self.known
        return EdgeReport(
            edge=self.name,
            at=self._now(),
            epochs={model: epoch for model, (epoch, _) in self._effective.items()},
            applied_at={model: at for model, (_, at) in self._effective.items()},
            backlog_bytes=progress.backlog_bytes,
            lost_bytes=progress.lost_bytes,
            lost_requests=progress.lost_requests,
            requests_seen=progress.requests_seen,
            requests=dict(progress.requests),
            since=self._since,
            malformed_lines=progress.malformed_lines,
            haproxy_up=self._haproxy_up,
            break_glass=tuple(sorted(known.overrides)),
            withdrawn={model: tuple(sorted(it.withdrawn)) for model, it in known.overrides.items()},
            routes=known.routes,
            policy=self._partition.policy,
            cut_off=self._partition.cut_off,
            cut_offs=self._partition.cut_offs,
        )

    async def start(self) -> None:
        """Take up where the last agent was stopped, wherever that was."""
        self._book.load(self._now())
        if not self._book.is_whole:
            await self._learn()
        await self._fence.begin()
        await self.mend()

    async def reason_to_wait(self) -> str:
        """Return why HAProxy should not be started yet; empty if its map file is as it should be.

        That is so once the store was asked. If it is away, what was obeyed last has to do; an edge
        that never obeyed anything goes on waiting.
        """
        if not self._has_asked:
            return "The store has not been asked for the routes yet."
        if self._book.is_blank:
            return f"{self._book.why_blank}, and the routes cannot be had: {self._trouble}"
        async with self._turn:
            if not self._book.is_written:
                self._record(self.known)
        return "" if self._book.is_written else "The map file cannot be written."

    def miss_store(self, why: str) -> None:
        """Note that the store was asked and could not be reached."""
        self._has_asked, self._trouble = True, why

    async def beat(self) -> None:
        """Tell the store what this edge obeys. Nobody waits for a disk with that.

        Raises:
            StoreUnavailable: it is to be told again later.
        """
        since = await self._fence.moment()
        report = self.report()
        sent = self.lease.now()
        await self._store.beat(Kind.EDGE, self.name, encode(EdgeReport, report), ttl=self._lease)
        self.lease.heard(sent)
        await self._fence.heard(since)

    async def enrol(self) -> None:
        """Have the store remember that there is this edge, should it vanish; it waits for the disk.

        Raises:
            StoreUnavailable: it is to be told again later.
        """
        now = self._now()
        if self._enrolled is None or now - self._enrolled >= ENROLLED_EVERY:
            heard = now.isoformat().encode()
            await self._store.beat(Kind.MEMBER, self.name, heard, ttl=ENROLLED_FOR)
            self._enrolled = now

    async def leave(self) -> None:
        """Tell the store that this edge has ended in order, if nobody is served here any more.

        Raises:
            StoreUnavailable: then it counts as lost, until it is heard of again.
        """
        try:
            await self._runtime.routes()
        except EdgeStopped:
            await self._store.delete(Kind.MEMBER, self.name)
            await self._store.delete(Kind.EDGE, self.name)
        except EdgeUnresponsive:
            return

    async def sync(self) -> bool:
        """Obey every route in the store that is news; return whether any was.

        Raises:
            StoreUnavailable: the edge goes on with the routes that it knows.
        """
        began = self.lease.now()
        # Overrides first: the controller removes one only after it has written the route that
        # takes it over, so whoever misses the override cannot miss that route.
        overrides = await self._store.read_all(Kind.OVERRIDE)
        stored = await self._store.read_all(Kind.ROUTE)
        changed = False
        for name, document in stored.items():
            changed |= await self._offer(name, document, self._override_key(name) in overrides)
        gone = self.known.routes.keys() - stored.keys()
        for lane in filter(is_lane, gone):
            changed |= await self._forget(lane)
        if not all(map(is_lane, gone)):
            self._on_loss()
        if self._book.is_blank:
            self._record(self.known)  # Now it is known that there is nothing to know.
        self._has_asked = True
        await self._publish(overrides)
        self.lease.has_read(began)
        await self.heed_lease()
        await self._fence.put_off()
        return changed

    async def pull(self, name: str) -> bool:
        """Obey the route of one model if it is news; return whether it was.

        Raises:
            StoreUnavailable: the edge goes on with the route that it knows.
        """
        standing = False
        if name in self.known.overrides:
            key = self._override_key(name)
            standing = await self._store.read(Kind.OVERRIDE, key) is not None
        document = await self._store.read(Kind.ROUTE, name)
        return document is not None and await self._offer(name, document, standing)

    async def heed_lease(self) -> None:
        """Serve what the policy asks for, if the lease has ended or runs again."""
        self._partition.look()
        if self._partition.is_fenced != self._book.is_fenced:
            async with self._turn:
                # As it is now that it is this one's turn.
                self._book.fence(self._partition.is_fenced)
                await self._mend()

    async def mend(self) -> None:
        """Make HAProxy's memory agree with what is known, whoever of the two was restarted."""
        async with self._turn:
            await self._mend()
        await asyncio.to_thread(self._book.make_durable)

    async def roll_back(
        self,
        model: ModelName,
        *,
        by: str,
        why: str,
        withdrawn: tuple[Version, ...] = (),
        force: bool = False,
    ) -> Withdrawal:
        """Roll back here and now, asking nobody, and hold on to it until the controller knows.

        Args:
            withdrawn: The versions to take away, where a rollback that was cut short may have done
                so already: then nothing is changed. Empty for whatever the route says.
            force: Once more, however short the time since the last rollback.

        Raises:
            UnknownModel: this edge knows no route of the model.
            NothingToRollBack: there is neither a trial nor a previous version.
            JustRolledBack: it was rolled back here moments ago, and nobody said from what.
            EdgeUnresponsive: HAProxy did not answer; it is tried again every second.
        """
        async with self._turn:
            route = self.known.routes.get(model)
            if route is None:
                raise UnknownModel(f"this edge has no route for {model}")
            if withdrawn and route.served.isdisjoint(withdrawn):
                return Withdrawal(route, withdrawn, route.champion, is_repeated=True)
            withdrawal = withdraw(route, by=by, why=why, at=self._now())
            if not withdrawn and not force:
                self._require_calm(route, withdrawal)
            await self._obey(self.known.with_override(withdrawal), model)
            in_force = self._effective.get(model, (0, None))[0] >= withdrawal.route.epoch
        if not in_force:
            raise EdgeUnresponsive(f"HAProxy has not been told to roll back {model} yet")
        return withdrawal

    def _require_calm(self, route: Route, withdrawal: Withdrawal) -> None:
        if route.model in self.known.overrides and is_recent(route.at, withdrawal.route.at):
            raise JustRolledBack(
                f"{route.model} was rolled back here by {route.by} moments ago and stands for "
                f"version {route.champion}; another rollback would withdraw that too.",
                next_step="If that is what you want, confirm with --force.",
            )

    async def _learn(self) -> None:
        """Ask HAProxy for the routes, where the files that should hold them are gone or damaged."""
        try:
            found = await self._runtime.routes()
        except EdgeUnavailable:
            return
        known = self.known
        for model, value in found.items():
            try:
                route = parse_value(model, value, self._now())
                known = known.with_route(route) if known.is_news(route) else known
            except UnreadableMapLine:
                _log.exception("HAProxy has a route of %s that cannot be read", model)
        if known.routes:
            # What was kept from HAProxy because the edge was cut off is not there.
            self._record(replace(known, partial=frozenset(known.routes)))

    async def _offer(self, name: str, document: Stored, override_stands: bool) -> bool:
        try:
            route = decode(Route, document.body)
        except ValidationError:
            _log.exception("the store's route of %s cannot be read; the known one stays", name)
            return False
        async with self._turn:
            if not self.known.is_news(route):
                return False
            override = self.known.overrides.get(route.model)
            if override is not None and override.is_undone_by(route):
                # Nobody may undo a break-glass rollback without having seen it.
                seen = override.published and not override_stands
                if not seen:
                    return False
            await self._obey(self.known.with_route(route), route.model)
        return True

    async def _forget(self, lane: ModelName) -> bool:
        """Have no route of a lane that is over. Users' models are never forgotten."""
        async with self._turn:
            # Once more: it may have been opened since, and be obeyed already.
            if await self._store.read(Kind.ROUTE, lane) is not None:
                return False
            self._record(self.known.without(lane))
            self._effective.pop(lane, None)
            await self._mend()
        return True

    async def _obey(self, known: Known, model: ModelName) -> None:
        self._record(known)
        try:
            await self._runtime.set_route(model, self._book.map_values[model])
            self._haproxy_up = True
        except EdgeStopped:
            self._haproxy_up = False
        except EdgeUnresponsive:
            _log.exception("HAProxy did not take the route of %s; it is tried again", model)
            return
        self._took_effect(model)

    def _record(self, known: Known) -> None:
        try:
            self._book.record(known)
        except OSError:
            # A full disk must not stand in the way of a rollback. `mend` writes again.
            _log.exception("the routes could not be written; they are obeyed all the same")

    async def _mend(self) -> None:
        if not self._book.is_blank and not self._book.is_written:
            self._record(self.known)
        wanted = self._book.map_values
        try:
            found = await self._runtime.routes()
            self._haproxy_up = True
            for model, value in wanted.items():
                if found.get(model) != value:
                    await self._runtime.set_route(model, value)
            for lane in filter(is_lane, found.keys() - wanted.keys()):
                await self._runtime.delete_route(lane)
        except EdgeStopped:
            self._haproxy_up = False
        except EdgeUnresponsive:
            _log.exception("HAProxy's map could not be compared; it is tried again")
            return
        for model in wanted:
            self._took_effect(model)

    def _took_effect(self, model: ModelName) -> None:
        epoch = self.known.routes[model].epoch
        if self._effective.get(model, (0, None))[0] != epoch:
            self._effective[model] = (epoch, self._now())

    async def _publish(self, overrides: Mapping[str, Stored]) -> None:
        for model, override in self.known.overrides.items():
            key = self._override_key(model)
            body = encode(Route, override.route)
            stored = overrides.get(key)
            if stored is None or stored.body != body:
                await self._store.write(Kind.OVERRIDE, key, body, expected=ANY)
            async with self._turn:
                if self.known.overrides.get(model) == override and not override.published:
                    self._record(self.known.with_published(model))

    def _override_key(self, model: str) -> str:
        return f"{self.name}:{model}"
