"""What every adapter of the store keeps: the same cases on memory and on a real Redis."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from experiments.errors import LeaseLost, StaleRevision
from experiments.model import ExperimentName, Variant
from experiments.store import ANY, Applied, Batch, Cell, Fence, Kind, OutcomeRecord, Store, Stored
from experiments.store.slots import SLOTS
from tests.contract.conftest import Bench

SHORT = timedelta(milliseconds=40)
LONGER = timedelta(milliseconds=60)
LONG = timedelta(minutes=5)

DIGITS = ExperimentName("digits-v2")


def cell(
    counter: str = "units",
    *,
    stage: int = 0,
    variant: Variant = Variant.CHALLENGER,
    experiment: str = DIGITS,
) -> Cell:
    return Cell(ExperimentName(experiment), stage, variant, counter)


def outcome(
    token: str,
    *,
    slot: int | None = None,
    value: int = 1,
    metric: str = "correct",
    stage: int = 0,
    variant: Variant = Variant.CHALLENGER,
    experiment: str = DIGITS,
) -> OutcomeRecord:
    where = cell(f"{metric}:{value}", stage=stage, variant=variant, experiment=experiment)
    return OutcomeRecord(where, token, slot, metric, datetime.now(UTC) + timedelta(days=1))


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


class TestEvidence:
    async def test_nothing_is_known_at_first(self, store: Store) -> None:
        assert await store.position("edge-0") is None
        assert await store.counters(DIGITS) == {}

    async def test_counts_add_up(self, store: Store) -> None:
        requests, errors = cell("requests"), cell("errors", variant=Variant.CHAMPION, stage=3)
        assert await store.apply(Batch("edge-0", 0, 10, {requests: 4, errors: 1})) == 10
        assert await store.apply(Batch("edge-0", 10, 25, {requests: 6})) == 25
        assert await store.counters(DIGITS) == {requests: 10, errors: 1}
        assert await store.position("edge-0") == 25

    async def test_a_batch_counts_once_however_often_it_comes(self, store: Store) -> None:
        batch = Batch("edge-0", 0, 10, {cell("requests"): 4}, {cell(): frozenset({1, 2})})
        assert [await store.apply(batch) for _ in range(3)] == [10, 10, 10]
        assert await store.counters(DIGITS) == {cell("requests"): 4, cell(): 2}

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 10), (5, 10), (0, 15), (5, 15), (11, 20), (20, 30)]
    )
    async def test_a_batch_that_does_not_start_where_the_last_ended_is_ignored(
        self, store: Store, start: int, end: int
    ) -> None:
        await store.apply(Batch("edge-0", 0, 10, {cell("requests"): 4}))
        late = Batch("edge-0", start, end, {cell("requests"): 1}, {cell(): frozenset({1})})
        assert await store.apply(late) == 10
        assert await store.counters(DIGITS) == {cell("requests"): 4}
        assert await store.position("edge-0") == 10

    async def test_a_new_source_starts_wherever_its_batch_starts(self, store: Store) -> None:
        far = 2**45
        assert await store.apply(Batch("edge-0", far, far + 1, {cell(): 1})) == far + 1
        assert await store.apply(Batch("edge-0", far + 1, far + 2, {cell(): 1})) == far + 2
        assert await store.counters(DIGITS) == {cell(): 2}

    async def test_sources_do_not_disturb_each_other(self, store: Store) -> None:
        for source in ("edge-0", "edge-1"):
            await store.apply(Batch(source, 0, 10, {cell("requests"): 1}))
        assert await store.counters(DIGITS) == {cell("requests"): 2}

    async def test_a_batch_without_events_moves_the_position(self, store: Store) -> None:
        assert await store.apply(Batch("edge-0", 0, 10)) == 10
        assert await store.apply(Batch("edge-0", 10, 10)) == 10
        assert await store.apply(Batch("edge-0", 10, 12, {cell(): 0}, {cell(): frozenset()})) == 12
        assert await store.counters(DIGITS) == {}

    async def test_a_unit_counts_once_in_each_stage_from_whichever_source(
        self, store: Store
    ) -> None:
        first, later = cell(stage=0), cell(stage=1)
        await store.apply(Batch("edge-0", 0, 1, slots={first: frozenset({1, 2, 3})}))
        await store.apply(Batch("edge-0", 1, 2, slots={later: frozenset({2, 3, 4})}))
        await store.apply(Batch("edge-1", 0, 1, slots={first: frozenset({3, 4, 5})}))
        await store.apply(Batch("edge-1", 1, 2, slots={later: frozenset({4, 5})}))
        assert await store.counters(DIGITS) == {first: 5, later: 4}

    async def test_in_one_batch_a_unit_counts_in_each_stage_it_was_met_in(
        self, store: Store
    ) -> None:
        met = frozenset({1, 2})
        stages = {cell(stage=2): met, cell(stage=0): met, cell(stage=10): met}
        await store.apply(Batch("edge-0", 0, 1, slots=stages))
        assert await store.counters(DIGITS) == dict.fromkeys(stages, 2)

    async def test_within_a_stage_a_unit_counts_in_the_variant_it_was_met_in_first(
        self, store: Store
    ) -> None:
        seen = frozenset({1, 2})
        champion, veteran = cell(variant=Variant.CHAMPION), cell(variant=Variant.VETERAN)
        await store.apply(Batch("edge-0", 0, 1, slots={champion: seen}))
        await store.apply(Batch("edge-0", 1, 2, slots={cell(): seen, veteran: frozenset({2, 3})}))
        assert await store.counters(DIGITS) == {champion: 2, veteran: 1}

    async def test_veterans_are_counted_in_cells_of_their_own(self, store: Store) -> None:
        arms = {
            cell(stage=1, variant=variant): frozenset({number})
            for number, variant in enumerate(Variant)
        }
        requests = {cell("requests", stage=1, variant=variant): 3 for variant in Variant}
        await store.apply(Batch("edge-0", 0, 1, requests, arms))
        assert await store.counters(DIGITS) == requests | dict.fromkeys(arms, 1)

    async def test_each_counter_and_each_experiment_counts_the_unit(self, store: Store) -> None:
        seen = frozenset({7})
        cells = [cell("units"), cell("latency_ms>250"), cell(experiment="other")]
        await store.apply(Batch("edge-0", 0, 1, slots=dict.fromkeys(cells, seen)))
        assert await store.counters(DIGITS) == {cells[0]: 1, cells[1]: 1}
        assert await store.counters(ExperimentName("other")) == {cells[2]: 1}

    async def test_slots_at_the_edges_of_bytes_and_of_the_range_are_told_apart(
        self, store: Store
    ) -> None:
        edges = [0, 1, 7, 8, 15, 16, SLOTS - 9, SLOTS - 8, SLOTS - 1]
        for n, slot in enumerate(edges):
            await store.apply(Batch("edge-0", n, n + 1, slots={cell(): frozenset({slot})}))
            assert await store.counters(DIGITS) == {cell(): n + 1}
        await store.apply(Batch("edge-1", 0, 1, slots={cell(): frozenset(edges)}))
        assert await store.counters(DIGITS) == {cell(): len(edges)}

    @pytest.mark.parametrize("slot", [-1, SLOTS, 2**40])
    async def test_a_slot_that_cannot_be_is_refused(self, store: Store, slot: int) -> None:
        with pytest.raises(ValueError, match="slots are numbers from 0"):
            await store.apply(Batch("edge-0", 0, 1, slots={cell(): frozenset({1, slot})}))
        with pytest.raises(ValueError, match="slots are numbers from 0"):
            await store.observe([outcome("a", slot=1), outcome("b", slot=slot)])
        assert await store.counters(DIGITS) == {}
        assert await store.position("edge-0") is None

    async def test_a_hundred_thousand_units_fit_in_one_batch(self, store: Store) -> None:
        half = frozenset(range(0, SLOTS, 84))
        whole = frozenset(range(0, SLOTS, 42))
        assert len(whole) > 99_000
        await store.apply(Batch("edge-0", 0, 1, slots={cell(): half}))
        await store.apply(Batch("edge-0", 1, 2, slots={cell(): whole, cell(stage=1): half}))
        assert await store.counters(DIGITS) == {cell(): len(whole), cell(stage=1): len(half)}


class TestOutcomes:
    async def test_no_outcomes_give_no_results(self, store: Store) -> None:
        assert await store.observe([]) == []

    async def test_an_outcome_counts_once(self, store: Store) -> None:
        assert await store.observe([outcome("a"), outcome("b", value=0), outcome("a")]) == [
            Applied.COUNTED,
            Applied.COUNTED,
            Applied.DUPLICATE,
        ]
        assert await store.observe([outcome("a", value=0)]) == [Applied.DUPLICATE]
        assert await store.counters(DIGITS) == {cell("correct:1"): 1, cell("correct:0"): 1}

    async def test_in_a_stage_a_unit_counts_once_per_metric_whatever_the_value(
        self, store: Store
    ) -> None:
        reported = [
            outcome("a", slot=5),
            outcome("b", slot=5, value=0),
            outcome("b", slot=5, value=0),
            outcome("c", slot=5, metric="clicked"),
            outcome("d", slot=6),
        ]
        assert await store.observe(reported) == [
            Applied.COUNTED,
            Applied.REPEATED_UNIT,
            Applied.DUPLICATE,
            Applied.COUNTED,
            Applied.COUNTED,
        ]
        assert await store.counters(DIGITS) == {cell("correct:1"): 2, cell("clicked:1"): 1}

    async def test_a_repeated_unit_has_used_its_prediction(self, store: Store) -> None:
        await store.observe([outcome("a", slot=5), outcome("b", slot=5)])
        assert await store.observe([outcome("b", slot=5)]) == [Applied.DUPLICATE]

    async def test_a_unit_counts_again_in_a_later_stage(self, store: Store) -> None:
        for stage in (0, 1, 9, 19):
            reported = [outcome(f"{stage}/{n}", slot=5, stage=stage) for n in "ab"]
            assert await store.observe(reported) == [Applied.COUNTED, Applied.REPEATED_UNIT]
        assert await store.counters(DIGITS) == {
            cell("correct:1", stage=stage): 1 for stage in (0, 1, 9, 19)
        }

    @pytest.mark.parametrize("in_one_call", [True, False])
    async def test_an_outcome_that_comes_after_one_of_a_later_stage_is_not_counted(
        self, store: Store, in_one_call: bool
    ) -> None:
        reported = [
            outcome("a", slot=5, stage=2, variant=Variant.VETERAN),
            outcome("b", slot=5, stage=0),
            outcome("c", slot=5, stage=1, variant=Variant.CHAMPION),
            outcome("d", slot=5, stage=3),
            outcome("b", slot=5, stage=0),
        ]
        if in_one_call:
            results = await store.observe(reported)
        else:
            results = [applied for each in reported for applied in await store.observe([each])]
        assert results == [
            Applied.COUNTED,
            Applied.REPEATED_UNIT,
            Applied.REPEATED_UNIT,
            Applied.COUNTED,
            Applied.DUPLICATE,
        ]
        assert await store.counters(DIGITS) == {
            cell("correct:1", stage=2, variant=Variant.VETERAN): 1,
            cell("correct:1", stage=3): 1,
        }

    async def test_the_order_of_stages_is_asked_of_each_unit_metric_and_experiment_by_itself(
        self, store: Store
    ) -> None:
        await store.observe([outcome("a", slot=5, stage=1)])
        others = [
            outcome("b", slot=6),
            outcome("c", slot=5, metric="clicked"),
            outcome("d", slot=5, experiment="other"),
            outcome("e"),
        ]
        assert await store.observe(others) == [Applied.COUNTED] * 4

    async def test_a_request_that_is_a_unit_of_its_own_counts_in_whichever_order(
        self, store: Store
    ) -> None:
        reported = [outcome(str(stage), stage=stage) for stage in (3, 0, 2)]
        assert await store.observe(reported) == [Applied.COUNTED] * 3

    async def test_of_concurrent_outcomes_of_one_unit_in_two_stages_the_later_always_counts(
        self, store: Store
    ) -> None:
        for slot in range(20):
            early, later = outcome(f"a{slot}", slot=slot), outcome(f"b{slot}", slot=slot, stage=1)
            await asyncio.gather(store.observe([early]), store.observe([later]))
        counters = await store.counters(DIGITS)
        assert counters[cell("correct:1", stage=1)] == 20
        assert counters.get(cell("correct:1"), 0) <= 20

    async def test_units_met_by_batches_may_still_have_outcomes(self, store: Store) -> None:
        await store.apply(Batch("edge-0", 0, 1, slots={cell("units"): frozenset({5})}))
        assert await store.observe([outcome("a", slot=5)]) == [Applied.COUNTED]

    async def test_a_thousand_outcomes_are_answered_one_by_one(self, store: Store) -> None:
        reported = [outcome(f"token-{i % 900}", slot=i % 700) for i in range(1000)]
        expected = [
            Applied.COUNTED if i < 700 else Applied.REPEATED_UNIT if i < 900 else Applied.DUPLICATE
            for i in range(1000)
        ]
        assert await store.observe(reported) == expected
        assert await store.counters(DIGITS) == {cell("correct:1"): 700}

    async def test_a_thousand_outcomes_of_many_stages_are_answered_one_by_one(
        self, store: Store
    ) -> None:
        grown = [outcome(f"t{i}", slot=i % 50, stage=i // 50) for i in range(1000)]
        assert await store.observe(grown) == [Applied.COUNTED] * 1000
        again = [outcome(f"u{i}", slot=i % 50, stage=i // 50) for i in range(1000)]
        assert await store.observe(again) == [Applied.REPEATED_UNIT] * 1000

    async def test_of_concurrent_reports_of_one_outcome_one_counts(self, store: Store) -> None:
        results = await asyncio.gather(*(store.observe([outcome("a")]) for _ in range(20)))
        assert sum(result == [Applied.COUNTED] for result in results) == 1
        assert await store.counters(DIGITS) == {cell("correct:1"): 1}
