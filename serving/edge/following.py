"""A log into evidence: each line is counted once, whichever process dies when.

The log file itself is the spool. A batch is a stretch of it, the store applies a stretch only
where the last one ended, and only what is applied is freed. So nothing needs to be remembered:
whoever starts to follow a log asks the store where to go on.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from experiments.errors import StoreUnavailable
from experiments.model import ExperimentName
from experiments.store import Batch, Store
from serving.edge.aggregate import AppliedSlots
from serving.edge.requestlog import RequestLog
from serving.edge.routebook import Known
from serving.routes import Route

PIECE_BYTES = 64 * 1024
"""Counted in one go, about a millisecond: a rollback never waits longer for its turn."""

LINE_BYTES = 4096
"""More than a line of the log can take."""

_log = logging.getLogger(__name__)


class Counts(Protocol):
    """What is counted over a stretch of a log.

    Attributes:
        after: Number of the last line so far, where lines have numbers.
        malformed: Lines that could not be read.
        lost: Bytes that were dropped from the log before they could be counted.
    """

    after: int | None
    malformed: int
    lost: int

    def add(self, body: bytes) -> None:
        """Count complete lines, with their line ends."""

    def batch(self, source: str, start: int, end: int, running: Iterable[Route]) -> Batch:
        """Return what was counted as the evidence of `source` in [start, end).

        Args:
            running: Routes with a trial, now or since the last line before.
        """


C = TypeVar("C", bound=Counts)


@dataclass(frozen=True, slots=True)
class _Taken(Generic[C]):
    """A batch that waits for the store, and what it was made of."""

    batch: Batch
    counts: C
    known: Known


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


class LogFollower(ABC, Generic[C]):
    """Follows one log of an edge and applies it to the store.

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
        self._after: int | None = None
        self._is_doubtful = False
        self._is_cut = False
        # By experiment, the routes with a trial since the last line that was counted.
        self._lately: dict[ExperimentName, Route] = {}
        self._taken: _Taken[C] | None = None

    @abstractmethod
    def _begin(self, known: Known) -> C:
        """Return what the lines that follow are to be counted with."""

    @abstractmethod
    def _counted(self, counts: C) -> None:
        """Take note of what the store has applied."""

    @abstractmethod
    def _number_of(self, line: bytes) -> int | None:
        """Return the number of a line, None if it has none."""

    @property
    def backlog_bytes(self) -> int:
        """How much of the log is not in the store."""
        return max(0, self._file.size() - (self._position or 0)) if self._file else 0

    def oldest(self) -> bytes:
        """Return the first line that is not in the store; nothing if all are."""
        if self._file is None or self._position is None:
            return b""
        line, end, _ = self._file.read(self._position, LINE_BYTES).partition(b"\n")
        return line if end else b""

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
        self._lately |= on_trial(self._known())
        await self._make_room(file)
        position = await self._find_position(file)
        if self._taken is None:
            if self._is_cut or position > file.size():
                position = self._after_cut(file, position)
            self._taken = await self._take(file, position)
        if self._taken is None:
            return file.is_replaced() and self._leave(file)
        position = await self._apply(file, self._taken)
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
        self._is_doubtful = False
        if position != self._position:
            self._stand(file, position)
        return position

    async def _take(self, file: RequestLog, start: int) -> _Taken[C] | None:
        known = self._known()
        self._lately |= on_trial(known)
        counts = self._begin(known)
        end = start
        while end - start < self._bounds.batch:
            done = _count_piece(file, end, counts)
            if not done:
                break
            end += done
            await asyncio.sleep(0)
        if end == start:
            return None
        batch = counts.batch(file.source, start, end, self._lately.values())
        return _Taken(batch, counts, known)

    async def _apply(self, file: RequestLog, taken: _Taken[C]) -> int:
        batch = taken.batch
        try:
            position = await self._store.apply(batch)
        except StoreUnavailable:
            self._is_doubtful = True
            raise
        self._taken = None
        if position == batch.end:
            self._position, self._after = position, taken.counts.after
            self._lately = on_trial(taken.known)
            self._applied.remember(batch)
            self._counted(taken.counts)
        else:
            self._start_over()
            self._stand(file, position)
        return position

    def _stand(self, file: RequestLog, position: int) -> None:
        """Go on at `position`, after the line that ends there."""
        self._position, self._after = position, self._number_before(file, position)

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

    def _after_cut(self, file: RequestLog, position: int) -> int:
        """Return where to go on in a log that has become shorter than what was counted of it.

        HAProxy goes on writing where it was, and leaves a hole before that: then positions mean
        what they did. Who begins at the beginning has made a new log of it.
        """
        if not self._is_cut:
            _log.warning("%s was cut off; what had not been counted of it is lost", self._path)
        first = file.next_data(0)
        self._is_cut = first >= file.size()
        while not self._is_cut and first < position:
            piece = file.read(first, min(PIECE_BYTES, position - first))
            if piece.strip(b"\0"):
                return self._begin_anew(file)
            first += len(piece)
            self._is_cut = not piece
        return position

    def _begin_anew(self, file: RequestLog) -> int:
        """Read a log that was cut off from its beginning, and return where that is.

        Whoever writes there may be the same HAProxy: the number of its last line still holds.
        """
        file.renew(self._edge)
        self._start_over()
        self._position = position = file.next_data(0)
        return position

    def _leave(self, file: RequestLog) -> bool:
        file.close()
        self._file = self._position = None
        self._is_cut = False
        return True

    def _number_before(self, file: RequestLog, position: int) -> int | None:
        """Return the number of the line that ends at `position`, None if it is gone.

        0 at the beginning of the log: HAProxy begins to count when it begins to write there.
        """
        if position == 0:
            return 0
        start = max(0, position - LINE_BYTES)
        before = file.read(start, position - start).removesuffix(b"\n")
        return self._number_of(before[before.rfind(b"\n") + 1 :])


def on_trial(known: Known) -> dict[ExperimentName, Route]:
    """Return the route of each experiment that is under way."""
    return {trial.experiment: route for route in known.on_trial for trial in route.trials}


def _count_piece(file: RequestLog, position: int, counts: Counts) -> int:
    """Count what is at `position`; return the number of bytes that are done with.

    0 means that there is no complete line yet.
    """
    piece = file.read(position, PIECE_BYTES)
    if piece.startswith(b"\0"):
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        hole = max(file.next_data(position) - position, zeros)
        counts.lost += hole
        return hole
    end = piece.rfind(b"\n") + 1
    if end:
        counts.add(piece[:end])
        return end
    torn = piece.find(b"\0")
    if torn > 0:
        counts.lost += torn
        return torn
    if len(piece) == PIECE_BYTES:
        counts.malformed += 1
        return len(piece)
    return 0
