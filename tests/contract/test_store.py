"""What every adapter of the store keeps: the same cases on memory and on a real Redis."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest

from experiments.errors import LeaseLost, StaleRevision
from experiments.store import ANY, Fence, Kind, Store, Stored
from tests.contract.conftest import Bench

SHORT = timedelta(milliseconds=40)
LONGER = timedelta(milliseconds=60)
LONG = timedelta(minutes=5)


class TestDocuments:
    async def test_what_was_never_written_is_none(self, store: Store) -> None:
        assert await store.read(Kind.ROUTE, "digits") is None
        assert await store.read_all(Kind.ROUTE) == {}

    @pytest.mark.parametrize("body", [b"", b"{}", b"12:34", b"\x00\xff\r\n$5", b"x" * 100_000])
    async def test_bodies_come_back_as_they_went_in(self, store: Store, body: bytes) -> None:
        assert await store.write(Kind.ROUTE, "digits", body, expected=0) == 1
        assert await store.read(Kind.ROUTE, "digits") == Stored(body, 1)

    @pytest.mark.parametrize("name", ["digits/2", "", "zwölf %d * ?", "a:b|c"])
    async def test_names_may_be_any_text(self, store: Store, name: str) -> None:
        await store.write(Kind.HOST, name, b"h", expected=0)
        assert await store.read(Kind.HOST, name) == Stored(b"h", 1)
        assert await store.read_all(Kind.HOST) == {name: Stored(b"h", 1)}

    async def test_each_write_counts_the_revision_up(self, store: Store) -> None:
        for revision in range(1, 12):
            written = await store.write(Kind.HOST, "h", b"h", expected=revision - 1)
            assert written == revision
        assert await store.read(Kind.HOST, "h") == Stored(b"h", 11)

    @pytest.mark.parametrize("expected", [0, 1, 3])
    async def test_a_write_with_another_revision_changes_nothing(
        self, store: Store, expected: int
    ) -> None:
        await store.write(Kind.ROUTE, "digits", b"one", expected=0)
        await store.write(Kind.ROUTE, "digits", b"two", expected=1)
        with pytest.raises(StaleRevision, match=f"revision 2, not {expected}"):
            await store.write(Kind.ROUTE, "digits", b"three", expected=expected)
        assert await store.read(Kind.ROUTE, "digits") == Stored(b"two", 2)

    async def test_any_replaces_whatever_is_there(self, store: Store) -> None:
        assert await store.write(Kind.ROUTE, "digits", b"one", expected=ANY) == 1
        assert await store.write(Kind.ROUTE, "digits", b"two", expected=ANY) == 2

    async def test_of_many_writers_at_one_revision_one_wins(self, store: Store) -> None:
        attempts = [
            store.write(Kind.ROUTE, "digits", f"{i}".encode(), expected=0) for i in range(20)
        ]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert Counter(type(result) for result in results) == {int: 1, StaleRevision: 19}
        stored = await store.read(Kind.ROUTE, "digits")
        assert stored == Stored(f"{results.index(1)}".encode(), 1)

    async def test_each_kind_is_a_drawer_of_its_own(self, store: Store) -> None:
        for kind in Kind:
            await store.write(kind, "same", kind.encode(), expected=0)
        for kind in Kind:
            assert await store.read_all(kind) == {"same": Stored(kind.encode(), 1)}

    async def test_deleted_is_gone_and_may_be_created_again(self, store: Store) -> None:
        await store.write(Kind.HOST, "h", b"old", expected=0)
        await store.write(Kind.HOST, "other", b"other", expected=0)
        await store.delete(Kind.HOST, "h")
        await store.delete(Kind.HOST, "h")
        assert await store.read_all(Kind.HOST) == {"other": Stored(b"other", 1)}
        assert await store.write(Kind.HOST, "h", b"new", expected=0) == 1


class TestHeartbeats:
    async def test_a_heartbeat_is_there_until_it_expires(self, bench: Bench) -> None:
        await bench.store.beat(Kind.EDGE, "edge-0", b"alive", ttl=LONG)
        await bench.store.beat(Kind.EDGE, "edge-1", b"dying", ttl=SHORT)
        await bench.elapse(LONGER)
        assert await bench.store.read_all(Kind.EDGE) == {"edge-0": Stored(b"alive", 1)}
        assert await bench.store.read(Kind.EDGE, "edge-0") == Stored(b"alive", 1)
        assert await bench.store.read(Kind.EDGE, "edge-1") is None

    async def test_each_beat_prolongs_life(self, bench: Bench) -> None:
        await bench.store.beat(Kind.EDGE, "edge-0", b"1", ttl=SHORT)
        await bench.store.beat(Kind.EDGE, "edge-0", b"2", ttl=LONG)
        await bench.elapse(LONGER)
        assert await bench.store.read(Kind.EDGE, "edge-0") == Stored(b"2", 2)

    async def test_who_comes_back_after_expiry_begins_anew(self, bench: Bench) -> None:
        await bench.store.beat(Kind.EDGE, "edge-0", b"1", ttl=SHORT)
        await bench.elapse(LONGER)
        await bench.store.beat(Kind.EDGE, "edge-0", b"2", ttl=LONG)
        assert await bench.store.read_all(Kind.EDGE) == {"edge-0": Stored(b"2", 1)}

    async def test_a_write_over_a_heartbeat_stays(self, bench: Bench) -> None:
        await bench.store.beat(Kind.EDGE, "edge-0", b"beat", ttl=SHORT)
        await bench.store.write(Kind.EDGE, "edge-0", b"kept", expected=ANY)
        await bench.elapse(LONGER)
        stored = await bench.store.read(Kind.EDGE, "edge-0")
        assert stored is not None
        assert stored.body == b"kept"

    async def test_the_store_tells_for_how_long_it_has_been_there(self, bench: Bench) -> None:
        before = await bench.store.age()
        await bench.elapse(LONGER)
        assert timedelta(0) <= before <= await bench.store.age()

    async def test_an_expired_document_is_created_not_replaced(self, bench: Bench) -> None:
        await bench.store.beat(Kind.EDGE, "edge-0", b"beat", ttl=SHORT)
        await bench.elapse(LONGER)
        with pytest.raises(StaleRevision):
            await bench.store.write(Kind.EDGE, "edge-0", b"new", expected=1)
        assert await bench.store.write(Kind.EDGE, "edge-0", b"new", expected=0) == 1


class TestWatching:
    async def test_writes_and_beats_are_told_in_order(self, store: Store) -> None:
        async with store.watch(Kind.ROUTE, Kind.EDGE) as changes:
            # Nobody listens yet: what is written once the context is entered waits.
            await store.write(Kind.ROUTE, "digits", b"", expected=0)
            await store.write(Kind.HOST, "not-watched", b"", expected=0)
            await store.beat(Kind.EDGE, "edge-0", b"", ttl=LONG)
            await store.write(Kind.ROUTE, "wörter", b"", expected=0)
            assert [await anext(changes) for _ in range(3)] == [
                (Kind.ROUTE, "digits"),
                (Kind.EDGE, "edge-0"),
                (Kind.ROUTE, "wörter"),
            ]

    async def test_a_refused_write_is_not_told(self, store: Store) -> None:
        async with store.watch(Kind.ROUTE) as changes:
            with pytest.raises(StaleRevision):
                await store.write(Kind.ROUTE, "digits", b"", expected=7)
            with pytest.raises(LeaseLost):
                await store.write(Kind.ROUTE, "digits", b"", expected=0, fence=Fence(1))
            await store.write(Kind.ROUTE, "letters", b"", expected=0)
            assert await anext(changes) == (Kind.ROUTE, "letters")

    async def test_every_watcher_is_told(self, store: Store) -> None:
        async with store.watch(Kind.ROUTE) as one, store.watch(Kind.ROUTE) as two:
            await store.write(Kind.ROUTE, "digits", b"", expected=0)
            assert await anext(one) == await anext(two) == (Kind.ROUTE, "digits")

    async def test_giving_up_waiting_loses_nothing(self, store: Store) -> None:
        async with store.watch(Kind.ROUTE) as changes:
            for i in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(changes), 0.005)
                await store.write(Kind.ROUTE, f"m{i}", b"", expected=0)
                assert await anext(changes) == (Kind.ROUTE, f"m{i}")

    async def test_a_cancelled_watcher_ends_and_others_go_on(self, store: Store) -> None:
        entered = asyncio.Event()

        async def watch_for_ever() -> None:
            async with store.watch(Kind.ROUTE) as changes:
                entered.set()
                async for _ in changes:
                    pass

        watcher = asyncio.create_task(watch_for_ever())
        await entered.wait()
        async with store.watch(Kind.ROUTE) as changes:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            assert watcher.cancelled()
            await store.write(Kind.ROUTE, "digits", b"", expected=0)
            assert await anext(changes) == (Kind.ROUTE, "digits")


class TestLease:
    async def test_one_leads_and_keeps_its_fence(self, store: Store) -> None:
        fence = await store.lead("control-a", ttl=LONG)
        assert fence is not None
        assert await store.lead("control-b", ttl=LONG) is None
        assert await store.lead("control-a", ttl=LONG) == fence

    async def test_keeping_the_lease_prolongs_it(self, bench: Bench) -> None:
        await bench.store.lead("control-a", ttl=SHORT)
        await bench.store.lead("control-a", ttl=LONG)
        await bench.elapse(LONGER)
        assert await bench.store.lead("control-b", ttl=LONG) is None

    async def test_a_lease_that_expired_goes_to_the_next_with_a_higher_fence(
        self, bench: Bench
    ) -> None:
        old = await bench.store.lead("control-a", ttl=SHORT)
        await bench.elapse(LONGER)
        new = await bench.store.lead("control-b", ttl=LONG)
        assert old is not None
        assert new is not None
        assert new > old

    async def test_resigning_lets_the_next_lead_at_once(self, store: Store) -> None:
        old = await store.lead("control-a", ttl=LONG)
        assert old is not None
        await store.resign(old)
        new = await store.lead("control-b", ttl=LONG)
        assert new is not None
        assert new > old

    async def test_whoever_no_longer_leads_cannot_resign_for_the_leader(self, store: Store) -> None:
        old = await store.lead("control-a", ttl=LONG)
        assert old is not None
        await store.resign(old)
        await store.lead("control-b", ttl=LONG)
        await store.resign(old)
        assert await store.lead("control-a", ttl=LONG) is None

    async def test_holders_may_be_any_text(self, store: Store) -> None:
        fence = await store.lead("host 1 12:34 ü", ttl=LONG)
        assert fence is not None
        assert await store.lead("host 1 12:34 ü", ttl=LONG) == fence
        assert await store.lead("host", ttl=LONG) is None

    async def test_the_leader_writes_behind_its_fence(self, store: Store) -> None:
        fence = await store.lead("control-a", ttl=LONG)
        assert await store.write(Kind.ROUTE, "digits", b"r", expected=0, fence=fence) == 1

    async def test_a_fence_that_was_never_given_is_refused(self, store: Store) -> None:
        with pytest.raises(LeaseLost):
            await store.write(Kind.ROUTE, "digits", b"r", expected=0, fence=Fence(1))
        fence = await store.lead("control-a", ttl=LONG)
        assert fence is not None
        for wrong in (Fence(fence - 1), Fence(fence + 1), Fence(0)):
            with pytest.raises(LeaseLost):
                await store.write(Kind.ROUTE, "digits", b"r", expected=0, fence=wrong)
        assert await store.read(Kind.ROUTE, "digits") is None

    async def test_the_fence_of_an_expired_lease_is_refused(self, bench: Bench) -> None:
        fence = await bench.store.lead("control-a", ttl=SHORT)
        await bench.elapse(LONGER)
        with pytest.raises(LeaseLost):
            await bench.store.write(Kind.ROUTE, "digits", b"r", expected=0, fence=fence)
        assert await bench.store.read(Kind.ROUTE, "digits") is None

    async def test_the_fence_is_looked_at_before_the_revision(self, store: Store) -> None:
        with pytest.raises(LeaseLost):
            await store.write(Kind.ROUTE, "digits", b"r", expected=9, fence=Fence(1))
