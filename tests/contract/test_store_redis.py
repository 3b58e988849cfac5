"""What only a Redis can do to its callers: die, freeze, fill up, forget, and come back."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from experiments.errors import LeaseLost, StoreUnavailable
from experiments.stats.moments import Moments
from experiments.store import ANY, Applied, Batch, Fence, Kind, Readings, Store, Stored, Write
from experiments.store import redis as adapter
from experiments.store.memory import MemoryStore
from experiments.store.redis import RedisStore
from tests.contract.conftest import (
    DIGITS,
    RedisServer,
    cell,
    counts,
    eventually,
    free_port,
    outcome,
)

LONG = timedelta(minutes=5)
UNITS = cell("units")
CORRECT = cell("correct:1")


async def enter_watch(store: Store) -> None:
    async with store.watch(Kind.ROUTE):
        pass


EVERYTHING: dict[str, Callable[[Store], Awaitable[object]]] = {
    "read": lambda store: store.read(Kind.ROUTE, "digits"),
    "read_all": lambda store: store.read_all(Kind.ROUTE),
    "write": lambda store: store.write(Kind.ROUTE, "digits", b"", expected=ANY),
    "write_all": lambda store: store.write_all([Write(Kind.ROUTE, "digits", b"", ANY)]),
    "delete": lambda store: store.delete(Kind.ROUTE, "digits"),
    "beat": lambda store: store.beat(Kind.EDGE, "edge-0", b"", ttl=LONG),
    "age": lambda store: store.age(),
    "watch": enter_watch,
    "lead": lambda store: store.lead("control-a", ttl=LONG),
    "resign": lambda store: store.resign(Fence(1)),
    "apply": lambda store: store.apply(Batch("edge-0", 0, 1, {UNITS: 1})),
    "position": lambda store: store.position("edge-0"),
    "observe": lambda store: store.observe([outcome("a")]),
    "observe_pair": lambda store: store.observe([outcome("b", pair=(1.0, 0.0))]),
    "readings": lambda store: store.readings(DIGITS),
}


@pytest.mark.parametrize("call", EVERYTHING.values(), ids=EVERYTHING.keys())
async def test_every_call_says_that_redis_is_not_there(
    call: Callable[[Store], Awaitable[object]],
) -> None:
    port = free_port()
    async with RedisStore.open(f"redis://127.0.0.1:{port}/0") as store:
        with pytest.raises(StoreUnavailable, match=f"Redis at 127.0.0.1:{port} does not answer"):
            await call(store)


@pytest.mark.parametrize("call", EVERYTHING.values(), ids=EVERYTHING.keys())
async def test_every_call_on_a_disconnected_memory_store_says_so(
    call: Callable[[Store], Awaitable[object]],
) -> None:
    store = MemoryStore()
    store.disconnect()
    with pytest.raises(StoreUnavailable):
        await call(store)
    store.reconnect()
    await call(store)


@pytest.mark.parametrize(
    "refusal",
    [
        "-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script",
        "-MISCONF Redis is configured to save, but cannot persist on disk",
        "-READONLY You can't write against a read only replica",
        "-NOAUTH Authentication required",
        "-ERR whatever else",
        "HTTP/1.1 400 Bad Request",
    ],
)
@pytest.mark.parametrize("call", EVERYTHING.values(), ids=EVERYTHING.keys())
async def test_every_refusal_is_unavailability(
    call: Callable[[Store], Awaitable[object]], refusal: str
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(refusal.encode() + b"\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with RedisStore.open(f"redis://127.0.0.1:{port}/0") as store:
            with pytest.raises(StoreUnavailable, match=f"Redis at 127.0.0.1:{port}"):
                await call(store)


async def test_cancelled_calls_do_not_mix_up_answers(redis_server: RedisServer) -> None:
    async with RedisStore.open(redis_server.url, prefix="mixed:") as store:
        names = [f"m{i}" for i in range(50)]
        for name in names:
            await store.write(Kind.ROUTE, name, name.encode(), expected=0)
        for turns in range(12):
            calls = [asyncio.create_task(store.read(Kind.ROUTE, name)) for name in names]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            answers = await asyncio.gather(*(store.read(Kind.ROUTE, name) for name in names))
            assert answers == [Stored(name.encode(), 1) for name in names]


async def test_after_a_restart_one_failure_is_the_last(mortal_redis: RedisServer) -> None:
    """However many idle connections were left: they are not found to be dead one by one."""
    async with RedisStore.open(mortal_redis.url) as store:
        await asyncio.gather(*(store.read(Kind.ROUTE, "digits") for _ in range(50)))
        mortal_redis.send(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):
            await store.read(Kind.ROUTE, "digits")
        mortal_redis.kill()
        mortal_redis.start()
        assert await store.read(Kind.ROUTE, "digits") is None


async def test_what_was_acknowledged_survives_kill_9(mortal_redis: RedisServer) -> None:
    batches = [
        Batch("edge-0", n, n + 1, {UNITS: 1}, {CORRECT: frozenset({n, n + 1})}) for n in range(300)
    ]
    async with RedisStore.open(mortal_redis.url) as store:
        fence = await store.lead("control-a", ttl=LONG)
        await store.write(Kind.ROUTE, "digits", b"route", expected=0, fence=fence)
        await store.beat(Kind.LANE, "lane", b"held", ttl=LONG)
        await store.beat(Kind.EDGE, "edge-0", b"alive", ttl=LONG)
        told = [outcome("a"), outcome("b", counter="revenue:1", pair=(0.1, 3.0))]
        await store.observe(told)
        for batch in batches:
            await store.apply(batch)
        await eventually(lambda: is_on_file(mortal_redis))
        mortal_redis.kill()
        with pytest.raises(StoreUnavailable):
            await store.position("edge-0")
        mortal_redis.start()

        assert await store.position("edge-0") == 300
        assert await store.apply(batches[-1]) == 300
        assert await store.readings(DIGITS) == Readings(
            {UNITS: 300, CORRECT: 301 + 1}, {cell("revenue:1"): Moments(1, 0.1, 0.0, 3.0)}
        )
        assert await store.observe(told) == [Applied.DUPLICATE] * 2
        assert await store.read(Kind.ROUTE, "digits") == Stored(b"route", 1)
        assert await store.read(Kind.LANE, "lane") == Stored(b"held", 1)
        # Nobody waits for the disk with an edge's word. So it has to be given again.
        assert await store.read(Kind.EDGE, "edge-0") is None
        assert await store.age() < timedelta(minutes=1)
        assert await store.lead("control-b", ttl=LONG) is None
        assert await store.lead("control-a", ttl=LONG) == fence
        assert await store.write(Kind.ROUTE, "digits", b"r", expected=1, fence=fence) == 2


async def is_on_file(server: RedisServer) -> bool:
    """Redis holds writes back while the disk is slow to flush: a kill then would lose them."""
    async with Redis.from_url(server.url) as redis:
        return int((await redis.info("persistence"))["aof_buffer_length"]) == 0


async def test_batches_sent_while_redis_is_killed_count_once(mortal_redis: RedisServer) -> None:
    """The sender repeats what was not acknowledged, as the edge's agent does."""
    wanted = 400
    async with RedisStore.open(mortal_redis.url) as store:
        await store.apply(Batch("edge-0", 0, 0))
        await eventually(lambda: is_on_file(mortal_redis))

        async def send_all() -> None:
            position = 0
            while position < wanted:
                try:
                    position = await store.apply(
                        Batch("edge-0", position, position + 1, {UNITS: 1})
                    )
                except StoreUnavailable:
                    await asyncio.sleep(0.01)

        sender = asyncio.create_task(send_all())
        for stop_at in (100, 200, 300):
            await eventually(lambda: has_reached(store, stop_at))  # noqa: B023  awaited at once
            mortal_redis.kill()
            await asyncio.to_thread(mortal_redis.start)
        await sender
        assert await counts(store, DIGITS) == {UNITS: wanted}


async def has_reached(store: Store, wanted: int) -> bool:
    try:
        return (await store.position("edge-0") or 0) >= wanted
    except StoreUnavailable:
        return False


async def test_a_redis_that_lost_everything_gives_no_old_fence_again(
    redis_server: RedisServer,
) -> None:
    async with RedisStore.open(redis_server.url, prefix="amnesia:") as store:
        old = await store.lead("control-a", ttl=LONG)
        async with Redis.from_url(redis_server.url) as redis:
            await redis.delete("amnesia:lease", "amnesia:fence")
        await asyncio.sleep(0.005)  # an instance cannot be replaced within one millisecond
        new = await store.lead("control-b", ttl=LONG)
        assert old is not None
        assert new is not None
        assert new > old
        with pytest.raises(LeaseLost):
            await store.write(Kind.ROUTE, "digits", b"", expected=0, fence=old)


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisServer) -> None:
    async with RedisStore.open(redis_server.url, prefix="noscript:") as store:
        await store.write(Kind.ROUTE, "digits", b"", expected=0)
        async with Redis.from_url(redis_server.url) as redis:
            await redis.script_flush()
        assert await store.write(Kind.ROUTE, "digits", b"", expected=1) == 2


async def test_a_frozen_redis_is_unavailable_and_thawed_goes_on(
    mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_PATIENCE_SECONDS", 0.5)
    async with RedisStore.open(mortal_redis.url) as store:
        await store.write(Kind.ROUTE, "digits", b"", expected=0)
        mortal_redis.send(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):
            await store.read(Kind.ROUTE, "digits")
        with pytest.raises(StoreUnavailable):
            await enter_watch(store)
        mortal_redis.send(signal.SIGCONT)
        assert await store.read(Kind.ROUTE, "digits") == Stored(b"", 1)


async def test_a_watcher_learns_that_redis_died(mortal_redis: RedisServer) -> None:
    async with RedisStore.open(mortal_redis.url) as store:
        async with store.watch(Kind.ROUTE) as changes:
            await store.write(Kind.ROUTE, "digits", b"", expected=0)
            assert await anext(changes) == (Kind.ROUTE, "digits")
            mortal_redis.kill()
            with pytest.raises(StoreUnavailable):
                await anext(changes)
        mortal_redis.start()
        async with store.watch(Kind.ROUTE) as changes:
            await store.write(Kind.ROUTE, "digits", b"", expected=ANY)
            assert await anext(changes) == (Kind.ROUTE, "digits")


async def test_a_watcher_does_not_miss_that_redis_was_restarted(mortal_redis: RedisServer) -> None:
    """Back already when the watcher looks: what was written meanwhile was still missed."""
    async with RedisStore.open(mortal_redis.url) as store, store.watch(Kind.ROUTE) as changes:
        mortal_redis.kill()
        mortal_redis.start()
        await store.write(Kind.ROUTE, "digits", b"", expected=0)
        with pytest.raises(StoreUnavailable):
            await anext(changes)


async def test_a_watcher_in_silence_asks_whether_redis_is_there(
    mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_QUIET_SECONDS", 0.02)
    async with RedisStore.open(mortal_redis.url) as store, store.watch(Kind.ROUTE) as changes:
        listening = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.2)
        await store.write(Kind.ROUTE, "digits", b"", expected=0)
        assert await listening == (Kind.ROUTE, "digits")

        monkeypatch.setattr(adapter, "_PATIENCE_SECONDS", 0.1)
        mortal_redis.send(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable, match="no answer to a ping"):
            await anext(changes)
        mortal_redis.send(signal.SIGCONT)


async def test_a_cancelled_watcher_leaves_no_subscription_behind(
    redis_server: RedisServer,
) -> None:
    entered = asyncio.Event()

    async def watch_for_ever(store: Store) -> None:
        async with store.watch(Kind.ROUTE) as changes:
            entered.set()
            async for _ in changes:
                pass

    async with (
        RedisStore.open(redis_server.url, prefix="cancelled:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        channel = "cancelled:changes:route"
        watcher = asyncio.create_task(watch_for_ever(store))
        await entered.wait()
        assert await redis.pubsub_numsub(channel) == [(channel.encode(), 1)]
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher

        async def is_gone() -> bool:
            return await redis.pubsub_numsub(channel) == [(channel.encode(), 0)]

        await eventually(is_gone)


async def test_every_key_begins_with_the_prefix(mortal_redis: RedisServer) -> None:
    async with (
        RedisStore.open(mortal_redis.url) as store,
        Redis.from_url(mortal_redis.url) as redis,
    ):
        for call in EVERYTHING.values():
            await call(store)
        assert await redis.keys("*")
        assert all(key.startswith(b"tiltyard:") for key in await redis.keys("*"))


async def test_expired_heartbeats_leave_nothing_behind(redis_server: RedisServer) -> None:
    async with (
        RedisStore.open(redis_server.url, prefix="swept:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        for n in range(50):
            await store.beat(Kind.EDGE, f"edge-{n}", b"", ttl=timedelta(milliseconds=1))
        await asyncio.sleep(0.005)
        await store.beat(Kind.EDGE, "edge-last", b"", ttl=LONG)
        assert await redis.hlen("swept:documents:edge") == 1
        assert await redis.zcard("swept:deadlines:edge") == 1


async def test_the_open_store_leaves_no_connection_behind(mortal_redis: RedisServer) -> None:
    async with Redis.from_url(mortal_redis.url) as redis:
        before = len(await redis.client_list())
        async with RedisStore.open(mortal_redis.url, prefix="closing:") as store:
            await asyncio.gather(*(store.read(Kind.ROUTE, "digits") for _ in range(200)))
            async with store.watch(Kind.ROUTE):
                assert before < len(await redis.client_list()) <= before + 64

        async def all_gone() -> bool:
            return len(await redis.client_list()) == before

        await eventually(all_gone)
