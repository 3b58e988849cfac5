"""Several documents in one write: all of them or none, whoever else writes, reads or dies."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.errors import LeaseLost, StaleRevision
from experiments.store import ANY, Fence, Kind, Store, Stored, Write
from experiments.store.memory import MemoryStore
from experiments.store.redis import RedisStore
from tests.contract.conftest import Bench, RedisServer, open_redis_store

LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=40)
LONGER = timedelta(milliseconds=60)

RECEIPT = Write(Kind.RECEIPT, "a1", b"receipt", ANY)
ENDED = Write(Kind.EXPERIMENT, "digits-v2", b"ended", 0)
ROUTE = Write(Kind.ROUTE, "digits", b"route", 0)


async def test_documents_of_several_kinds_are_written_and_counted_each(store: Store) -> None:
    await store.write(Kind.EXPERIMENT, "digits-v2", b"running", expected=0)
    ended = Write(Kind.EXPERIMENT, "digits-v2", b"ended", 1)
    assert await store.write_all([RECEIPT, ended, ROUTE]) == [1, 2, 1]
    assert await store.read(Kind.RECEIPT, "a1") == Stored(b"receipt", 1)
    assert await store.read(Kind.EXPERIMENT, "digits-v2") == Stored(b"ended", 2)
    assert await store.read(Kind.ROUTE, "digits") == Stored(b"route", 1)


async def test_nothing_may_be_written_too(store: Store) -> None:
    assert await store.write_all([]) == []


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_that_is_stale_is_named_and_none_is_written_or_told(
    store: Store, place: int
) -> None:
    writes = [RECEIPT, ENDED, ROUTE]
    late = Write(Kind.LANE, "late", b"", 3)
    writes.insert(place, late)
    async with store.watch(*Kind) as changes:
        with pytest.raises(StaleRevision, match="lane 'late' is at revision 0, not 3"):
            await store.write_all(writes)
        await store.write(Kind.HOST, "h", b"", expected=0)
        assert await anext(changes) == (Kind.HOST, "h")
    for each in writes:
        assert await store.read(each.kind, each.name) is None


async def test_without_the_lease_none_is_written(store: Store) -> None:
    with pytest.raises(LeaseLost):
        await store.write_all([RECEIPT, ROUTE], fence=Fence(1))
    assert await store.read(Kind.RECEIPT, "a1") is None
    fence = await store.lead("control-a", ttl=LONG)
    assert await store.write_all([RECEIPT, ROUTE], fence=fence) == [1, 1]


async def test_the_watchers_of_each_are_told_in_order(store: Store) -> None:
    async with store.watch(Kind.ROUTE, Kind.EXPERIMENT) as both, store.watch(Kind.ROUTE) as one:
        await store.write_all([ENDED, RECEIPT, ROUTE])
        assert [await anext(both) for _ in range(2)] == [
            (Kind.EXPERIMENT, "digits-v2"),
            (Kind.ROUTE, "digits"),
        ]
        assert await anext(one) == (Kind.ROUTE, "digits")


async def test_the_same_document_is_not_written_twice_at_once(store: Store) -> None:
    with pytest.raises(ValueError, match="only once"):
        await store.write_all([ROUTE, RECEIPT, ROUTE])
    assert await store.read(Kind.RECEIPT, "a1") is None


async def test_of_two_kinds_the_same_name_is_two_documents(store: Store) -> None:
    both = [Write(Kind.ROUTE, "digits", b"r", 0), Write(Kind.DRILL, "digits", b"d", 0)]
    assert await store.write_all(both) == [1, 1]


async def test_what_has_expired_is_created_and_what_was_beaten_stays(bench: Bench) -> None:
    await bench.store.beat(Kind.LANE, "expired", b"", ttl=SHORT)
    await bench.store.beat(Kind.EDGE, "alive", b"", ttl=SHORT * 1000)
    await bench.elapse(LONGER)
    writes = [Write(Kind.LANE, "expired", b"new", 0), Write(Kind.EDGE, "alive", b"kept", 1)]
    assert await bench.store.write_all(writes) == [1, 2]
    await bench.elapse(LONGER)
    assert await bench.store.read(Kind.LANE, "expired") == Stored(b"new", 1)
    assert await bench.store.read(Kind.EDGE, "alive") == Stored(b"kept", 2)


@dataclass(frozen=True)
class Writer:
    """Puts its name into some documents at once, again and again.

    Args:
        turns: How often others are let in before each try.
    """

    name: str
    documents: frozenset[str]
    turns: tuple[int, ...]


def writers() -> st.SearchStrategy[list[Writer]]:
    documents = st.frozensets(st.sampled_from("abcd"), min_size=1)
    turns = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)
    two = st.tuples(*[st.builds(Writer, st.just(name), documents, turns) for name in ("me", "you")])
    return two.map(list)


async def race(store: Store, writers: Sequence[Writer]) -> None:
    """Let writers go at the same documents, and see that each write came in whole or not."""
    written: dict[tuple[str, int], bytes] = {}

    async def write(writer: Writer) -> None:
        for turn, pauses in enumerate(writer.turns):
            found = {each: await store.read(Kind.HOST, each) for each in sorted(writer.documents)}
            for _ in range(pauses):
                await asyncio.sleep(0)
            body = f"{writer.name}-{turn}".encode()
            writes = [
                Write(Kind.HOST, each, body, stored.revision if stored else 0)
                for each, stored in found.items()
            ]
            try:
                revisions = await store.write_all(writes)
            except StaleRevision:
                continue
            for each, revision in zip(writes, revisions, strict=True):
                assert (each.name, revision) not in written, "two writes of one revision"
                written[each.name, revision] = body

    await asyncio.gather(*map(write, writers))
    left = await store.read_all(Kind.HOST)
    every = {(name, n + 1) for name, stored in left.items() for n in range(stored.revision)}
    assert every == written.keys(), "what was refused has written nothing"
    assert all(stored.body == written[name, stored.revision] for name, stored in left.items())


some = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@some
@given(writers=writers())
async def test_of_racing_writers_nothing_is_half_written_in_memory(writers: list[Writer]) -> None:
    await race(MemoryStore(), writers)


@some
@given(writers=writers())
async def test_of_racing_writers_nothing_is_half_written_in_redis(
    redis_server: RedisServer, writers: list[Writer]
) -> None:
    async with open_redis_store(redis_server) as store:
        await race(store, writers)


async def test_a_write_of_which_the_disk_has_only_a_part_never_was(
    mortal_redis: RedisServer,
) -> None:
    """The machine lost its power meanwhile, wherever in the file that is."""
    file = await written_to(mortal_redis)
    body = file.read_bytes()
    begins = body.rindex(b"*1\r\n$5\r\nMULTI")
    for cut in (begins + 20, body.rindex(b"HSET"), body.rindex(b"*1\r\n$4\r\nEXEC")):
        mortal_redis.kill()
        file.write_bytes(body[:cut])
        mortal_redis.start()
        async with RedisStore.open(mortal_redis.url) as store:
            assert await store.read(Kind.ROUTE, "digits") == Stored(b"before", 1)
            assert await store.read(Kind.RECEIPT, "a1") is None
            assert await store.read(Kind.EXPERIMENT, "digits-v2") is None


async def written_to(server: RedisServer) -> Path:
    """Write a document, then several at once, and return the file in which they are."""
    async with RedisStore.open(server.url) as store:
        await store.write(Kind.ROUTE, "digits", b"before", expected=0)
        await store.write_all([RECEIPT, ENDED, Write(Kind.ROUTE, "digits", b"after", 1)])
    (file,) = [path for path in server.directory.rglob("*.aof*") if b"a1" in path.read_bytes()]
    return file
