"""The store, kept in the memory of one process: for tests, and to try things without Redis."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from experiments.errors import LeaseLost, StoreUnavailable
from experiments.model import ExperimentName
from experiments.stats.moments import EMPTY, Moments
from experiments.store import (
    ANY,
    Applied,
    Batch,
    Cell,
    Fence,
    Kind,
    OutcomeRecord,
    Readings,
    Store,
    Stored,
    Write,
)
from experiments.store.pairs import check_batch, check_pairs
from experiments.store.slots import check_slots
from experiments.store.writes import check_writes, stale

_HOUR = timedelta(hours=1)
_NEVER = datetime.max.replace(tzinfo=UTC)

Change = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class _Document:
    stored: Stored
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: str
    fence: Fence
    expires_at: datetime


class _Changes:
    """What one watcher has not been told yet; None says that the connection broke."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        change = await self.queue.get()
        if change is None:
            self.queue.put_nowait(None)
            raise StoreUnavailable("the memory store was disconnected")
        return change


class MemoryStore(Store):
    """Everything that the port promises, for as long as the process lives.

    Args:
        now: The only source of time: leases and heartbeats expire by it.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._connected = True
        self._connected_since = now()
        self._documents: dict[Kind, dict[str, _Document]] = defaultdict(dict)
        self._watchers: dict[_Changes, frozenset[Kind]] = {}
        self._lease: _Lease | None = None
        self._last_fence = 0
        self._positions: dict[str, int] = {}
        self._counters: dict[ExperimentName, dict[Cell, int]] = defaultdict(dict)
        self._moments: dict[ExperimentName, dict[Cell, Moments]] = defaultdict(dict)
        self._met: dict[tuple[ExperimentName, str, int], set[int]] = defaultdict(set)
        self._used: dict[datetime, set[str]] = defaultdict(set)

    def disconnect(self) -> None:
        """Be as unreachable as a Redis that died; nothing is forgotten."""
        self._connected = False
        for changes in self._watchers:
            changes.queue.put_nowait(None)

    def reconnect(self) -> None:
        """Be reachable again; whoever watched has to begin anew."""
        self._connected = True
        self._connected_since = self._now()

    async def read(self, kind: Kind, name: str) -> Stored | None:
        self._check_connected()
        return self._living(kind).get(name)

    async def read_all(self, kind: Kind) -> Mapping[str, Stored]:
        self._check_connected()
        return self._living(kind)

    async def write_all(self, writes: Sequence[Write], *, fence: Fence | None = None) -> list[int]:
        check_writes(writes)
        self._check_connected()
        if fence is not None and self._leader(fence) is None:
            raise LeaseLost(f"lease {fence} is no longer the leader's")
        found = [self._revision(each.kind, each.name) for each in writes]
        for each, revision in zip(writes, found, strict=True):
            if each.expected not in (ANY, revision):
                raise stale(each, revision)
        for each, revision in zip(writes, found, strict=True):
            self._put(each.kind, each.name, _Document(Stored(each.body, revision + 1), _NEVER))
        return [revision + 1 for revision in found]

    async def delete(self, kind: Kind, name: str) -> None:
        self._check_connected()
        self._documents[kind].pop(name, None)

    async def beat(self, kind: Kind, name: str, body: bytes, *, ttl: timedelta) -> None:
        self._check_connected()
        stored = Stored(body, self._revision(kind, name) + 1)
        self._put(kind, name, _Document(stored, self._now() + ttl))

    async def age(self) -> timedelta:
        self._check_connected()
        return self._now() - self._connected_since

    @asynccontextmanager
    async def watch(self, *kinds: Kind) -> AsyncIterator[AsyncIterator[Change]]:
        self._check_connected()
        changes = _Changes()
        self._watchers[changes] = frozenset(kinds)
        try:
            yield changes
        finally:
            del self._watchers[changes]

    async def lead(self, holder: str, *, ttl: timedelta) -> Fence | None:
        self._check_connected()
        now = self._now()
        lease = self._lease
        if lease is None or lease.expires_at <= now:
            self._last_fence = max(self._last_fence + 1, int(now.timestamp() * 1000))
            fence = Fence(self._last_fence)
        elif lease.holder == holder:
            fence = lease.fence
        else:
            return None
        self._lease = _Lease(holder, fence, now + ttl)
        return fence

    async def resign(self, fence: Fence) -> None:
        self._check_connected()
        if self._leader(fence) is not None:
            self._lease = None

    async def apply(self, batch: Batch) -> int:
        check_batch(batch)
        self._check_connected()
        applied = self._positions.get(batch.source, batch.start)
        if batch.start != applied:
            return applied
        for cell, amount in batch.counts.items():
            self._add(cell, amount)
        for cell, slots in batch.slots.items():
            met = self._met[cell.experiment, cell.name, cell.stage]
            fresh = slots - met
            self._add(cell, len(fresh))
            met |= fresh
        for cell, values in batch.values.items():
            met = self._met[cell.experiment, cell.name, cell.stage]
            for slot, value in values:
                if slot in met:
                    continue
                if slot is not None:
                    met.add(slot)
                self._merge(cell, value, 0.0)
        self._positions[batch.source] = batch.end
        return batch.end

    async def position(self, source: str) -> int | None:
        self._check_connected()
        return self._positions.get(source)

    async def observe(self, outcomes: Sequence[OutcomeRecord]) -> list[Applied]:
        check_slots([outcome.slot for outcome in outcomes if outcome.slot is not None])
        check_pairs(outcomes)
        self._check_connected()
        now = self._now()
        for hour in [hour for hour in self._used if hour <= now]:
            del self._used[hour]
        return [self._observe(outcome) for outcome in outcomes]

    async def forget(self, experiment: ExperimentName) -> None:
        self._check_connected()
        self._counters.pop(experiment, None)
        self._moments.pop(experiment, None)
        for met in [met for met in self._met if met[0] == experiment]:
            del self._met[met]

    async def readings(self, experiment: ExperimentName) -> Readings:
        self._check_connected()
        return Readings(
            dict(self._counters.get(experiment, {})), dict(self._moments.get(experiment, {}))
        )

    def _check_connected(self) -> None:
        if not self._connected:
            raise StoreUnavailable("the memory store is disconnected")

    def _living(self, kind: Kind) -> dict[str, Stored]:
        documents = self._documents[kind]
        now = self._now()
        for name in [name for name, found in documents.items() if found.expires_at <= now]:
            del documents[name]
        return {name: document.stored for name, document in documents.items()}

    def _revision(self, kind: Kind, name: str) -> int:
        stored = self._living(kind).get(name)
        return 0 if stored is None else stored.revision

    def _put(self, kind: Kind, name: str, document: _Document) -> None:
        self._documents[kind][name] = document
        for changes, kinds in self._watchers.items():
            if kind in kinds:
                changes.queue.put_nowait((kind, name))

    def _leader(self, fence: Fence) -> _Lease | None:
        lease = self._lease
        if lease is None or lease.fence != fence or lease.expires_at <= self._now():
            return None
        return lease

    def _add(self, cell: Cell, amount: int) -> None:
        if amount:
            counters = self._counters[cell.experiment]
            counters[cell] = counters.get(cell, 0) + amount

    def _observe(self, outcome: OutcomeRecord) -> Applied:
        used = self._used[_forgotten_at(outcome.expires_at)]
        if outcome.token in used:
            return Applied.DUPLICATE
        used.add(outcome.token)
        if outcome.slot is not None:
            experiment, name, stage = outcome.cell.experiment, outcome.cell.name, outcome.cell.stage
            if any(
                outcome.slot in met
                for (*metric, later), met in self._met.items()
                if metric == [experiment, name] and later >= stage
            ):
                return Applied.REPEATED_UNIT
            self._met[experiment, name, stage].add(outcome.slot)
        if outcome.pair is None:
            self._add(outcome.cell, 1)
        else:
            self._merge(outcome.cell, *outcome.pair)
        return Applied.COUNTED

    def _merge(self, cell: Cell, value: float, other: float) -> None:
        moments = self._moments[cell.experiment]
        moments[cell] = moments.get(cell, EMPTY).merged(Moments(1, value, 0.0, other))


def _forgotten_at(expires_at: datetime) -> datetime:
    """Return the first full hour after `expires_at`: tokens are forgotten an hour at a time."""
    return expires_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR
