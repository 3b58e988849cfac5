"""Lanes opened, kept and swept away.

Nobody has to come back to tidy up: whatever belongs to a lane that nobody holds is removed by the
controller's next tick, so a crash of the holder, at any moment, leaves nothing for long.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from experiments.codec import decode, encode
from experiments.errors import StaleRevision
from experiments.store import Fence, Kind, Store
from registry.errors import UnknownModel
from registry.refs import ModelName, VersionRef
from serving.clock import Clock
from serving.errors import AlreadyDeployed, LaneTaken, TargetNotHot, UnknownLane
from serving.hosts import HostSpec, HostState, HostStatus, declare, read_status, statuses, withdraw
from serving.hosts.faults import Fault
from serving.lanes import CHALLENGERS, LEASE, STAND_IN, Lane, is_lane, lane_of
from serving.records import Records
from serving.routes import Route

SMALL_CPUS = 0.1
"""A lane's host shares a CPU with whatever else runs: it is there to be tried, not to be quick."""


class LaneKeeper:
    """Opens lanes, and removes what is left of them. Every method may raise `StoreUnavailable`."""

    def __init__(self, store: Store, records: Records, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._clock = clock

    async def keep(
        self, model: ModelName, purpose: str, *, holder: str, by: str, faults: Collection[Fault]
    ) -> Lane:
        """Open a lane, or keep it for another minute, and have hosts with these faults loaded.

        The lane has a route as soon as its champion is hot.

        Raises:
            UnknownModel: the model serves no traffic.
            TargetNotHot: its champion is not deployed.
            LaneTaken: another holder uses the lane.
        """
        lane, is_new = await self._lane_for(model, purpose, holder, by)
        found = await statuses(self._store)
        spec = _spec(found, lane)
        await self._hold(lane, is_new=is_new)
        wanted = {STAND_IN: Fault.NONE} | {CHALLENGERS[fault]: fault for fault in faults}
        for version, fault in wanted.items():
            ref = VersionRef(lane.model, version)
            if is_new or ref not in found:
                with suppress(AlreadyDeployed):
                    await declare(
                        self._store, replace(spec, ref=ref, fault=fault), now=self._clock()
                    )
        await self._route(lane)
        return lane

    async def hold(self, model: ModelName, purpose: str, *, holder: str, by: str) -> Lane:
        """Open a lane without hosts, or keep it for another minute. It has a route at once.

        Raises:
            UnknownModel: the model serves no traffic.
            LaneTaken: another holder uses the lane.
        """
        lane, is_new = await self._lane_for(model, purpose, holder, by)
        await self._hold(lane, is_new=is_new)
        await self._open(lane)
        return lane

    async def held(self, model: ModelName, purpose: str, *, holder: str) -> Lane:
        """Return the lane that `holder` uses.

        Raises:
            UnknownLane: there is none, or not any more.
            LaneTaken: another holder uses it.
        """
        name = lane_of(model, purpose)
        lane = await self._lane(name)
        if lane is None:
            raise UnknownLane(f"There is no lane {name}.")
        if lane.holder != holder:
            raise LaneTaken(f"{lane.by} uses the lane {name} since {lane.since:%H:%M:%S} UTC.")
        return lane

    async def end(self, lane: Lane) -> None:
        """Give a lane up; the next tick removes all that belongs to it."""
        await self._store.delete(Kind.LANE, lane.model)

    async def sweep(self, fence: Fence) -> list[str]:
        """Remove routes, experiments and hosts of lanes that nobody holds."""
        hosts = await self._store.read_all(Kind.HOST)
        known = list(map(read_status, hosts.values()))
        traces = {status.spec.ref.model for status in known}
        traces |= {ModelName(name) for name in await self._store.read_all(Kind.ROUTE)}
        if not any(map(is_lane, traces)):
            return []
        held = await self._store.read_all(Kind.LANE)
        over = {model for model in traces if is_lane(model) and model not in held}
        acted = [
            f"{model}: nobody holds this lane any more, it is removed"
            for model in sorted(over)
            if await self._forget_traffic(model)
        ]
        for status in known:
            if status.spec.ref.model not in over:
                continue
            if status.state is HostState.REMOVED:
                await self._store.delete(Kind.HOST, str(status.spec.ref))
            else:
                await withdraw(self._store, status.spec.ref, now=self._clock(), fence=fence)
        return acted

    async def _lane_for(
        self, model: ModelName, purpose: str, holder: str, by: str
    ) -> tuple[Lane, bool]:
        """Return the lane, and whether it is a new one."""
        name = lane_of(model, purpose)
        lane = await self._lane(name)
        if lane is None:
            champion = (await self._records.route(model)).value.champion
            return Lane(name, VersionRef(model, champion), holder, by, self._clock()), True
        if lane.holder != holder:
            raise LaneTaken(f"{lane.by} uses the lane {name} since {lane.since:%H:%M:%S} UTC.")
        return lane, False

    async def _hold(self, lane: Lane, *, is_new: bool) -> None:
        await self._store.beat(Kind.LANE, lane.model, encode(Lane, lane), ttl=LEASE)
        if is_new:
            await self._forget_traffic(lane.model)  # Of a lane before, if any is left.

    async def _lane(self, name: ModelName) -> Lane | None:
        stored = await self._store.read(Kind.LANE, name)
        return decode(Lane, stored.body) if stored else None

    async def _route(self, lane: Lane) -> None:
        """Give the lane its first route, as soon as there is somebody to answer."""
        champion = (await statuses(self._store)).get(VersionRef(lane.model, STAND_IN))
        if champion is None or champion.state is not HostState.HOT:
            return
        await self._open(lane)

    async def _open(self, lane: Lane) -> None:
        """Give the lane its first route, unless it has one."""
        with suppress(UnknownModel):
            await self._records.route(lane.model)
            return
        now = self._clock()
        # Beyond every epoch of a lane before, which an edge may not have forgotten yet.
        epoch = int(now.timestamp() * 1000)
        why = f"A lane of {lane.of}."
        route = Route(lane.model, epoch, STAND_IN, None, (), lane.by, why, now)
        with suppress(StaleRevision):
            await self._records.write_route(route, expected=0)

    async def _forget_traffic(self, model: ModelName) -> bool:
        """Remove a lane's experiments, then its route; return whether there was any of them."""
        there_was = False
        for held in await self._records.experiments():
            if held.value.declaration.model == model:
                name = held.value.declaration.name
                await self._store.delete(Kind.EXPERIMENT, name)
                await self._store.delete(Kind.TRAIL, name)
                await self._store.forget(name)
                there_was = True
        if await self._store.read(Kind.ROUTE, model) is not None:
            await self._store.delete(Kind.ROUTE, model)
            there_was = True
        return there_was


def _spec(found: Mapping[VersionRef, HostStatus], lane: Lane) -> HostSpec:
    """Return what the hosts of a lane have in common with the users' version."""
    users = found.get(lane.of)
    if users is None:
        raise TargetNotHot(f"{lane.of} is not deployed, so nothing can be loaded in its likeness.")
    return replace(users.spec, replicas=1, cpus=min(users.spec.cpus, SMALL_CPUS))
