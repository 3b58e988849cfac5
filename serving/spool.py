"""Requests with outcomes on disk, while the store is away: bounded, and never the oldest dropped.

What was kept outlives a crash and a loss of power. What does not fit any more is refused, and the
experiments that it was about are told as soon as the store can be: they are shown as incomplete.
"""

import logging
import os
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock
from uuid import uuid4

import orjson

from experiments.evidence import REFUSED
from experiments.prediction import Prediction
from experiments.store import Batch, Cell, Store
from serving.errors import SpoolFull

SPOOL_LIMIT = 256 * 1024 * 1024

_log = logging.getLogger(__name__)


class Spool:
    """Bodies of requests, each with when it came.

    Args:
        limit: Bytes beyond which nothing more is kept.
    """

    def __init__(self, path: Path, *, limit: int = SPOOL_LIMIT) -> None:
        self._path = path
        self._limit = limit
        # Nobody may still be writing to a file that is taken out to be read.
        self._writing = Lock()

    @property
    def waiting_bytes(self) -> int:
        """What is kept now."""
        return sum(path.stat().st_size for path in (self._path, self._taken) if path.exists())

    def keep(self, body: bytes, at: datetime) -> None:
        """Keep a request for later. It waits for the disk.

        Raises:
            SpoolFull: nothing was kept.
        """
        kept = orjson.dumps({"at": at.isoformat(), "body": b64encode(body).decode()})
        # A line of its own, even after one that was cut short by a crash.
        line = b"\n" + kept + b"\n"
        with self._writing:
            if self.waiting_bytes + len(line) > self._limit:
                raise SpoolFull("Redis is away, and as many outcomes wait for it as can be kept.")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                written = self._append(line)
            except OSError as error:
                raise SpoolFull(f"Redis is away, and outcomes cannot be kept: {error}") from error
        if written < len(line):
            raise SpoolFull("Redis is away, and the disk is full, so outcomes cannot be kept.")

    def take(self) -> bool:
        """Set aside what is kept, to be read; return whether there is anything.

        New arrivals go to a new file meanwhile, and what a crash has left is read before them.
        """
        with self._writing:
            if not self._taken.exists() and self._path.exists():
                self._path.rename(self._taken)
        return self._taken.exists()

    def read(self) -> Iterator[tuple[datetime, bytes]]:
        """Yield what was set aside, oldest first, but for what was cut short."""
        with self._taken.open("rb") as lines:
            for line in lines:
                if line != b"\n" and (kept := _read(line)) is not None:
                    yield kept

    def done(self) -> None:
        """Remove what was set aside."""
        self._taken.unlink()

    @property
    def _taken(self) -> Path:
        return self._path.with_suffix(".draining")

    def _append(self, line: bytes) -> int:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            written = os.write(descriptor, line)
            os.fdatasync(descriptor)
            return written
        finally:
            os.close(descriptor)


def _read(line: bytes) -> tuple[datetime, bytes] | None:
    try:
        kept = orjson.loads(line)
        return datetime.fromisoformat(kept["at"]), b64decode(kept["body"])
    except (ValueError, KeyError, TypeError):
        # Its sender was told that it failed, or was told nothing.
        _log.warning("a request with outcomes was cut short in the spool, and is not counted")
        return None


class Refusals:
    """Outcomes that could not be kept, to be charged to their experiments.

    Their senders were told; a control that dies before the store is back takes the number with it.
    """

    def __init__(self) -> None:
        self._source = f"refused:{uuid4().hex}"
        self._counts: Counter[Cell] = Counter()
        self._batch = Batch(self._source, 0, 0)

    def note(self, predictions: Iterable[Prediction]) -> None:
        """Count the outcomes of these predictions as refused."""
        for it in predictions:
            if it.experiment is not None and it.stage is not None and it.variant is not None:
                cell = Cell(it.experiment, it.stage, it.variant, it.version, REFUSED)
                self._counts[cell] += 1

    async def tell(self, store: Store) -> None:
        """Charge the experiments, each refusal once.

        Raises:
            StoreUnavailable: it is to be told again; the store ignores what it has applied.
        """
        if not self._batch.counts and self._counts:
            start, counts = self._batch.end, self._counts
            self._counts = Counter()
            self._batch = Batch(self._source, start, start + counts.total(), counts)
        if self._batch.counts:
            await store.apply(self._batch)
            self._batch = Batch(self._source, self._batch.end, self._batch.end)
