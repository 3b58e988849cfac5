"""The store, kept in Redis (6.2 or newer).

Each step that must not be seen half-done is one Lua script, in a file of its own beside this
one. Nothing is retried here: an answer that was lost is `StoreUnavailable`, and whoever asked
knows best what to do. The next call connects again by itself.
"""

import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TookTooLong

from experiments.errors import LeaseLost, StoreUnavailable
from experiments.model import ExperimentName, Variant
from experiments.stats.moments import Moments
from experiments.store import (
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
from registry.refs import Version

_PATIENCE_SECONDS = 1.0
_QUIET_SECONDS = 5.0
_CONNECTIONS = 64

_HOUR_SECONDS = 3600

_PAIR = struct.Struct("<2d")
_VALUE = struct.Struct("<id")
_LENGTHS = struct.Struct("<2I")
"""As read_documents.lua writes them."""
_MOMENTS = struct.Struct("<Q7d")
"""As moments.lua keeps them."""


class RedisStore(Store):
    """Documents, lease and evidence in Redis; every key begins with `prefix`."""

    def __init__(self, redis: Redis, *, prefix: str = "tiltyard:") -> None:
        self._redis = redis
        self._prefix = prefix
        self._read_documents = self._script("read_documents")
        self._write_documents = self._script("write_documents")
        self._delete_document = self._script("delete_document")
        self._beat = self._script("beat")
        self._lead = self._script("lead")
        self._resign = self._script("resign")
        self._apply_batch = self._script("moments", "apply_batch")
        self._observe_outcomes = self._script("moments", "observe_outcomes")
        self._read_readings = self._script("read_readings")

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, prefix: str = "tiltyard:") -> AsyncIterator[Self]:
        """Use the Redis at `url` and disconnect when done.

        Redis need not be there yet: the first call connects.

        Raises:
            ValueError: `url` is not the address of a Redis.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            socket_timeout=_PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        async with Redis.from_pool(pool) as redis:
            yield cls(redis, prefix=prefix)

    async def read(self, kind: Kind, name: str) -> Stored | None:
        async with _translated_errors(self._redis):
            found = await self._read_documents(keys=self._drawer(kind), args=[name])
        return None if found is None else _stored(found)

    async def read_all(self, kind: Kind) -> Mapping[str, Stored]:
        async with _translated_errors(self._redis):
            found = await self._read_documents(keys=self._drawer(kind))
        return dict(_documents(found))

    async def write_all(self, writes: Sequence[Write], *, fence: Fence | None = None) -> list[int]:
        check_writes(writes)
        keys = [self._key("lease")]
        args: list[str | int | bytes] = ["" if fence is None else fence]
        for each in writes:
            keys += self._drawer(each.kind)
            args += [each.name, each.body, each.expected, self._channel(each.kind)]
        async with _translated_errors(self._redis):
            result, *numbers = await self._write_documents(keys=keys, args=args)
        if result == b"lost":
            raise LeaseLost(f"lease {fence} is no longer the leader's")
        if result == b"stale":
            place, found = map(int, numbers)
            raise stale(writes[place - 1], found)
        return list(map(int, numbers))

    async def delete(self, kind: Kind, name: str) -> None:
        async with _translated_errors(self._redis):
            await self._delete_document(keys=self._drawer(kind), args=[name])

    async def beat(self, kind: Kind, name: str, body: bytes, *, ttl: timedelta) -> None:
        async with _translated_errors(self._redis):
            await self._beat(
                keys=self._drawer(kind),
                args=[name, body, _milliseconds(ttl), self._channel(kind), int(kind is Kind.EDGE)],
            )

    async def age(self) -> timedelta:
        async with _translated_errors(self._redis):
            found = await self._redis.info("server")
        return timedelta(seconds=int(found["uptime_in_seconds"]))

    @asynccontextmanager
    async def watch(self, *kinds: Kind) -> AsyncIterator[AsyncIterator[tuple[Kind, str]]]:
        channels = {self._channel(kind).encode(): kind for kind in kinds}
        # A connection of its own, closed even if the subscription is never acknowledged.
        pubsub = self._redis.pubsub()
        try:
            async with _translated_errors(self._redis):
                await pubsub.subscribe(*channels)
                for _ in channels:
                    if await pubsub.get_message(timeout=_PATIENCE_SECONDS) is None:
                        raise TookTooLong("no answer to a subscription")
            yield _Changes(self._redis, pubsub, channels)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def lead(self, holder: str, *, ttl: timedelta) -> Fence | None:
        async with _translated_errors(self._redis):
            fence = await self._lead(
                keys=[self._key("lease"), self._key("fence")], args=[holder, _milliseconds(ttl)]
            )
        return None if fence is None else Fence(int(fence))

    async def resign(self, fence: Fence) -> None:
        async with _translated_errors(self._redis):
            await self._resign(keys=[self._key("lease")], args=[fence])

    async def apply(self, batch: Batch) -> int:
        check_batch(batch)
        keys = [self._key("positions")]
        args: list[str | int | bytes] = [batch.source, batch.start, batch.end]
        counts = [(cell, amount) for cell, amount in batch.counts.items() if amount]
        args += [len(counts), len(batch.slots)]
        for cell, amount in counts:
            keys.append(self._counters(cell.experiment))
            args += [_field(cell), amount]
        for cell, slots in batch.slots.items():
            keys += [self._counters(cell.experiment), f"{self._met(cell)}:{cell.stage}"]
            args += [_field(cell), struct.pack(f"<{len(slots)}I", *slots)]
        for cell, values in batch.values.items():
            keys += [self._moments(cell.experiment), f"{self._met(cell)}:{cell.stage}"]
            packed = [_VALUE.pack(-1 if slot is None else slot, value) for slot, value in values]
            args += [_field(cell), b"".join(packed)]
        async with _translated_errors(self._redis):
            return int(await self._apply_batch(keys=keys, args=args))

    async def position(self, source: str) -> int | None:
        async with _translated_errors(self._redis):
            found = await self._redis.hget(self._key("positions"), source)
        return None if found is None else int(found)

    async def observe(self, outcomes: Sequence[OutcomeRecord]) -> list[Applied]:
        check_slots([outcome.slot for outcome in outcomes if outcome.slot is not None])
        check_pairs(outcomes)
        if not outcomes:
            return []
        keys: list[str] = []
        args: list[str | int | bytes] = []
        for outcome in outcomes:
            cell = outcome.cell
            forget_at = _forgotten_at(outcome.expires_at)
            counted = self._counters if outcome.pair is None else self._moments
            keys += [self._key(f"used:{forget_at}"), counted(cell.experiment), self._met(cell)]
            # Tokens are long and kept for as long as outcomes may come: a digest does.
            token = blake2b(outcome.token.encode(), digest_size=16).digest()
            slot = "" if outcome.slot is None else outcome.slot
            pair = b"" if outcome.pair is None else _PAIR.pack(*outcome.pair)
            args += [token, forget_at, _field(cell), cell.stage, slot, pair]
        async with _translated_errors(self._redis):
            results = await self._observe_outcomes(keys=keys, args=args)
        return [Applied(result.decode()) for result in results]

    async def forget(self, experiment: ExperimentName) -> None:
        found = await self.readings(experiment)
        bitmaps = {f"{self._met(cell)}:{cell.stage}" for cell in {*found.counts, *found.moments}}
        async with _translated_errors(self._redis):
            counted = (self._counters(experiment), self._moments(experiment))
            await self._redis.delete(*counted, *bitmaps)

    async def readings(self, experiment: ExperimentName) -> Readings:
        keys = [self._counters(experiment), self._moments(experiment)]
        async with _translated_errors(self._redis):
            counts, cells, kept = await self._read_readings(keys=keys)
        lines = counts.decode().splitlines()
        return Readings(
            {
                _cell(experiment, field): int(amount)
                for field, amount in zip(lines[::2], lines[1::2], strict=True)
            },
            {
                _cell(experiment, field): Moments(n, mean, m2, mean_x, m2_x, co)
                for field, (n, mean, _, m2, mean_x, _, m2_x, co) in zip(
                    cells.decode().splitlines(), _MOMENTS.iter_unpack(kept), strict=True
                )
            },
        )

    def _script(self, *names: str) -> AsyncScript:
        folder = files(__package__)
        texts = [folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names]
        return self._redis.register_script("\n".join(texts))

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _drawer(self, kind: Kind) -> list[str]:
        return [self._key(f"documents:{kind}"), self._key(f"deadlines:{kind}")]

    def _channel(self, kind: Kind) -> str:
        return self._key(f"changes:{kind}")

    def _counters(self, experiment: ExperimentName) -> str:
        return self._key(f"counters:{experiment}")

    def _moments(self, experiment: ExperimentName) -> str:
        return self._key(f"moments:{experiment}")

    def _met(self, cell: Cell) -> str:
        """Return the key of the cell's bitmaps, without the stage that each of them ends in."""
        return self._key(f"met:{cell.experiment}:{cell.name}")


class _Changes:
    """The names that one subscription tells. A call that is cancelled loses none."""

    def __init__(self, redis: Redis, pubsub: PubSub, channels: Mapping[bytes, Kind]) -> None:
        self._redis = redis
        self._pubsub = pubsub
        self._channels = channels
        self._asked = False

    def __aiter__(self) -> AsyncIterator[tuple[Kind, str]]:
        return self

    async def __anext__(self) -> tuple[Kind, str]:
        while True:
            async with _translated_errors(self._redis):
                message = await self._next_message()
            if message is not None and message["type"] == "message":
                return self._channels[message["channel"]], message["data"].decode()

    async def _next_message(self) -> dict[str, Any] | None:
        """Return the next message, None after a while of silence.

        Silence is normal, but a peer that went without a word is silent too: it is asked.
        """
        patience = _PATIENCE_SECONDS if self._asked else _QUIET_SECONDS
        message: dict[str, Any] | None = await self._pubsub.get_message(timeout=patience)
        if message is not None:
            self._asked = False
        elif self._asked:
            raise TookTooLong("no answer to a ping")
        else:
            await self._pubsub.ping()
            self._asked = True
        return message


@asynccontextmanager
async def _translated_errors(redis: Redis) -> AsyncIterator[None]:
    try:
        yield
    except (ConnectionBroken, TookTooLong, OSError) as error:
        # The idle connections are as dead as this one; without them the next call finds out
        # at once whether Redis is back, instead of trying each.
        with suppress(RedisError, OSError):
            await redis.connection_pool.disconnect(inuse_connections=False)
        raise StoreUnavailable(f"Redis at {_address(redis)} does not answer: {error}") from error
    except RedisError as error:
        raise StoreUnavailable(f"Redis at {_address(redis)} refuses: {error}") from error


def _address(redis: Redis) -> str:
    where = redis.connection_pool.connection_kwargs
    return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")


def _milliseconds(ttl: timedelta) -> int:
    return max(1, ttl // timedelta(milliseconds=1))


def _stored(value: bytes) -> Stored:
    revision, _, body = value.partition(b":")
    return Stored(body, int(revision))


def _documents(packed: bytes) -> Iterator[tuple[str, Stored]]:
    """Give what read_documents.lua returns of all documents."""
    at = 0
    while at < len(packed):
        name_length, length = _LENGTHS.unpack_from(packed, at)
        begins = at + _LENGTHS.size + name_length
        at = begins + length
        yield packed[begins - name_length : begins].decode(), _stored(packed[begins:at])


def _field(cell: Cell) -> str:
    where = (cell.stage, cell.variant, cell.version, cell.segment, cell.cohort, cell.counter)
    return "|".join(map(str, where))


def _cell(experiment: ExperimentName, field: str) -> Cell:
    stage, variant, version, segment, cohort, counter = field.split("|", 5)
    return Cell(
        experiment,
        int(stage),
        Variant(variant),
        Version(int(version)),
        counter,
        int(segment),
        int(cohort),
    )


def _forgotten_at(expires_at: datetime) -> int:
    """Return the first full hour after `expires_at`: tokens are forgotten an hour at a time."""
    return (int(expires_at.timestamp()) // _HOUR_SECONDS + 1) * _HOUR_SECONDS
