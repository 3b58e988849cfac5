"""Log lines into evidence: each line is counted once, whichever process dies when.

The log file itself is the spool. A batch is a stretch of it, the store applies a stretch only
where the last one ended, and only what is applied is freed. So nothing needs to be remembered:
a collector that starts asks the store where to go on.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.errors import StoreUnavailable
from experiments.store import Batch, Store
from registry.refs import ModelName
from serving.edge.aggregate import Aggregate, AppliedSlots
from serving.edge.requestlog import RequestLog
from serving.edge.routebook import Known

PIECE_BYTES = 64 * 1024
"""Counted in one go, about a millisecond: a rollback never waits longer for its turn."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the collector is; the counts are since it started.

    Args:
        requests: Those seen by model, for models that have a route.
    """

    backlog_bytes: int = 0
    lost_bytes: int = 0
    requests_seen: int = 0
    malformed_lines: int = 0
    requests: Mapping[ModelName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A batch that waits for the store, and what it was made of."""

    batch: Batch
    aggregate: Aggregate


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in bytes.

    Args:
        batch: Log taken into one batch.
        log: Uncounted log beyond which the older half is dropped, to save the disk.
        keep: Counted log that is kept all the same, should the store lose its last writes.
        free: Counted log that must have gathered before it is worth freeing.
    """

    batch: int = 1 << 17
    log: int = 1 << 30
    keep: int = 1 << 20
    free: int = 16 << 20


class Collector:
    """Follows one edge's request log and applies it to the store.

    Args:
        known: What the edge knows now: its trials, and what to count of each.
    """

    def __init__(
        self,
        path: Path,
        *,
        edge: str,
        store: Store,
        known: Callable[[], Known],
        bounds: Bounds | None = None,
    ) -> None:
        self._path = path
        self._edge = edge
        self._store = store
        self._known = known
        self._bounds = bounds or Bounds()
        self._applied = AppliedSlots()
        self._file: RequestLog | None = None
        self._position: int | None = None
        self._is_doubtful = False
        self._taken: _Taken | None = None
        self._progress = Progress()

    @property
    def progress(self) -> Progress:
        """Where the collector is now."""
        if self._file is None:
            return self._progress
        backlog = max(0, self._file.size() - (self._position or 0))
        return replace(self._progress, backlog_bytes=backlog)

    def forget(self) -> None:
        """Send every unit again: the store may have lost what it had acknowledged."""
        self._applied.forget()

    async def step(self) -> bool:
        """Count one batch of what the log holds; return whether anything was done.

        It may be cancelled, or the process killed, at any point.

        Raises:
            StoreUnavailable: nothing is lost; the same batch is tried again at the next step.
        """
        if self._file is None:
            self._file = RequestLog.open(self._path, self._edge)
        file = self._file
        if file is None:
            return False
        await self._make_room(file)
        position = await self._find_position(file)
        if self._taken is None:
            if position > file.size():
                return self._begin_anew(file)
            self._taken = await self._take(file, position)
        if self._taken is None:
            return file.is_replaced() and self._leave(file)
        position = await self._apply(self._taken)
        counted = position - self._bounds.keep
        await asyncio.to_thread(file.free, counted, at_least=self._bounds.free)
        return True

    async def _find_position(self, file: RequestLog) -> int:
        """Return where to go on; the store is asked at first, and after it was away."""
        if self._position is not None and not self._is_doubtful:
            return self._position
        found = await self._store.position(file.source)
        position = file.next_data(0) if found is None else found
        batch = self._taken and self._taken.batch
        if found is None or (batch and position not in (batch.start, batch.end)):
            self._start_over()
        self._position, self._is_doubtful = position, False
        return position

    async def _take(self, file: RequestLog, start: int) -> _Taken | None:
        known = self._known()
        aggregate = Aggregate(known.watches, self._applied)
        end = start
        while end - start < self._bounds.batch:
            done = _count_piece(file, end, aggregate)
            if not done:
                break
            end += done
            await asyncio.sleep(0)
        if end == start:
            return None
        return _Taken(aggregate.batch(file.source, start, end, known.on_trial), aggregate)

    async def _apply(self, taken: _Taken) -> int:
        batch = taken.batch
        try:
            position = await self._store.apply(batch)
        except StoreUnavailable:
            self._is_doubtful = True
            raise
        self._taken = None
        self._position = position
        if position == batch.end:
            self._applied.remember(batch)
            self._count(taken.aggregate)
        else:
            self._start_over()
        return position

    async def _make_room(self, file: RequestLog) -> None:
        """Drop the older part of a log that has outgrown its bound: the disk comes first.

        What is dropped is a hole to whoever reads on, now or after a crash, and counts as lost.
        """
        if file.disk_bytes() <= self._bounds.log:
            return
        if self._taken is not None:
            start = self._taken.batch.end
        else:
            start = file.next_data(0) if self._position is None else self._position
        await asyncio.to_thread(file.drop, start, file.size() - self._bounds.log // 2)

    def _start_over(self) -> None:
        """Believe nothing of what the store was thought to have."""
        self._taken = None
        self._applied.forget()

    def _begin_anew(self, file: RequestLog) -> bool:
        _log.warning("%s was cut off; it is read from its beginning", self._path)
        file.renew(self._edge)
        self._position = None
        return True

    def _leave(self, file: RequestLog) -> bool:
        file.close()
        self._file = self._position = None
        return True

    def _count(self, aggregate: Aggregate) -> None:
        so_far = self._progress
        requests = dict(so_far.requests)
        for model in self._known().routes:
            if seen := aggregate.models.get(model.encode()):
                requests[model] = requests.get(model, 0) + seen
        self._progress = Progress(
            lost_bytes=so_far.lost_bytes + aggregate.lost,
            requests_seen=so_far.requests_seen + aggregate.lines,
            malformed_lines=so_far.malformed_lines + aggregate.malformed,
            requests=requests,
        )


def _count_piece(file: RequestLog, position: int, aggregate: Aggregate) -> int:
    """Count what is at `position`; return the number of bytes that are done with.

    0 means that there is no complete line yet.
    """
    piece = file.read(position, PIECE_BYTES)
    if piece.startswith(b"\0"):
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        hole = max(file.next_data(position) - position, zeros)
        aggregate.lost += hole
        return hole
    end = piece.rfind(b"\n") + 1
    if end:
        aggregate.add(piece[:end])
        return end
    torn = piece.find(b"\0")
    if torn > 0:
        aggregate.lost += torn
        return torn
    if len(piece) == PIECE_BYTES:
        aggregate.malformed += 1
        return len(piece)
    return 0
